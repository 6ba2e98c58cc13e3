"""What is wrong with a Redis for keeping calls in, as far as it tells: asked at start and by `aventa-bridge check`.

Changes nothing. Source: docs/redis.md, "What the server must be set to".
"""

import re
from dataclasses import dataclass
from typing import Any

from bridge.store.connection import Connection
from bridge.store.servers import Durability
from bridge.store.urls import Shape

VERSION_MIN = (6, 2)
WAITAOF_SINCE = (7, 2)
_MODES = {"standalone": "redis://", "sentinel": "redis+sentinel://", "cluster": "redis+cluster://"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an operator should know of.

    Attributes:
        server: its name.
        text: what is wrong, and how to mend it.
        fatal: whether events would be refused or could be lost while all servers run.
    """

    server: str
    text: str
    fatal: bool


async def inspect(connection: Connection) -> tuple[dict[str, str], list[Finding]]:
    """Every server's version by the server's name, and what is wrong.

    Raises:
        StoreUnavailable: a server does not answer.
    """
    versions, findings = {}, []
    for server, info in (await connection.info()).items():
        versions[server] = str(info.get("redis_version", "not told"))
        told = _findings(info, connection.address.shape, connection.durability) if info else [_UNTOLD]
        findings += [Finding(server, text, fatal) for text, fatal in told]
    return versions, findings


_UNTOLD = (
    "does not let the bridge ask INFO, so its settings are not known; docs/redis.md says what they must be",
    False,
)


def _findings(info: dict[str, Any], shape: Shape, durability: Durability) -> list[tuple[str, bool]]:
    told = re.match(r"(\d+)\.(\d+)", str(info.get("redis_version")))
    version = VERSION_MIN if told is None else (int(told[1]), int(told[2]))
    mode = info.get("redis_mode", "standalone")
    aof = info.get("aof_enabled")
    found = []
    if shape is not Shape.CLUSTER and mode != "standalone":
        found.append((f"is of a Redis {mode}; redis.url must start with {_MODES.get(mode, 'another form')}", True))
    if version < VERSION_MIN:
        found.append(("is older than 6.2, which the bridge needs", True))
    if info.get("role") == "slave":
        found.append(("is a replica, which takes no writes; redis.url must lead to the master", True))
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        found.append((f"would let go of calls when memory is full: set maxmemory-policy {policy} to noeviction", True))
    if durability.aof and version < WAITAOF_SINCE:
        found.append(("is older than 7.2, which redis.wait_aof needs: every event would be refused", True))
    elif durability.aof and aof == 0:
        found.append(("keeps no append-only file, which redis.wait_aof needs: set appendonly to yes", True))
    elif aof == 0:
        found.append(("keeps no append-only file: if it ends, calls since its last snapshot are lost", False))
    replicas = int(info.get("connected_slaves", 0))
    if replicas < durability.replicas:
        text = f"has {replicas} of the {durability.replicas} replicas of redis.wait_replicas: every event is refused"
        found.append((text, True))
    return found

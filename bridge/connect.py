"""From the settings of `[redis]` to a connection, and what the log says of the Redis it leads to."""

import asyncio

from bridge.runtime.logs import get_logger
from bridge.settings_sections import RedisSettings
from bridge.store.connection import Connection, Durability, Login, Tls
from bridge.store.errors import StoreUnavailable
from bridge.store.inspection import inspect

log = get_logger(__name__)

_AGAIN_S = 1.0


def connect(redis: RedisSettings, *, url: str | None = None, timeout_s: float | None = None) -> Connection:
    """A connection as the settings say; it connects when it is first used.

    Args:
        url: instead of `redis.url`, where that is "embedded".
        timeout_s: instead of `redis.timeout_s`.
    """

    def path(file: object) -> str | None:
        return None if file is None else str(file)

    password = redis.sentinel_password
    return Connection(
        url or redis.url.get_secret_value(),
        timeout_s=timeout_s or redis.timeout_s,
        tls=Tls(path(redis.ca_file), path(redis.cert_file), path(redis.key_file)),
        sentinel=Login(redis.sentinel_user, None if password is None else password.get_secret_value()),
        durability=Durability(redis.wait_replicas, redis.wait_timeout_ms, redis.wait_aof),
        key_prefix=redis.key_prefix,
    )


async def tell_of(connection: Connection) -> None:
    """Says in the log what is wrong with the Redis, once it answers."""
    while True:
        try:
            _, findings = await inspect(connection)
            break
        except StoreUnavailable:
            await asyncio.sleep(_AGAIN_S)
        except Exception:
            log.exception("redis cannot be inspected")  # such as one behind a proxy; that must not end the service
            return
    for finding in findings:
        (log.error if finding.fatal else log.warning)("redis " + finding.text, server=finding.server)

"""What is measured: the bridge as people run it, and the bare relay, each with a redis-server of its own.

Both get the redis-server that comes with the bridge, with the settings of `redis.url = "embedded"` (append-only file,
flushed before each answer), empty, on a unix socket.
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.processes import Fleet, free_port
from benchmarks.speed.programs import Program
from bridge.store.embedded import EmbeddedRedis

TOKEN = "benchmark"


@dataclass
class Subject:
    """Something that takes events at `ports` and posts to the sink.

    Attributes:
        pids: by role, for the CPU time.
        redis_url: its Redis, where it has one.
        kill: kills its process with SIGKILL and starts another one at the same port.
    """

    name: str
    ports: Sequence[int]
    pids: Mapping[str, Sequence[int]]
    redis_url: str = ""
    log: Callable[[], Sequence[str]] = field(default=list)
    kill: Callable[[], Awaitable[None]] | None = None


Starter = Callable[[Path, int], AbstractAsyncContextManager[Subject]]
"""Starts a subject in an empty directory, with the sink at a port."""


def bridge_settings(directory: Path, slot: int, redis_url: str, sink_port: int) -> dict[str, object]:
    """What a bridge here is told: addresses, directories and a token. All else is at its default."""
    return {
        "redis__url": redis_url,
        "spool__dir": str(directory / f"spool-{slot}"),
        "intake__port": 0,
        "admin__port": 0,
        "intake__tokens": [TOKEN],
        "cention__base_url": f"http://127.0.0.1:{sink_port}/s/speed",
        "cention__token": TOKEN,
    }


def bridge(replicas: int = 1, *, strangers: bool = False, **settings: Any) -> Starter:
    """`python -m bridge run`, with all settings at their defaults but those of `bridge_settings`, and `settings`.

    Args:
        replicas: how many, on one redis-server.
        strangers: each has a database of its own there, and so nothing to do with the others.
        settings: as `section__key`.
    """

    @asynccontextmanager
    async def start(directory: Path, sink_port: int) -> AsyncIterator[Subject]:
        async with EmbeddedRedis(directory / "redis") as server:
            ports = [free_port() for _ in range(replicas)]
            fleet = Fleet(
                directory,
                lambda slot: {
                    **bridge_settings(
                        directory, slot, f"{server.url}?db={slot}" if strangers else server.url, sink_port
                    ),
                    "intake__port": ports[slot],
                    **settings,
                },
            )

            async def replace() -> None:
                await fleet.kill(0)
                await fleet.start(0)

            try:
                running = [await fleet.start(slot) for slot in range(replicas)]
                assert server.pid is not None
                yield Subject(
                    "bridge",
                    ports,
                    {"subject": [one.pid for one in running], "redis": [server.pid]},
                    server.url,
                    lambda: [line for one in running for line in one.log[-5:]],
                    replace,
                )
            finally:
                await fleet.stop()

    return start


def relay(*, uvloop: bool = False) -> Starter:
    """The floor: see `relay`.

    Args:
        uvloop: run it on uvloop, which the bare relay is not.
    """

    @asynccontextmanager
    async def start(directory: Path, sink_port: int) -> AsyncIterator[Subject]:
        async with EmbeddedRedis(directory / "redis") as server:
            command = [sys.executable, "-m", "benchmarks.speed.relay", "--port", str(port := free_port())]
            command += ["--redis", server.url, "--sink", f"http://127.0.0.1:{sink_port}/"]
            async with Program(*command, *(["--uvloop"] if uvloop else []), ready='"port"') as program:
                assert server.pid is not None
                pids = {"subject": [program.pid], "redis": [server.pid]}
                yield Subject("relay", [port], pids, server.url, program.log, program.replace)

    return start

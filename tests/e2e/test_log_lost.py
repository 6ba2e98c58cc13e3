"""A bridge whose log goes to nobody: what read it has ended, or stands still. It goes on, and ends as it should."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BufferedReader
from pathlib import Path

import aiohttp
import orjson
import pytest

from bridge.cention.sandbox import Sandbox
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import CENTION_TOKEN, environment, eventually, inbound, post, told

PIPE_BYTES = 65_536


@asynccontextmanager
async def logging_bridge(
    sandbox: Sandbox, redis_url: str, tmp_path: Path, unbuffered: str
) -> AsyncIterator[tuple[str, asyncio.subprocess.Process, BufferedReader]]:
    """A bridge that is ready: its intake, its process, and its log, of which no more is read. SIGTERM ends it."""
    env = environment(
        redis_url,
        cention__base_url=await sandbox.start(),
        cention__token=CENTION_TOKEN,
        delivery__schedule_s=[0.1],
        spool__dir=str(tmp_path / "spool"),
        log__level="debug",
    )
    (empty := tmp_path / "empty.toml").touch()
    reads, writes = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "run", "--config", str(empty),
        env={**os.environ, **env, "PYTHONUNBUFFERED": unbuffered}, stderr=writes,
    )  # fmt: skip
    os.close(writes)
    with os.fdopen(reads, "rb") as log:
        line = await asyncio.to_thread(log.readline)
        while b'"ready"' not in line:
            assert line, "it ended before it was ready"
            line = await asyncio.to_thread(log.readline)
        try:
            yield orjson.loads(line)["intake"], process, log
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()
            await sandbox.stop()


async def works(sandbox: Sandbox, url: str, http: aiohttp.ClientSession) -> None:
    sandbox.set_faults([{"endpoint": "*", "status": 503, "times": 1}])
    assert await post(http, url, {}) == 422
    assert await post(http, url, inbound("c-1", (1, 1))) == 202
    await eventually(lambda: told(sandbox) == ["1/1 open c-1"], "the errand, at the second attempt")


@pytest.mark.parametrize("unbuffered", ["", "1"])
async def test_the_end_of_who_reads_the_log_ends_nothing_else(
    unbuffered: str, redis: EmbeddedRedis, tmp_path: Path
) -> None:
    sandbox = Sandbox(tokens=frozenset([CENTION_TOKEN]))
    async with (
        logging_bridge(sandbox, redis.url, tmp_path, unbuffered) as (url, process, log),
        aiohttp.ClientSession() as http,
    ):
        log.close()
        await works(sandbox, url, http)
    assert process.returncode == 0


@pytest.mark.parametrize("read_again", [False, True])
@pytest.mark.parametrize("unbuffered", ["", "1"])
async def test_a_reader_of_the_log_that_stands_still_holds_up_nothing(
    unbuffered: str, read_again: bool, redis: EmbeddedRedis, tmp_path: Path
) -> None:
    sandbox = Sandbox(tokens=frozenset([CENTION_TOKEN]))
    lines: list[bytes] = []
    async with (
        logging_bridge(sandbox, redis.url, tmp_path, unbuffered) as (url, process, log),
        aiohttp.ClientSession() as http,
    ):

        async def losses_are_told() -> bool:
            assert await post(http, url, {}) == 422
            return any(b"log lines are lost" in line for line in lines)

        for _ in range(PIPE_BYTES // 100):  # each is at least one line of so many bytes
            assert not await losses_are_told()
        await works(sandbox, url, http)
        if read_again:
            reading = asyncio.create_task(asyncio.to_thread(lines.extend, log))
            await eventually(losses_are_told, "how many lines were lost")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        if read_again:
            await reading
    told_of = [orjson.loads(line) for line in lines]
    assert [line["lines"] > 0 for line in told_of if "lines" in line] == [True] * read_again
    assert [line["event"] for line in told_of[-1:]] == ["ended"] * read_again

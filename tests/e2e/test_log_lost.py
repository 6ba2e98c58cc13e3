"""A bridge whose log goes to nobody any more: what read it has ended. It goes on, and ends as it should."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp
import orjson
import pytest

from bridge.cention.sandbox import Sandbox
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import CENTION_TOKEN, environment, eventually, inbound, post, told


@pytest.mark.parametrize("unbuffered", ["", "1"])
async def test_the_end_of_who_reads_the_log_ends_nothing_else(
    unbuffered: str, redis: EmbeddedRedis, tmp_path: Path
) -> None:
    sandbox = Sandbox(tokens=frozenset([CENTION_TOKEN]))
    env = environment(
        redis.url,
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
    url = orjson.loads(line)["intake"]
    try:
        async with aiohttp.ClientSession() as http:
            sandbox.set_faults([{"endpoint": "*", "status": 503, "times": 1}])
            assert await post(http, url, {}) == 422
            assert await post(http, url, inbound("c-1", (1, 1))) == 202
            await eventually(lambda: told(sandbox) == ["1/1 open c-1"], "the errand, at the second attempt")
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        code = await process.wait()
        await sandbox.stop()
    assert code == 0

"""Signals that end a bridge: at any moment of its start, and by a terminal that closes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from bridge.store.embedded import EmbeddedRedis, find_server
from tests.e2e.support import environment, eventually, inbound, start_bridge
from tests.integration.embedded_support import alive, put_on_path

ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@asynccontextmanager
async def starting(tmp_path: Path, redis_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A bridge that starts: nobody waits until it is ready. Its log is its standard error."""
    (empty := tmp_path / "empty.toml").touch()
    env = environment(redis_url, redis__data_dir=str(tmp_path / "data"), spool__dir=str(tmp_path / "spool"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "run", "--sandbox", "--sandbox-port", "0", "--config", str(empty),
        env={**os.environ, **env}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def catches(process: asyncio.subprocess.Process, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal.

    Source: proc_pid_status(5).
    """
    status = Path(f"/proc/{process.pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_bridge_whose_start_has_just_begun_is_ended_in_good_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with starting(tmp_path, "embedded") as process:
        await eventually(lambda: catches(process, number), "it knows the signal")
        process.send_signal(number)
        _, log = await process.communicate()
    assert (process.returncode, log.decode().strip()) == (0, "ended while starting")
    assert not (tmp_path / "data").exists(), "nothing was begun"


@pytest.mark.parametrize("number", ENDING)
async def test_a_start_that_takes_its_time_is_ended_and_leaves_no_server(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (server := find_server()) is None:
        pytest.skip("no redis-server")
    pid_file = tmp_path / "pid"
    put_on_path(
        tmp_path, server, monkeypatch, f'echo $$ >"{pid_file}.new"; mv "{pid_file}.new" "{pid_file}"; exec sleep 600'
    )
    async with starting(tmp_path, "embedded") as process:
        await eventually(pid_file.exists, "its server starts")
        process.send_signal(number)
        _, log = await process.communicate()
    assert process.returncode == 0
    assert log.count(b'"ended while starting"') == 1
    assert b'"error"' not in log
    assert not alive(int(pid_file.read_text()))


@pytest.mark.parametrize("number", ENDING)
async def test_each_of_them_drains(redis: EmbeddedRedis, tmp_path: Path, number: signal.Signals) -> None:
    bridge = await start_bridge(tmp_path, environment(redis.url), ["--sandbox", "--sandbox-port", "0"])
    assert await bridge.end(number) == 0
    events = [line for line in bridge.log if '"draining"' in line or '"ended"' in line]
    assert len(events) == 2


async def test_nohup_keeps_a_bridge_from_its_terminals_end(redis: EmbeddedRedis, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        bridge = await start_bridge(tmp_path, environment(redis.url), ["--sandbox", "--sandbox-port", "0"])
    finally:
        signal.signal(signal.SIGHUP, before)
    async with aiohttp.ClientSession() as http:
        bridge.send_signal(signal.SIGHUP)
        assert await bridge.post(http, inbound("c-1", (1, 1))) == 202
    assert await bridge.end() == 0
    assert "\n".join(bridge.log).count('"draining"') == 1

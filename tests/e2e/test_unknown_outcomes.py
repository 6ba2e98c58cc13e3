"""A bridge killed while Cention works: what its successor does about the errand that may exist."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.cention.sandbox import Sandbox
from tests.e2e.support import CENTION_TOKEN, bridges, ended, eventually, inbound, told

PAIR = (1000, 1001)


@pytest.fixture
async def cention() -> AsyncIterator[tuple[Sandbox, str]]:
    """A Cention sandbox that outlives the bridges, and its base URL."""
    sandbox = Sandbox(tokens=frozenset([CENTION_TOKEN]))
    url = await sandbox.start()
    yield sandbox, url
    await sandbox.stop()


@pytest.mark.parametrize(("policy", "errands"), [("lookup", 1), ("park", 1), ("retry", 2)])
async def test_a_bridge_killed_between_centions_work_and_its_answer(
    policy: str, errands: int, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    more: dict[str, Any] = {"redis__data_dir": str(tmp_path / "data"), "delivery__unknown_outcome": policy}
    async with aiohttp.ClientSession() as http:
        async with bridges(tmp_path, "embedded", url, **more) as (first,):
            sandbox.set_faults([{"endpoint": "c3_new_errands", "answer_delay_s": 3600, "times": 1}])
            assert await first.post(http, inbound("in-1", PAIR)) == 202
            assert await first.post(http, ended("in-1", PAIR)) == 202
            await eventually(lambda: len(sandbox.errands) == 1, "the errand, whose answer is on its way")
            await first.end(signal.SIGKILL)
        async with bridges(tmp_path, "embedded", url, **more) as (second,):
            await eventually(lambda: told(sandbox)[-1] == "1000/1001 end-session in-1", "the end")
            assert len(sandbox.errands) == errands
            assert told(sandbox) == ["1000/1001 open in-1"] * errands + ["1000/1001 end-session in-1"]
            assert len({arrival.message_id for arrival in sandbox.arrivals}) == 2, "one id for each message"
            async with http.get(f"{second.admin_url}/v1/calls/in-1") as response:
                call: Any = await response.json()
        assert [entry["then"] for entry in call["timeline"] if "outcome" in entry] == [
            "parked" if policy == "park" else "delivered",
            "delivered",
        ]
        if policy == "lookup":
            assert call["errandId"] == str(sandbox.errands[0].errand_id)

"""The traces through a running service: HTTP in, a real Redis, HTTP out to the sandbox."""

from functools import partial
from pathlib import Path

import aiohttp
import pytest

from bridge import app
from bridge.runtime.clock import now
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import eventually, post, settings, told
from tests.story import TRACES, read


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
async def test_a_trace_tells_cention_what_it_says(path: Path, redis: EmbeddedRedis, tmp_path: Path) -> None:
    trace = read(path, start=now())
    # A timer that is to run out does so soon, and no other: the grace of a call without a start, else the age.
    first_step = {step.event["callId"]: step.event["type"] for step in reversed(trace.steps) if step.event}
    timers = {
        "calls__age_s_max" if first_step[step.expire[1]] == "call.started" else "calls__orphan_grace_s"
        for step in trace.steps
        if step.expire
    }
    policy = {f"calls__{key}": value for key, value in trace.policy.items()}
    async with (
        app.running(settings(tmp_path, redis.url, **dict.fromkeys(timers, 1), **policy), sandbox_port=0) as service,
        aiohttp.ClientSession() as http,
    ):
        sandbox = service.sandbox
        assert sandbox is not None
        expected: list[str] = []
        for step in trace.steps:
            expected += _as_recorded(step.tells)
            if step.expire is not None:
                expired = partial(_expired, http, service.admin_url, step.expire[1])
                await eventually(expired, f"expiry of {step.expire}")
            else:
                assert step.event is not None
                assert await post(http, service.intake_url, step.event) in (200, 202)
        await eventually(lambda: len(told(sandbox)) >= len(expected), f"{expected}, got {told(sandbox)}")
        # Of one pair in order; pairs among each other only where a call is handed over, which the traces end with.
        assert _by_pair(told(sandbox)) == _by_pair(expected)
        assert await _active(http, service.admin_url) == trace.active


def _as_recorded(tells: tuple[str, ...]) -> list[str]:
    """`c3_end_obcall` names no call, so the sandbox's record of it cannot."""
    return [told.rpartition(" ")[0] if "end-obcall" in told else told for told in tells]


def _by_pair(words: list[str]) -> dict[str, list[str]]:
    pairs: dict[str, list[str]] = {}
    for line in words:
        pair, _, what = line.partition(" ")
        pairs.setdefault(pair, []).append("end-obcall" if what.startswith("end-obcall") else what)
    return pairs


async def _expired(http: aiohttp.ClientSession, url: str, call_id: str) -> bool:
    """Whether the timer of the call has run out."""
    async with http.get(f"{url}/v1/calls/{call_id}") as response:
        if response.status != 200:
            return False
        call = await response.json()
        return any(step["kind"] == "event" and step["type"] == "bridge.expired" for step in call["timeline"])


async def _active(http: aiohttp.ClientSession, url: str) -> dict[str, list[str]]:
    async with http.get(f"{url}/v1/calls") as response:
        active: dict[str, list[str]] = {}
        for call in (await response.json())["calls"]:
            pair = f"{call['deviceId']}/{call['extensionId']}"
            active.setdefault(pair, []).append(f"{call['callId']} {call['state']}")
        return active

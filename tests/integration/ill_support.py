"""Shared by the tests of a service whose Cention is ill: the service, its calls, and what Cention was told of them.

Not a test itself.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge import app
from bridge.cention.sandbox import Sandbox
from bridge.runtime.clock import now
from bridge.settings import load
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import ended, environment, eventually, inbound, outbound, post, settings, told

FAST = {
    "delivery__schedule_s": [0.05, 0.1],
    "delivery__attempt_timeout_s": 1.0,
    "delivery__lease_s": 5.0,
    "delivery__breaker_failures": 10_000,  # no breaker, except where it is what is looked at
    "delivery__breaker_open_s": 0.2,
}
PAIRS = [(1000, number) for number in range(6)]
Service = app.Service


@asynccontextmanager
async def ill(
    tmp_path: Path, redis: EmbeddedRedis, *rules: dict[str, Any], **more: object
) -> AsyncIterator[tuple[Service, Sandbox]]:
    """A service whose sandbox goes wrong by `rules`."""
    async with app.running(settings(tmp_path, redis.url, **{**FAST, **more}), sandbox_port=0) as service:
        assert service.sandbox is not None
        service.sandbox.set_faults(rules)
        yield service, service.sandbox


async def calls(service: Service) -> dict[str, list[str]]:
    """Posts a whole call at every pair, inbound and outbound in turn, and returns what Cention must be told of each."""
    async with aiohttp.ClientSession() as http:
        for pair in PAIRS:
            opens = inbound if pair[1] % 2 else outbound
            assert await post(http, service.intake_url, opens(f"c-{pair[1]}", pair)) == 202
            assert await post(http, service.intake_url, ended(f"c-{pair[1]}", pair)) == 202
    return {
        f"{pair[0]}/{pair[1]}": [f"open c-{pair[1]}", f"end-session c-{pair[1]}" if pair[1] % 2 else "end-obcall"]
        for pair in PAIRS
    }


def by_pair(sandbox: Sandbox) -> dict[str, list[str]]:
    """What each pair's lane told Cention, in its order; an outbound end names no call."""
    pairs: dict[str, list[str]] = {}
    for word in told(sandbox):
        pair, _, what = word.partition(" ")
        pairs.setdefault(pair, []).append("end-obcall" if what.startswith("end-obcall") else what)
    return pairs


def once(words: dict[str, list[str]]) -> dict[str, list[str]]:
    """Without what was told again."""
    return {pair: list(dict.fromkeys(told)) for pair, told in words.items()}


async def all_told(sandbox: Sandbox, expected: dict[str, list[str]]) -> None:
    await eventually(lambda: once(by_pair(sandbox)) == expected, f"{expected}; it was {by_pair(sandbox)}")


async def metric(service: Service, name: str) -> float:
    text = service.metrics.render().decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)


async def at_rest(service: Service) -> None:
    """Waits until nothing waits any more, and asserts that nothing was parked."""

    async def rest() -> bool:
        async with aiohttp.ClientSession() as http, http.get(f"{service.admin_url}/metrics") as response:
            lines = dict(line.rpartition(" ")[::2] for line in (await response.text()).splitlines() if line[0] != "#")
        return float(lines["bridge_deliveries_waiting"]) == 0

    await eventually(rest, "nothing waits")
    assert await metric(service, "bridge_deliveries_parked") == 0


def soon() -> str:
    return format_datetime(now() + timedelta(seconds=1.5), usegmt=True)


def ci(*values: Any) -> Any:
    """A case that CI alone runs: it differs little from one that always runs."""
    return pytest.param(*values, marks=pytest.mark.ci)


@asynccontextmanager
async def at(tmp_path: Path, redis: EmbeddedRedis, url: str, **more: object) -> AsyncIterator[Service]:
    """A service whose Cention is at `url`."""
    env = environment(redis.url, **{**FAST, "cention__base_url": url, "cention__token": "a-token", **more})
    (tmp_path / "empty.toml").touch()
    async with app.running(load(tmp_path / "empty.toml", environ=env)) as service:
        yield service

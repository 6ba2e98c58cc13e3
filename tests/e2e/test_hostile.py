"""Strangers and broken senders against a running bridge: no 5xx, no unhandled fault, no growth, and it goes on."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from yarl import URL

from bridge.app import running
from bridge.cention.sandbox import Sandbox
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.hostile import Attack, drawn, send
from tests.e2e.support import CENTION_TOKEN, BridgeProcess, bridges, eventually, inbound, post, settings
from tests.fakes.logs import captured

UNFORESEEN = ("unhandled error", "task failed", "Unhandled exception", "Traceback", "never retrieved")


async def attack(ports: dict[str, int], attacks: list[Attack]) -> Counter[int]:
    """Makes the attacks, a few at a time; how often each status was answered (0: no answer)."""
    seen: Counter[int] = Counter()

    async def make(some: list[Attack]) -> None:
        for one in some:
            statuses = await send(ports[one.listener], one.data)
            seen.update(statuses or [0])
            assert all(status < 500 for status in statuses), one
            assert statuses or not one.http, one

    async with asyncio.TaskGroup() as group:
        for first in range(8):
            group.create_task(make(attacks[first::8]))
    return seen


def ports(intake_url: str, admin_url: str) -> dict[str, int]:
    return {name: int(URL(url).port or 0) for name, url in (("intake", intake_url), ("admin", admin_url))}


def unforeseen(lines: list[str]) -> list[str]:
    return [line for line in lines if any(word in line for word in UNFORESEEN) or '"level":"error"' in line]


async def test_whatever_comes_is_answered_and_leaves_nothing_behind(redis: EmbeddedRedis, tmp_path: Path) -> None:
    attacks = drawn(1000, derandomize=True)
    with captured("info") as lines:
        async with (
            running(settings(tmp_path, redis.url), sandbox_port=0) as service,
            aiohttp.ClientSession() as http,
        ):
            assert await post(http, service.intake_url, inbound("before", (1, 1))) == 202
            tasks = len(asyncio.all_tasks())
            seen = await attack(ports(service.intake_url, service.admin_url), attacks)
            await eventually(lambda: len(asyncio.all_tasks()) <= tasks + 2, "no task is left over")
            assert await post(http, service.intake_url, inbound("after", (1, 1))) == 202
            async with http.get(f"{service.admin_url}/readyz") as response:
                assert response.status == 200
    assert {200, 400, 404, 405} <= set(seen), "the attacks reach what they are meant for"
    assert unforeseen(list(lines)) == []


@pytest.fixture
async def bridge(redis: EmbeddedRedis, tmp_path: Path) -> AsyncIterator[BridgeProcess]:
    sandbox = Sandbox(tokens=frozenset([CENTION_TOKEN]))
    url = await sandbox.start()
    async with bridges(tmp_path, redis.url, url) as (process,):
        yield process
    await sandbox.stop()


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.ci
async def test_a_bridge_does_not_grow_under_attack(bridge: BridgeProcess) -> None:
    """The first round warms caches up: numbers, compiled patterns, allocator. Memory is compared after it."""
    pid, at = bridge.process.pid, ports(bridge.intake_url, bridge.admin_url)
    await attack(at, drawn(4000, derandomize=False))
    memory, files = resident_bytes(pid), descriptors(pid)
    seen = await attack(at, drawn(12_000, derandomize=False))
    await eventually(lambda: descriptors(pid) <= files + 8, "no socket is left over")
    assert resident_bytes(pid) <= 1.25 * memory
    assert seen[202] > 0
    assert unforeseen(bridge.log) == []
    async with aiohttp.ClientSession() as http:
        assert await bridge.post(http, inbound("after", (1, 1))) == 202
    assert await bridge.end() == 0
    assert orjson.loads(bridge.log[-1])["event"] == "ended"

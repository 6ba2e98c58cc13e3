"""Bridges as processes that die, or are told to end, while events are in their spool."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.cention.sandbox import Sandbox
from tests.e2e.support import (
    CENTION_TOKEN,
    BridgeProcess,
    bridges,
    ended,
    environment,
    event,
    eventually,
    inbound,
    outbound,
    start_bridge,
    told,
)
from tests.fakes.redis_servers import RedisServer, server

KEPT = {"appendonly": "yes", "appendfsync": "no"}
SHORT = {"delivery__attempt_timeout_s": 1, "delivery__lease_s": 2, "redis__timeout_s": 1}


@pytest.fixture
async def cention() -> AsyncIterator[tuple[Sandbox, str]]:
    """A Cention sandbox that outlives the bridges, and its base URL."""
    sandbox = Sandbox(tokens=frozenset([CENTION_TOKEN]))
    url = await sandbox.start()
    yield sandbox, url
    await sandbox.stop()


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with server(tmp_path / "redis", KEPT) as it:
        yield it


async def start(tmp_path: Path, redis: RedisServer, cention_url: str, **more: object) -> BridgeProcess:
    return await start_bridge(
        tmp_path,
        environment(redis.url, cention__base_url=cention_url, cention__token=CENTION_TOKEN, **{**SHORT, **more}),
    )


async def post(http: aiohttp.ClientSession, bridge: BridgeProcess, sent: Any) -> tuple[int, bool]:
    """The status, and whether it said spooled."""
    async with http.post(f"{bridge.intake_url}/v1/events", json=sent) as response:
        return response.status, response.headers.get("Bridge-Spooled") == "true"


def of(sandbox: Sandbox, pair: tuple[int, int]) -> list[str]:
    """What Cention was told of one pair, in order."""
    return [word.partition(" ")[2] for word in told(sandbox) if word.startswith(f"{pair[0]}/{pair[1]} ")]


def spooled_files(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "spool").glob("*"))


async def active(http: aiohttp.ClientSession, bridge: BridgeProcess) -> dict[str, str]:
    async with http.get(f"{bridge.admin_url}/v1/calls?limit=1000") as response:
        return {call["callId"]: call["state"] for call in (await response.json())["calls"]}


async def test_what_a_killed_bridge_spooled_is_done_once_and_in_order_by_the_next(
    redis: RedisServer, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    pairs = [(1000, number) for number in range(50)]
    async with aiohttp.ClientSession() as http:
        first = await start(tmp_path, redis, url)
        for pair in pairs:
            assert await post(http, first, inbound(f"{pair[1]}-a", pair)) == (202, False)
        await eventually(lambda: len(sandbox.arrivals) == len(pairs), "the calls before the outage")
        await redis.kill()

        async def during(pair: tuple[int, int]) -> None:
            for each in (ended(f"{pair[1]}-a", pair), outbound(f"{pair[1]}-b", pair)):
                assert await post(http, first, each) == (202, True)

        await asyncio.gather(*map(during, pairs))
        assert await first.end(signal.SIGKILL) == -signal.SIGKILL
        assert len(sandbox.arrivals) == len(pairs)
        await redis.start()

        second = await start(tmp_path, redis, url)
        # Newer events, as soon as it takes any: they come after what waits.
        for pair in pairs:
            assert (await post(http, second, event("answered", f"{pair[1]}-b", pair, 2)))[0] == 202
        await eventually(lambda: len(sandbox.arrivals) >= 3 * len(pairs), "everything")
        for pair in pairs:
            assert of(sandbox, pair) == [f"open {pair[1]}-a", f"end-session {pair[1]}-a", f"open {pair[1]}-b"]
        await eventually(lambda: not spooled_files(tmp_path), "an empty spool")
        assert await active(http, second) == {f"{pair[1]}-b": "answered" for pair in pairs}
        assert "taking over what an ended process left" in "".join(second.log)
        assert await second.end() == 0


async def test_a_bridge_killed_again_and_again_while_it_drains_does_everything_once(
    redis: RedisServer, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    pairs = [(1000, number) for number in range(300)]
    async with aiohttp.ClientSession() as http:
        bridge = await start(tmp_path, redis, url)
        await redis.kill()
        batches: list[list[dict[str, Any]]] = [[], []]
        for pair in pairs:
            batches[0] += [inbound(f"{pair[1]}", pair), event("answered", f"{pair[1]}", pair, 2)]
            batches[1] += [ended(f"{pair[1]}", pair), outbound(f"{pair[1]}-b", pair)]
        for batch in batches:
            assert await post(http, bridge, batch) == (207, True)
        await bridge.end(signal.SIGKILL)
        await redis.start()
        for reached in (0, 1, 100, 400):  # the first two while it drains, the others while it delivers
            bridge = await start(tmp_path, redis, url)
            await eventually(lambda reached=reached: len(sandbox.arrivals) >= reached)
            await bridge.end(signal.SIGKILL)
        bridge = await start(tmp_path, redis, url)
        await eventually(lambda: not spooled_files(tmp_path), "an empty spool")

        def all_told() -> bool:
            return all(len(set(of(sandbox, pair))) == 3 for pair in pairs)

        await eventually(all_told, "everything is told")
        for pair in pairs:
            # A kill between Cention's answer and its settling repeats that one message, under the same id.
            once = list(dict.fromkeys(of(sandbox, pair)))
            assert once == [f"open {pair[1]}", f"end-session {pair[1]}", f"open {pair[1]}-b"]
        assert len({arrival.message_id for arrival in sandbox.arrivals}) == 3 * len(pairs)
        assert await active(http, bridge) == {f"{pair[1]}-b": "started" for pair in pairs}
        assert await bridge.end() == 0


async def test_sigterm_drains_the_spool_first_if_redis_is_there(
    redis: RedisServer, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    async with aiohttp.ClientSession() as http:
        bridge = await start(tmp_path, redis, url)
        await redis.kill()
        batch = [inbound(f"c-{number}", (1000, number)) for number in range(500)]
        assert await post(http, bridge, batch) == (207, True)
        assert await bridge.end() == 0, "with Redis away it ends in good order too"
        assert "events stay in the spool for the next process" in "".join(bridge.log)
        assert len(spooled_files(tmp_path)) == 1
        await redis.start()
        bridge = await start(tmp_path, redis, url)
        assert await bridge.end() == 0
        assert spooled_files(tmp_path) == []
        bridge = await start(tmp_path, redis, url)
        await eventually(lambda: len(sandbox.arrivals) == 500, "all errands")
        assert await bridge.end() == 0
        assert len(sandbox.arrivals) == 500


@pytest.mark.ci
async def test_bridges_that_share_a_directory_take_over_from_one_that_was_killed(
    redis: RedisServer, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    async with bridges(tmp_path, redis.url, url, number=3, **SHORT) as three, aiohttp.ClientSession() as http:
        await redis.kill()
        for number, bridge in enumerate(three):
            assert await post(http, bridge, inbound(f"c-{number}", (1000, number))) == (202, True)
        assert len(spooled_files(tmp_path)) == 3
        await three[0].end(signal.SIGKILL)
        await redis.start()
        await eventually(lambda: len(sandbox.arrivals) == 3, "the dead one's call too")
        assert sorted(told(sandbox)) == [f"1000/{number} open c-{number}" for number in range(3)]
        await eventually(lambda: not spooled_files(tmp_path))


async def test_a_bridge_starts_and_takes_events_while_redis_is_away(
    redis: RedisServer, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    await redis.kill()
    async with aiohttp.ClientSession() as http:
        bridge = await start(tmp_path, redis, url)
        assert await post(http, bridge, inbound("c-1", (1000, 1))) == (202, True)
        assert await post(http, bridge, ended("c-1", (1000, 1))) == (202, True)
        await redis.start()
        await eventually(lambda: len(sandbox.arrivals) == 2, "what waited")
        assert of(sandbox, (1000, 1)) == ["open c-1", "end-session c-1"]
        assert await bridge.end() == 0

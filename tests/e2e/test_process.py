"""Bridges as processes: killed between accept and delivery, ended by SIGTERM, two on one Redis."""

import asyncio
import random
import re
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from bridge.cention.sandbox import Sandbox
from bridge.store.embedded import EmbeddedRedis
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

PAIR = (1000, 1001)


@pytest.fixture
async def cention() -> AsyncIterator[tuple[Sandbox, str]]:
    """A Cention sandbox that outlives the bridges, and its base URL."""
    sandbox = Sandbox(tokens=frozenset([CENTION_TOKEN]))
    url = await sandbox.start()
    yield sandbox, url
    await sandbox.stop()


async def get(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(url) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_a_bridge_killed_between_accept_and_delivery_creates_the_errand_once(
    redis: EmbeddedRedis, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    sandbox.set_faults([{"endpoint": "*", "status": 503}])
    async with aiohttp.ClientSession() as http:
        fast: dict[str, Any] = {"delivery__schedule_s": [0.1], "delivery__attempt_timeout_s": 1, "delivery__lease_s": 2}
        async with bridges(tmp_path, redis.url, url, **fast) as (first,):
            assert await first.post(http, outbound("out-1", PAIR)) == 202
            assert await first.post(http, inbound("in-1", (1000, 1002))) == 202
            assert await first.end(signal.SIGKILL) == -signal.SIGKILL
        sandbox.set_faults([])
        assert told(sandbox) == [], "nothing was delivered before the kill"
        async with bridges(tmp_path, redis.url, url, **fast) as (second,):
            await eventually(lambda: len(told(sandbox)) == 2, "both errands")
            assert sorted(told(sandbox)) == ["1000/1001 open out-1", "1000/1002 open in-1"]
            (call,) = (await get(http, f"{second.admin_url}/v1/calls/1000/1001"))["calls"]
            assert (call["callId"], call["state"]) == ("out-1", "started")
            assert await second.post(http, outbound("out-1", PAIR)) == 200, "the sender's retry is a duplicate"
            assert await second.post(http, ended("out-1", PAIR)) == 202
            await eventually(lambda: len(told(sandbox)) == 3, "the end")
            assert told(sandbox)[2].startswith("1000/1001 end-obcall")


async def test_an_embedded_redis_and_its_bridge_killed_lose_nothing(
    cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    sandbox.set_faults([{"endpoint": "*", "status": 503}])
    more: dict[str, Any] = {"redis__data_dir": str(tmp_path / "data"), "delivery__schedule_s": [0.1]}
    async with aiohttp.ClientSession() as http:
        async with bridges(tmp_path, "embedded", url, **more) as (first,):
            for number in range(20):
                assert await first.post(http, inbound(f"in-{number}", (1000, number))) == 202
            await first.end(signal.SIGKILL)
        sandbox.set_faults([])
        async with bridges(tmp_path, "embedded", url, **more) as (second,):
            await eventually(lambda: len(told(sandbox)) >= 20, "all errands")
            assert sorted(told(sandbox)) == sorted(f"1000/{number} open in-{number}" for number in range(20))
            assert len((await get(http, f"{second.admin_url}/v1/calls"))["calls"]) == 20


async def test_sigterm_finishes_what_is_under_way_and_gives_the_rest_back(
    redis: EmbeddedRedis, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    sandbox.set_faults([{"endpoint": "c3_new_errands", "delay_s": 0.5, "times": 1}])
    async with aiohttp.ClientSession() as http:
        async with bridges(tmp_path, redis.url, url) as (first,):
            for number in range(3):
                assert await first.post(http, outbound(f"out-{number}", PAIR)) == 202
            assert await first.end() == 0
            # The delayed attempt was finished, not cut off; the lane's other deliveries were not begun.
            assert told(sandbox) == ["1000/1001 open out-0"]
            assert '"draining"' in "".join(first.log)
        async with bridges(tmp_path, redis.url, url) as _:
            # A lane that was given back is due at once, not when a lease ends.
            await eventually(lambda: len(told(sandbox)) == 3, "the rest")
        assert told(sandbox) == [f"1000/1001 open out-{number}" for number in range(3)]


async def test_two_bridges_keep_every_pair_in_order_and_double_nothing(
    redis: EmbeddedRedis, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    chance = random.Random(7)
    stories = {(2000, number): _story((2000, number), chance) for number in range(500)}
    async with bridges(tmp_path, redis.url, url, number=2) as both, aiohttp.ClientSession() as http:

        async def play(pair: tuple[int, int], events: list[dict[str, Any]]) -> None:
            # Alternately at both, each event sent when the one before it was accepted.
            for turn, sent in enumerate(events, pair[1]):
                assert await both[turn % 2].post(http, sent) == 202

        gate = asyncio.Semaphore(50)

        async def gated(pair: tuple[int, int], events: list[dict[str, Any]]) -> None:
            async with gate:
                await play(pair, events)

        await asyncio.gather(*(gated(pair, events) for pair, (events, _) in stories.items()))
        expected = sum(len(words) for _, words in stories.values())
        await eventually(lambda: len(sandbox.arrivals) >= expected, f"{expected} messages")
        for bridge in both:
            assert await bridge.end() == 0
    arrived = defaultdict(list)
    for word in told(sandbox):
        pair, _, what = word.partition(" ")
        arrived[pair].append(what)
    assert arrived == {f"{pair[0]}/{pair[1]}": words for pair, (_, words) in stories.items()}


def _story(pair: tuple[int, int], chance: random.Random) -> tuple[list[dict[str, Any]], list[str]]:
    """A pair's events, and what Cention must be told of it."""
    events, words = [], []
    for number in range(chance.randint(1, 3)):
        call_id = f"{pair[1]}-{number}"
        opens, end = chance.choice([(inbound, f"end-session {call_id}"), (outbound, f"end-obcall {call_id}")])
        events += [opens(call_id, pair), event("answered", call_id, pair, 2), ended(call_id, pair)]
        words += [f"open {call_id}", end]
    return events, words


async def test_two_bridges_on_one_port_share_its_connections(
    tmp_path: Path, redis: EmbeddedRedis, cention: tuple[Sandbox, str]
) -> None:
    calls, shared = 64, {"intake__reuse_port": True}
    async with (
        bridges(tmp_path, redis.url, cention[1], **shared) as (first,),
        bridges(tmp_path, redis.url, cention[1], intake__port=URL(first.intake_url).port, **shared) as (second,),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
    ):
        assert first.intake_url == second.intake_url
        posts = [first.post(http, inbound(f"c{number}", (number, number))) for number in range(calls)]
        assert await asyncio.gather(*posts) == [202] * calls
        taken = [await _accepted(http, bridge) for bridge in (first, second)]
    assert sum(taken) == calls
    assert 0 not in taken, "that one of them gets all of 64 connections has a chance of one in 2 to the 63rd"


async def test_a_bridge_that_drains_leaves_a_shared_port_to_the_others(
    tmp_path: Path, redis: EmbeddedRedis, cention: tuple[Sandbox, str]
) -> None:
    sandbox, url = cention
    sandbox.set_faults([{"endpoint": "c3_new_errands", "delay_s": 3600, "times": 1}])  # so that the drain lasts
    shared: dict[str, Any] = {"intake__reuse_port": True, "delivery__drain_s": 2}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
        bridges(tmp_path, redis.url, url, **shared) as (first,),
    ):
        assert await first.post(http, inbound("c-0", PAIR)) == 202
        await eventually(lambda: sandbox.faults[0]["hits"] == 1, "the attempt that lasts")
        async with bridges(tmp_path, redis.url, url, intake__port=URL(first.intake_url).port, **shared) as (second,):
            first.send_signal(signal.SIGTERM)
            await eventually(lambda: any('"draining"' in line for line in first.log), "the drain begins")
            posts = [second.post(http, inbound(f"c{number}", (number, number))) for number in range(1, 33)]
            assert await asyncio.gather(*posts) == [202] * 32
            assert await _accepted(http, second) == 32


async def _accepted(http: aiohttp.ClientSession, bridge: BridgeProcess) -> int:
    async with http.get(f"{bridge.admin_url}/metrics") as response:
        (found,) = re.findall(r'^bridge_events_total\{result="accepted"\} (\d+)', await response.text(), re.MULTILINE)
    return int(found)


async def test_a_port_that_is_taken_is_said_and_exits_with_1(tmp_path: Path, redis: EmbeddedRedis) -> None:
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        env = environment(redis.url, intake__port=port)
        with pytest.raises(AssertionError, match="cannot start"):
            await start_bridge(tmp_path, env, ["--sandbox", "--sandbox-port", "0"])

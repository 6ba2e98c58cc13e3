"""Failovers under load: what was accepted is in the mapping and at Cention afterwards, as far as the settings promise.

A sender repeats each event until it is accepted; the bridge has no spool, so that an acceptance is Redis's alone. What
docs/redis.md promises is asserted; what it does not promise is printed (`pytest --ci -s`).
"""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.crc import key_slot

from bridge.calls.state import CallState
from bridge.cention.sandbox import Sandbox
from bridge.store.connection import Connection
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import LANES, SHARDS, Keys
from bridge.store.outbox import Outbox
from bridge.store.reads import Reads
from tests.e2e.support import CENTION_TOKEN, BridgeProcess, bridges, ended, eventually, inbound, told
from tests.fakes.redis_servers import (
    RedisServer,
    cluster,
    cluster_url,
    move_slot,
    named_master,
    order_failover,
    replicated,
    sentinel_url,
    sentinels,
    until_settled,
)
from tests.integration.store_support import RETENTION

pytestmark = pytest.mark.ci

SENDERS = 16
PAUSE_S = 0.01
ENOUGH = 300
"""Calls accepted whole before the fault, and after it."""


@dataclass
class Load:
    """Senders, one pair each, whose calls start and end, each event repeated until it is accepted.

    Attributes:
        calls: those of which both events were accepted.
        repeated: how often an event was sent again.
    """

    bridge: BridgeProcess
    http: aiohttp.ClientSession
    calls: list[tuple[str, str]] = field(default_factory=list)
    repeated: int = 0
    stopping: bool = False

    async def send(self, sender: int) -> None:
        number, pair = 0, (1000 + sender, 7)
        while not self.stopping:
            number += 1
            call_id = f"c-{sender}-{number}"
            for event in (inbound(call_id, pair), ended(call_id, pair)):
                while (status := await self.bridge.post(self.http, event)) not in (200, 202):
                    assert status == 503
                    self.repeated += 1
                    await asyncio.sleep(PAUSE_S)
            self.calls.append((f"{pair[0]}/{pair[1]}", call_id))
            await asyncio.sleep(PAUSE_S)

    async def until_more(self) -> None:
        begun = len(self.calls)
        await eventually(lambda: len(self.calls) >= begun + ENOUGH, f"{ENOUGH} calls more are accepted")


@dataclass
class Result:
    """What became of the calls that were accepted whole.

    Attributes:
        forgotten: calls of which the bridge does not know that they ended.
        untold: messages that Cention never got.
        doubled: messages that it got again.
        inverted: calls whose end reached it before their first opening.
    """

    accepted: int
    repeated: int
    forgotten: int = 0
    untold: int = 0
    doubled: int = 0
    inverted: int = 0


async def measured(tmp_path: Path, name: str, url: str, fault: Callable[[], Awaitable[object]], **more: Any) -> Result:
    """Puts a bridge on `url` under load, does `fault` in the middle of it, and compares what was accepted and told."""
    sandbox = Sandbox(tokens=frozenset([CENTION_TOKEN]))
    base_url = await sandbox.start()
    quick: dict[str, Any] = {
        "spool__enabled": False,
        "redis__timeout_s": 2,
        "delivery__attempt_timeout_s": 1,
        "delivery__lease_s": 3,
        "delivery__schedule_s": [0.2],
        **more,
    }
    async with bridges(tmp_path, url, base_url, number=1, **quick) as (bridge,), aiohttp.ClientSession() as http:
        load = Load(bridge, http)
        async with asyncio.TaskGroup() as group:
            for sender in range(SENDERS):
                group.create_task(load.send(sender))
            await load.until_more()
            await fault()
            await load.until_more()
            load.stopping = True
        result = await _compared(load, url, sandbox)
    await sandbox.stop()
    print(f"\n{name}: {result}")
    return result


async def _compared(load: Load, url: str, sandbox: Sandbox) -> Result:
    connection, keys = Connection(url, timeout_s=2), Keys("aventa")
    outbox, reads = Outbox(connection, keys, RETENTION, lease_ms=1), Reads(connection, keys)

    async def drained() -> bool:
        try:
            return (await outbox.backlog()).waiting == 0
        except StoreUnavailable:
            return False

    await eventually(drained, "the backlog is worked off")
    arrived = told(sandbox)
    times, first = Counter(arrived), {word: place for place, word in reversed(list(enumerate(arrived)))}
    result = Result(len(load.calls), load.repeated, doubled=sum(number - 1 for number in times.values()))
    for pair, call_id in load.calls:
        history = await reads.history(call_id)
        result.forgotten += history is None or history.legs[0].call.state is not CallState.ENDED
        opening, end = (f"{pair} {what} {call_id}" for what in ("open", "end-session"))
        result.untold += (opening not in first) + (end not in first)
        result.inverted += opening in first and end in first and first[opening] > first[end]
    await connection.close()
    return result


async def until_replaced(watching: list[RedisServer], old: RedisServer) -> None:
    async def replaced() -> bool:
        return await named_master(watching) != old.port

    await eventually(replaced, "the sentinels name another master")


# Sentinel


async def kill(master: RedisServer, watching: list[RedisServer]) -> None:
    await master.kill()
    await until_replaced(watching, master)


async def pause(master: RedisServer, watching: list[RedisServer]) -> None:
    """As a machine that stands still, and goes on as if nothing had been."""
    master.send_signal(signal.SIGSTOP)
    await until_replaced(watching, master)
    master.send_signal(signal.SIGCONT)


async def order(master: RedisServer, watching: list[RedisServer]) -> None:
    """The old master takes events on until it is told."""
    await order_failover(watching[0])
    await until_replaced(watching, master)


@pytest.mark.parametrize(
    ("fault", "replicas", "waits", "nothing_lost"),
    [
        (kill, 2, 1, True),
        (pause, 2, 2, True),
        (order, 1, 1, True),
        (pause, 2, 1, False),  # the other replica confirms to the old master until it is told
        (kill, 2, 0, False),
        (order, 1, 0, False),
    ],
)
async def test_sentinel_failover(
    tmp_path: Path,
    fault: Callable[[RedisServer, list[RedisServer]], Awaitable[None]],
    replicas: int,
    waits: int,
    nothing_lost: bool,
) -> None:
    async with (
        replicated(tmp_path, {"appendonly": "yes"}, replicas=replicas) as (master, *_),
        sentinels(tmp_path, master) as watching,
    ):
        name = f"Sentinel, {fault.__name__}, {replicas} replicas, wait_replicas = {waits}"
        result = await measured(
            tmp_path, name, sentinel_url(watching), partial(fault, master, watching), redis__wait_replicas=waits
        )
        assert result.inverted == 0
        if nothing_lost:
            assert (result.forgotten, result.untold) == (0, 0)


# Cluster


@pytest.mark.parametrize("waits", [1, 0])
async def test_cluster_failover(tmp_path: Path, waits: int) -> None:
    async with cluster(tmp_path, {"appendonly": "yes"}, replicas=1) as nodes:

        async def kill_and_restart() -> None:
            await nodes[0].kill()

            async def taken_over() -> bool:
                return bool((await nodes[3].info("replication"))["role"] == "master")

            await eventually(taken_over, "the replica takes over")
            await nodes[0].start()  # as the new master's replica, so that there is one to wait for

        name = f"Cluster, kill, a replica each, wait_replicas = {waits}"
        result = await measured(tmp_path, name, cluster_url(nodes), kill_and_restart, redis__wait_replicas=waits)
        assert result.inverted == 0
        if waits:
            assert (result.forgotten, result.untold) == (0, 0)


async def test_cluster_resharding(tmp_path: Path) -> None:
    """Every slot that holds calls changes its node, and none of them is lost, nor told twice."""
    async with cluster(tmp_path, {"appendonly": "yes"}) as nodes:

        async def reshard() -> None:
            for shard in range(SHARDS):
                slot = key_slot(Keys("aventa").of_shard(shard, LANES).encode())
                place = slot * len(nodes) // 16_384
                source, target = nodes[place], nodes[(place + 1) % len(nodes)]
                await move_slot(slot, source, target, random.Random(shard), lambda: asyncio.sleep(0), at_once=200)
            await until_settled(nodes)

        result = await measured(tmp_path, "Cluster, resharding", cluster_url(nodes), reshard)
        assert result.repeated, "the resharding was felt"
        assert (result.forgotten, result.untold, result.doubled, result.inverted) == (0, 0, 0, 0)

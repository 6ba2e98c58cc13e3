"""Callbacks against a model: two clients take them in and work off what they lead to, interleaved, on one Redis.

Time is the test's own. What the model says: a callback counts once a shard (see `bridge.store.callbacks` on when two
comings lie in two), each job is done once and in its lane's order, and what waits is never forgotten by count.
"""

import asyncio
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import Direction, EventKind, Facts, Pair
from bridge.calls.state import Policy
from bridge.runtime.clock import now_ms
from bridge.store.callbacks import CallbackRetention, CallbackStore, NewCallback, Place, job_of, lane_of
from bridge.store.calls import Retention
from bridge.store.connection import Connection
from bridge.store.deliveries import Delivery, Settlement
from bridge.store.embedded import EmbeddedRedis, find_server
from bridge.store.keys import SHARDS, CallbackKeys, Keys, shard_of
from bridge.store.outbox import Outbox
from tests.integration.store_support import Bench

LEASE_MS, KEPT = 1_000, 3
AGE_MS = 10**9
CALLS = Retention(seen_ms=AGE_MS, ended_ms=AGE_MS, age_ms=AGE_MS, grace_ms=1000, errand_ms=AGE_MS)
ERRANDS = {7: Pair(1, 1), 8: Pair(1, 2), 9: Pair(2, 1)}
IDS = [f"cb-{number}" for number in range(8)]


@dataclass
class Begun:
    """A callback whose place a client has found, but that it has not committed."""

    callback_id: str
    errand_id: int
    place: Place
    jobs: list[Effect]


class CallbackMachine(RuleBasedStateMachine):
    """Rules are what two clients do; after each, Redis must hold what the model holds."""

    loop: asyncio.AbstractEventLoop
    server: EmbeddedRedis

    @initialize()
    def begin(self) -> None:
        self.now = now_ms()
        calls, keys = Keys("test"), CallbackKeys("test")
        self.connections = [Connection(self.server.url, timeout_s=5) for _ in range(2)]
        retention = CallbackRetention(AGE_MS, AGE_MS, KEPT * SHARDS)
        self.stores = [CallbackStore(c, calls, keys, retention, lambda: self.now) for c in self.connections]
        self.outboxes = [
            Outbox(c, keys, CALLS, lease_ms=LEASE_MS, server_time=lambda: self.now) for c in self.connections
        ]
        self.loop.run_until_complete(self.connections[0].run(("FLUSHALL",)))
        self.calls = Bench(self.connections[0], calls, CALLS, Policy(), self.now)
        self.known: set[int] = set()
        self.taken: dict[int, list[str]] = defaultdict(list)
        """By shard, the callbacks in the order of their commits."""
        self.timeline: dict[int, list[str]] = defaultdict(list)
        self.expected: dict[Pair, list[str]] = defaultdict(list)
        self.done: dict[Pair, list[str]] = defaultdict(list)
        self.begun: list[Begun | None] = [None, None]
        self.leased: list[dict[Pair, tuple[Delivery, int]]] = [{}, {}]

    def teardown(self) -> None:
        for connection in getattr(self, "connections", []):
            self.loop.run_until_complete(connection.close())

    @rule(errand_id=st.sampled_from(sorted(ERRANDS)))
    def an_errand_is_made(self, errand_id: int) -> None:
        if errand_id in self.known:
            return
        self.known.add(errand_id)
        self.loop.run_until_complete(self.make(errand_id))

    async def make(self, errand_id: int) -> None:
        self.calls.now = self.now
        pair = ERRANDS[errand_id]
        facts = Facts(Direction.INBOUND, "46846500401", "46846500401")
        event = self.calls.event(EventKind.STARTED, pair, f"call-{errand_id}", facts=facts)
        await self.calls.take(event)
        delivery = (await self.calls.claim(shards=[shard_of(pair)]))[pair]
        await self.calls.outbox.settle(delivery, Settlement.DELIVERED, errand_id=str(errand_id))

    @precondition(lambda self: None in self.begun)
    @rule(
        number=st.integers(0, len(IDS) - 1),
        kinds=st.sets(st.sampled_from([EffectKind.FETCH_FILE, EffectKind.FORWARD_CALLBACK])),
    )
    def a_callback_finds_its_place(self, number: int, kinds: set[EffectKind]) -> None:
        client, callback_id = self.begun.index(None), IDS[number]
        errand_id = sorted(ERRANDS)[number % len(ERRANDS)]
        place = self.loop.run_until_complete(self.stores[client].find(callback_id, errand_id))
        assert place.seen == any(callback_id in taken for taken in self.taken.values())
        call = (ERRANDS[errand_id], f"call-{errand_id}")
        assert place.call == (call if errand_id in self.known else None)
        if place.seen:
            return
        jobs = [
            job_of(kind, callback_id, lane_of(errand_id, place.shard, nth), place.call)
            for nth, kind in enumerate(sorted(kinds))
        ]
        self.begun[client] = Begun(callback_id, errand_id, place, jobs)

    @precondition(lambda self: any(self.begun))
    @rule(client=st.integers(0, 1))
    def a_callback_is_committed(self, client: int) -> None:
        begun = self.begun[client]
        if begun is None:
            return
        self.begun[client] = None
        self.now += 1
        new = NewCallback(begun.callback_id, begun.errand_id, {"files": 0}, b"{}")
        taken = self.loop.run_until_complete(self.stores[client].commit(new, begun.place, begun.jobs))
        shard = begun.place.shard
        assert taken is (begun.callback_id not in self.taken[shard])
        if not taken:
            return
        self.taken[shard].append(begun.callback_id)
        for job in begun.jobs:
            self.expected[job.pair].append(job.effect_id)
        if begun.place.call is not None:
            self.timeline[begun.errand_id].append(begun.callback_id)

    @rule(client=st.integers(0, 1))
    def claim(self, client: int) -> None:
        for delivery in self.loop.run_until_complete(self.outboxes[client].claim(range(SHARDS), 2)):
            pair = delivery.effect.pair
            for other in self.leased:
                held = other.get(pair)
                assert held is None or held[1] <= self.now, "a lane is leased to one client at a time"
            self.leased[client][pair] = (delivery, self.now + LEASE_MS)

    @precondition(lambda self: any(self.leased))
    @rule(data=st.data(), settlement=st.sampled_from([*Settlement, Settlement.DELIVERED]))
    def settle(self, data: st.DataObject, settlement: Settlement) -> None:
        held = [(client, pair) for client in (0, 1) for pair in sorted(self.leased[client])]
        client, pair = data.draw(st.sampled_from(held))
        delivery, _ = self.leased[client].pop(pair)
        # What a job needs is there until the job is done, however many callbacks came since.
        callback_id = delivery.effect.effect_id.partition("-f")[0]
        if delivery.effect.effect_id not in self.done[pair]:
            assert self.loop.run_until_complete(self.stores[client].get(shard_of(pair), callback_id)) is not None
        left = len(self.queue(pair))
        following = self.loop.run_until_complete(
            self.outboxes[client].settle(delivery, settlement, wait_ms=500, reason="r", entry={"delivery": "d"})
        )
        if len(self.queue(pair)) < left:
            self.done[pair].append(delivery.effect.effect_id)
        if following is not None:
            self.leased[client][pair] = (following, self.now + LEASE_MS)

    def queue(self, pair: Pair) -> list[str]:
        (ids,) = self.loop.run_until_complete(
            self.connections[0].run(("LRANGE", CallbackKeys("test").lane(pair), 0, -1))
        )
        return list(ids)

    @rule(ms=st.sampled_from([1, LEASE_MS]))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "taken"):
            return
        for pair, expected in self.expected.items():
            assert self.done[pair] + self.queue(pair) == expected
        listed, _ = self.loop.run_until_complete(self.stores[0].newest(1000))
        newest = sorted(name for taken in self.taken.values() for name in taken[-KEPT:])
        assert sorted(kept.callback_id for kept in listed) == newest
        for errand_id in self.known:
            history = self.loop.run_until_complete(self.calls.reads.history(f"call-{errand_id}"))
            assert history is not None
            told = [entry["callback"] for entry in history.timeline if "callback" in entry]
            assert sorted(told) == sorted(self.timeline[errand_id])


CallbackMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.mark.skipif(find_server() is None, reason="no redis-server here")
class TestCallbacks(CallbackMachine.TestCase):  # type: ignore[misc, valid-type] # Hypothesis makes the class at run time
    """Runs the machine, all its examples on one server."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = tempfile.TemporaryDirectory()
        CallbackMachine.loop = asyncio.new_event_loop()
        CallbackMachine.server = EmbeddedRedis(Path(cls.directory.name), fsync="no")
        CallbackMachine.loop.run_until_complete(CallbackMachine.server.start())

    @classmethod
    def tearDownClass(cls) -> None:
        CallbackMachine.loop.run_until_complete(CallbackMachine.server.stop())
        CallbackMachine.loop.close()
        cls.directory.cleanup()

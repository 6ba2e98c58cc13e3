"""The store against a model: two clients interleave on one Redis; the model is the pure core in one thread.

Time is the test's own (the scripts take it as an argument), so leases end and timers run out exactly when it says.
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

from bridge.calls.decide import Decision, decide
from bridge.calls.effects import Effect, EffectKind, handed_over
from bridge.calls.events import CallEvent, Direction, EventKind, Facts, Pair
from bridge.calls.state import CallState, Policy
from bridge.store.calls import CallStore, Commit, Loaded, Retention
from bridge.store.connection import Connection
from bridge.store.deliveries import Delivery, Settlement
from bridge.store.embedded import EmbeddedRedis, find_server
from bridge.store.keys import Keys
from bridge.store.outbox import Outbox
from bridge.store.reads import Reads
from tests.memory import Memory

PAIRS = [Pair(1, 1), Pair(1, 2), Pair(2, 1)]
POLICY = Policy()
LEASE_MS, GRACE_MS, AGE_MS = 1_000, 5_000, 60_000
DONE = (Commit.OK, Commit.LEASED)
RETENTION = Retention(seen_ms=10**9, ended_ms=10**9, age_ms=AGE_MS, grace_ms=GRACE_MS)


@dataclass
class Begun:
    """An event that a client has loaded for and decided on, but not yet committed."""

    event: CallEvent
    loaded: Loaded
    decision: Decision


class Place:
    """One client's worker, which has a place whenever it is told so, and leases what comes with a commit."""

    def __init__(self, machine: "StoreMachine", client: int) -> None:
        self.machine, self.client, self.free, self.kept = machine, client, False, 0

    def offer(self, shard: int) -> int:
        self.kept += self.free
        return LEASE_MS if self.free else 0

    def take(self, delivery: Delivery) -> None:
        self.kept -= 1
        assert delivery.attempt == 1
        assert not delivery.in_doubt
        self.machine.lease(self.client, delivery)

    def forgo(self, delivery: Delivery | None = None) -> None:
        self.kept -= 1
        assert delivery is None, "no answer is lost here"


class StoreMachine(RuleBasedStateMachine):
    """Rules are what two clients do; after each, Redis must hold what the model holds."""

    loop: asyncio.AbstractEventLoop
    server: EmbeddedRedis

    @initialize()
    def begin(self) -> None:
        self.now = 1_000_000
        keys = Keys("test")
        self.connections = [self.loop.run_until_complete(self.connect()) for _ in range(2)]
        self.stores = [CallStore(c, keys, RETENTION, lambda: self.now) for c in self.connections]
        self.outboxes = [
            Outbox(c, keys, RETENTION, lease_ms=LEASE_MS, server_time=lambda: self.now) for c in self.connections
        ]
        self.loop.run_until_complete(self.connections[0].run(("FLUSHALL",)))
        self.reads = Reads(self.connections[0], keys)
        self.model = Memory(POLICY)
        self.expected: dict[Pair, list[str]] = defaultdict(list)
        self.delivered: dict[Pair, list[str]] = defaultdict(list)
        self.begun: list[Begun | None] = [None, None]
        self.leased: list[dict[Pair, tuple[Delivery, int]]] = [{}, {}]
        self.handed: set[str] = set()
        self.number = 0
        self.places = [Place(self, client) for client in (0, 1)]
        for store, place in zip(self.stores, self.places, strict=True):
            store.hand_to(place)

    async def connect(self) -> Connection:
        return Connection(self.server.url, timeout_s=5)

    def teardown(self) -> None:
        for connection in getattr(self, "connections", []):
            self.loop.run_until_complete(connection.close())

    def commit(self, client: int, begun: Begun) -> Commit:
        result = self.loop.run_until_complete(self.stores[client].commit(begun.event, begun.loaded, begun.decision))
        if result in DONE:
            # The commit is the moment that counts: the model takes the event now, whatever was loaded before.
            effects = self.model.take(begun.event)
            own = [effect for effect in effects if effect.pair == begun.event.pair]
            assert [effect.effect_id for effect in own] == [e.effect_id for e in begun.decision.effects]
            for effect in effects:
                self.expected[effect.pair].append(effect.effect_id)
            for effect in begun.decision.effects:
                if effect.kind is EffectKind.HAND_OVER:
                    self.take_now(client, handed_over(effect), told_model=True)
        return result

    def take_now(self, client: int, event: CallEvent, *, told_model: bool = False) -> None:
        store = self.stores[client]
        loaded = self.loop.run_until_complete(store.load(event))
        if loaded.seen:
            return
        decision = decide(loaded.calls, event, POLICY)
        if told_model:
            assert self.loop.run_until_complete(store.commit(event, loaded, decision)) in DONE
        elif decision.call.state is not CallState.UNSEEN:
            self.commit(client, Begun(event, loaded, decision))

    def make(self, kind: EventKind, pair: Pair, call: str, to: Pair, direction: Direction, event_id: str) -> CallEvent:
        self.now += 1
        opens = kind is EventKind.STARTED
        return CallEvent(
            event_id=event_id,
            kind=kind,
            occurred_at=self.now,
            call_id=call,
            pair=pair,
            facts=Facts(direction, "46846500401", "46846500401") if opens else Facts(),
            transferred_to=to if kind is EventKind.TRANSFERRED else None,
            body="{}",
        )

    @precondition(lambda self: None in self.begun)
    @rule(
        kind=st.sampled_from([kind for kind in EventKind if kind.value.startswith("call.")]),
        pair=st.sampled_from(PAIRS),
        to=st.sampled_from(PAIRS),
        call=st.sampled_from(["a", "b"]),
        direction=st.sampled_from(Direction),
        again=st.booleans(),
        recalled=st.booleans(),
    )
    def load_and_decide(
        self, kind: EventKind, pair: Pair, to: Pair, call: str, direction: Direction, again: bool, recalled: bool
    ) -> None:
        client = self.begun.index(None)
        if kind is EventKind.TRANSFERRED and to == pair:
            kind = EventKind.UPDATED
        if not again or self.number == 0:
            self.number += 1
        event = self.make(kind, pair, call, to, direction, f"event-{pair}-{self.number}")
        if recalled:
            loaded = self.stores[client].recall(event)
        else:
            loaded = self.loop.run_until_complete(self.stores[client].load(event))
            assert loaded.seen == (event.event_id in self.model.seen)
        if not loaded.seen:
            self.begun[client] = Begun(event, loaded, decide(loaded.calls, event, POLICY))

    @rule(client=st.integers(0, 1), free=st.booleans())
    def a_worker_has_a_place(self, client: int, free: bool) -> None:
        self.places[client].free = free

    @precondition(lambda self: any(self.begun))
    @rule(client=st.integers(0, 1))
    def commit_begun(self, client: int) -> None:
        begun = self.begun[client]
        if begun is None:
            return
        self.begun[client] = None
        result = self.commit(client, begun)
        if result is Commit.DUPLICATE:
            assert begun.event.event_id in self.model.seen
        elif result is Commit.CONFLICT:
            self.take_now(client, begun.event)

    @rule(client=st.integers(0, 1), way=st.permutations(PAIRS))
    def a_call_is_passed_on(self, client: int, way: list[Pair]) -> None:
        """What chance alone seldom makes: a started call that goes on to another pair."""
        self.number += 1
        call, (here, there, _) = f"passed-{self.number}", way
        for kind in (EventKind.STARTED, EventKind.TRANSFERRED):
            event = self.make(kind, here, call, there, Direction.INBOUND, f"event-{call}-{kind}")
            self.take_now(client, event)

    @precondition(lambda self: any(self.leased))
    @rule(client=st.integers(0, 1))
    def leases_end_and_the_other_claims(self, client: int) -> None:
        self.now += LEASE_MS
        self.claim(client)

    @rule(client=st.integers(0, 1))
    def claim(self, client: int) -> None:
        for delivery in self.loop.run_until_complete(self.outboxes[client].claim(range(16), 2)):
            self.lease(client, delivery)

    def lease(self, client: int, delivery: Delivery) -> None:
        pair = delivery.effect.pair
        for other in self.leased:
            held = other.get(pair)
            assert held is None or held[1] <= self.now, "a lane is leased to one client at a time"
        self.leased[client][pair] = (delivery, self.now + LEASE_MS)

    @precondition(lambda self: any(self.leased))
    @rule(data=st.data(), settlement=st.sampled_from([*Settlement, Settlement.DELIVERED]), go_on=st.booleans())
    def settle(self, data: st.DataObject, settlement: Settlement, go_on: bool) -> None:
        held = [(client, pair) for client in (0, 1) for pair in sorted(self.leased[client])]
        client, pair = data.draw(st.sampled_from(held))
        delivery, _ = self.leased[client].pop(pair)
        mine = not any(pair in other and other[pair][1] > self.now for other in self.leased)
        left = len(self.queue(pair))
        if mine and settlement in (Settlement.DELIVERED, Settlement.PARKED):
            self.hand_over(client, delivery.effect)
        following = self.loop.run_until_complete(
            self.outboxes[client].settle(delivery, settlement, wait_ms=500, reason="r", go_on=go_on)
        )
        gone = left - len(self.queue(pair))
        if gone:
            assert mine, "only the holder of the lease settles"
            assert settlement in (Settlement.DELIVERED, Settlement.PARKED)
            self.delivered[pair].append(delivery.effect.effect_id)
        if following is not None:
            assert go_on
            self.leased[client][pair] = (following, self.now + LEASE_MS)

    def hand_over(self, client: int, effect: Effect) -> None:
        if effect.kind is EffectKind.HAND_OVER:
            self.take_now(client, handed_over(effect))
            self.loop.run_until_complete(self.outboxes[client].release(effect))
            self.handed.add(effect.effect_id)

    def queue(self, pair: Pair) -> list[str]:
        (ids,) = self.loop.run_until_complete(self.connections[0].run(("LRANGE", Keys("test").lane(pair), 0, -1)))
        return list(ids)

    @rule(ms=st.sampled_from([1, LEASE_MS, GRACE_MS, AGE_MS]))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @rule(client=st.integers(0, 1))
    def timers_run_out(self, client: int) -> None:
        for pair, call_id in self.loop.run_until_complete(self.stores[client].expired()):
            self.take_now(client, CallEvent(f"x-{pair}-{call_id}", EventKind.EXPIRED, self.now, call_id, pair))

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "reads"):
            return
        for pair in PAIRS:
            held = [read.call for read in self.loop.run_until_complete(self.reads.pair(pair))]
            assert held == self.model.active(pair)
            # What left and what waits is what was decided, in that order, nothing missing, nothing twice.
            assert self.delivered[pair] + self.queue(pair) == self.expected[pair]
        listed, _ = self.loop.run_until_complete(self.reads.active(lambda _: True, 100))
        assert len(listed) == sum(len(self.model.active(pair)) for pair in PAIRS)

    @invariant()
    def no_place_is_kept_for_nothing(self) -> None:
        assert all(place.kept == 0 for place in getattr(self, "places", []))

    @invariant()
    def nothing_overtakes_its_hand_over(self) -> None:
        if hasattr(self, "leased"):
            for held in self.leased:
                for delivery, _ in held.values():
                    assert delivery.effect.after is None or delivery.effect.after in self.handed


StoreMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.mark.skipif(find_server() is None, reason="no redis-server here")
class TestStore(StoreMachine.TestCase):  # type: ignore[misc, valid-type] # Hypothesis makes the class at run time
    """Runs the machine, all its examples on one server."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = tempfile.TemporaryDirectory()
        StoreMachine.loop = asyncio.new_event_loop()
        StoreMachine.server = EmbeddedRedis(Path(cls.directory.name), fsync="no")
        StoreMachine.loop.run_until_complete(StoreMachine.server.start())

    @classmethod
    def tearDownClass(cls) -> None:
        StoreMachine.loop.run_until_complete(StoreMachine.server.stop())
        StoreMachine.loop.close()
        cls.directory.cleanup()

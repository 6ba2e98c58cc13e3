"""The store on a cluster of real servers: where commands go, and what happens while a slot is moved or a node away."""

import random
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from redis.crc import key_slot

from bridge.calls.decide import decide
from bridge.calls.events import CallEvent, EventKind, Pair
from bridge.delivery.places import Places
from bridge.store.calls import Commit
from bridge.store.deliveries import Delivery, Settlement
from bridge.store.errors import StoreRefused, StoreUnavailable
from bridge.store.keys import CLOCK, EPOCH, LANES, LEASES, SHARDS, WAITING, Keys, member, shard_of
from tests.e2e.support import eventually
from tests.fakes.redis_servers import RedisServer, cluster, cluster_url, move_slot, server, until_settled
from tests.integration.redis_support import connected
from tests.integration.store_support import INBOUND, LEASE_MS, A, Bench, bench

PAIRS_BY_SHARD: dict[int, list[Pair]] = defaultdict(list)
for _number in range(1, 400):
    PAIRS_BY_SHARD[shard_of(Pair(1, _number))].append(Pair(1, _number))


def slot_of(shard: int) -> int:
    return key_slot(Keys("test").of_shard(shard, LANES).encode())


def owner(nodes: list[RedisServer], slot: int) -> int:
    """Which of the masters of a new cluster has the slot."""
    return next(n for n in range(len(nodes)) if slot < 16_384 * (n + 1) // len(nodes))


async def test_every_script_runs_on_a_cluster(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes, bench(cluster_url(nodes[:1])) as store:
        for shard in range(SHARDS):
            first, second = PAIRS_BY_SHARD[shard][0], PAIRS_BY_SHARD[(shard + 1) % SHARDS][1]
            await store.start(first, f"c-{shard}")
            hand_over = await store.transfer(first, f"c-{shard}", to=second)
            await store.open_at_new_agent(hand_over)
            await store.outbox.release(hand_over)
            history = await store.reads.history(f"c-{shard}")
            assert history is not None
            assert len(history.legs) == 2
        told = 0
        while claimed := await store.claim(100):
            for first_delivery in claimed.values():
                delivery: Delivery | None = first_delivery
                while delivery is not None:
                    told += 1
                    delivery = await store.outbox.settle(delivery, Settlement.DELIVERED, errand_id="1")
            store.now += 1
        assert told == SHARDS * 4  # open, its end, the hand-over; open at the new agent
        assert (await store.outbox.backlog()).waiting == 0
        found, _ = await store.reads.active(lambda _: True, 100)
        assert len(found) == SHARDS == await store.reads.active_count()
        await store.connection.check(store.keys.writable())
        assert len(await store.connection.info()) == 3
        for node in nodes:
            await node.ask("SCRIPT", "FLUSH")
        await store.start(A, "c-99")

        async with bench(nodes[0].url) as as_one_server:
            shard = next(shard for shard in range(SHARDS) if owner(nodes, slot_of(shard)) == 1)
            with pytest.raises(StoreUnavailable, match="MovedError"):
                await as_one_server.start(PAIRS_BY_SHARD[shard][0])


async def test_a_slot_that_is_moved_key_by_key_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path, masters=2) as nodes, bench(cluster_url(nodes[:1])) as store:
        for seed in range(4):
            shard = [shard for shard in range(SHARDS) if owner(nodes, slot_of(shard)) == 0][seed]
            rng = random.Random(seed)
            moved = _Moved(store, PAIRS_BY_SHARD[shard][1:9], rng)
            # Somebody holds a lane all the while, or a claim would find no leases, and no claim run in the move.
            await store.start(PAIRS_BY_SHARD[shard][0], f"held-{shard}")
            assert len(await store.claim(1, [shard])) == 1
            await moved.start_calls()
            await moved.start_calls()
            # As long as a claim's own keys are there, it runs, and meets lanes that are gone.
            last = [store.keys.of_shard(shard, name) for name in (LANES, LEASES, EPOCH, CLOCK)] if seed % 2 else []
            await move_slot(slot_of(shard), nodes[0], nodes[1], rng, moved.go_on, at_once=2, last=last)
            assert moved.refused, "some of it fell into the move"
            await until_settled(nodes)
            await moved.finish()


class _Moved:
    """Pairs of a shard at work while its slot is moved: what was accepted, and what was told of it."""

    def __init__(self, store: Bench, pairs: list[Pair], rng: random.Random) -> None:
        self.store, self.pairs, self.rng, self.refused = store, pairs, rng, 0
        self.accepted: dict[Pair, list[str]] = defaultdict(list)
        self.told: dict[Pair, list[str]] = defaultdict(list)
        self._number = 0
        self._refused: dict[Pair, tuple[CallEvent, list[str]]] = {}
        self._unsettled: list[Delivery] = []

    async def start_calls(self) -> None:
        """As a sender does it: what was refused is sent again, before what comes next."""
        for pair in self.pairs:
            if pair not in self._refused:
                self._number += 1
                event = self.store.event(EventKind.STARTED, pair, f"{pair}-{self._number}", facts=INBOUND)
                self._refused[pair] = (event, [])
            event, effects = self._refused[pair]
            try:
                loaded = await self.store.calls.load(event)
                if not loaded.seen:
                    decision = decide(loaded.calls, event, self.store.policy)
                    effects[:] = [effect.effect_id for effect in decision.effects]
                    assert await self.store.calls.commit(event, loaded, decision) is Commit.OK
            except StoreUnavailable:
                self.refused += 1
            else:
                self.accepted[pair] += effects
                del self._refused[pair]

    async def go_on(self) -> None:
        await self.start_calls()
        if self.rng.random() < 0.2:  # seldom: lanes that are due must be left when some of their keys are gone
            with suppress(StoreUnavailable):
                self._tell((await self.store.claim(2, [shard_of(self.pairs[0])])).values())
        await self._settle()

    def _tell(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            assert delivery.attempt == 1, "no lease was lost with its answer"
            self.told[delivery.effect.pair].append(delivery.effect.effect_id)
            self._unsettled.append(delivery)

    async def _settle(self, *, go_on: bool = False) -> None:
        unsettled, self._unsettled = self._unsettled, []
        for delivery in unsettled:
            try:
                following = await self.store.outbox.settle(delivery, Settlement.DELIVERED, go_on=go_on)
            except StoreUnavailable:
                self._unsettled.append(delivery)
            else:
                self._tell([] if following is None else [following])

    async def finish(self) -> None:
        refused = self.refused
        for _ in range(3):
            await self.go_on()
        assert self.refused == refused, "a client that knows the slot's old place is sent to its new one"
        shard = shard_of(self.pairs[0])
        while self._unsettled or await self.store.raw("ZCARD", self.store.keys.of_shard(shard, WAITING)) > 1:
            while self._unsettled:
                await self._settle(go_on=True)
            self.store.now += LEASE_MS  # a lane that was passed over is due again after a lease's length
            claimed = (await self.store.claim(10, [shard])).values()
            self._tell(delivery for delivery in claimed if delivery.effect.pair in self.pairs)
        assert self.told == self.accepted


async def is_found(store: Bench, call_id: str) -> None:
    await store.start(A, call_id)
    history = await store.reads.history(call_id)
    assert history is not None
    assert len(history.legs) == 1


async def test_a_cluster_behind_an_address_of_one_server_is_known_by_its_first_answer(tmp_path: Path) -> None:
    async with cluster(tmp_path, masters=1) as nodes, bench(nodes[0].url) as store:
        places = Places(1, line=4, spread=lambda: store.connection.spread)
        for call_id in ("c-1", "c-2"):
            await is_found(store, call_id)
            assert store.connection.spread
            assert places.longest == 0


async def test_what_is_one_server_is_asked_once(tmp_path: Path) -> None:
    async with server(tmp_path / "alone") as alone, bench(alone.url) as store:
        places = Places(1, line=4, spread=lambda: store.connection.spread)
        assert places.longest == 0, "until it is known"
        await store.raw("PING")
        assert not store.connection.spread
        assert places.longest == 4
        await store.raw("PING")
        stats = await alone.info("commandstats")
        assert (stats["cmdstat_ping"]["calls"], stats["cmdstat_evalsha"]["calls"]) == (3, 1)  # one is the test's own


async def test_a_login_that_may_not_ask_knows_it_when_it_may(tmp_path: Path) -> None:
    async with server(tmp_path / "alone") as alone:
        await alone.ask("ACL", "SETUSER", "ours", "on", ">p", "~test:*", "+ping")
        async with bench(alone.url.replace("//", "//ours:p@")) as store:
            await store.raw("PING")
            assert store.connection.spread
            await alone.ask("ACL", "SETUSER", "ours", "+evalsha")
            await store.raw("PING")
            assert not store.connection.spread


async def test_a_cluster_that_takes_a_servers_place_is_asked_anew(tmp_path: Path) -> None:
    async with server(tmp_path / "alone") as alone, bench(alone.url) as store:
        await is_found(store, "c-1")
        await alone.kill()
        node = RedisServer(alone.binary, tmp_path / "node", {"cluster-enabled": "yes"}, port=alone.port)
        try:
            await node.start()
            await node.ask("CLUSTER", "ADDSLOTS", *range(16_384))
            await until_settled([node])
            # The connections were closed at rest, so nobody saw the other one come. Whoever is refused so asks again.
            with pytest.raises(StoreRefused):
                await store.start(A, "c-2")
            await is_found(store, "c-2")
        finally:
            await node.kill()


async def test_a_slot_that_is_being_moved_settles_an_attempt_wholly_or_not(tmp_path: Path) -> None:
    """All that a settle looks at is there yet, but what leads from the errand's id is new: that would go elsewhere."""
    async with cluster(tmp_path, masters=2) as nodes, bench(cluster_url(nodes[:1]), errand_ms=60_000) as store:
        shard = next(shard for shard in range(SHARDS) if owner(nodes, slot_of(shard)) == 0)
        ours, *others = PAIRS_BY_SHARD[shard][:4]
        for pair in (ours, *others):
            await store.start(pair, "c-1")
        await store.end(ours, "c-1")
        claimed = await store.claim(10, [shard])
        ways = (Settlement.PARKED, None), (Settlement.DELIVERED, "7")
        for pair, (settlement, errand) in zip(others, ways, strict=False):
            await store.outbox.settle(claimed[pair], settlement, errand_id=errand)
        timeline, lane = store.keys.timeline(ours, "c-1"), await store.lane(ours)
        before = await store.raw("LRANGE", timeline, 0, -1)
        # As at the beginning of a move, before any key is gone.
        await nodes[1].ask("CLUSTER", "SETSLOT", slot_of(shard), "IMPORTING", await nodes[0].ask("CLUSTER", "MYID"))
        await nodes[0].ask("CLUSTER", "SETSLOT", slot_of(shard), "MIGRATING", await nodes[1].ask("CLUSTER", "MYID"))
        with pytest.raises(StoreUnavailable):
            await store.outbox.settle(
                claimed[ours], Settlement.DELIVERED, errand_id="8", entry={"outcome": "delivered"}
            )
        await nodes[0].ask("CLUSTER", "SETSLOT", slot_of(shard), "STABLE")
        assert await store.raw("LRANGE", timeline, 0, -1) == before
        assert await store.lane(ours) == lane
        following = await store.outbox.settle(claimed[ours], Settlement.DELIVERED, errand_id="8")
        assert following is not None
        assert await store.raw("GET", store.keys.errand(shard, 8)) == member(ours, "c-1")


@pytest.mark.ci
async def test_a_node_that_is_away_takes_only_its_own_along(tmp_path: Path) -> None:
    partial = {"cluster-require-full-coverage": "no"}
    async with cluster(tmp_path, partial) as nodes, bench(cluster_url(nodes)) as store:
        homes = {shard: owner(nodes, slot_of(shard)) for shard in range(SHARDS)}
        for shard in range(SHARDS):
            await store.start(PAIRS_BY_SHARD[shard][0], f"c-{shard}")
        await nodes[2].kill()
        lost = {PAIRS_BY_SHARD[shard][0] for shard in range(SHARDS) if homes[shard] == 2}
        assert set(await store.claim(1)) == {PAIRS_BY_SHARD[shard][0] for shard in range(SHARDS)} - lost
        with pytest.raises(StoreUnavailable):
            await store.connection.check(store.keys.writable())
        with pytest.raises(StoreUnavailable):
            await store.start(next(iter(lost)), "c-99")

        # The index of a call lies elsewhere than its pair. It comes first: without it, nothing of the call is written.
        at_lost = next(f"i-{n}" for n in range(100) if owner(nodes, key_slot(f"test:index:i-{n}".encode())) == 2)
        pair = next(PAIRS_BY_SHARD[shard][1] for shard in range(SHARDS) if homes[shard] != 2)
        event = store.event(EventKind.STARTED, pair, at_lost, facts=INBOUND)
        with pytest.raises(StoreUnavailable):
            await store.take(event)
        assert not (await store.calls.load(event)).seen

        await nodes[2].start()

        async def back() -> bool:
            try:
                await store.connection.check(store.keys.writable())
            except StoreUnavailable:
                return False
            return True

        await eventually(back, "all of the cluster takes writes")
        await store.take(event)


async def test_a_server_is_not_a_cluster(tmp_path: Path) -> None:
    async with server(tmp_path / "alone") as alone, connected(cluster_url([alone])) as connection:
        with pytest.raises(StoreUnavailable, match="cluster support disabled"):
            await connection.run(("PING",))

"""What a claim, a settle and a commit lease: with which end, age and attempt; and lanes that are due and not leased."""

from bridge.calls.decide import decide
from bridge.calls.events import EventKind, Pair
from bridge.store.calls import Commit
from bridge.store.deliveries import Delivery, Settlement
from bridge.store.embedded import EmbeddedRedis
from bridge.store.keys import EPOCH, LANES, LEASES, shard_of
from bridge.store.outbox import HAND_OVER_WAIT_MS
from tests.integration.store_support import LEASE_MS, A, B, bench

OTHER = next(pair for number in range(1000) if shard_of(pair := Pair(7, number)) == shard_of(A))


async def test_what_a_settle_hands_out_has_a_lease_and_an_age_of_its_own(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.end()
        claimed = (await store.claim())[A]
        store.now += LEASE_MS - 1
        following = await store.outbox.settle(claimed, Settlement.DELIVERED)
        assert following is not None
        assert (following.age_ms, following.created_at) == (LEASE_MS - 1, claimed.created_at)
        assert await store.due() == store.now + LEASE_MS


class Room:
    """Has a place for whatever a commit leases."""

    def __init__(self) -> None:
        self.taken: list[Delivery] = []

    def offer(self, shard: int) -> int:
        return LEASE_MS

    def take(self, delivery: Delivery) -> None:
        self.taken.append(delivery)

    def forgo(self, delivery: Delivery | None = None) -> None:
        assert delivery is None


async def test_a_commit_counts_an_attempt_of_its_first_delivery_alone(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.outbox.settle((await store.claim())[A], Settlement.DELIVERED)
        room = Room()
        store.calls.hand_to(room)
        event = store.event(EventKind.TRANSFERRED, transferred_to=B)
        loaded = await store.calls.load(event)
        first, second = decide(loaded.calls, event, store.policy).effects
        assert await store.commit(event, loaded) is Commit.LEASED
        assert [delivery.effect for delivery in room.taken] == [first]
        assert [(await store.delivery(effect))["attempts"] for effect in (first, second)] == ["1", "0"]


async def test_a_lane_that_is_empty_or_cannot_be_read_is_not_due_again_before_others(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        shard = shard_of(A)
        (opening,) = await store.start()
        await store.raw("SET", store.keys.delivery(shard, opening.effect_id), "x")
        await store.raw("ZADD", store.keys.of_shard(shard, LANES), 1, str(OTHER))
        await store.raw("HSET", store.keys.of_shard(shard, LEASES), str(OTHER), "1-a")
        assert await store.claim() == {}
        assert (await store.due(OTHER), await store.leases()) == (None, {})
        assert await store.due() == store.now + LEASE_MS


async def test_a_lane_that_waits_for_a_hand_over_is_not_due_again_at_once(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.open_at_new_agent(await store.transfer())
        assert set(await store.claim()) == {A}
        assert await store.due(B) == store.now + HAND_OVER_WAIT_MS


async def test_a_lease_is_told_from_one_that_a_failover_lost(redis: EmbeddedRedis) -> None:
    """The counter of leases is back at what it was, and the lost lease's worker still settles."""
    async with bench(redis.url) as store:
        await store.start()
        lost = (await store.claim())[A]
        await store.raw("DEL", store.keys.of_shard(shard_of(A), EPOCH), store.keys.of_shard(shard_of(A), LEASES))
        store.now += LEASE_MS
        claimed = (await store.claim())[A]
        assert claimed.epoch != lost.epoch
        assert claimed.age_ms == LEASE_MS


async def test_a_claim_tells_how_many_lanes_it_left(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        for pair in (A, OTHER):
            await store.start(pair)
        shard = shard_of(A)
        for left in (1, 0):
            assert len(await store.claim(1, [shard])) == 1
            assert store.outbox.due_left == {shard: left}

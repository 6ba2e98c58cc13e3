"""Whether an earlier attempt may have been carried out: what Redis remembers of it, over restarts and takeovers."""

import pytest

from bridge.store.deliveries import Settlement
from bridge.store.embedded import EmbeddedRedis
from tests.integration.store_support import LEASE_MS, A, Bench, bench


async def attempt(store: Bench, settlement: Settlement, *, in_doubt: bool) -> bool:
    """Claims the lane and settles its head; returns what the claim said of earlier attempts."""
    claimed = (await store.claim())[A]
    await store.outbox.settle(claimed, settlement, wait_ms=10, reason="r", in_doubt=in_doubt)
    store.now += 10
    return claimed.in_doubt


@pytest.mark.parametrize("settlement", [Settlement.RETRY, Settlement.HOLD])
async def test_a_doubt_is_kept_until_it_is_taken_back(redis: EmbeddedRedis, settlement: Settlement) -> None:
    async with bench(redis.url) as store:
        await store.start()
        assert await attempt(store, settlement, in_doubt=False) is False
        assert await attempt(store, settlement, in_doubt=True) is False
        assert await attempt(store, settlement, in_doubt=True) is True
        assert await attempt(store, settlement, in_doubt=False) is True
        assert await attempt(store, settlement, in_doubt=False) is False


async def test_an_attempt_that_was_never_settled_is_in_doubt(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        assert (await store.claim())[A].in_doubt is False
        store.now += LEASE_MS
        again = (await store.claim())[A]
        assert (again.in_doubt, again.attempt) == (True, 2)
        await store.outbox.settle(again, Settlement.HOLD, in_doubt=again.in_doubt)
        assert (await store.claim())[A].in_doubt is True


async def test_the_bridge_that_starts_its_redis_again_knows_of_the_attempt_under_way(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.claim()
        await store.outbox.free_leases()
        freed = (await store.claim())[A]
        assert freed.in_doubt is True
        assert freed.epoch == (await store.leases())[str(A)]


async def test_a_lane_that_was_given_back_is_not_in_doubt(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.end()
        first = (await store.claim())[A]
        assert await store.outbox.settle(first, Settlement.DELIVERED, go_on=False) is None
        assert (await store.claim())[A].in_doubt is False


async def test_the_next_of_a_lane_has_a_doubt_of_its_own(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.end()
        await attempt(store, Settlement.RETRY, in_doubt=True)
        first = (await store.claim())[A]
        following = await store.outbox.settle(first, Settlement.DELIVERED, in_doubt=True)
        assert following is not None
        assert following.in_doubt is False


@pytest.mark.parametrize("in_doubt", [True, False])
async def test_what_is_parked_says_whether_it_was_in_doubt(redis: EmbeddedRedis, in_doubt: bool) -> None:
    async with bench(redis.url) as store:
        (effect,) = await store.start()
        await attempt(store, Settlement.PARKED, in_doubt=in_doubt)
        assert (await store.delivery(effect))["doubt"] == str(int(in_doubt))

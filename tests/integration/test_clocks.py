"""A Redis whose clock goes back, set right or another server's after a failover: no lane waits for the difference."""

from bridge.calls.events import Pair
from bridge.store.deliveries import Settlement
from bridge.store.embedded import EmbeddedRedis
from bridge.store.keys import shard_of
from tests.integration.store_support import LEASE_MS, A, B, bench

HOUR_MS = 3_600_000
C, D = Pair(3000, 3003), Pair(4000, 4004)


async def test_lanes_wait_no_longer_when_the_clock_has_gone_back(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(A, "c-1")
        await store.start(B, "c-2")
        claimed = await store.claim()
        await store.outbox.settle(claimed[A], Settlement.RETRY, wait_ms=20_000)
        await store.start(C, "c-3")
        store.now -= HOUR_MS
        assert set(await store.claim()) == {C}, "what was due is due, and the others are not"
        store.now += LEASE_MS
        assert set(await store.claim()) == {B, C}, "their leases have ended, and their workers may be gone"
        store.now += 20_000 - LEASE_MS - 1
        assert A not in await store.claim()
        store.now += 1
        assert A in await store.claim()


async def test_a_lease_of_the_new_time_is_left_alone(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.end()
        opening = (await store.claim())[A]
        store.now -= HOUR_MS
        end = await store.outbox.settle(opening, Settlement.DELIVERED)
        assert end is not None
        assert await store.claim() == {}, "it is being told"
        await store.outbox.settle(end, Settlement.DELIVERED)
        assert await store.lane() == []


async def test_a_clock_that_goes_ahead_and_back_again_holds_nothing_up(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(D, "c-4")
        assert set(await store.claim()) == {D}
        store.now += HOUR_MS
        held = (await store.claim())[D]
        await store.outbox.settle(held, Settlement.RETRY, wait_ms=LEASE_MS)
        store.now -= HOUR_MS
        assert await store.claim() == {}
        store.now += LEASE_MS
        assert set(await store.claim()) == {D}
        assert await store.claim() == {}


async def test_a_claim_that_finds_nothing_writes_once_a_lease_and_not_at_rest(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:

        async def writes() -> int:
            (told,) = (await store.connection.info("persistence")).values()
            return int(told["rdb_changes_since_last_save"])

        before = await writes()
        assert await store.claim() == {}
        assert await writes() == before
        await store.start()
        await store.outbox.settle((await store.claim())[A], Settlement.RETRY, wait_ms=HOUR_MS)
        before = await writes()
        for _ in range(LEASE_MS):
            store.now += 1
            await store.claim(1, [shard_of(A)])
        assert await writes() == before
        store.now += 1
        await store.claim(1, [shard_of(A)])
        assert await writes() == before + 1


async def test_how_long_something_has_waited_is_told_by_redis_whose_clock_put_it_there(redis: EmbeddedRedis) -> None:
    """The bridge's own may be an hour ahead, and would raise an alarm; or behind, and would raise none."""
    async with bench(redis.url) as store:
        store.now -= HOUR_MS
        await store.start()
        store.now += 500
        assert (await store.outbox.backlog()).oldest_ms == 500

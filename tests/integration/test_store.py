"""Commits on a real Redis: all of a decision or nothing, once, on the version it was made on; timers; what expires."""

import asyncio

import pytest

from bridge.calls.effects import EffectKind, handed_over
from bridge.calls.events import CallEvent, EventKind, Facts, Pair
from bridge.calls.state import CallState, InboundEnd, Policy
from bridge.pipeline import Pipeline
from bridge.store.calls import Commit
from bridge.store.deliveries import Settlement
from bridge.store.embedded import EmbeddedRedis
from bridge.store.keys import ACTIVE, ERRANDS, TIMERS, shard_of
from tests.fakes.logs import captured
from tests.integration.store_support import (
    AGE_MS,
    BEGIN_MS,
    GRACE_MS,
    INBOUND,
    OUTBOUND,
    A,
    B,
    Bench,
    bench,
    everything,
)


async def decided(store: Bench, event: CallEvent) -> Commit:
    """Load, decide, commit; what the commit said."""
    return await store.commit(event, await store.calls.load(event))


async def test_a_commit_writes_the_call_its_mark_its_timeline_and_its_delivery(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        (opening,) = await store.start()
        (read,) = await store.reads.pair(A)
        assert (read.call.state, read.call.started_at, read.errand_id) == (CallState.STARTED, BEGIN_MS, None)
        assert (await store.calls.load(store.event(EventKind.ENDED, event_id="e-1"))).seen
        history = await store.reads.history("c-1")
        assert history is not None
        (entry,) = history.timeline
        assert (entry["eventId"], entry["from"], entry["to"]) == ("e-1", "unseen", "started")
        assert entry["effects"] == [opening.effect_id]
        assert await store.lane() == [opening.effect_id]
        held = await store.delivery(opening)
        assert (held["state"], held["attempts"], held["created"]) == ("waiting", "0", str(BEGIN_MS))
        assert (await store.outbox.backlog()).waiting == 1


async def test_an_event_is_committed_once_whoever_loaded_it_before(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        event = store.event(EventKind.STARTED, facts=INBOUND)
        loaded = [await store.calls.load(event) for _ in range(2)]
        assert await store.commit(event, loaded[0]) is Commit.OK
        before = await everything(store.connection)
        assert await store.commit(event, loaded[1]) is Commit.DUPLICATE
        assert (await store.calls.load(event)).seen
        assert await everything(store.connection) == before


async def test_a_repetition_is_written_down_so_that_replicas_can_be_waited_for(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        event = store.event(EventKind.STARTED, facts=INBOUND)
        await store.take(event)
        mark = store.keys.seen(A, event.event_id)
        await store.raw("PEXPIRE", mark, 30_000)
        assert await decided(store, event) is Commit.DUPLICATE
        assert await store.raw("PTTL", mark) > 30_000


async def test_many_that_commit_one_event_at_once_commit_it_once(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as one, bench(redis.url) as other:
        event = one.event(EventKind.STARTED, facts=INBOUND)
        said = await asyncio.gather(*(decided(store, event) for store in [one, other] * 10))
        assert said.count(Commit.OK) == 1
        assert set(said) <= {Commit.OK, Commit.DUPLICATE, Commit.CONFLICT}
        assert len(await one.lane()) == 1


async def test_a_decision_on_an_old_version_writes_nothing(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        first = store.event(EventKind.STARTED, call_id="c-1", facts=INBOUND)
        second = store.event(EventKind.STARTED, call_id="c-2", facts=INBOUND)
        loaded = await store.calls.load(second)
        assert await decided(store, first) is Commit.OK
        before = await everything(store.connection)
        assert await store.commit(second, loaded) is Commit.CONFLICT
        assert await everything(store.connection) == before
        assert await decided(store, second) is Commit.OK


async def test_a_pair_that_looks_as_before_is_still_another_version(redis: EmbeddedRedis) -> None:
    """ABA: between load and commit, the pair's only call ended and nothing is left of it but the version."""
    async with bench(redis.url) as store:
        await store.start(call_id="c-0")
        await store.end(call_id="c-0")
        late = store.event(EventKind.STARTED, call_id="c-2", facts=INBOUND)
        loaded = await store.calls.load(late)
        assert loaded.calls == {}
        await store.start(call_id="c-1")
        await store.end(call_id="c-1")
        now = await store.calls.load(late)
        assert now.calls == loaded.calls
        assert now.version != loaded.version
        assert await store.commit(late, loaded) is Commit.CONFLICT


async def test_a_pair_without_calls_goes_and_one_with_a_call_stays(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        assert await store.raw("PTTL", store.keys.pair(A)) == -1
        await store.end()
        assert 0 < await store.raw("PTTL", store.keys.pair(A)) <= 3_600_000
        await store.start(call_id="c-2")
        assert await store.raw("PTTL", store.keys.pair(A)) == -1


async def test_what_is_over_is_bounded_by_age(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        (opening,) = await store.start()
        keep = store.retention
        (claimed,) = (await store.claim()).values()
        await store.outbox.settle(claimed, Settlement.DELIVERED, errand_id="511055")
        await store.end()
        expected = {
            store.keys.seen(A, "e-1"): keep.seen_ms,
            store.keys.ended(A, "c-1"): keep.ended_ms,
            store.keys.timeline(A, "c-1"): keep.ended_ms,
            store.keys.delivery(shard_of(A), opening.effect_id): keep.ended_ms,
            store.keys.index("c-1"): keep.age_ms + keep.ended_ms,
        }
        for key, life in expected.items():
            assert life - 30_000 < await store.raw("PTTL", key) <= life, key


async def test_a_timeline_keeps_the_newest_entries(redis: EmbeddedRedis) -> None:
    async with bench(redis.url, timeline_entries=3) as store:
        await store.start()
        for _ in range(5):
            await store.take(store.event(EventKind.UPDATED))
        history = await store.reads.history("c-1")
        assert history is not None
        assert [entry["eventId"] for entry in history.timeline] == ["e-4", "e-5", "e-6"]


# Timers


async def test_attempts_keep_a_timeline_in_bounds_too(redis: EmbeddedRedis) -> None:
    async with bench(redis.url, timeline_entries=3) as store:
        await store.start()
        for number in range(4):
            entry: dict[str, object] = {"delivery": number}
            await store.outbox.settle((await store.claim())[A], Settlement.RETRY, entry=entry)
        history = await store.reads.history("c-1")
        assert history is not None
        assert [entry["delivery"] for entry in history.timeline] == [1, 2, 3]


async def test_a_timeline_that_begins_anew_with_an_attempt_ends_too(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        timeline = store.keys.timeline(A, "c-1")
        await store.raw("DEL", timeline)  # Cention was away for longer than it lives
        await store.outbox.settle((await store.claim())[A], Settlement.DELIVERED, entry={"outcome": "delivered"})
        assert await store.raw("PTTL", timeline) > 0


async def test_a_live_call_expires_when_it_is_too_old_and_not_before(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        sweep = store.event(EventKind.EXPIRED, event_id="x")
        store.now += AGE_MS - 1
        await store.take(store.event(EventKind.UPDATED))  # an update gives no new life
        assert await store.calls.expired() == []
        assert await decided(store, sweep) is Commit.NOT_DUE
        assert len(await store.reads.pair(A)) == 1
        store.now += 1
        assert await store.calls.expired() == [(A, "c-1")]
        assert await decided(store, sweep) is Commit.OK
        assert await store.reads.pair(A) == []
        assert await store.calls.expired() == []
        assert await decided(store, sweep) is Commit.NOT_DUE, "another replica's sweep changes nothing"
        assert len(await store.lane()) == 2


async def test_an_orphan_expires_after_its_grace_and_not_if_its_start_comes(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.end(A, "c-1", OUTBOUND)
        await store.end(B, "c-2", OUTBOUND)
        store.now += GRACE_MS - 1
        assert await store.calls.expired() == []
        await store.start(B, "c-2", OUTBOUND)
        store.now += 1
        assert await store.calls.expired() == [(A, "c-1")]
        (effect,) = await store.take(store.event(EventKind.EXPIRED))
        assert (effect.kind, effect.reason) == (EffectKind.END_OUTBOUND_CALL, "orphan")


async def test_a_call_is_swept_and_counted_by_one_replica(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as one, bench(redis.url) as other:
        for number in range(3):
            await one.start(Pair(1, number), f"c-{number}")
        one.now = other.now = BEGIN_MS + AGE_MS
        replicas = [Pipeline(store.calls, store.outbox, store.policy, lambda _: None) for store in (one, other)]
        with captured():
            swept = await asyncio.gather(*(replica.expire_due() for replica in replicas))
        assert sum(swept) == 3
        assert await one.reads.active_count() == 0
        assert [await replica.expire_due() for replica in replicas] == [0, 0]


async def test_a_call_that_ended_has_no_timer_and_is_not_active(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.end()
        for name in (TIMERS, ACTIVE):
            assert await store.raw("ZCARD", store.keys.of_shard(shard_of(A), name)) == 0
        store.now += 100 * AGE_MS
        assert await store.calls.expired() == []


# Errand ids


async def deliver(store: Bench, pair: Pair = A, *, errand_id: str | None = None) -> EffectKind:
    """Delivers the head of the pair's lane."""
    claimed = (await store.claim())[pair]
    await store.outbox.settle(claimed, Settlement.DELIVERED, errand_id=errand_id, go_on=False)
    return claimed.effect.kind


async def test_an_errands_id_is_kept_with_the_active_call_and_goes_with_it(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        assert await store.outbox.errand_id(A, "c-1") is None
        await deliver(store, errand_id="511055")
        assert await store.outbox.errand_id(A, "c-1") == "511055"
        assert [read.errand_id for read in await store.reads.pair(A)] == ["511055"]
        await store.end()
        assert await store.outbox.errand_id(A, "c-1") == "511055"
        assert await store.raw("HLEN", store.keys.of_shard(shard_of(A), ERRANDS)) == 0, "of active calls"
        history = await store.reads.history("c-1")
        assert history is not None
        assert history.legs[0].errand_id == "511055"


async def test_an_errands_id_reaches_a_call_that_has_ended(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.end()
        await deliver(store, errand_id="511055")
        assert await store.outbox.errand_id(A, "c-1") == "511055"
        await store.take(store.event(EventKind.UPDATED, facts=Facts(link="https://rec.example/1")))
        assert await store.outbox.errand_id(A, "c-1") == "511055", "a late event does not lose it"


async def test_an_errands_id_makes_no_call_of_one_that_is_forgotten(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.end()
        await store.raw("DEL", store.keys.ended(A, "c-1"))
        await deliver(store, errand_id="511055")
        assert await store.raw("EXISTS", store.keys.ended(A, "c-1")) == 0
        assert await store.outbox.errand_id(A, "c-1") is None


async def test_a_call_that_comes_back_can_still_close_its_first_errand(redis: EmbeddedRedis) -> None:
    """Cention is slow: the call is passed on and back again before the first errand's close could be sent."""
    async with bench(redis.url, policy=Policy(inbound_end=InboundEnd.CLOSE_ERRAND)) as store:
        await store.start()
        await deliver(store, errand_id="511055")
        await store.open_at_new_agent(await store.transfer(A, to=B))
        await store.open_at_new_agent(await store.transfer(B, to=A))
        head = (await store.claim())[A]
        assert head.effect.kind is EffectKind.CLOSE_ERRAND
        assert await store.outbox.errand_id(A, "c-1") == "511055"
        assert await store.raw("EXISTS", store.keys.ended(A, "c-1")) == 0, "it is live, and not over as well"


# What comes again after it was forgotten


async def test_a_call_at_its_third_agent_is_found_as_long_as_it_is_known(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.open_at_new_agent(await store.transfer(A, to=B))
        await store.raw("PEXPIRE", store.keys.index("c-1"), 1000)  # as when it began long ago
        back = await store.transfer(B, to=A)
        await store.take(handed_over(back))
        life = store.retention.age_ms + store.retention.ended_ms
        assert await store.raw("PTTL", store.keys.index("c-1")) > life - 30_000


async def test_a_pbx_that_counts_its_calls_anew_finds_nothing_of_the_old_ones(redis: EmbeddedRedis) -> None:
    """A call id comes again after the first call of that name was forgotten, but not yet its delivery."""
    async with bench(redis.url, delivered_per_shard=1) as store:
        for settlement in (Settlement.DELIVERED, Settlement.PARKED):
            (opening,) = await store.start(call_id="1")
            key = store.keys.delivery(shard_of(A), opening.effect_id)
            await store.outbox.settle((await store.claim())[A], settlement, reason="of old", go_on=False)
            await store.end(call_id="1")
            await deliver(store)
            await store.raw("DEL", store.keys.ended(A, "1"))
        (again,) = await store.start(call_id="1")
        assert again.effect_id == opening.effect_id
        held = await store.delivery(again)
        assert (held["state"], held["attempts"], held.get("reason")) == ("waiting", "0", None)
        assert await store.raw("PTTL", key) == -1, "what waits does not expire"
        backlog = await store.outbox.backlog()
        assert (backlog.waiting, backlog.parked) == (1, 0)
        # Another's delivery must not push it out as one that was delivered long ago.
        other = next(Pair(1, number) for number in range(1000) if shard_of(Pair(1, number)) == shard_of(A))
        await store.start(other, "c-9")
        claimed = await store.claim()
        await store.outbox.settle(claimed[other], Settlement.DELIVERED)
        assert claimed[A].effect == again
        assert (await store.delivery(again))["state"] == "waiting"


async def test_a_delivery_whose_id_came_before_is_not_trimmed_as_the_old_one(redis: EmbeddedRedis) -> None:
    """All of the first call of that name is over its time; only the list of what was delivered still has it."""
    async with bench(redis.url, delivered_per_shard=1) as store:
        (opening,) = await store.start(call_id="1")
        await deliver(store)
        await store.end(call_id="1")
        await deliver(store)
        await store.raw("DEL", store.keys.ended(A, "1"))
        await store.raw("DEL", store.keys.delivery(shard_of(A), opening.effect_id))
        store.now += store.retention.ended_ms
        (again,) = await store.start(call_id="1")
        assert again.effect_id == opening.effect_id
        others = [pair for number in range(100) if shard_of(pair := Pair(1, number)) == shard_of(A)][:3]
        for other in others:
            await store.start(other, "c-9")
        for delivery in (await store.claim()).values():
            if delivery.effect.pair in others:
                await store.outbox.settle(delivery, Settlement.DELIVERED)
        assert (await store.delivery(again))["state"] == "waiting"


@pytest.mark.parametrize("call_id", ["a:b:c", "{7}", "x y/ü%*?[", "1:2"])
async def test_a_calls_id_may_be_anything(redis: EmbeddedRedis, call_id: str) -> None:
    async with bench(redis.url) as store:
        await store.start(call_id=call_id)
        await store.start(call_id="other")
        store.now += AGE_MS
        assert (A, call_id) in await store.calls.expired()
        found, _ = await store.reads.active(lambda _: True, 10)
        assert {read.call.call_id for read in found} == {call_id, "other"}
        await store.end(call_id=call_id)
        assert [read.call.call_id for read in await store.reads.pair(A)] == ["other"]
        history = await store.reads.history(call_id)
        assert history is not None
        assert history.legs[0].call.state is CallState.ENDED

"""Lanes on a real Redis: order, leases, what is put back, what is parked, and hand-overs that nothing overtakes."""

from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from redis.exceptions import ResponseError

from bridge import app
from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import EventKind, Facts, Pair
from bridge.calls.state import CallState
from bridge.pipeline import Pipeline
from bridge.runtime.clock import monotonic
from bridge.store.deliveries import Delivery, Settlement
from bridge.store.embedded import EmbeddedRedis
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import DELIVERED, LANES, PARKED, WAITING, shard_of
from bridge.store.outbox import HAND_OVER_WAIT_MS
from tests.e2e.support import ended, eventually, inbound, post, settings, told
from tests.fakes.logs import captured
from tests.integration.store_support import BEGIN_MS, LEASE_MS, A, B, Bench, bench, proxy

C = Pair(3000, 3003)
KINDS = EffectKind


async def delivered(store: Bench, delivery: Delivery | None, *, go_on: bool = True) -> Delivery | None:
    assert delivery is not None
    return await store.outbox.settle(delivery, Settlement.DELIVERED, go_on=go_on)


async def worked_off(store: Bench, pair: Pair) -> list[EffectKind]:
    """Delivers everything of the pair's lane that is handed out, under one lease."""
    kinds = []
    delivery = (await store.claim()).get(pair)
    while delivery is not None:
        kinds.append(delivery.effect.kind)
        delivery = await delivered(store, delivery)
    return kinds


# Hand-overs


async def test_nothing_of_the_new_agent_leaves_before_the_old_ones_hand_over(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(A)
        hand_over = await store.transfer(A, to=B)
        await store.open_at_new_agent(hand_over)
        await store.start(B, "c-2")  # behind the opening, and of another call: it waits too, for the order
        await store.end(B, "c-1")
        assert len(await store.lane(B)) == 3

        claimed = await store.claim()
        assert set(claimed) == {A}
        following = await delivered(store, claimed[A])
        assert following is not None
        assert following.effect.kind is KINDS.END_SESSION
        assert await store.claim() == {}
        following = await delivered(store, following)
        assert following is not None
        assert following.effect.kind is KINDS.HAND_OVER
        store.now += HAND_OVER_WAIT_MS - LEASE_MS  # looked at again, and still waiting
        assert B not in await store.claim()
        store.now += HAND_OVER_WAIT_MS
        assert B not in await store.claim()

        await store.outbox.release(hand_over)
        assert await store.due(B) == store.now
        assert await worked_off(store, B) == [KINDS.OPEN_ERRAND, KINDS.OPEN_ERRAND, KINDS.END_SESSION]


async def test_a_lane_that_is_under_way_stops_before_an_opening_that_waits(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(B, "c-0")
        await store.start(A)
        hand_over = await store.transfer(A, to=B)
        await store.open_at_new_agent(hand_over)
        claimed = await store.claim()
        assert claimed[B].effect.call_id == "c-0"
        assert await delivered(store, claimed[B]) is None, "the opening is not handed out"
        assert str(B) not in await store.leases()
        assert B not in await store.claim()
        await store.outbox.release(hand_over)
        assert (await store.claim())[B].effect.after == hand_over.effect_id


async def test_a_lane_that_is_released_while_under_way_goes_on(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(B, "c-0")
        await store.start(A)
        hand_over = await store.transfer(A, to=B)
        await store.open_at_new_agent(hand_over)
        claimed = await store.claim()
        await store.outbox.release(hand_over)
        assert await store.due(B) == store.now + LEASE_MS, "a lease is left alone"
        following = await delivered(store, claimed[B])
        assert following is not None
        assert following.effect.kind is KINDS.OPEN_ERRAND
        assert following.effect.call_id == "c-1"


async def test_a_release_frees_what_waits_for_that_hand_over_alone(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        handed = []
        for pair, call_id in ((A, "c-1"), (C, "c-3")):
            await store.start(pair, call_id)
            handed.append(await store.transfer(pair, call_id, to=B))
            await store.open_at_new_agent(handed[-1])
        await store.outbox.release(handed[1])
        assert B not in await store.claim(), "the lane's head waits for the other"
        await store.outbox.release(handed[0])
        store.now += 1
        assert await worked_off(store, B) == [KINDS.OPEN_ERRAND, KINDS.OPEN_ERRAND]


async def test_a_crash_between_a_transfers_commits_opens_the_call_once(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(A)
        hand_over = await store.transfer(A, to=B)  # and here the process dies
        assert await store.lane(B) == []
        store.now += LEASE_MS

        woken: list[int] = []
        after_restart = Pipeline(store.calls, store.outbox, store.policy, woken.append)
        assert await worked_off(store, A) == [KINDS.OPEN_ERRAND, KINDS.END_SESSION, KINDS.HAND_OVER]
        for _ in range(2):  # once more: the settle of the first was lost
            await after_restart.hand_over(hand_over)
        (read,) = await store.reads.pair(B)
        assert (read.call.state, read.call.started_at) == (CallState.STARTED, BEGIN_MS)
        assert woken[-1] == shard_of(B)
        assert await worked_off(store, B) == [KINDS.OPEN_ERRAND]


async def test_a_crash_before_the_release_holds_nothing_up_for_good(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(A)
        hand_over = await store.transfer(A, to=B)
        await store.open_at_new_agent(hand_over)
        await Pipeline(store.calls, store.outbox, store.policy, lambda _: None).hand_over(hand_over)
        assert await worked_off(store, B) == [KINDS.OPEN_ERRAND]


# Leases


@pytest.mark.parametrize("settlement", Settlement)
async def test_a_worker_that_lost_its_lease_settles_nothing(redis: EmbeddedRedis, settlement: Settlement) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.end()
        first = (await store.claim())[A]
        assert await store.claim() == {}, "leased to one at a time"
        store.now += LEASE_MS
        second = (await store.claim())[A]
        assert second == replace(first, epoch=second.epoch, attempt=2, in_doubt=True)
        assert second.epoch != first.epoch

        before = (await store.lane(), await store.delivery(first.effect), await store.due(), await store.leases())
        stale = await store.outbox.settle(first, settlement, wait_ms=1, errand_id="1", entry={"delivery": "x"})
        assert stale is None
        assert before == (
            await store.lane(),
            await store.delivery(first.effect),
            await store.due(),
            await store.leases(),
        )
        assert await store.outbox.errand_id(A, "c-1") is None
        history = await store.reads.history("c-1")
        assert history is not None
        assert not any("delivery" in entry for entry in history.timeline)

        following = await delivered(store, second)
        assert following is not None
        assert following.effect.kind is KINDS.END_SESSION
        held = await store.delivery(second.effect)
        assert await store.outbox.settle(second, settlement) == following, "asked again, since the answer was lost"
        assert await store.delivery(second.effect) == held, "what was settled is not settled again"
        assert await store.lane() == [following.effect.effect_id]


async def test_a_settle_after_the_lease_ended_counts_while_nobody_has_the_lane(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        late = (await store.claim())[A]
        store.now += 10 * LEASE_MS
        assert await delivered(store, late) is None
        assert await store.lane() == []
        assert await store.claim() == {}


async def test_an_embedded_redis_frees_the_lanes_of_a_bridge_that_was_killed(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(A)
        held = (await store.claim())[A]
        await store.start(B, "c-2")
        await store.outbox.settle((await store.claim())[B], Settlement.RETRY, wait_ms=9_000)
        await store.start(C, "c-3")
        await store.outbox.free_leases()
        again = await store.claim()
        assert set(again) == {A, C}, "what was put back waits on"
        assert again[A] == replace(held, epoch=again[A].epoch, attempt=2, in_doubt=True)
        assert not again[C].in_doubt
        assert await store.outbox.settle(held, Settlement.DELIVERED) is None


async def test_a_claim_takes_what_is_due_longest_and_no_more_than_asked(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        shard = shard_of(A)
        same = [pair for number in range(200) if shard_of(pair := Pair(1, number)) == shard][:4]
        for number, pair in enumerate(same):
            await store.start(pair, f"c-{number}")
            store.now += 1
        assert list(await store.claim(3, [shard])) == same[:3]
        assert list(await store.claim(3, [shard])) == same[3:]
        assert await store.claim(3, []) == {}


# What is put back, parked, delivered


async def test_a_retry_keeps_its_place_its_due_time_and_its_attempts(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        (opening,) = await store.start()
        first = (await store.claim())[A]
        assert (first.attempt, first.created_at) == (1, BEGIN_MS)
        entry: dict[str, object] = {"delivery": opening.effect_id, "outcome": "try_later"}
        assert await store.outbox.settle(first, Settlement.RETRY, wait_ms=500, reason="busy", entry=entry) is None
        held = await store.delivery(opening)
        assert (held["reason"], held["attempts"]) == ("busy", "1")
        await store.end()  # what is added to the lane does not make it due
        assert await store.due() == BEGIN_MS + 500
        store.now += 499
        assert await store.claim() == {}
    async with bench(redis.url) as after_restart:
        after_restart.now += 500
        second = (await after_restart.claim())[A]
        assert (second.effect, second.attempt, second.created_at) == (opening, 2, BEGIN_MS)
        assert second.epoch != first.epoch
        history = await after_restart.reads.history("c-1")
        assert history is not None
        assert [e["outcome"] for e in history.timeline if "delivery" in e] == ["try_later"]


async def test_a_hold_counts_no_attempt(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        for _ in range(3):
            held = (await store.claim())[A]
            assert held.attempt == 1
            await store.outbox.settle(held, Settlement.HOLD, wait_ms=10)
            store.now += 10


async def test_a_parked_head_lets_its_lane_go_on(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        (opening,) = await store.start()
        await store.end()
        claimed = (await store.claim())[A]
        following = await store.outbox.settle(claimed, Settlement.PARKED, reason="Not Acceptable: destNumber")
        assert following is not None
        assert (following.effect.kind, following.attempt) == (KINDS.END_SESSION, 1)
        held = await store.delivery(opening)
        assert (held["state"], held["reason"]) == ("parked", "Not Acceptable: destNumber")
        assert await store.raw("PTTL", store.keys.delivery(shard_of(A), opening.effect_id)) == -1
        assert await delivered(store, following) is None
        backlog = await store.outbox.backlog()
        assert (backlog.waiting, backlog.parked, backlog.oldest_ms) == (0, 1, 0)


async def test_a_lane_that_is_given_back_is_due_at_once(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await store.end()
        assert await delivered(store, (await store.claim())[A], go_on=False) is None
        assert await store.leases() == {}
        assert (await store.claim())[A].effect.kind is KINDS.END_SESSION


async def test_delivered_ones_are_bounded_by_count(redis: EmbeddedRedis) -> None:
    async with bench(redis.url, delivered_per_shard=3) as store:
        effects: list[Effect] = []
        for number in range(6):
            effects += await store.start(A, f"c-{number}")
            await delivered(store, (await store.claim())[A])
            store.now += 1
        kept = await store.raw("ZRANGE", store.keys.of_shard(shard_of(A), DELIVERED), 0, -1)
        assert kept == [effect.effect_id for effect in effects[3:]]
        assert [(await store.delivery(effect)).get("state") for effect in effects] == [None] * 3 + ["delivered"] * 3


async def test_delivered_ones_go_an_eighth_at_a_time(redis: EmbeddedRedis) -> None:
    async with bench(redis.url, delivered_per_shard=8) as store:
        kept = []
        for number in range(11):
            await store.start(A, f"c-{number}")
            await delivered(store, (await store.claim())[A])
            kept.append(await store.raw("ZCARD", store.keys.of_shard(shard_of(A), DELIVERED)))
        assert kept == [1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 9]


async def test_an_empty_outbox_leaves_no_lane(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        await worked_off(store, A)
        for name in (LANES, WAITING, PARKED):
            assert await store.raw("EXISTS", store.keys.of_shard(shard_of(A), name)) == 0
        assert await store.leases() == {}


async def test_the_backlog_is_counted_over_all_shards(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        empty = await store.outbox.backlog()
        assert (empty.waiting, empty.parked, empty.oldest_ms) == (0, 0, 0)
        pairs = [Pair(1, number) for number in range(20)]
        assert len({shard_of(pair) for pair in pairs}) > 3
        for pair in pairs:
            await store.start(pair, f"c-{pair}")
            store.now += 10
        claimed = await store.claim()
        await store.outbox.settle(claimed[pairs[0]], Settlement.PARKED, reason="no")
        await delivered(store, claimed[pairs[1]])
        backlog = await store.outbox.backlog()
        assert (backlog.waiting, backlog.parked, backlog.oldest_ms) == (18, 1, store.now - BEGIN_MS - 20)


async def test_a_delivery_that_cannot_be_read_holds_up_its_own_lane_alone(redis: EmbeddedRedis) -> None:
    """Written by a newer version during a rolling update: the newer replica will read it, so it is not parked."""
    async with bench(redis.url) as store:
        shard = shard_of(A)
        other = next(pair for number in range(200) if shard_of(pair := Pair(1, number)) == shard)
        (opening,) = await store.start(A)
        await store.start(other, "c-2")
        key = store.keys.delivery(shard, opening.effect_id)
        readable = await store.raw("HGET", key, "effect")
        await store.raw("HSET", key, "effect", '{"kind": "sing"}')
        with captured() as lines:
            assert set(await store.claim()) == {other}
        assert opening.effect_id in lines.text
        await store.raw("HSET", key, "effect", readable)
        store.now += LEASE_MS
        assert A in await store.claim()


async def test_an_unreadable_one_behind_the_head_does_not_undo_the_heads_settle(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        (end,) = await store.take(store.event(EventKind.ENDED, facts=Facts()))
        await store.raw("HSET", store.keys.delivery(shard_of(A), end.effect_id), "effect", "")
        with captured():
            assert await delivered(store, (await store.claim())[A]) is None
        assert await store.lane() == [end.effect_id]
        assert str(A) in await store.leases(), "it comes up again when this lease ends"


# A proxy before Redis, and words that Redis does not have


async def test_an_outcome_is_written_down_again_where_a_proxy_answered(redis: EmbeddedRedis) -> None:
    async with proxy(redis.socket_path) as between, bench(between.url) as store:
        await store.start()
        claimed = (await store.claim())[A]
        between.instead = b"-ERR upstream failure\r\n"
        with pytest.raises(StoreUnavailable, match="upstream failure"):
            await delivered(store, replace(claimed, leased_at=monotonic() + 3600))
        with pytest.raises(RuntimeError, match="upstream failure"):  # others may have the lane by now
            await delivered(store, replace(claimed, leased_at=monotonic() - 3600))
        between.instead = b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await delivered(store, replace(claimed, leased_at=monotonic() + 3600))
        between.instead = b""
        await delivered(store, claimed)
        assert await store.lane() == []


async def test_a_proxys_refusal_makes_no_second_request(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with (
        proxy(redis.socket_path) as between,
        app.running(settings(tmp_path, between.url), sandbox_port=0) as service,
        aiohttp.ClientSession() as http,
    ):
        sandbox = service.sandbox
        assert sandbox is not None
        sandbox.set_faults([{"delay_s": 0.2, "times": 1}])
        assert await post(http, service.intake_url, inbound("c-1", A)) == 202
        await eventually(lambda: sandbox.faults[0]["hits"] == 1, "the attempt")
        with captured() as lines:
            between.instead = b"-ERR upstream failure\r\n"
            await eventually(lambda: "cannot settle yet" in lines.text, "an outcome that cannot be written down")
            between.instead = b""
        assert await post(http, service.intake_url, ended("c-1", A)) == 202
        await eventually(lambda: len(told(sandbox)) >= 2, "the end")
        assert told(sandbox) == ["1000/1001 open c-1", "1000/1001 end-session c-1"]

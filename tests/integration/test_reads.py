"""What the admin side reads on a real Redis: pages of active calls, a call's history, and the refused events."""

from collections.abc import Callable

import pytest

from bridge.calls.effects import handed_over
from bridge.calls.events import Direction, EventKind, Pair
from bridge.calls.state import Call, CallState
from bridge.calls.verdicts import Fault, Rejection
from bridge.runtime.clock import now_ms
from bridge.store.deliveries import Settlement
from bridge.store.embedded import EmbeddedRedis
from bridge.store.keys import ACTIVE, shard_of
from bridge.store.reads import Position
from bridge.store.rejections import RejectionStore
from tests.integration.store_support import BEGIN_MS, INBOUND, OUTBOUND, A, B, Bench, bench


def everyone(_call: Call) -> bool:
    return True


async def pages(store: Bench, limit: int, wanted: Callable[[Call], bool] = everyone) -> list[list[str]]:
    """The call ids of every page."""
    found: list[list[str]] = []
    after: Position | None = None
    while True:
        reads, after = await store.reads.active(wanted, limit, after)
        found.append([read.call.call_id for read in reads])
        assert len(reads) <= limit
        if after is None:
            return found
        assert len(reads) == limit, "only the last page may be short"


def flat(found: list[list[str]]) -> list[str]:
    return [call_id for page in found for call_id in page]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_hold_every_call_once_newest_first(redis: EmbeddedRedis, limit: int) -> None:
    async with bench(redis.url) as store:
        started: list[tuple[int, str, str]] = []
        for number in range(12):
            # Five in the same millisecond, on the same pair and on others; then one a millisecond.
            pair = Pair(number % 3, number % 2)
            call_id = f"c-{number:02}"
            await store.start(pair, call_id)
            started.append((store.now, f"{pair}:{call_id}", call_id))
            store.now += int(number >= 5)
        expected = [call_id for _, _, call_id in sorted(started, reverse=True)]
        assert flat(await pages(store, limit)) == expected
        assert await store.reads.active_count() == 12


async def test_many_calls_of_one_millisecond_in_one_shard_are_paged_too(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        for number in range(250):  # more than are looked at in one go
            await store.start(A, f"c-{number:03}")
        found = flat(await pages(store, 40))
        assert found == [f"c-{number:03}" for number in reversed(range(250))]


async def test_a_page_goes_on_where_the_last_one_ended_whatever_came_and_went(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        for number in range(6):
            await store.start(Pair(1, number), f"c-{number}")
            store.now += 1
        first, after = await store.reads.active(everyone, 2)
        assert [read.call.call_id for read in first] == ["c-5", "c-4"]
        await store.start(Pair(1, 9), "newer")
        await store.end(Pair(1, 4), "c-4")  # the cursor's own call
        await store.end(Pair(1, 3), "c-3")
        second, after = await store.reads.active(everyone, 2, after)
        assert [read.call.call_id for read in second] == ["c-2", "c-1"]
        third, after = await store.reads.active(everyone, 2, after)
        assert ([read.call.call_id for read in third], after) == (["c-0"], None)


async def test_a_filter_looks_beyond_the_first_page(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        for number in range(250):
            await store.start(Pair(1, number), f"c-{number}", OUTBOUND if number % 100 == 0 else INBOUND)
            store.now += 1
        outbound = await pages(store, 2, lambda call: call.facts.direction is Direction.OUTBOUND)
        assert outbound == [["c-200", "c-100"], ["c-0"]]
        assert await pages(store, 2, lambda call: False) == [[]]


async def test_a_call_that_ends_between_the_two_reads_of_a_page_is_left_out(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(A, "c-1")
        await store.start(B, "c-2")
        await store.raw("SET", store.keys.pair(A), "without-calls")  # listed, and not there any more
        assert flat(await pages(store, 10)) == ["c-2"]


async def test_what_waits_for_its_start_is_not_active(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.take(store.event(EventKind.ANSWERED, A, "expected"))
        await store.end(A, "orphan")
        assert await pages(store, 10) == [[]]
        assert await store.reads.pair(A) == []
        history = await store.reads.history("orphan")
        assert history is not None
        assert history.legs[0].call.state is CallState.ORPHANED


async def test_a_pairs_calls_come_newest_first(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        for call_id in ("c-1", "c-3", "c-2"):
            await store.start(A, call_id)
        store.now += 1
        await store.start(A, "c-0")
        assert [read.call.call_id for read in await store.reads.pair(A)] == ["c-0", "c-3", "c-2", "c-1"]
        assert await store.reads.pair(B) == []


async def test_a_history_spans_every_pair_that_the_call_was_at(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(A)
        claimed = (await store.claim())[A]
        entry: dict[str, object] = {"delivery": claimed.effect.effect_id, "attempt": 1}
        await store.outbox.settle(claimed, Settlement.DELIVERED, errand_id="1", entry=entry, go_on=False)
        store.now += 1000
        hand_over = await store.transfer(A, to=B)
        await store.take(handed_over(hand_over))
        store.now += 1000
        await store.start(A, "other")

        history = await store.reads.history("c-1")
        assert history is not None
        assert [(leg.call.pair, leg.call.state, leg.errand_id) for leg in history.legs] == [
            (B, CallState.STARTED, None),
            (A, CallState.ENDED, "1"),
        ]
        assert history.legs[0].call.started_at == BEGIN_MS + 1000
        told = [(entry["pair"], entry.get("type", "attempt")) for entry in history.timeline]
        assert sorted(told[:3]) == [
            (str(A), "attempt"),
            (str(A), "call.started"),
            (str(A), "call.transferred"),
        ]
        assert told[-1] == (str(B), "bridge.handed_over")
        times = [entry["at"] for entry in history.timeline]
        assert times == sorted(times)
        assert await store.reads.history("nobody") is None


async def test_a_call_whose_first_leg_is_forgotten_still_has_its_second(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(A)
        await store.take(handed_over(await store.transfer(A, to=B)))
        await store.raw("DEL", store.keys.ended(A, "c-1"))
        history = await store.reads.history("c-1")
        assert history is not None
        assert [leg.call.pair for leg in history.legs] == [B]
        assert {entry["pair"] for entry in history.timeline} == {str(B)}
        await store.end(B)
        await store.raw("DEL", store.keys.ended(B, "c-1"))
        assert await store.reads.history("c-1") is None


async def test_a_call_that_is_moved_to_an_earlier_start_stays_listed_once(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.take(store.event(EventKind.UPDATED, facts=INBOUND))
        await store.start(occurred_at=BEGIN_MS - 5000)
        ((read,), _) = await store.reads.active(everyone, 10)
        assert read.call.started_at == BEGIN_MS - 5000
        key = store.keys.of_shard(shard_of(A), ACTIVE)
        assert await store.raw("ZSCORE", key, f"{A}:c-1") == BEGIN_MS - 5000


# Refused events


def refused(number: int) -> Rejection:
    fault = Fault("/calledNumber", "not_a_number", "This is no number.")
    return Rejection(f"e-{number}", "invalid_event", "It cannot be used.", (fault,), '{"eventId": "ü"}')


def rejections(store: Bench, *, count_max: int = 1000, age_s_max: int = 3600) -> RejectionStore:
    return RejectionStore(store.connection, store.keys, count_max=count_max, age_s_max=age_s_max)


async def test_a_rejection_comes_back_with_its_reasons_newest_first(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        kept = rejections(store)
        assert await kept.newest(10) == []
        await kept.keep([])
        await kept.keep([refused(1), refused(2)])
        await kept.keep([Rejection(None, "unreadable_json", "The body is not JSON.")])
        newest, second, first = await kept.newest(10)
        assert (newest["event_id"], newest["code"], newest["faults"], newest["body"]) == (
            None,
            "unreadable_json",
            [],
            None,
        )
        assert (second["event_id"], first["event_id"]) == ("e-2", "e-1")
        assert first["faults"] == [{"pointer": "/calledNumber", "code": "not_a_number", "detail": "This is no number."}]
        assert first["body"] == '{"eventId": "ü"}'
        assert first["at"].endswith("Z")
        assert [each["event_id"] for each in await kept.newest(2)] == [None, "e-2"]
        assert [each["event_id"] for each in await kept.newest(2, second["id"])] == ["e-1"]
        assert await kept.newest(2, first["id"]) == []


async def test_rejections_are_bounded_by_count(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        kept = rejections(store, count_max=50)
        await kept.keep([refused(number) for number in range(1000)])
        # Redis drops whole blocks of 100 and not one by one: the bound is that much loose.
        assert 50 <= await store.raw("XLEN", store.keys.rejections()) <= 150
        assert (await kept.newest(1))[0]["event_id"] == "e-999"


async def test_rejections_are_bounded_by_age(redis: EmbeddedRedis) -> None:
    """They hold what came, numbers and names too: none may outstay its time because no other has come."""
    async with bench(redis.url) as store:
        kept, key = rejections(store, age_s_max=60), store.keys.rejections()
        for age_s in (61, 59):
            await store.raw("XADD", key, f"{now_ms() - age_s * 1000}-0", "rejection", '{"event_id": "old"}')
        assert len(await kept.newest(10)) == 1
        await kept.keep([refused(1)])
        assert [each["event_id"] for each in await kept.newest(10)] == ["e-1", "old"]
        assert await store.raw("XLEN", key) == 2
        assert 0 < await store.raw("PTTL", key) <= 60_000, "the last one goes with its key"

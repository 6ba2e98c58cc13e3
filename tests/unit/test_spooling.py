"""Between Redis and the spool: who goes where, in which order, and what follows a failure."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.calls.events import Pair
from bridge.calls.verdicts import Fault, Rejection
from bridge.intake.spool import Record
from bridge.store.errors import StoreUnavailable
from tests.fakes.intake import until
from tests.unit.spooling_support import ACCEPTED, DUPLICATE, SPOOLED, A, B, Bench, C, bench, event


async def test_while_the_store_answers_nothing_is_spooled(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.start()
        assert await b.accept(event("1"), event("2")) == [ACCEPTED, ACCEPTED]
        assert await b.accept(event("1")) == [DUPLICATE]
        await b.between.reject([Rejection("3", "bad", "It is bad.")])
        assert (b.spooled, list(b.directory.iterdir()), b.store.probes) == (0, [], 0)
        assert len(b.store.rejections) == 1


async def test_what_was_spooled_is_committed_whole_in_order_and_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.store.up = False
        told = [event(str(number), Pair(number % 3, 0)) for number in range(500)]
        assert await b.accept(*told[:300]) == [SPOOLED] * 300
        for each in told[300:]:
            assert await b.accept(each) == [SPOOLED]
        assert b.store.asked == [[each.event_id for each in told[:300]]], "after the first failure nobody asks"
        b.store.up = True
        b.start()
        await b.empty()
        assert b.store.ids == [each.event_id for each in told]
        assert [each._replace(notes=()) for each in b.store.events] == told
        assert b.store.events[0].notes[0].endswith(" s in the spool, since Redis was away")
        assert b.spooled == 500
        assert await b.accept(event("new")) == [ACCEPTED]


async def test_a_lost_answer_is_no_second_commit(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.store.answers = False
        assert await b.accept(event("1"), event("2")) == [SPOOLED, SPOOLED]
        b.store.answers = True
        b.start()
        await b.empty()
        assert b.store.ids == ["1", "2"]


async def test_newer_events_wait_behind_those_of_their_pair_and_others_do_not(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.lose(event("a1", A), event("a2", A))
        b.store.slow = {"a2"}
        b.start()
        await until(lambda: b.store.ids == ["a1"])  # the store is back, and takes its time over what waits
        assert await b.accept(event("a3", A)) == [SPOOLED]
        assert (b.between.holds(A), b.between.holds(B)) == (True, False)
        assert await b.accept(event("b1", B)) == [ACCEPTED]
        assert await b.accept(event("b2", B), event("a4", A), event("b3", B)) == [ACCEPTED, SPOOLED, ACCEPTED]
        assert b.store.ids == ["a1", "b1", "b2", "b3"]
        b.store.slow = set()
        await b.empty()
        assert b.store.ids == ["a1", "b1", "b2", "b3", "a2", "a3", "a4"]
        assert await b.accept(event("a5", A)) == [ACCEPTED]


async def test_a_transfer_waits_for_both_pairs_and_both_wait_for_it(tmp_path: Path) -> None:
    async with bench(tmp_path, event("a-to-b", A, to=B)) as b:
        assert await b.accept(event("b1", B), event("c1", C)) == [SPOOLED, ACCEPTED], "the call is handed to B first"
        assert await b.accept(event("c-to-a", C, to=A), event("c2", C)) == [SPOOLED, SPOOLED]
        assert await b.accept(event("c3", C)) == [SPOOLED]
        b.start()
        await b.empty()
        assert b.store.ids == ["c1", "a-to-b", "b1", "c-to-a", "c2", "c3"]


async def test_one_failure_frees_all_who_wait_for_a_store_that_hangs(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.start()
        b.store.moving.clear()
        hanging = [asyncio.create_task(b.accept(event(f"h{number}"))) for number in range(5)]
        refused = asyncio.create_task(b.between.reject([Rejection("r", "bad", "It is bad.")]))
        await until(lambda: len(b.store.asked) == 5)
        b.store.failing = {"the first to run into its time limit"}
        assert await b.accept(event("the first to run into its time limit")) == [SPOOLED]
        assert await asyncio.gather(*hanging) == [[SPOOLED]] * 5
        await refused
        assert await b.accept(event("later", C)) == [SPOOLED]
        assert len(b.store.asked) == 6, "who comes later does not ask"
        b.store.failing = set()
        b.store.moving.set()
        await b.empty()
        assert [each for each in b.store.ids if each[0] == "h"] == ["h0", "h1", "h2", "h3", "h4"]
        assert b.store.ids[-1] == "later"
        assert [each.event_id for each in b.store.rejections] == ["r"]


async def test_whoever_is_freed_is_nowhere_taken_for_cancelled(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.store.moving.clear()

        async def freed() -> int:
            assert await b.accept(event("hangs")) == [SPOOLED]
            task = asyncio.current_task()
            assert task is not None
            return task.cancelling()

        hanging = asyncio.create_task(freed())
        await until(lambda: len(b.store.asked) == 1)
        await b.lose_while_hanging()
        assert await hanging == 0


async def test_whoever_is_answered_in_the_turn_in_which_another_fails_has_the_answer(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.store.moving.clear()
        hanging = asyncio.create_task(b.accept(event("hangs")))
        await until(lambda: len(b.store.asked) == 1)
        losing = asyncio.create_task(b.lose_while_hanging())
        b.store.moving.set()  # as a connection does that breaks behind an answer
        assert await hanging == [ACCEPTED]
        await losing
        assert b.spooled == 1, "the one that found the store away"


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_whoever_is_cancelled_while_the_store_hangs_is_cancelled(tmp_path: Path, turns: int) -> None:
    async with bench(tmp_path) as b:
        b.store.moving.clear()
        hanging = asyncio.create_task(b.accept(event("hangs")))
        await until(lambda: len(b.store.asked) == 1)
        freed = asyncio.create_task(b.lose_while_hanging())
        for _ in range(turns):  # of the loop: in the first the store is lost, in the second the one that hangs is freed
            await asyncio.sleep(0)
        assert b.between.away == (turns > 0)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        await freed
        assert b.spooled == 1, "the one that found the store away"


async def test_the_store_going_away_again_in_mid_drain_loses_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        told = [str(number) for number in range(1000)]
        await b.lose(*map(event, told))
        b.start()
        for turn in range(5):
            await until(lambda turn=turn: len(b.store.events) > turn * 100 or not b.spool.count)  # type: ignore[misc] # a default binds the loop's value
            b.store.up = False
            await asyncio.sleep(0.01)
            b.store.up = True
        await b.empty()
        assert b.store.ids == told


async def test_refused_events_are_kept_in_the_spool_too(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        fault = Fault("/calledNumber", "not_a_number", "Mend it.")
        refused = [Rejection("1", "bad", "It is bad.", (fault,), '{"a": "ö"}'), Rejection(None, "unreadable", "No.")]
        b.store.up = False
        await b.between.reject(refused)
        assert (b.store.rejections, b.spool.count, b.spooled) == ([], 2, 2)
        b.store.up = True
        b.start()
        await b.empty()
        assert b.store.rejections == refused


async def test_a_full_spool_sends_events_back_until_the_store_has_taken_some(tmp_path: Path) -> None:
    async with bench(tmp_path, bytes_max=64 * 1024) as b:
        b.store.up = False
        taken = 0
        with suppress(StoreUnavailable):
            while taken < 1000 and await b.accept(event(str(taken))) == [SPOOLED]:
                taken += 1
        with pytest.raises(StoreUnavailable, match="full") as refused:
            await b.accept(event("too much"))
        assert refused.value.retry_after_s > 0
        assert taken > 50
        assert not await b.between.ready()
        b.store.up = True
        b.start()
        await b.empty()
        assert b.store.ids == [str(number) for number in range(taken)]
        assert await b.between.ready()
        assert await b.accept(event("new")) == [ACCEPTED]


async def test_what_waits_too_long_makes_it_unready_and_is_taken_all_the_same(tmp_path: Path) -> None:
    async with bench(tmp_path, age_s_max=0) as b:
        assert await b.between.ready()
        await b.lose(event("1"))
        await until(lambda: b.between.age_s > 0)
        assert not await b.between.ready()
        assert await b.accept(event("2")) == [SPOOLED]


async def test_an_event_that_meets_a_fault_costs_only_itself(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.lose(*(event(str(number)) for number in range(10)))
        b.store.broken = {"4"}
        b.start()
        await b.empty()
        assert b.store.ids == ["0", "1", "2", "3", "5", "6", "7", "8", "9"]
        [kept] = b.store.rejections
        assert (kept.event_id, kept.code, kept.body) == ("4", "internal_error", '{"id": "4"}')


@pytest.mark.parametrize(
    "record",
    [
        Record("event", (), b"not JSON"),
        Record("event", (), b'{"id": "half an event"}'),
        Record("event", (), b'[1, "no object"]'),
        Record("rejection", (), b"{}"),
        Record("of a later version", (), b"{}"),
    ],
)
async def test_a_record_that_nobody_understands_becomes_a_rejection(tmp_path: Path, record: Record) -> None:
    async with bench(tmp_path) as b:
        await b.spool.append([record])
        b.start()
        assert await b.accept(event("1")) == [ACCEPTED]
        await b.empty()
        [kept] = b.store.rejections
        assert (kept.code, kept.body) == ("internal_error", record.value.decode())


async def test_events_stay_while_they_cannot_be_kept(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.lose(event("bad"), event("good"))
        b.store.broken, b.store.keeps = {"bad"}, False
        b.start()
        await until(lambda: b.store.ids == ["good"])
        assert b.spool.count == 2, "nothing leaves the spool before all of its batch is safe"
        assert not b.store.rejections


async def test_what_another_process_left_is_taken_while_running(tmp_path: Path) -> None:
    other = Bench(tmp_path / "spool", 1024 * 1024, 3600)
    await other.spool.open()
    await other.lose(event("left"))
    async with bench(tmp_path) as b:
        b.start()
        assert b.spool.count == 0, "its owner lives"
        await other.spool.close()
        await until(lambda: b.store.ids == ["left"])


@pytest.mark.parametrize("up", [True, False])
async def test_the_end_brings_what_it_can(tmp_path: Path, up: bool) -> None:
    async with bench(tmp_path, *(event(str(number)) for number in range(1000))) as b:
        b.store.up = up
        b.start()
        await b.between.finish(30)
        assert b.running is not None
        await b.running
        assert (len(b.store.events), b.spool.count) == ((1000, 0) if up else (0, 1000))
        assert await b.accept(event("last request")) in ([ACCEPTED], [SPOOLED]), "requests under way are still taken"


async def test_the_end_does_not_wait_longer_than_it_may(tmp_path: Path) -> None:
    async with bench(tmp_path, event("1")) as b:
        b.store.moving.clear()
        b.start()
        await until(lambda: len(b.store.asked) == 1)
        await b.between.finish(0.05)
        assert b.running is not None
        await asyncio.wait([b.running])
        assert b.spool.count == 1
    async with bench(tmp_path) as after:
        after.start()
        await after.empty()
        assert after.store.ids == ["1"]


@pytest.mark.parametrize(
    "act", [lambda b: b.accept(event("1")), lambda b: b.between.reject([Rejection("1", "x", "y")])]
)
async def test_a_fault_of_ours_is_no_outage(tmp_path: Path, act: Callable[[Bench], object]) -> None:
    async with bench(tmp_path) as b:
        b.store.broken, b.store.keeps = {"1"}, False
        with pytest.raises(RuntimeError):
            await act(b)  # type: ignore[misc] # either of two coroutines
        assert not b.between.away
        assert b.spool.count == 0

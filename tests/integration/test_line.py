"""The line before a worker's places, and events that wait for it: with a real Redis and a Cention over HTTP."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from bridge.calls.effects import Effect
from bridge.calls.events import EventKind, Pair
from bridge.calls.verdicts import Verdict
from bridge.delivery.pace import WAIT_S, Pace
from bridge.delivery.places import OURS_S, Places
from bridge.pipeline import Pipeline
from bridge.runtime.clock import monotonic
from bridge.store.calls import Commit
from bridge.store.embedded import EmbeddedRedis
from bridge.store.keys import shard_of
from tests.e2e.support import eventually
from tests.fakes.logs import captured
from tests.integration.delivery_support import Clock, Gate, Work, working
from tests.integration.store_support import INBOUND, A, B, proxy

PAIRS = [Pair(9, number) for number in range(6)]


def lined(line: int = 4) -> tuple[Places, Clock]:
    """One place and a line before it, from which deliveries leave briskly until the clock is moved."""
    clock = Clock()
    began = clock()
    places = Places(1, line=line, clock=lambda: began + clock.ahead_s)
    for _ in range(line):
        places.left()
    return places, clock


async def committing(work: Work, number: int) -> tuple[list[Commit], list[Effect]]:
    """So many calls start, each at a pair of its own, and their commits lease to the worker.

    Returns:
        What each commit came to, and what waits in the line then.
    """
    if work.store.calls._taker is None:
        await eventually(lambda: not work.worker._due and not work.worker._places.claiming, "the first claim is over")
        work.store.calls.hand_to(work.worker)
    said = list[Commit]()
    for pair in PAIRS[:number]:
        event = work.store.event(EventKind.STARTED, pair, f"c-{pair.extension_id}", facts=INBOUND)
        said.append(await work.store.commit(event, work.store.calls.recall(event)))
    return said, [delivery.effect for delivery in work.worker._places.line]


async def untouched(work: Work, effects: list[Effect]) -> bool:
    """Whether the deliveries are back in their lanes as if nobody had leased them: no lease, no attempt, no doubt."""
    leases = await work.store.leases()
    for effect in effects:
        held = await work.store.delivery(effect)
        if str(effect.pair) in leases or held["attempts"] != "0" or held.get("doubt", "0") != "0":
            return False
    return True


async def test_what_waits_in_the_line_is_delivered_in_order_when_a_place_frees(redis: EmbeddedRedis) -> None:
    gate, (places, _) = Gate(), lined()
    async with gate.cention() as url, working(redis.url, cention_url=url, places=places, poll_s=3600) as work:
        said, _ = await committing(work, 3)
        assert said == [Commit.LEASED] * 3
        assert [delivery.effect.call_id for delivery in places.line] == ["c-1", "c-2"]
        await eventually(lambda: gate.under_way == 1, "the first is under way")
        gate.open.set()
        await work.idle()
        assert [call["referenceId"] for call in gate.calls] == ["c-0", "c-1", "c-2"]
        assert gate.most == 1, "the line is no place"
        for number in range(3):
            (answer,) = await work.answers(f"c-{number}")
            assert (answer["outcome"], answer["attempt"]) == ("delivered", 1)
        await eventually(lambda: places.taken == 0, "the place is free again")


async def test_claims_have_their_share_of_the_line_while_commits_come_in(redis: EmbeddedRedis) -> None:
    gate, (places, _) = Gate(), lined()
    async with gate.cention() as url, working(redis.url, cention_url=url, places=places, poll_s=3600) as work:
        said, _ = await committing(work, 6)
        assert said == [Commit.LEASED] * 3 + [Commit.OK] * 3
        work.worker.wake_all()  # as the poll does for retries that come due

        async def claimed() -> bool:
            return len(await work.store.leases()) == 5

        await eventually(claimed, "two lanes are claimed into the other half of the line")
        assert len(places.line) == 4
        assert not places.offer(), "those that are left come first"
        gate.open.set()
        await work.idle()
        assert len(gate.calls) == 6
        assert [call["referenceId"] for call in gate.calls][:3] == ["c-0", "c-1", "c-2"]


async def test_a_drain_gives_the_line_back_untried(redis: EmbeddedRedis) -> None:
    gate, (places, _) = Gate(), lined()
    async with gate.cention() as url, working(redis.url, cention_url=url, places=places, run=False) as work:
        running = asyncio.create_task(work.worker.run())
        _, waiting = await committing(work, 3)
        await eventually(lambda: gate.under_way == 1, "the first is under way")
        draining = asyncio.create_task(work.worker.drain(30))

        async def given_back() -> bool:
            return await untouched(work, waiting)

        await eventually(given_back, "it does not wait for what is under way")
        gate.open.set()
        await draining
        await running
        assert (len(gate.calls), len(places.line), await work.store.leases()) == (1, 0, {})
        claimed = await work.store.claim()
        assert set(claimed) == set(PAIRS[1:3]), "due at once"
        assert [(delivery.attempt, delivery.in_doubt) for delivery in claimed.values()] == [(1, False)] * 2


async def test_a_drain_gives_back_what_a_commit_under_way_leases(redis: EmbeddedRedis) -> None:
    places, _ = lined()
    async with proxy(redis.socket_path) as between, working(between.url, places=places, run=False) as work:
        work.store.calls.hand_to(work.worker)
        event = work.store.event(EventKind.STARTED, A, facts=INBOUND)
        await work.store.raw("PING")  # what is not known to be one server is asked twice for a commit
        between.open.clear()
        taking = asyncio.create_task(work.store.commit(event, work.store.calls.recall(event)))
        await eventually(lambda: places.offered == 1, "a place is kept for the commit")
        draining = asyncio.create_task(work.worker.drain(30))
        await eventually(lambda: work.worker._stopping, "the drain has begun")
        between.open.set()
        await draining
        assert await taking is Commit.LEASED
        assert (places.taken, await work.store.leases()) == (0, {})
        (delivery,) = (await work.store.claim()).values()
        assert (delivery.attempt, delivery.in_doubt) == (1, False)


@pytest.mark.parametrize(("status", "came_to"), [(204, "delivered"), (503, "parked")])
async def test_a_deliverys_age_counts_its_time_in_the_line(redis: EmbeddedRedis, status: int, came_to: str) -> None:
    gate, (places, _) = Gate(status=status), lined()
    async with (
        gate.cention() as url,
        working(redis.url, cention_url=url, places=places, poll_s=3600, age_s_max=3600) as work,
    ):
        await committing(work, 2)
        (waiting,) = places.line
        # As if it had been leased, at an age of 0, and waited since.
        places.line[0] = replace(waiting, leased_at=waiting.leased_at - 3601)
        work.worker._begin_within_s += 7200
        gate.open.set()

        async def done() -> bool:
            return bool(await work.answers("c-1"))

        await eventually(done, "it was tried")
        (answer,) = await work.answers("c-1")
        assert answer["then"] == came_to
        if came_to == "delivered":
            assert work.sample("bridge_delivery_seconds_sum") > 3601


async def test_what_waits_too_long_in_the_line_is_given_back(redis: EmbeddedRedis) -> None:
    """Another replica may have a place for it; and the poll, which is long here, must not decide about it."""
    gate, (places, clock) = Gate(), lined()
    async with (
        gate.cention() as url,
        working(redis.url, cention_url=url, places=places, poll_s=3600, attempt_timeout_s=60, lease_s=60.2) as work,
    ):
        _, waiting = await committing(work, 3)
        assert len(places.line) == 2
        clock.ahead_s += OURS_S  # Cention hangs

        async def given_back() -> bool:
            return await untouched(work, waiting)

        await eventually(given_back, "the line is given back, long before its leases end")
        assert list(await work.store.leases()) == [str(PAIRS[0])]
        gate.open.set()
        await work.idle()
        for number in range(3):
            (answer,) = await work.answers(f"c-{number}")
            assert (answer["outcome"], answer["attempt"]) == ("delivered", 1)


async def test_what_comes_while_lanes_are_given_back_is_begun_after_them_in_order(redis: EmbeddedRedis) -> None:
    """What is being given back counts as a place that is taken, and must tell when it is one no more."""
    gate, (places, clock) = Gate(is_open=True), lined()
    async with gate.cention() as url, working(redis.url, cention_url=url, places=places, run=False) as work:
        for pair in PAIRS[:4]:
            await work.store.start(pair, f"c-{pair.extension_id}")
        first, second, third, fourth = (await work.store.claim()).values()
        places.line.extend([first, second])
        clock.ahead_s += OURS_S
        work.worker._begin_within_s, usual = -1e9, work.worker._begin_within_s
        work.worker._give_back_what_waits()
        work.worker._begin_within_s = usual
        places.offered = 2
        work.worker.take(third)
        work.worker.take(fourth)
        assert list(places.line) == [third, fourth]
        await eventually(lambda: places.taken == 0, "nothing is left in the line")
        assert [call["referenceId"] for call in gate.calls] == [each.effect.call_id for each in (third, fourth)]
        assert await untouched(work, [first.effect, second.effect])


async def test_a_place_whose_work_crashes_does_not_strand_the_line(
    redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, (places, _) = Gate(), lined()
    async with gate.cention() as url, working(redis.url, cention_url=url, places=places, poll_s=3600) as work:
        await committing(work, 3)
        await eventually(lambda: gate.under_way == 1, "the first is under way")
        noted = work.worker._dispatcher.noted

        def faulty(effect: Effect) -> dict[str, object]:
            if effect.call_id == "c-0":
                raise RuntimeError("a fault of ours")
            return noted(effect)

        monkeypatch.setattr(work.worker._dispatcher, "noted", faulty)
        with captured() as lines:
            gate.open.set()
            await eventually(lambda: places.taken == 0, "the line is worked off")
        assert "a fault of ours" in lines.text
        assert [await work.outcomes(f"c-{number}") for number in range(3)] == [[], ["delivered"], ["delivered"]]


async def test_places_do_not_stand_empty_while_outcomes_are_written_down(redis: EmbeddedRedis) -> None:
    gate, (places, _) = Gate(), lined()
    async with (
        gate.cention() as url,
        proxy(redis.socket_path) as between,
        working(between.url, cention_url=url, places=places, poll_s=3600) as work,
    ):
        await committing(work, 3)
        await eventually(lambda: gate.under_way == 1, "the first is under way")
        between.open.clear()
        gate.open.set()
        await eventually(lambda: len(gate.calls) == 2, "the second need not wait for what Redis says of the first")
        await eventually(lambda: places.trying == 0, "its outcome is to be written down too")
        assert len(places.line) == 1, "but so many alone: if we die now, nobody knows that they were tried"
        between.open.set()
        await work.idle()
        assert [call["referenceId"] for call in gate.calls] == ["c-0", "c-1", "c-2"]
        assert gate.most == 1


async def test_a_lane_that_goes_on_has_no_place_of_its_own(redis: EmbeddedRedis) -> None:
    """Others began while its outcome was written down; more attempts than places would be too many for Cention."""
    gate, (places, _) = Gate(), lined()
    async with (
        gate.cention() as url,
        proxy(redis.socket_path) as between,
        working(between.url, cention_url=url, places=places, poll_s=3600) as work,
    ):
        await committing(work, 2)
        await eventually(lambda: gate.under_way == 1, "the first is under way")
        await work.store.end(PAIRS[0], "c-0")
        between.open.clear()
        gate.open.set()
        gate.open.clear()  # whoever waits is answered, and nobody after
        await eventually(lambda: len(gate.calls) == 2 and gate.under_way == 1, "the second lane has the place")
        between.open.set()
        await eventually(lambda: len(places.line) == 1, "the first lane's next delivery waits for it")
        gate.open.set()
        await work.idle()
        assert [call["referenceId"] for call in gate.calls] == ["c-0", "c-1", "c-0"]
        assert gate.most == 1


async def test_a_place_that_no_commit_took_is_for_what_waits_in_redis(redis: EmbeddedRedis) -> None:
    async with working(redis.url, concurrency=1, poll_s=3600) as work:
        await eventually(lambda: not work.worker._due and not work.worker._places.claiming, "the first claim is over")
        assert work.worker.offer(0) > 0
        await work.store.start()
        work.worker.wake(shard_of(A))
        await eventually(lambda: not work.worker._woken.is_set(), "the worker has seen that it has no place")
        work.worker.forgo()
        await work.idle()
        assert work.told(A) == ["open c-1"]


async def test_what_is_put_back_because_cention_cannot_be_asked_has_not_left_briskly(redis: EmbeddedRedis) -> None:
    """Nobody is to wait for a Cention that refuses, however fast lanes are put back."""
    places = Places(2, line=4, clock=lambda: 0.0)
    async with working(redis.url, places=places) as work:
        work.sandbox.set_faults([{"status": 401}])
        for pair in PAIRS:
            await work.store.start(pair, f"c-{pair.extension_id}")

        work.worker.wake_all()
        held = len(PAIRS) - 2  # two may be under way when the first is refused
        await eventually(
            lambda: work.sample("bridge_deliveries_held_total", what="token") >= held, "the others are put back"
        )
        assert not places.brisk
        work.sandbox.set_faults([])


# Events that wait for the line


def paced(work: Work, places: Places, clock: Callable[[], float] = monotonic) -> tuple[Pipeline, Pace]:
    """A pipeline that lets events in as deliveries leave, and leases to the worker."""
    pace = Pace(places, clock)
    work.store.calls.hand_to(work.worker)
    store = work.store
    return Pipeline(store.calls, store.outbox, store.policy, work.worker.wake, pace=pace), pace


async def test_batches_that_wait_keep_their_order_and_end(redis: EmbeddedRedis) -> None:
    places = Places(2, line=4)
    async with working(redis.url, places=places) as work:
        pipeline, pace = paced(work, places)
        pairs = [Pair(7, number) for number in range(30)]
        kinds = (EventKind.STARTED, EventKind.ENDED)
        calls = [(pair, f"{pair.extension_id}-{turn}", kind) for turn in range(3) for pair in pairs for kind in kinds]
        events = [work.store.event(kind, pair, call, facts=INBOUND) for pair, call, kind in calls]
        events.append(work.store.event(EventKind.STARTED, A, "moved", facts=INBOUND))
        events.append(work.store.event(EventKind.TRANSFERRED, A, "moved", transferred_to=B))
        cut = len(events) // 2
        verdicts = await pipeline.accept(events[:cut]) + await pipeline.accept(events[cut:])
        assert verdicts == [Verdict.ACCEPTED] * len(events)
        await work.idle()
        for pair in pairs:
            told = [f"{word} {pair.extension_id}-{turn}" for turn in range(3) for word in ("open", "end-session")]
            assert work.told(pair) == told
        assert work.told(A) + work.told(B) == ["open moved", "end-session moved", "open moved"]
        await eventually(lambda: places.taken == 0, "the places are free")
        assert (places.offered, pace._inside, len(pace._waiting)) == (0, 0, 0)


async def test_all_events_of_a_batch_wait_no_longer_than_one(redis: EmbeddedRedis) -> None:
    places, clock = Places(1, line=4, clock=lambda: 0.0), Clock()
    for _ in range(4):
        places.left()
    async with working(redis.url, places=places, run=False) as work:
        pipeline, pace = paced(work, places, lambda: clock.ahead_s)
        places.offered = 100  # nothing leaves, and the places do not know it
        kinds = (EventKind.STARTED, EventKind.ANSWERED, EventKind.HELD, EventKind.RETRIEVED, EventKind.ENDED)
        taking = asyncio.create_task(pipeline.accept([work.store.event(kind, facts=INBOUND) for kind in kinds]))
        await eventually(lambda: len(pace._waiting) == 1, "the first waits")
        clock.ahead_s += WAIT_S
        await eventually(taking.done, "all are in, though the clock stands")
        assert taking.result() == [Verdict.ACCEPTED] * len(kinds)


async def test_whoever_is_freed_of_waiting_leaves_nothing_behind(redis: EmbeddedRedis) -> None:
    places = Places(1, line=4, clock=lambda: 0.0)
    for _ in range(4):
        places.left()
    async with working(redis.url, places=places, run=False) as work:
        pipeline, pace = paced(work, places, lambda: 0.0)
        places.offered = 100
        taking = asyncio.create_task(pipeline.accept([work.store.event(EventKind.STARTED, facts=INBOUND)]))
        await eventually(lambda: len(pace._waiting) == 1, "it waits")
        taking.cancel()  # as when somebody else has found Redis away
        with pytest.raises(asyncio.CancelledError):
            await taking
        places.offered = 0
        pace._look()
        assert (pace._inside, len(pace._waiting)) == (0, 0)
        assert await work.store.lane() == [], "it was not taken in"

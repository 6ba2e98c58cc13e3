"""Calls against their errands, on a real Redis and the sandbox: what is found, what is left alone, how it is mended."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import EventKind, Facts, Pair
from bridge.calls.state import LIVE, CallState, InboundEnd, Policy
from bridge.cention.client import CentionClient
from bridge.cention.documents import EndErrand
from bridge.cention.outcome import Delivered
from bridge.cention.sandbox import Sandbox
from bridge.delivery.rate import Rate
from bridge.pipeline import Pipeline
from bridge.reconcile import BEGINNING, Comparison, Reconciler, Reconciling, What
from bridge.runtime.clock import monotonic
from bridge.runtime.metrics import Metrics
from bridge.store.calls import TRIM_EVERY
from bridge.store.deliveries import Settlement
from bridge.store.embedded import EmbeddedRedis
from bridge.store.keys import FINISHED, member, shard_of
from bridge.store.turns import Progress, Turns
from tests.e2e.support import eventually
from tests.integration.cention_support import cention
from tests.integration.delivery_support import RENDERER
from tests.integration.store_support import INBOUND, OUTBOUND, A, B, Bench, bench

DATA_TOKEN, TOKEN = "may-read-errand-data", "may-create-errands"
GRACE_MS = 60_000


class World:
    """A store with calls, a Cention with errands, and what compares them; deliveries are made when the test says so."""

    def __init__(self, store: Bench, sandbox: Sandbox, client: CentionClient, inbound_end: InboundEnd) -> None:
        self.store, self.sandbox, self.client = store, sandbox, client
        self.metrics, self.token = Metrics("test"), DATA_TOKEN
        self.woken: list[int] = []
        self.pipeline = Pipeline(store.calls, store.outbox, store.policy, self.woken.append)
        self.reconciler = Reconciler(
            client,
            store.reads,
            self.pipeline,
            token=lambda: self.token,
            inbound_end=inbound_end,
            grace_ms=GRACE_MS,
            rate=Rate(0, monotonic),
            metrics=self.metrics,
            clock_ms=lambda: store.now + self.later_ms,
        )
        self.later_ms = GRACE_MS + 1

    async def deliver(
        self, *, but: frozenset[EffectKind] = frozenset(), as_: Settlement = Settlement.DELIVERED
    ) -> None:
        """Works every lane off; effects of the kinds `but` never reach Cention, and are settled `as_`."""
        while claimed := await self.store.claim(100):
            for first in claimed.values():
                delivery = first
                while delivery is not None:
                    effect, outcome = delivery.effect, None
                    if effect.kind not in but:
                        outcome = await self._send(effect)
                        assert isinstance(outcome, Delivered)
                    settled = await self.store.outbox.settle(
                        delivery,
                        Settlement.DELIVERED if outcome else as_,
                        errand_id=outcome.errand_id if outcome and effect.kind is EffectKind.OPEN_ERRAND else None,
                    )
                    if settled is None:
                        break
                    delivery = settled

    async def _send(self, effect: Effect) -> Any:
        if effect.kind is EffectKind.END_OUTBOUND_CALL:
            return await self.client.end_obcall(RENDERER.end_obcall(effect), TOKEN)
        if effect.kind is EffectKind.CLOSE_ERRAND:
            errand = await self.store.outbox.errand_id(effect.pair, effect.call_id)
            return await self.client.end_errand(RENDERER.end_errand(effect, errand), TOKEN)
        document = RENDERER.new_errand(effect, end_session=effect.kind is EffectKind.END_SESSION)
        return await self.client.new_errand(document, TOKEN)

    async def ended(self, call_id: str, pair: Pair = A, facts: Facts = INBOUND, *, told: bool = False) -> None:
        """A call that has ended; Cention was not told of the end, unless `told`."""
        await self.store.start(pair, call_id, facts)
        await self.deliver()
        await self.store.end(pair, call_id)
        ends = {EffectKind.END_SESSION, EffectKind.CLOSE_ERRAND, EffectKind.END_OUTBOUND_CALL}
        await self.deliver(but=frozenset() if told else frozenset(ends))

    async def active(self, call_id: str, pair: Pair = A, *, closed: bool = False) -> None:
        """An active call, whose errand somebody has closed if `closed`."""
        await self.store.start(pair, call_id, INBOUND)
        await self.deliver()
        if closed:
            await self.client.end_errand(EndErrand(errand_id=self.errand(call_id)), TOKEN)

    def errand(self, call_id: str) -> int:
        return next(errand.errand_id for errand in self.sandbox.errands if errand.reference_id == call_id)

    async def compare(
        self, *, repair: bool = False, reports_max: int = 100, done: Comparison | None = None
    ) -> Comparison:
        done = done or Comparison()
        await self.reconciler.compare(done, reports_max=reports_max, repair=repair)
        assert await self.reconciler.drain(20)
        return done

    def found(self, done: Comparison) -> list[tuple[str, str, int]]:
        for finding in done.findings:
            assert finding.errand_id == self.errand(finding.call.call_id)
        return [(finding.what.value, finding.call.call_id, int(finding.repaired)) for finding in done.findings]

    def results(self) -> dict[str, int]:
        samples = [sample for metric in self.metrics.reconciled.collect() for sample in metric.samples]
        return {s.labels["result"]: int(s.value) for s in samples if s.name.endswith("_total") and s.value}


@asynccontextmanager
async def world(redis: EmbeddedRedis, inbound_end: InboundEnd = InboundEnd.END_SESSION) -> AsyncIterator[World]:
    sandbox = Sandbox(tokens={TOKEN: ["create_errand"], DATA_TOKEN: ["errand_data"]})
    async with (
        bench(redis.url, policy=Policy(inbound_end=inbound_end)) as store,
        cention(await sandbox.start()) as client,
    ):
        yield World(store, sandbox, client, inbound_end)
    await sandbox.stop()


async def test_what_contradicts_is_found_and_what_agrees_is_not(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        await it.ended("open-1")
        await it.ended("told", told=True)
        await it.ended("open-2", B, OUTBOUND)
        await it.active("closed", closed=True)
        await it.active("fine")
        done = await it.compare()
        assert it.found(done) == [
            ("errand_open", "open-1", 0),
            ("errand_open", "open-2", 0),
            ("call_active", "closed", 0),
        ]
        assert (done.read, done.unread, done.next, done.trouble) == (5, 0, None, None)
        assert it.results() == {"errand_open": 2, "call_active": 1, "agrees": 2}
        assert await it.store.lane() == [], "nothing is mended unasked"
        assert it.found(await it.compare()) == it.found(done)


async def test_an_open_errand_is_closed_through_its_agents_lane(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        await it.ended("open-1")
        done = await it.compare(repair=True)
        assert it.found(done) == [("errand_open", "open-1", 1)]
        assert len(it.woken) == 1
        assert it.found(await it.compare(repair=True)) == [], "its close is on the way"
        assert len(await it.store.lane()) == 1
        await it.deliver()
        errand = it.sandbox.errand(it.errand("open-1"))
        assert errand is not None
        assert errand.ended_by == "c3_end_errands"
        assert it.found(await it.compare(repair=True)) == []
        history = await it.store.reads.history("open-1")
        assert history is not None
        (entry,) = [entry for entry in history.timeline if entry.get("type") == EventKind.RECONCILED]
        assert (entry["from"], entry["to"], len(entry["effects"])) == ("ended", "ended", 1)


async def test_an_errand_that_stays_open_is_closed_again(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        await it.ended("open-1")
        for _ in range(2):
            assert it.found(await it.compare(repair=True)) == [("errand_open", "open-1", 1)]
            await it.deliver(but=frozenset([EffectKind.CLOSE_ERRAND]))
        assert it.metrics.registry.get_sample_value("bridge_reconcile_repairs_total") == 2


async def test_a_call_whose_errand_is_closed_ends_as_if_it_had_ended(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        await it.active("closed", closed=True)
        assert it.found(await it.compare(repair=True)) == [("call_active", "closed", 1)]
        assert await it.store.reads.pair(A) == []
        history = await it.store.reads.history("closed")
        assert history is not None
        assert history.legs[0].call.state is CallState.ENDED
        (delivery,) = (await it.store.claim()).values()
        assert (delivery.effect.kind, delivery.effect.reason) == (EffectKind.END_SESSION, "reconciled")


async def test_what_is_young_or_not_told_yet_is_left_alone(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        await it.ended("young")
        await it.active("young-too", B, closed=True)
        it.later_ms = GRACE_MS
        assert (await it.compare()).read == 0
        it.later_ms += 1
        assert (await it.compare()).read == 2


async def test_what_waits_is_on_its_way_and_what_is_parked_is_not(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        await it.active("c-1")
        await it.store.end(A, "c-1")
        assert (await it.compare()).read == 0
        await it.deliver(but=frozenset([EffectKind.END_SESSION]), as_=Settlement.PARKED)
        assert it.found(await it.compare(repair=True)) == [("errand_open", "c-1", 1)]


async def test_a_call_that_came_back_is_not_judged_by_its_first_errand(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        await it.active("c-1")
        hand_over = await it.store.transfer(A, "c-1", B)
        await it.store.open_at_new_agent(hand_over)
        await it.deliver(but=frozenset([EffectKind.HAND_OVER]))
        await it.store.outbox.release(hand_over)
        back = await it.store.transfer(B, "c-1", A)
        await it.store.open_at_new_agent(back)
        assert [read.call.state in LIVE for read in await it.store.reads.pair(A)] == [True]
        assert it.found(await it.compare(repair=True)) == []
        assert len(await it.store.reads.pair(A)) == 1


async def test_where_ends_are_told_to_nobody_open_errands_are_meant(redis: EmbeddedRedis) -> None:
    async with world(redis, InboundEnd.NOTHING) as it:
        await it.ended("inbound")
        await it.ended("outbound", B, OUTBOUND)
        assert it.found(await it.compare()) == [("errand_open", "outbound", 0)]


async def test_a_call_that_changes_meanwhile_is_not_mended(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        await it.active("c-1", closed=True)
        (read,) = await it.store.reads.pair(A)
        await it.store.take(it.store.event(EventKind.UPDATED, facts=Facts(comment="still talking")))
        assert not await it.pipeline.reconcile(read.call)
        assert len(await it.store.reads.pair(A)) == 1
        (now,) = await it.store.reads.pair(A)
        assert await it.pipeline.reconcile(now.call)
        assert not await it.pipeline.reconcile(now.call)


async def test_a_run_reads_as_many_reports_as_it_may_and_the_next_goes_on(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        for number in range(5):
            it.store.now += 1
            await it.ended(f"open-{number}", Pair(1, number))
        await it.active("closed", B, closed=True)
        done, seen = Comparison(), []
        while done.next is not None:
            done = Comparison(next=done.next)
            await it.compare(reports_max=2, done=done)
            assert done.read <= 2
            seen += [finding.call.call_id for finding in done.findings]
        assert seen == [*(f"open-{number}" for number in range(5)), "closed"]


async def test_the_list_of_changed_errands_is_as_it_was(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        await it.ended("open-1")
        await it.ended("open-2")
        await it.active("closed", closed=True)
        await it.client.errand_report(it.errand("open-1"), DATA_TOKEN)  # somebody has read it: no longer on the list
        before = sorted(it.sandbox.dirty)
        assert it.errand("open-1") not in before
        assert (await it.compare()).read == 3
        assert sorted(it.sandbox.dirty) == before


@pytest.mark.parametrize(
    ("fault", "read", "found"),
    [
        ({"status": 503}, 1, ["open-2"]),
        ({"reset": "midway"}, 1, ["open-2"]),
        ({"status": 404}, 2, ["open-2"]),
        ({"status": 200, "body": "{}"}, 2, ["open-2"]),
        ({"status": 401}, 0, ["open-1", "open-2"]),
    ],
)
async def test_a_failure_stops_a_run_and_the_next_goes_on(
    fault: dict[str, object], read: int, found: list[str], redis: EmbeddedRedis
) -> None:
    async with world(redis) as it:
        await it.ended("open-1")
        it.store.now += 1
        await it.ended("open-2")
        before = sorted(it.sandbox.dirty)
        it.sandbox.set_faults([{"endpoint": "c3_errand_reports", "times": 1, **fault}])
        done = await it.compare()
        assert done.read == read
        seen = [finding.call.call_id for finding in done.findings]
        if done.next is not None:
            assert done.trouble is not None
            seen += [finding.call.call_id for finding in (await it.compare(done=Comparison(next=done.next))).findings]
        assert seen == found
        assert set(it.sandbox.dirty) <= set(before)
        if fault.get("status") != 404:
            assert sorted(it.sandbox.dirty) == before


async def test_a_list_that_cannot_be_read_stops_a_run_before_any_report(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        await it.ended("open-1")
        it.token = TOKEN
        done = await it.compare(repair=True)
        assert done.trouble is not None
        assert "claim" in done.trouble
        assert (done.read, done.next, it.sandbox.counts["reports"]) == (0, BEGINNING, 0)


async def test_agents_whose_calls_end_in_turn_leave_nothing_listed_for_good(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        other = next(pair for number in range(100) if shard_of(pair := Pair(1, number)) != shard_of(A))
        for pair in (A, other):
            await it.ended("old", pair)
        it.store.now += it.store.retention.ended_ms + 1
        for number in range(TRIM_EVERY):
            for pair in (A, other):
                await it.ended(f"new-{number}", pair)
        for pair in (A, other):
            listed = await it.store.raw("ZRANGE", it.store.keys.of_shard(shard_of(pair), FINISHED), 0, -1)
            assert sorted(listed) == sorted(member(pair, f"new-{number}") for number in range(TRIM_EVERY))


async def test_one_replica_a_turn_compares_and_all_show_what_was_found(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        for number in range(3):
            await it.ended(f"open-{number}", Pair(1, number))
        turns = Turns(it.store.connection, it.store.keys)
        metrics = [Metrics("one"), Metrics("other")]
        replicas = [
            Reconciling(it.reconciler, turns, each, every_s=3600, reports_max=2, repair=False) for each in metrics
        ]

        async def turn(*, next_one: bool = True) -> None:
            if next_one:
                await it.store.raw("DEL", it.store.keys.reconcile_turn())
            for replica in replicas:
                await replica.turn()

        def shown() -> list[float | None]:
            name, labels = "bridge_reconcile_found", {"what": What.ERRAND_OPEN.value}
            return [each.registry.get_sample_value(name, labels) for each in metrics]

        await turn()
        await turn(next_one=False)
        assert (it.sandbox.counts["reports"], shown()) == (2, [0, 0]), "one turn, and its round is not whole"
        await turn()
        assert (it.sandbox.counts["reports"], shown()) == (3, [3, 3])
        assert await turns.progress() == Progress(None, {}, {"errand_open": 3})
        await turn()
        assert it.sandbox.counts["reports"] == 5, "the next round begins anew"
        await replicas[0].drain(20)


async def test_a_turn_ends_by_itself(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        turns = Turns(store.connection, store.keys)
        assert [await turns.take("one", 50), await turns.take("other", 50)] == [True, False]

        async def taken() -> bool:
            return await turns.take("other", 60_000)

        await eventually(taken, "the next turn")


async def test_a_turn_that_takes_too_long_is_cut_off_and_keeps_its_place(redis: EmbeddedRedis) -> None:
    async with world(redis) as it:
        await it.ended("open-1")
        it.store.now += 1
        await it.ended("open-2")
        turns = Turns(it.store.connection, it.store.keys)
        rules: list[dict[str, Any]] = [{"id": str(it.errand("open-2"))}]
        it.sandbox.set_faults([{"endpoint": "c3_errand_reports", "delay_s": 3600, "match": rule} for rule in rules])
        one = Reconciling(it.reconciler, turns, it.metrics, every_s=0.5, reports_max=9, repair=True)
        await one.turn()
        progress = await turns.progress()
        assert (progress.place is not None, progress.counting) == (True, {"errand_open": 1})
        it.sandbox.set_faults([])
        await it.store.raw("DEL", it.store.keys.reconcile_turn())
        await one.turn()
        assert (await turns.progress()).counted == {"errand_open": 2}
        assert len(await it.store.lane()) == 2
        await one.drain(20)


async def test_an_outbound_repair_does_not_touch_another_call_of_the_agent(redis: EmbeddedRedis) -> None:
    """`c3_end_obcall` names a pair and a number, so it could end a later call to the same number."""
    async with world(redis) as it:
        await it.ended("first", A, OUTBOUND)
        await it.store.start(A, "second", OUTBOUND)
        await it.deliver()
        await it.compare(repair=True)
        await it.deliver()
        states = {errand.reference_id: errand.state for errand in it.sandbox.errands}
        assert states == {"first": "ended", "second": "open"}

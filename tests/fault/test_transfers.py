"""A transfer interrupted between its two commits, and transfers in a batch: the new agent's order holds.

Found by the checker (`redis_reply_lost`): a transfer was answered while only its first commit was made, the call's end
at the new agent then waited for a start that was on its way, and that agent's next call overtook it.
"""

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import CallEvent, EventKind, Pair
from bridge.calls.verdicts import Verdict
from bridge.pipeline import Pipeline
from bridge.store.deliveries import Settlement
from bridge.store.embedded import EmbeddedRedis
from tests.integration.store_support import INBOUND, A, B, Bench, bench

C = Pair(3000, 3003)


def pipeline_of(store: Bench) -> Pipeline:
    return Pipeline(store.calls, store.outbox, store.policy, lambda _shard: None)


def results(verdicts: list[Verdict]) -> list[str]:
    return [verdict.value for verdict in verdicts]


async def all_told(store: Bench, pipeline: Pipeline) -> list[tuple[Pair, EffectKind, str]]:
    """Delivers everything, and returns what was delivered in its order, hand-overs left out."""
    told: list[tuple[Pair, EffectKind, str]] = []
    while claimed := await store.claim():
        for first in claimed.values():
            delivery = first
            while delivery is not None:
                effect: Effect = delivery.effect
                if effect.kind is EffectKind.HAND_OVER:
                    await pipeline.hand_over(effect)
                else:
                    told.append((effect.pair, effect.kind, effect.call_id))
                following = await store.outbox.settle(delivery, Settlement.DELIVERED)
                if following is None:
                    break
                delivery = following
    return told


def at(pair: Pair, told: list[tuple[Pair, EffectKind, str]]) -> list[tuple[str, str]]:
    return [(call_id, kind.value) for where, kind, call_id in told if where == pair]


async def test_a_repeated_transfer_makes_the_second_commit_before_it_is_answered(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        pipeline = pipeline_of(store)
        await store.start(A, "c-1")
        transfer = store.event(EventKind.TRANSFERRED, A, "c-1", transferred_to=B)
        await store.take(transfer)  # the process dies here: the sender has no answer, the new agent no call
        assert await store.reads.pair(B) == []
        assert results(await pipeline.accept([transfer])) == ["duplicate"]
        assert [read.call.call_id for read in await store.reads.pair(B)] == ["c-1"]
        # What the sender goes on with is told in its order.
        later = [store.event(EventKind.ENDED, B, "c-1"), store.event(EventKind.STARTED, B, "c-2", facts=INBOUND)]
        for event in later:
            await pipeline.accept([event])
        told = await all_told(store, pipeline)
        assert at(B, told) == [("c-1", "open_errand"), ("c-1", "end_session"), ("c-2", "open_errand")]
        assert results(await pipeline.accept([transfer])) == ["duplicate"], "and once more, long after"
        assert await all_told(store, pipeline) == []


async def test_a_transfer_that_came_before_its_start_is_finished_by_the_starts_repetition(
    redis: EmbeddedRedis,
) -> None:
    async with bench(redis.url) as store:
        pipeline = pipeline_of(store)
        await pipeline.accept([store.event(EventKind.TRANSFERRED, A, "c-1", transferred_to=B)])
        start = store.event(EventKind.STARTED, A, "c-1", facts=INBOUND)
        await store.take(start)
        assert await store.reads.pair(B) == []
        assert results(await pipeline.accept([start])) == ["duplicate"]
        assert [read.call.call_id for read in await store.reads.pair(B)] == ["c-1"]


async def test_in_a_batch_a_transfer_comes_before_what_follows_it_at_the_new_agent(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        pipeline = pipeline_of(store)
        for turn in range(10):
            first, second = f"c-{turn}-1", f"c-{turn}-2"

            def event(kind: EventKind, pair: Pair, call_id: str = first, **told: object) -> CallEvent:
                return store.event(kind, pair, call_id, **told)

            batch = [
                event(EventKind.STARTED, C, f"c-{turn}-3", facts=INBOUND),
                event(EventKind.STARTED, A, facts=INBOUND),
                event(EventKind.TRANSFERRED, A, transferred_to=B),
                event(EventKind.TRANSFERRED, B, transferred_to=C),
                event(EventKind.STARTED, B, second, facts=INBOUND),
                event(EventKind.ENDED, C),
                event(EventKind.ENDED, C, f"c-{turn}-3"),
                event(EventKind.ENDED, B, second),
            ]
            assert results(await pipeline.accept(batch)) == ["accepted"] * len(batch)
            told = await all_told(store, pipeline)
            assert at(B, told) == [
                (first, "open_errand"),
                (first, "end_session"),
                (second, "open_errand"),
                (second, "end_session"),
            ]
            assert at(C, told) == [
                (f"c-{turn}-3", "open_errand"),
                (first, "open_errand"),
                (first, "end_session"),
                (f"c-{turn}-3", "end_session"),
            ]

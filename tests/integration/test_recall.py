"""Decisions on what is remembered of a pair, and deliveries that are leased with their commit."""

import asyncio

import pytest

from bridge.calls.events import EventKind, Facts, Pair
from bridge.calls.state import CallState
from bridge.store import calls as calls_module
from bridge.store.calls import Commit
from bridge.store.deliveries import Delivery
from bridge.store.embedded import EmbeddedRedis
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import shard_of
from tests.e2e.support import eventually
from tests.integration.delivery_support import Gate, Work, working
from tests.integration.store_support import INBOUND, A, B, Bench, bench, proxy


class Place:
    """A worker with so many places."""

    def __init__(self, places: int) -> None:
        self.places, self.taken, self.forgone = places, list[Delivery](), 0

    def offer(self, shard: int) -> int:
        self.places -= 1
        return 1000 if self.places >= 0 else 0

    def take(self, delivery: Delivery) -> None:
        self.taken.append(delivery)

    def forgo(self, delivery: Delivery | None = None) -> None:
        self.forgone += 1


async def committed(store: Bench, kind: EventKind, call_id: str = "c-1") -> Commit:
    """Recall, decide, commit."""
    event = store.event(kind, A, call_id, facts=INBOUND)
    return await store.commit(event, store.calls.recall(event))


async def test_what_another_replica_did_is_found_out_by_the_commit(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as one, bench(redis.url) as other:
        assert await committed(one, EventKind.STARTED) is Commit.OK
        assert await committed(one, EventKind.ANSWERED) is Commit.OK
        other._number = 10
        assert await committed(other, EventKind.HELD) is Commit.CONFLICT, "it knew nothing of the pair"
        assert await committed(other, EventKind.HELD) is Commit.OK, "the conflict told it"
        one._number = 20
        assert await committed(one, EventKind.RETRIEVED) is Commit.CONFLICT, "what it remembered is old"
        event = one.event(EventKind.RETRIEVED)
        assert one.calls.recall(event).calls["c-1"].state is CallState.HELD


async def test_a_call_that_another_replica_began_is_asked_for_before_the_commit(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as one, bench(redis.url) as other:
        assert await committed(one, EventKind.STARTED) is Commit.OK
        other._number = 10
        end = other.event(EventKind.ENDED)
        loaded = await other.calls.recall_or_load(end)
        assert loaded.calls["c-1"].state is CallState.STARTED
        assert await other.commit(end, loaded) is Commit.OK
        again = one.event(EventKind.ANSWERED)
        assert await one.calls.recall_or_load(again) == one.calls.recall(again), "it knows the call: the commit tells"
        following = one.event(EventKind.STARTED, call_id="c-2", facts=INBOUND)
        loaded = await one.calls.recall_or_load(following)
        assert not loaded.calls, "it remembered c-1 as active"
        assert await one.commit(following, loaded) is Commit.OK


async def test_a_call_that_is_over_is_not_opened_again_where_its_pair_is_forgotten(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as one, bench(redis.url) as other:
        await one.start()
        await one.end()
        await one.raw("DEL", one.keys.pair(A))  # as an hour later
        other._number = 10
        event = other.event(EventKind.ANSWERED, facts=INBOUND)
        assert await other.commit(event, other.calls.recall(event)) is Commit.CONFLICT
        recalled = other.calls.recall(event)
        assert recalled.calls["c-1"].state is CallState.ENDED
        assert await other.commit(event, recalled) is Commit.OK
        assert await other.reads.pair(A) == []


async def test_a_call_that_is_forgotten_is_not_taken_for_over(redis: EmbeddedRedis) -> None:
    """An exchange that counts its calls anew may use an id again, once the call that had it is forgotten."""
    async with bench(redis.url) as store:
        await store.start()
        await store.end()
        await store.raw("DEL", store.keys.ended(A, "c-1"))  # as after `calls.ended_retention_s`
        event = store.event(EventKind.STARTED, facts=INBOUND)
        assert await store.commit(event, store.calls.recall(event)) is Commit.CONFLICT
        assert await store.commit(event, store.calls.recall(event)) is Commit.OK
        assert [read.call.call_id for read in await store.reads.pair(A)] == ["c-1"]


async def test_what_changed_of_a_call_that_is_over_is_found_out_where_its_pair_is_forgotten(
    redis: EmbeddedRedis,
) -> None:
    async with bench(redis.url) as one, bench(redis.url) as other:
        await one.start()
        await one.end()
        await one.raw("DEL", one.keys.pair(A))  # as an hour later
        late = one.event(EventKind.UPDATED, facts=Facts(link="https://recordings.example/2"))
        await one.calls.load(late)
        other._number = 10
        (told,) = await other.take(other.event(EventKind.UPDATED, facts=Facts(link="https://recordings.example/1")))
        await one.raw("DEL", one.keys.pair(A))
        assert await one.commit(late, one.calls.recall(late)) is Commit.CONFLICT, "what it remembered is old"
        assert await one.commit(late, one.calls.recall(late)) is Commit.OK
        assert (await one.lane())[2] == told.effect_id, "and is not told again under the same id"
        assert len(set(await one.lane())) == 4


async def test_no_two_writes_have_the_same_version(redis: EmbeddedRedis) -> None:
    """A failover loses the last write; another replica writes in its place; what was lost must not pass for it."""
    async with bench(redis.url) as one, bench(redis.url) as other:
        await one.start(A, "c-1")
        before = await one.raw("GET", one.keys.pair(A))
        await one.start(A, "lost")
        await one.raw("SET", one.keys.pair(A), before.encode("utf-8", "surrogateescape"))
        other._number = 10
        await other.start(A, "c-2")
        one._number = 20
        assert await committed(one, EventKind.ENDED, "c-1") is Commit.CONFLICT
        assert await committed(one, EventKind.ENDED, "c-1") is Commit.OK
        assert [read.call.call_id for read in await one.reads.pair(A)] == ["c-2"]


async def test_so_many_pairs_are_remembered_and_those_used_last_stay(
    redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_module, "PAIRS_REMEMBERED", 2)
    async with bench(redis.url) as store:
        for pair in (A, B, A, Pair(3, 3)):
            await store.take(store.event(EventKind.STARTED, pair, facts=INBOUND))
        known = {pair: bool(store.calls.recall(store.event(EventKind.ENDED, pair)).version) for pair in (A, B)}
        assert known == {A: True, B: False}


async def test_a_delivery_is_leased_with_its_commit_where_a_worker_has_a_place(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        place = Place(1)
        store.calls.hand_to(place)
        assert await committed(store, EventKind.STARTED) is Commit.LEASED
        (delivery,) = place.taken
        assert (delivery.attempt, delivery.in_doubt, delivery.created_at) == (1, False, store.now)
        assert await store.claim() == {}, "it is leased"
        assert (await store.delivery(delivery.effect))["attempts"] == "1"
        store.now += 1000
        assert (await store.claim())[A].in_doubt, "the lease ended, and nobody knows what was done"


async def test_what_waits_in_the_lane_comes_first(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start()
        place = Place(1)
        store.calls.hand_to(place)
        assert await committed(store, EventKind.ENDED) is Commit.OK
        assert (place.taken, place.forgone) == ([], 1)
        assert (await store.claim())[A].effect.kind == "open_errand"


async def test_a_place_is_given_up_where_nothing_was_committed(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as one, bench(redis.url) as other:
        await one.start()
        place = Place(5)
        other.calls.hand_to(place)
        other._number = 10
        assert await committed(other, EventKind.STARTED, "c-2") is Commit.CONFLICT
        assert await committed(other, EventKind.UPDATED) is Commit.OK, "which tells nobody, and asks for no place"
        assert (place.taken, place.forgone, place.places) == ([], 1, 4)


async def test_a_place_is_given_up_where_a_commit_fails_before_it_is_asked_for(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        place = Place(1)
        store.calls.hand_to(place)
        event = store.event(EventKind.STARTED, facts=INBOUND, body="\ud800")  # no JSON can hold it
        with pytest.raises(TypeError):
            await store.commit(event, store.calls.recall(event))
        assert (place.taken, place.forgone) == ([], 1)


async def offering(work: Work) -> None:
    """Lets commits lease to the worker, once nothing else goes over the connection."""
    await work.store.start(B, "c-2")
    work.worker.wake_all()
    await work.idle()  # the scripts are loaded from now on
    await eventually(lambda: not work.worker._due and not work.worker._places.claiming, "the first claim is over")
    work.store.calls.hand_to(work.worker)


async def test_what_may_have_been_leased_though_the_answer_was_lost_is_given_back(redis: EmbeddedRedis) -> None:
    """Nobody has tried it: it must not wait for the lease to end, nor be in doubt then, for which it may be parked."""
    async with proxy(redis.socket_path) as between, working(between.url, poll_s=60) as work:
        await offering(work)
        between.cut = True
        with pytest.raises(StoreUnavailable):
            await committed(work.store, EventKind.STARTED)
        await work.idle()
        (answer,) = await work.answers()
        assert (answer["outcome"], answer["attempt"]) == ("delivered", 1)
        assert (work.worker._places.offered, work.told(A)) == (0, ["open c-1"])


async def test_what_may_have_been_leased_though_whoever_asked_was_cancelled_is_given_back(redis: EmbeddedRedis) -> None:
    async with proxy(redis.socket_path) as between, working(between.url, poll_s=60) as work:
        await offering(work)
        between.open.clear()
        asking = asyncio.create_task(committed(work.store, EventKind.STARTED))
        await eventually(lambda: between.held > 0, "the commit is made, and its answer on its way")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        between.open.set()
        await work.idle()
        (answer,) = await work.answers()
        assert (answer["outcome"], answer["attempt"]) == ("delivered", 1)
        assert (work.worker._places.offered, work.told(A)) == (0, ["open c-1"])


async def test_a_worker_offers_no_more_places_than_it_has(redis: EmbeddedRedis) -> None:
    gate = Gate()
    async with gate.cention() as url, working(redis.url, concurrency=2, cention_url=url, poll_s=60) as work:
        await eventually(lambda: not work.worker._due and not work.worker._places.claiming, "the first claim is over")
        work.store.calls.hand_to(work.worker)
        pairs = [Pair(9, number) for number in range(5)]
        done = [
            await work.store.commit(event, work.store.calls.recall(event))
            for pair in pairs
            for event in [work.store.event(EventKind.STARTED, pair, f"c-{pair}", facts=INBOUND)]
        ]
        assert done == [Commit.LEASED] * 2 + [Commit.OK] * 3
        work.worker.wake_all()
        gate.open.set()
        await work.idle()
        for pair in pairs:
            assert await work.outcomes(f"c-{pair}") == ["delivered"]
        assert gate.most == 2
    assert work.worker.offer(0) == 0, "it was told to stop"


async def test_a_claim_under_way_and_commits_share_the_places(redis: EmbeddedRedis) -> None:
    gate = Gate()
    async with gate.cention() as url, working(redis.url, concurrency=4, cention_url=url, run=False) as work:
        for number in range(8):
            await work.store.start(Pair(8, number), f"w-{number}")
        work.store.calls.hand_to(work.worker)
        events = [work.store.event(EventKind.STARTED, Pair(9, number), facts=INBOUND) for number in range(4)]
        commits = [work.store.commit(event, work.store.calls.recall(event)) for event in events]
        work.worker._due = {shard_of(Pair(8, number)) for number in range(8)}
        _, *done = await asyncio.gather(work.worker._claim(), *commits)
        assert done.count(Commit.LEASED) == 2
        await eventually(lambda: gate.under_way == len(work.worker._lanes), "attempts are under way")
        gate.open.set()
        await work.worker.drain(10)
        assert gate.most <= 4


async def test_a_lane_that_found_no_place_has_the_next_one(redis: EmbeddedRedis) -> None:
    gate, offers = Gate(), list[int]()
    async with gate.cention() as url, working(redis.url, concurrency=1, cention_url=url, poll_s=60) as work:
        await eventually(lambda: not work.worker._due and not work.worker._places.claiming, "the first claim is over")
        work.store.calls.hand_to(work.worker)

        def ask(_: object = None) -> None:
            if (lease_ms := work.worker.offer(0)) > 0:
                work.worker.forgo()
            offers.append(lease_ms)

        for number, said in enumerate((Commit.LEASED, Commit.OK)):
            pair = Pair(9, number)
            event = work.store.event(EventKind.STARTED, pair, f"c-{number}", facts=INBOUND)
            assert await work.store.commit(event, work.store.calls.recall(event)) is said
        work.worker.wake(shard_of(pair))
        (lane,) = work.worker._lanes._tasks
        lane.add_done_callback(ask)  # just when its place is free
        gate.open.set()
        await work.idle()
        await eventually(lambda: not work.worker._lanes, "the second is done too")
        await eventually(lambda: not work.worker._due and not work.worker._places.claiming, "no claim has its place")
        ask()
        assert offers == [0, 15_000]

"""Callbacks on a real Redis: which call they find, the one step, what is kept and for how long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import Pair
from bridge.runtime.clock import now_ms
from bridge.store.callbacks import CallbackRetention, CallbackStore, NewCallback, job_of, lane_of
from bridge.store.deliveries import Settlement
from bridge.store.embedded import EmbeddedRedis
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import SHARDS, CallbackKeys, Keys, shard_of
from bridge.store.outbox import Outbox
from bridge.store.reads import Position
from tests.fakes.redis_servers import cluster, cluster_url, server
from tests.integration.store_support import A, B, Bench, bench, everything

ERRAND_MS, AGE_MS = 3_600_000, 600_000
DOCUMENT = b'{"data":{"type":"c3_callback_answer_errands","id":"76"}}'


class Desk:
    """A store of calls and one of callbacks, on one Redis."""

    def __init__(self, calls: Bench, *, kept: int = 16_000, timeline_entries: int = 500) -> None:
        self.calls, keys = calls, CallbackKeys("test")
        retention = CallbackRetention(AGE_MS, AGE_MS, kept, timeline_entries)
        self.store = CallbackStore(calls.connection, Keys("test"), keys, retention, lambda: calls.now)
        self.outbox = Outbox(calls.connection, keys, calls.retention, lease_ms=1000, server_time=lambda: calls.now)

    async def errand(self, errand_id: str, pair: Pair = A, call_id: str = "c:1") -> None:
        """A call whose errand Cention has made."""
        await self.calls.start(pair, call_id)
        delivery = (await self.calls.claim())[pair]
        await self.calls.outbox.settle(delivery, Settlement.DELIVERED, errand_id=errand_id)

    async def come(self, callback_id: str, errand_id: int | None = 2256, kinds: tuple[EffectKind, ...] = ()) -> bool:
        """A callback comes; whether it was new."""
        place = await self.store.find(callback_id, errand_id)
        if place.seen:
            return False
        told = {"event": 1, "errandId": str(errand_id), "service": None, "subject": "s", "to": [], "files": 0}
        jobs = [
            job_of(kind, callback_id, lane_of(errand_id or 0, place.shard, number), place.call)
            for number, kind in enumerate(kinds)
        ]
        return await self.store.commit(NewCallback(callback_id, errand_id, told, DOCUMENT), place, jobs)

    async def timeline(self, call_id: str = "c:1") -> list[dict[str, Any]]:
        history = await self.calls.reads.history(call_id)
        return [] if history is None else [entry for entry in history.timeline if "eventId" not in entry]

    async def listed(self, limit: int = 100) -> list[str]:
        """All callback ids, page by page."""
        found: list[str] = []
        after: Position | None = None
        while True:
            page, after = await self.store.newest(limit, after)
            found += [kept.callback_id for kept in page]
            if after is None:
                return found

    async def jobs(self) -> list[Effect]:
        """The heads of all lanes that are due, each put back at once."""
        claimed = await self.outbox.claim(range(SHARDS), 100)
        for delivery in claimed:
            await self.outbox.settle(delivery, Settlement.HOLD, wait_ms=0)
        return [delivery.effect for delivery in claimed]


@asynccontextmanager
async def desk(redis: EmbeddedRedis | str, errand_ms: int = ERRAND_MS, **more: Any) -> AsyncIterator[Desk]:
    async with bench(redis if isinstance(redis, str) else redis.url, errand_ms=errand_ms) as calls:
        calls.now = now_ms()
        yield Desk(calls, **more)


# The call it belongs to


@pytest.mark.parametrize("pair", [A, B, Pair(7, 7), Pair(2**53 - 1, 0)])
async def test_an_errands_id_leads_to_its_call(redis: EmbeddedRedis, pair: Pair) -> None:
    async with desk(redis) as it:
        await it.errand("2256", pair, "c:1")
        place = await it.store.find("cb-1", 2256)
        assert (place.call, place.shard, place.seen) == ((pair, "c:1"), shard_of(pair), False)
        assert (await it.store.find("cb-1", 2257)).call is None
        assert (await it.store.find("cb-1", None)).call is None
        ttl = await it.calls.raw("PTTL", Keys("test").errand(shard_of(pair), 2256))
        assert ERRAND_MS - 60_000 < ttl <= ERRAND_MS


async def test_it_leads_there_when_the_call_has_ended_too(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        await it.errand("2256")
        await it.calls.end(A, "c:1")
        assert await it.come("cb-1")
        assert [entry["callback"] for entry in await it.timeline() if "callback" in entry] == ["cb-1"]
        ended = await it.calls.raw("PTTL", Keys("test").timeline(A, "c:1"))
        assert 0 < ended <= it.calls.retention.ended_ms, "a callback does not lengthen the timeline's life"


@pytest.mark.parametrize("errand_id", ["2256x", "-1", "", "1" * 20, "٣", "a b"])
async def test_an_id_that_no_callback_can_have_is_not_kept(redis: EmbeddedRedis, errand_id: str) -> None:
    async with desk(redis) as it:
        await it.errand(errand_id)
        assert [key for key in await everything(it.calls.connection) if ":errand:" in key] == []


async def test_where_callbacks_are_off_nothing_is_kept_of_errands(redis: EmbeddedRedis) -> None:
    async with desk(redis, errand_ms=0) as it:
        await it.errand("2256")
        assert [key for key in await everything(it.calls.connection) if ":errand:" in key] == []


# The one step


async def test_a_callback_counts_once_and_its_jobs_are_stored_with_it(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        await it.errand("2256")
        kinds = (EffectKind.FETCH_FILE, EffectKind.FORWARD_CALLBACK)
        assert await it.come("cb-1", kinds=kinds)
        before = await everything(it.calls.connection)
        assert not await it.come("cb-1", kinds=kinds)
        place = await it.store.find("cb-1", 2256)
        assert not await it.store.commit(NewCallback("cb-1", 2256, {}, b"{}"), place, []), "nor where it was not seen"
        assert await everything(it.calls.connection) == before
        assert {job.kind for job in await it.jobs()} == set(kinds)
        assert {job.call_id for job in await it.jobs()} == {"1000:1001:c:1"}
        kept = await it.store.get(place.shard, "cb-1")
        assert kept is not None
        assert (kept.call, kept.document) == ((A, "c:1"), DOCUMENT.decode())
        assert kept.received_at == it.calls.now


async def test_it_is_a_duplicate_wherever_its_call_is_meanwhile(redis: EmbeddedRedis) -> None:
    """Its call was not known at first, so that it lies in another shard than the call."""
    async with desk(redis) as it:
        assert await it.come("cb-1")
        for number in range(4):
            await it.errand("2256", Pair(number, number), f"c-{number}")
            assert not await it.come("cb-1")
        assert await it.listed() == ["cb-1"]


async def test_a_call_that_is_forgotten_gets_no_timeline(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        await it.errand("2256")
        await it.calls.end(A, "c:1")
        await it.calls.raw("DEL", Keys("test").ended(A, "c:1"), Keys("test").timeline(A, "c:1"))
        assert await it.come("cb-1")
        assert await it.calls.raw("EXISTS", Keys("test").timeline(A, "c:1")) == 0
        (kept,), _ = await it.store.newest(10)
        assert kept.call == (A, "c:1"), "which call it was is known all the same"


async def test_what_became_of_a_job_stands_in_the_calls_timeline(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        await it.errand("2256")
        await it.come("cb-1", kinds=(EffectKind.FORWARD_CALLBACK,))
        await it.come("cb-2", errand_id=9, kinds=(EffectKind.FORWARD_CALLBACK,))  # of no call that is known
        for delivery in await it.outbox.claim(range(SHARDS), 10):
            entry: dict[str, object] = {"delivery": delivery.effect.effect_id}
            await it.outbox.settle(delivery, Settlement.PARKED, reason="no", entry=entry)
        told = [entry.get("callback") or entry.get("delivery") for entry in await it.timeline()]
        assert told == ["cb-1", "cb-1-forward_callback"]
        kept, _ = await it.store.newest(10)
        assert [(each.callback_id, [(job.state, job.reason) for job in each.jobs]) for each in kept] == [
            ("cb-2", [("parked", "no")]),
            ("cb-1", [("parked", "no")]),
        ]


async def test_the_timeline_stays_bounded(redis: EmbeddedRedis) -> None:
    async with desk(redis, timeline_entries=3) as it:
        await it.errand("2256")
        for number in range(5):
            await it.come(f"cb-{number}")
        assert [entry["callback"] for entry in await it.timeline()] == ["cb-2", "cb-3", "cb-4"]


# What is kept


async def test_the_newest_are_kept_and_what_still_waits_with_them(redis: EmbeddedRedis) -> None:
    async with desk(redis, kept=2 * SHARDS) as it:
        await it.errand("2256")
        await it.come("cb-0", kinds=(EffectKind.FORWARD_CALLBACK,))
        for number in range(1, 5):
            it.calls.now += 1
            await it.come(f"cb-{number}")
        assert await it.listed() == ["cb-4", "cb-3"]
        shard = shard_of(A)
        assert await it.store.get(shard, "cb-1") is None
        assert await it.store.get(shard, "cb-0") is not None, "it is needed to be forwarded"
        keys = await everything(it.calls.connection)
        documents = sorted(key.rpartition(":")[2] for key in keys if ":document:" in key)
        assert documents == ["cb-0", "cb-3", "cb-4"]
        assert not await it.come("cb-1"), "what is forgotten is known for a duplicate"


async def test_nothing_is_kept_beyond_its_age(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        it.calls.now -= AGE_MS + 1
        await it.come("cb-1")
        it.calls.now += AGE_MS + 1
        assert await it.listed() == []
        await it.come("cb-2", errand_id=None)
        keys = await everything(it.calls.connection)
        for key in keys:
            ttl = await it.calls.raw("PTTL", key)
            assert (0 < ttl <= AGE_MS) or key.endswith(":callbacks"), key
        # The list itself is shortened by the next callback of its shard.
        place = await it.store.find("cb-1", 2256)
        await it.calls.raw("DEL", CallbackKeys("test").mark(place.shard, "cb-1"))
        await it.come("cb-1")
        assert await it.listed() == ["cb-1", "cb-2"] or await it.listed() == ["cb-2", "cb-1"]


async def test_what_is_parked_goes_with_the_callbacks_of_its_time(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        await it.come("cb-1", kinds=(EffectKind.FORWARD_CALLBACK,))
        (delivery,) = await it.outbox.claim(range(SHARDS), 10)
        await it.outbox.settle(delivery, Settlement.PARKED, reason="no")
        it.calls.now += AGE_MS - 1
        await it.come("cb-2")
        assert (await it.outbox.backlog()).parked == 1
        it.calls.now += 1
        await it.come("cb-3")
        assert (await it.outbox.backlog()).parked == 0
        keys = await everything(it.calls.connection)
        assert [key for key in keys if ":delivery:" in key] == []


@pytest.mark.parametrize("settlement", [Settlement.DELIVERED, Settlement.PARKED])
async def test_one_that_comes_again_after_its_mark_is_gone_leads_to_the_same_anew(
    redis: EmbeddedRedis, settlement: Settlement
) -> None:
    """Were its delivery to go with the old one's, the lane would stand still for good."""
    async with desk(redis) as it:
        assert await it.come("cb-1", kinds=(EffectKind.FORWARD_CALLBACK,))
        (first,) = await it.outbox.claim(range(SHARDS), 10)
        await it.outbox.settle(first, settlement, reason="gone")
        shard = shard_of(first.effect.pair)
        it.calls.now += AGE_MS + 1
        await it.calls.raw("DEL", it.store._keys.mark(shard, "cb-1"))
        assert await it.come("cb-1", kinds=(EffectKind.FORWARD_CALLBACK,))
        assert [job.effect_id for job in await it.jobs()] == [first.effect.effect_id]
        assert await it.calls.raw("PTTL", it.store._keys.delivery(shard, first.effect.effect_id)) == -1
        backlog = await it.outbox.backlog()
        assert (backlog.waiting, backlog.parked) == (1, 0)


async def test_pages_have_all_and_none_twice(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        expected = []
        for number in range(25):
            it.calls.now += number % 3  # several in one millisecond
            await it.come(f"cb-{number:02}", errand_id=None)
            expected.append((it.calls.now, f"cb-{number:02}"))
        wanted = [name for _, name in sorted(expected, reverse=True)]
        for limit in (1, 4, 25, 26):
            assert await it.listed(limit) == wanted


async def test_a_file_is_noted_beside_its_callback_unless_that_is_forgotten(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        await it.errand("2256")
        await it.come("cb-1")
        shard = shard_of(A)
        await it.store.keep_file(shard, "cb-1", "c3_response_attachments-789", {"size": 7})
        await it.store.keep_file(shard, "cb-9", "c3_response_attachments-789", {"size": 7})
        assert await it.store.files([(A, "cb-1"), (A, "cb-9")]) == [{"c3_response_attachments-789": {"size": 7}}, {}]
        found = await it.store.look_up("cb-1")
        assert found is not None
        assert (found.files, found.document) == ({"c3_response_attachments-789": {"size": 7}}, DOCUMENT.decode())
        assert await it.store.look_up("cb-9") is None
        assert not [key for key in await everything(it.calls.connection) if key.endswith(":cb-9")]


async def test_a_redis_that_is_away_promises_nothing(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        await redis.stop()
        with pytest.raises(StoreUnavailable):
            await it.come("cb-1")
        await redis.start()
        assert await it.come("cb-1")


async def test_a_redis_whose_memory_is_full_takes_none(tmp_path: Path) -> None:
    async with server(tmp_path / "redis") as full, desk(full.url) as it:
        await it.errand("2256")
        before = await everything(it.calls.connection)
        await full.ask("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(StoreUnavailable):
            await it.come("cb-1", kinds=(EffectKind.FORWARD_CALLBACK,))
        assert await everything(it.calls.connection) == before
        await full.ask("CONFIG", "SET", "maxmemory", 0)
        assert await it.come("cb-1", kinds=(EffectKind.FORWARD_CALLBACK,))


async def test_a_call_and_its_callbacks_lie_in_one_slot(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        await it.errand("2256", B)
        await it.come("cb-1", kinds=(EffectKind.FETCH_FILE, EffectKind.FORWARD_CALLBACK))
        tags = {key.partition("{")[2].partition("}")[0] for key in await everything(it.calls.connection) if "{" in key}
        assert tags == {str(shard_of(B))}


async def test_it_all_runs_on_a_cluster(tmp_path: Path) -> None:
    kinds = (EffectKind.FETCH_FILE, EffectKind.FORWARD_CALLBACK)
    async with cluster(tmp_path) as nodes, desk(cluster_url(nodes[:1]), kept=SHARDS) as it:
        for number in range(1, 9):
            await it.errand(str(number), Pair(number, number), f"c-{number}")
            assert await it.come(f"cb-{number}", number, kinds)
            assert not await it.come(f"cb-{number}", number, kinds)
            assert await it.come(f"cb-{number}-again", number)  # more than are kept: the first goes from the list
            found = await it.store.look_up(f"cb-{number}")
            assert found is not None, "and is there while it is waited for"
            assert found.call == (Pair(number, number), f"c-{number}")
            told = [entry["callback"] for entry in await it.timeline(f"c-{number}") if "callback" in entry]
            assert told == [f"cb-{number}", f"cb-{number}-again"]
        assert len(await it.jobs()) == 16
        assert len(await it.listed()) == len({shard_of(Pair(number, number)) for number in range(1, 9)})

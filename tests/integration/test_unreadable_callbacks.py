"""Keys of callbacks that are damaged, or not ours: the service goes on, and so does every other callback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from bridge.calls.effects import EffectKind
from bridge.store.callbacks import lane_of
from bridge.store.deliveries import Settlement
from bridge.store.embedded import EmbeddedRedis
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import CALLBACKS, LANES, SHARDS, WAITING, CallbackKeys, Keys, shard_of
from tests.e2e.support import eventually
from tests.fakes.logs import captured
from tests.fakes.receiver import Receiver, receiver
from tests.integration.callback_support import SIGNING, callback, forwarding
from tests.integration.callback_support import desk as service_desk
from tests.integration.store_support import LEASE_MS, A
from tests.integration.test_callback_store import Desk, desk

KEYS = CallbackKeys("test")
FORWARD = (EffectKind.FORWARD_CALLBACK,)
UNREADABLE = "v9 \x03packed otherwise"


async def shard_of_callback(it: Desk, callback_id: str, errand_id: int) -> int:
    return (await it.store.find(callback_id, errand_id)).shard


async def make_another(it: Desk, key: str) -> None:
    """Puts a key of another kind in the place of ours."""
    await it.calls.raw("SET", key, "x")


@asynccontextmanager
async def forwarded(tmp_path: Path, redis: EmbeddedRedis, **more: Any) -> AsyncIterator[tuple[Receiver, Any]]:
    """A bridge that forwards what the store has."""
    async with (
        receiver(SIGNING) as to,
        service_desk(tmp_path, redis, redis__key_prefix="test", **forwarding(to.url, **more)) as it,
    ):
        yield to, it


# One callback


@pytest.mark.parametrize(
    ("key", "damage"),
    [
        ("callback", ("SET", "x")),
        ("callback", ("HSET", "told", UNREADABLE)),
        ("callback", ("HSET", "told", "[]")),
        ("callback", ("HSET", "received", "x")),
        ("callback", ("HDEL", "jobs")),
        ("document", ("SET", "x")),
        ("document", ("HSET", "document", UNREADABLE)),
        ("document", ("HSET", "document", '{"meta": [1]}')),
    ],
)
async def test_one_that_cannot_be_read_is_parked_and_all_others_are_forwarded(
    redis: EmbeddedRedis, tmp_path: Path, key: str, damage: tuple[str, ...]
) -> None:
    async with desk(redis) as it:
        for callback_id, errand_id in (("cb-1", 7), ("cb-2", 7), ("cb-3", 8)):
            await it.come(callback_id, errand_id, FORWARD)
        shard = await shard_of_callback(it, "cb-1", 7)
        command, *words = damage
        await it.calls.raw(command, getattr(KEYS, key)(shard, "cb-1"), *words)
    async with forwarded(tmp_path, redis) as (to, service):
        told = {"cb-2", "cb-3"} | ({"cb-1"} if damage[0] == "HDEL" else set())
        await eventually(lambda: set(to.ids) == told, f"{told}, got {to.ids}")
        listed = {each["callbackId"] for each in await service.callbacks()}
        assert {"cb-2", "cb-3"} <= listed


async def test_a_list_has_all_but_what_cannot_be_read(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        for number in range(1, 6):
            await it.come(f"cb-{number}", number, FORWARD)
        shards = [0] + [await shard_of_callback(it, f"cb-{number}", number) for number in range(1, 6)]
        await make_another(it, KEYS.callback(shards[1], "cb-1"))
        await it.calls.raw("HSET", KEYS.callback(shards[2], "cb-2"), "told", UNREADABLE)
        await it.calls.raw("HSET", KEYS.callback(shards[3], "cb-3"), "file:a-1", UNREADABLE)
        await make_another(it, KEYS.delivery(shards[4], "cb-4-forward_callback"))
        with captured() as lines:
            kept, _ = await it.store.newest(10)
        assert {each.callback_id: len(each.jobs) for each in kept} == {"cb-4": 0, "cb-5": 1}
        assert lines.text.count("a callback cannot be read") == 3


async def test_a_calls_history_is_shown_without_the_files_that_cannot_be_read(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        await it.errand("2256")
        for callback_id in ("cb-1", "cb-2", "cb-3"):
            await it.come(callback_id)
            await it.store.keep_file(shard_of(A), callback_id, "a-1", {"size": 7})
        await make_another(it, KEYS.callback(shard_of(A), "cb-1"))
        await it.calls.raw("HSET", KEYS.callback(shard_of(A), "cb-2"), "file:a-1", UNREADABLE)
        found = await it.store.files([(A, "cb-1"), (A, "cb-2"), (A, "cb-3")])
        assert found == [{}, {}, {"a-1": {"size": 7}}]


async def test_what_the_admin_side_shows_lacks_what_is_missing(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(redis) as it:
        await it.come("cb-1", 7, FORWARD)
        key = KEYS.callback(await shard_of_callback(it, "cb-1", 7), "cb-1")
        await it.calls.raw("HSET", key, "told", '{"call": null}')
    async with forwarded(tmp_path, redis) as (to, service):
        await eventually(lambda: to.ids == ["cb-1"], "it is forwarded")
        (listed,) = await service.callbacks()
        assert (listed["event"], listed["subject"], listed["to"], listed["fileCount"]) == (None, None, [], 0)


# What a new one meets


@pytest.mark.parametrize("damage", [("SET", UNREADABLE), ("SET", "1:x:c"), ("RPUSH", "x")])
async def test_an_errand_that_leads_nowhere_is_of_no_call(redis: EmbeddedRedis, damage: tuple[str, str]) -> None:
    async with desk(redis) as it:
        await it.errand("2256")
        key = Keys("test").errand(shard_of(A), 2256)
        await it.calls.raw("DEL", key)
        await it.calls.raw(damage[0], key, damage[1])
        with captured() as lines:
            assert await it.come("cb-1")
        assert "errand" in lines.text
        (kept,), _ = await it.store.newest(10)
        assert kept.call is None


async def test_a_timeline_that_is_none_keeps_no_callback_away(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        await it.errand("2256")
        await make_another(it, Keys("test").timeline(A, "c:1"))
        assert await it.come("cb-1", kinds=FORWARD)
        assert await it.listed() == ["cb-1"]
        assert len(await it.jobs()) == 1


@pytest.mark.parametrize("name", [CALLBACKS, LANES, WAITING, "lane"])
async def test_one_that_cannot_be_written_whole_has_not_come(redis: EmbeddedRedis, name: str) -> None:
    """Were its mark there, it would be taken for done when it is sent again."""
    async with desk(redis) as it:
        await it.errand("2256")
        key = KEYS.lane(lane_of(2256, shard_of(A), 0)) if name == "lane" else KEYS.of_shard(shard_of(A), name)
        await make_another(it, key)
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await it.come("cb-1", kinds=FORWARD)
        assert await it.come("cb-2", 9, FORWARD), "another shard's"
        await it.calls.raw("DEL", key)
        assert await it.come("cb-1", kinds=FORWARD)
        assert not await it.come("cb-1", kinds=FORWARD)
        assert await it.listed() in (["cb-1", "cb-2"], ["cb-2", "cb-1"])
        jobs = [job.effect_id for job in await it.jobs()]
        assert sorted(set(jobs)) == ["cb-1-forward_callback", "cb-2-forward_callback"]


async def test_what_was_damaged_is_let_go_of_when_its_time_comes(redis: EmbeddedRedis) -> None:
    async with desk(redis, kept=SHARDS) as it:
        await it.errand("2256")
        for number in range(4):
            await it.come(f"cb-{number}", kinds=FORWARD)
            it.calls.now += 1
            damaged = (KEYS.callback(shard_of(A), "cb-0"), KEYS.delivery(shard_of(A), "cb-1-forward_callback"))
            if number < 2:
                await make_another(it, damaged[number])
        assert await it.listed() == ["cb-3"]


# Lanes, and what is in them


async def test_a_lane_stands_at_a_delivery_that_is_none_and_its_head_is_settled_once(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        for callback_id in ("cb-1", "cb-2"):
            await it.come(callback_id, 7, FORWARD)
        shard = await shard_of_callback(it, "cb-1", 7)
        await make_another(it, KEYS.delivery(shard, "cb-2-forward_callback"))
        (head,) = await it.outbox.claim([shard], 10)
        assert await it.outbox.settle(head, Settlement.DELIVERED) is None
        lane = str(head.effect.pair)
        assert await it.calls.raw("LRANGE", KEYS.lane(head.effect.pair), 0, -1) == ["cb-2-forward_callback"]
        due = await it.calls.raw("ZSCORE", KEYS.of_shard(shard, LANES), lane)
        assert int(float(due)) == it.calls.now + LEASE_MS
        assert await it.outbox.settle(head, Settlement.DELIVERED) is None, "asked for again"
        it.calls.now += LEASE_MS
        assert await it.outbox.claim([shard], 10) == []
        await it.calls.raw("DEL", KEYS.delivery(shard, "cb-2-forward_callback"))


async def test_a_shard_whose_lanes_are_none_takes_no_other_along(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(redis) as it:
        shards = {}
        for number in range(40):
            await it.come(f"cb-{number}", number, FORWARD)
            shards[f"cb-{number}"] = await shard_of_callback(it, f"cb-{number}", number)
        broken = shards["cb-0"]
        await make_another(it, KEYS.of_shard(broken, LANES))
        with captured() as lines:
            claimed = await it.outbox.claim(range(SHARDS), 40)
        whose = {delivery.effect.effect_id.partition("-forward")[0] for delivery in claimed}
        assert whose == {name for name, shard in shards.items() if shard != broken}
        assert lines.text.count("failed inside the bridge") == 1
        for delivery in claimed:
            await it.outbox.settle(delivery, Settlement.HOLD)
    async with forwarded(tmp_path, redis) as (to, service):
        await eventually(lambda: set(to.ids) == whose, "all others are forwarded")
        assert len(to.ids) == len(whose), "once"
        assert len(await service.callbacks()) == 40


async def test_an_index_that_is_none_hides_its_own_shard_alone(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        shards = {}
        for number in range(20):
            await it.come(f"cb-{number}", number)
            shards[f"cb-{number}"] = await shard_of_callback(it, f"cb-{number}", number)
        await make_another(it, KEYS.of_shard(shards["cb-0"], CALLBACKS))
        for limit in (3, 100):
            assert set(await it.listed(limit)) == {name for name, at in shards.items() if at != shards["cb-0"]}


async def test_a_redis_that_is_away_is_no_damage(redis: EmbeddedRedis) -> None:
    async with desk(redis) as it:
        await it.come("cb-1")
        shard = await shard_of_callback(it, "cb-1", 2256)
        await redis.stop()
        for asked in (it.store.newest(1), it.store.get(shard, "cb-1"), it.store.find("cb-1", 1)):
            with pytest.raises(StoreUnavailable):
                await asked
        with pytest.raises(StoreUnavailable):
            await it.outbox.claim(range(SHARDS), 1)
        await redis.start()


async def test_gauges_of_calls_do_not_wait_for_those_of_callbacks(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(redis) as it:
        await make_another(it, KEYS.of_shard(0, WAITING))
    async with forwarded(tmp_path, redis) as (_, service):
        await service.call("c-1")
        await eventually(lambda: service.metric("bridge_calls_active") == 1, "the gauges are set")
        assert service.metric("bridge_redis_available") == 1
        assert (await service.come(callback(5, files=False)))[0] in (200, 500)

"""Calls in Redis that cannot be read, such as a newer version's after a rollback: the service and all others go on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import asyncio as redis_client

from bridge.calls.events import Pair
from bridge.pipeline import Pipeline
from bridge.store.calls import EXPIRED_MAX
from bridge.store.embedded import EmbeddedRedis
from bridge.store.keys import LANES, SHARDS, TIMERS, Keys, member, shard_of
from tests.e2e.support import ended, eventually, inbound
from tests.fakes.logs import captured
from tests.integration.service_support import Api, running
from tests.integration.store_support import A, B, bench

KEYS = Keys("aventa")
FOREIGN = ("v9 \x03packed otherwise", 'v9 {"c-1": {}}')
"""A mark of another version's, and no mark at all."""


@asynccontextmanager
async def raw(redis: EmbeddedRedis) -> AsyncIterator[redis_client.Redis]:
    async with redis_client.Redis(unix_socket_path=str(redis.socket_path)) as client:
        yield client


async def due(client: redis_client.Redis, pair: Pair, call_id: str) -> None:
    """Lets the call's timer run out."""
    await client.zadd(KEYS.of_shard(shard_of(pair), TIMERS), {member(pair, call_id): 1})


async def listed(api: Api) -> list[str]:
    return [call["callId"] for call in (await api.get("/v1/calls"))["calls"]]


@pytest.mark.parametrize("value", FOREIGN)
async def test_the_service_goes_on_beside_a_call_that_cannot_be_read(
    redis: EmbeddedRedis, tmp_path: Path, value: str
) -> None:
    broken, sound = Pair(1, 1), Pair(2, 2)
    async with running(tmp_path, redis) as api, raw(redis) as client:
        assert await api.post(inbound("c-1", broken)) == 202
        assert await api.post(inbound("c-2", sound)) == 202
        await api.delivered(2)
        readable = await client.get(KEYS.pair(broken))
        assert readable is not None
        await client.set(KEYS.pair(broken), value)
        with captured() as lines:
            assert await listed(api) == ["c-2"]
            assert "a call cannot be read" in lines.text
            for pair, call_id in ((broken, "c-1"), (sound, "c-2")):
                await due(client, pair, call_id)
            await api.delivered(3)  # the sound one's end
            await eventually(lambda: "call not expired" in lines.text)
        assert await api.post(inbound("c-3", sound)) == 202
        await api.get("/v1/calls/1/1", 500)
        assert await api.post(ended("c-1", broken)) == 500
        await client.set(KEYS.pair(broken), readable)
        await api.delivered(5)  # once it can be read, it has its turn


async def test_the_log_tells_once_of_a_call_that_cannot_be_expired(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        for pair in (A, B):
            await store.start(pair)
        pipeline = Pipeline(store.calls, store.outbox, store.policy, lambda shard: None)
        await store.raw("SET", store.keys.pair(A), FOREIGN[0])
        for pair in (A, B):
            await store.raw("ZADD", store.keys.of_shard(shard_of(pair), TIMERS), 1, member(pair, "c-1"))
        with captured() as lines:
            assert await pipeline.expire_due() == 1
            assert await pipeline.expire_due() == 0
        assert lines.text.count("call not expired") == 1


@pytest.mark.parametrize("left", ["unreadable", "held"])
async def test_however_many_cannot_be_expired_those_behind_them_have_their_turn(
    redis: EmbeddedRedis, left: str
) -> None:
    shard = [pair for pair in (Pair(1, number) for number in range(10_000)) if shard_of(pair) == 3]
    first, last = shard[: 2 * EXPIRED_MAX + 50], shard[-1]
    async with bench(redis.url) as store:
        for pair in (*first, last):
            await store.start(pair)
        if left == "unreadable":
            await store.raw("MSET", *(word for pair in first for word in (store.keys.pair(pair), FOREIGN[0])))
        timers = store.keys.of_shard(3, TIMERS)
        await store.raw("ZADD", timers, *(word for pair in first for word in (1, member(pair, "c-1"))))
        await store.raw("ZADD", timers, 2, member(last, "c-1"))
        pipeline = Pipeline(store.calls, store.outbox, store.policy, lambda shard: None)

        async def sweep() -> int:
            return await pipeline.expire_due(lambda pair: left == "held" and pair != last)

        with captured() as lines:
            assert [await sweep() for _ in range(3)] == [0, 0, 1], "a bounded part at each sweep"
            assert [await sweep() for _ in range(3)] == [0, 0, 0], "and then from the beginning"
        assert lines.text.count("call not expired") == (len(first) if left == "unreadable" else 0), "each once"
        assert await pipeline.expire_due() == (EXPIRED_MAX if left == "held" else 0)


async def test_what_reads_many_calls_passes_over_those_that_cannot_be_read(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        for pair in (A, B):
            await store.start(pair)
            await store.end(pair)
        await store.raw("HSET", store.keys.ended(A, "c-1"), "call", FOREIGN[0])
        with captured() as lines:
            found = await store.reads.ended_before(store.now + 1, 10, (0, ""))
        assert [(place[1], read is not None) for place, read in found] == [
            (member(A, "c-1"), False),
            (member(B, "c-1"), True),
        ]
        assert lines.text.count("cannot be read") == 1


async def test_a_shard_whose_keys_are_of_other_kinds_takes_no_other_along(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        for pair in (A, B):
            await store.start(pair)
            await store.raw("ZADD", store.keys.of_shard(shard_of(pair), TIMERS), 1, member(pair, "c-1"))
        for name in (LANES, TIMERS):
            await store.raw("SET", store.keys.of_shard(shard_of(A), name), "x")
        with captured() as lines:
            assert list(await store.claim()) == [B]
            assert await store.calls.expired() == [(B, "c-1")]
        assert lines.text.count("failed inside the bridge") == 2


async def test_the_service_outlives_a_redis_whose_keys_are_of_other_kinds(redis: EmbeddedRedis, tmp_path: Path) -> None:
    keys = [KEYS.of_shard(shard, name) for shard in range(SHARDS) for name in (LANES, TIMERS)]
    with captured() as lines:
        async with running(tmp_path, redis) as api, raw(redis) as client:
            await client.mset(dict.fromkeys(keys, "x"))
            for words in ("claiming failed inside the bridge", "housekeeping failed inside the bridge"):
                await eventually(lambda words=words: words in lines.text, words)
            await client.delete(*keys)
            assert await api.post(inbound("c-1", (1, 1))) == 202
            await api.delivered(1)

"""What Redis' memory consists of, by kind of key: a sample of keys weighed with MEMORY USAGE, the shared ones whole.

The kinds are those of `bridge.store.keys`. Part of what a key takes in Redis' own tables is not in MEMORY USAGE, so
the kinds come to less than `used_memory`.
"""

import asyncio
from collections import defaultdict
from typing import Any

from redis.asyncio import Redis

from bridge.settings import Settings
from bridge.store import keys as named

SHARED = (
    named.LANES, named.LEASES, named.TIMERS, named.ACTIVE, named.WAITING, named.PARKED, named.DELIVERED
)  # fmt: skip
"""One key a shard, however many calls there are."""
SAMPLE = 20_000


async def used_memory(redis: Redis) -> int:
    """Bytes that Redis holds, its own needs included."""
    info: dict[str, Any] = await redis.info("memory")
    return int(info["used_memory"])


async def quiet(redis: Redis) -> None:
    """Returns when Redis rewrites its append-only file no more: what filled it up set that off, and it takes a core."""
    while (info := await redis.info("persistence"))["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]:
        await asyncio.sleep(0.2)


def kind_of(key: str) -> str:
    """`pair`, `timeline`, `index`, ...: the word after the prefix and the shard."""
    words = key.split(":")
    return words[2] if words[1].startswith("{") else words[1]


async def by_kind(redis: Redis, sample: int = SAMPLE) -> dict[str, dict[str, float]]:
    """Per kind, the greatest first: about how many keys there are, and how many bytes they take together."""
    prefixed = named.Keys(Settings().redis.key_prefix)
    shared = {prefixed.of_shard(shard, name): name for name in SHARED for shard in range(named.SHARDS)}
    weights: dict[str, list[int]] = defaultdict(list)
    total, seen, cursor = await redis.dbsize(), 0, 0
    while True:
        cursor, found = await redis.scan(cursor, count=1000)
        names = [key if isinstance(key, str) else key.decode() for key in found]
        for name, weight in zip(names, await _weighed(redis, names, 5), strict=True):
            if name not in shared:
                weights[kind_of(name)].append(weight)
        seen += len(names)
        if cursor == 0 or seen >= sample:
            break
    told = {
        kind: {"keys": round(len(each) / seen * total), "bytes": sum(each) / seen * total}
        for kind, each in weights.items()
    }
    for name, weight in zip(shared.values(), await _weighed(redis, list(shared), 100), strict=True):
        kind = told.setdefault(f"{name} (shared)", {"keys": named.SHARDS, "bytes": 0})
        kind["bytes"] += weight
    return dict(sorted(told.items(), key=lambda each: -each[1]["bytes"]))


async def _weighed(redis: Redis, keys: list[str], samples: int) -> list[int]:
    async with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.memory_usage(key, samples=samples)
        return [weight or 0 for weight in await pipeline.execute()]

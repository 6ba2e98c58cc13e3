"""The steps that are Redis scripts: load, commit, claim and settle of one call after the other, and of 64 at a time.

At a time means asked for in one turn of the loop: the connection sends them together. What Redis itself works on a
script is read off its `commandstats`.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from benchmarks.speed.events import Step, Writer
from benchmarks.speed.figures import Spread, spread
from bridge import parts as made_of
from bridge.calls.decide import decide
from bridge.calls.events import CallEvent
from bridge.connect import connect
from bridge.intake import batch
from bridge.settings import Settings
from bridge.store.calls import CallStore, Commit
from bridge.store.deliveries import Settlement
from bridge.store.embedded import EmbeddedRedis
from bridge.store.keys import SHARDS, Keys
from bridge.store.outbox import Outbox

TOGETHER = 64
T = TypeVar("T")
R = TypeVar("R")


async def redis_parts(calls: int) -> dict[str, dict[str, Spread]]:
    """µs a call of each step; `calls` starts, half of them one after the other."""
    settings = Settings()
    translate, policy, keep = made_of.translator(settings, {}), made_of.policy(settings), made_of.retention(settings)
    writer = Writer("parts")
    events = []
    for number in range(calls):
        raw = writer.event(Step(number, False))
        event = batch.one(batch.parse(raw), raw, translate)
        assert isinstance(event, CallEvent)
        events.append(event)
    with tempfile.TemporaryDirectory(prefix="speed-") as directory:
        async with EmbeddedRedis(Path(directory) / "redis") as server:
            connection = connect(settings.redis, url=server.url)
            keys = Keys(settings.redis.key_prefix)
            store = CallStore(connection, keys, keep)
            outbox = Outbox(connection, keys, keep, lease_ms=60_000)

            async def busy_us() -> tuple[int, float]:
                """Calls of scripts so far, and µs that Redis spent on them and on single reads."""
                (told,) = (await connection.info("commandstats")).values()
                stats = [told.get(f"cmdstat_{name}") for name in ("evalsha", "hgetall")]
                return sum(one["calls"] for one in stats if one), sum(one["usec"] for one in stats if one)

            async def step(work: Callable[[T], Awaitable[R]], items: Sequence[T]) -> tuple[list[R], dict[str, Spread]]:
                """Does `work` for each of `items`: the first half alone, the second together."""
                half = len(items) // 2
                before, alone, together, done = await busy_us(), [], [], []
                for item in items[:half]:
                    began = perf_counter()
                    done.append(await work(item))
                    alone.append((perf_counter() - began) * 1e6)
                for at in range(half, len(items), TOGETHER):
                    group = items[at : at + TOGETHER]
                    began = perf_counter()
                    done += await asyncio.gather(*map(work, group))
                    together.append((perf_counter() - began) / len(group) * 1e6)
                after = await busy_us()
                redis = (after[1] - before[1]) / max(1, after[0] - before[0])
                return done, {"alone": spread(alone), "together": spread(together), "redis": spread([redis])}

            try:
                loaded, told_load = await step(store.load, events)
                decisions = [decide(one.calls, event, policy) for one, event in zip(loaded, events, strict=True)]
                made = list(zip(events, loaded, decisions, strict=True))
                done, told_commit = await step(lambda each: store.commit(*each), made)
                assert set(done) == {Commit.OK}
                deliveries = []
                claims: list[float] = []
                while True:
                    began = perf_counter()
                    claimed = await outbox.claim(range(SHARDS), 4)
                    if not claimed:
                        break
                    claims.append((perf_counter() - began) / len(claimed) * 1e6)
                    deliveries += claimed
                entry: dict[str, Any] = {"delivery": "-", "outcome": "delivered", "status": 201, "tookMs": 1}
                _, told_settle = await step(
                    lambda each: outbox.settle(each, Settlement.DELIVERED, errand_id="7", entry=entry), deliveries
                )
            finally:
                await connection.close()
    return {
        "load": told_load,
        "commit": told_commit,
        "claim, up to 64 lanes at once": {"together": spread(claims)},
        "settle": told_settle,
    }

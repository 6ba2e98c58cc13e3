"""`python -m benchmarks.dictionary FILE`: the dictionary that stored JSON is packed with, from what a bridge stored.

Plays the simulator's stories to a bridge, their ids in the styles that exchanges use, and reads back what lies in its
Redis: pairs, calls that are over, timelines. Half of it, by chance, makes the dictionary; the other half tells how
small it packs. A dictionary is part of the data: another one needs a mark of its own in `bridge.store.packing`.
"""

import asyncio
import random
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import zstandard
from aiohttp import ClientSession
from redis.asyncio import Redis

from benchmarks.speed.subjects import TOKEN, bridge
from bridge.cention.sandbox import Sandbox
from bridge.cli.stories import interleave, stories
from bridge.store import packing
from bridge.store.keys import SHARDS, WAITING, Keys

STORIES = 3000
SIZE = 4096
STYLES = ("simulator", "uuid", "digits", "sip")


def told(seed: int) -> Iterator[dict[str, Any]]:
    """The stories' events, in order; every story with ids of one style, and agents of any size of number."""
    rng = random.Random(seed)
    renamed: dict[tuple[str, str], str] = {}
    style_of: dict[str, str] = {}
    scale = [rng.choice((1, 7, 1009, 900_001)) for _ in range(40)]
    for due in interleave(stories(seed, calls=STORIES, start=datetime.now(UTC), rate=20.0, speed=60.0)):
        event = dict(due.event)
        call = str(event["callId"])
        style = style_of.setdefault(call, rng.choice(STYLES))
        for name in ("callId", "eventId"):
            event[name] = renamed.setdefault((name, event[name]), _id(style, str(event[name]), rng))
        for place in (event, event.get("transferredTo") or {}):
            for name in ("deviceId", "extensionId"):
                if name in place:
                    place[name] = place[name] * scale[place[name] % len(scale)]
        yield event


def _id(style: str, was: str, rng: random.Random) -> str:
    match style:
        case "uuid":
            return str(uuid.UUID(int=rng.getrandbits(128), version=4))
        case "digits":
            return str(rng.randrange(10**9, 10**12))
        case "sip":
            return f"{rng.getrandbits(64):x}@{rng.randrange(256)}.{rng.randrange(256)}.0.{rng.randrange(256)}"
        case _:
            return was


async def stored(seed: int) -> list[bytes]:
    """What a bridge's Redis holds packed when it has played the events of `seed`, and Cention's sandbox took them."""
    sandbox = Sandbox()
    base_url = await sandbox.start()
    with tempfile.TemporaryDirectory() as directory:
        async with bridge(cention__base_url=base_url)(Path(directory), 0) as subject, ClientSession() as session:
            for lines in _batches(told(seed)):
                async with session.post(
                    f"http://127.0.0.1:{subject.ports[0]}/v1/events",
                    data=b"\n".join(lines),
                    headers={"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {TOKEN}"},
                ) as answer:
                    answer.raise_for_status()
            async with Redis.from_url(subject.redis_url) as redis:
                while any([await redis.zcard(Keys("aventa").of_shard(shard, WAITING)) for shard in range(SHARDS)]):
                    await asyncio.sleep(0.1)
                found = [packing.unpack(packing.as_read(each)) async for each in _packed(redis)]
    await sandbox.stop()
    return found


def _batches(events: Iterator[dict[str, Any]]) -> Iterator[list[bytes]]:
    while lines := [orjson.dumps(event) for event in islice(events, 100)]:
        yield lines


async def _packed(redis: Redis) -> AsyncIterator[bytes]:
    async for key in redis.scan_iter(count=1000):
        match key.split(b":")[2:3]:
            case [b"timeline"]:
                for entry in await redis.lrange(key, 0, -1):
                    yield entry
            case [b"ended"]:
                yield await redis.hget(key, "call")
            case [b"pair"] if b" " in (value := await redis.get(key)):
                yield value.partition(b" ")[2]


def main() -> None:
    """Makes the dictionary, and tells what it saves beside the one in use."""
    found = asyncio.run(stored(1))
    random.Random(1).shuffle(found)
    learnt, tried = found[::2], found[1::2]
    trained = zstandard.train_dictionary(SIZE, learnt, level=packing.LEVEL).as_bytes()
    Path(sys.argv[1]).write_bytes(trained)
    print(f"{len(tried)} values of {sum(map(len, tried)) / len(tried):.0f} bytes on average take")
    for name, pack in (("in use", packing.pack), ("new", packing.Packer(trained).pack)):
        print(f"{sum(len(pack(each)) for each in tried) / len(tried):7.1f} bytes with the one {name}")


if __name__ == "__main__":
    main()

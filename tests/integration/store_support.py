"""Shared by the tests of the store and of delivery: a store on a real Redis, whose time is the test's own.

Not a test itself.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge.calls.decide import decide
from bridge.calls.effects import Effect, EffectKind, handed_over
from bridge.calls.events import CallEvent, Direction, EventKind, Facts, Pair
from bridge.calls.state import Policy
from bridge.runtime.clock import now_ms
from bridge.store.calls import CallStore, Commit, Loaded, Retention
from bridge.store.connection import Connection
from bridge.store.deliveries import Delivery
from bridge.store.keys import LANES, LEASES, SHARDS, Keys, shard_of
from bridge.store.outbox import Outbox
from bridge.store.reads import Reads

BEGIN_MS = 1_795_514_400_000  # 2026-11-24T10:00:00Z
LEASE_MS, GRACE_MS, AGE_MS = 1_000, 5_000, 60_000
RETENTION = Retention(seen_ms=3_600_000, ended_ms=600_000, age_ms=AGE_MS, grace_ms=GRACE_MS)
A, B = Pair(1000, 1001), Pair(2000, 2002)
INBOUND = Facts(Direction.INBOUND, "46846500401", "46846500401", calling_number="46701740605")
OUTBOUND = Facts(Direction.OUTBOUND, "0046701740606", "46701740606")
ALL_SHARDS = range(SHARDS)


@dataclass
class Bench:
    """A store, and the clock that it and its scripts go by.

    Attributes:
        now: milliseconds since the epoch; 0: the scripts go by Redis's own clock, as in a service.
    """

    connection: Connection
    keys: Keys
    retention: Retention
    policy: Policy = field(default_factory=Policy)
    now: int = BEGIN_MS

    def __post_init__(self) -> None:
        self.calls = CallStore(self.connection, self.keys, self.retention, lambda: self.now)
        self.outbox = Outbox(
            self.connection, self.keys, self.retention, lease_ms=LEASE_MS, server_time=lambda: self.now
        )
        self.reads = Reads(self.connection, self.keys)
        self._number = 0

    def event(self, kind: EventKind, pair: Pair = A, call_id: str = "c-1", **told: Any) -> CallEvent:
        """An event that happens now, with an id of its own."""
        self._number += 1
        at = self.now or now_ms()
        own = {"event_id": f"e-{self._number}", "kind": kind, "occurred_at": at, "call_id": call_id, "pair": pair}
        return CallEvent(**{**own, "body": "{}", **told})

    async def take(self, event: CallEvent) -> list[Effect]:
        """Load, decide, commit, as the pipeline does it, but without what follows a transfer."""
        loaded = await self.calls.load(event)
        assert not loaded.seen
        assert await self.commit(event, loaded) is Commit.OK
        return list(decide(loaded.calls, event, self.policy).effects)

    async def commit(self, event: CallEvent, loaded: Loaded) -> Commit:
        return await self.calls.commit(event, loaded, decide(loaded.calls, event, self.policy))

    async def start(self, pair: Pair = A, call_id: str = "c-1", facts: Facts = INBOUND, **told: Any) -> list[Effect]:
        return await self.take(self.event(EventKind.STARTED, pair, call_id, facts=facts, **told))

    async def end(self, pair: Pair = A, call_id: str = "c-1", facts: Facts | None = None) -> list[Effect]:
        return await self.take(self.event(EventKind.ENDED, pair, call_id, facts=facts or Facts()))

    async def transfer(self, pair: Pair = A, call_id: str = "c-1", to: Pair = B) -> Effect:
        """The first commit of a transfer; returns its hand-over, which nobody has carried out."""
        effects = await self.take(self.event(EventKind.TRANSFERRED, pair, call_id, transferred_to=to))
        (hand_over,) = [effect for effect in effects if effect.kind is EffectKind.HAND_OVER]
        return hand_over

    async def open_at_new_agent(self, hand_over: Effect) -> list[Effect]:
        """The second commit of a transfer."""
        return await self.take(handed_over(hand_over))

    async def claim(self, limit: int = 10, shards: Iterable[int] = ALL_SHARDS) -> dict[Pair, Delivery]:
        claimed = await self.outbox.claim(shards, limit)
        assert len({delivery.effect.pair for delivery in claimed}) == len(claimed)
        return {delivery.effect.pair: delivery for delivery in claimed}

    async def lane(self, pair: Pair = A) -> list[str]:
        (ids,) = await self.connection.run(("LRANGE", self.keys.lane(pair), 0, -1))
        return list(ids)

    async def due(self, pair: Pair = A) -> int | None:
        """When the pair's lane is due, or its lease ends."""
        (score,) = await self.connection.run(("ZSCORE", self.keys.of_shard(shard_of(pair), LANES), str(pair)))
        return None if score is None else int(float(score))

    async def leases(self) -> dict[str, str]:
        answers = await self.connection.run(*(("HGETALL", self.keys.of_shard(shard, LEASES)) for shard in ALL_SHARDS))
        return {lane: epoch for answer in answers for lane, epoch in answer.items()}

    async def delivery(self, effect: Effect) -> dict[str, str]:
        (held,) = await self.connection.run(("HGETALL", self.keys.delivery(shard_of(effect.pair), effect.effect_id)))
        return dict(held)

    async def raw(self, *command: Any) -> Any:
        (answer,) = await self.connection.run(command)
        return answer


@asynccontextmanager
async def bench(
    url: str, *, policy: Policy | None = None, prefix: str = "test", **retention: Any
) -> AsyncIterator[Bench]:
    """A store at `url`; `retention` replaces members of `RETENTION`."""
    connection = Connection(url, timeout_s=5, key_prefix=prefix)
    try:
        yield Bench(connection, Keys(prefix), replace(RETENTION, **retention), policy or Policy())
    finally:
        await connection.close()


_READ = {
    "string": ("GET",),
    "hash": ("HGETALL",),
    "list": ("LRANGE", 0, -1),
    "set": ("SMEMBERS",),
    "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    "stream": ("XRANGE", "-", "+"),
}


async def everything(connection: Connection) -> dict[str, str]:
    """All that Redis holds, by key."""
    (names,) = await connection.run(("KEYS", "*"))
    kinds = await connection.run(*(("TYPE", name) for name in names))
    reads = [(_READ[kind][0], name, *_READ[kind][1:]) for name, kind in zip(names, kinds, strict=True)]
    values = await connection.run(*reads)
    shown = (repr(sorted(value) if isinstance(value, set) else value) for value in values)
    return dict(zip(names, shown, strict=True))


class Proxy:
    """Stands between a client and a Redis on a unix socket, and keeps answers back.

    Attributes:
        url: where the client is to connect.
        open: while cleared, answers wait.
        cut: the next answer is swallowed and its connection broken: the server has done the work, nobody hears of it.
        instead: while set, what is answered to every command, and Redis hears nothing of it.
        only: with `instead`: only what leaves together with a command that holds these bytes is answered so.
        spoiled: while set, what is answered to every command, although Redis has done it.
        held: how many answers wait.
        connections: how many there have been.
    """

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self.url = ""
        self.open = asyncio.Event()
        self.open.set()
        self.cut = False
        self.instead = self.only = self.spoiled = b""
        self.held = self.connections = 0
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._socket_path)

        asked = 0

        async def questions() -> None:
            nonlocal asked
            while data := await reader.read(65_536):
                asked = 1 + data.count(b"\r\n*")  # each command begins so
                if self.instead and self.only in data:
                    writer.write(self.instead * asked)
                else:
                    to_server.write(data)
            to_server.close()

        asking = asyncio.create_task(questions())
        with contextlib.suppress(ConnectionError):
            while data := await from_server.read(65_536):
                self.held += 1
                await self.open.wait()
                self.held -= 1
                if self.cut:
                    self.cut = False
                    break
                writer.write(self.spoiled * asked or data)
        writer.transport.abort()
        asking.cancel()
        to_server.close()
        for stream in (writer, to_server):
            with contextlib.suppress(ConnectionError):
                await stream.wait_closed()

    async def reset(self) -> None:
        """Resets the connections that there are, as what stands between may, or a host that was started anew."""
        for writer in self._writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        self._writers.clear()

    async def ended(self) -> None:
        self.open.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*self._serving)


@asynccontextmanager
async def proxy(socket_path: Path) -> AsyncIterator[Proxy]:
    """A proxy on a loopback port. What uses it is to be closed first."""
    between = Proxy(socket_path)
    async with await asyncio.start_server(between, "127.0.0.1", 0) as listener:
        between.url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield between
        listener.close()
        await between.ended()

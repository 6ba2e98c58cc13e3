"""Cention's callbacks in Redis: which call one belongs to, the one step that commits it, and what is kept of it.

Must not know what a callback says: it comes as an id, a text, and what is told of it.

A callback lies in the shard of its call, since that is where its entry in the timeline goes; one without a known call
lies in a shard made from the errand's id, or its own. So where it lies can differ between two comings of the same
callback, and all shards are asked for its mark. Two comings at the same moment, of which only one finds the call, since
the errand's id is written down in between, are not seen to be one; what is forwarded then has the same id twice.

Invariants: a callback counts once; what it leads to is stored with it; a callback that something still waits for is
kept until its age is over.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any
from zlib import crc32

import orjson
from redis.exceptions import RedisError

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import NOTHING_TOLD, Pair
from bridge.runtime.clock import now_ms
from bridge.runtime.logs import get_logger
from bridge.store.calls import ServerTime, redis_time
from bridge.store.connection import SCRIPTS, Command, Connection, scored, unless_all_failed
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import (
    CALLBACKS,
    DELIVERED,
    LANES,
    PARKED,
    SHARDS,
    WAITING,
    CallbackKeys,
    Keys,
    member,
    parse_member,
    shard_of,
)
from bridge.store.reads import Position
from bridge.store.records import BROKEN, dump_effect, dump_entry

log = get_logger(__name__)

_FILE = "file:"


@dataclass(frozen=True, slots=True)
class CallbackRetention:
    """How long callbacks are kept, ms, and how many.

    Attributes:
        seen_ms: for how long a repetition is known for one.
        kept: most that are kept, over all shards.
        timeline_entries: most entries of a call's timeline.
    """

    seen_ms: int
    age_ms: int
    kept: int
    timeline_entries: int = 500


@dataclass(frozen=True, slots=True)
class Place:
    """Where a callback lies, or will.

    Attributes:
        call: whose errand it is about; None: that is not known.
        seen: it came before.
    """

    shard: int
    call: tuple[Pair, str] | None
    seen: bool


@dataclass(frozen=True, slots=True)
class NewCallback:
    """A callback that has come.

    Attributes:
        errand_id: the errand's; None where it tells none.
        told: what is shown of it, as JSON can hold it; with it go its call and the time.
        document: Cention's JSON, without the secret.
    """

    callback_id: str
    errand_id: int | None
    told: dict[str, Any]
    document: bytes


@dataclass(frozen=True, slots=True)
class Job:
    """What became of one thing that a callback led to: the delivery's state, tries, and why it is not delivered."""

    delivery_id: str
    state: str
    attempts: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KeptCallback:
    """A callback as it is kept.

    Attributes:
        received_at: ms since the epoch.
        told: as in `NewCallback`.
        files: what is told of each file that is stored, by its name here.
        jobs: those that are still known, in their order.
        document: Cention's JSON; None where it was not asked for.
    """

    callback_id: str
    received_at: int
    call: tuple[Pair, str] | None
    told: dict[str, Any]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: tuple[Job, ...] = ()
    document: str | None = None


class UnreadableCallback(Exception):
    """What is kept of a callback is damaged, or not ours."""


class CallbackStore:
    """Keeps callbacks. Every method raises `StoreUnavailable` when Redis is away.

    Args:
        calls: the keys of calls.
        keys: those of callbacks.
    """

    def __init__(
        self,
        connection: Connection,
        calls: Keys,
        keys: CallbackKeys,
        retention: CallbackRetention,
        server_time: ServerTime = redis_time,
    ) -> None:
        self._run, self._run_each = connection.run, connection.run_each
        self._waits = connection.durability.command is not None
        self._calls, self._keys, self._keep, self._now = calls, keys, retention, server_time

    async def find(self, callback_id: str, errand_id: int | None) -> Place:
        """Where the callback lies or will lie, and which call it belongs to."""
        shards = range(SHARDS)
        commands: list[tuple[Any, ...]] = [("EXISTS", self._keys.mark(shard, callback_id)) for shard in shards]
        if errand_id is not None:
            commands += [("GET", self._calls.errand(shard, errand_id)) for shard in shards]
        answers = await self._read(*commands)
        call = next((call for found in answers[SHARDS:] if (call := _call(found)) is not None), None)
        for shard, seen in enumerate(answers[:SHARDS]):
            if seen:
                return Place(shard, call, seen=True)
        if call is not None:
            return Place(shard_of(call[0]), call, seen=False)
        # By the errand where there is one: lanes are of a shard, and one errand's callbacks keep their order in them.
        return Place(crc32(f"{errand_id or callback_id}".encode()) % SHARDS, None, seen=False)

    async def confirm(self, place: Place, callback_id: str) -> None:
        """Returns when the commit of a callback that was seen before is as durable as a commit is to be."""
        if self._waits:
            key = self._keys.mark(place.shard, callback_id)
            await self._run(("PEXPIRE", key, self._keep.seen_ms), promised=True)

    async def commit(self, callback: NewCallback, place: Place, jobs: Sequence[Effect]) -> bool:
        """Writes mark, callback, timeline entry and deliveries in one step.

        Returns:
            False if it was there already, and nothing was done.
        """
        keys, keep, shard, callback_id = self._keys, self._keep, place.shard, callback.callback_id
        call = None if place.call is None else member(*place.call)
        told = {"at": now_ms(), "callback": callback_id, **callback.told}
        args = [
            self._now(), callback_id, keep.seen_ms, keep.age_ms, -(-keep.kept // SHARDS),
            b"" if call is None else dump_entry(told), keep.timeline_entries, keys.shard(shard),
            orjson.dumps({**callback.told, "call": call}), callback.document,
        ]  # fmt: skip
        for job in jobs:
            args += [job.effect_id, str(job.pair), dump_effect(job)]
        record = keys.callback(shard, callback_id)
        script = SCRIPTS["callback"].call(
            [
                keys.mark(shard, callback_id), record, keys.document(shard, callback_id),
                keys.of_shard(shard, CALLBACKS), record if place.call is None else self._calls.timeline(*place.call),
                keys.of_shard(shard, LANES), keys.of_shard(shard, WAITING), keys.of_shard(shard, PARKED),
                keys.of_shard(shard, DELIVERED),
            ],
            args,
        )  # fmt: skip
        (answer,) = await self._run(script, promised=True)
        return bool(answer == "ok")

    async def get(self, shard: int, callback_id: str) -> KeptCallback | None:
        """The callback with its document, without its jobs; None: it is forgotten.

        Raises:
            UnreadableCallback: it cannot be read.
        """
        held, document = await self._read(
            ("HGETALL", self._keys.callback(shard, callback_id)),
            ("HGET", self._keys.document(shard, callback_id), "document"),
        )
        if not held or document is None:
            return None
        try:
            if isinstance(document, RedisError):
                raise document
            return _kept(callback_id, held, document=document)
        except (*BROKEN, RedisError) as error:
            raise UnreadableCallback(f"{type(error).__name__}: {error}") from error

    async def look_up(self, callback_id: str) -> KeptCallback | None:
        """The callback with its document and jobs, wherever it lies; None: there is none.

        Raises:
            UnreadableCallback: it cannot be read.
        """
        shards = range(SHARDS)
        for shard, there in enumerate(
            await self._run(*(("EXISTS", self._keys.callback(shard, callback_id)) for shard in shards))
        ):
            if there and (kept := await self.get(shard, callback_id)) is not None:
                (with_jobs,) = await self._records([(kept.received_at, callback_id, shard)])
                return kept if with_jobs is None else replace(with_jobs, document=kept.document)
        return None

    async def keep_file(self, shard: int, callback_id: str, name: str, told: dict[str, Any]) -> None:
        """Notes that the file called `name` here is stored."""
        key = self._keys.callback(shard, callback_id)
        await self._run(SCRIPTS["callback_file"].call([key], [_FILE + name, orjson.dumps(told)]))

    async def files(self, whose: Sequence[tuple[Pair, str]]) -> list[dict[str, dict[str, Any]]]:
        """What is told of the stored files of each callback, which is named by its call's pair and its id."""
        if not whose:
            return []
        keys = [self._keys.callback(shard_of(pair), callback_id) for pair, callback_id in whose]
        found = []
        for (_, callback_id), held in zip(whose, await self._read(*(("HGETALL", key) for key in keys)), strict=True):
            try:
                found.append(_files(held))
            except BROKEN as error:
                _tell(callback_id, error)
                found.append({})
        return found

    async def newest(self, limit: int, after: Position | None = None) -> tuple[list[KeptCallback], Position | None]:
        """Up to `limit` callbacks without their documents, newest first, and where the next page begins.

        Args:
            after: where the page before this one ended; None for the first page.
        """
        positions = await self._positions(limit, after)
        found = [kept for kept in await self._records(positions) if kept is not None]
        return found, positions[-1][:2] if len(positions) == limit else None

    async def _positions(self, limit: int, after: Position | None) -> list[tuple[int, str, int]]:
        """The next `limit` over all shards, newest first: when it came, its id, its shard."""
        least = now_ms() - self._keep.age_ms

        async def of(shard: int) -> list[tuple[int, str, int]]:
            key = self._keys.of_shard(shard, CALLBACKS)
            commands: list[tuple[Any, ...]] = [
                ("ZREVRANGEBYSCORE", key, "+inf", least, "WITHSCORES", "LIMIT", 0, limit)
            ]
            if after is not None:
                # Those that came in the same millisecond as the last one shown, then those before it.
                commands = [
                    ("ZREVRANGEBYSCORE", key, after[0], after[0], "WITHSCORES"),
                    ("ZREVRANGEBYSCORE", key, f"({after[0]}", least, "WITHSCORES", "LIMIT", 0, limit),
                ]
            found = [place for answer in await self._run(*commands) for place in scored(answer)]
            return [(at, name, shard) for at, name in found if after is None or (at, name) < after]

        # What is asked for in one turn of the loop leaves together.
        shards = await asyncio.gather(*(of(shard) for shard in range(SHARDS)), return_exceptions=True)
        for shard in shards:
            if isinstance(shard, StoreUnavailable):
                raise shard
        return sorted((place for places in unless_all_failed(shards) for place in places), reverse=True)[:limit]

    async def _records(self, positions: Sequence[tuple[int, str, int]]) -> list[KeptCallback | None]:
        async def of(callback_id: str, shard: int) -> KeptCallback | None:
            (held,) = await self._read(("HGETALL", self._keys.callback(shard, callback_id)))
            try:
                return _kept(callback_id, held, await self._jobs(shard, held["jobs"].split())) if held else None
            except BROKEN as error:
                _tell(callback_id, error)
                return None

        return await asyncio.gather(*(of(callback_id, shard) for _, callback_id, shard in positions))

    async def _jobs(self, shard: int, ids: Sequence[str]) -> tuple[Job, ...]:
        if not ids:
            return ()
        keys = [self._keys.delivery(shard, delivery_id) for delivery_id in ids]
        answers = await self._read(*(("HMGET", key, "state", "attempts", "reason") for key in keys))
        return tuple(
            Job(delivery_id, answer[0], int(answer[1] or 0), "" if answer[0] == "delivered" else answer[2] or "")
            for delivery_id, answer in zip(ids, answers, strict=True)
            if isinstance(answer, list) and answer[0] is not None
        )

    async def _read(self, *commands: Command) -> list[Any]:
        """The answers; where a key is of another type than ours, the error in the answer's place.

        Reading that as what it should have been fails with one of `BROKEN`.
        """
        answers = await self._run_each(*commands)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, RedisError):
                raise answer
        return answers


def lane_of(number: int, shard: int, place: int) -> Pair:
    """The lane number `place` (0, 1, …) of `number`, such as an errand's id, in `shard`.

    An outbox tells a lane's shard from its pair: so a pair is sought that leads to this one.
    """
    lanes = (lane for extension in range(1_000_000) if shard_of(lane := Pair(number, extension)) == shard)
    return next(islice(lanes, place, None))


def job_of(kind: EffectKind, callback_id: str, lane: Pair, call: tuple[Pair, str] | None, name: str = "") -> Effect:
    """A thing to do because of a callback; its id holds the callback's, and `name` where there are several."""
    return Effect(
        effect_id=f"{callback_id}-{kind.value}{name and '-' + name}",
        kind=kind,
        call_id="" if call is None else member(*call),
        pair=lane,
        at=now_ms(),
        facts=NOTHING_TOLD,
        reason="callback",
    )


def parse_job(job: Effect) -> tuple[str, str]:
    """The callback's id and the `name` of `job_of(...)`."""
    callback_id, _, name = job.effect_id.partition(f"-{job.kind.value}")
    return callback_id, name.removeprefix("-")


def _kept(
    callback_id: str, held: dict[str, str], jobs: tuple[Job, ...] = (), document: str | None = None
) -> KeptCallback:
    told = orjson.loads(held["told"])
    call = told.pop("call")
    return KeptCallback(
        callback_id=callback_id,
        received_at=int(held["received"]),
        call=None if call is None else parse_member(call),
        told=told,
        files=_files(held),
        jobs=jobs,
        document=document,
    )


def _call(found: Any) -> tuple[Pair, str] | None:
    """The call that an errand's id leads to; None where there is none that can be read."""
    try:
        return None if found is None else parse_member(found)
    except BROKEN as error:
        log.error("what an errand leads to cannot be read; its callback is of no call", error=type(error).__name__)
        return None


def _tell(callback_id: str, error: Exception) -> None:
    log.error("a callback cannot be read; it is passed over", callback=callback_id, error=type(error).__name__)


def _files(held: dict[str, str]) -> dict[str, dict[str, Any]]:
    # A hash has no order of its own; by kind, then by number, as names end in one.
    names = sorted((name.rpartition("-")[0], len(name), name) for name in held if name.startswith(_FILE))
    return {name.removeprefix(_FILE): orjson.loads(held[name]) for _, _, name in names}

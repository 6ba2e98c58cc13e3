"""The calls in Redis: what a decision is made on, and the one step that commits it.

Invariant: a decision is committed only on the version of the pair that it was made on, and an event only once.
Source: architecture, "One atomic commit", "Shards".
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from bridge.calls.decide import Decision
from bridge.calls.events import CallEvent, EventKind, Pair
from bridge.calls.state import LIVE, OVER, Call, Timer
from bridge.runtime.clock import now_ms, rfc3339
from bridge.store.connection import SCRIPTS, Connection, unless_all_failed
from bridge.store.keys import (
    ACTIVE,
    DELIVERED,
    FINISHED,
    LANES,
    PARKED,
    SHARDS,
    TIMERS,
    WAITING,
    Keys,
    member,
    parse_member,
    shard_of,
)
from bridge.store.records import dump_call, dump_effect, load_call

ServerTime = Callable[[], int]


def redis_time() -> int:
    """0, which the scripts read as "take the server's clock": replicas' clocks may differ, Redis's is one."""
    return 0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is over is kept, ms, and how much of it.

    Attributes:
        errand_ms: how long an errand's id leads to its call; 0: it does not.

    Source: contract section 6 (`calls.*`); architecture, "Shards": bounded by count and age.
    """

    seen_ms: int
    ended_ms: int
    age_ms: int
    grace_ms: int
    timeline_entries: int = 500
    delivered_per_shard: int = 1000
    errand_ms: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is known of an event's pair: its version, its calls by id, and whether the event was seen before."""

    version: str
    calls: dict[str, Call]
    seen: bool


class Commit(StrEnum):
    """What the commit script answers."""

    OK = "ok"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    NOT_DUE = "not_due"


class CallStore:
    """Loads and commits. Every method raises `StoreUnavailable` when Redis is away or refuses writes."""

    def __init__(
        self, connection: Connection, keys: Keys, retention: Retention, server_time: ServerTime = redis_time
    ) -> None:
        self._run, self._run_each = connection.run, connection.run_each
        self._waits = connection.durability.command is not None
        self._keys, self._retention, self._now = keys, retention, server_time

    async def load(self, event: CallEvent) -> Loaded:
        """What a decision on `event` is made on."""
        pair, call_id = event.pair, event.call_id
        held, ended, seen = await self._run(
            ("HGETALL", self._keys.pair(pair)),
            ("HGET", self._keys.ended(pair, call_id), "call"),
            ("EXISTS", self._keys.seen(pair, event.event_id)),
        )
        calls = {field[2:]: load_call(raw, field[2:], pair) for field, raw in held.items() if field.startswith("c:")}
        if ended is not None and call_id not in calls:
            calls[call_id] = load_call(ended, call_id, pair)
        return Loaded(held.get("v", "0"), calls, bool(seen))

    async def confirm(self, event: CallEvent) -> None:
        """Returns when the commit of `event`, which was seen before, is as durable as a commit is to be.

        Its first answer may have been that it is not. Writes: WAIT speaks of what its own connection wrote.
        """
        if self._waits:
            await self._run(
                ("PEXPIRE", self._keys.seen(event.pair, event.event_id), self._retention.seen_ms), promised=True
            )

    async def commit(self, event: CallEvent, loaded: Loaded, decision: Decision) -> Commit:
        """Writes state, duplicate mark, timeline entry, timer and deliveries in one step, or nothing."""
        keys, keep, call, pair = self._keys, self._retention, decision.call, event.pair
        shard, name = shard_of(pair), member(pair, event.call_id)
        timers = {
            Timer.AGE: str(keep.age_ms),
            Timer.GRACE: str(keep.grace_ms),
            Timer.KEEP: "keep",
            Timer.CLEAR: "clear",
        }
        place = "live" if call.state in LIVE else "ended" if call.state in OVER else "hidden"
        ours = event.kind is EventKind.EXPIRED
        args = [
            self._now(), loaded.version, event.call_id, name, str(pair), place, dump_call(call), call.started_at,
            timers[decision.timer], 0 if ours else keep.seen_ms, keep.ended_ms, keep.age_ms + keep.ended_ms,
            keep.timeline_entries, _entry(event, decision), int(ours), keys.delivery(shard, ""),
        ]  # fmt: skip
        for effect in decision.effects:
            args += [effect.effect_id, dump_effect(effect), effect.after or ""]
        commands = []
        if event.call_id not in loaded.calls or decision.timer is Timer.AGE:
            # Whenever the call gets a new life, or the index would end before it. Before the commit: an index entry
            # without a call does no harm, a call without one could not be found.
            index = keys.index(event.call_id)
            life = keep.age_ms + keep.ended_ms
            commands = [("SADD", index, str(pair)), ("PEXPIRE", index, life)]
        script = SCRIPTS["commit"].call(
            [
                keys.pair(pair), keys.ended(pair, event.call_id), keys.seen(pair, event.event_id),
                keys.timeline(pair, event.call_id), keys.lane(pair), keys.of_shard(shard, LANES),
                keys.of_shard(shard, TIMERS), keys.of_shard(shard, ACTIVE), keys.of_shard(shard, WAITING),
                keys.of_shard(shard, PARKED), keys.of_shard(shard, DELIVERED),
            ],
            args,
        )  # fmt: skip
        finished = self._finished(pair, decision) if place == "ended" and call.has_errand else ()
        *_, answer = await self._run(*finished, script, first=commands, promised=True)
        return Commit(answer)

    def _finished(self, pair: Pair, decision: Decision) -> tuple[tuple[Any, ...], ...]:
        """What lists a call that ends, with its errand, among those that can be compared with Cention.

        As with the index: listed and not ended does no harm, the reader looks at the call itself.
        """
        if decision.was in OVER:
            return ()
        key, at = self._keys.of_shard(shard_of(pair), FINISHED), self._now() or now_ms()
        return (
            ("ZADD", key, at, member(pair, decision.call.call_id)),
            ("ZREMRANGEBYSCORE", key, "-inf", at - self._retention.ended_ms),
        )

    async def expired(self, limit_per_shard: int = 100) -> list[tuple[Pair, str]]:
        """Calls whose timer has run out, the longest first in each shard; none of those shards that are away."""
        (now,) = [self._now()] if self._now() else await self._time()
        shards = await self._run_each(
            *(
                ("ZRANGEBYSCORE", self._keys.of_shard(shard, TIMERS), "-inf", now, "LIMIT", 0, limit_per_shard)
                for shard in range(SHARDS)
            )
        )
        return [parse_member(name) for names in unless_all_failed(shards) for name in names]

    async def forget_timer(self, pair: Pair, call_id: str) -> None:
        """Removes the timer of a call that is not known (any more)."""
        await self._run(("ZREM", self._keys.of_shard(shard_of(pair), TIMERS), member(pair, call_id)))

    async def _time(self) -> list[int]:
        (answer,) = await self._run(("TIME",))
        return [int(answer[0]) * 1000 + int(answer[1]) // 1000]


def _entry(event: CallEvent, decision: Decision) -> bytes:
    """An event's timeline entry: what came, and what was made of it."""
    return orjson.dumps(
        {
            "at": rfc3339(now_ms()),
            "eventId": event.event_id,
            "type": event.kind,
            "occurredAt": rfc3339(event.occurred_at),
            "from": decision.was,
            "to": decision.call.state,
            **({"effects": [effect.effect_id for effect in decision.effects]} if decision.effects else {}),
            **({"notes": list(event.notes)} if event.notes else {}),
            **({"event": event.body} if event.body is not None else {}),
        }
    )

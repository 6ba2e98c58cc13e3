"""The calls in Redis: what a decision is made on, and the one step that commits it.

Most events find their pair as the one before left it, so a decision is made on what is remembered, and Redis is asked
once. Where the pair has moved on, the commit does nothing and says how the pair stands, and the decision is made again.

Invariants: a decision is committed only on the version of the pair that it was made on, and an event only once. No two
writes give a pair the same version, be they of different replicas or on both sides of a failover that lost some: so
what is remembered can be old, and never wrong.
Source: architecture, "One atomic commit", "Shards".
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from secrets import token_hex
from typing import Any

from bridge.calls.decide import Decision
from bridge.calls.events import CallEvent, EventKind, Pair
from bridge.calls.state import LIVE, OVER, Call, Timer
from bridge.runtime.clock import monotonic, now_ms
from bridge.store.connection import SCRIPTS, Command, Connection, unless_all_failed
from bridge.store.deliveries import Delivery, Taker
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import (
    ACTIVE,
    DELIVERED,
    ERRANDS,
    FINISHED,
    LANES,
    LEASES,
    PARKED,
    SHARDS,
    TIMERS,
    WAITING,
    Keys,
    member,
    parse_member,
    shard_of,
)
from bridge.store.packing import as_read, as_stored
from bridge.store.records import (
    call_from_dict,
    call_to_dict,
    dump_call,
    dump_effect,
    dump_entry,
    dump_pair,
    load_call,
    load_pair,
)

ServerTime = Callable[[], int]

PAIRS_REMEMBERED = 8192
"""About 5 MB: more agents than one replica has at work in most places. The others' pairs are asked for."""


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
    """What is known of an event's pair.

    Attributes:
        version: the pair's, "" for none.
        calls: its calls, and the event's own if that is over, by id.
        seen: whether the event was seen before; False where Redis was not asked.
        held: the pair's calls as they are stored.
        over: the event's own call as it is stored, if it is over; else "".
    """

    version: str
    calls: dict[str, Call]
    seen: bool
    held: dict[str, dict[str, Any]]
    over: str


class Commit(StrEnum):
    """What the commit script answers."""

    OK = "ok"
    LEASED = "leased"
    """Done, and its first delivery is with whoever had a place for it."""
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    NOT_DUE = "not_due"


class CallStore:
    """Loads and commits. Every method raises `StoreUnavailable` when Redis is away or refuses writes."""

    def __init__(
        self, connection: Connection, keys: Keys, retention: Retention, server_time: ServerTime = redis_time
    ) -> None:
        self._run, self._run_each = connection.run, connection.run_each
        self._keys, self._retention, self._now = keys, retention, server_time
        self._remembered: dict[Pair, tuple[str, str, str]] = {}
        """Per pair: its value, a call of it that is over, and that call's id; the one used last stands last."""
        self._writer, self._writes = token_hex(4), 0
        self._taker: Taker | None = None

    def hand_to(self, taker: Taker) -> None:
        """Lets a commit hand its first delivery over at once, where nothing waits in its lane before it."""
        self._taker = taker

    def recall(self, event: CallEvent) -> Loaded:
        """What a decision on `event` may be made on without asking: what was last heard of its pair, or that it is new.

        A commit that was decided on this finds out whether it still holds.
        """
        value, over, over_id = self._remembered.get(event.pair, ("", "", ""))
        return _loaded(event, value, over if over_id == event.call_id else "", seen=False)

    async def load(self, event: CallEvent) -> Loaded:
        """What a decision on `event` is made on."""
        pair, call_id = event.pair, event.call_id
        value, over, seen = await self._run(
            ("GET", self._keys.pair(pair)),
            ("HGET", self._keys.ended(pair, call_id), "call"),
            ("EXISTS", self._keys.seen(pair, event.event_id)),
        )
        self._remember(event, value or "", over or "")
        return _loaded(event, value or "", over or "", seen=bool(seen))

    async def commit(self, event: CallEvent, loaded: Loaded, decision: Decision) -> Commit:
        """Writes state, duplicate mark, timeline entry, timer and deliveries in one step, or nothing.

        Where a worker has a place, and nothing waits in the lane, the first delivery is leased in the same step, so
        that most are never claimed. After a `CONFLICT`, `recall` has what to decide on. A `DUPLICATE` is as durable as
        the first one was to be: its mark is written again, and WAIT speaks of what its own connection wrote.
        """
        keys, keep, call, pair = self._keys, self._retention, decision.call, event.pair
        held, over = dict(loaded.held), b""
        if call.state in OVER:
            held.pop(event.call_id, None)
            over = dump_call(call)
        else:
            held[event.call_id] = call_to_dict(call)
        self._writes += 1
        version = f"{self._writer}{self._writes:x}"
        value = dump_pair(version, held)
        before = loaded.calls.get(event.call_id)
        first: list[Command] = []
        if before is None or decision.timer is Timer.AGE:
            # Whenever the call gets a new life, or the index would end before it. Before the commit: an index entry
            # without a call does no harm, a call without one could not be found.
            index = keys.index(event.call_id)
            first = [("HSET", index, str(pair), ""), ("PEXPIRE", index, keep.age_ms + keep.ended_ms)]
        began, lease_ms = monotonic(), self._offered(event, decision)
        leased: Delivery | None = None
        lost: Delivery | None = None
        try:
            script = self._script(event, loaded, decision, value, over, lease_ms)
            ((said, *told),) = await self._run(script, first=first, promised=True)
            if said == Commit.LEASED:
                leased = Delivery(decision.effects[0], version, 1, int(told[0]), leased_at=began)
        except StoreUnavailable:
            if lease_ms:
                lost = Delivery(decision.effects[0], version, 1, now_ms(), leased_at=began)
            raise
        finally:
            self._hand_over(leased, lost, lease_ms)
        if said == Commit.CONFLICT:
            self._remember(event, *told)
        elif said in (Commit.OK, Commit.LEASED):
            self._remember(event, as_read(value), as_read(over))
        return Commit(said)

    def _script(
        self,
        event: CallEvent,
        loaded: Loaded,
        decision: Decision,
        value: bytes,
        over: bytes,
        lease_ms: int,
    ) -> Command:
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
        # It can be compared with Cention from now on.
        finished = call.state in OVER and decision.was not in OVER and call.has_errand
        args = [
            self._now(), loaded.version, as_stored(loaded.over), name, str(pair), place, value, over, call.started_at,
            timers[decision.timer], 0 if ours else keep.seen_ms, keep.ended_ms, keep.age_ms + keep.ended_ms,
            keep.timeline_entries, _entry(event, decision), int(ours), keys.delivery(shard, ""), lease_ms,
            int(finished),
        ]  # fmt: skip
        for effect in decision.effects:
            args += [effect.effect_id, dump_effect(effect), effect.after or ""]
        return SCRIPTS["commit"].call(
            [
                keys.pair(pair), keys.ended(pair, event.call_id), keys.seen(pair, event.event_id),
                keys.timeline(pair, event.call_id), keys.lane(pair), keys.of_shard(shard, LANES),
                keys.of_shard(shard, TIMERS), keys.of_shard(shard, ACTIVE), keys.of_shard(shard, WAITING),
                keys.of_shard(shard, PARKED), keys.of_shard(shard, DELIVERED), keys.of_shard(shard, ERRANDS),
                keys.of_shard(shard, LEASES), keys.of_shard(shard, FINISHED),
            ],
            args,
        )  # fmt: skip

    def _offered(self, event: CallEvent, decision: Decision) -> int:
        """The lease for the first delivery, ms; 0: it has to be claimed."""
        if self._taker is None or not decision.effects or decision.effects[0].after is not None:
            return 0
        return self._taker.offer(shard_of(event.pair))

    def _hand_over(self, leased: Delivery | None, lost: Delivery | None, lease_ms: int) -> None:
        if self._taker is not None and leased is not None:
            self._taker.take(leased)
        elif self._taker is not None and lease_ms:
            self._taker.forgo(lost)

    def _remember(self, event: CallEvent, value: str, over: str) -> None:
        self._remembered.pop(event.pair, None)
        self._remembered[event.pair] = (value, over, event.call_id)
        if len(self._remembered) > PAIRS_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

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


def _loaded(event: CallEvent, value: str, over: str, *, seen: bool) -> Loaded:
    version, held = load_pair(value)
    pair, own = event.pair, event.call_id
    calls = {call_id: call_from_dict(data, call_id, pair) for call_id, data in held.items()}
    if over and own not in calls:
        calls[own] = load_call(over, own, pair)
    return Loaded(version, calls, seen, held, over)


def _entry(event: CallEvent, decision: Decision) -> bytes:
    """An event's timeline entry: what came, and what was made of it."""
    return dump_entry(
        {
            "at": now_ms(),
            "eventId": event.event_id,
            "type": event.kind,
            "occurredAt": event.occurred_at,
            "from": decision.was,
            "to": decision.call.state,
            **({"effects": [effect.effect_id for effect in decision.effects]} if decision.effects else {}),
            **({"notes": list(event.notes)} if event.notes else {}),
            **({"event": event.body} if event.body is not None else {}),
        }
    )

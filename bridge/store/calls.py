"""The calls in Redis: what a decision is made on, and the one step that commits it.

Most events find their pair as the one before left it, so a decision is made on what is remembered, and Redis is asked
once. Where the pair has moved on, the commit does nothing and says how the pair stands, and the decision is made again.

Invariants: a decision is committed only on the version of the pair that it was made on, and an event only once. No two
writes give a pair the same version, be they of different replicas or on both sides of a failover that lost some: so
what is remembered can be old, and never wrong.
Source: architecture, "One atomic commit", "Shards".
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from secrets import token_hex
from typing import Any, NamedTuple

from bridge.calls.decide import Decision
from bridge.calls.events import CallEvent, EventKind, Pair
from bridge.calls.state import LIVE, OVER, Call, Timer
from bridge.runtime.clock import monotonic, now_ms
from bridge.store.connection import SCRIPTS, Command, Connection, unless_all_failed
from bridge.store.deliveries import Delivery, Taker
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import SHARDS, TIMERS, Keys, member, parse_member, shard_of
from bridge.store.packing import as_stored
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

PAIRS_REMEMBERED = 4096
"""About 10 MB: more agents than one replica has at work in most places. The others' pairs are asked for."""
TRIM_EVERY = 16
"""Of so many ends of ours in a shard, one takes away what is too old among its calls that have ended."""
EXPIRED_MAX = 100
"""Calls of one shard whose timers one sweep looks at."""
_LIVE = "-"


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


class Loaded(NamedTuple):
    """What is known of an event's pair.

    Attributes:
        version: the pair's, "" for none.
        calls: its calls, and the event's own if that is over, by id.
        seen: whether the event was seen before; False where Redis was not asked.
        held: the pair's calls as they are stored.
        over: the event's own call as it is stored, if it is over; else b"".
    """

    version: str
    calls: Mapping[str, Call]
    seen: bool
    held: Mapping[str, dict[str, Any]]
    over: bytes


class _Remembered(NamedTuple):
    """How a pair stood when it was last heard of, and one call of it that is over.

    Attributes:
        version, held: as in `Loaded`.
        calls: those in `held`, by id.
        ended: the call that is over; None: there was none.
        over: that as it is stored, else b"".
    """

    version: str
    calls: Mapping[str, Call]
    held: Mapping[str, dict[str, Any]]
    ended: Call | None
    over: bytes

    def loaded(self, event: CallEvent, *, seen: bool) -> Loaded:
        if self.ended is None or self.ended.call_id != event.call_id or event.call_id in self.calls:
            return Loaded(self.version, self.calls, seen, self.held, b"")
        return Loaded(self.version, {**self.calls, event.call_id: self.ended}, seen, self.held, self.over)


_NOTHING = _Remembered("", {}, {}, None, b"")


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
        self._connection = connection
        self._run, self._run_each, self._ask = connection.run, connection.run_each, connection.ask
        self._keys, self._retention, self._now = keys, retention, server_time
        self._remembered: dict[Pair, _Remembered] = {}
        """The one used last stands last."""
        self._writer, self._writes, self._ends = token_hex(4), 0, [0] * SHARDS
        self._taker: Taker | None = None
        self._timers = {
            Timer.AGE: str(retention.age_ms),
            Timer.GRACE: str(retention.grace_ms),
            Timer.KEEP: "keep",
            Timer.CLEAR: "clear",
        }

    def hand_to(self, taker: Taker) -> None:
        """Lets a commit hand its first delivery over at once, where nothing waits in its lane before it."""
        self._taker = taker

    def recall(self, event: CallEvent) -> Loaded:
        """What a decision on `event` may be made on without asking: what was last heard of its pair, or that it is new.

        A commit that was decided on this finds out whether it still holds.
        """
        return self._remembered.get(event.pair, _NOTHING).loaded(event, seen=False)

    async def recall_or_load(self, event: CallEvent) -> Loaded:
        """As `recall`, but Redis is asked where what is remembered is most likely old.

        That is where a call has gone on that nothing is remembered of, since another replica took its start; and where
        one begins while another is remembered as active, whose end another replica took, unless the agent has two. A
        commit in vain costs more than a question; and this asks for the pair alone, since a commit finds the others of
        `load`, an event that was taken and a call that is over, by itself.
        """
        loaded = self.recall(event)
        begins = event.kind in (EventKind.STARTED, EventKind.HANDED_OVER)
        if event.call_id in loaded.calls or (begins and not loaded.calls):
            return loaded
        value = await self._ask(("GET", self._keys.pair(event.pair)))
        return self._heard(event, value or "", "").loaded(event, seen=False)

    async def load(self, event: CallEvent) -> Loaded:
        """What a decision on `event` is made on."""
        pair, call_id = event.pair, event.call_id
        value, over, seen = await self._run(
            ("GET", self._keys.pair(pair)),
            ("HGET", self._keys.ended(pair, call_id), "call"),
            ("EXISTS", self._keys.seen(pair, event.event_id)),
        )
        return self._heard(event, value or "", over or "").loaded(event, seen=bool(seen))

    async def commit(self, event: CallEvent, loaded: Loaded, decision: Decision) -> Commit:
        """Writes state, duplicate mark, timeline entry, timer and deliveries in one step, or nothing.

        Where a worker has a place, and nothing waits in the lane, the first delivery is leased in the same step, so
        that most are never claimed. After a `CONFLICT`, `recall` has what to decide on. A `DUPLICATE` is as durable as
        the first one was to be: its mark is written again, and WAIT speaks of what its own connection wrote.
        """
        keep, call, own = self._retention, decision.call, event.call_id
        calls, held, over, ended = dict(loaded.calls), dict(loaded.held), b"", None
        if call.state in OVER:
            calls.pop(own, None)
            held.pop(own, None)
            over, ended = dump_call(call), call
        else:
            calls[own], held[own] = call, call_to_dict(call)
        self._writes += 1
        version = f"{self._writer}{self._writes:x}"
        # Whenever the call gets a new life, or the index would end before it.
        index = self._keys.index(own) if own not in loaded.calls or decision.timer is Timer.AGE else None
        if index is not None and self._connection.spread:
            # Before the commit, in a slot of its own: an index entry without a call does no harm, a call without one
            # could not be found.
            life_ms = keep.age_ms + keep.ended_ms
            await self._run(("HSET", index, str(event.pair), ""), ("PEXPIRE", index, life_ms), promised=True)
            index = None
        began, lease_ms = monotonic(), self._offered(event, decision)
        leased: Delivery | None = None
        lost: Delivery | None = None
        try:
            script = self._script(event, loaded, decision, dump_pair(version, held), over, lease_ms, index)
            said, *told = await self._ask(script, promised=True)
            if said == Commit.LEASED:
                leased = Delivery(decision.effects[0], version, 1, int(told[0]), leased_at=began)
        except (StoreUnavailable, asyncio.CancelledError):  # cancelled: the answer goes to nobody
            if lease_ms:
                lost = Delivery(decision.effects[0], version, 1, now_ms(), leased_at=began)
            raise
        finally:
            self._hand_over(leased, lost, lease_ms)
        if said == Commit.CONFLICT:
            self._heard(event, *told)
        elif said in (Commit.OK, Commit.LEASED):
            self._remember(event.pair, _Remembered(version, calls, held, ended, over))
        return Commit(said)

    def _script(
        self,
        event: CallEvent,
        loaded: Loaded,
        decision: Decision,
        value: bytes,
        over: bytes,
        lease_ms: int,
        index: str | None,
    ) -> Command:
        keep, call, pair = self._retention, decision.call, event.pair
        shard = shard_of(pair)
        ours = event.kind is EventKind.EXPIRED
        is_over = call.state in OVER
        # It can be compared with Cention from now on.
        finished = int(is_over and decision.was not in OVER and call.has_errand)
        if finished:
            # Each shard counts for itself: agents whose turns come round would have the same ones trimmed every time.
            self._ends[shard] += 1
            finished = 2 if self._ends[shard] % TRIM_EVERY == 0 else 1
        keys = self._keys.of_commit(pair, event.call_id, event.event_id)
        if index is not None:
            keys.append(index)
        over_before = _LIVE if decision.was in LIVE else loaded.over
        args = [
            self._now(), loaded.version, over_before, member(pair, event.call_id), str(pair),
            "live" if call.state in LIVE else "ended" if is_over else "hidden", value, over, call.started_at,
            self._timers[decision.timer], 0 if ours else keep.seen_ms, keep.ended_ms, keep.age_ms + keep.ended_ms,
            keep.timeline_entries, _entry(event, decision), int(ours), self._keys.delivery(shard, ""),
            lease_ms, finished,
        ]  # fmt: skip
        for effect in decision.effects:
            args += (effect.effect_id, dump_effect(effect), effect.after or "")
        return SCRIPTS["commit"].call(keys, args)

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

    def _heard(self, event: CallEvent, value: str, over: str) -> _Remembered:
        """Takes note of what Redis says of the event's pair."""
        pair, own = event.pair, event.call_id
        version, held = load_pair(value)
        calls = {call_id: call_from_dict(data, call_id, pair) for call_id, data in held.items()}
        ended = load_call(over, own, pair) if over else None
        heard = _Remembered(version, calls, held, ended, as_stored(over))
        self._remember(pair, heard)
        return heard

    def _remember(self, pair: Pair, known: _Remembered) -> None:
        self._remembered.pop(pair, None)
        self._remembered[pair] = known
        if len(self._remembered) > PAIRS_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    async def expired(self, left_out: Sequence[int] = (0,) * SHARDS) -> list[tuple[Pair, str]]:
        """Calls whose timer has run out, the longest first in each shard; none of those shards that are away.

        Args:
            left_out: for each shard, how many of those that ran out first are not wanted.

        Returns:
            At most `EXPIRED_MAX` of each shard.
        """
        (now,) = [self._now()] if self._now() else await self._time()
        shards = await self._run_each(
            *(
                ("ZRANGEBYSCORE", self._keys.of_shard(shard, TIMERS), "-inf", now, "LIMIT", first, EXPIRED_MAX)
                for shard, first in enumerate(left_out)
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
    entry: dict[str, Any] = {
        "at": now_ms(),
        "eventId": event.event_id,
        "type": event.kind,
        "occurredAt": event.occurred_at,
        "from": decision.was,
        "to": decision.call.state,
    }
    if decision.effects:
        entry["effects"] = [effect.effect_id for effect in decision.effects]
    if event.notes:
        entry["notes"] = event.notes
    if event.body is not None:
        entry["event"] = event.body
    return dump_entry(entry)

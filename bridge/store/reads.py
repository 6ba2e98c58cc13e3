"""What the admin side reads: active calls, a pair's calls, one call with its timeline. Writes nothing.

Only these reads cross shards (architecture, "Shards").
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.calls.effects import EffectKind, effect_id
from bridge.calls.events import Pair
from bridge.calls.state import LIVE, Call
from bridge.runtime.logs import get_logger
from bridge.store.connection import Connection, scored
from bridge.store.keys import ACTIVE, ERRANDS, FINISHED, SHARDS, Keys, member, parse_member, shard_of
from bridge.store.records import BROKEN, call_from_dict, load_call, load_entry, load_pair

log = get_logger(__name__)

Position = tuple[int, str]
"""Where in the list of active calls: start, ms since the epoch, and the call's member."""


_KINDS_OF_CALLS = tuple(kind for kind in EffectKind if kind not in (EffectKind.FETCH_FILE, EffectKind.FORWARD_CALLBACK))
_LOOKED_AT = 100  # calls read at a time at least: a filter may pass over very many


@dataclass(frozen=True, slots=True)
class CallRead:
    """A call and the id of its errand, once Cention has told it."""

    call: Call
    errand_id: str | None


@dataclass(frozen=True, slots=True)
class CallHistory:
    """One call at every pair it has been at, the latest first, and its timeline, oldest first."""

    legs: tuple[CallRead, ...]
    timeline: tuple[dict[str, Any], ...]


class Reads:
    """Reads. Every method raises `StoreUnavailable` when Redis is away."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._run, self._keys = connection.run, keys

    async def pair(self, pair: Pair) -> list[CallRead]:
        """The pair's active calls, newest first."""
        (value,) = await self._run(("GET", self._keys.pair(pair)))
        calls = [call_from_dict(data, call_id, pair) for call_id, data in load_pair(value or "")[1].items()]
        live = [call for call in calls if call.state in LIVE]
        errands = await self._run(*(("HGET", *self._errand_of(pair, call.call_id)) for call in live))
        active = [CallRead(call, errand) for call, errand in zip(live, errands, strict=True)]
        return sorted(active, key=lambda read: (read.call.started_at, read.call.call_id), reverse=True)

    async def active(
        self, wanted: Callable[[Call], bool], limit: int, after: Position | None = None
    ) -> tuple[list[CallRead], Position | None]:
        """Up to `limit` active calls for which `wanted` holds, newest first, and where the next page begins.

        Args:
            after: where the page before this one ended; None for the first page.
        """
        found: list[CallRead] = []
        size = max(limit, _LOOKED_AT)
        while True:
            names = await self._names(size, after)
            for position, read in zip(names, await self._calls([name for _, name in names]), strict=True):
                after = position
                if read is not None and wanted(read.call):
                    found.append(read)
                    if len(found) == limit:
                        return found, position
            if len(names) < size:
                return found, None

    async def _names(self, limit: int, after: Position | None) -> list[Position]:
        """The next `limit` members of `active` over all shards."""
        commands: list[tuple[Any, ...]] = []
        for shard in range(SHARDS):
            key = self._keys.of_shard(shard, ACTIVE)
            if after is None:
                commands.append(("ZREVRANGEBYSCORE", key, "+inf", "-inf", "WITHSCORES", "LIMIT", 0, limit))
            else:
                # Calls that started in the same millisecond as the last one shown, then those before it.
                commands.append(("ZREVRANGEBYSCORE", key, after[0], after[0], "WITHSCORES"))
                commands.append(("ZREVRANGEBYSCORE", key, f"({after[0]}", "-inf", "WITHSCORES", "LIMIT", 0, limit))
        positions = [
            position
            for answer in await self._run(*commands)
            for position in scored(answer)
            if _is_after(position, after)
        ]
        return sorted(positions, reverse=True)[:limit]

    async def _calls(self, names: list[str]) -> list[CallRead | None]:
        if not names:
            return []
        whose = [parse_member(name) for name in names]
        answers = await self._run(
            *(
                command
                for pair, call_id in whose
                for command in (("GET", self._keys.pair(pair)), ("HGET", *self._errand_of(pair, call_id)))
            )
        )
        return [
            _read(_of_pair, value, call_id, pair, errand)
            for (pair, call_id), value, errand in zip(whose, answers[::2], answers[1::2], strict=True)
        ]

    def _errand_of(self, pair: Pair, call_id: str) -> tuple[str, str]:
        return self._keys.of_shard(shard_of(pair), ERRANDS), member(pair, call_id)

    async def history(self, call_id: str) -> CallHistory | None:
        """What happened to a call, or None if it is not known (any more)."""
        (names,) = await self._run(("HKEYS", self._keys.index(call_id)))
        pairs = [Pair.parse(name) for name in sorted(names)]
        legs: list[CallRead] = []
        timeline: list[dict[str, Any]] = []
        for pair in pairs:
            value, errand, (over, errand_then), entries = await self._run(
                ("GET", self._keys.pair(pair)),
                ("HGET", *self._errand_of(pair, call_id)),
                ("HMGET", self._keys.ended(pair, call_id), "call", "errand"),
                ("LRANGE", self._keys.timeline(pair, call_id), 0, -1),
            )
            if (call := _of_pair(value or "", call_id, pair)) is not None:
                legs.append(CallRead(call, errand))
            elif over is not None:
                legs.append(CallRead(load_call(over, call_id, pair), errand_then))
            else:
                continue
            timeline += [{"pair": str(pair), **load_entry(entry)} for entry in entries]
        if not legs:
            return None
        legs.sort(key=lambda leg: (leg.call.state in LIVE, leg.call.started_at, leg.call.updated_at), reverse=True)
        timeline.sort(key=lambda entry: str(entry["at"]))
        return CallHistory(tuple(legs), tuple(timeline))

    async def active_before(self, before: int, limit: int, after: Position) -> list[tuple[Position, CallRead | None]]:
        """Active calls that started before `before` (ms), the oldest first; what else as for `ended_before`."""
        places = await self._oldest(ACTIVE, before, limit, after)
        return list(zip(places, await self._calls([name for _, name in places]), strict=True))

    async def ended_before(self, before: int, limit: int, after: Position) -> list[tuple[Position, CallRead | None]]:
        """Calls with an errand that ended before `before` (ms), the longest ended first.

        Args:
            limit: how many there are at most; where there are fewer, these are the last.
            after: the place of the last one before.

        Returns:
            The place of each, and the call; None where it has come back, is forgotten, or cannot be read.
        """
        places = await self._oldest(FINISHED, before, limit, after)
        whose = [parse_member(name) for _, name in places]
        if not whose:
            return []
        answers = await self._run(*(("HMGET", self._keys.ended(*each), "call", "errand") for each in whose))
        calls = [
            _read(load_call, raw, call_id, pair, errand)
            for (pair, call_id), (raw, errand) in zip(whose, answers, strict=True)
        ]
        return list(zip(places, calls, strict=True))

    async def _oldest(self, name: str, before: int, limit: int, after: Position) -> list[Position]:
        """The next `limit` members of `name` over all shards, by score and member, whose score is below `before`."""
        commands: list[tuple[Any, ...]] = []
        for shard in range(SHARDS):
            key = self._keys.of_shard(shard, name)
            commands.append(("ZRANGEBYSCORE", key, after[0], after[0], "WITHSCORES"))
            commands.append(("ZRANGEBYSCORE", key, f"({after[0]}", f"({before}", "WITHSCORES", "LIMIT", 0, limit))
        found = [place for answer in await self._run(*commands) for place in scored(answer)]
        return sorted(place for place in found if after < place < (before, ""))[:limit]

    async def undelivered(self, call: Call) -> dict[EffectKind, str]:
        """Which of the call's effects are not delivered, with their states: `waiting` or `parked`."""
        ids = [
            (kind, effect_id(call.pair, call.call_id, kind, ordinal))
            for ordinal in range(call.told)
            for kind in _KINDS_OF_CALLS
        ]
        if not ids:
            return {}
        shard = shard_of(call.pair)
        states = await self._run(*(("HGET", self._keys.delivery(shard, name), "state") for _, name in ids))
        pairs = zip(ids, states, strict=True)
        return {kind: state for (kind, _), state in pairs if state in ("waiting", "parked")}

    async def active_count(self) -> int:
        """How many calls an agent is on."""
        counts = await self._run(*(("ZCARD", self._keys.of_shard(shard, ACTIVE)) for shard in range(SHARDS)))
        return sum(counts)


def _of_pair(value: str, call_id: str, pair: Pair) -> Call | None:
    """The call in its pair's value; as `load_call`, None where it is not there."""
    data = load_pair(value)[1].get(call_id)
    return None if data is None else call_from_dict(data, call_id, pair)


def _read(
    load: Callable[[str, str, Pair], Call | None], raw: str | None, call_id: str, pair: Pair, errand_id: str | None
) -> CallRead | None:
    """One call of many; None where there is none, or it cannot be read: the others are told all the same."""
    try:
        call = None if raw is None else load(raw, call_id, pair)
    except BROKEN as error:
        log.error("a call cannot be read; it is passed over", call=call_id, pair=str(pair), error=type(error).__name__)
        return None
    return None if call is None else CallRead(call, errand_id)


def _is_after(position: Position, after: Position | None) -> bool:
    return after is None or position < after

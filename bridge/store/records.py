"""Calls, effects, and the events of the spool as stored JSON: only what is told, so that an active call stays small.

A member that an older version wrote and this one does not know is passed over; one that is missing has its default:
two versions may run on one Redis during a rolling update.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import FACT_NAMES, CallEvent, Direction, EventKind, Facts, Pair
from bridge.calls.state import Call, CallState
from bridge.calls.verdicts import Fault, Rejection
from bridge.runtime.clock import rfc3339
from bridge.store.packing import pack, unpack

BROKEN = (ValueError, LookupError, TypeError, AttributeError)
"""What reading raises where something is stored that a newer version wrote, or that is damaged."""


def facts_to_dict(facts: Facts) -> dict[str, Any]:
    return {name: value for name, value in zip(FACT_NAMES, facts, strict=True) if value is not None}


def _facts(data: dict[str, Any]) -> Facts:
    facts = Facts(*map(data.get, FACT_NAMES))
    return facts if facts.direction is None else facts._replace(direction=Direction(facts.direction))


def call_to_dict(call: Call) -> dict[str, Any]:
    """The call, without its id and pair: these are where it is kept."""
    data: dict[str, Any] = {
        "state": call.state,
        "facts": facts_to_dict(call.facts),
        "started": call.started_at,
        "updated": call.updated_at,
        "told": call.told,
        "errand": call.has_errand,
    }
    if call.resume is not CallState.STARTED:
        data["resume"] = call.resume
    if call.sequence is not None:
        data["sequence"] = call.sequence
    if call.link_told is not None:
        data["link_told"] = call.link_told
    if call.pass_to is not None:
        data["pass_to"] = list(call.pass_to)
    return data


def call_from_dict(data: dict[str, Any], call_id: str, pair: Pair) -> Call:
    pass_to = data.get("pass_to")
    return Call(
        call_id=call_id,
        pair=pair,
        state=CallState(data["state"]),
        facts=_facts(data["facts"]),
        resume=CallState(data.get("resume", CallState.STARTED)),
        started_at=data["started"],
        updated_at=data["updated"],
        sequence=data.get("sequence"),
        told=data["told"],
        has_errand=data["errand"],
        link_told=data.get("link_told"),
        pass_to=None if pass_to is None else Pair(*pass_to),
    )


def dump_call(call: Call) -> bytes:
    return pack(orjson.dumps(call_to_dict(call)))


def load_call(raw: str, call_id: str, pair: Pair) -> Call:
    return call_from_dict(orjson.loads(unpack(raw)), call_id, pair)


def dump_pair(version: str, calls: Mapping[str, dict[str, Any]]) -> bytes:
    """A pair's value: its version, which the scripts read, and its calls by id, if it has any.

    The calls are as `call_to_dict` makes them. The others' are written back as they were read, with whatever a newer
    version may have put there.
    """
    return b"%b %b" % (version.encode(), pack(orjson.dumps(calls))) if calls else version.encode()


def load_pair(raw: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The version and the calls of a pair's value; "" is that of a pair that nothing is known of."""
    version, _, packed = raw.partition(" ")
    return version, orjson.loads(unpack(packed)) if packed else {}


def dump_entry(entry: dict[str, Any]) -> bytes:
    """A timeline entry, its times in ms since the epoch."""
    return pack(orjson.dumps(entry))


def load_entry(raw: str) -> dict[str, Any]:
    """A timeline entry, its times as RFC 3339: they are written at every event, and read by few."""
    entry: dict[str, Any] = orjson.loads(unpack(raw))
    return entry | {name: rfc3339(entry[name]) for name in ("at", "occurredAt") if name in entry}


def dump_effect(effect: Effect) -> bytes:
    data: dict[str, Any] = {
        "id": effect.effect_id,
        "kind": effect.kind,
        "call": effect.call_id,
        "pair": list(effect.pair),
        "at": effect.at,
        "started": effect.started_at,
        "facts": facts_to_dict(effect.facts),
        "reason": effect.reason,
    }
    if effect.target is not None:
        data["target"] = list(effect.target)
    if effect.after is not None:
        data["after"] = effect.after
    return orjson.dumps(data)


def load_effect(raw: bytes | str) -> Effect:
    data = orjson.loads(raw)
    target = data.get("target")
    return Effect(
        effect_id=data["id"],
        kind=EffectKind(data["kind"]),
        call_id=data["call"],
        pair=Pair(*data["pair"]),
        at=data["at"],
        facts=_facts(data["facts"]),
        started_at=data.get("started", 0),
        reason=data["reason"],
        target=None if target is None else Pair(*target),
        after=data.get("after"),
    )


def dump_event(event: CallEvent) -> bytes:
    data: dict[str, Any] = {
        "id": event.event_id,
        "kind": event.kind,
        "at": event.occurred_at,
        "call": event.call_id,
        "pair": list(event.pair),
        "facts": facts_to_dict(event.facts),
    }
    if event.sequence is not None:
        data["sequence"] = event.sequence
    if event.transferred_to is not None:
        data["to"] = list(event.transferred_to)
    if event.after is not None:
        data["after"] = event.after
    if event.notes:
        data["notes"] = event.notes
    if event.body is not None:
        data["body"] = event.body
    return orjson.dumps(data)


def load_event(raw: bytes | str) -> CallEvent:
    data = orjson.loads(raw)
    to = data.get("to")
    return CallEvent(
        event_id=data["id"],
        kind=EventKind(data["kind"]),
        occurred_at=data["at"],
        call_id=data["call"],
        pair=Pair(*data["pair"]),
        facts=_facts(data["facts"]),
        sequence=data.get("sequence"),
        transferred_to=None if to is None else Pair(*to),
        after=data.get("after"),
        notes=tuple(data.get("notes", ())),
        body=data.get("body"),
    )


def dump_rejection(rejection: Rejection) -> bytes:
    return orjson.dumps(asdict(rejection))


def load_rejection(raw: bytes | str) -> Rejection:
    data = orjson.loads(raw)
    return Rejection(
        event_id=data["event_id"],
        code=data["code"],
        detail=data["detail"],
        faults=tuple(Fault(fault["pointer"], fault["code"], fault["detail"]) for fault in data["faults"]),
        body=data["body"],
    )

"""Calls and effects as the JSON that Redis holds: only what is told, so that an active call stays small.

A member that an older version wrote and this one does not know is passed over; one that is missing has its default:
two versions may run on one Redis during a rolling update.
"""

from typing import Any

import orjson

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import FACT_NAMES, Direction, Facts, Pair
from bridge.calls.state import Call, CallState


def facts_to_dict(facts: Facts) -> dict[str, Any]:
    return {name: value for name in FACT_NAMES if (value := getattr(facts, name)) is not None}


def _facts(data: dict[str, Any]) -> Facts:
    told = {name: data[name] for name in FACT_NAMES if name in data}
    if "direction" in told:
        told["direction"] = Direction(told["direction"])
    return Facts(**told)


def dump_call(call: Call) -> bytes:
    """The call, without its id and pair: these are in its key and field."""
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
    return orjson.dumps(data)


def load_call(raw: bytes | str, call_id: str, pair: Pair) -> Call:
    data = orjson.loads(raw)
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


def dump_effect(effect: Effect) -> bytes:
    data: dict[str, Any] = {
        "id": effect.effect_id,
        "kind": effect.kind,
        "call": effect.call_id,
        "pair": list(effect.pair),
        "at": effect.at,
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
        reason=data["reason"],
        target=None if target is None else Pair(*target),
        after=data.get("after"),
    )

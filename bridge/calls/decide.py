"""`decide`: the calls of a pair and one event in, the call as it then is and the effects out.

Invariants: pure and total (no input raises); the same calls and event give the same decision, effect ids included;
an event of one call never changes another.

Source: contract section 2; architecture, "Functional core".
"""

from collections.abc import Mapping
from typing import NamedTuple

from bridge.calls.effects import Effect, EffectKind, effect_id
from bridge.calls.events import CallEvent, Direction, EventKind, Facts
from bridge.calls.state import (
    BEFORE_START,
    LIVE,
    OVER,
    TRANSITIONS,
    TRIGGER_OF,
    Action,
    Call,
    CallState,
    InboundEnd,
    Policy,
    Timer,
    Trigger,
)

_MOVES = frozenset([Trigger.ANSWER, Trigger.HOLD, Trigger.RETRIEVE])
"""Triggers that only say where the call is; an old one says where it was, and is not followed."""
_CAN_OPEN = _MOVES | {Trigger.UPDATE, Trigger.TRANSFER}
"""Triggers that open an unseen call when they carry what a start needs. An end does not: it waits for the start."""
_REASONS = {EventKind.EXPIRED: "swept", EventKind.RECONCILED: "reconciled"}
"""Why an effect came about, where no event of the exchange led to it."""
_INBOUND_ENDS: dict[InboundEnd, EffectKind | None] = {
    InboundEnd.END_SESSION: EffectKind.END_SESSION,
    InboundEnd.CLOSE_ERRAND: EffectKind.CLOSE_ERRAND,
    InboundEnd.NOTHING: None,
}
_RESUMES = {Trigger.ANSWER: CallState.ANSWERED, Trigger.HOLD: CallState.HELD, Trigger.RETRIEVE: CallState.ANSWERED}


class Decision(NamedTuple):
    """What an event comes to.

    Attributes:
        was: the call's state before.
        call: the call as it then is.
        effects: what is to be told, in order.
        timer: what becomes of the call's timer.
    """

    was: CallState
    call: Call
    effects: tuple[Effect, ...]
    timer: Timer


def decide(calls: Mapping[str, Call], event: CallEvent, policy: Policy) -> Decision:
    """Decides what `event` does.

    Args:
        calls: every live or waiting call of the event's pair, and the event's own call if it has ended, by call id.
        event: the event, of the same pair.
        policy: the settings that matter here.
    """
    before = calls.get(event.call_id) or Call(event.call_id, event.pair)
    stale = _is_stale(before, event)
    facts = before.facts.filled_by(event.facts) if stale else before.facts.updated_by(event.facts)
    trigger = TRIGGER_OF[event.kind]
    steps = [trigger]
    if before.state in BEFORE_START and trigger in _CAN_OPEN and _can_start(facts, policy):
        steps = [Trigger.START, trigger]
    call = before._replace(
        facts=facts,
        updated_at=max(before.updated_at, event.occurred_at),
        sequence=before.sequence if stale or event.sequence is None else event.sequence,
        pass_to=event.transferred_to or before.pass_to,
    )
    alone = not any(
        other.state in LIVE and other.facts.direction is not Direction.INBOUND and other.call_id != call.call_id
        for other in calls.values()
    )
    effects: list[Effect] = []
    for step in steps:
        call = _step(call, step, event, policy, stale=stale, alone=alone, effects=effects)
    return Decision(before.state, call, tuple(effects), _timer(before.state, call.state))


def _is_stale(call: Call, event: CallEvent) -> bool:
    """Whether the event happened before one that was already applied; the PBX's own order counts before its clock."""
    if call.sequence is not None and event.sequence is not None:
        return event.sequence < call.sequence
    return event.occurred_at < call.updated_at


def _can_start(facts: Facts, policy: Policy) -> bool:
    """Whether the facts are what a `call.started` must carry (contract section 1)."""
    if facts.direction is None or facts.called_number is None:
        return False
    return facts.dest_number is not None or facts.direction not in policy.open_errand_for


def _step(
    call: Call, trigger: Trigger, event: CallEvent, policy: Policy, *, stale: bool, alone: bool, effects: list[Effect]
) -> Call:
    """Carries out one cell of the table, adding to `effects`; returns the call after it."""
    was = call.state
    rule = TRANSITIONS[was][trigger]
    to = rule.to if isinstance(rule.to, CallState) else call.resume
    if stale and was in LIVE and trigger in _MOVES:
        to = was
    started_at = call.started_at
    if trigger in (Trigger.START, Trigger.HAND_OVER) and was not in OVER:
        # Of an opening event and a start that comes after it, the earlier says when the call reached the agent.
        started_at = min(started_at or event.occurred_at, event.occurred_at)
    elif to in LIVE and was in OVER:
        started_at = event.occurred_at
    resume = _RESUMES.get(trigger, call.resume) if to is CallState.EXPECTED and not stale else call.resume
    call = call._replace(state=to, started_at=started_at, resume=resume)
    for action in rule.does:
        call = _act(call, action, event, policy, alone, effects)
    return call


def _act(call: Call, action: Action, event: CallEvent, policy: Policy, alone: bool, effects: list[Effect]) -> Call:
    facts = call.facts
    match action:
        case Action.OPEN:
            wanted = facts.direction in policy.open_errand_for
            call = call._replace(has_errand=wanted)
            return _emit(call, EffectKind.OPEN_ERRAND, event, effects, after=event.after) if wanted else call
        case Action.CLOSE:
            kind = _close_kind(call, policy)
            return call if kind is None else _emit(call, kind, event, effects)
        case Action.CLOSE_ORPHAN:
            # Without a direction the agent may still be busy with an outbound call; unless another call of theirs
            # could be the one that Cention would then end, the agent is freed.
            outbound = facts.direction is Direction.OUTBOUND or (facts.direction is None and alone)
            return _emit(call, EffectKind.END_OUTBOUND_CALL, event, effects, "orphan") if outbound else call
        case Action.PASS_ON:
            return call if call.pass_to is None else _emit(call, EffectKind.HAND_OVER, event, effects)
        case Action.TELL_LINK:
            # `link` has one documented place: beside `endSession`. Otherwise a late link is only kept.
            tells = _close_kind(call, policy) is EffectKind.END_SESSION and facts.link not in (None, call.link_told)
            return _emit(call, EffectKind.END_SESSION, event, effects, "late_link") if tells else call
        case Action.CLOSE_ERRAND:
            return _emit(call, EffectKind.CLOSE_ERRAND, event, effects) if call.has_errand else call


def _close_kind(call: Call, policy: Policy) -> EffectKind | None:
    if call.facts.direction is Direction.OUTBOUND:
        return EffectKind.END_OUTBOUND_CALL
    if not call.has_errand:
        return None
    return _INBOUND_ENDS[policy.inbound_end]


def _emit(
    call: Call,
    kind: EffectKind,
    event: CallEvent,
    effects: list[Effect],
    reason: str = "event",
    *,
    after: str | None = None,
) -> Call:
    if reason == "event":
        reason = _REASONS.get(event.kind, reason)
    effects.append(
        Effect(
            effect_id=effect_id(call.pair, call.call_id, kind, call.told),
            kind=kind,
            call_id=call.call_id,
            pair=call.pair,
            at=event.occurred_at,
            facts=call.facts,
            started_at=call.started_at,
            reason=reason,
            target=call.pass_to if kind is EffectKind.HAND_OVER else None,
            after=after,
        )
    )
    return call._replace(told=call.told + 1, link_told=call.facts.link)


def _timer(was: CallState, now: CallState) -> Timer:
    if now in OVER:
        return Timer.CLEAR
    if now is CallState.ORPHANED:
        return Timer.KEEP if was is CallState.ORPHANED else Timer.GRACE
    if now is CallState.UNSEEN or was is now or (was in LIVE and now in LIVE):
        return Timer.KEEP
    return Timer.AGE

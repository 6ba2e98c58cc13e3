"""The table is complete, and `decide` carries it out whatever comes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.decide import decide
from bridge.calls.effects import EffectKind
from bridge.calls.events import CallEvent, Direction, EventKind, Facts, Pair
from bridge.calls.state import LIVE, OVER, TRANSITIONS, Call, CallState, InboundEnd, Policy, Timer, Trigger

PAIR, OTHER = Pair(1000, 1001), Pair(2000, 2002)
STARTABLE = Facts(direction=Direction.INBOUND, called_number="46846500401", dest_number="46846500401")


def test_every_cell_of_the_table_is_filled() -> None:
    cells = {(state, trigger) for state, row in TRANSITIONS.items() for trigger in row}
    assert cells == set(itertools.product(CallState, Trigger))


def event(kind: EventKind, at: int = 1000, **told: object) -> CallEvent:
    values = {"facts": Facts(), "transferred_to": OTHER if kind is EventKind.TRANSFERRED else None, **told}
    return CallEvent(f"e-{kind}", kind, at, "c", PAIR, **values)  # type: ignore[arg-type] # a test's shorthand


facts = st.builds(
    Facts,
    direction=st.none() | st.sampled_from(Direction),
    called_number=st.none() | st.just("46846500401"),
    dest_number=st.none() | st.just("46846500401"),
    link=st.none() | st.sampled_from(["a", "b"]),
)
calls = st.builds(
    Call,
    call_id=st.just("c"),
    pair=st.just(PAIR),
    state=st.sampled_from([state for state in CallState if state is not CallState.UNSEEN]),
    facts=facts,
    resume=st.sampled_from([CallState.STARTED, CallState.ANSWERED, CallState.HELD]),
    started_at=st.integers(0, 10),
    updated_at=st.integers(0, 10),
    sequence=st.none() | st.integers(0, 3),
    told=st.integers(0, 5),
    has_errand=st.booleans(),
    link_told=st.none() | st.sampled_from(["a", "b"]),
    pass_to=st.none() | st.just(OTHER),
)
events = st.builds(
    CallEvent,
    event_id=st.just("e"),
    kind=st.sampled_from(EventKind),
    occurred_at=st.integers(0, 10),
    call_id=st.just("c"),
    pair=st.just(PAIR),
    facts=facts,
    sequence=st.none() | st.integers(0, 3),
    transferred_to=st.none() | st.just(OTHER),
)
policies = st.builds(
    Policy, open_errand_for=st.frozensets(st.sampled_from(Direction)), inbound_end=st.sampled_from(InboundEnd)
)


@given(st.none() | calls, events, policies)
def test_a_decision_is_total_repeatable_and_consistent(call: Call | None, happened: CallEvent, policy: Policy) -> None:
    known = {} if call is None else {"c": call}
    decision = decide(known, happened, policy)
    assert decide(known, happened, policy) == decision
    ids = [effect.effect_id for effect in decision.effects]
    assert len(ids) == len(set(ids))
    assert decision.call.told == (0 if call is None else call.told) + len(ids)
    if decision.call.state in OVER:
        assert decision.timer is Timer.CLEAR, "what is over has no timer"
    if decision.call.state in LIVE and (call is None or call.state not in LIVE):
        assert decision.timer is Timer.AGE, "every live call is swept one day"
    # An agent of an outbound call is freed exactly when the call leaves the live states.
    freed = sum(effect.kind is EffectKind.END_OUTBOUND_CALL for effect in decision.effects)
    if call is not None and call.state in LIVE and decision.call.facts.direction is Direction.OUTBOUND:
        assert freed == (decision.call.state in OVER)


@given(calls, events, policies)
def test_an_event_of_one_call_leaves_the_others_alone(call: Call, happened: CallEvent, policy: Policy) -> None:
    other = call._replace(call_id="other")
    decision = decide({"other": other}, happened, policy)
    assert decision.call.call_id == "c"
    assert all(effect.call_id == "c" for effect in decision.effects)


@pytest.mark.parametrize("kind", [EventKind.ANSWERED, EventKind.HELD, EventKind.RETRIEVED, EventKind.UPDATED])
def test_an_event_with_what_a_start_needs_opens_the_call(kind: EventKind) -> None:
    decision = decide({}, event(kind, facts=STARTABLE), Policy())
    assert decision.call.state in LIVE
    assert [effect.kind for effect in decision.effects] == [EffectKind.OPEN_ERRAND]


def test_facts_of_several_events_together_open_the_call() -> None:
    first = decide({}, event(EventKind.ANSWERED, facts=Facts(direction=Direction.INBOUND)), Policy())
    assert first.call.state is CallState.EXPECTED
    told = Facts(called_number="46846500401", dest_number="46846500401")
    second = decide({"c": first.call}, event(EventKind.UPDATED, facts=told), Policy())
    assert second.call.state is CallState.ANSWERED
    assert [effect.kind for effect in second.effects] == [EffectKind.OPEN_ERRAND]


def test_an_older_event_fills_gaps_and_changes_nothing_else() -> None:
    call = Call("c", PAIR, CallState.ANSWERED, STARTABLE._replace(queue_name="EHS"), updated_at=2000)
    late = event(EventKind.HELD, at=1000, facts=Facts(queue_name="old", calling_name="Åsa"))
    decision = decide({"c": call}, late, Policy())
    assert decision.call.state is CallState.ANSWERED
    assert decision.call.facts == STARTABLE._replace(queue_name="EHS", calling_name="Åsa")


def test_the_opening_after_a_hand_over_waits_for_it() -> None:
    handed = event(EventKind.HANDED_OVER, facts=STARTABLE, after="av-x-hand_over-2")
    decision = decide({}, handed, Policy())
    assert [effect.after for effect in decision.effects] == ["av-x-hand_over-2"]


def test_a_live_call_whose_errand_is_closed_ends_as_if_it_had_ended() -> None:
    call = Call("c", PAIR, CallState.HELD, STARTABLE, updated_at=2000, has_errand=True, told=1)
    decision = decide({"c": call}, event(EventKind.RECONCILED), Policy())
    ended = decide({"c": call}, event(EventKind.ENDED), Policy())
    assert decision.call == ended.call
    assert decision.effects == tuple(effect._replace(reason="reconciled") for effect in ended.effects)


@pytest.mark.parametrize("end", InboundEnd)
def test_an_open_errand_of_an_ended_call_is_closed_by_its_id(end: InboundEnd) -> None:
    call = Call("c", PAIR, CallState.ENDED, STARTABLE, has_errand=True, told=2)
    decision = decide({"c": call}, event(EventKind.RECONCILED), Policy(inbound_end=end))
    assert decision.call.state is CallState.ENDED
    assert [(effect.kind, effect.reason) for effect in decision.effects] == [(EffectKind.CLOSE_ERRAND, "reconciled")]
    without = decide({"c": call._replace(has_errand=False)}, event(EventKind.RECONCILED), Policy())
    assert without.effects == ()


@pytest.mark.parametrize("state", [CallState.EXPECTED, CallState.ORPHANED, CallState.WRITTEN_OFF])
def test_what_never_had_an_errand_is_left_as_it_is(state: CallState) -> None:
    call = Call("c", PAIR, state, STARTABLE)
    decision = decide({"c": call}, event(EventKind.RECONCILED), Policy())
    assert (decision.call.state, decision.effects) == (state, ())

"""What the admin side shows: the contract's members, the timeline's kinds, and nothing of a person for a viewer."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.admin.views import SHOWN_STATES, call_view, event_view, history_view, rejection_view, shown_state
from bridge.calls.events import Direction, Facts, Pair
from bridge.calls.state import Call, CallState
from bridge.store.reads import CallHistory, CallRead

AT = 1_795_514_400_250  # 2026-11-24T10:00:00.250Z
FACTS = Facts(
    direction=Direction.INBOUND,
    called_number="08-465 004 01",
    dest_number="46846500401",
    calling_number="46701740605",
    calling_name="Åsa Öberg",
    queue_name="EHS",
    queue_number="123",
    cuid="5462-13-6485",
    link="https://rec.example/46701740605",
    comment="about 46701740605",
)
CALL = Call("c-1", Pair(1000, 1001), CallState.ANSWERED, FACTS, started_at=AT, updated_at=AT + 1000)
PERSONAL = ["701740605", "846500401", "46500401", "Åsa", "Öberg", "5462", "rec.example"]
EVENT = {
    "eventId": "e-1",
    "type": "call.transferred",
    "occurredAt": "2026-11-24T10:00:00Z",
    "callId": "c-1",
    "deviceId": 1000,
    "extensionId": 1001,
    "direction": "inbound",
    "calledNumber": "+46 8 465 004 01",
    "callingNumber": "46701740605",
    "callingName": "Åsa Öberg",
    "queueName": "EHS",
    "queueNumber": "123",
    "pagingNumber": "46701740605",
    "pagingName": "Åsa Öberg",
    "link": "https://rec.example/46701740605",
    "cuid": "5462-13-6485",
    "extraData": {"comment": "about 46701740605"},
    "transferredTo": {"deviceId": 2000, "extensionId": 2002},
    "cause": "busy",
    "endedBy": "agent",
    "sequence": 3,
    "customer": {"phone": "46701740605"},
}


def holds_nothing_personal(shown: object) -> bool:
    said = orjson.dumps(shown).decode()
    return not any(word in said for word in PERSONAL)


def test_a_call_is_what_the_contract_says() -> None:
    assert call_view(CallRead(CALL, "511055"), masked=False) == {
        "callId": "c-1",
        "deviceId": 1000,
        "extensionId": 1001,
        "direction": "inbound",
        "state": "answered",
        "calledNumber": "46846500401",
        "callingNumber": "46701740605",
        "queueName": "EHS",
        "queueNumber": "123",
        "errandId": "511055",
        "startedAt": "2026-11-24T10:00:00.250Z",
        "updatedAt": "2026-11-24T10:00:01.250Z",
    }


def test_a_viewer_sees_the_last_three_digits_of_a_call() -> None:
    shown = call_view(CallRead(CALL, "511055"), masked=True)
    assert (shown["calledNumber"], shown["callingNumber"]) == ("********401", "********605")
    assert holds_nothing_personal(shown)
    assert set(shown) == set(call_view(CallRead(CALL, None), masked=False))


def test_a_call_of_which_little_is_known_has_nulls() -> None:
    bare = Call("c-1", Pair(1, 2), CallState.EXPECTED, updated_at=AT)
    shown = call_view(CallRead(bare, None), masked=True)
    unknown = {name for name, value in shown.items() if value is None}
    assert unknown == {
        "direction",
        "calledNumber",
        "callingNumber",
        "queueName",
        "queueNumber",
        "errandId",
        "startedAt",
    }


def test_without_an_msisdn_the_number_as_dialled_is_shown() -> None:
    dialled = Call("c", Pair(1, 2), CallState.STARTED, Facts(called_number="*31#1234567"), updated_at=AT)
    assert call_view(CallRead(dialled, None), masked=False)["calledNumber"] == "*31#1234567"
    assert call_view(CallRead(dialled, None), masked=True)["calledNumber"] == "********567"


@pytest.mark.parametrize("state", CallState)
@pytest.mark.parametrize("resume", [CallState.STARTED, CallState.ANSWERED, CallState.HELD])
def test_a_state_is_one_of_the_contracts_four(state: CallState, resume: CallState) -> None:
    shown = shown_state(Call("c", Pair(1, 2), state, resume=resume))
    if state is not CallState.UNSEEN:  # never stored
        assert shown in SHOWN_STATES
    if state is CallState.EXPECTED:
        assert shown == resume


def test_a_timeline_tells_events_decisions_attempts_and_answers() -> None:
    where = {"at": "2026-11-24T10:00:00.250Z", "deviceId": 1000, "extensionId": 1001}
    stored = (
        {
            "pair": "1000:1001",
            "at": where["at"],
            "eventId": "e-1",
            "type": "call.transferred",
            "occurredAt": "2026-11-24T10:00:00.000Z",
            "from": "answered",
            "to": "ended",
            "effects": ["av-1"],
            "notes": ["pagingNumber was passed over"],
            "event": orjson.dumps(EVENT).decode(),
        },
        {
            "pair": "1000:1001",
            "at": where["at"],
            "delivery": "av-1",
            "effect": "end_session",
            "reason": "event",
            "attempt": 2,
            "tookMs": 12,
            "outcome": "try_later",
            "then": "retry",
            "waitMs": 7000,
            "status": 503,
            "answer": "Service Unavailable",
        },
    )
    shown = history_view(CallHistory((CallRead(CALL, None),), stored), masked=False)
    timeline = shown.pop("timeline")
    assert shown == call_view(CallRead(CALL, None), masked=False)
    assert timeline == [
        {
            **where,
            "kind": "event",
            "eventId": "e-1",
            "type": "call.transferred",
            "occurredAt": "2026-11-24T10:00:00.000Z",
            "event": EVENT,
        },
        {
            **where,
            "kind": "decision",
            "eventId": "e-1",
            "from": "answered",
            "to": "ended",
            "effects": ["av-1"],
            "notes": ["pagingNumber was passed over"],
        },
        {**where, "kind": "attempt", "delivery": "av-1", "effect": "end_session", "reason": "event", "attempt": 2},
        {
            **where,
            "kind": "answer",
            "delivery": "av-1",
            "attempt": 2,
            "outcome": "try_later",
            "status": 503,
            "answer": "Service Unavailable",
            "tookMs": 12,
            "then": "retry",
            "waitMs": 7000,
        },
    ]
    masked = history_view(CallHistory((CallRead(CALL, None),), stored), masked=True)
    assert holds_nothing_personal(masked)
    assert masked["timeline"][1:] == timeline[1:]


def test_a_viewer_sees_an_events_plain_members_and_masks() -> None:
    shown = event_view(orjson.dumps(EVENT).decode(), masked=True)
    assert holds_nothing_personal(shown)
    assert set(EVENT) - set(shown) == {"pagingName", "extraData", "customer"}
    assert shown["callingName"] == "Å***"
    assert shown["transferredTo"] == {"deviceId": 2000, "extensionId": 2002}
    assert event_view(orjson.dumps(EVENT).decode(), masked=False) == EVENT


@pytest.mark.parametrize("name", sorted(EVENT))
@pytest.mark.parametrize(
    "wrong",
    [
        {"number": "46701740605"},
        ["46701740605"],
        [{"deep": ["46701740605"]}],
        46701740605,
        {"deviceId": "46701740605", "extensionId": {"x": "46701740605"}, "callingNumber": "46701740605"},
    ],
)
def test_a_viewer_sees_no_member_of_the_wrong_type(name: str, wrong: object) -> None:
    if isinstance(wrong, int) and isinstance(EVENT[name], int):
        wrong = float(wrong)
    shown = event_view(orjson.dumps({**EVENT, name: wrong}).decode(), masked=True)
    assert holds_nothing_personal(shown)


@pytest.mark.parametrize(
    "body", ["", "{", "46701740605", '"46701740605"', '["46701740605"]', "null", '{"a": 46701740605']
)
def test_a_viewer_sees_nothing_of_what_is_no_event(body: str) -> None:
    assert event_view(body, masked=True) is None


def test_an_operator_sees_what_came_even_if_it_is_no_json() -> None:
    assert event_view("{broken", masked=False) == "{broken"
    assert event_view("[1]", masked=False) == [1]


@pytest.mark.parametrize("levels", [10, 243, 244, 245, 254, 1000])
@pytest.mark.parametrize("masked", [False, True])
def test_an_event_can_be_shown_however_deep_it_is(levels: int, masked: bool) -> None:
    body = '{"callId":"c-1","a":' * levels + "1" + "}" * levels
    shown = event_view(body, masked=masked)
    assert orjson.dumps({"timeline": [{"event": shown}]})
    if masked:
        assert shown == {"callId": "c-1"}
    else:
        assert shown == (orjson.loads(body) if levels <= 244 else body)


json = st.recursive(
    st.none() | st.booleans() | st.just("46701740605") | st.just(46701740605),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(EVENT)), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(sorted(set(EVENT) - {"eventId", "callId"})), json))
def test_no_number_gets_past_the_mask_in_any_json(event: dict[str, Any]) -> None:
    # Of the right type in a member that is plain, anything may stand: an id is an id.
    for name, kind in [(name, type(value)) for name, value in EVENT.items()]:
        if isinstance(event.get(name), kind) and kind in (str, int) and name not in MASKED:
            del event[name]
    to = event.get("transferredTo")
    if isinstance(to, dict):
        event["transferredTo"] = {name: value for name, value in to.items() if not isinstance(value, int)}
    assert holds_nothing_personal(event_view(orjson.dumps(event).decode(), masked=True))


MASKED = {"calledNumber", "callingNumber", "callingName", "pagingNumber", "pagingName", "link", "cuid"}


def test_a_rejection_says_why_and_shows_the_event_as_far_as_it_may() -> None:
    stored = {
        "id": "1-0",
        "at": "2026-11-24T10:00:00.250Z",
        "event_id": "e-1",
        "code": "invalid_event",
        "detail": "The event cannot be used: /calledNumber (not_a_number).",
        "faults": [{"pointer": "/calledNumber", "code": "not_a_number", "detail": "This is no number."}],
        "body": orjson.dumps(EVENT).decode(),
    }
    shown = rejection_view(stored, masked=False)
    assert shown == {
        "id": "1-0",
        "at": "2026-11-24T10:00:00.250Z",
        "eventId": "e-1",
        "code": "invalid_event",
        "detail": "The event cannot be used: /calledNumber (not_a_number).",
        "errors": [{"pointer": "/calledNumber", "code": "not_a_number", "detail": "This is no number."}],
        "event": EVENT,
    }
    masked = rejection_view(stored, masked=True)
    assert holds_nothing_personal(masked)
    assert {name: masked[name] for name in masked if name != "event"} == {
        name: shown[name] for name in shown if name != "event"
    }
    assert rejection_view({**stored, "body": None}, masked=False)["event"] is None


@pytest.mark.parametrize("name", ["type", "direction", "occurredAt"])
def test_a_word_or_a_time_is_shown_only_if_it_is_one(name: str) -> None:
    """A refused event may have a number in any member: the sender mixed them up, or maps them wrongly."""
    for wrong in ("46701740605", "Öberg", "", "inbound 46701740605", "2026-11-24T46701740605:x"):
        assert name not in event_view(orjson.dumps({**EVENT, name: wrong}).decode(), masked=True)
    for right in ("call.started", "outbound", "2026-11-24t10:15:30.250+01:00"):
        shown = event_view(orjson.dumps({**EVENT, name: right}).decode(), masked=True)
        assert shown.get(name) in (right, None)
    assert event_view(orjson.dumps(EVENT).decode(), masked=True)[name] == EVENT[name]

"""A PBX's own JSON -> the call event, by JMESPath."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bridge.calls.events import CallEvent, EventKind, Pair
from bridge.calls.verdicts import Rejection
from bridge.intake import mapping as mapping_module
from bridge.intake.mapping import EventMapping, MappingFault
from bridge.intake.models import EVENT_FIELDS, OBJECT_FIELDS
from bridge.intake.wire import Translator
from bridge.settings_types import MAPPING_FIELDS
from tests.unit.wire_support import AT, NOW_MS, START, accepted, translator

DOC = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text()


def test_the_documented_mapping() -> None:
    toml, body = (DOC.split(f"```{language}\n")[1].split("```")[0] for language in ("toml", "json"))
    mapping = tomllib.loads(toml)["intake"]["mapping"]
    event = translator(mapping=mapping)(json.loads(body), body)
    assert isinstance(event, CallEvent), event
    assert (event.event_id, event.kind, event.occurred_at) == ("7d1", EventKind.STARTED, NOW_MS)
    assert (event.call_id, event.pair) == ("c-1", Pair(1000, 1001))
    assert (event.facts.direction, event.facts.dest_number) == ("inbound", "46846500400")
    assert event.body == body
    for field, expression in mapping.items():
        assert f'{field} = "{expression}"' in (mapping_module.__doc__ or "")


def mapped(expression: str, value: object, field: str = "type") -> object:
    event, faults = EventMapping({field: expression})(value)
    assert faults == []
    return event.get(field, ...)


@pytest.mark.parametrize(
    ("expression", "value", "found"),
    [
        ("lookup({a: 'x', b: 'y'}, word)", {"word": "b"}, "y"),
        ("lookup({a: 'x'}, word)", {"word": "other"}, ...),
        ("lookup({a: 'x'}, word)", {"word": None}, ...),
        ("lookup({a: 'x'}, word) || word", {"word": "other"}, "other"),
        ('lookup(`{"7": "x"}`, code)', {"code": 7}, "x"),
        ("lookup({true: 'x'}, flag)", {"flag": True}, "x"),
        ("(s == 'a' && 'x') || (s == 'b' && 'y') || `null`", {"s": "b"}, "y"),
        ("(s == 'a' && 'x') || (s == 'b' && 'y') || `null`", {"s": "c"}, ...),
        ("from_unix(at)", {"at": 1795500000}, "2026-11-24T06:00:00.000Z"),
        ("from_unix(to_number(at))", {"at": "1795500000.25"}, "2026-11-24T06:00:00.250Z"),
        ("from_unix_ms(at)", {"at": 1795500000250}, "2026-11-24T06:00:00.250Z"),
        ("a.b[0]", {"a": {"b": [1]}}, 1),
        ("a.b", [], ...),
        ("missing", {}, ...),
        ("a[::2]", {"a": [1, 2, 3]}, [1, 3]),
        ("'literal'", None, "literal"),
    ],
)
def test_expressions(expression: str, value: object, found: object) -> None:
    assert mapped(expression, value) == found


def test_what_finds_nothing_is_left_out_of_an_object_too() -> None:
    mapping = EventMapping({"transferredTo.deviceId": "a", "transferredTo.extensionId": "b", "extraData.comment": "c"})
    assert mapping({"a": 1}) == ({"transferredTo": {"deviceId": 1}}, [])
    assert EventMapping({"transferredTo": "to"})({"to": {"deviceId": 1}}) == ({"transferredTo": {"deviceId": 1}}, [])


DEEP: Any = []
for _ in range(50_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("abs(a)", {"a": "x"}),
        ("abs(a)", {}),
        ("join(',', a)", {"a": [1]}),
        ("sort(a)", {"a": [1, "x"]}),
        ("max_by(a, &b)", {"a": [{"b": 1}, {"b": "x"}]}),
        ("to_string(a)", {"a": DEEP}),
        ("avg(a)", {"a": "x"}),
        ("lookup(a, 'x')", {"a": []}),
        ("lookup({a: 'x'}, @)", []),
        ("from_unix(a)", {"a": "1"}),
        ("from_unix(a)", {"a": float("inf")}),
        ("from_unix(a)", {"a": float("nan")}),
        ("from_unix(a)", {"a": -1}),
        ("from_unix_ms(a)", {"a": 10**400}),
        ("from_unix(a)", {"a": 10**400}),
        ("from_unix(to_number(a))", {"a": "1e999"}),
        ("ceil(a)", {"a": float("inf")}),
        ("floor(a)", {"a": float("nan")}),
    ],
)
def test_an_expression_that_fails_is_a_fault_of_its_field(expression: str, value: object) -> None:
    event, faults = EventMapping({"callId": "'c'", "transferredTo.deviceId": expression})(value)
    assert [(fault.pointer, fault.code) for fault in faults] == [("/transferredTo/deviceId", "mapping_failed")]
    assert event == {"callId": "c"}


def test_all_faults_of_a_mapping_are_told_at_once() -> None:
    with pytest.raises(MappingFault) as caught:
        EventMapping(
            {
                "eventId": "uuid",
                "callid": "a",
                "type": "a.",
                "link": "",
                "cuid": "nothing_like_it(a)",
                "cause": "a && [b, {c: abs(d, e)}]",
                "endedBy": "join(',')",
                "transferredTo": "a",
                "transferredTo.deviceId": "b",
                "extraData.unknown": "b",
                "queueName": "(" * 10_000,
            }
        )
    assert sorted(caught.value.faults) == [
        "callid",
        "cause",
        "cuid",
        "endedBy",
        "extraData.unknown",
        "link",
        "queueName",
        "transferredTo.deviceId",
        "type",
    ]
    assert "cuid: " in str(caught.value)
    with pytest.raises(MappingFault):
        Translator(
            default_region=None,
            opens=frozenset(),
            clock_ahead_s_max=1,
            clock_behind_s_max=1,
            now_ms=lambda: NOW_MS,
            mapping={"callId": "."},
        )


def test_only_mapped_fields_pass() -> None:
    mapping = {name: name for name in START}
    event = accepted(translator(mapping=mapping), callingName="Doris", unknown=1)
    assert event.facts.calling_name is None


def test_the_settings_know_the_fields_that_may_be_mapped() -> None:
    assert set(MAPPING_FIELDS) == EVENT_FIELDS | OBJECT_FIELDS


@pytest.mark.parametrize("value", [None, [], [START], "x", 1])
def test_what_is_mapped_is_an_object(value: object) -> None:
    answer = translator(mapping={"eventId": "'e'", "occurredAt": f"'{AT}'"})(value, "x")
    assert isinstance(answer, Rejection)
    assert [fault.code for fault in answer.faults] == ["not_an_object"]


def test_a_mapped_event() -> None:
    translate = translator(
        mapping={name: f"call.{name}" for name in START}
        | {"transferredTo.deviceId": "to.device", "transferredTo.extensionId": "to.ext", "callingName": "missing"}
    )
    body = json.dumps({"call": START | {"type": "call.transferred"}, "to": {"device": 7, "ext": 8}, "callingName": "X"})
    event = translate(json.loads(body), body)
    assert isinstance(event, CallEvent)
    assert event.transferred_to == Pair(7, 8)
    assert event.facts.calling_name is None
    assert event.body == body


def test_a_failed_expression_is_one_fault_beside_the_others() -> None:
    mapping = {name: name for name in START} | {"deviceId": "abs(phone)", "transferredTo.deviceId": "length(to)"}
    answer = translator(mapping=mapping)(START | {"phone": "46701740605", "calledNumber": "1000", "to": 1}, "{}")
    assert isinstance(answer, Rejection)
    assert [(fault.pointer, fault.code) for fault in answer.faults] == [
        ("/deviceId", "mapping_failed"),
        ("/calledNumber", "short_number"),
        ("/transferredTo/deviceId", "mapping_failed"),
    ]
    assert "46701740605" not in str(answer.faults)


def test_an_empty_mapping_is_none() -> None:
    assert accepted(translator(mapping={}))

"""JSON made to break the translation, any JSON at all, and the JSON Schema against what is accepted."""

import json
import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.verdicts import Rejection
from bridge.intake.models import WireEvent
from tests.unit.wire_support import START, sent, translator

DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]


HOSTILE: dict[str, Any] = {
    "deep": DEEP,
    "huge": 10**5000,
    "infinite": float("inf"),
    "half a pair": "\ud800",
    "half a pair as name": {"\ud800": "\udfff"},
    "NUL": "\x00",
    "long": "1" * 100_000,
    "objects": {"a": {}},
    "array": [None],
}


@pytest.mark.parametrize("field", [*START, "callingNumber", "extraData", "transferredTo", "unknown"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_values_are_answered(field: str, hostile: str) -> None:
    answer = sent(**{field: HOSTILE[hostile]})
    if isinstance(answer, Rejection):
        orjson.dumps(
            [answer.event_id, answer.detail, answer.body, [[f.pointer, f.code, f.detail] for f in answer.faults]]
        )
    else:
        assert field in ("unknown", "extraData")  # unknown members are passed over, in an object too


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
fields = st.sampled_from([str(field.alias) for field in WireEvent.model_fields.values()])


@given(
    st.dictionaries(fields, json_values, max_size=6), st.sets(fields, max_size=2), st.sampled_from(["SE", "NO", None])
)
def test_any_json_gives_an_event_or_a_rejection(
    members: dict[str, Any], left_out: set[str], region: str | None
) -> None:
    value = {name: told for name, told in (START | members).items() if name not in left_out}
    answer = translator(region)(value, json.dumps(value))
    if isinstance(answer, Rejection):
        assert answer.faults
        pointers = [fault.pointer for fault in answer.faults]
        assert len(set(pointers)) == len(pointers)
    else:
        assert all(isinstance(told, str) and told.encode() for told in (answer.event_id, answer.call_id))


def schema_accepts(schema: dict[str, Any], told: object) -> bool:
    """A field's type and bounds as its JSON Schema has them; enough of JSON Schema for these models."""
    options = schema.get("anyOf", [schema])
    types: dict[str, Callable[[object], bool]] = {
        "string": lambda value: isinstance(value, str),
        "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
        "null": lambda value: value is None,
        "object": lambda value: isinstance(value, dict),
    }
    return any(
        types[option.get("type", "object")](told)
        and len(str(told)) <= option.get("maxLength", 10**9)
        and (not isinstance(told, int) or option["minimum"] <= told <= option["maximum"])
        and (not isinstance(told, str) or re.search(option.get("pattern", ""), told) is not None)
        and (not isinstance(told, str) or told in option.get("enum", [told]))
        for option in options
    )


VALUES: list[object] = [None, 1, -1, 2**53, True, "", "x", "x\x00", "x" * 129, "x" * 5000, "inbound", [], 1.5]


def test_the_json_schema_says_what_the_models_accept() -> None:
    schema = WireEvent.model_json_schema()
    assert sorted(schema["required"]) == ["callId", "deviceId", "eventId", "extensionId", "occurredAt", "type"]
    assert schema["properties"]["occurredAt"]["format"] == "date-time"
    assert len(schema["allOf"]) == 2
    for name, field in schema["properties"].items():
        for told in VALUES:
            answer = sent(**({"type": "call.ended"} | {name: told}))
            found = answer.faults if isinstance(answer, Rejection) else ()
            # What needs more than the schema, or what the helper above does not look at: the format, and minLength.
            refused = any(f.pointer == f"/{name}" and f.code not in ("bad_timestamp", "empty") for f in found)
            assert refused is not schema_accepts(field, told), (name, told)

"""Fault rules: what can be asked for, which one decides, and how often."""

from typing import Any

import pytest
from pydantic import ValidationError

from bridge.cention.sandbox.faults import RULES_MAX, FaultRule, Faults


def faults(*rules: dict[str, Any]) -> Faults:
    made = Faults()
    made.replace(rules)
    return made


def statuses(of: Faults, count: int, endpoint: str = "c3_new_errands", **facts: Any) -> list[int | None]:
    chosen = (of.next_for(endpoint, facts) for _ in range(count))
    return [None if rule is None else rule.status for rule in chosen]


def test_no_rule_no_fault() -> None:
    assert faults().next_for("c3_new_errands", {}) is None


def test_times_are_counted_and_then_the_next_rule_decides() -> None:
    both = faults({"status": 503, "times": 2}, {"status": 500, "times": 1})
    assert statuses(both, 4) == [503, 503, 500, None]
    assert [(rule["hits"], rule["remaining"]) for rule in both.view()] == [(2, 0), (1, 0)]


def test_a_rule_without_times_never_ends() -> None:
    endless = faults({"status": 503})
    assert statuses(endless, 100) == [503] * 100
    assert endless.view() == [{"status": 503, "hits": 100, "remaining": None}]


def test_endpoint_and_match_choose_the_request() -> None:
    one = faults({"endpoint": "c3_end_obcall", "match": {"deviceId": 1000}, "status": 503})
    assert statuses(one, 1, "c3_end_obcall", deviceId=1000) == [503]
    assert statuses(one, 1, "c3_end_obcall", deviceId=1001) == [None]
    assert statuses(one, 1, "c3_end_obcall") == [None]
    assert statuses(one, 1, "c3_new_errands", deviceId=1000) == [None]


def test_match_tells_json_types_apart() -> None:
    one = faults({"match": {"deviceId": 1, "endSession": True}, "status": 503})
    assert statuses(one, 1, deviceId=True, endSession=True) == [None]
    assert statuses(one, 1, deviceId=1, endSession=1) == [None]
    assert statuses(one, 1, deviceId=1, endSession=True) == [503]


def test_probability_falls_the_same_way_with_the_same_seed() -> None:
    rule = {"status": 503, "probability": 0.3, "seed": 7}
    first, second = statuses(faults(rule), 200), statuses(faults(rule), 200)
    assert first == second
    assert 30 < first.count(503) < 90
    assert statuses(faults({**rule, "seed": 8}), 200) != first
    assert statuses(faults({"status": 503, "probability": 0}), 50) == [None] * 50


def test_a_rule_that_cannot_be_used_changes_nothing() -> None:
    kept = faults({"status": 503})
    with pytest.raises(ValidationError):
        kept.replace([{"status": 500}, {"status": 99}])
    with pytest.raises(ValidationError):
        kept.replace_json(b'[{"status": 500}, {"stauts": 500}]')
    with pytest.raises(ValueError, match="at most"):
        kept.replace_json(b"[" + b",".join([b'{"status":500}'] * (RULES_MAX + 1)) + b"]")
    assert statuses(kept, 1) == [503]


def test_rules_are_replaced_as_a_whole() -> None:
    one = faults({"status": 503, "times": 1})
    one.replace_json(b'[{"status": 500}]')
    assert statuses(one, 2) == [500, 500]
    one.clear()
    assert statuses(one, 1) == [None]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"delay_s": 0},
        {"delay_s": -1},
        {"delay_s": float("inf")},
        {"status": 199},
        {"status": 600},
        {"reset": "never"},
        {"status": 503, "reset": "before"},
        {"body": "x"},
        {"reset": "after", "headers": {"A": "b"}},
        {"status": 503, "times": 0},
        {"status": 503, "probability": 1.1},
        {"status": 503, "endpoint": "c3_contacts"},
        {"status": 503, "match": {"device_id": 1}},
        {"status": 503, "headers": {"X\r\nY": "z"}},
        {"status": 503, "headers": {"X": "y\r\nZ: 1"}},
        {"status": 503, "headers": {"Content-Length": "1"}},
        {"status": 503, "content_type": "a\nb"},
        {"status": 503, "delay": 1},
    ],
)
def test_senseless_rules_are_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FaultRule.model_validate(rule)

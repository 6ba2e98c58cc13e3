"""The settings of unknown outcomes, breaker and rate: their bounds, and what a look-up needs of other keys."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bridge import parts
from bridge.delivery.places import LINE
from bridge.settings import Settings
from bridge.store.connection import Connection
from tests.unit.settings_support import faults_of, load_text

LOOKUP = "delivery.unknown_outcome = 'lookup'\n"
Load = Callable[..., Settings]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    return partial(load_text, tmp_path)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("unknown_outcome", ["'again'", "''", "1"]),
        ("lookup_reports_max", ["0", "1001", "1.5"]),
        ("breaker_failures", ["0", "10001", "true"]),
        ("breaker_open_s", ["0", "-1", "inf", "'5'"]),
        ("rate_per_s", ["-0.1", "nan", "inf", "100001", "'5'", "true"]),
    ],
)
def test_what_is_out_of_bounds_is_a_fault_of_that_key(loaded: Load, key: str, values: list[str]) -> None:
    for value in values:
        assert list(faults_of(lambda value=value: loaded(f"delivery.{key} = {value}"))) == [f"delivery.{key}"]  # type: ignore[misc] # mypy cannot infer a lambda with a default


def test_what_is_within_them_is_taken(loaded: Load) -> None:
    told = "delivery = {unknown_outcome = 'park', breaker_failures = 1, breaker_open_s = 600, rate_per_s = 5}"
    delivery = loaded(told).delivery
    assert (delivery.unknown_outcome, delivery.breaker_failures, delivery.rate_per_s) == ("park", 1, 5.0)


@pytest.mark.parametrize("text", ["${reference}", "$reference", "($reference)", "$$ and ${reference}"])
def test_a_look_up_needs_the_reference_in_subject_or_body(loaded: Load, text: str) -> None:
    plain = "errand = {subject = 'Call', body = 'Call'}\n"
    faults = faults_of(lambda: loaded(LOOKUP + plain))
    assert list(faults) == ["errand.body"]
    assert "${reference}" in faults["errand.body"]
    assert loaded(LOOKUP).delivery.unknown_outcome == "lookup", "the default body has it"
    assert loaded(plain).delivery.unknown_outcome == "retry", "nobody else needs it"
    for subject, body in ((text, "Call"), ("Call", text)):
        loaded(f"{LOOKUP}errand = {{subject = '{subject}', body = '{body}'}}")


def test_what_only_looks_like_the_reference_is_not_it(loaded: Load) -> None:
    for text in ("reference", "$$reference", "$${reference}"):
        faults = faults_of(partial(loaded, f"{LOOKUP}errand = {{subject = 'Call', body = '{text}'}}"))
        assert list(faults) == ["errand.body"]


def test_a_look_up_needs_time_before_the_attempt(loaded: Load) -> None:
    times = "delivery.attempt_timeout_s = 10\ndelivery.lease_s = {}\n"
    assert list(faults_of(lambda: loaded(LOOKUP + times.format("12.9")))) == ["delivery.lease_s"]
    assert loaded(LOOKUP + times.format("13")).delivery.lease_s == 13
    assert loaded(times.format("11")).delivery.lease_s == 11


def test_a_look_up_needs_a_token_for_errand_data(loaded: Load) -> None:
    cention = "cention = {{base_url = 'https://cention.example/s/acme', {}}}\n"
    alone = LOOKUP + cention.format("tokens = {create_errand = 'one'}")
    assert list(faults_of(lambda: loaded(alone, sandbox=False))) == ["cention.tokens.errand_data"]
    assert loaded(alone, sandbox=True)
    for tokens in ("token = 'one'", "tokens = {create_errand = 'one', errand_data = 'two'}"):
        loaded(LOOKUP + cention.format(tokens), sandbox=False)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ("", LINE),
        ("delivery.unknown_outcome = 'lookup'\nerrand.subject = '${reference}'", LINE),
        ("delivery.rate_per_s = 0.5", 0),
        ("delivery.unknown_outcome = 'park'", 0),
    ],
)
def test_there_is_no_line_where_it_would_do_harm(tmp_path: Path, told: str, line: int) -> None:
    settings = load_text(tmp_path, told + "\ndelivery.concurrency = 7")
    places = parts.places(settings, Connection("redis+sentinel://redis.example/calls", timeout_s=1))
    assert (places.longest, places.for_commits) == (line, 7)
    assert parts.places(settings, Connection("redis+cluster://redis.example", timeout_s=1)).longest == 0

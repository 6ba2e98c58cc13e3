"""What `aventa-bridge reconcile` prints of what it found."""

import json

import pytest

from bridge.calls.events import Facts, Pair
from bridge.calls.state import Call, CallState
from bridge.cli.reconcile import print_comparison
from bridge.reconcile import Comparison, Finding, What

CALL = Call("c\x1b1", Pair(1000, 1001), CallState.ENDED, Facts(), updated_at=1_769_843_441_120)
FOUND = Comparison([Finding(What.ERRAND_OPEN, CALL, 511055)], read=1, next=None)


@pytest.mark.parametrize("columns", [40, 80])
def test_what_was_found_fits_the_terminal_and_cannot_steer_it(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_comparison(FOUND, as_json=False)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert max(map(len, printed.splitlines())) <= columns
    for whole in ("errand_open", "1000/1001", "511055", "2026-01-31T07:10:41Z", "1 errand read; 1 found"):
        assert whole in printed


def test_reports_that_said_nothing_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(Comparison(read=3, unread=2, next=None), as_json=False)
    assert capsys.readouterr().out == "3 errands read, 2 of them without an answer to use; 0 found\n"


def test_json_has_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(FOUND, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [(each["callId"], each["errandId"]) for each in told["findings"]] == [(CALL.call_id, "511055")]
    assert (told["read"], told["unread"], told["next"]) == (1, 0, None)

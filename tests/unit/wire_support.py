"""Sends events to a `Translator`: a good start with members put in or left out."""

from typing import Any

from bridge.calls.events import CallEvent, Direction
from bridge.calls.verdicts import Rejection
from bridge.intake.wire import Translator

NOW_MS = 1_795_500_000_250
AT = "2026-11-24T07:00:00.250+01:00"
BOTH = frozenset(Direction)
START: dict[str, Any] = {
    "eventId": "e-1",
    "type": "call.started",
    "occurredAt": AT,
    "callId": "c-1",
    "deviceId": 1000,
    "extensionId": 1001,
    "direction": "inbound",
    "calledNumber": "+46 8 465 004 00",
}


def translator(
    region: str | None = "SE", opens: frozenset[Direction] = BOTH, mapping: dict[str, str] | None = None
) -> Translator:
    return Translator(
        default_region=region,
        opens=opens,
        clock_ahead_s_max=300,
        clock_behind_s_max=3600,
        now_ms=lambda: NOW_MS,
        mapping=mapping,
    )


def sent(translate: Translator | None = None, /, **members: Any) -> CallEvent | Rejection:
    """What becomes of a start with `members` put in; a member that is `...` is left out."""
    event = {name: told for name, told in (START | members).items() if told is not ...}
    return (translate or translator())(event, "{}")


def accepted(translate: Translator | None = None, /, **members: Any) -> CallEvent:
    answer = sent(translate, **members)
    assert isinstance(answer, CallEvent), answer
    return answer


def faults(translate: Translator | None = None, /, **members: Any) -> list[tuple[str, str]]:
    """The pointers and codes, once it is sure that the rejection repeats nothing that it must not."""
    answer = sent(translate, **members)
    assert isinstance(answer, Rejection), answer
    assert answer.code == "invalid_event"
    return [(fault.pointer, fault.code) for fault in answer.faults]

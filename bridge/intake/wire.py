"""The call event as JSON (contract section 1) -> `CallEvent`, or a `Rejection` that names every fault at once.

Owns what an event of each type must carry, and the words for what is wrong with one. Must not know HTTP, feeds or what
an event does. The fields' own rules are in `models`, those of numbers in `bridge.calls.numbers`.

Invariants: whatever JSON comes in, the answer is one of the two and never an exception. A fault's words repeat no
number, name or `cuid`. Only an event that starts a call is refused for its numbers: on any other a number that cannot
be used is passed over with a note, since a lost end is worse than a lost number.

A good event costs one pass of pydantic and plain code. Only a bad one is gone through again, with its faulty fields
replaced by harmless ones, so that the faults that need several fields or a number's reading are told as well.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.calls.events import NOTHING_TOLD, CallEvent, Direction, EventKind, Facts, Pair
from bridge.calls.numbers import REGIONS, NumberFault, is_withheld, read_caller, read_dialled, to_msisdn
from bridge.calls.verdicts import BODY_CHARS_MAX, Fault, Rejection
from bridge.intake.mapping import EventMapping
from bridge.intake.models import ID_CHARS_MAX, INTEGER_MAX, WireEvent, WireExtraData

_KINDS: Final = {kind.value: kind for kind in EventKind if kind.value.startswith("call.")}
_DIRECTIONS: Final = {direction.value: direction for direction in Direction}
_ORDER: Final = {f"/{field.alias}": place for place, field in enumerate(WireEvent.model_fields.values())}
# What stands in for a faulty field while the others are looked at: a type that asks for nothing.
_STAND_INS: Final[Mapping[str, Any]] = {
    "eventId": "-",
    "type": EventKind.UPDATED.value,
    "occurredAt": "",
    "callId": "-",
    "deviceId": 0,
    "extensionId": 0,
}
_NONE_FAULTY: Final[frozenset[str]] = frozenset()


class Translator:
    """Wire -> `CallEvent` or `Rejection`, by one set of settings.

    Args:
        default_region: two letters, `numbers.default_region`; None: only numbers with a country code are read.
        opens: the directions that get an errand, so that the called number of a start must be an MSISDN.
        clock_ahead_s_max: how far in the future `occurredAt` may be, seconds.
        clock_behind_s_max: how far in the past, seconds.
        now_ms: the clock, ms since the epoch.
        mapping: JMESPath expressions per event field; None or empty: events come as contract section 1 says.

    Raises:
        ValueError: `default_region` is no region.
        MappingFault: an expression cannot be used.
    """

    def __init__(
        self,
        *,
        default_region: str | None,
        opens: frozenset[Direction],
        clock_ahead_s_max: int,
        clock_behind_s_max: int,
        now_ms: Callable[[], int],
        mapping: Mapping[str, str] | None = None,
    ) -> None:
        if default_region is not None and default_region not in REGIONS:
            raise ValueError("default_region is no two-letter region code, such as SE")
        self._region = default_region
        self._opens = opens
        self._ahead_ms_max = clock_ahead_s_max * 1000
        self._behind_ms_max = clock_behind_s_max * 1000
        self._now_ms = now_ms
        self._mapping = EventMapping(mapping) if mapping else None

    def __call__(self, value: object, body: str) -> CallEvent | Rejection:
        """The event that `value`, parsed JSON, tells of; `body` is its JSON text, for the journal."""
        if not isinstance(value, dict):
            fault = Fault("", "not_an_object", "An event is a JSON object.")
            return _rejection(None, [fault], body)
        faults: list[Fault] = []
        if self._mapping is not None:
            value, faults = self._mapping(value)
        try:
            event = WireEvent.model_validate(value)
        except ValidationError as error:
            told = {fault.pointer for fault in faults}
            found = [_fault(details) for details in error.errors(include_url=False)]
            faults += [fault for fault in found if fault.pointer not in told]
        if not faults:
            translated = self._translated(event, body, faults, _NONE_FAULTY)
            if not faults:
                return translated
        else:
            faulty = frozenset(fault.pointer.split("/")[1] for fault in faults)
            stand_ins = {name: stand_in for name, stand_in in _STAND_INS.items() if name in faulty}
            sound = {name: told for name, told in value.items() if name not in faulty}
            self._translated(WireEvent.model_validate(stand_ins | sound), body, faults, faulty)
        return _rejection(value.get("eventId"), faults, body)

    def _translated(self, event: WireEvent, body: str, faults: list[Fault], faulty: frozenset[str]) -> CallEvent:
        """The event, of use only when `faults` is still empty afterwards. `faulty` fields are not looked at."""
        notes: list[str] = []
        kind = _KINDS[event.type]
        pair = Pair(event.device_id, event.extension_id)
        occurred_at = 0 if "occurredAt" in faulty else self._occurred_at(event.occurred_at, faults)
        direction = None if event.direction is None else _DIRECTIONS[event.direction]
        if kind is EventKind.STARTED:
            if direction is None and "direction" not in faulty:
                faults.append(_missing("/direction", kind))
            if not event.called_number and "calledNumber" not in faulty:
                faults.append(_missing("/calledNumber", kind))
        target = None
        if kind is EventKind.TRANSFERRED and "transferredTo" not in faulty:
            if event.transferred_to is None:
                faults.append(_missing("/transferredTo", kind))
            else:
                target = Pair(event.transferred_to.device_id, event.transferred_to.extension_id)
                if target == pair and faulty.isdisjoint(("deviceId", "extensionId")):
                    faults.append(Fault("/transferredTo", "same_pair", _SAME_PAIR))
        return CallEvent(
            event_id=event.event_id,
            kind=kind,
            occurred_at=occurred_at,
            call_id=event.call_id,
            pair=pair,
            facts=self._facts(event, kind, direction, faults, notes),
            sequence=event.sequence,
            transferred_to=target,
            notes=tuple(notes),
            body=_storable(body),
        )

    def _facts(
        self, event: WireEvent, kind: EventKind, direction: Direction | None, faults: list[Fault], notes: list[str]
    ) -> Facts:
        if event.model_fields_set <= _NO_FACTS:
            return NOTHING_TOLD  # as of most events but the first of a call
        called, dest = self._called(event.called_number, kind, direction, faults, notes)
        extra = event.extra_data or _NO_EXTRA_DATA
        return Facts(
            direction=direction,
            called_number=called,
            dest_number=dest,
            calling_number=self._calling(event.calling_number, kind, faults, notes),
            calling_name=None if is_withheld(event.calling_name) else event.calling_name,
            queue_name=event.queue_name or None,
            queue_number=event.queue_number or None,
            paging_number=event.paging_number or None,
            paging_name=event.paging_name or None,
            link=event.link or None,
            cuid=event.cuid or None,
            comment=extra.comment or None,
            call_reason=extra.call_reason or None,
            appointment_timestamp=extra.appointment_timestamp or None,
            cause=event.cause or None,
            ended_by=event.ended_by or None,
        )

    def _called(
        self, text: str, kind: EventKind, direction: Direction | None, faults: list[Fault], notes: list[str]
    ) -> tuple[str | None, str | None]:
        """The called number as dialled, and as MSISDN where it is one."""
        if not text:
            return None, None
        dest: str | None = None
        try:
            dest = to_msisdn(text, self._region)
        except NumberFault as fault:
            # A start without a direction is refused anyway; its number is judged where every direction needs an MSISDN.
            opens = direction in self._opens if direction else len(self._opens) == len(Direction)
            if kind is EventKind.STARTED and opens:
                faults.append(Fault("/calledNumber", fault.code, fault.detail))
                return None, None
        try:
            return read_dialled(text), dest
        except NumberFault as fault:
            _object("calledNumber", fault, kind, faults, notes)
            return None, dest

    def _calling(self, text: str | None, kind: EventKind, faults: list[Fault], notes: list[str]) -> str | None:
        if text is None or is_withheld(text):
            return None
        try:
            return read_caller(text, self._region)
        except NumberFault as fault:
            _object("callingNumber", fault, kind, faults, notes)
            return None

    def _occurred_at(self, text: str, faults: list[Fault]) -> int:
        at = _ms_of(text)
        if at is None:
            faults.append(Fault("/occurredAt", "bad_timestamp", _BAD_TIMESTAMP))
            return 0
        behind = self._now_ms() - at
        if -behind > self._ahead_ms_max:
            words = _CLOCK.format(-behind // 1000, "ahead of", self._ahead_ms_max // 1000)
            faults.append(Fault("/occurredAt", "clock_ahead", words))
        elif behind > self._behind_ms_max:
            words = _CLOCK.format(behind // 1000, "behind", self._behind_ms_max // 1000)
            faults.append(Fault("/occurredAt", "clock_behind", words))
        return at


_NO_FACTS: Final = frozenset(
    ["event_id", "type", "occurred_at", "call_id", "device_id", "extension_id", "transferred_to", "sequence"]
)
"""The fields that tell nothing of a call, only which it is and what happens to it."""
_NO_EXTRA_DATA: Final = WireExtraData()
_SAME_PAIR: Final = (
    "A call cannot be transferred to the pair that has it; name the new agent's `deviceId` and `extensionId`."
)
_BAD_TIMESTAMP: Final = "Send date, time and offset as RFC 3339 has them, such as 2026-01-31T09:30:00.250+01:00."
_CLOCK: Final = "This is {} s {} the bridge's clock, and the limit is {} s; set the sender's clock, or send it in time."


def _object(field: str, fault: NumberFault, kind: EventKind, faults: list[Fault], notes: list[str]) -> None:
    """A number that cannot be used costs a start, and is noted on any other event."""
    if kind is EventKind.STARTED:
        faults.append(Fault(f"/{field}", fault.code, fault.detail))
    else:
        notes.append(f"{field} was passed over ({fault.code}): {fault.detail}")


def _missing(pointer: str, kind: EventKind) -> Fault:
    return Fault(pointer, "missing", f"This field is required on {kind}.")


_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt](?:[01][0-9]|2[0-3]):[0-9]{2}:([0-9]{2})(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _ms_of(text: str) -> int | None:
    """Milliseconds since the epoch, or None when `text` is no time of RFC 3339 section 5.6.

    `datetime.fromisoformat` alone takes much more: dates without a time, weeks, times without an offset.
    """
    parts = _RFC3339.fullmatch(text)
    if parts is None:
        return None
    leap_ms = 0
    if parts[1] == "60":  # a leap second; Python has none
        text, leap_ms = f"{text[: parts.start(1)]}59{text[parts.end(1) :]}", 1000
    try:
        since = datetime.fromisoformat(text.upper()) - _EPOCH
    except (ValueError, OverflowError):
        return None
    # Not `timestamp()`: a float would round milliseconds.
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000 + leap_ms


_EXPECTED: Final = {
    "string_type": "a JSON string",
    "int_type": "a JSON integer, without quotes or fraction",
    "model_type": "a JSON object",
    "null": "left out, or told; it may not be null",
}


def _fault(error: ErrorDetails) -> Fault:
    """pydantic's error in the bridge's words; its own would repeat what was sent."""
    pointer = "".join(f"/{part}" for part in error["loc"])
    limits = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return Fault(pointer, "missing", "This field is required.")
        case "greater_than_equal" | "less_than_equal":
            least = -INTEGER_MAX if pointer == "/sequence" else 0
            return Fault(pointer, "out_of_range", f"This must be {least} to {INTEGER_MAX}.")
        case "string_too_long":
            return Fault(pointer, "too_long", f"This may have at most {limits['max_length']} characters.")
        case "string_too_short":
            return Fault(pointer, "empty", "This may not be empty.")
        case "string_pattern_mismatch":
            return Fault(pointer, "control_character", "This may not hold control characters.")
        case "string_unicode":
            return Fault(pointer, "not_unicode", "This holds half of a surrogate pair, which no text has.")
        case "literal_error" if isinstance(error["input"], str):
            return Fault(pointer, f"unknown_{error['loc'][-1]}", f"This must be one of {limits['expected']}.")
        case other:
            return Fault(pointer, "wrong_type", f"This must be {_EXPECTED.get(other, 'a JSON string')}.")


def _rejection(event_id: object, faults: list[Fault], body: str) -> Rejection:
    faults.sort(key=lambda fault: _ORDER.get("/" + fault.pointer[1:].partition("/")[0], -1))
    found = ", ".join(f"{fault.pointer or 'the whole'} ({fault.code})" for fault in faults)
    return Rejection(
        event_id=_storable(event_id)[:ID_CHARS_MAX] if isinstance(event_id, str) else None,
        code="invalid_event",
        detail=f"The event cannot be used: {found}.",
        faults=tuple(faults),
        body=_storable(body[:BODY_CHARS_MAX]),
    )


def _storable(text: str) -> str:
    """`text`, with half surrogate pairs (JSON allows them, UTF-8 does not) written out as escapes."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()

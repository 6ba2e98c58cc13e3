"""From the bytes of a body to events and rejections, and from their verdicts to the results a sender reads.

Owns the three envelopes (one event, an array, NDJSON) and what makes one unreadable. Must not know HTTP, Redis or
what a valid event is: `translate` says that. One broken event never costs the others of its batch; outcomes stand in
the order of the events. The same event meets the same fate in whichever envelope it comes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import orjson

from bridge.calls.events import CallEvent
from bridge.calls.verdicts import BODY_CHARS_MAX, Fault, Rejection, Verdict

Translate = Callable[[object, str], CallEvent | Rejection]
"""A parsed event and its own JSON text -> the event, or why not."""
Accept = Callable[[Sequence[CallEvent]], Awaitable[Sequence[Verdict]]]
"""Makes events durable, in order; one verdict each. May raise `StoreUnavailable` or `EventsRefused`: then nothing is
promised."""
Reject = Callable[[Sequence[Rejection]], Awaitable[None]]
"""Keeps rejections for an operator. May raise `StoreUnavailable`."""
Outcome = CallEvent | Rejection

UNREADABLE = "unreadable_json"
INVALID = "invalid_event"
DEPTH_MAX = 254  # what orjson writes; it reads 1,024, so an event could be read that the journal cannot hold
_EVENT_ID_CHARS_MAX = 128
_BOM = b"\xef\xbb\xbf"
_TURN = 50  # events translated between two turns of the loop, so that a full batch does not hold up single events


class Unreadable(Exception):
    """Bytes that are not JSON.

    Attributes:
        detail: what is wrong and where; never what was sent.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class EventsRefused(Exception):
    """The store takes writes, and again and again not these events, in words that say nothing to us.

    Nothing is promised of any of them; asking again with the same ids is safe.

    Attributes:
        reason: the words.
        retry_after_s: seconds after which asking again makes sense.
    """

    def __init__(self, reason: str, retry_after_s: int = 5) -> None:
        super().__init__(reason)
        self.reason, self.retry_after_s = reason, retry_after_s


class TooManyEvents(Exception):
    """More events in one body than allowed."""


def parse(raw: bytes) -> object:
    """The JSON value of `raw`, which is UTF-8 with or without a byte order mark.

    Raises:
        Unreadable: also for NaN, lone surrogates and more than 1,024 levels.

    Source: RFC 8259 sections 8.1 (a byte order mark may be ignored) and 9.
    """
    try:
        return orjson.loads(raw.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno}, column {error.colno}"
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        # orjson reports bad UTF-8 at position 0, wherever it is.
        where = f"invalid UTF-8 at byte {error.start + 1}"
    raise Unreadable(where)


def text_of(raw: bytes) -> str:
    """As much of `raw` as a rejection keeps, with what is not UTF-8 replaced."""
    return raw[: BODY_CHARS_MAX * 4].decode("utf-8", "replace")[:BODY_CHARS_MAX]


def one(value: object, raw: bytes, translate: Translate) -> Outcome:
    """The outcome of one event that was parsed from `raw`."""
    text = raw.removeprefix(_BOM).decode()
    # Only bodies with that many brackets can be that deep: the check costs ordinary events nothing.
    if raw.count(b"{") + raw.count(b"[") > DEPTH_MAX and _written(value) is None:
        return _too_deep(value, text)
    return translate(value, text)


async def elements(values: Sequence[object], translate: Translate) -> list[Outcome]:
    """The outcomes of an array's events; each one's journal text is its own element."""
    outcomes: list[Outcome] = []
    for index, value in enumerate(values, 1):
        written = _written(value)
        outcomes.append(_too_deep(value, None) if written is None else translate(value, written.decode()))
        if index % _TURN == 0:
            await asyncio.sleep(0)
    return outcomes


async def lines(raw: bytes, translate: Translate, events_max: int) -> list[Outcome]:
    """The outcomes of NDJSON, one per line that is not blank.

    Raises:
        TooManyEvents: over `events_max` lines.
    """
    numbered = [(number, line) for number, line in enumerate(raw.removeprefix(_BOM).split(b"\n"), 1) if line.strip()]
    if len(numbered) > events_max:
        raise TooManyEvents
    outcomes: list[Outcome] = []
    for index, (number, line) in enumerate(numbered, 1):
        try:
            outcomes.append(one(parse(line), line.strip(), translate))
        except Unreadable as error:
            outcomes.append(unreadable(f"Line {number} is not JSON: {error.detail}.", line))
        if index % _TURN == 0:
            await asyncio.sleep(0)
    return outcomes


def unreadable(detail: str, raw: bytes) -> Rejection:
    """The rejection of one event among others that is not JSON."""
    return Rejection(None, UNREADABLE, detail, (Fault("", UNREADABLE, detail),), text_of(raw))


def our_fault(event_id: str | None, body: str | None) -> Rejection:
    """The rejection of an event that meets a fault of the bridge's own, where nobody is left to be told."""
    detail = "The bridge failed on this event; its log says why."
    return Rejection(event_id, "internal_error", detail, (), None if body is None else body[:BODY_CHARS_MAX])


def errors(rejection: Rejection) -> list[dict[str, str]]:
    """A rejection's faults as contract section 3 lays them out."""
    return [{"pointer": fault.pointer, "code": fault.code, "detail": fault.detail} for fault in rejection.faults]


def results(outcomes: Iterable[Outcome], verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """One result per outcome, in order; `verdicts` are those of the events alone, in order.

    Raises:
        ValueError: there are more or fewer verdicts than events: whoever accepted them is at fault.
    """
    outcomes = list(outcomes)
    accepted = [outcome for outcome in outcomes if isinstance(outcome, CallEvent)]
    told = iter([(event.event_id, verdict) for event, verdict in zip(accepted, verdicts, strict=True)])
    found: list[dict[str, Any]] = []
    for outcome in outcomes:
        if isinstance(outcome, Rejection):
            found.append(
                {
                    "eventId": outcome.event_id,
                    "result": "rejected",
                    # The same top-level code as for a single event; `errors` says what is wrong with which field.
                    "code": UNREADABLE if outcome.code == UNREADABLE else INVALID,
                    "detail": outcome.detail,
                    "errors": errors(outcome),
                }
            )
        else:
            event_id, verdict = next(told)
            spooled = {"spooled": True} if verdict is Verdict.SPOOLED else {}
            found.append({"eventId": event_id, "result": verdict.result, **spooled})
    return found


def _written(value: object) -> bytes | None:
    """`value` as JSON, or None if it is nested too deep for that."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return None


def _too_deep(value: object, text: str | None) -> Rejection:
    detail = f"The event is nested deeper than {DEPTH_MAX} levels."
    event_id = value.get("eventId") if isinstance(value, dict) else None
    if not isinstance(event_id, str) or not 1 <= len(event_id) <= _EVENT_ID_CHARS_MAX:
        event_id = None
    body = None if text is None else text[:BODY_CHARS_MAX]
    return Rejection(event_id, "too_deep", detail, (Fault("", "too_deep", detail),), body)

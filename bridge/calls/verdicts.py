"""What became of one event at the door: accepted, a duplicate, or rejected with every fault it has."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of an event that could be read: the `result` of contract section 3, and where it lies."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    SPOOLED = "spooled"
    """Accepted, and on this machine's disk until Redis takes it."""

    @property
    def result(self) -> str:
        """The `result` that the sender is told."""
        return "accepted" if self is Verdict.SPOOLED else str(self)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an event.

    Attributes:
        pointer: where, as a JSON Pointer (RFC 6901): `/calledNumber`; empty for the whole event.
        code: stable, snake_case.
        detail: what is wrong and how to mend it. Never repeats a number, a name or `cuid`.
    """

    pointer: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """An event that was refused, kept for an operator to look at.

    Attributes:
        event_id: the event's id where it could be read.
        code: the first fault's code, or the whole body's (`unreadable_json`, `body_too_large`, ...).
        detail: one sentence for a person.
        faults: every fault, in the order of the event's fields.
        body: the event as it came, cut at `BODY_CHARS_MAX`; None where keeping it is not possible.
    """

    event_id: str | None
    code: str
    detail: str
    faults: tuple[Fault, ...] = ()
    body: str | None = None


BODY_CHARS_MAX = 16_384

"""What happens to a call, as the bridge sees it: `CallEvent`, and the `Facts` that events tell.

Owns the vocabulary shared by every layer. Knows no wire format: `bridge.intake` turns JSON into these.
What every event makes is a named tuple: a frozen dataclass takes three times as long to make, and to make anew.
Times are integer milliseconds since the epoch, UTC.
"""

from enum import StrEnum
from typing import NamedTuple, Self


class Pair(NamedTuple):
    """The agent's key in Cention: `deviceId` and `extensionId`, each 0 to 2^53-1.

    Source: Cention API, "integrationData": "Used as part of key to identify agent in Cention".
    """

    device_id: int
    extension_id: int

    def __str__(self) -> str:
        return f"{self[0]}:{self[1]}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The pair of `str(pair)`."""
        device_id, extension_id = text.split(":")
        return cls(int(device_id), int(extension_id))


class Direction(StrEnum):
    """As seen from the contact centre."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class EventKind(StrEnum):
    """The event types of contract section 1, and three of the bridge's own that never come over the wire."""

    STARTED = "call.started"
    ANSWERED = "call.answered"
    HELD = "call.held"
    RETRIEVED = "call.retrieved"
    TRANSFERRED = "call.transferred"
    UPDATED = "call.updated"
    ENDED = "call.ended"
    HANDED_OVER = "bridge.handed_over"
    """A transfer reached its new agent: the second commit of `TRANSFERRED`."""
    EXPIRED = "bridge.expired"
    """The call's timer ran out: the grace of an orphan, or the greatest age of a live call."""
    RECONCILED = "bridge.reconciled"
    """Cention's errand contradicts the call: closed while the call is live, or open though the call has ended."""


class Facts(NamedTuple):
    """What events have told of a call so far; None where none has.

    `called_number` is as dialled, `dest_number` the same as MSISDN where it is one; `calling_number` is an MSISDN, a
    short number or a SIP address, None when withheld.
    """

    direction: Direction | None = None
    called_number: str | None = None
    dest_number: str | None = None
    calling_number: str | None = None
    calling_name: str | None = None
    queue_name: str | None = None
    queue_number: str | None = None
    paging_number: str | None = None
    paging_name: str | None = None
    link: str | None = None
    cuid: str | None = None
    comment: str | None = None
    call_reason: str | None = None
    appointment_timestamp: str | None = None
    cause: str | None = None
    ended_by: str | None = None

    def updated_by(self, newer: "Facts") -> "Facts":
        """These facts with every one that `newer` tells put in its place."""
        if self is NOTHING_TOLD:
            return newer
        return Facts._make([old if new is None else new for old, new in zip(self, newer, strict=True)])

    def filled_by(self, other: "Facts") -> "Facts":
        """These facts with only the gaps filled from `other`: for an event that is older than what is known."""
        return other.updated_by(self)


NOTHING_TOLD = Facts()
FACT_NAMES = Facts._fields


class CallEvent(NamedTuple):
    """One event of one call at one pair.

    Attributes:
        event_id: unique per event; a retry repeats it.
        occurred_at: when it happened at the PBX, ms since the epoch.
        sequence: order within the call, where the PBX has one.
        transferred_to: the new agent, on `TRANSFERRED`.
        after: on `HANDED_OVER`, the id of the effect that must reach Cention before this call is opened.
        notes: what was passed over on the way in (such as an unusable number), in words, for the timeline.
        body: the event as it came, for the journal; it keeps unknown fields.
    """

    event_id: str
    kind: EventKind
    occurred_at: int
    call_id: str
    pair: Pair
    facts: Facts = NOTHING_TOLD
    sequence: int | None = None
    transferred_to: Pair | None = None
    after: str | None = None
    notes: tuple[str, ...] = ()
    body: str | None = None

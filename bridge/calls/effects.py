"""What the world must be told because of an event: effects, each with an id that is the same at every attempt.

Source: contract section 2, column "message to Cention"; architecture, "Effect ids".
"""

import hashlib
from enum import StrEnum
from typing import NamedTuple

from bridge.calls.events import CallEvent, EventKind, Facts, Pair


class EffectKind(StrEnum):
    """In the imperative: what is to be done."""

    OPEN_ERRAND = "open_errand"
    """POST `c3_new_errands`, `endSession` false."""
    END_SESSION = "end_session"
    """POST `c3_new_errands` again, same `referenceId`, `endSession` true."""
    CLOSE_ERRAND = "close_errand"
    """POST `c3_end_errands` with the errand's id."""
    END_OUTBOUND_CALL = "end_outbound_call"
    """POST `c3_end_obcall`."""
    HAND_OVER = "hand_over"
    """Not for Cention: lets the new agent's lane go on once the old agent's end has been told."""
    FETCH_FILE = "fetch_file"
    """Not of a call's event but of a callback, and not in an agent's lane: GET one file that the answer has."""
    FORWARD_CALLBACK = "forward_callback"
    """The same: POST the callback to `callback.forward_url`."""


class Effect(NamedTuple):
    """One thing to do, in its pair's lane.

    Attributes:
        effect_id: deterministic (pair, call, kind, ordinal); Cention's `message_id`, and the delivery's id.
        at: when the event that caused it happened at the PBX, ms since the epoch.
        started_at: when the call reached the agent, ms since the epoch; 0 where that is not known.
        facts: what was known of the call when the effect was decided.
        reason: `event`, `swept`, `orphan`, `late_link`, `reconciled`: why it came about, for the timeline.
        target: the new agent, on `HAND_OVER`.
        after: the hand-over that must be done before this effect may leave, or None.
    """

    effect_id: str
    kind: EffectKind
    call_id: str
    pair: Pair
    at: int
    facts: Facts
    started_at: int = 0
    reason: str = "event"
    target: Pair | None = None
    after: str | None = None


def effect_id(pair: Pair, call_id: str, kind: EffectKind, ordinal: int) -> str:
    """The id of a call's effect: `av-<24 hex digits>-<kind>-<ordinal>`.

    The call's id is hashed, since it may be long and hold anything, and this id travels into Cention's `message_id`.
    """
    digest = hashlib.blake2b(f"{pair}:{call_id}".encode(), digest_size=12).hexdigest()
    return f"av-{digest}-{kind}-{ordinal}"


def handed_over(effect: Effect) -> CallEvent:
    """The event that a `HAND_OVER` effect is for the new agent's pair; its id is the effect's, so it counts once."""
    assert effect.target is not None, "a hand-over names the new agent"
    return CallEvent(
        event_id=effect.effect_id,
        kind=EventKind.HANDED_OVER,
        occurred_at=effect.at,
        call_id=effect.call_id,
        pair=effect.target,
        facts=effect.facts._replace(cause=None, ended_by=None),
        after=effect.effect_id,
    )

"""A call at one pair, the states it can be in, and the table of what each event does in each state.

The table is the authority: `decide` in `bridge.calls.decide` only carries it out, and the diagram in `docs/calls.md`
is generated from it. Every (state, trigger) cell is there; a test counts them.

Source: contract section 2.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

from bridge.calls.events import NOTHING_TOLD, Direction, EventKind, Facts, Pair


class CallState(StrEnum):
    """Where a call is. The four that contract section 4 names are `started`, `answered`, `held` and `ended`."""

    UNSEEN = "unseen"
    """No event of it is known (never stored)."""
    EXPECTED = "expected"
    """Events came, none of which carries what a start needs: its start is lost or late."""
    ORPHANED = "orphaned"
    """It ended (or was transferred) before its start came; the start is waited for."""
    STARTED = "started"
    ANSWERED = "answered"
    HELD = "held"
    ENDED = "ended"
    WRITTEN_OFF = "written_off"
    """It ended and no start came in time: shown as `ended`. A start that comes after all is still not lost."""


class Trigger(StrEnum):
    """What moves a call: the event kinds, by their short names."""

    START = "start"
    ANSWER = "answer"
    HOLD = "hold"
    RETRIEVE = "retrieve"
    UPDATE = "update"
    TRANSFER = "transfer"
    END = "end"
    HAND_OVER = "hand_over"
    EXPIRE = "expire"
    RECONCILE = "reconcile"


TRIGGER_OF = {
    EventKind.STARTED: Trigger.START,
    EventKind.ANSWERED: Trigger.ANSWER,
    EventKind.HELD: Trigger.HOLD,
    EventKind.RETRIEVED: Trigger.RETRIEVE,
    EventKind.UPDATED: Trigger.UPDATE,
    EventKind.TRANSFERRED: Trigger.TRANSFER,
    EventKind.ENDED: Trigger.END,
    EventKind.HANDED_OVER: Trigger.HAND_OVER,
    EventKind.EXPIRED: Trigger.EXPIRE,
    EventKind.RECONCILED: Trigger.RECONCILE,
}


class Action(StrEnum):
    """What a transition does beside changing the state."""

    OPEN = "open"
    """Create the errand."""
    CLOSE = "close"
    """Tell Cention that the call ended."""
    CLOSE_ORPHAN = "close orphan"
    """Free the agent of a call whose start never came."""
    PASS_ON = "pass on"  # noqa: S105 (an action, not a password)
    """Hand the call to the pair it was transferred to."""
    TELL_LINK = "tell late link"
    """Tell Cention a link that came after the end, if one did."""
    CLOSE_ERRAND = "close errand"
    """Close the errand by its id, however ends are told otherwise."""


RESUME = "resume"
"""A target: the state that the events before the start led to."""


class Rule(NamedTuple):
    """One cell: the state to go to (or `RESUME`), and what to do, in order."""

    to: CallState | str
    does: tuple[Action, ...] = ()


S, T, A = CallState, Trigger, Action

LIVE = frozenset([S.STARTED, S.ANSWERED, S.HELD])
"""An agent is on it: listed as active, and swept when too old."""
BEFORE_START = frozenset([S.UNSEEN, S.EXPECTED, S.ORPHANED])
"""An event that carries what a start needs opens it as if it had started."""
OVER = frozenset([S.ENDED, S.WRITTEN_OFF])

_LIVE_ROW: dict[Trigger, Rule] = {
    T.ANSWER: Rule(S.ANSWERED),
    T.HOLD: Rule(S.HELD),
    T.RETRIEVE: Rule(S.ANSWERED),
    T.TRANSFER: Rule(S.ENDED, (A.CLOSE, A.PASS_ON)),
    T.END: Rule(S.ENDED, (A.CLOSE,)),
    T.EXPIRE: Rule(S.ENDED, (A.CLOSE,)),
    T.RECONCILE: Rule(S.ENDED, (A.CLOSE,)),
}


def _live(state: CallState) -> dict[Trigger, Rule]:
    # A second start, an update and a repeated hand-over change data, not the state.
    stays = {T.START: Rule(state), T.UPDATE: Rule(state), T.HAND_OVER: Rule(state)}
    return {**_LIVE_ROW, **stays}


TRANSITIONS: dict[CallState, dict[Trigger, Rule]] = {
    S.UNSEEN: {
        T.START: Rule(S.STARTED, (A.OPEN,)),
        T.ANSWER: Rule(S.EXPECTED),
        T.HOLD: Rule(S.EXPECTED),
        T.RETRIEVE: Rule(S.EXPECTED),
        T.UPDATE: Rule(S.EXPECTED),
        T.TRANSFER: Rule(S.ORPHANED),
        T.END: Rule(S.ORPHANED),
        T.HAND_OVER: Rule(S.STARTED, (A.OPEN,)),
        T.EXPIRE: Rule(S.UNSEEN),
        T.RECONCILE: Rule(S.UNSEEN),
    },
    S.EXPECTED: {
        T.START: Rule(RESUME, (A.OPEN,)),
        T.ANSWER: Rule(S.EXPECTED),
        T.HOLD: Rule(S.EXPECTED),
        T.RETRIEVE: Rule(S.EXPECTED),
        T.UPDATE: Rule(S.EXPECTED),
        T.TRANSFER: Rule(S.ORPHANED),
        T.END: Rule(S.ORPHANED),
        T.HAND_OVER: Rule(RESUME, (A.OPEN,)),
        T.EXPIRE: Rule(S.WRITTEN_OFF, (A.CLOSE_ORPHAN,)),
        T.RECONCILE: Rule(S.EXPECTED),
    },
    S.ORPHANED: {
        T.START: Rule(S.ENDED, (A.OPEN, A.CLOSE, A.PASS_ON)),
        T.ANSWER: Rule(S.ORPHANED),
        T.HOLD: Rule(S.ORPHANED),
        T.RETRIEVE: Rule(S.ORPHANED),
        T.UPDATE: Rule(S.ORPHANED),
        T.TRANSFER: Rule(S.ORPHANED),
        T.END: Rule(S.ORPHANED),
        T.HAND_OVER: Rule(S.ENDED, (A.OPEN, A.CLOSE, A.PASS_ON)),
        T.EXPIRE: Rule(S.WRITTEN_OFF, (A.CLOSE_ORPHAN,)),
        T.RECONCILE: Rule(S.ORPHANED),
    },
    S.STARTED: _live(S.STARTED),
    S.ANSWERED: _live(S.ANSWERED),
    S.HELD: _live(S.HELD),
    S.ENDED: {
        **{trigger: Rule(S.ENDED, (A.TELL_LINK,)) for trigger in Trigger},
        # The call came back to an agent who had passed it on: a new leg, with an errand of its own.
        T.HAND_OVER: Rule(S.STARTED, (A.OPEN,)),
        T.EXPIRE: Rule(S.ENDED),
        T.RECONCILE: Rule(S.ENDED, (A.CLOSE_ERRAND,)),
    },
    S.WRITTEN_OFF: {
        **{trigger: Rule(S.WRITTEN_OFF) for trigger in Trigger},
        # The start was very late, yet the call took place: its errand is made, and closed at once.
        T.START: Rule(S.ENDED, (A.OPEN, A.CLOSE, A.PASS_ON)),
        T.HAND_OVER: Rule(S.ENDED, (A.OPEN, A.CLOSE, A.PASS_ON)),
    },
}


class Timer(Enum):
    """What becomes of the call's one timer; when it runs out, the call gets an `EXPIRE`."""

    KEEP = "keep"
    AGE = "age"
    """Set to the greatest age of a call."""
    GRACE = "grace"
    """Set to the time that an orphan waits for its start."""
    CLEAR = "clear"


class Call(NamedTuple):
    """One call at one pair.

    Attributes:
        resume: the state that an expected call takes on when its start comes.
        started_at: when it reached this agent, ms since the epoch; 0 while not known.
        updated_at: when the newest event applied happened at the PBX, ms since the epoch.
        sequence: the newest event's sequence, where the PBX has one.
        told: how many effects it has had: the next one's ordinal.
        has_errand: an errand was asked for, for this leg of the call.
        link_told: the link that the last effect carried.
        pass_to: where an orphan was transferred to.
    """

    call_id: str
    pair: Pair
    state: CallState = CallState.UNSEEN
    facts: Facts = NOTHING_TOLD
    resume: CallState = CallState.STARTED
    started_at: int = 0
    updated_at: int = 0
    sequence: int | None = None
    told: int = 0
    has_errand: bool = False
    link_told: str | None = None
    pass_to: Pair | None = None


class InboundEnd(StrEnum):
    """`calls.inbound_end`: how Cention is told that an inbound call ended."""

    END_SESSION = "end_session"
    CLOSE_ERRAND = "close_errand"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decisions depend on: `calls.open_errand_for` and `calls.inbound_end`."""

    open_errand_for: frozenset[Direction] = frozenset(Direction)
    inbound_end: InboundEnd = InboundEnd.END_SESSION

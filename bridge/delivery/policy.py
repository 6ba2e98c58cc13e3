"""Pure: an attempt's outcome, its number and the delivery's age in; what becomes of the delivery out.

Source: architecture, "Outcomes are values" and "Two tiers of retry" (this is the second tier; the first is the
client's own quick second try).
"""

from dataclasses import dataclass

from bridge.cention.outcome import Delivered, Outcome, Rejected, TryLater, Unauthorised, Unknown
from bridge.store.deliveries import Settlement

RETRY_AFTER_S_MAX = 3600.0
"""A server may ask for more patience than the schedule has, but not for more than an hour."""

HOLD_S_MAX = 15.0
"""A lane that is put back because Cention or its token rests comes back so soon at the latest, to see whether it still
does: a token may have been changed."""
IN_DOUBT = "whether it was carried out is not known, and delivery.unknown_outcome is park"


@dataclass(frozen=True, slots=True)
class Schedule:
    """`delivery.schedule_s` (the wait before the 2nd, 3rd, ... attempt; the last repeats) and `delivery.age_s_max`."""

    waits_s: tuple[float, ...]
    age_s_max: float


@dataclass(frozen=True, slots=True)
class NextStep:
    """What becomes of the delivery, and for how long it is put back."""

    settlement: Settlement
    wait_s: float = 0.0
    reason: str = ""


_DELIVERED = NextStep(Settlement.DELIVERED)


def next_step(
    outcome: Outcome, attempt: int, age_s: float, schedule: Schedule, chance: float, *, park_unknown: bool = False
) -> NextStep:
    """Decides what follows an attempt.

    Args:
        outcome: what the attempt came to.
        attempt: its number, from 1.
        age_s: seconds since the delivery was committed.
        schedule: the waits and the age limit.
        chance: from 0 to 1: where inside the wait the next attempt falls (full jitter, so that replicas that failed
            together do not come back together).
        park_unknown: whether what may have been carried out is left to an operator, and not repeated.
    """
    match outcome:
        case Delivered():
            return _DELIVERED
        case Rejected(reason=reason):
            # Asking again would get the same answer; the lane goes on, an operator looks at this one.
            return NextStep(Settlement.PARKED, reason=reason)
        case Unauthorised(reason=reason):
            # The token is at fault, not the delivery: it waits, without a limit, until the token works.
            return NextStep(Settlement.HOLD, min(schedule.waits_s[-1] * chance, HOLD_S_MAX), reason)
        case TryLater(reason=reason, retry_after_s=asked):
            pass
        case Unknown(reason=reason) if park_unknown:
            return NextStep(Settlement.PARKED, reason=f"{IN_DOUBT}: {reason}")
        case Unknown(reason=reason):
            asked = None
    if age_s >= schedule.age_s_max:
        return NextStep(Settlement.PARKED, reason=f"given up after {age_s:.0f} s: {reason}")
    wait = schedule.waits_s[min(attempt, len(schedule.waits_s)) - 1] * chance
    return NextStep(Settlement.RETRY, max(wait, min(asked or 0.0, RETRY_AFTER_S_MAX)), reason)

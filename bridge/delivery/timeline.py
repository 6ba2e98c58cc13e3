"""What a call's timeline says of an attempt at Cention, and what its outcome is called wherever outcomes are named."""

from functools import cache

from bridge.cention.outcome import Delivered, Outcome, Unknown
from bridge.delivery.policy import NextStep
from bridge.store.deliveries import Delivery


def outcome_name(outcome: Outcome) -> str:
    """The outcome's name in metrics and timelines: `delivered`, `try_later`, ..."""
    return _written(type(outcome).__name__)


@cache
def _written(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")


def entry_of(delivery: Delivery, step: NextStep, outcome: Outcome, took_s: float) -> dict[str, object]:
    """The attempt's timeline entry: which try of which delivery, what Cention said, what follows."""
    effect = delivery.effect
    entry: dict[str, object] = {
        "delivery": effect.effect_id,
        "effect": effect.kind,
        "reason": effect.reason,
        "attempt": delivery.attempt,
        "tookMs": round(took_s * 1000),
        "outcome": outcome_name(outcome),
        "then": step.settlement,
    }
    if step.wait_s:
        entry["waitMs"] = round(step.wait_s * 1000)
    if not isinstance(outcome, Unknown) and outcome.status is not None:
        entry["status"] = outcome.status
    if not isinstance(outcome, Delivered):
        entry["answer"] = outcome.reason
    else:
        if outcome.errand_id:
            entry["errandId"] = outcome.errand_id
        if outcome.found:
            entry["found"] = True
    return entry

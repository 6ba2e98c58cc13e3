"""The pipeline without a store: what the core decides, in dictionaries. The model that others are held to."""

from bridge.calls.decide import decide
from bridge.calls.effects import Effect, EffectKind, handed_over
from bridge.calls.events import CallEvent, EventKind, Pair
from bridge.calls.state import LIVE, Call, CallState, Policy


class Memory:
    """Load, decide, keep, hand over; one event at a time."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.calls: dict[Pair, dict[str, Call]] = {}
        self.seen: set[str] = set()

    def take(self, event: CallEvent) -> list[Effect]:
        """What the event leads to, hand-overs and what they lead to included; nothing for one seen before."""
        if event.event_id in self.seen:
            return []
        if event.kind is not EventKind.EXPIRED:
            self.seen.add(event.event_id)
        calls = self.calls.setdefault(event.pair, {})
        decision = decide(calls, event, self.policy)
        if decision.call.state is not CallState.UNSEEN:
            calls[event.call_id] = decision.call
        effects = list(decision.effects)
        for effect in decision.effects:
            if effect.kind is EffectKind.HAND_OVER:
                effects += self.take(handed_over(effect))
        return effects

    def active(self, pair: Pair) -> list[Call]:
        """The pair's active calls, newest first."""
        live = [call for call in self.calls.get(pair, {}).values() if call.state in LIVE]
        return sorted(live, key=lambda call: (call.started_at, call.call_id), reverse=True)

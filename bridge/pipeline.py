"""From an event to its deliveries: the page to read first.

    intake or feed: JSON -> CallEvent (bridge.intake.wire)
      -> load     the pair's calls and their version               (bridge.store.calls)
      -> decide   the call as it then is, and the effects          (bridge.calls.decide; pure)
      -> commit   state, mark, timeline, deliveries: one script    (bridge.store.calls)
      -> wake     the workers of the pair's shard                  (bridge.delivery.worker)
    worker: lane's head -> document -> Cention -> settle           (bridge.delivery)

"Accepted" is said after the commit, never before. A commit on an old version is decided again. A transfer is two
commits: the first ends the call for the old agent and puts a hand-over into its lane; the second, done here at once
and again by the hand-over if the process dies in between, opens the call for the new agent. What it tells Cention
waits in the new agent's lane until the hand-over has left the old one's: so the old agent's end is told first.
"""

import asyncio
from collections.abc import Callable, Sequence

from bridge.calls.decide import decide
from bridge.calls.effects import Effect, EffectKind, handed_over
from bridge.calls.events import CallEvent, EventKind, Pair
from bridge.calls.state import CallState, Policy
from bridge.calls.verdicts import Verdict
from bridge.runtime.clock import now_ms
from bridge.runtime.logs import get_logger
from bridge.store.calls import CallStore, Commit
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import shard_of
from bridge.store.outbox import Outbox

log = get_logger(__name__)


class Pipeline:
    """Takes events in. Safe to call from many tasks, and from many replicas on one Redis."""

    def __init__(self, store: CallStore, outbox: Outbox, policy: Policy, wake: Callable[[int], None]) -> None:
        self._store, self._outbox, self._policy, self._wake = store, outbox, policy, wake

    async def accept(self, events: Sequence[CallEvent]) -> list[Verdict]:
        """Takes `events` in; those of one pair in their order, those of different pairs side by side.

        Returns:
            One verdict an event, in order, each durable when this returns.

        Raises:
            StoreUnavailable: nothing is promised of any of them; asking again with the same ids is safe.
        """
        if len(events) == 1:
            return [await self._take(events[0])]
        verdicts: dict[int, Verdict] = {}

        async def one_pair(places: list[int]) -> None:
            for place in places:
                verdicts[place] = await self._take(events[place])

        by_pair: dict[Pair, list[int]] = {}
        for place, event in enumerate(events):
            by_pair.setdefault(event.pair, []).append(place)
        results = await asyncio.gather(*map(one_pair, by_pair.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [verdicts[place] for place in range(len(events))]

    async def _take(self, event: CallEvent) -> Verdict:
        while True:
            loaded = await self._store.load(event)
            if loaded.seen:
                return Verdict.DUPLICATE
            decision = decide(loaded.calls, event, self._policy)
            if decision.call.state is CallState.UNSEEN:
                return Verdict.ACCEPTED  # a timer of a call that is gone: there is nothing to keep
            match await self._store.commit(event, loaded, decision):
                case Commit.OK:
                    break
                case Commit.DUPLICATE | Commit.NOT_DUE:
                    return Verdict.DUPLICATE
                case Commit.CONFLICT:
                    continue
        if decision.effects:
            self._wake(shard_of(event.pair))
        for effect in decision.effects:
            if effect.kind is EffectKind.HAND_OVER:
                await self._open_at_new_agent(effect)
        return Verdict.ACCEPTED

    async def _open_at_new_agent(self, effect: Effect) -> None:
        try:
            await self._take(handed_over(effect))
        except StoreUnavailable as error:
            # The transfer itself is durable, and so is its hand-over: the lane does this part again.
            log.warning("hand-over left to the lane", delivery=effect.effect_id, reason=error.reason)

    async def hand_over(self, effect: Effect) -> None:
        """Carries out a `HAND_OVER` whose turn in the old agent's lane has come. Safe to repeat."""
        await self._take(handed_over(effect))
        await self._outbox.release(effect)
        assert effect.target is not None, "a hand-over names the new agent"
        self._wake(shard_of(effect.target))

    async def expire_due(self) -> int:
        """Gives every call whose timer has run out its `EXPIRED`: orphans, and calls that never end.

        Several replicas may do this at once: the commit takes only the first, and only what is still due.

        Returns:
            How many calls it was.
        """
        due = await self._store.expired()
        for pair, call_id in due:
            event = CallEvent(
                event_id=f"bridge-expired-{pair}-{call_id}",
                kind=EventKind.EXPIRED,
                occurred_at=now_ms(),
                call_id=call_id,
                pair=pair,
            )
            if await self._take(event) is Verdict.ACCEPTED:
                log.warning("call expired", call=call_id, pair=str(pair))
        return len(due)

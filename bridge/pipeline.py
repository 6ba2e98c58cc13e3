"""From an event to its deliveries: the page to read first.

    intake or feed: JSON -> CallEvent (bridge.intake.wire)
      -> recall   the pair's calls and their version               (bridge.store.calls)
      -> decide   the call as it then is, and the effects          (bridge.calls.decide; pure)
      -> commit   state, mark, timeline, deliveries: one script    (bridge.store.calls)
      -> wake     the shard's workers, unless one has it already   (bridge.delivery.worker)
    worker: lane's head -> document -> Cention -> settle           (bridge.delivery)

"Accepted" is said after the commit, never before. What is recalled may be old: a commit on an old version does nothing,
and the event is decided again on what the commit found.

A transfer is two commits: the first ends the call for the old agent and puts a hand-over into its lane; the second,
done here at once, opens the call for the new agent. What it tells Cention waits in the new agent's lane until the
hand-over has left the old one's: so the old agent's end is told first. No answer is given between the two: if Redis
goes away or the process dies there, the sender repeats the event, and the repetition makes the second commit; so does
the hand-over itself, for a sender that never comes back.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from bridge.calls.decide import decide
from bridge.calls.effects import Effect, EffectKind, effect_id, handed_over
from bridge.calls.events import CallEvent, EventKind, Pair
from bridge.calls.state import LIVE, Call, CallState, Policy
from bridge.calls.verdicts import Verdict
from bridge.delivery.pace import Pace
from bridge.runtime.clock import now_ms
from bridge.runtime.logs import get_logger
from bridge.store.calls import EXPIRED_MAX, CallStore, Commit
from bridge.store.errors import StoreRefused, StoreUnavailable
from bridge.store.keys import SHARDS, shard_of
from bridge.store.outbox import Outbox

log = get_logger(__name__)


class Pipeline:
    """Takes events in. Safe to call from many tasks, and from many replicas on one Redis."""

    def __init__(
        self,
        store: CallStore,
        outbox: Outbox,
        policy: Policy,
        wake: Callable[[int], None],
        *,
        pace: Pace | None = None,
        began: Callable[[Call], None] = lambda call: None,
    ) -> None:
        """As the class says.

        Args:
            pace: when events are let in; None: at once.
            began: told of each call that becomes active here.
        """
        self._store, self._outbox, self._policy, self._wake, self._began = store, outbox, policy, wake, began
        self._pace = pace
        self._stuck: set[tuple[Pair, str]] = set()
        """Calls that are due and cannot be expired, of which the log has told."""
        self._left_out = [0] * SHARDS
        """For each shard, how many of its due calls the sweeps before left where they are, and the next one leaves."""

    async def accept(self, events: Sequence[CallEvent]) -> list[Verdict]:
        """Takes `events` in; those of one pair in their order, those of different pairs side by side.

        A transfer belongs to both its pairs.

        Returns:
            One verdict an event, in order, each durable when this returns.

        Raises:
            StoreUnavailable: nothing is promised of any of them; asking again with the same ids is safe.
        """
        until = 0.0 if self._pace is None else self._pace.until()
        if len(events) == 1:
            return [await self._take_in(events[0], until)]
        verdicts: dict[int, Verdict] = {}

        async def in_order(places: list[int]) -> None:
            for place in places:
                verdicts[place] = await self._take_in(events[place], until)

        results = await asyncio.gather(*map(in_order, _strands(events)), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [verdicts[place] for place in range(len(events))]

    async def _take_in(self, event: CallEvent, until: float) -> Verdict:
        if self._pace is None:
            return await self._take(event)
        await self._pace.enter(until)
        try:
            return await self._take(event)
        finally:
            self._pace.leave()

    async def _take(self, event: CallEvent, *, found: Call | None = None) -> Verdict:
        # A timer that has run out may be all that is left of its call, and what was compared with Cention must not have
        # changed since: only Redis knows.
        certain = event.kind is EventKind.EXPIRED or found is not None
        loaded = await self._store.load(event) if certain else await self._store.recall_or_load(event)
        while True:
            if found is not None and loaded.calls.get(event.call_id) != found:
                return Verdict.DUPLICATE
            decision = decide(loaded.calls, event, self._policy)
            if decision.call.state is CallState.UNSEEN:
                await self._store.forget_timer(event.pair, event.call_id)
                return Verdict.DUPLICATE  # a timer of a call that is gone: there is nothing to do, now or later
            match await self._store.commit(event, loaded, decision):
                case Commit.OK:
                    if decision.effects:
                        self._wake(shard_of(event.pair))
                    break
                case Commit.LEASED:
                    break  # a worker had a place, and has the delivery
                case Commit.NOT_DUE:
                    return Verdict.DUPLICATE
                case Commit.DUPLICATE:
                    await self._finish_transfers(event)
                    return Verdict.DUPLICATE
                case Commit.CONFLICT:
                    # The pair has moved on: decided again, on how it stands now.
                    loaded = await self._store.load(event) if certain else self._store.recall(event)
                    continue
        if decision.was not in LIVE and decision.call.state in LIVE:
            self._began(decision.call)
        for effect in decision.effects:
            if effect.kind is EffectKind.HAND_OVER:
                await self._take(handed_over(effect))
        return Verdict.ACCEPTED

    async def _finish_transfers(self, event: CallEvent) -> None:
        """Makes the second commit of a transfer whose first one `event` made before, unless it was made.

        Answering the repetition without it would let the new agent's next events come first: orders would differ.
        """
        if event.kind is EventKind.HANDED_OVER:
            return  # a hand-over is repeated by its lane; followed from here, a call passed to and fro has no end
        call = (await self._store.load(event)).calls.get(event.call_id)
        if call is None or call.pass_to is None:
            return
        ids = [effect_id(event.pair, call.call_id, EffectKind.HAND_OVER, ordinal) for ordinal in range(call.told)]
        for effect in await self._outbox.not_yet_made(event.pair, ids):
            await self._take(handed_over(effect))

    async def hand_over(self, effect: Effect) -> None:
        """Carries out a `HAND_OVER` whose turn in the old agent's lane has come. Safe to repeat."""
        await self._take(handed_over(effect))
        await self._outbox.release(effect)
        assert effect.target is not None, "a hand-over names the new agent"
        self._wake(shard_of(effect.target))

    async def reconcile(self, found: Call) -> bool:
        """Mends a call that Cention's errand contradicts, as the table says of `RECONCILE` in the call's state.

        Args:
            found: the call as it was when it was compared.

        Returns:
            Whether it was done; False: the call has changed since, and nothing was.
        """
        event = CallEvent(
            # With what the call was told so far: should its errand be found wanting again, that is another event.
            event_id=f"bridge-reconciled-{found.pair}-{found.call_id}-{found.told}",
            kind=EventKind.RECONCILED,
            occurred_at=now_ms(),
            call_id=found.call_id,
            pair=found.pair,
        )
        return await self._take(event, found=found) is Verdict.ACCEPTED

    async def expire_due(self, held: Callable[[Pair], bool] = lambda _: False) -> int:
        """Gives every call whose timer has run out its `EXPIRED`: orphans, and calls that never end.

        Several replicas may do this at once: the commit takes only the first, and only what is still due. Where more
        are due in a shard than one sweep looks at, the next sweep goes on behind those that this one had to leave, and
        begins again at the end: what cannot be expired keeps no other from its turn.

        Args:
            held: pairs whose timers wait: what would have stopped them may be among the events on their way here.

        Returns:
            How many calls this replica expired.
        """
        taken, left = 0, Counter[int]()
        stuck: set[tuple[Pair, str]] = set()
        due = await self._store.expired(self._left_out)
        for pair, call_id in due:
            if held(pair):
                left[shard_of(pair)] += 1
                continue
            event = CallEvent(
                event_id=f"bridge-expired-{pair}-{call_id}",
                kind=EventKind.EXPIRED,
                occurred_at=now_ms(),
                call_id=call_id,
                pair=pair,
            )
            try:
                verdict = await self._take(event)
            except Exception as error:
                if isinstance(error, StoreUnavailable) and not isinstance(error, StoreRefused):
                    raise
                # Such as a call that a newer version wrote. It must not keep the others from their turn.
                left[shard_of(pair)] += 1
                stuck.add((pair, call_id))
                if (pair, call_id) not in self._stuck:
                    log.exception("call not expired: it failed inside the bridge", call=call_id, pair=str(pair))
                continue
            if verdict is Verdict.ACCEPTED:
                taken += 1
                log.warning("call expired", call=call_id, pair=str(pair))
        looked_at = Counter(shard_of(pair) for pair, _ in due)
        was_whole = not any(self._left_out)
        self._left_out = [
            first + left[shard] if looked_at[shard] == EXPIRED_MAX else 0 for shard, first in enumerate(self._left_out)
        ]
        # Those of which this sweep did not hear are only forgotten where it heard of all that there are.
        self._stuck = stuck if was_whole and not any(self._left_out) else self._stuck | stuck
        return taken


def _strands(events: Sequence[CallEvent]) -> list[list[int]]:
    """The places of `events` in groups that do not touch each other's pairs, each in order."""
    strand_of: dict[Pair, list[int]] = {}
    for place, event in enumerate(events):
        strand = strand_of.setdefault(event.pair, [])
        strand.append(place)
        if (target := event.transferred_to) is None:
            continue
        other = strand_of.setdefault(target, strand)
        if other is not strand:
            strand[:] = sorted(strand + other)
            strand_of.update({pair: strand for pair, known in strand_of.items() if known is other})
    return list({id(strand): strand for strand in strand_of.values()}.values())

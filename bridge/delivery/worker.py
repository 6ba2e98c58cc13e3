"""The worker: leases lanes, makes the attempt at each lane's head, settles, goes on.

How it moves: a commit that finds room here leases its delivery in the same step and hands it over. For all others
`wake(shard)` after the commit, or the poll for what other replicas left and for retries that came due -> `claim` leases
due lanes. Then, in a place: attempt, settle, and the next delivery of that lane under the same lease, until it is
empty, put back, or lost. A lane that fails or is slow holds one place and blocks no other lane.

Invariants: no attempt without a lease; an attempt ends before its lease does (`delivery.attempt_timeout_s` is below
`delivery.lease_s`, and none is begun when less than that is left, as after the process stood still), and waits in it
for a place alone, and not for long: what `delivery.rate_per_s` does not allow yet is not claimed. A lane that cannot be
tried, because Cention or its token rests, is put back and its attempt not counted. Nothing is dropped: what cannot be
settled comes due again when its lease ends.
"""

import asyncio
import logging
import random
from collections import Counter
from contextlib import suppress
from functools import cache
from itertools import cycle
from typing import Literal

from bridge.calls.effects import EffectKind
from bridge.cention.outcome import Delivered, Outcome, TryLater, Unknown
from bridge.delivery.places import Places, drawn
from bridge.delivery.policy import HOLD_S_MAX, IN_DOUBT, NextStep, Schedule, next_step
from bridge.delivery.rate import Rate
from bridge.delivery.sender import Sender
from bridge.delivery.timeline import entry_of, outcome_name
from bridge.delivery.tokens import Rest
from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger
from bridge.runtime.metrics import DeliveryMetrics, Metrics
from bridge.store.deliveries import Delivery, Settlement
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import SHARDS, shard_of
from bridge.store.outbox import Outbox

log = get_logger(__name__)

_SETTLE_AGAIN_S = 0.2
_TURN = 8
"""Deliveries that one lane may make before the lanes that wait for a free place have theirs: a long backlog in a few
lanes must not hold up all others. Small against a backlog, and large against the cost of one more claim."""
_POLL_PARTS = 4
"""In so many parts the shards are polled: all at once, they would hold up what comes meanwhile for a millisecond."""
_HOLD_SPREAD = 0.25  # of a hold's length: lanes that rest together do not come back together
_GIVEN_BACK = NextStep(Settlement.HOLD, reason="the service was told to stop")
_NOT_TOLD = NextStep(Settlement.HOLD, reason="whether it was leased with its commit was not known")
_NO_PLACE = NextStep(Settlement.HOLD, reason="no place came free for it")
_TOO_LATE = NextStep(Settlement.HOLD, reason="too little was left of the lease to begin an attempt")


class Worker:
    """Works the lanes of all shards off, as many at a time as there are `places`."""

    def __init__(
        self,
        outbox: Outbox,
        dispatcher: Sender,
        schedule: Schedule,
        metrics: Metrics | DeliveryMetrics,
        *,
        places: Places,
        poll_s: float,
        lease_s: float,
        attempt_timeout_s: float,
        rate: Rate,
        unknown: Literal["retry", "lookup", "park"] = "retry",
    ) -> None:
        self._outbox, self._dispatcher, self._schedule, self._metrics = outbox, dispatcher, schedule, metrics
        self._attempts_of = cache(metrics.attempts.labels)
        self._rate, self._parks_unknown = rate, unknown == "park"
        self._places, self._lanes, self._poll_s = places, places.lanes, poll_s
        self._begin_within_s = lease_s - attempt_timeout_s
        self._lease_ms = round(lease_s * 1000)
        self._due: set[int] = set(range(SHARDS))
        self._owed: Counter[int] = Counter()
        """Per shard, how many settles wait for Redis; a claim before them would take their lanes, and ask twice."""
        self._woken, self._all_answered = asyncio.Event(), asyncio.Event()
        self._stopping = False
        self._random = random.Random()  # noqa: S311 (jitter, not a secret)
        self._tells_all = log.is_enabled_for(logging.DEBUG)  # asked once: a line not written costs as much as its facts

    def wake(self, shard: int) -> None:
        """Says that a lane of `shard` may have become due."""
        self._due.add(shard)
        self._woken.set()

    def wake_all(self) -> None:
        """Says that any lane may have become due."""
        self._due.update(range(SHARDS))
        self._woken.set()

    def offer(self, shard: int) -> int:
        """See `bridge.store.deliveries.Taker`."""
        if self._stopping or self._owed[shard] or not self._places.offer():
            return 0
        if self._dispatcher.resting or self._rate.take(1) == 0:
            self._places.offered -= 1
            return 0
        return self._lease_ms

    def take(self, delivery: Delivery) -> None:
        """See `bridge.store.deliveries.Taker`."""
        self._answered()
        self._start(delivery)

    def forgo(self, delivery: Delivery | None = None) -> None:
        """See `bridge.store.deliveries.Taker`."""
        self._answered()
        self._rate.give_back(1)
        if delivery is not None and not self._stopping:
            self._lanes.start(self._give_back(delivery, _NOT_TOLD), "give back").add_done_callback(self._freed)
        self._look_for_more()

    def _answered(self) -> None:
        self._places.offered -= 1
        if self._stopping and not self._places.offered:
            self._all_answered.set()

    async def run(self) -> None:
        """Works until `drain`."""
        next_poll, parts = monotonic(), cycle(range(_POLL_PARTS))
        while not self._stopping:
            if monotonic() >= next_poll:
                self._due.update(range(next(parts), SHARDS, _POLL_PARTS))
                next_poll = monotonic() + self._poll_s / _POLL_PARTS
            self._give_back_what_waits()
            try:
                await self._claim()
            except StoreUnavailable as error:
                log.warning("cannot claim lanes", reason=error.reason)
            except Exception:
                log.exception("claiming failed inside the bridge")  # and must not end the service
            try:
                async with asyncio.timeout(self._idle_s(next_poll)):
                    await self._woken.wait()
            except TimeoutError:
                continue
            self._woken.clear()

    def _idle_s(self, next_poll: float) -> float:
        """Seconds to wait if nothing wakes the worker before."""
        idle_s = max(0.0, next_poll - monotonic())
        if self._places.longest:
            idle_s = min(idle_s, self._begin_within_s / 4)  # to give back in time what comes into the line
        rate_s = self._rate.wait_s()
        return min(idle_s, rate_s) if self._due and rate_s > 0 else idle_s

    async def _claim(self) -> None:
        places = self._places
        free, of_a_shard = places.to_claim()
        due = [shard for shard in self._due if not self._owed[shard]]
        # Never more than can be worked soon: a lease runs from the claim.
        if free <= 0 or not due or (granted := self._rate.take(free)) == 0:
            return
        claimed: list[Delivery] = []
        try:
            shards = drawn(due, self._outbox.due_left, max(1, granted // of_a_shard), self._random)
            limit = granted // len(shards)
            self._due.difference_update(shards)
            places.claiming = granted
            claimed = await self._outbox.claim(shards, limit)
            places.crowded &= len(shards) < len(due)  # beyond those that were asked, `due_left` knows
            places.left_in_redis = any(self._outbox.due_left.values())
        finally:
            places.claiming = 0
            self._rate.give_back(granted - len(claimed))
        if self._stopping:  # the drain began meanwhile, and no longer looks for lanes to wait for
            await asyncio.gather(*map(self._give_back, claimed))
            return
        for delivery in claimed:
            self._start(delivery)
        if self._dispatcher.resting:
            return  # whatever is claimed now is put back: no faster than the poll
        if len(claimed) >= limit:  # some shard may have more that is due
            self._due.update(shards)
        self._look_for_more()

    async def drain(self, timeout_s: float) -> None:
        """Claims nothing more, lets attempts end for up to `timeout_s` seconds, and gives their lanes back."""
        self._stopping = True
        self._woken.set()
        while self._places.line:
            self._start(self._places.line.popleft())
        ends = monotonic() + timeout_s
        if self._places.offered:  # what a commit under way leases is to be given back too
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_answered.wait(), timeout_s)
        if late := await self._lanes.drain(max(0.0, ends - monotonic())):
            log.warning("attempts cut off at the drain's end; they are repeated when their leases end", lanes=late)

    def _start(self, delivery: Delivery) -> None:
        """Begins with a delivery that is leased: in a place, or in the line before them."""
        if self._stopping:
            self._rate.give_back(1)
            self._lanes.start(self._give_back(delivery), "give back")
        elif self._places.free:
            self._places.take()
            self._lanes.start(self._work(delivery), "lane").add_done_callback(self._freed)
        else:
            self._places.line.append(delivery)

    def _freed(self, _place: asyncio.Task[None]) -> None:
        # Not at the end of the place's own work: it would still count when the claim looks, and nothing told again.
        self._begin()
        self._look_for_more()

    def _give_back_what_waits(self) -> None:
        """Gives back what came into the line while deliveries left briskly, and waits for Cention now like its places.

        Others may have a place for it; and it would not be begun when half of its lease is over.
        """
        line, latest = self._places.line, monotonic() - self._begin_within_s / 2
        if self._places.brisk:
            return
        while line and line[0].leased_at < latest:
            self._rate.give_back(1)
            self._lanes.start(self._give_back(line.popleft(), _NO_PLACE), "give back").add_done_callback(self._freed)

    def _look_for_more(self) -> None:
        if self._due and self._places.to_claim()[0] > 0:
            self._woken.set()

    async def _give_back(self, delivery: Delivery, why: NextStep = _GIVEN_BACK) -> None:
        # Left to the end of its lease, it would be in doubt, though nobody has tried it.
        await self._write_down(delivery, why, None, None, go_on=False, in_doubt=delivery.in_doubt)
        self.wake(shard_of(delivery.effect.pair))

    async def _work(self, first: Delivery) -> None:
        """Works on one lane, then on what waits in the line, for as long as there is a place for it."""
        delivery: Delivery | None = first
        turn = 0
        while delivery is not None:
            turn += 1
            following = await self._attempt(delivery, last=turn == _TURN)
            delivery = self._next(following)
            if following is None:
                turn = 0

    def _next(self, following: Delivery | None) -> Delivery | None:
        """What to go on with: the lane's next delivery, or what has waited longest."""
        if not self._places.go_on():
            if following is not None:
                self._start(following)
            return None
        if following is None and self._places.line:
            following = self._places.line.popleft()
            self._look_for_more()
        if following is None:
            self._places.vacate()
        return following

    async def _attempt(self, delivery: Delivery, *, last: bool) -> Delivery | None:
        effect = delivery.effect
        try:
            if effect.kind is EffectKind.HAND_OVER:
                self._rate.give_back(1)  # not for Cention
            elif (step := self._not_now(delivery)) is not None:
                self._rate.give_back(1)
                parked = step.settlement is Settlement.PARKED
                return await self._settle(delivery, step, Unknown(step.reason) if parked else None, last=last)
            began = monotonic()
            outcome = await self._send(delivery)
        finally:
            self._vacate()
        ended = monotonic()
        took_s, age_s = ended - began, delivery.age_ms / 1000 + ended - delivery.leased_at
        step = next_step(
            outcome,
            delivery.attempt,
            # A hand-over is never too old: were it parked, the new agent's lane would wait for good.
            0.0 if effect.kind is EffectKind.HAND_OVER else age_s,
            self._schedule,
            self._random.random(),
            park_unknown=self._parks_unknown and effect.kind is EffectKind.OPEN_ERRAND,
        )
        self._observe(delivery, outcome, step, took_s, age_s)
        return await self._settle(delivery, step, outcome, took_s, last=last)

    async def _send(self, delivery: Delivery) -> Outcome:
        try:
            return await self._dispatcher.send(delivery.effect, in_doubt=delivery.in_doubt)
        except StoreUnavailable as error:
            return TryLater(f"redis: {error.reason}", None, None)
        except Exception:
            # A fault of ours must cost neither the delivery nor the lane: it is tried again, and the log has it.
            log.exception("attempt failed inside the bridge", delivery=delivery.effect.effect_id)
            return TryLater("the bridge failed; see its log", None, None)

    def _vacate(self) -> None:
        """Leaves a place to what waits in the line, where it need not wait for this lane to be written down."""
        self._places.vacate()
        self._begin()

    def _begin(self) -> None:
        if self._places.line and self._places.free:
            self._start(self._places.line.popleft())

    def _not_now(self, delivery: Delivery) -> NextStep | None:
        """What becomes of the delivery without an attempt; None: make one."""
        effect = delivery.effect
        if monotonic() - delivery.leased_at > self._begin_within_s:
            log.warning("attempt not begun", delivery=effect.effect_id, reason=_TOO_LATE.reason)
            return _TOO_LATE
        if self._parks_unknown and delivery.in_doubt and effect.kind is EffectKind.OPEN_ERRAND:
            log.warning("delivery parked", delivery=effect.effect_id, reason=IN_DOUBT)
            return NextStep(Settlement.PARKED, reason=f"{IN_DOUBT}: an attempt was begun and its end not written down")
        rest = self._dispatcher.admit(effect)
        return None if rest is None else self._hold(rest)

    def _hold(self, rest: Rest) -> NextStep:
        self._metrics.held.labels(rest.what).inc()
        spread = 1 + _HOLD_SPREAD * self._random.random()
        return NextStep(Settlement.HOLD, min(rest.wait_s, HOLD_S_MAX / (1 + _HOLD_SPREAD)) * spread, rest.reason)

    def _observe(self, delivery: Delivery, outcome: Outcome, step: NextStep, took_s: float, age_s: float) -> None:
        effect, name = delivery.effect, outcome_name(outcome)
        if effect.kind is not EffectKind.HAND_OVER:
            self._attempts_of(effect.kind, name).inc()
            self._metrics.attempt_seconds.observe(took_s)
        if step.settlement is Settlement.DELIVERED:
            self._metrics.delivery_seconds.observe(age_s)
            if not self._tells_all:
                return
        write = log.debug if step.settlement is Settlement.DELIVERED else log.warning
        write(
            "delivery " + step.settlement,
            delivery=effect.effect_id,
            pair=str(effect.pair),
            kind=effect.kind.value,
            attempt=delivery.attempt,
            outcome=name,
            reason=step.reason,
            wait_s=round(step.wait_s, 3),
        )

    async def _settle(
        self, delivery: Delivery, step: NextStep, outcome: Outcome | None, took_s: float = 0.0, *, last: bool
    ) -> Delivery | None:
        noted = self._dispatcher.noted(delivery.effect)
        entry = None if outcome is None else entry_of(delivery, step, outcome, took_s) | noted
        errand_id = outcome.errand_id if isinstance(outcome, Delivered) else None
        # What is parked because of its doubt is an operator's: a retry by hand is a decision, and clears it.
        decided = self._parks_unknown and step.settlement is Settlement.PARKED
        in_doubt = not decided and (delivery.in_doubt or isinstance(outcome, Unknown))
        goes_on = step.settlement in (Settlement.DELIVERED, Settlement.PARKED) and not self._stopping
        go_on = goes_on and not last and self._rate.take(1) == 1
        following: Delivery | None = None
        try:
            following = await self._write_down(delivery, step, entry, errand_id, go_on=go_on, in_doubt=in_doubt)
        finally:
            if go_on and following is None:
                self._rate.give_back(1)
        if step.settlement is not Settlement.HOLD:  # nothing leaves while Cention rests, however fast it is put back
            self._places.left()
        # The lane goes on after others, or when the rate allows it; or at once, where nothing but time kept it.
        if (goes_on and not go_on) or step is _TOO_LATE:
            self._due.add(shard_of(delivery.effect.pair))
        return following

    async def _write_down(
        self,
        delivery: Delivery,
        step: NextStep,
        entry: dict[str, object] | None,
        errand_id: str | None,
        *,
        go_on: bool,
        in_doubt: bool,
    ) -> Delivery | None:
        shard = shard_of(delivery.effect.pair)
        owed = False
        try:
            while True:
                try:
                    return await self._outbox.settle(
                        delivery,
                        step.settlement,
                        reason=step.reason,
                        wait_ms=round(step.wait_s * 1000),
                        errand_id=errand_id if delivery.effect.kind is EffectKind.OPEN_ERRAND else None,
                        entry=entry,
                        go_on=go_on and not self._stopping,
                        in_doubt=in_doubt,
                    )
                except StoreUnavailable as error:
                    # Asked again for as long as it takes, even beyond the lease: while Redis is away nobody else can
                    # have the lane, and a settle given up would be a second request to Cention. A repeat is safe: the
                    # script looks at the epoch and at the lane's head.
                    if not owed:
                        log.warning("cannot settle yet", delivery=delivery.effect.effect_id, reason=error.reason)
                        owed, self._owed[shard] = True, self._owed[shard] + 1
                    await asyncio.sleep(_SETTLE_AGAIN_S)
        finally:
            if owed:
                self._owed[shard] -= 1
                self.wake(shard)

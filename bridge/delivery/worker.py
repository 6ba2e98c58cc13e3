"""The worker: leases lanes, makes the attempt at each lane's head, settles, goes on.

How it moves: `wake(shard)` after a commit, or the poll for what other replicas left and for retries that came due ->
`claim` leases due lanes -> one task a lane: attempt, settle, and the next delivery of that lane under the same lease,
until it is empty, put back, or lost. A lane that fails or is slow holds one task and blocks no other lane.

Invariants: no attempt without a lease; an attempt ends before its lease does (`delivery.attempt_timeout_s` is below
`delivery.lease_s`); nothing is dropped: what cannot be settled comes due again when its lease ends.
"""

import asyncio
import random
from dataclasses import fields, is_dataclass
from typing import Any

from bridge.calls.effects import EffectKind
from bridge.cention.outcome import Delivered, Outcome, TryLater
from bridge.delivery.dispatch import Dispatcher
from bridge.delivery.policy import NextStep, Schedule, next_step
from bridge.runtime.clock import monotonic, now_ms
from bridge.runtime.logs import get_logger
from bridge.runtime.metrics import Metrics
from bridge.runtime.tasks import Tasks
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import SHARDS
from bridge.store.outbox import Delivery, Outbox, Settlement

log = get_logger(__name__)

_SETTLE_AGAIN_S = 0.2


class Worker:
    """Works the lanes of all shards off, at most `concurrency` at a time."""

    def __init__(
        self,
        outbox: Outbox,
        dispatcher: Dispatcher,
        schedule: Schedule,
        metrics: Metrics,
        *,
        concurrency: int,
        poll_s: float,
        lease_s: float,
    ) -> None:
        self._outbox, self._dispatcher, self._schedule, self._metrics = outbox, dispatcher, schedule, metrics
        self._concurrency, self._poll_s, self._lease_s = concurrency, poll_s, lease_s
        self._due: set[int] = set(range(SHARDS))
        self._woken = asyncio.Event()
        self._stopping = False
        self._lanes = Tasks("lanes")
        self._random = random.Random()  # noqa: S311 (jitter, not a secret)

    def wake(self, shard: int) -> None:
        """Says that a lane of `shard` may have become due."""
        self._due.add(shard)
        self._woken.set()

    async def run(self) -> None:
        """Works until `drain`."""
        next_poll = monotonic()
        while not self._stopping:
            if monotonic() >= next_poll:
                self._due.update(range(SHARDS))
                next_poll = monotonic() + self._poll_s
            try:
                await self._claim()
            except StoreUnavailable as error:
                log.warning("cannot claim lanes", reason=error.reason)
            try:
                async with asyncio.timeout(max(0.0, next_poll - monotonic())):
                    await self._woken.wait()
            except TimeoutError:
                continue
            self._woken.clear()

    async def _claim(self) -> None:
        free = self._concurrency - len(self._lanes)
        if free <= 0 or not self._due:
            return
        # Never more than can be worked at once: a lease runs from the claim.
        shards = random.sample(sorted(self._due), min(free, len(self._due)))
        limit = free // len(shards)
        self._due.difference_update(shards)
        claimed = await self._outbox.claim(shards, limit)
        for delivery in claimed:
            self._lanes.start(self._work(delivery), f"lane {delivery.effect.pair}")
        if len(claimed) >= limit:  # some shard may have more that is due
            self._due.update(shards)
            self._woken.set()

    async def drain(self, timeout_s: float) -> None:
        """Claims nothing more, lets attempts end for up to `timeout_s` seconds, and gives their lanes back."""
        self._stopping = True
        self._woken.set()
        if late := await self._lanes.drain(timeout_s):
            log.warning("attempts cut off at the drain's end; they are repeated when their leases end", lanes=late)

    async def _work(self, first: Delivery) -> None:
        delivery: Delivery | None = first
        try:
            while delivery is not None:
                delivery = await self._attempt(delivery)
        finally:
            if self._due:
                self._woken.set()

    async def _attempt(self, delivery: Delivery) -> Delivery | None:
        effect = delivery.effect
        if (rest_s := self._dispatcher.rest_s(effect)) > 0:
            return await self._settle(delivery, NextStep(Settlement.HOLD, rest_s, "its token rests"))
        began = monotonic()
        try:
            outcome = await self._dispatcher.send(effect)
        except StoreUnavailable as error:
            outcome = TryLater(f"redis: {error.reason}", None, None)
        except Exception:
            # A fault of ours must cost neither the delivery nor the lane: it is tried again, and the log has it.
            log.exception("attempt failed inside the bridge", delivery=effect.effect_id)
            outcome = TryLater("the bridge failed; see its log", None, None)
        took_s = monotonic() - began
        age_s = max(0.0, now_ms() - delivery.created_at) / 1000
        step = next_step(outcome, delivery.attempt, age_s, self._schedule, self._random.random())
        if step.settlement is Settlement.HOLD:
            step = NextStep(step.settlement, max(step.wait_s, self._dispatcher.rest_s(effect)), step.reason)
        self._observe(delivery, outcome, step, took_s, age_s)
        return await self._settle(delivery, step, outcome, took_s)

    def _observe(self, delivery: Delivery, outcome: Outcome, step: NextStep, took_s: float, age_s: float) -> None:
        effect, name = delivery.effect, outcome_name(outcome)
        if effect.kind is not EffectKind.HAND_OVER:
            self._metrics.attempts.labels(effect.kind.value, name).inc()
            self._metrics.attempt_seconds.observe(took_s)
        if step.settlement is Settlement.DELIVERED:
            self._metrics.delivery_seconds.observe(age_s)
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
        self, delivery: Delivery, step: NextStep, outcome: Outcome | None = None, took_s: float = 0.0
    ) -> Delivery | None:
        entry = None if outcome is None else _entry(delivery, step, outcome, took_s)
        errand_id = outcome.errand_id if isinstance(outcome, Delivered) else None
        give_up = monotonic() + self._lease_s
        while True:
            try:
                return await self._outbox.settle(
                    delivery,
                    step.settlement,
                    reason=step.reason,
                    wait_ms=round(step.wait_s * 1000),
                    errand_id=errand_id if delivery.effect.kind is EffectKind.OPEN_ERRAND else None,
                    entry=entry,
                    go_on=not self._stopping,
                )
            except StoreUnavailable as error:
                # Asked again while the lease may still be ours: a settle lost here would be a second request to
                # Cention. A repeat is safe: the script looks at the epoch and at the lane's head.
                if monotonic() >= give_up:
                    log.error("cannot settle", delivery=delivery.effect.effect_id, reason=error.reason)
                    return None
                await asyncio.sleep(_SETTLE_AGAIN_S)


def outcome_name(outcome: Outcome) -> str:
    """The outcome's name in metrics and timelines: `delivered`, `try_later`, ..."""
    name = type(outcome).__name__
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")


def _entry(delivery: Delivery, step: NextStep, outcome: Outcome, took_s: float) -> dict[str, object]:
    """The attempt's timeline entry: which try of which delivery, what Cention said, what follows."""
    assert is_dataclass(outcome), "outcomes are dataclasses"
    told: dict[str, Any] = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
    return {
        "delivery": delivery.effect.effect_id,
        "effect": delivery.effect.kind.value,
        "reason": delivery.effect.reason,
        "attempt": delivery.attempt,
        "tookMs": round(took_s * 1000),
        "outcome": outcome_name(outcome),
        "then": step.settlement.value,
        **({"waitMs": round(step.wait_s * 1000)} if step.wait_s else {}),
        **({"status": told["status"]} if told.get("status") is not None else {}),
        **({"errandId": told["errand_id"]} if told.get("errand_id") else {}),
        **({"answer": told["reason"]} if told.get("reason") else {}),
    }

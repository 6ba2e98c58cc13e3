"""What leaves the outbox: a delivery under its lease, what becomes of it, and who takes one."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from bridge.calls.effects import Effect
from bridge.runtime.clock import monotonic


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to make: a lane's head, under a lease.

    Attributes:
        effect: what to do; its id is the delivery's.
        epoch: the lease's number.
        attempt: 1 for the first.
        created_at: when it was committed, ms since the epoch, by Redis's clock.
        in_doubt: an earlier attempt may have been carried out: its outcome is unknown, or was never written down.
        age_ms: how long ago that was when it was leased, by the same clock: ours may differ from it.
        leased_at: seconds of `monotonic`, not after the lease began.
    """

    effect: Effect
    epoch: str
    attempt: int
    created_at: int
    in_doubt: bool = False
    age_ms: int = field(default=0, compare=False)  # grows with every look at the same delivery
    leased_at: float = field(default_factory=monotonic, compare=False)


class Settlement(StrEnum):
    """What becomes of a delivery after an attempt."""

    DELIVERED = "delivered"
    PARKED = "parked"
    """Out of the lane, kept for an operator."""
    RETRY = "retry"
    """Back at the lane's head, due later."""
    HOLD = "hold"
    """The same, and the attempt is not counted, since none was made."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits: deliveries, parked ones, and for how long the oldest has, ms by Redis's clock (0: none waits)."""

    waiting: int
    parked: int
    oldest_ms: int


class Taker(Protocol):
    """Who works deliveries off, and may have a place for one that is about to be committed."""

    def offer(self, shard: int) -> int:
        """Keeps a place for a delivery of `shard`: the lease that it needs, ms, or 0 where there is none."""

    def take(self, delivery: Delivery) -> None:
        """Takes the delivery that the place was kept for."""

    def forgo(self, delivery: Delivery | None = None) -> None:
        """Gives the place up: there was no delivery, or its lane has others before it.

        Args:
            delivery: one that may be leased all the same, since the commit's answer was lost; it goes back to its lane.
        """

"""The circuit breaker before Cention: when attempts stop, for how long, and who may look whether it is back.

Pure logic over a clock and dice that are given. Knows outcomes and the names of lanes; no Redis, no HTTP, no tokens.

    closed      all attempts go. `failures` of them in a row that say "Cention is down", from two lanes or more -> open
    open        none goes, for `open_s` (twice as long each time, up to `OPEN_S_MAX`, or as long as a Retry-After asks)
    half open   one goes, the probe: it fails -> open again; it shows life -> closed

Invariants: one lane alone never opens it, however often it fails, so that a poisoned delivery stops nobody else. Any
answer that proves life closes it, from whichever attempt. A failure of an attempt that began before the last change
tells nothing new and is passed over. At most one probe is under way.
Source: docs/adr/0013-breaker-and-rate.md.
"""

from collections.abc import Callable, Hashable
from enum import StrEnum

from bridge.cention.outcome import Delivered, Outcome, Rejected, TryLater, Unauthorised, Unknown

OPEN_S_MAX = 60.0
ASKED_S_MAX = 300.0
"""A Retry-After stops all lanes for at most so long; then one delivery looks whether Cention is back all the same."""
_PROBE_AGAIN_S = 1.0  # how soon a lane that was not let through comes back while a probe is under way


class State(StrEnum):
    """See the module's docstring."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Sign(StrEnum):
    """What an outcome tells of Cention as a whole."""

    ALIVE = "alive"
    DOWN = "down"
    NONE = "none"


def sign_of(outcome: Outcome) -> Sign:
    """What `outcome` tells: 4xx prove that Cention is there; so does 429, which has a remedy of its own.

    A redirect or a web page comes from something that stands in Cention's place: for us, it is down.
    """
    match outcome:
        case Delivered():
            return Sign.ALIVE
        case Rejected(status=None):
            return Sign.NONE  # there was nothing fit to be sent
        case TryLater(status=status):
            return Sign.ALIVE if status is not None and 400 <= status < 500 else Sign.DOWN
        case Unknown():
            return Sign.DOWN
        case Rejected() | Unauthorised():
            return Sign.ALIVE


class Breaker:
    """See the module's docstring.

    Args:
        failures: how many failures in a row open it (`delivery.breaker_failures`).
        open_s: seconds for which it opens the first time (`delivery.breaker_open_s`).
        clock: monotonic seconds.
        chance: 0 to 1, drawn anew at each call: spreads the probes of replicas that saw Cention go together.
        changed: is told the old and the new state at every change, and why.
    """

    def __init__(
        self,
        *,
        failures: int,
        open_s: float,
        clock: Callable[[], float],
        chance: Callable[[], float],
        changed: Callable[[State, State, str], None],
    ) -> None:
        self._failures, self._open_s = failures, open_s
        self._clock, self._chance, self._changed = clock, chance, changed
        self._state = State.CLOSED
        self._since = float("-inf")
        self._until = 0.0
        self._opened = 0  # times in a row, without life in between
        self._streak = 0
        self._lanes: set[Hashable] = set()  # of the streak: two are as good as many
        self._probing = False

    @property
    def state(self) -> State:
        return self._state

    def wait_s(self) -> float:
        """Seconds until an attempt may be admitted; 0: one would be now. Changes nothing."""
        if self._state is State.CLOSED:
            return 0.0
        left = self._until - self._clock()
        if self._state is State.OPEN and left > 0:
            return left
        return _PROBE_AGAIN_S if self._probing else 0.0

    def admit(self) -> bool:
        """Whether an attempt may go. One that does is followed by `note`, or by `forget`."""
        if self._state is State.CLOSED:
            return True
        if self.wait_s() > 0:
            return False
        if self._state is State.OPEN:
            self._change(State.HALF_OPEN, "one delivery tries whether cention is back")
        self._probing = True
        return True

    def note(self, outcome: Outcome, lane: Hashable, began: float) -> None:
        """Learns from an attempt.

        Args:
            outcome: what it came to.
            lane: whose it was.
            began: when it was admitted, by the breaker's clock.
        """
        sign = sign_of(outcome)
        if sign is Sign.ALIVE:
            self._alive()
        elif sign is Sign.DOWN and began >= self._since:
            self._down(outcome, lane)
        elif began >= self._since:
            self._probing = False

    def forget(self, began: float) -> None:
        """An admitted attempt ended without telling anything of Cention."""
        if began >= self._since:
            self._probing = False

    def _alive(self) -> None:
        self._streak, self._opened = 0, 0
        self._lanes.clear()
        if self._state is not State.CLOSED:
            self._change(State.CLOSED, "cention answers")

    def _down(self, outcome: Outcome, lane: Hashable) -> None:
        reason = outcome.reason if isinstance(outcome, TryLater | Unknown) else ""
        asked = outcome.retry_after_s if isinstance(outcome, TryLater) else None
        if self._state is State.HALF_OPEN:
            self._open(reason, asked)
        elif self._state is State.CLOSED:
            self._streak += 1
            if len(self._lanes) < 2:
                self._lanes.add(lane)
            # A server that says when it is back need not be asked until the count is full.
            if len(self._lanes) == 2 and (asked or self._streak >= self._failures):
                self._open(reason, asked)

    def _open(self, reason: str, asked: float | None) -> None:
        longest = max(self._open_s, OPEN_S_MAX)
        wait_s = min(self._open_s * 2.0 ** min(self._opened, 30), longest) * (0.75 + 0.25 * self._chance())
        wait_s = max(wait_s, min(asked or 0.0, ASKED_S_MAX))
        self._opened += 1
        self._change(State.OPEN, reason)
        self._until = self._since + wait_s

    def _change(self, state: State, reason: str) -> None:
        was, self._state = self._state, state
        self._since, self._probing, self._streak = self._clock(), False, 0
        self._lanes.clear()
        self._changed(was, state, reason)

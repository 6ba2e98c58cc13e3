"""How many attempts a second leave this replica: a token bucket that is asked before a lane is leased.

Pure logic over a clock that is given. Invariants: over any span, at most `per_s` times its seconds and one burst leave;
nobody ever waits inside: what is not there is not given, and `wait_s` tells when to ask again.
Source: docs/adr/0013-breaker-and-rate.md.
"""

from collections.abc import Callable

BURST_S = 0.1
"""The bucket holds what comes in so long, and at least one: the limit is meant for a second, not for a minute."""


class Rate:
    """`delivery.rate_per_s`.

    Args:
        per_s: attempts a second; 0 sets no limit.
        clock: monotonic seconds.
    """

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s, self._clock = per_s, clock
        self._most = max(1.0, per_s * BURST_S)
        self._left = self._most
        self._at = clock()

    def take(self, most: int) -> int:
        """Takes up to `most` and says how many those are."""
        if not self._per_s:
            return most
        self._fill()
        taken = max(0, min(most, int(self._left)))
        self._left -= taken
        return taken

    def give_back(self, number: int) -> None:
        """Gives back what was taken and not used."""
        self._left = min(self._most, self._left + number)

    def owe(self, number: int) -> None:
        """Counts requests that could not ask first; the next ones wait for them."""
        if self._per_s:
            self._fill()
            self._left -= number

    def wait_s(self) -> float:
        """Seconds until there is one to take; 0: now."""
        if not self._per_s:
            return 0.0
        self._fill()
        return max(0.0, (1.0 - self._left) / self._per_s)

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now

"""Who logged in and out, as the sandbox was told. Bounded: what was told first is forgotten first."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.cention.sandbox.data import Logio
from bridge.runtime.clock import now_ms

_LOGINS_MAX = 200_000


@dataclass(frozen=True, slots=True)
class Login:
    """An agent logged in or out. `timestamp` is in seconds since the epoch, `action` is `Login` or `Logout`."""

    name: str
    action: str
    timestamp: int


class Logins:
    """See the module's docstring."""

    def __init__(self, given: Iterable[Logio]) -> None:
        self._logins: deque[Login] = deque(maxlen=_LOGINS_MAX)
        self.add(given)

    def replace(self, given: Iterable[Logio]) -> None:
        """Puts `given` in place of all others."""
        self._logins.clear()
        self.add(given)

    def add(self, given: Iterable[Logio]) -> None:
        """Adds to what is there; what tells no time happens now."""
        now_s = now_ms() // 1000
        self._logins.extend(
            Login(one.name, one.action, now_s if one.timestamp is None else one.timestamp) for one in given
        )

    def between(self, first: int, last: int, name: str | None = None) -> list[Login]:
        """Those from `first` to `last`, seconds since the epoch, both included, by their time.

        Args:
            first: the earliest.
            last: the latest.
            name: only this agent's; None: everybody's.
        """
        found = (one for one in self._logins if first <= one.timestamp <= last and name in (None, one.name))
        return sorted(found, key=lambda one: one.timestamp)

    def all(self) -> list[Login]:
        """All, by their time."""
        return sorted(self._logins, key=lambda one: one.timestamp)

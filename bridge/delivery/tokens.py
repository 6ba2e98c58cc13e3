"""Cention's tokens: which one a call's queue needs, which of them rest, and what happens when they change.

Owns the tokens in force, which may be changed while the service runs, and knows which of them Cention refuses or wants
to hear less of. Must not know where tokens come from.

Invariants: a token that Cention refuses (401, 403) rests as a whole, and nothing is parked because of it; when it is
changed, its rest is over. No token stands in a log line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import Gauge

from bridge.calls.events import Facts
from bridge.cention.outcome import Delivered, Outcome, Rejected, TryLater, Unauthorised
from bridge.delivery.breaker import ASKED_S_MAX
from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger

log = get_logger(__name__)

PROBE_S = 60.0
"""How long a refused token rests before one delivery tries whether it works again."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Why a delivery cannot be tried now.

    Attributes:
        wait_s: seconds until it may be worth it.
        what: `token`, `pause` or `breaker`: a metric's label.
        reason: for people.
    """

    wait_s: float
    what: str
    reason: str


class Tokens:
    """The tokens in force. A Create Errand token is bound to one channel and area (Cention API, "Create Errand").

    Args:
        default: the token of every queue that has none of its own.
        routes: the token of each queue, by its name or number.
        claims: the tokens that are for one claim alone, by its name in the settings, such as `errand_data`.
        refused: told how many tokens Cention refuses.
        on_refused: called when Cention refuses a token, each time.
    """

    def __init__(
        self,
        default: str,
        routes: Mapping[str, str],
        refused: Gauge,
        *,
        claims: Mapping[str, str] | None = None,
        on_refused: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._default, self._routes, self._claims = default, dict(routes), dict(claims or {})
        self._resting: dict[str, float] = {}
        self._paused: dict[str, float] = {}
        self._refused, self._on_refused, self._clock = refused, on_refused, clock

    def replace(self, default: str, routes: Mapping[str, str], claims: Mapping[str, str] | None = None) -> bool:
        """Puts other tokens in the place of all. A rest ends with the token it was for.

        Returns:
            Whether anything changed.
        """
        new = (default, dict(routes), dict(claims or {}))
        if new == (self._default, self._routes, self._claims):
            return False
        self._default, self._routes, self._claims = new
        kept = {default, *routes.values()}
        for waiting in (self._resting, self._paused):
            for token in waiting.keys() - kept:
                del waiting[token]
        self._refused.set(len(self._resting))
        return True

    @property
    def any_refused(self) -> bool:
        """Whether Cention refuses one of the tokens in force."""
        return bool(self._resting)

    def of(self, facts: Facts) -> str:
        """The token for a call of this queue, by its name, then its number."""
        if self._routes:
            for queue in (facts.queue_name, facts.queue_number):
                if queue is not None and queue in self._routes:
                    return self._routes[queue]
        return self._default

    def claim(self, name: str) -> str:
        """The token that carries the claim `name`, or ""."""
        return self._claims.get(name, "")

    def rest(self, token: str) -> Rest | None:
        """Why `token` cannot be used now; None: it can. The first to get None after a refusal is the probe."""
        if not self._paused and not self._resting:
            return None
        now = self._clock()
        if (left := self._paused.get(token, now) - now) > 0:
            return Rest(left, "pause", "cention asked for fewer requests with this token")
        self._paused.pop(token, None)
        if token not in self._resting:
            return None
        if (left := self._resting[token] - now) > 0:
            return Rest(left, "token", "cention refuses its token")
        self._resting[token] = now + PROBE_S
        return None

    def note(self, token: str, outcome: Outcome) -> None:
        """Learns from an attempt with `token`."""
        if not self._resting and isinstance(outcome, Delivered):
            return
        match outcome:
            case Unauthorised(status, reason):
                self._refuse(token, status, reason)
            case TryLater(status=429, retry_after_s=asked) if asked:
                # RFC 6585 section 4: it is we who ask too often, so every lane with this token would.
                pause_s = min(asked, ASKED_S_MAX)
                if token not in self._paused:
                    log.warning("cention wants fewer requests: a token pauses", wait_s=round(pause_s, 1))
                self._paused[token] = self._clock() + pause_s
            case Delivered() | Rejected() if token in self._resting:
                del self._resting[token]
                log.info("cention takes the token again")
        self._refused.set(len(self._resting))

    def _refuse(self, token: str, status: int, reason: str) -> None:
        if token not in (self._default, *self._routes.values()):
            return  # changed while the attempt was under way
        if token not in self._resting:
            log.error(
                "cention refuses a token: deliveries with it wait until it works",
                status=status,
                reason=reason,
                queues=[queue for queue, other in self._routes.items() if other == token] or "default",
            )
        self._resting[token] = self._clock() + PROBE_S
        self._on_refused()

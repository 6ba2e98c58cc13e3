"""One effect to one request: which document, which endpoint, whose token.

Owns the tokens and knows which of them Cention refuses. Never raises for what an effect or Cention does wrong: that is
an outcome.
"""

from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import Gauge

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import Facts, Pair
from bridge.cention.client import CentionClient
from bridge.cention.outcome import Delivered, Outcome, Rejected, Unauthorised
from bridge.delivery.render import CannotRender, Renderer
from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger

log = get_logger(__name__)

PROBE_S = 60.0
"""How long a refused token rests before one delivery tries whether it works again."""


class Tokens:
    """The Create Errand token of each queue; a token is bound to one channel and area (Cention API, "Create Errand").

    A token that Cention refused is rested as a whole: its lanes wait, nothing is parked, and the operator is told.
    """

    def __init__(self, default: str, routes: Mapping[str, str], refused: Gauge) -> None:
        self._default, self._routes = default, dict(routes)
        self._resting: dict[str, float] = {}
        self._refused = refused

    def of(self, facts: Facts) -> str:
        """The token for a call of this queue, by its name, then its number."""
        for queue in (facts.queue_name, facts.queue_number):
            if queue is not None and queue in self._routes:
                return self._routes[queue]
        return self._default

    def rest_s(self, token: str) -> float:
        """Seconds for which `token` still rests; 0: it may be used. The first to get 0 again is the probe."""
        until = self._resting.get(token)
        if until is None:
            return 0.0
        if (left := until - monotonic()) > 0:
            return left
        self._resting[token] = monotonic() + PROBE_S
        return 0.0

    def note(self, token: str, outcome: Outcome) -> None:
        """Learns from an attempt with `token`."""
        if isinstance(outcome, Unauthorised):
            if token not in self._resting:
                log.error(
                    "cention refuses a token: deliveries with it wait until it works",
                    status=outcome.status,
                    reason=outcome.reason,
                    queues=[queue for queue, other in self._routes.items() if other == token] or "default",
                )
            self._resting[token] = monotonic() + PROBE_S
        elif token in self._resting and isinstance(outcome, Delivered | Rejected):
            del self._resting[token]
            log.info("cention takes the token again")
        self._refused.set(len(self._resting))


class Dispatcher:
    """Carries out effects."""

    def __init__(
        self,
        client: CentionClient,
        renderer: Renderer,
        tokens: Tokens,
        *,
        errand_id: Callable[[Pair, str], Awaitable[str | None]],
        hand_over: Callable[[Effect], Awaitable[None]],
    ) -> None:
        self._client, self._renderer, self._tokens = client, renderer, tokens
        self._errand_id, self._hand_over = errand_id, hand_over

    def rest_s(self, effect: Effect) -> float:
        """Seconds for which `effect` cannot be tried, because its token rests; 0: go."""
        return 0.0 if effect.kind is EffectKind.HAND_OVER else self._tokens.rest_s(self._tokens.of(effect.facts))

    async def send(self, effect: Effect) -> Outcome:
        """Makes one attempt.

        Raises:
            StoreUnavailable: what the attempt needs from Redis could not be read; nothing was sent.
        """
        if effect.kind is EffectKind.HAND_OVER:
            await self._hand_over(effect)
            return Delivered(200, None)
        token = self._tokens.of(effect.facts)
        try:
            outcome = await self._request(effect, token)
        except CannotRender as error:
            return Rejected(None, str(error))
        self._tokens.note(token, outcome)
        return outcome

    async def _request(self, effect: Effect, token: str) -> Outcome:
        match effect.kind:
            case EffectKind.END_OUTBOUND_CALL:
                return await self._client.end_obcall(self._renderer.end_obcall(effect), token)
            case EffectKind.CLOSE_ERRAND:
                errand_id = await self._errand_id(effect.pair, effect.call_id)
                return await self._client.end_errand(self._renderer.end_errand(effect, errand_id), token)
            case _:
                end_session = effect.kind is EffectKind.END_SESSION
                return await self._client.new_errand(self._renderer.new_errand(effect, end_session=end_session), token)

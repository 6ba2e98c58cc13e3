"""One effect to one request: which document, which endpoint, whose token; and whether it may be made now.

Asks, before an attempt, whether its token rests (`tokens`) or Cention does (`breaker`), and tells both what became of
it. Never raises for what an effect or Cention does wrong: that is an outcome.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import Pair
from bridge.cention.client import CentionClient
from bridge.cention.outcome import Delivered, Outcome, Rejected
from bridge.delivery.breaker import Breaker
from bridge.delivery.contacts import ContactCards
from bridge.delivery.lookup import Lookup
from bridge.delivery.render import CannotRender, Renderer
from bridge.delivery.tokens import Rest, Tokens
from bridge.runtime.clock import monotonic


class Dispatcher:
    """Carries out effects.

    Args:
        errand_id: reads the id of the errand that a call's leg created.
        hand_over: carries out a `HAND_OVER`.
        lookup: finds errands whose create may have been carried out; None: it is repeated without looking.
        cards: makes the contact card that an errand is to find; None: no card is made.
    """

    def __init__(
        self,
        client: CentionClient,
        renderer: Renderer,
        tokens: Tokens,
        breaker: Breaker,
        *,
        errand_id: Callable[[Pair, str], Awaitable[str | None]],
        hand_over: Callable[[Effect], Awaitable[None]],
        lookup: Lookup | None = None,
        cards: ContactCards | None = None,
    ) -> None:
        self._client, self._renderer, self._tokens, self._breaker = client, renderer, tokens, breaker
        self._errand_id, self._hand_over, self._lookup, self._cards = errand_id, hand_over, lookup, cards

    @property
    def resting(self) -> bool:
        """Whether nothing can be sent to Cention now, whatever it is."""
        return self._breaker.wait_s() > 0

    def admit(self, effect: Effect) -> Rest | None:
        """Why `effect` cannot be tried now; None: it can, and `send` must follow at once."""
        if effect.kind is EffectKind.HAND_OVER:
            return None
        # The breaker is asked first and told last: a token's probe is given once, and must not be lost to the breaker.
        if (wait_s := self._breaker.wait_s()) > 0:
            return Rest(wait_s, "breaker", "cention does not answer: attempts rest")
        if (rest := self._tokens.rest(self._tokens.of(effect.facts))) is not None:
            return rest
        self._breaker.admit()
        return None

    async def send(self, effect: Effect, *, in_doubt: bool = False) -> Outcome:
        """Makes one attempt.

        Args:
            effect: what to do.
            in_doubt: whether an earlier attempt may have been carried out.

        Raises:
            StoreUnavailable: what the attempt needs from Redis could not be read; nothing was sent.
        """
        if effect.kind is EffectKind.HAND_OVER:
            await self._hand_over(effect)
            return Delivered(200, None)
        token, began = self._tokens.of(effect.facts), monotonic()
        outcome: Outcome | None = None
        try:
            if in_doubt and self._lookup is not None and effect.kind is EffectKind.OPEN_ERRAND:
                found = await self._lookup.find(effect.effect_id)
                if found is not None:
                    return Delivered(200, found, found=True)
            outcome = await self._request(effect, token)
        except CannotRender as error:
            return Rejected(None, str(error))
        finally:
            if outcome is None:
                self._breaker.forget(began)
        self._breaker.note(outcome, effect.pair, began)
        self._tokens.note(token, outcome)
        return outcome

    def noted(self, effect: Effect) -> dict[str, object]:
        """What an attempt's timeline entry has to say beside the outcome."""
        result = None if self._cards is None else self._cards.result_of(effect.effect_id)
        return {} if result is None else {"contactCard": result.value}

    def _request(self, effect: Effect, token: str) -> Coroutine[Any, Any, Outcome]:
        match effect.kind:
            case EffectKind.END_OUTBOUND_CALL:
                return self._client.end_obcall(self._renderer.end_obcall(effect), token)
            case EffectKind.CLOSE_ERRAND:
                return self._close_errand(effect, token)
            case EffectKind.OPEN_ERRAND if self._cards is not None:
                return self._open_errand(effect, token, self._cards)
            case _:
                document = self._renderer.new_errand(effect, end_session=effect.kind is EffectKind.END_SESSION)
                return self._client.new_errand(document, token)

    async def _close_errand(self, effect: Effect, token: str) -> Outcome:
        errand_id = await self._errand_id(effect.pair, effect.call_id)
        return await self._client.end_errand(self._renderer.end_errand(effect, errand_id), token)

    async def _open_errand(self, effect: Effect, token: str, cards: ContactCards) -> Outcome:
        document = self._renderer.new_errand(effect, end_session=False)
        await cards.upsert(effect)
        return await self._client.new_errand(document, token)

"""The contact card of the party outside: made or added to just before a call's errand is created.

Owns what stands on the card, when it is left out, and what became of it. Must not know lanes, leases or schedules.

Invariants: it takes no longer than `contacts.timeout_s`, raises nothing, and has no say in the errand, which is created
whatever becomes of the card. Who withholds the number, or has none that is E.164, gets no card. A card that was taken,
or refused for good, is not sent again for the same effect while this process remembers it.
Source: Cention API, "Contact Cards"; docs/adr/0008-who-the-errand-is-from.md.
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum

from prometheus_client import Counter

from bridge.calls.effects import Effect
from bridge.calls.events import Facts
from bridge.calls.numbers import NumberFault, to_msisdn
from bridge.cention.client import CentionClient
from bridge.cention.documents import ContactCard
from bridge.cention.outcome import Failure, Fetched, Rejected, TryLater, Unauthorised
from bridge.delivery.breaker import ASKED_S_MAX
from bridge.delivery.render import outside_party
from bridge.delivery.tokens import PROBE_S
from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger

log = get_logger(__name__)

FAILURES_MAX = 3
"""After so many failures in a row cards are left out for `REST_S`: each would hold an errand up for its whole time."""
REST_S = 30.0
_MEMORY_MAX = 10_000


class CardResult(StrEnum):
    """What became of a card: a metric's label, and `contactCard` in a timeline."""

    UPSERTED = "upserted"
    REJECTED = "rejected"
    """Cention will not take it, however often it is asked."""
    FAILED = "failed"
    """Cention did not answer in time, or not as documented."""
    REFUSED = "refused"
    """The token may not make cards."""
    SKIPPED = "skipped"
    """Not sent, since those before it failed or were refused."""


_FOR_GOOD = frozenset([CardResult.UPSERTED, CardResult.REJECTED])


class ContactCards:
    """Upserts cards.

    Args:
        token: gives the token with the claim "Access and create customer contacts".
        timeout_s: seconds that a card may take.
        region: `numbers.default_region`, by which callers' numbers were read.
        cuid_label: label of the `cuid` among the card's own fields; None: it is left to the errand.
        results: counts cards by result.
        asked: told how many requests were made.
    """

    def __init__(
        self,
        client: CentionClient,
        token: Callable[[], str],
        *,
        timeout_s: float,
        region: str | None,
        cuid_label: str | None,
        results: Counter,
        asked: Callable[[int], None] = lambda number: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._client, self._token, self._timeout_s, self._region = client, token, timeout_s, region
        self._cuid_label, self._results, self._asked, self._clock = cuid_label, results, asked, clock
        self._known: dict[str, CardResult] = {}  # by effect, in the order of the cards
        self._failures = 0
        self._resting: tuple[str, float] = ("", 0.0)
        """The token that rests, and until when."""

    async def upsert(self, effect: Effect) -> None:
        """Makes or adds to the card of the party outside `effect`'s call, if there is one to make."""
        if self._known.get(effect.effect_id) in _FOR_GOOD or (card := self.card(effect.facts)) is None:
            return
        result = await self._upsert(card, effect.effect_id)
        self._results.labels(result.value).inc()
        self._known[effect.effect_id] = result
        if len(self._known) > _MEMORY_MAX:
            del self._known[next(iter(self._known))]

    def result_of(self, effect_id: str) -> CardResult | None:
        """What became of the card before this effect's errand; None: there was none, or it is forgotten."""
        return self._known.get(effect_id)

    def card(self, facts: Facts) -> ContactCard | None:
        """The card of the party outside; None where its number is withheld or not E.164."""
        number, name = outside_party(facts)
        if number is None or not self._is_msisdn(number):
            return None
        own = {self._cuid_label: facts.cuid} if self._cuid_label is not None and facts.cuid is not None else {}
        return ContactCard.of(name, voice=[f"+{number}"], custom=own)

    def _is_msisdn(self, number: str) -> bool:
        try:
            # A caller may be a short number or an address too; what is an MSISDN reads as itself.
            return to_msisdn(number, self._region) == number
        except NumberFault:
            return False

    async def _upsert(self, card: ContactCard, effect_id: str) -> CardResult:
        token = self._token()
        if self._resting[0] == token and self._clock() < self._resting[1]:
            return CardResult.SKIPPED
        self._asked(1)
        answer: Fetched[ContactCard] | Failure
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._client.contact_card(card, token)
        except TimeoutError:
            answer = TryLater(f"no answer within {self._timeout_s:g} s")
        except Exception:
            log.exception("contact card failed inside the bridge", delivery=effect_id)
            answer = TryLater("the bridge failed; see its log")
        match answer:
            case Fetched():
                self._failures = 0
                return CardResult.UPSERTED
            case Unauthorised():
                self._rest(token, PROBE_S)
                log.error("cention refuses the token for contact cards: they are left out", status=answer.status)
                return CardResult.REFUSED
            case Rejected():
                self._failures = 0
                result = CardResult.REJECTED
            case _:
                self._failures += 1
                result = CardResult.FAILED
        if isinstance(answer, TryLater) and answer.retry_after_s:
            self._rest(token, min(answer.retry_after_s, ASKED_S_MAX))
        elif self._failures >= FAILURES_MAX:
            self._rest(token, REST_S)
        log.warning("no contact card before an errand", delivery=effect_id, result=result.value, reason=answer.reason)
        return result

    def _rest(self, token: str, rest_s: float) -> None:
        self._failures = 0
        self._resting = (token, self._clock() + rest_s)

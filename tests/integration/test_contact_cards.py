"""Contact cards before errands, against the sandbox: what stands on them, and that none holds its errand up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from bridge.calls.effects import Effect, EffectKind, effect_id
from bridge.calls.events import Facts
from bridge.cention.outcome import Delivered, Rejected
from bridge.cention.sandbox import Sandbox
from bridge.delivery.breaker import Breaker
from bridge.delivery.contacts import FAILURES_MAX, REST_S, ContactCards
from bridge.delivery.dispatch import Dispatcher
from bridge.delivery.tokens import PROBE_S, Tokens
from bridge.runtime.clock import monotonic
from bridge.runtime.metrics import Metrics
from tests.fakes.logs import captured
from tests.integration.cention_support import cention
from tests.integration.delivery_support import RENDERER, Clock
from tests.integration.store_support import BEGIN_MS, INBOUND, OUTBOUND, A

TOKEN, CARDS_TOKEN = "may-create-errands", "may-keep-contacts"
CALLER = INBOUND._replace(calling_name="Åsa Öberg", cuid="K-12345")


@dataclass
class World:
    """A dispatcher that makes cards, and the Cention it talks to."""

    sandbox: Sandbox
    cards: ContactCards
    dispatcher: Dispatcher
    metrics: Metrics
    clock: Clock
    token: str = CARDS_TOKEN
    asked: int = 0

    async def open(self, number: int = 0, facts: Facts = CALLER, kind: EffectKind = EffectKind.OPEN_ERRAND) -> str:
        """Makes one attempt, which delivers; returns what its timeline entry says of the card."""
        effect = Effect(effect_id(A, f"c-{number}", kind, 0), kind, f"c-{number}", A, BEGIN_MS, facts)
        assert isinstance(await self.dispatcher.send(effect), Delivered)
        return str(self.dispatcher.noted(effect).get("contactCard", ""))

    def results(self) -> dict[str, int]:
        samples = [sample for metric in self.metrics.contact_cards.collect() for sample in metric.samples]
        return {s.labels["result"]: int(s.value) for s in samples if s.name.endswith("_total") and s.value}


async def nothing(*_: object) -> None:
    return None


@asynccontextmanager
async def world(*, timeout_s: float = 20.0, cuid_label: str | None = None) -> AsyncIterator[World]:
    sandbox = Sandbox(tokens={TOKEN: ["create_errand"], CARDS_TOKEN: ["contacts"]})
    metrics, clock = Metrics("test"), Clock()
    # The client's own limit lies far beyond what a card may take; a test that comes near it hangs.
    async with asyncio.timeout(60), cention(await sandbox.start(), 3600) as client:
        cards = ContactCards(
            client,
            lambda: it.token,
            timeout_s=timeout_s,
            region=None,
            cuid_label=cuid_label,
            results=metrics.contact_cards,
            asked=lambda number: setattr(it, "asked", it.asked + number),
            clock=clock,
        )
        breaker = Breaker(failures=10**6, open_s=1, clock=monotonic, chance=lambda: 1.0, changed=lambda *_: None)
        tokens = Tokens(TOKEN, {}, metrics.tokens_refused)
        sender = Dispatcher(client, RENDERER, tokens, breaker, errand_id=nothing, hand_over=nothing, cards=cards)
        it = World(sandbox, cards, sender, metrics, clock)
        yield it
    await sandbox.stop()


async def test_a_callers_card_is_there_before_the_errand() -> None:
    async with world() as it:
        assert await it.open() == "upserted"
        assert [arrival.endpoint for arrival in it.sandbox.arrivals] == ["c3_contact_cards", "c3_new_errands"]
        (card,) = it.sandbox.contact_cards
        assert (card.name, card.contacts, card.custom) == ("Åsa Öberg", {"voice": ["+46701740605"]}, [])
        assert b'"cuid":"K-12345"' in it.sandbox.errands[0].document.replace(b" ", b"")
        assert (it.results(), it.asked) == ({"upserted": 1}, 1)


async def test_the_cuid_goes_onto_the_card_too_where_it_has_a_label() -> None:
    async with world(cuid_label="Customer number") as it:
        await it.open()
        await it.open(1, CALLER._replace(cuid=None, calling_number="46701740607"))
        first, second = sorted(it.sandbox.contact_cards, key=lambda card: card.card_id)
        assert (first.custom, second.custom) == ([{"label": "Customer number", "value": "K-12345"}], [])


async def test_of_an_outbound_call_it_is_the_called_partys_card() -> None:
    async with world() as it:
        await it.open(facts=OUTBOUND._replace(calling_number="46846500401", calling_name="Us"))
        (card,) = it.sandbox.contact_cards
        assert (card.name, card.contacts) == ("", {"voice": ["+46701740606"]})


@pytest.mark.parametrize("number", [None, "1001", "alice@pbx.example", "0701740605"])
async def test_who_has_no_e164_number_gets_no_card(number: str | None) -> None:
    async with world() as it:
        assert await it.open(facts=CALLER._replace(calling_number=number)) == ""
        assert (it.sandbox.contact_cards, it.results(), it.asked) == ([], {}, 0)


async def test_only_the_opening_of_an_errand_has_a_card() -> None:
    async with world() as it:
        assert await it.open(kind=EffectKind.END_SESSION) == ""
        assert await it.open(facts=OUTBOUND, kind=EffectKind.END_OUTBOUND_CALL) == ""
        assert it.sandbox.contact_cards == []


async def test_what_cannot_be_an_errand_has_no_card_either() -> None:
    async with world() as it:
        effect = Effect("av-1", EffectKind.OPEN_ERRAND, "c", A, BEGIN_MS, CALLER._replace(dest_number=None))
        assert isinstance(await it.dispatcher.send(effect), Rejected)
        assert it.sandbox.contact_cards == []


async def test_another_attempt_for_the_same_errand_sends_no_card_again() -> None:
    async with world() as it:
        assert [await it.open(), await it.open()] == ["upserted", "upserted"]
        assert (it.results(), it.asked) == ({"upserted": 1}, 1)
        await it.open(1)
        assert it.asked == 2, "another call has another"


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ({"status": 503}, "failed"),
        ({"status": 302}, "failed"),
        ({"reset": "before"}, "failed"),
        ({"reset": "after"}, "failed"),
        ({"delay_s": 3600}, "failed"),
        ({"answer_delay_s": 3600}, "failed"),
        ({"status": 406}, "rejected"),
        ({"status": 200, "body": "[]"}, "rejected"),
        ({"status": 401}, "refused"),
    ],
)
async def test_whatever_becomes_of_the_card_the_errand_is_made(fault: dict[str, object], result: str) -> None:
    async with world(timeout_s=0.3) as it:
        it.sandbox.set_faults([{"endpoint": "c3_contact_cards", **fault}])
        assert await it.open() == result
        assert len(it.sandbox.errands) == 1
        assert it.results() == {result: 1}
        it.sandbox.set_faults([])
        it.clock.ahead_s += PROBE_S + 1
        again = "rejected" if result == "rejected" else "upserted"
        assert await it.open() == again, "the next attempt tries again what may succeed, and nothing else"


async def test_a_refused_token_rests_until_it_is_changed() -> None:
    async with world() as it:
        it.token = "may-not"
        assert [await it.open(1), await it.open(2)] == ["refused", "skipped"]
        it.token = CARDS_TOKEN
        assert await it.open(2) == "upserted"
        assert (it.results(), it.asked) == ({"refused": 1, "skipped": 1, "upserted": 1}, 2)


async def test_cards_that_fail_one_after_the_other_are_left_out_for_a_while() -> None:
    async with world() as it:
        it.sandbox.set_faults([{"endpoint": "c3_contact_cards", "status": 503}])
        results = [await it.open(number) for number in range(FAILURES_MAX + 1)]
        assert results == ["failed"] * FAILURES_MAX + ["skipped"]
        assert len(it.sandbox.errands) == FAILURES_MAX + 1
        it.clock.ahead_s += REST_S
        it.sandbox.set_faults([])
        await it.open(FAILURES_MAX)
        assert it.results()["skipped"] == 1, "tried again"


async def test_cention_can_ask_for_fewer_cards() -> None:
    async with world() as it:
        rule = {"endpoint": "c3_contact_cards", "status": 429, "headers": {"Retry-After": "20"}, "times": 1}
        it.sandbox.set_faults([rule])
        assert [await it.open(1), await it.open(2)] == ["failed", "skipped"]
        it.clock.ahead_s += 21
        assert await it.open(2) == "upserted"


async def test_nothing_of_the_card_is_logged() -> None:
    with captured() as lines:
        async with world(cuid_label="Customer number") as it:
            rules: list[dict[str, object]] = [
                {"status": 406, "body": '{"errors":[{"title":"+46701740605 of Åsa Öberg, K-12345"}]}'},
                {"status": 503},
            ]
            it.sandbox.set_faults([{"endpoint": "c3_contact_cards", "times": 1, **rule} for rule in rules])
            assert [await it.open(1), await it.open(2), await it.open(3)] == ["rejected", "failed", "upserted"]
    assert "no contact card" in lines.text
    assert not any(word in lines.text for word in ("46701740605", "Öberg", "12345", CARDS_TOKEN))

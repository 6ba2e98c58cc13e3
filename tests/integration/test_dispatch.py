"""The dispatcher over HTTP: which document goes where with whose token, and what never becomes a request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import Facts, Pair
from bridge.cention.client import CentionClient
from bridge.cention.outcome import Delivered, Rejected, TryLater, Unauthorised
from bridge.cention.sandbox import Sandbox
from bridge.delivery.dispatch import Dispatcher
from bridge.runtime.metrics import Metrics
from bridge.store.errors import StoreUnavailable
from tests.integration.delivery_support import USUAL, VIP, Gate, dispatcher
from tests.integration.store_support import BEGIN_MS, INBOUND, OUTBOUND, A, B


@dataclass
class Given:
    """What the dispatcher asks the rest of the bridge for.

    Attributes:
        errand: the id of the call's errand, or the error that reading it meets.
        handed: the hand-overs that were carried out.
    """

    errand: str | Exception | None
    handed: list[Effect]

    async def errand_id(self, pair: Pair, call_id: str) -> str | None:
        assert (pair, call_id) == (A, "c-1")
        if isinstance(self.errand, Exception):
            raise self.errand
        return self.errand

    async def hand_over(self, effect: Effect) -> None:
        self.handed.append(effect)


def effect(kind: EffectKind, facts: Facts = INBOUND) -> Effect:
    return Effect(f"av-1-{kind}-0", kind, "c-1", A, BEGIN_MS, facts, target=B if kind is EffectKind.HAND_OVER else None)


@asynccontextmanager
async def dispatching(base_url: str, given: Given | None = None, *, default: str = USUAL) -> AsyncIterator[Dispatcher]:
    given = given or Given(None, [])
    async with CentionClient(base_url, attempt_timeout_s=5) as client:
        sender, _ = dispatcher(
            client,
            Metrics("test"),
            routes={"vip": VIP, "77": "by-number"},
            default=default,
            errand_id=given.errand_id,
            hand_over=given.hand_over,
        )
        yield sender


@pytest.mark.parametrize(
    ("kind", "facts", "endpoint", "end_session"),
    [
        (EffectKind.OPEN_ERRAND, INBOUND, "c3_new_errands", False),
        (EffectKind.OPEN_ERRAND, OUTBOUND, "c3_new_errands", False),
        (EffectKind.END_SESSION, INBOUND, "c3_new_errands", True),
        (EffectKind.END_OUTBOUND_CALL, OUTBOUND, "c3_end_obcall", None),
        (EffectKind.END_OUTBOUND_CALL, Facts(), "c3_end_obcall", None),
    ],
)
async def test_each_effect_has_its_endpoint(
    kind: EffectKind, facts: Facts, endpoint: str, end_session: bool | None
) -> None:
    sandbox = Sandbox()
    async with dispatching(await sandbox.start()) as sender:
        outcome = await sender.send(effect(kind, facts))
    await sandbox.stop()
    assert isinstance(outcome, Delivered)
    (arrival,) = sandbox.arrivals
    assert (arrival.endpoint, arrival.end_session, arrival.device_id, arrival.extension_id) == (
        endpoint,
        end_session,
        *A,
    )
    if endpoint == "c3_new_errands":
        assert (arrival.message_id, arrival.reference_id) == (f"av-1-{kind}-0", "c-1")
        assert outcome.errand_id == str(arrival.errand_id)
    else:
        assert (arrival.dialed_number, outcome.errand_id) == (facts.called_number, None)


async def test_an_errand_is_closed_by_the_id_that_the_store_has() -> None:
    sandbox = Sandbox()
    async with dispatching(await sandbox.start(), given := Given(None, [])) as sender:
        created = await sender.send(effect(EffectKind.OPEN_ERRAND))
        assert isinstance(created, Delivered)
        given.errand = created.errand_id
        assert isinstance(await sender.send(effect(EffectKind.CLOSE_ERRAND)), Delivered)
        given.errand = "999"
        assert isinstance(await sender.send(effect(EffectKind.CLOSE_ERRAND)), Rejected)
    await sandbox.stop()
    assert [errand.ended_by for errand in sandbox.errands] == ["c3_end_errands"]


@pytest.mark.parametrize(
    ("kind", "facts", "words"),
    [
        (EffectKind.CLOSE_ERRAND, INBOUND, "errand_id is missing"),
        (EffectKind.OPEN_ERRAND, INBOUND._replace(dest_number=None), "destNumber is missing"),
        (EffectKind.END_SESSION, Facts(), "destNumber is missing"),
    ],
)
async def test_what_cannot_be_rendered_is_rejected_without_a_request(
    kind: EffectKind, facts: Facts, words: str
) -> None:
    gate = Gate(is_open=True)
    async with gate.cention() as url, dispatching(url) as sender:
        outcome = await sender.send(effect(kind, facts))
    assert isinstance(outcome, Rejected)
    assert (outcome.status, outcome.reason.startswith(words)) == (None, True)
    assert "465" not in outcome.reason
    assert gate.paths == []


@pytest.mark.parametrize(
    ("facts", "token"),
    [
        (INBOUND, USUAL),
        (INBOUND._replace(queue_name="vip", queue_number="77"), VIP),
        (INBOUND._replace(queue_name="other", queue_number="77"), "by-number"),
        (INBOUND._replace(queue_number="vip"), VIP),
        (INBOUND._replace(queue_name="VIP"), USUAL),
    ],
)
async def test_a_queue_has_its_token(facts: Facts, token: str) -> None:
    gate = Gate(is_open=True)
    async with gate.cention() as url, dispatching(url) as sender:
        for kind in (EffectKind.OPEN_ERRAND, EffectKind.END_SESSION, EffectKind.END_OUTBOUND_CALL):
            await sender.send(effect(kind, facts))
    assert gate.tokens == [token] * 3


async def test_a_hand_over_is_no_request_and_needs_no_token() -> None:
    gate, given = Gate(is_open=True, status=401), Given(None, [])
    async with gate.cention() as url, dispatching(url, given) as sender:
        assert isinstance(await sender.send(effect(EffectKind.OPEN_ERRAND)), Unauthorised)
        assert sender.admit(effect(EffectKind.OPEN_ERRAND)) is not None
        assert sender.admit(effect(EffectKind.HAND_OVER)) is None
        assert isinstance(await sender.send(effect(EffectKind.HAND_OVER)), Delivered)
    assert [each.kind for each in given.handed] == [EffectKind.HAND_OVER]
    assert len(gate.paths) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_not_admitted_again_and_others_are(status: int) -> None:
    gate = Gate(is_open=True, status=status)
    vip = INBOUND._replace(queue_name="vip")
    async with gate.cention() as url, dispatching(url) as sender:
        assert sender.admit(effect(EffectKind.OPEN_ERRAND, vip)) is None
        outcome = await sender.send(effect(EffectKind.OPEN_ERRAND, vip))
        assert isinstance(outcome, Unauthorised)
        assert VIP not in outcome.reason
        rest = sender.admit(effect(EffectKind.END_SESSION, vip))
        assert rest is not None
        assert (rest.what, rest.wait_s > 0) == ("token", True)
        assert sender.admit(effect(EffectKind.OPEN_ERRAND)) is None


@pytest.mark.parametrize("token", ["", "with a space", "ünicode", "line\r\nbreak"])
async def test_a_token_that_no_header_can_carry_is_refused_here(token: str) -> None:
    gate = Gate(is_open=True)
    async with gate.cention() as url, dispatching(url, default=token) as sender:
        outcome = await sender.send(effect(EffectKind.OPEN_ERRAND))
    assert isinstance(outcome, Unauthorised)
    assert not token or token not in outcome.reason
    assert gate.paths == []


async def test_a_store_that_is_away_is_the_workers_to_handle() -> None:
    gate = Gate(is_open=True)
    async with gate.cention() as url, dispatching(url, Given(StoreUnavailable("away"), [])) as sender:
        with pytest.raises(StoreUnavailable):
            await sender.send(effect(EffectKind.CLOSE_ERRAND))
    assert gate.paths == []


async def test_nobody_there_is_to_be_tried_later() -> None:
    async with dispatching("http://127.0.0.1:1/s/demo") as sender:
        outcome = await sender.send(effect(EffectKind.OPEN_ERRAND))
    assert isinstance(outcome, TryLater)
    assert outcome.status is None

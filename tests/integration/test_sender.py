"""The sender against a bridge that behaves and misbehaves: nothing lost, each pair in order, and an end to patience."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from aiohttp import web

from bridge.cli.sender import Refusal, Sender, SenderFailed, events_url, retry_after_s
from bridge.runtime.clock import monotonic
from bridge.runtime.web import serve
from tests.fakes.target import Target, target


def event(event_id: str, device: Any = 1000, **more: Any) -> dict[str, Any]:
    return {"eventId": event_id, "type": "call.updated", "deviceId": device, "extensionId": 1000, **more}


@pytest.fixture
async def bridge() -> AsyncIterator[Target]:
    async with target() as it:
        yield it


async def test_accepted_duplicate_and_rejected_are_counted(bridge: Target) -> None:
    async with Sender(bridge.url) as sender:
        for name, device in (("a", 1), ("b", 1), ("a", 1), ("c", "1"), ("d", 2)):
            await sender.send(event(name, device), label=7)
        await sender.finish()
    assert sorted(bridge.ids()) == ["a", "b", "d"]
    counts = sender.counts
    assert (counts.given, counts.accepted, counts.duplicates, counts.rejected, counts.unanswered) == (5, 3, 1, 1, 0)
    fault = "/deviceId: wrong_type: deviceId is a JSON integer."
    assert sender.refusals == [Refusal(7, "c", "invalid_event", (fault,))]


async def test_an_event_is_sent_again_byte_for_byte_until_it_is_taken(bridge: Target) -> None:
    bridge.faults.extend([(503, {"Retry-After": "0"}), (429, {}), "reset", (500, {}), (408, {})])
    changes = []
    async with Sender(bridge.url, backoff_s=0.01, on_change=lambda: changes.append(sender.trouble)) as sender:
        raw = b'{"eventId" : "a","deviceId": 1,   "extensionId":2}'
        await sender.send(orjson.loads(raw), raw=raw)
    assert bridge.bodies == [raw] * 6
    assert bridge.ids() == ["a"]
    assert (sender.counts.accepted, sender.counts.retried) == (1, 5)
    assert changes[0] == "HTTP 503 Service Unavailable"
    assert len(changes) == 6
    assert changes[-1] is None


async def test_a_bridge_says_when_to_come_back(bridge: Target) -> None:
    bridge.faults.append((503, {"Retry-After": "1"}))
    began = monotonic()
    async with Sender(bridge.url, backoff_s=0) as sender:
        await sender.send(event("a"))
    assert monotonic() - began >= 1
    assert len(bridge.bodies) == 2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("Tue, 24 Nov 2026 10:16:30 GMT", 60.0),
        ("Tue, 24 Nov 2026 10:14:30 GMT", 0.0),
        ("Tue, 24 Nov 2026 10:16:30", None),
        ("-1", None),
        ("soon", None),
        ("²", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, datetime(2026, 11, 24, 10, 15, 30, tzinfo=UTC)) == seconds


async def test_a_pair_waits_for_its_earlier_event_and_for_nobody_else(bridge: Target) -> None:
    bridge.held = {"a1"}
    async with Sender(bridge.url) as sender:
        for each in (event("a1", 1), event("a2", 1), event("b1", 2), event("b2", 2)):
            await sender.send(each)
        await bridge.until_requests(3)
        await came(bridge, ["b1", "b2"])
        assert not any(b'"a2"' in body for body in bridge.bodies)
        await bridge.let_go("a1")
    assert bridge.ids() == ["b1", "b2", "a1", "a2"]


async def came(bridge: Target, names: list[str]) -> None:
    async with asyncio.timeout(20):
        while bridge.ids() != names:
            await asyncio.sleep(0.01)


async def test_a_transfer_stands_in_the_order_of_both_pairs(bridge: Target) -> None:
    bridge.held = {"b1"}
    async with Sender(bridge.url) as sender:
        to_b = {"deviceId": 2, "extensionId": 1000}
        for each in (event("b1", 2), event("a1", 1, transferredTo=to_b), event("a2", 1), event("b2", 2)):
            await sender.send(each)
        await sender.send(event("c1", 3))
        await came(bridge, ["c1"])
        assert len(bridge.bodies) == 2
        bridge.held.add("a1")
        await bridge.let_go("b1")
        await bridge.until_requests(3)
        assert len(bridge.bodies) == 3
        await bridge.let_go("a1")
    assert bridge.ids()[:3] == ["c1", "b1", "a1"]
    assert sorted(bridge.ids()[3:]) == ["a2", "b2"]


async def test_no_more_requests_are_open_than_wanted_and_the_caller_is_held_back(bridge: Target) -> None:
    bridge.held = {'"held'}
    async with Sender(bridge.url, concurrency=3) as sender:
        giving = asyncio.create_task(give(sender, 200))
        await bridge.until_requests(3)
        assert sender.counts.given < 100
        await bridge.let_go('"held')
        await giving
    assert len(bridge.events) == 200
    assert bridge.open_most == 3


async def give(sender: Sender, number: int) -> None:
    for index in range(number):
        await sender.send(event(f"held-{index}", index))


async def test_events_without_a_pair_are_left_to_the_bridge_to_refuse(bridge: Target) -> None:
    async with Sender(bridge.url) as sender:
        await sender.send({"eventId": "a"})
        await sender.send({"eventId": 5, "deviceId": [], "transferredTo": "b"})
    assert sender.counts.rejected == 2
    assert [refusal.event_id for refusal in sender.refusals] == ["a", None]


async def test_a_bridge_that_stays_away_is_given_up() -> None:
    with socket.socket() as gone:  # holds the port and does not listen: nobody else can be there
        gone.bind(("127.0.0.1", 0))
        sender = Sender(f"http://127.0.0.1:{gone.getsockname()[1]}", give_up_s=0.2, backoff_s=0.01)
        with pytest.raises(SenderFailed, match=r"gave up after 0\.2 s: Connection refused \(127"):
            async with sender:
                await give(sender, 2)
    assert sender.counts.unanswered == 2
    assert sender.counts.retried > 1
    with pytest.raises(SenderFailed, match="gave up"):
        await sender.send(event("c"))
    assert sender.counts.given == 2


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "wants a token"), (403, "wants a token"), (404, "no intake"), (307, "no intake"), (415, "no intake")],
)
async def test_what_no_repetition_mends_fails_at_once(bridge: Target, status: int, words: str) -> None:
    bridge.faults.append((status, {"Location": "/v1/events"}))
    with pytest.raises(SenderFailed, match=words):
        async with Sender(bridge.url, backoff_s=1000) as sender:
            await sender.send(event("a"))
    assert len(bridge.bodies) == 1
    assert sender.counts.unanswered == 1


@pytest.mark.parametrize("batch", [1, 2])
async def test_another_server_is_not_taken_for_a_bridge(batch: int) -> None:
    async def welcome(_: web.Request) -> web.Response:
        return web.json_response({"results": []} if batch > 1 else ["welcome"], status=207 if batch > 1 else 200)

    app = web.Application()
    app.router.add_post("/v1/events", welcome)
    runner, port = await serve(app, "127.0.0.1", 0)
    with pytest.raises(SenderFailed, match="bridge"):
        async with Sender(f"http://127.0.0.1:{port}", batch=batch) as sender:
            await sender.send(event("a"))
    await runner.cleanup()


async def test_the_token_goes_along(bridge: Target) -> None:
    bridge.token = "s3cret"
    async with Sender(bridge.url, token="s3cret") as sender:
        await sender.send(event("a"))
    assert bridge.ids() == ["a"]


async def test_batches_go_one_after_the_other_and_hold_the_order(bridge: Target) -> None:
    bridge.faults.extend([(503, {"Retry-After": "0"}), "reset"])
    async with Sender(bridge.url, batch=4, backoff_s=0.01) as sender:
        for index in range(10):
            await sender.send(event(f"e{index}", index % 2))
        assert len(bridge.events) == 8, "a full batch is sent without waiting for the end"
    assert bridge.ids() == [f"e{index}" for index in range(10)]
    assert [body.count(b"\n") for body in bridge.bodies] == [4, 4, 4, 4, 2]
    assert bridge.open_most == 1
    assert (sender.counts.accepted, sender.counts.retried) == (10, 2)


async def test_a_batch_tells_which_event_was_rejected(bridge: Target) -> None:
    async with Sender(bridge.url, batch=10) as sender:
        for index, device in enumerate([1, "2", 3, 1]):
            await sender.send(event(f"e{index % 3}", device), label=index + 1)
    counts = sender.counts
    assert (counts.accepted, counts.duplicates, counts.rejected) == (2, 1, 1)
    assert [(refusal.label, refusal.event_id) for refusal in sender.refusals] == [(2, "e1")]


async def test_a_batch_that_is_too_large_is_halved_until_the_culprit_stands_alone(bridge: Target) -> None:
    bridge.body_bytes_max = 1000
    async with Sender(bridge.url, batch=8) as sender:
        for index in range(8):
            await sender.send(event(f"e{index}", link="x" * (2000 if index == 5 else 150)), label=index)
    assert bridge.ids() == ["e0", "e1", "e2", "e3", "e4", "e6", "e7"]
    assert [(refusal.label, refusal.code) for refusal in sender.refusals] == [(5, "body_too_large")]


async def test_a_batch_stays_below_the_intakes_limit(bridge: Target) -> None:
    async with Sender(bridge.url, batch=100) as sender:
        for index in range(6):
            await sender.send(event(f"e{index}", link="x" * 400_000))
    assert [body.count(b"\n") for body in bridge.bodies] == [2, 2, 2]
    assert sender.counts.accepted == 6


@pytest.mark.parametrize("batch", [1, 2])
async def test_stopping_lets_what_was_given_be_answered(bridge: Target, batch: int) -> None:
    bridge.held = {"a1"}
    async with Sender(bridge.url, batch=batch, backoff_s=1000) as sender:
        await sender.send(event("a1", 1))
        giving = asyncio.create_task(sender.send(event("a2", 1)))
        await bridge.until_requests(1)
        stopping = asyncio.create_task(sender.stop())
        await asyncio.sleep(0)
        await bridge.let_go("a1")
        await stopping
        await giving
    assert (sender.counts.accepted, sender.counts.unanswered) == (2, 0)


async def test_stopping_does_not_wait_for_the_bridge_to_come_back(bridge: Target) -> None:
    bridge.faults.append((503, {"Retry-After": "50"}))
    async with asyncio.timeout(20), Sender(bridge.url) as sender:
        await sender.send(event("a1"))
        await sender.send(event("a2"))
        while not sender.trouble:
            await asyncio.sleep(0.01)
        await sender.stop()
    assert sender.counts.unanswered == 2
    assert len(bridge.bodies) == 1, "a2 may not come before a1"


async def test_leaving_by_an_exception_abandons_what_waits(bridge: Target) -> None:
    bridge.held = {"a"}

    async def fail(sender: Sender) -> None:
        async with sender:
            await sender.send(event("a"))
            await bridge.until_requests(1)
            raise ZeroDivisionError

    sender = Sender(bridge.url)
    with pytest.raises(ZeroDivisionError):
        await fail(sender)
    assert sender.counts.unanswered == 1
    await bridge.let_go("a")


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/events"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1/events"),
        ("https://bridge.example/v1/events", "https://bridge.example/v1/events"),
        ("https://bridge.example/v1/events/", "https://bridge.example/v1/events"),
        ("https://gateway.example/aventa#x", "https://gateway.example/aventa/v1/events"),
        ("http://[::1]:8080", "http://[::1]:8080/v1/events"),
    ],
)
def test_the_url_may_be_the_base_or_the_whole(url: str, whole: str) -> None:
    assert events_url(url) == whole


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://bridge.example", "http://", "http://me:pw@bridge.example"]
)
def test_a_url_that_cannot_be_sent_to_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must"):
        Sender(url)

"""The two ends of intake for its tests: a recorder in place of the pipeline, and a small translation of events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from bridge.calls.events import CallEvent, EventKind, Pair
from bridge.calls.verdicts import BODY_CHARS_MAX, Fault, Rejection, Verdict
from bridge.intake.auth import Authenticator
from bridge.intake.routes import make_intake_app
from bridge.runtime.clock import now_ms
from bridge.runtime.web import serve
from bridge.store.errors import StoreUnavailable

EVENTS = "/v1/events"


def event(event_id: str, **more: Any) -> dict[str, Any]:
    """An event that `translate` takes, and that is one by contract section 1 too."""
    return {
        "eventId": event_id,
        "type": "call.started",
        "occurredAt": "2026-11-24T10:15:30Z",
        "callId": "call-1",
        "deviceId": 1000,
        "extensionId": 1000,
        "direction": "inbound",
        "calledNumber": "+46846500400",
        **more,
    }


def ndjson(*events: object) -> bytes:
    return b"\n".join(orjson.dumps(each) for each in events)


def translate(value: object, body: str) -> CallEvent | Rejection:
    """Takes objects with an `eventId` and an integer `deviceId`."""
    kept = body[:BODY_CHARS_MAX]
    if not isinstance(value, dict):
        fault = Fault("", "wrong_type", "An event is a JSON object.")
        return Rejection(None, fault.code, fault.detail, (fault,), kept)
    if not isinstance(value.get("deviceId"), int):
        fault = Fault("/deviceId", "wrong_type", "deviceId is a JSON integer.")
        event_id = value.get("eventId")
        return Rejection(event_id, fault.code, "The event has 1 fault.", (fault,), kept)
    pair = Pair(value["deviceId"], value["deviceId"])
    return CallEvent(value["eventId"], EventKind.STARTED, 0, value.get("callId", "call-1"), pair, body=body)


class Recorder:
    """Accepts and rejects like the pipeline, into lists.

    Attributes:
        outages: how many of the next calls fail because the store is away.
        broken: event ids on which accepting fails for no foreseen reason.
        open: while cleared, `accept` waits.
        calls: the ids of each call of `accept` that went through.
    """

    def __init__(self) -> None:
        self.accepted: list[CallEvent] = []
        self.rejected: list[Rejection] = []
        self.calls: list[list[str]] = []
        self.outages, self.reject_outages, self.waiting, self.asked = 0, 0, 0, 0
        self.broken: set[str] = set()
        self.open = asyncio.Event()
        self.open.set()

    @property
    def ids(self) -> list[str]:
        return [each.event_id for each in self.accepted]

    async def accept(self, events: Sequence[CallEvent]) -> list[Verdict]:
        self.asked += 1
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        if self.outages:
            self.outages -= 1
            raise StoreUnavailable("the store is away", retry_after_s=0)
        if self.broken & {each.event_id for each in events}:
            raise RuntimeError("an unforeseen fault")
        seen = set(self.ids)
        self.calls.append([each.event_id for each in events])
        self.accepted += [each for each in events if each.event_id not in seen]
        return [Verdict.DUPLICATE if each.event_id in seen else Verdict.ACCEPTED for each in events]

    async def reject(self, rejections: Sequence[Rejection]) -> None:
        if self.reject_outages:
            self.reject_outages -= 1
            raise StoreUnavailable("the store is away", retry_after_s=0)
        self.rejected += rejections


@asynccontextmanager
async def intake(
    recorder: Recorder,
    *,
    tokens: Sequence[str] = (),
    webhook_secrets: Sequence[str] = (),
    **changes: Any,
) -> AsyncIterator[str]:
    """The listener, served on a free port; gives its base URL."""
    options: dict[str, Any] = {
        "authenticator": Authenticator(tokens, webhook_secrets, now_s=lambda: now_ms() / 1000),
        "translate": translate,
        "accept": recorder.accept,
        "reject": recorder.reject,
        "body_bytes_max": 64 * 1024,
        "events_max": 5,
        "draining": lambda: False,
        **changes,
    }
    runner, port = await serve(make_intake_app(**options), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    """Returns once `condition` holds; the time limit only keeps a broken test from hanging."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.002)


JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
Answer = tuple[int, Any]
Post = Callable[..., Awaitable[Answer]]


@asynccontextmanager
async def posting(recorder: "Recorder") -> AsyncIterator[Post]:
    """An intake, and a function that posts a body to it and returns status and JSON, having checked what every answer
    must be."""
    async with intake(recorder) as url, aiohttp.ClientSession(url) as session:

        async def post(body: bytes, headers: dict[str, str] = JSON) -> Answer:
            async with session.post(EVENTS, data=body, headers=headers) as response:
                answer = orjson.loads(await response.read())
                assert response.headers["Cache-Control"] == "no-store"
                if response.status < 400:
                    assert response.content_type == "application/json"
                else:
                    assert response.content_type == "application/problem+json"
                    assert answer["status"] == response.status
                    assert answer["type"].endswith(answer["code"])
                return response.status, answer

        yield post


def summary(results: list[dict[str, Any]]) -> list[tuple[str | None, str]]:
    return [(each["eventId"], each["result"]) for each in results]

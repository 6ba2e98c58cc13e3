"""A small bridge to send to: takes events as contract section 3 says, keeps what it took, and misbehaves on demand."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from bridge.runtime.clock import monotonic
from bridge.runtime.web import Problem, bearer_token, json_response, problems, serve


class Target:
    """The bridge, as a sender sees it.

    Attributes:
        url: its base URL.
        events: the distinct events it took, in that order.
        bodies, came_at: every request's body and its time (monotonic seconds), in the order they came.
        faults: what the next requests meet instead: a status with headers, or "reset".
        token: the one it wants, or None.
        held: event ids that are answered only once they are taken out of here.
        open_now, open_most: requests being worked on, and the most there were at once.
        body_bytes_max: above this, 413.
    """

    def __init__(self) -> None:
        self.url = ""
        self.events: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.came_at: list[float] = []
        self.faults: deque[tuple[int, dict[str, str]] | str] = deque()
        self.token: str | None = None
        self.held: set[str] = set()
        self.open_now = self.open_most = 0
        self.body_bytes_max = 1024 * 1024
        self._seen: set[str] = set()
        self._changed = asyncio.Condition()

    def ids(self) -> list[str]:
        return [event["eventId"] for event in self.events]

    async def let_go(self, *event_ids: str) -> None:
        """Answers what was held."""
        async with self._changed:
            self.held -= set(event_ids)
            self._changed.notify_all()

    async def until_requests(self, number: int) -> None:
        """Waits for `number` request bodies in all."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(self.bodies) >= number)

    async def post_events(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            async with self._changed:
                self.bodies.append(body)
                self.came_at.append(monotonic())
                self._changed.notify_all()
                await self._changed.wait_for(lambda: not any(name.encode() in body for name in self.held))
            return self._answer(request, body)
        finally:
            self.open_now -= 1

    def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        if self.token is not None and bearer_token(request.headers) != self.token:
            raise Problem(401, "unauthorised", "A token is needed.")
        if self.faults:
            fault = self.faults.popleft()
            if isinstance(fault, str):
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            raise Problem(fault[0], "told_to", "It was told to misbehave.", headers=fault[1])
        if len(body) > self.body_bytes_max:
            raise Problem(413, "body_too_large", "The body is too large.")
        if request.content_type == "application/x-ndjson":
            return json_response({"results": [self._take(line) for line in body.splitlines()]}, status=207)
        result = self._take(body)
        if result["result"] == "rejected":
            raise Problem(422, result["code"], result["detail"], errors=result["errors"])
        return json_response(result, status=202 if result["result"] == "accepted" else 200)

    def _take(self, text: bytes) -> dict[str, Any]:
        event = orjson.loads(text)
        name = event.get("eventId")
        if type(event.get("deviceId")) is not int:
            fault = {"pointer": "/deviceId", "code": "wrong_type", "detail": "deviceId is a JSON integer."}
            code, detail = "invalid_event", "The event has 1 fault."
            return {"eventId": name, "result": "rejected", "code": code, "detail": detail, "errors": [fault]}
        if name in self._seen:
            return {"eventId": name, "result": "duplicate"}
        self._seen.add(name)
        self.events.append(event)
        return {"eventId": name, "result": "accepted"}


@asynccontextmanager
async def target() -> AsyncIterator[Target]:
    """A running `Target` on a free port of loopback."""
    it = Target()
    app = web.Application(middlewares=[problems], client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/events", it.post_events)
    runner, port = await serve(app, "127.0.0.1", 0)
    it.url = f"http://127.0.0.1:{port}"
    try:
        yield it
    finally:
        await runner.cleanup()

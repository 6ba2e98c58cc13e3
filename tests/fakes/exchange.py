"""An exchange that serves its events as a feed, and the feed reader that follows it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from aiohttp import web

from bridge.intake.feed import Feed, FeedKind
from tests.fakes.intake import Recorder, translate

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KINDS: list[FeedKind] = ["websocket", "sse", "ndjson"]
SSE = {"Content-Type": "text/event-stream"}
LIMIT = 1000


class Exchange:
    """A server with a feed at `/feed`, a new connection each time it is asked.

    Attributes:
        scripts: what each connection does in turn; the last one is repeated. A script gets `send`, which takes one
            message in whatever way the feed's kind sends it.
        requests: the headers of each connection.
        open: connections that are being served.
    """

    def __init__(self, kind: FeedKind, *scripts: Callable[["Line"], Awaitable[None]]) -> None:
        self.kind, self.scripts = kind, list(scripts)
        self.requests: list[dict[str, str]] = []
        self.open = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        script = self.scripts[min(len(self.requests), len(self.scripts) - 1)]
        self.requests.append(dict(request.headers))
        response: web.WebSocketResponse | web.StreamResponse
        if self.kind == "websocket":
            response = web.WebSocketResponse()
        else:
            response = web.StreamResponse(
                headers=SSE if self.kind == "sse" else {"Content-Type": "application/x-ndjson"}
            )
        await response.prepare(request)
        self.open += 1
        try:
            await script(Line(self.kind, response))
        finally:
            self.open -= 1
        if isinstance(response, web.WebSocketResponse):
            await response.close()
        return response


class Line:
    """One connection, from the exchange's side."""

    def __init__(self, kind: FeedKind, response: web.WebSocketResponse | web.StreamResponse) -> None:
        self.kind, self.response = kind, response

    async def send(self, *events: object) -> None:
        for each in events:
            await self.raw(each if isinstance(each, bytes) else orjson.dumps(each))

    async def raw(self, message: bytes) -> None:
        if isinstance(self.response, web.WebSocketResponse):
            await self.response.send_str(message.decode())
        elif self.kind == "sse":
            await self.response.write(b"data: " + message + b"\n\n")
        else:
            await self.response.write(message + b"\n")

    async def stay(self) -> None:
        """Keeps the connection until the other side ends it."""
        if isinstance(self.response, web.WebSocketResponse):
            async for _ in self.response:
                pass
        else:
            with suppress(ConnectionError):
                while True:
                    await asyncio.sleep(0.01)
                    await self.response.write(b":\n" if self.kind == "sse" else b"\n")

    def drop(self) -> None:
        """Cuts the connection without a word."""
        transport = self.response._req.transport if self.response._req else None
        assert transport is not None
        transport.abort()


@asynccontextmanager
async def serving(handlers: dict[str, Handler]) -> AsyncIterator[str]:
    app = web.Application()
    for path, handler in handlers.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def unstarted(recorder: Recorder, kind: FeedKind, url: str, **changes: Any) -> Feed:
    options: dict[str, Any] = {
        "token": None,
        "translate": translate,
        "accept": recorder.accept,
        "reject": recorder.reject,
        "schedule_s": (0.01,),
        "message_bytes_max": LIMIT,
        **changes,
    }
    return Feed(kind=kind, url=url, **options)


@asynccontextmanager
async def following(recorder: Recorder, kind: FeedKind, url: str, **changes: Any) -> AsyncIterator[Feed]:
    feed = unstarted(recorder, kind, url, **changes)
    assert (feed.state, feed.last_event_at) == ("stopped", None)
    running = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert feed.state == "stopped"


@asynccontextmanager
async def fed(recorder: Recorder, exchange: Exchange, **changes: Any) -> AsyncIterator[Feed]:
    async with (
        serving({"/feed": exchange.serve}) as url,
        following(recorder, exchange.kind, f"{url}/feed", **changes) as feed,
    ):
        yield feed

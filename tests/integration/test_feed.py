"""Feeds against real servers: each kind, reconnecting, back-pressure, what is too long or unreadable, the token."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from bridge.calls.events import CallEvent
from bridge.calls.verdicts import Rejection
from bridge.intake.feed import Feed, FeedKind
from tests.fakes.intake import Recorder, event, ndjson, translate, until

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KINDS: list[FeedKind] = ["websocket", "sse", "ndjson"]
SSE = {"Content-Type": "text/event-stream"}
LIMIT = 1000


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


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


# Reading


@pytest.mark.parametrize("kind", KINDS)
async def test_events_come_in_order_with_their_text(recorder: Recorder, kind: FeedKind) -> None:
    async def script(line: Line) -> None:
        await line.send(*(event(f"e-{number}", name="Åsa") for number in range(200)))
        await line.send([event("a-1"), event("a-2", deviceId="x"), event("a-3")])
        await line.stay()

    exchange = Exchange(kind, script)
    async with fed(recorder, exchange) as feed:
        await until(lambda: len(recorder.rejected) == 1)
        assert recorder.ids == [*(f"e-{number}" for number in range(200)), "a-1", "a-3"]
        assert recorder.accepted[0].body == orjson.dumps(event("e-0", name="Åsa")).decode()
        assert [(each.event_id, each.code) for each in recorder.rejected] == [("a-2", "wrong_type")]
        assert feed.state == "connected"
        await until(lambda: feed.last_event_at is not None)
    assert "Authorization" not in exchange.requests[0]


async def test_binary_websocket_messages(recorder: Recorder) -> None:
    async def script(line: Line) -> None:
        assert isinstance(line.response, web.WebSocketResponse)
        await line.response.send_bytes(orjson.dumps(event("e-1")))
        await line.response.send_bytes(b"caf\xe9")
        await line.send(event("e-2"))
        await line.stay()

    async with fed(recorder, Exchange("websocket", script)):
        await until(lambda: recorder.ids == ["e-1", "e-2"])
    assert [(each.code, each.body) for each in recorder.rejected] == [("unreadable_json", "caf�")]


@pytest.mark.parametrize("kind", KINDS)
async def test_unreadable_and_overlong_messages_cost_only_themselves(recorder: Recorder, kind: FeedKind) -> None:
    async def script(line: Line) -> None:
        await line.send(
            event("e-1"), b'{"eventId":', b'"text"', orjson.dumps(event("e-2", x="x" * LIMIT)), event("e-3")
        )
        await line.stay()

    exchange = Exchange(kind, script)
    async with fed(recorder, exchange):
        await until(lambda: recorder.ids == ["e-1", "e-3"] and len(recorder.rejected) == 3)
    assert [each.code for each in recorder.rejected] == ["unreadable_json", "wrong_type", "message_too_large"]
    assert recorder.rejected[0].body == '{"eventId":'
    assert (recorder.rejected[2].body or "").startswith('{"eventId":"e-2"')
    assert len(exchange.requests) == 1  # on one connection


@pytest.mark.parametrize(("sent", "code"), [(b"x" * LIMIT * 5, "message_too_large"), (b"\xff", "unreadable_json")])
async def test_a_websocket_message_that_breaks_the_connection_is_kept(
    recorder: Recorder, sent: bytes, code: str
) -> None:
    async def first(line: Line) -> None:
        assert isinstance(line.response, web.WebSocketResponse)
        await line.send(event("e-1"))
        assert line.response._writer is not None
        await line.response._writer.send_frame(sent, aiohttp.WSMsgType.TEXT)
        await line.stay()

    async def second(line: Line) -> None:
        await line.send(event("e-2"))
        await line.stay()

    async with fed(recorder, Exchange("websocket", first, second)):
        await until(lambda: recorder.ids == ["e-1", "e-2"])
    assert [each.code for each in recorder.rejected] == [code]


async def test_ndjson_blank_lines_and_a_last_line_without_end(recorder: Recorder) -> None:
    async def script(line: Line) -> None:
        await line.response.write(b"\n  \r\n" + ndjson(event("e-1")) + b"\r\n\n" + ndjson(event("e-2")))

    async with fed(recorder, Exchange("ndjson", script)):
        await until(lambda: recorder.ids == ["e-1", "e-2"])
    assert recorder.rejected == []


async def test_sse_names_comments_and_keepalives(recorder: Recorder) -> None:
    async def script(line: Line) -> None:
        await line.response.write(
            b": a comment\n\nevent: ping\ndata: {}\n\nevent: heartbeat\ndata: now\n\nevent: call.started\n"
            + b"".join(b"data: " + part + b"\r\n" for part in orjson.dumps(event("e-1"), option=2).splitlines())
            + b"\r\n"
        )
        await line.stay()

    async with fed(recorder, Exchange("sse", script)):
        await until(lambda: recorder.ids == ["e-1"])
    assert recorder.rejected == []
    assert orjson.loads(recorder.accepted[0].body or "") == event("e-1")


# Connecting again


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("abruptly", [False, True])
async def test_it_connects_again(recorder: Recorder, kind: FeedKind, abruptly: bool) -> None:
    async def first(line: Line) -> None:
        await line.send(event("e-1"))
        await until(lambda: recorder.ids == ["e-1"])
        if abruptly:
            line.drop()

    async def second(line: Line) -> None:
        await line.send(event("e-1"), event("e-2"))
        await line.stay()

    exchange = Exchange(kind, first, second)
    async with fed(recorder, exchange, token="secret"):
        await until(lambda: recorder.ids == ["e-1", "e-2"])
    assert [each["Authorization"] for each in exchange.requests] == ["Bearer secret"] * 2
    assert recorder.rejected == []


async def test_sse_resumes_after_the_last_event(recorder: Recorder) -> None:
    async def first(line: Line) -> None:
        await line.response.write(b"id: 41\ndata: " + ndjson(event("e-1")) + b"\n\nid: 42\ndata: unfinished\n")

    async def second(line: Line) -> None:
        await line.send(event("e-2"))
        await line.stay()

    exchange = Exchange("sse", first, second)
    async with fed(recorder, exchange):
        await until(lambda: recorder.ids == ["e-1", "e-2"])
    assert "Last-Event-ID" not in exchange.requests[0]
    assert exchange.requests[1]["Last-Event-ID"] == "41"
    assert exchange.requests[1]["Accept"] == "text/event-stream"


def test_the_pauses_grow_and_the_servers_wish_counts(recorder: Recorder) -> None:
    def feed(*schedule_s: float) -> Feed:
        return unstarted(recorder, "sse", "http://127.0.0.1/", schedule_s=schedule_s)

    def pause(feed: Feed, failures: int, asked_s: float = 0) -> float:
        feed._failures = failures
        return feed._pause_s(asked_s)

    plain = feed(1, 5, 30)
    for failures, step in ((0, 1), (1, 5), (2, 30), (9, 30)):
        pauses = {pause(plain, failures) for _ in range(20)}
        assert all(step <= each <= step * 1.5 for each in pauses)
        assert len(pauses) > 1  # jittered
    assert 60 <= pause(plain, 0, asked_s=60) <= 90  # Retry-After
    assert pause(plain, 0, asked_s=999_999) <= 450  # but within reason
    plain._sse_parser.retry_ms = 3000
    assert 3 <= pause(plain, 0) <= 4.5
    assert 5 <= pause(plain, 1) <= 7.5
    plain._sse_parser.retry_ms = 0
    assert 0.05 <= pause(plain, 0) <= 0.075  # no tight loop
    assert 500 <= pause(feed(500), 0) <= 750  # the schedule itself is the operator's


async def test_the_sse_retry_field_is_honoured(recorder: Recorder) -> None:
    async def script(line: Line) -> None:
        await line.response.write(b"retry: 60\n\ndata: " + ndjson(event("e-1")) + b"\n\n")

    exchange = Exchange("sse", script)
    async with fed(recorder, exchange, schedule_s=(600,)):
        await until(lambda: len(exchange.requests) == 2)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_is_not_there_yet(recorder: Recorder, kind: FeedKind) -> None:
    async with serving({}) as url:
        pass

    async with following(recorder, kind, f"{url}/feed") as feed:
        await until(lambda: feed._failures > 2)
        assert feed.state == "connecting"
        assert feed.last_event_at is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [204, 401, 404, 500, 503])
async def test_another_status_is_tried_again(recorder: Recorder, kind: FeedKind, status: int) -> None:
    exchange = Exchange(kind, Line.stay)
    asked = 0

    async def refusing_once(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=status) if asked == 1 else await exchange.serve(request)

    async with serving({"/feed": refusing_once}) as url, following(recorder, kind, f"{url}/feed") as feed:
        await until(lambda: feed.state == "connected")
    assert asked == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_retry_after_is_honoured(recorder: Recorder, kind: FeedKind) -> None:
    asked: list[float] = []

    async def busy(_request: web.Request) -> web.Response:
        asked.append(asyncio.get_running_loop().time())
        return web.Response(status=503, headers={"Retry-After": "1"})

    async with serving({"/feed": busy}) as url, following(recorder, kind, f"{url}/feed"):
        await until(lambda: len(asked) == 2)
    assert asked[1] - asked[0] >= 1


@pytest.mark.parametrize(
    ("kind", "content_type"), [("sse", "application/json"), ("sse", "text/html"), ("ndjson", "text/html")]
)
async def test_a_page_is_not_taken_for_a_feed(recorder: Recorder, kind: FeedKind, content_type: str) -> None:
    asked = 0

    async def page(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(text="data: x\n\n<html>\n", content_type=content_type)

    async with serving({"/feed": page}) as url, following(recorder, kind, f"{url}/feed"):
        await until(lambda: asked > 1)
    assert recorder.rejected == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(recorder: Recorder, kind: FeedKind, status: int) -> None:
    elsewhere, asked = Exchange(kind, Line.stay), 0

    async def moved(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=status, headers={"Location": str(request.url.with_path("/elsewhere"))})

    async with (
        serving({"/feed": moved, "/elsewhere": elsewhere.serve}) as url,
        following(recorder, kind, f"{url}/feed", token="secret"),
    ):
        await until(lambda: asked > 2)
    assert elsewhere.requests == []


# Silence


@pytest.mark.parametrize("kind", KINDS)
async def test_a_silent_connection_is_given_up(recorder: Recorder, kind: FeedKind) -> None:
    async def silent(_line: Line) -> None:
        await asyncio.Event().wait()  # answers no ping either, since nobody reads

    async def talking(line: Line) -> None:
        await line.send(event("e-1"))
        await line.stay()

    exchange = Exchange(kind, silent, talking)
    async with fed(recorder, exchange, idle_timeout_s=0.1, heartbeat_s=0.05):
        await until(lambda: recorder.ids == ["e-1"])


async def test_a_websocket_whose_pings_are_answered_is_kept(recorder: Recorder) -> None:
    pings = 0

    async def quiet(line: Line) -> None:
        nonlocal pings
        assert isinstance(line.response, web.WebSocketResponse)
        while pings < 5:
            message = await line.response.receive()
            assert message.type is aiohttp.WSMsgType.PING
            pings += 1
            await line.response.pong(message.data)
        await line.send(event("e-1"))
        await line.stay()

    exchange = Exchange("websocket", quiet)

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(autoping=False)
        await response.prepare(request)
        exchange.requests.append({})
        await quiet(Line("websocket", response))
        return response

    async with (
        serving({"/feed": handler}) as url,
        following(recorder, "websocket", f"{url}/feed", heartbeat_s=0.05),
    ):
        await until(lambda: recorder.ids == ["e-1"])
    assert len(exchange.requests) == 1


async def test_a_servers_pings_are_answered(recorder: Recorder) -> None:
    async def script(line: Line) -> None:
        assert isinstance(line.response, web.WebSocketResponse)
        await line.response.ping(b"are you there")
        message = await line.response.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"are you there")
        await line.send(event("e-1"))
        await line.stay()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(autoping=False)
        await response.prepare(request)
        await script(Line("websocket", response))
        return response

    async with serving({"/feed": handler}) as url, following(recorder, "websocket", f"{url}/feed"):
        await until(lambda: recorder.ids == ["e-1"])


# The store away, faults of ours


@pytest.mark.parametrize("kind", KINDS)
async def test_the_store_away_loses_and_doubles_nothing(recorder: Recorder, kind: FeedKind) -> None:
    async def script(line: Line) -> None:
        await line.send(*(event(f"e-{number}", deviceId="x" if number == 3 else 1) for number in range(20)))
        await line.stay()

    recorder.outages, recorder.reject_outages = 7, 3
    async with fed(recorder, Exchange(kind, script)):
        await until(lambda: len(recorder.ids) == 19 and len(recorder.rejected) == 1)
    assert recorder.ids == [f"e-{number}" for number in range(20) if number != 3]
    assert recorder.asked > 7


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_read_survives_the_end_of_its_connection(recorder: Recorder, kind: FeedKind) -> None:
    """The store is away while the server sends its last events and hangs up."""

    async def script(line: Line) -> None:
        await line.send(event("e-1"), event("e-2"), event("e-3"))

    recorder.open.clear()
    exchange = Exchange(kind, script, Line.stay)
    async with fed(recorder, exchange):
        await until(lambda: len(exchange.requests) == 2)
        recorder.open.set()
        await until(lambda: recorder.ids == ["e-1", "e-2", "e-3"])


@pytest.mark.parametrize("kind", KINDS)
async def test_reading_is_paced_by_accepting(recorder: Recorder, kind: FeedKind) -> None:
    """While the store is away the server can send only what the buffers between take, however much it has."""
    sent, total = 0, 30_000

    async def script(line: Line) -> None:
        nonlocal sent
        for number in range(total):
            await line.send(event(f"e-{number}", x="x" * 800))
            sent += 1
        await line.stay()

    async def stuck() -> bool:
        """Nothing moves in a hundred turns of the loop with a moment each."""
        before = sent
        for _ in range(100):
            await asyncio.sleep(0.001)
        return sent == before

    recorder.open.clear()
    async with fed(recorder, Exchange(kind, script)) as feed:
        async with asyncio.timeout(30):
            await until(lambda: sent > 0)
            while not await stuck():
                pass
        assert 0 < sent < total
        assert feed._queue.full()
        assert feed.state == "connected"
        stopped_at = sent
        recorder.open.set()
        await until(lambda: sent > stopped_at)


async def test_a_websocket_that_is_not_being_read_is_not_taken_for_dead(recorder: Recorder) -> None:
    """The store is away for several heartbeats, with more sent than is read ahead: nothing of it may be dropped."""

    async def script(line: Line) -> None:
        await line.send(*(event(f"e-{number}", x="x" * 700) for number in range(5000)))
        await line.stay()

    recorder.open.clear()
    exchange = Exchange("websocket", script)
    loop = asyncio.get_running_loop()
    async with fed(recorder, exchange, heartbeat_s=0.05) as feed:
        await until(feed._queue.full)
        full_at = loop.time()
        await until(lambda: loop.time() > full_at + 0.5)
        recorder.open.set()
        await until(lambda: len(recorder.ids) == 5000)
    assert recorder.ids == [f"e-{number}" for number in range(5000)]
    assert len(exchange.requests) == 1


async def test_a_fault_of_ours_costs_one_event_and_is_kept(recorder: Recorder) -> None:
    async def script(line: Line) -> None:
        await line.send([event(f"e-{number}") for number in range(5)], event("e-5"))
        await line.stay()

    recorder.broken = {"e-2"}
    async with fed(recorder, Exchange("ndjson", script)):
        await until(lambda: "e-5" in recorder.ids)
    assert recorder.ids == ["e-0", "e-1", "e-3", "e-4", "e-5"]
    [rejection] = recorder.rejected
    assert (rejection.event_id, rejection.code) == ("e-2", "internal_error")
    assert orjson.loads(rejection.body or "") == event("e-2")


async def test_a_translation_that_fails_costs_one_message(recorder: Recorder) -> None:
    async def script(line: Line) -> None:
        await line.send(event("e-1"), event("e-2"))
        await line.stay()

    def failing(value: object, body: str) -> CallEvent | Rejection:
        if "e-1" in body:
            raise RuntimeError("an unforeseen fault")
        return translate(value, body)

    async with fed(recorder, Exchange("sse", script), translate=failing):
        await until(lambda: recorder.ids == ["e-2"])
    assert [(each.code, orjson.loads(each.body or "")) for each in recorder.rejected] == [
        ("internal_error", event("e-1"))
    ]

"""A feed's connections: made again after every way they can end, resumed, given up when silent; never redirected."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from bridge.intake.feed import Feed, FeedKind
from tests.fakes.exchange import KINDS, Exchange, Line, fed, following, serving, unstarted
from tests.fakes.intake import Recorder, event, ndjson, until


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


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


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_brought_something_starts_the_pauses_anew(recorder: Recorder, kind: FeedKind) -> None:
    async def script(line: Line) -> None:
        await line.send(event("e-1"))

    exchange = Exchange(kind, script)
    async with fed(recorder, exchange, schedule_s=(0.01, 600)):
        await until(lambda: len(exchange.requests) == 4)


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

"""What a feed brings, of each kind: order, text, what is unreadable or too long, the store away, faults of ours."""

import asyncio

import aiohttp
import orjson
import pytest
from aiohttp import web

from bridge.calls.events import CallEvent
from bridge.calls.verdicts import Rejection
from bridge.intake.feed import FeedKind
from tests.fakes.exchange import KINDS, LIMIT, Exchange, Line, fed
from tests.fakes.intake import Recorder, event, ndjson, translate, until


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


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

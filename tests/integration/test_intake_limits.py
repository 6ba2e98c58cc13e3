"""The listener's limits and authentication on real sockets: sizes, framing, compression, slow senders, draining."""

import asyncio
import base64
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
import pytest
from standardwebhooks import Webhook
from yarl import URL

from bridge.runtime.clock import now, now_ms
from tests.fakes.intake import EVENTS, Recorder, event, intake, ndjson, until

JSON = {"Content-Type": "application/json"}
SECRET = "whsec_" + base64.b64encode(b"a key of twenty-four byt").decode()
LIMIT = 64 * 1024
GOOD = orjson.dumps(event("e-1"))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


class Connection:
    """A socket to the listener, to write what no HTTP client would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, *lines: str) -> None:
        await self.send("\r\n".join([f"POST {EVENTS} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode())

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers in lower case, and the JSON of the body."""
        async with asyncio.timeout(30):
            top = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in top[1:] if line)
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return int(top[0].split(" ")[1]), headers, orjson.loads(body) if body else None

    async def closed(self) -> bool:
        async with asyncio.timeout(30):
            return await self._reader.read() == b""


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def signed(body: bytes, *, at: datetime | None = None) -> dict[str, str]:
    at = at or now()
    return {
        **JSON,
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", at, body.decode()),
    }


# Sizes


async def test_a_declared_length_over_the_limit_is_refused_unread(recorder: Recorder) -> None:
    async with intake(recorder) as url, connect(url) as connection:
        await connection.head("Content-Type: application/json", f"Content-Length: {LIMIT + 1}")
        status, headers, answer = await connection.answer()  # no byte of the body was sent
        assert headers["connection"] == "close"
        await connection.send(b" " * (LIMIT + 1))  # it is not read, but drained, so that the answer gets through
        assert await connection.closed()
    assert (status, answer["code"]) == (413, "body_too_large")
    assert headers["content-type"].startswith("application/problem+json")
    assert str(LIMIT) in answer["detail"]
    assert [(each.code, each.body) for each in recorder.rejected] == [("body_too_large", None)]


async def test_chunks_over_the_limit_are_refused_while_they_come(recorder: Recorder) -> None:
    async with intake(recorder) as url, connect(url) as connection:
        await connection.head("Content-Type: application/json", "Transfer-Encoding: chunked")
        for _ in range(LIMIT // 8192 + 1):
            await connection.send(b"2000\r\n" + b"x" * 8192 + b"\r\n")
        status, _, answer = await connection.answer()  # the last chunk was never sent
        await connection.send(b"0\r\n\r\n")
        assert await connection.closed()
    assert (status, answer["code"]) == (413, "body_too_large")
    [rejection] = recorder.rejected
    assert rejection.code == "body_too_large"
    assert rejection.body is not None
    assert set(rejection.body) == {"x"}


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_exactly_the_limit_is_read(recorder: Recorder, chunked: bool) -> None:
    body = GOOD[:-1] + b" " * (LIMIT - len(GOOD)) + b"}"
    assert len(body) == LIMIT

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, LIMIT, 5000):
            yield body[at : at + 5000]

    async with (
        intake(recorder) as url,
        aiohttp.ClientSession(url) as session,
        session.post(EVENTS, data=chunks() if chunked else body, headers=JSON) as response,
    ):
        assert response.status == 202


async def test_a_body_that_will_be_refused_is_not_asked_for(recorder: Recorder) -> None:
    """`Expect: 100-continue`, as curl sends it before large bodies."""
    async with intake(recorder, tokens=["t"]) as url:
        for lines, expected in (
            (["Content-Length: 100"], 401),
            (["Authorization: Bearer t", f"Content-Length: {LIMIT + 1}"], 413),
        ):
            async with connect(url) as connection:
                await connection.head("Content-Type: application/json", "Expect: 100-continue", *lines)
                assert (await connection.answer())[0] == expected
        async with connect(url) as connection:
            await connection.head(
                "Content-Type: application/json",
                "Expect: 100-continue",
                "Authorization: Bearer t",
                f"Content-Length: {len(GOOD)}",
            )
            assert (await connection.answer())[0] == 100
            await connection.send(GOOD)
            assert (await connection.answer())[0] == 202


# Compression


async def test_gzip_is_inflated(recorder: Recorder) -> None:
    lines = gzip.compress(ndjson(event("e-1"), event("e-2")))
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    async with (
        intake(recorder) as url,
        aiohttp.ClientSession(url) as session,
        session.post(EVENTS, data=lines, headers=headers) as response,
    ):
        assert response.status == 207
    assert recorder.ids == ["e-1", "e-2"]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_bomb_is_refused_at_the_limit_of_what_it_inflates_to(recorder: Recorder, chunked: bool) -> None:
    deflater = zlib.compressobj(9, wbits=31)
    bomb = b"".join(deflater.compress(b" " * (1 << 20)) for _ in range(60)) + deflater.flush()
    assert len(bomb) < LIMIT

    async def chunks() -> AsyncIterator[bytes]:
        yield bomb

    headers = {**JSON, "Content-Encoding": "gzip"}
    async with intake(recorder) as url, aiohttp.ClientSession(url) as session:
        tracemalloc.start()
        try:
            async with session.post(EVENTS, data=chunks() if chunked else bomb, headers=headers) as response:
                answer = orjson.loads(await response.read())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (response.status, answer["code"]) == (413, "body_too_large")
    assert peak < 8 << 20  # of 60 MiB
    assert [(each.code, each.body) for each in recorder.rejected] == [("body_too_large", None)]


@pytest.mark.parametrize(
    "body",
    [gzip.compress(GOOD, mtime=0)[:-12], gzip.compress(GOOD, mtime=0)[:12] + b"\xff" * 40],
    ids=["cut off", "garbled"],
)
async def test_broken_gzip_is_400(recorder: Recorder, body: bytes) -> None:
    async with (
        intake(recorder) as url,
        aiohttp.ClientSession(url) as session,
        session.post(EVENTS, data=body, headers={**JSON, "Content-Encoding": "gzip"}) as response,
    ):
        assert response.status == 400
    assert recorder.accepted == []


@pytest.mark.parametrize("coding", ["deflate", "compress", "gzip, gzip", "rot13"])
async def test_other_codings_are_415(recorder: Recorder, coding: str) -> None:
    async with intake(recorder) as url, connect(url) as connection:
        await connection.head(
            "Content-Type: application/json", f"Content-Encoding: {coding}", f"Content-Length: {len(GOOD)}"
        )
        await connection.send(GOOD)
        status, headers, answer = await connection.answer()
    assert (status, answer["code"]) == (415, "unsupported_encoding")
    assert headers["accept-encoding"] == "gzip, identity"
    assert [(each.code, each.body) for each in recorder.rejected] == [("unsupported_encoding", None)]


# Senders that are slow, break off, or frame wrongly


async def test_a_body_that_does_not_come_is_408(recorder: Recorder) -> None:
    async with intake(recorder, body_timeout_s=0.05, in_flight_max=1) as url:
        async with connect(url) as connection:
            await connection.head("Content-Type: application/json", "Content-Length: 100")
            await connection.send(b'{"eventId"')
            status, headers, answer = await connection.answer()
            assert (status, answer["code"], headers["connection"]) == (408, "body_timeout", "close")
        async with aiohttp.ClientSession(url) as session, session.post(EVENTS, data=GOOD, headers=JSON) as response:
            assert response.status == 202  # its place is free again
    assert recorder.rejected == []


async def test_a_sender_that_goes_away_leaves_nothing(recorder: Recorder) -> None:
    async with intake(recorder, in_flight_max=1) as url, aiohttp.ClientSession(url) as session:
        async with connect(url) as connection:
            await connection.head("Content-Type: application/json", "Content-Length: 100")
            await connection.send(b'{"eventId"')

        async def post() -> int:
            async with session.post(EVENTS, data=GOOD, headers=JSON) as response:
                return response.status

        async with asyncio.timeout(30):
            while (status := await post()) == 429:  # until the loss of the connection is noticed
                pass
    assert status == 202
    assert recorder.rejected == []


async def test_wrong_chunks_hold_a_place_no_longer_than_a_slow_body(recorder: Recorder) -> None:
    """aiohttp does not tell a handler that is reading of wrong framing, so its own time limit has to end it."""
    async with intake(recorder, body_timeout_s=0.05) as url, connect(url) as connection:
        await connection.head("Content-Type: application/json", "Transfer-Encoding: chunked", "Expect: 100-continue")
        assert (await connection.answer())[0] == 100  # the body is being read now
        await connection.send(b"zz\r\n{}\r\n")
        status, _, answer = await connection.answer()
    assert (status, answer["code"]) == (408, "body_timeout")
    assert recorder.rejected == []


# Draining


async def test_draining_sends_events_back_and_closes(recorder: Recorder) -> None:
    async with intake(recorder, draining=lambda: True) as url, connect(url) as connection:
        await connection.head("Content-Type: application/json", f"Content-Length: {len(GOOD)}")
        await connection.send(GOOD)
        status, headers, answer = await connection.answer()
        assert (status, answer["code"]) == (503, "draining")
        assert headers["connection"] == "close"
        assert int(headers["retry-after"]) > 0
        assert await connection.closed()
    assert recorder.asked == 0
    assert recorder.rejected == []


async def test_a_request_under_way_is_finished_while_draining(recorder: Recorder) -> None:
    state = {"draining": False}
    recorder.open.clear()
    async with (
        intake(recorder, draining=lambda: state["draining"]) as url,
        aiohttp.ClientSession(url, headers=JSON) as session,
        asyncio.TaskGroup() as group,
    ):

        async def post() -> int:
            async with session.post(EVENTS, data=GOOD) as response:
                return response.status

        under_way = group.create_task(post())
        await until(lambda: recorder.waiting == 1)
        state["draining"] = True
        assert await post() == 503
        recorder.open.set()
        assert await under_way == 202


# Authentication


async def test_bearer_tokens(recorder: Recorder) -> None:
    async with intake(recorder, tokens=["old", "new"]) as url, aiohttp.ClientSession(url, headers=JSON) as session:
        for token, status in (("old", 202), ("new", 200), ("other", 401)):
            headers = {"Authorization": f"Bearer {token}"}
            async with session.post(EVENTS, data=GOOD, headers=headers) as response:
                assert response.status == status
                answer = orjson.loads(await response.read())
    assert answer["code"] == "bad_token"
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_stranger_leaves_no_trace_and_takes_no_place(recorder: Recorder) -> None:
    """401 comes before every other look at the request, with nothing kept."""
    requests: list[tuple[bytes, dict[str, str]]] = [
        (b"{", JSON),
        (b"x" * LIMIT * 2, JSON),
        (GOOD, {}),
        (b"{", {"Content-Encoding": "x"}),
    ]
    gates = {"tokens": ["t"], "webhook_secrets": [SECRET]}
    async with intake(recorder, **gates, in_flight_max=0) as url, aiohttp.ClientSession(url) as session:
        for body, headers in requests:
            async with session.post(EVENTS, data=body, headers=headers) as response:
                assert response.status == 401
                assert orjson.loads(await response.read())["code"] == "unauthenticated"
    assert recorder.rejected == []


async def test_signatures(recorder: Recorder) -> None:
    invalid = orjson.dumps(event("e-2", deviceId="x"))
    stale = datetime.fromtimestamp(now_ms() / 1000 - 400, UTC)
    async with intake(recorder, webhook_secrets=[SECRET]) as url, aiohttp.ClientSession(url) as session:
        for body, headers, expected in (
            (GOOD, signed(GOOD), (202, None)),
            (GOOD + b" ", signed(GOOD), (401, "bad_signature")),
            (GOOD, signed(GOOD, at=stale), (401, "stale_signature")),
            (GOOD, JSON, (401, "unauthenticated")),
            (invalid, signed(invalid), (422, "invalid_event")),
            (b"{", signed(b"{"), (400, "unreadable_json")),
            (gzip.compress(GOOD), {**signed(GOOD), "Content-Encoding": "gzip"}, (200, None)),
        ):
            async with session.post(EVENTS, data=body, headers=headers) as response:
                answer = orjson.loads(await response.read())
                assert (response.status, answer.get("code")) == expected
    assert [each.code for each in recorder.rejected] == ["wrong_type", "unreadable_json"]


async def test_nothing_is_kept_of_a_body_whose_signature_could_not_be_checked(recorder: Recorder) -> None:
    async with (
        intake(recorder, webhook_secrets=[SECRET]) as url,
        aiohttp.ClientSession(url) as session,
        session.post(EVENTS, data=b"x" * LIMIT * 2, headers=signed(b"")) as response,
    ):
        assert response.status == 413
    assert recorder.rejected == []

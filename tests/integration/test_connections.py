"""Connections that hold their places for nothing, on real sockets: idle, slow, too many, unread; a head's limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson
import pytest
from aiohttp import web

from bridge.runtime.connections import Limits
from bridge.runtime.web import json_response, problems, serve
from tests.fakes.intake import until
from tests.fakes.logs import captured

GET = b"GET /it HTTP/1.1\r\nHost: bridge\r\n\r\n"
LARGE = b"x" * (32 << 20)  # far more than kernels buffer


@dataclass
class Listener:
    """A listener whose `/held` answers once `go` is set, and whose `/large` answers with `LARGE`."""

    runner: web.BaseRunner
    port: int
    go: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def open(self) -> int:
        assert self.runner.server is not None
        return len(self.runner.server.connections)

    @property
    def asked(self) -> int:
        assert self.runner.server is not None
        return self.runner.server.requests_count


@asynccontextmanager
async def listening(limits: Limits) -> AsyncIterator[Listener]:
    async def fine(_request: web.Request) -> web.StreamResponse:
        return json_response({})

    async def held(_request: web.Request) -> web.StreamResponse:
        await listener.go.wait()
        return json_response({})

    async def large(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=LARGE)

    app = web.Application(middlewares=[problems])
    app.router.add_get("/it", fine)
    app.router.add_get("/held", held)
    app.router.add_get("/large", large)
    runner, port = await serve(app, "127.0.0.1", 0, limits)
    listener = Listener(runner, port)
    try:
        yield listener
    finally:
        listener.go.set()
        await runner.cleanup()


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def status(self) -> int:
        """The status of the next answer, which is read to its end."""
        return (await self.answer())[0]

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(30):
            top = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in top[1:] if line)
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return int(top[0].split(" ")[1]), headers, body

    async def rest(self) -> bytes:
        """All that comes until the other end closes."""
        async with asyncio.timeout(30):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    @property
    def ended(self) -> bool:
        return self._reader.at_eof() or self._reader.exception() is not None

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def clients(listener: Listener, number: int = 1) -> AsyncIterator[list[Client]]:
    opened: list[Client] = []
    try:
        for _ in range(number):
            opened.append(Client(*await asyncio.open_connection("127.0.0.1", listener.port)))  # noqa: PERF401 (each is closed, also when a later one fails)
        yield opened
    finally:
        for client in opened:
            client.close()


# Idle, and slow with its head


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET /it HTTP/1.1\r\nHost: bri", GET + b"GET /it HTTP/1.1\r\nX:"])
async def test_without_a_whole_head_a_connection_is_closed(sent: bytes) -> None:
    async with listening(Limits(idle_s=0.05)) as listener, clients(listener) as (client,):
        await client.send(sent)
        if sent.startswith(GET):
            assert await client.status() == 200
        assert await client.rest() == b""
        await until(lambda: listener.open == 0)


async def test_a_head_that_comes_byte_by_byte_gets_no_more_time() -> None:
    async with listening(Limits(idle_s=0.05)) as listener, clients(listener) as (client,):
        await client.send(GET[:-2] + b"X: ")

        async def drip() -> None:
            while not client.ended:
                await client.send(b"x")
                await asyncio.sleep(0.001)

        with suppress(ConnectionError):  # it may be closed between two bytes
            async with asyncio.timeout(30):
                await drip()
        await until(lambda: listener.open == 0)


async def test_a_connection_at_work_is_not_idle() -> None:
    async with listening(Limits(idle_s=0.05)) as listener, clients(listener) as (client,):
        await client.send(GET.replace(b"/it", b"/held"))
        async with clients(listener) as (other,):
            assert await other.rest() == b""  # closed, by when the first had been open for longer
        listener.go.set()
        assert await client.status() == 200


async def test_a_body_that_nobody_asked_for_holds_nothing() -> None:
    async with listening(Limits()) as listener, clients(listener) as (client,):
        await client.send(GET[:-2] + b"Content-Length: 1000000000\r\n\r\n{")
        assert await client.status() == 200
        assert await client.rest() == b""
        await until(lambda: listener.open == 0)


# Too many


async def test_past_the_places_the_longest_idle_gives_way() -> None:
    async with listening(Limits(places=3)) as listener, clients(listener, 3) as (first, second, third):
        for client in (second, first, third):
            await client.send(GET)
            assert await client.status() == 200
        await third.send(GET.replace(b"/it", b"/held"))
        async with clients(listener, 2) as newer:
            assert await second.rest() == await first.rest() == b""
            for client in newer:
                await client.send(GET)
                assert await client.status() == 200
            assert listener.open == 3
        listener.go.set()
        assert await third.status() == 200


async def test_when_every_place_is_at_work_a_new_connection_is_told_so() -> None:
    async with listening(Limits(places=2)) as listener:
        async with clients(listener, 2) as held:
            for client in held:
                await client.send(GET.replace(b"/it", b"/held"))
            async with clients(listener) as (refused,):
                status, headers, body = await refused.answer()
                assert (status, orjson.loads(body)["code"]) == (503, "too_many_connections")
                assert (headers["retry-after"], headers["content-type"]) == ("1", "application/problem+json")
                assert await refused.rest() == b""
            listener.go.set()
            assert [await client.status() for client in held] == [200, 200]
        async with clients(listener) as (again,):
            await again.send(GET)
            assert await again.status() == 200


async def test_silent_connections_shut_nobody_out() -> None:
    async with listening(Limits(places=50)) as listener, clients(listener, 300):
        tasks = len(asyncio.all_tasks())
        async with clients(listener) as (client,):
            await client.send(GET)
            assert await client.status() == 200
        await until(lambda: listener.open <= 50)
        assert tasks < 100


# Answers nobody reads


@pytest.mark.parametrize("requests", [1, 3])
async def test_an_answer_nobody_reads_is_given_up(requests: int) -> None:
    async with listening(Limits(unread_s=0.05)) as listener, clients(listener) as (client,):
        await client.send(GET.replace(b"/it", b"/large") * requests)
        await until(lambda: listener.asked > 0 and listener.open == 0)
        assert len(await client.rest()) < len(LARGE)


async def test_an_answer_that_is_read_may_take_its_time() -> None:
    async with listening(Limits(unread_s=5)) as listener, clients(listener) as (client,):
        await client.send(GET.replace(b"/it", b"/large"))
        assert len((await client.answer())[2]) == len(LARGE)
        await client.send(GET)
        assert await client.status() == 200


# The head's limits


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /it?%b HTTP/1.1\r\nHost: b\r\n\r\n" % (b"x" * 8000), 200),
        (b"GET /it?%b HTTP/1.1\r\nHost: b\r\n\r\n" % (b"x" * 8190), 400),
        (b"GET /it HTTP/1.1\r\nHost: b\r\nX: %b\r\n\r\n" % (b"x" * 8000), 200),
        (b"GET /it HTTP/1.1\r\nHost: b\r\nX: %b\r\n\r\n" % (b"x" * 8191), 400),
        (b"GET /it HTTP/1.1\r\nHost: b\r\n%b: x\r\n\r\n" % (b"x" * 8191), 400),
        (b"GET /it HTTP/1.1\r\nHost: b\r\n%b\r\n" % (b"X: x\r\n" * 127), 200),
        (b"GET /it HTTP/1.1\r\nHost: b\r\n%b\r\n" % (b"X: x\r\n" * 128), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
        (bytes(range(256)) * 100, 400),
    ],
)
async def test_the_limits_of_a_head(head: bytes, status: int) -> None:
    async with listening(Limits()) as listener, clients(listener) as (client,):
        await client.send(head)
        answered, headers, body = await client.answer()
        assert answered == status
        if status == 400:
            assert headers["content-type"] == "application/problem+json"
            assert orjson.loads(body)["code"] == "malformed_request"
            assert await client.rest() == b""


# What is said of it in the log


async def test_garbage_fills_no_log() -> None:
    with captured() as lines:
        async with listening(Limits()) as listener:
            for number in range(20):
                async with clients(listener) as (client,):
                    await client.send(b"GET /it HTTP/1.1\r\nHost: b\r\nX-%d: s3cret\x00\r\n\r\n" % number)
                    assert await client.status() == 400
    (line,) = [orjson.loads(line) for line in lines]
    assert (line["event"], line["error"], line["requests"]) == ("not HTTP", "BadHttpMessage", 1)


@pytest.mark.parametrize(
    "sent",
    [
        GET[:20],
        GET[:-2] + b"Content-Length: 1000\r\n\r\n{",
        GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab",
        GET.replace(b"/it", b"/large"),
    ],
)
async def test_a_peer_that_goes_away_is_no_news(sent: bytes) -> None:
    with captured() as lines:
        async with listening(Limits()) as listener:
            async with clients(listener) as (client,):
                await client.send(sent)
                await until(lambda: listener.open == 1)
            await until(lambda: listener.open == 0)
    assert [line for line in lines if orjson.loads(line)["event"] != "not HTTP"] == []

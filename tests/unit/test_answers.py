"""An answer that leaves in one piece reads like the one that aiohttp composes."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from bridge.runtime.answers import JsonAnswer
from bridge.runtime.web import serve

CONTENT = '{"name":"å"}'.encode()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a listener whose `/it` answers `CONTENT` with 207."""

    async def it(_request: web.Request) -> web.StreamResponse:
        return JsonAnswer({"name": "å"}, 207)

    app = web.Application()
    app.router.add_get("/it", it)
    runner, port = await serve(app, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await runner.cleanup()


async def head_of(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    async with asyncio.timeout(30):
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    return status, dict(line.split(": ", 1) for line in lines)


async def test_a_connection_that_stays_is_answered_as_aiohttp_answers_one_that_closes() -> None:
    async with connected() as (reader, writer):
        answers = []
        for connection in ("keep-alive", "keep-alive", "close"):
            writer.write(f"GET /it HTTP/1.1\r\nHost: bridge\r\nConnection: {connection}\r\n\r\n".encode())
            status, fields = await head_of(reader)
            assert await reader.readexactly(int(fields["Content-Length"])) == CONTENT
            assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", fields.pop("Date"))
            answers.append((status, fields))
        async with asyncio.timeout(30):
            assert await reader.read() == b"", "the connection is closed"
    first, second, (status, fields) = answers
    assert status == "HTTP/1.1 207 Multi-Status"
    assert fields.pop("Connection") == "close"
    assert first == second == (status, fields)


@pytest.mark.parametrize(
    ("request_line", "more", "content"),
    [("HEAD /it HTTP/1.1", "Host: bridge\r\n", b""), ("GET /it HTTP/1.0", "Connection: keep-alive\r\n", CONTENT)],
)
async def test_what_needs_another_head_gets_it_and_the_connection_stays(
    request_line: str, more: str, content: bytes
) -> None:
    async with connected() as (reader, writer):
        for _ in range(2):
            writer.write(f"{request_line}\r\n{more}\r\n".encode())
            status, fields = await head_of(reader)
            assert status == f"{request_line[-8:]} 207 Multi-Status"
            assert fields["Content-Length"] == str(len(CONTENT))
            assert fields.get("Connection") == ("keep-alive" if request_line.endswith("1.0") else None)
            assert await reader.readexactly(len(content)) == content

"""Logio over real HTTP: the client against the sandbox, answers that break midway, and what is held of them."""

import asyncio
import contextlib
import json
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal

import pytest
from aiohttp import web

from bridge.cention.client import CentionClient
from bridge.cention.documents import LogioRecord
from bridge.cention.outcome import Failure, Fetched, Rejected, TryLater, Unauthorised, Unknown
from bridge.cention.sandbox import Sandbox
from bridge.cention.sandbox.data import Data
from tests.integration.cention_support import TOKEN, Raw, cention, raw, web_server

LOGIO_TOKEN = "may-read-logio"
FIRST = datetime(2019, 4, 1, 8, 47, 42, tzinfo=UTC)
LOGINS = [
    {"name": "sysadmin", "timestamp": 1554108462, "action": "Logout"},
    {"name": "tester1", "timestamp": 1554108529, "action": "Logout"},
    {"name": "sysadmin", "timestamp": 1554108536, "action": "Login"},
    {"name": "Åsa, Öberg", "timestamp": 1554108578, "action": "Logout"},
    {"name": "tester1", "timestamp": 1554108586, "action": "Login"},
]
FORMATS: list[Literal["csv", "json"]] = ["csv", "json"]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    data = Data.model_validate_json(json.dumps({"logio": LOGINS}))
    made = Sandbox(tokens={TOKEN: ["create_errand"], LOGIO_TOKEN: ["logio"]}, data=data)
    yield made
    await made.stop()


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[CentionClient]:
    async with cention(await sandbox.start()) as made:
        yield made


def told(records: tuple[LogioRecord, ...]) -> list[dict[str, Any]]:
    return [record.model_dump(include={"name", "timestamp", "action"}) for record in records]


def value(read: Fetched[tuple[LogioRecord, ...]] | Failure) -> tuple[LogioRecord, ...]:
    assert isinstance(read, Fetched), read
    return read.value


@pytest.mark.parametrize("wire_format", FORMATS)
async def test_records_come_in_either_format(client: CentionClient, wire_format: Literal["csv", "json"]) -> None:
    read = value(await client.logio(LOGIO_TOKEN, from_at=FIRST, wire_format=wire_format).whole())
    assert told(read) == LOGINS
    assert [record.id for record in read] == [1, 2, 3, 4, 5]
    assert read[0].at == FIRST


@pytest.mark.parametrize("wire_format", FORMATS)
async def test_records_of_an_agent_and_a_period(client: CentionClient, wire_format: Literal["csv", "json"]) -> None:
    async def found(**wanted: Any) -> list[dict[str, Any]]:
        return told(value(await client.logio(LOGIO_TOKEN, wire_format=wire_format, **wanted).whole()))

    assert await found(from_at=FIRST, name="tester1") == [LOGINS[1], LOGINS[4]]
    assert await found(from_at=FIRST, name="Åsa, Öberg") == [LOGINS[3]]
    assert await found(from_at=FIRST, name="nobody") == []
    assert await found(from_at=FIRST + timedelta(seconds=1), to_at=FIRST + timedelta(seconds=74)) == LOGINS[1:3]
    elsewhere = timezone(timedelta(hours=2))
    assert await found(from_at=FIRST.astimezone(elsewhere), to_at=FIRST.astimezone(elsewhere)) == LOGINS[:1]
    assert await found() == [], "the server's default is the last 7 days"


async def test_what_goes_over_the_wire() -> None:
    seen: list[web.Request] = []

    async def record(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(body=b"[]" if request.query["format"] == "json" else b"")

    async with web_server(record) as url, cention(f"{url}/s/demo") as client:
        await client.logio(LOGIO_TOKEN).whole()
        half = timedelta(milliseconds=500)
        await client.logio(
            LOGIO_TOKEN, name="Åsa & co", from_at=FIRST + half, to_at=FIRST + half, wire_format="csv"
        ).whole()
    assert [request.raw_path for request in seen] == [
        "/s/demo/capi/custom/logio?format=json",
        "/s/demo/capi/custom/logio?name=%C3%85sa%20%26%20co&format=csv&from=1554108462&to=1554108463",
    ]
    assert [request.headers["Accept"] for request in seen] == ["application/json, */*;q=0.5", "text/csv, */*;q=0.5"]
    for request in seen:
        assert request.method == "GET"
        assert request.headers["Authorization"] == f"Bearer {LOGIO_TOKEN}"
        assert "Content-Type" not in request.headers


async def test_times_are_checked_before_anything_is_sent(client: CentionClient) -> None:
    naive = FIRST.replace(tzinfo=None)
    with pytest.raises(ValueError, match="aware"):
        client.logio(LOGIO_TOKEN, from_at=naive)
    with pytest.raises(ValueError, match="aware"):
        client.logio(LOGIO_TOKEN, to_at=naive)
    with pytest.raises(ValueError, match="from_at is after to_at"):
        client.logio(LOGIO_TOKEN, from_at=FIRST, to_at=FIRST - timedelta(seconds=1))


async def test_claims(client: CentionClient) -> None:
    refused = Unauthorised(403, "Forbidden: the token does not carry the claim logio")
    assert [item async for item in client.logio(TOKEN)] == [refused]
    assert await client.logio(TOKEN).whole() == refused


@pytest.mark.parametrize(
    ("rule", "kind", "words"),
    [
        ({"status": 400, "body": '{"errors": [{"title": "No such format"}]}'}, Rejected, "No such format"),
        ({"status": 429, "headers": {"Retry-After": "3"}}, TryLater, ""),
        ({"status": 503}, TryLater, "Service Unavailable"),
        ({"status": 302, "headers": {"Location": "/login"}}, TryLater, "redirected"),
        ({"status": 200, "body": "<title>Login</title>", "content_type": "text/html"}, TryLater, "Login"),
        ({"status": 401}, Unauthorised, ""),
        ({"status": 200, "body": '{"errors": [{"title": "Not now"}]}'}, Rejected, "Not now"),
        ({"status": 200, "body": '{"records": []}'}, Rejected, "not the records that are documented"),
        ({"status": 200, "body": "Nobody is here"}, Rejected, "not the records that are documented"),
        ({"reset": "before"}, Unknown, ""),
        ({"reset": "after"}, Unknown, ""),
        ({"reset": "midway"}, Unknown, "broke off"),
    ],
    ids=str,
)
@pytest.mark.parametrize("wire_format", FORMATS)
async def test_every_failure_has_its_outcome(
    client: CentionClient,
    sandbox: Sandbox,
    wire_format: Literal["csv", "json"],
    rule: dict[str, Any],
    kind: type[Failure],
    words: str,
) -> None:
    sandbox.set_faults([rule])
    *records, failure = [item async for item in client.logio(LOGIO_TOKEN, from_at=FIRST, wire_format=wire_format)]
    assert isinstance(failure, kind), failure
    assert words in failure.reason
    assert all(isinstance(record, LogioRecord) for record in records)
    assert bool(records) == (rule.get("reset") == "midway"), "what had come before is given"
    if isinstance(failure, TryLater) and rule.get("headers", {}).get("Retry-After"):
        assert failure.retry_after_s == 3


@contextlib.asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[Raw]:
    """A server that reads a GET, writes `answer`, byte for byte, and closes."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.write_eof()
        await reader.read()

    async with raw(behave) as server:
        yield server


def line(number: int, wire_format: Literal["csv", "json"]) -> bytes:
    if wire_format == "csv":
        return b"%d,tester1,1554108529,Logout\n" % number
    return b'%b{"id":%d,"name":"tester1","timestamp":1554108529,"action":"Logout"}' % (b"," if number else b"[", number)


@pytest.mark.parametrize("length", [b"Content-Length: 9999", b"Transfer-Encoding: chunked", b"Connection: close"])
@pytest.mark.parametrize("wire_format", FORMATS)
async def test_an_answer_that_breaks_off_says_so_after_its_records(
    wire_format: Literal["csv", "json"], length: bytes
) -> None:
    body = b"".join(line(number, wire_format) for number in range(3)) + line(3, wire_format)[:20]
    if b"chunked" in length:
        body = b"%x\r\n%b\r\n" % (len(body), body)
    async with (
        answering(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (length, body)) as server,
        cention(server.base_url) as client,
    ):
        *records, failure = [item async for item in client.logio(LOGIO_TOKEN, wire_format=wire_format)]
        assert [record.id for record in records if isinstance(record, LogioRecord)] == [0, 1, 2]
        assert isinstance(failure, Unknown)
        assert failure.reason.startswith("after 3 records: the answer broke off")
        assert isinstance(await client.logio(LOGIO_TOKEN, wire_format=wire_format).whole(), Unknown)


async def test_json_proves_its_own_end_where_http_does_not() -> None:
    body = line(0, "json") + line(1, "json")
    async with (
        answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body) as server,
        cention(server.base_url) as client,
    ):
        assert await client.logio(LOGIO_TOKEN).whole() == Unknown(
            "after 2 records: the answer broke off: the list does not end"
        )


async def test_a_record_that_is_none_ends_the_answer(client: CentionClient, sandbox: Sandbox) -> None:
    body = (line(0, "json") + line(1, "json").replace(b"tester1", b'"') + b"]").decode()
    bad = body.replace('"""', "4711")
    sandbox.set_faults([{"status": 200, "body": bad, "content_type": "application/json"}])
    record, failure = [item async for item in client.logio(LOGIO_TOKEN)]
    assert isinstance(record, LogioRecord)
    assert isinstance(failure, Rejected)
    assert failure.reason.startswith("after 1 records: not the records that are documented: record 2: name: ")
    assert "4711" not in failure.reason


@contextlib.asynccontextmanager
async def by_and_by(wire_format: Literal["csv", "json"]) -> AsyncIterator[tuple[str, asyncio.Queue[bytes | None]]]:
    """A server that sends what is put into the queue, piece by piece; None ends the answer."""
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/csv" if wire_format == "csv" else "application/json"}
        )
        await response.prepare(request)
        while (piece := await pieces.get()) is not None:
            await response.write(piece)
        await response.write_eof()
        return response

    async with web_server(handler) as url:
        yield f"{url}/s/demo", pieces


@pytest.mark.parametrize("wire_format", FORMATS)
async def test_a_record_is_there_before_the_next_is_sent(wire_format: Literal["csv", "json"]) -> None:
    async with (
        by_and_by(wire_format) as (url, pieces),
        cention(url) as client,
        client.logio(LOGIO_TOKEN, wire_format=wire_format) as answer,
    ):
        for number in range(5):
            await pieces.put(line(number, wire_format))
            record = await anext(answer)
            assert isinstance(record, LogioRecord)
            assert record.id == number
        if wire_format == "json":
            await pieces.put(b"]")
        await pieces.put(None)
        with pytest.raises(StopAsyncIteration):
            await anext(answer)


async def test_an_answer_that_stops_is_given_up() -> None:
    async with by_and_by("csv") as (url, pieces), cention(url) as client:
        await pieces.put(line(0, "csv"))
        read = [item async for item in client.logio(LOGIO_TOKEN, wire_format="csv", idle_s=0.2)]
        assert isinstance(read[0], LogioRecord)
        assert read[1:] == [Unknown("after 1 records: the answer broke off: nothing more within 0.2 s")]
        await pieces.put(None)


async def test_an_answer_that_does_not_begin_ends_with_the_attempts_time() -> None:
    async def swallow(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw(swallow) as server, cention(server.base_url, 0.2) as client:
        assert [item async for item in client.logio(LOGIO_TOKEN)] == [Unknown("no answer within 0.2 s")]


async def test_nobody_there() -> None:
    async with cention("http://127.0.0.1:9/s/demo") as client:
        (failure,) = [item async for item in client.logio(LOGIO_TOKEN)]
        assert isinstance(failure, TryLater)
        assert isinstance(await client.logio("no token").whole(), Unauthorised)


async def test_leaving_early_closes_the_connection() -> None:
    ended = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n\r\n")
        try:
            while True:
                writer.write(line(1, "csv") * 1000)
                await writer.drain()
        finally:
            ended.set()

    async with raw(endless) as server, cention(server.base_url) as client:
        async with client.logio(LOGIO_TOKEN, wire_format="csv") as answer:
            async for item in answer:
                assert isinstance(item, LogioRecord)
                break
        async with asyncio.timeout(20):
            await ended.wait()


@pytest.mark.parametrize("wire_format", FORMATS)
async def test_an_answer_without_end_is_given_up_and_never_held(wire_format: Literal["csv", "json"]) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        number = 0
        while True:
            writer.write(b"".join(line(each, wire_format) for each in range(number, number + 200)))
            number += 200
            await writer.drain()

    size = 4 * 2**20
    async with raw(endless) as server, cention(server.base_url) as client:
        count, last, peak = 0, None, 0
        tracemalloc.start()
        try:
            async for item in client.logio(LOGIO_TOKEN, wire_format=wire_format, bytes_max=size):
                count, last = count + 1, item
                if count == 10_000:
                    tracemalloc.reset_peak()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert count > 40_000
    assert isinstance(last, Rejected)
    assert last.reason == f"after {count - 1} records: the answer is longer than {size} bytes"
    assert peak < 3 * 2**20, "pieces and buffers, not the answer's records"


async def test_a_line_without_end_is_given_up() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"1" * 2**16)
            await writer.drain()

    async with raw(endless) as server, cention(server.base_url) as client:
        read = await client.logio(LOGIO_TOKEN, wire_format="csv").whole()
    assert isinstance(read, Rejected)
    assert "line 1 is longer than" in read.reason

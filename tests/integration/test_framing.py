"""Requests framed so that two readers could disagree about where they end: none brings a second request in.

Every exchange ends with a request that asks for the connection's end, so that its last byte is the end of what there is
to see. Sent whole, and cut into pieces at every place where a parser could lose its thread.
"""

import asyncio
import re
from collections.abc import Iterator

import orjson
import pytest
from yarl import URL

from tests.fakes.intake import EVENTS, Recorder, event, intake

FIRST, SECOND = orjson.dumps(event("first")), orjson.dumps(event("second"))
LENGTH = b"Content-Length: %d" % len(FIRST)
CHUNKED = b"Transfer-Encoding: chunked"
END = b"0\r\n\r\n"


def post(*headers: bytes, body: bytes = b"", line: bytes = b"POST /v1/events HTTP/1.1", eol: bytes = b"\r\n") -> bytes:
    return eol.join([line, b"Host: localhost", b"Content-Type: application/json", *headers, b"", b""]) + body


SMUGGLED = post(b"Content-Length: %d" % len(SECOND), body=SECOND)
LAST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def chunk(data: bytes, extension: bytes = b"", eol: bytes = b"\r\n") -> bytes:
    return b"%x%b%b%b%b" % (len(data), extension, eol, data, eol)


def both(*headers: bytes, **options: bytes) -> bytes:
    """The first event as a body of so many bytes, and the second behind it."""
    return post(*headers, **{"body": FIRST + SMUGGLED, **options})


def chunks(*headers: bytes, body: bytes = chunk(FIRST) + END, **options: bytes) -> bytes:
    """The same, the first event in chunks."""
    return post(*headers, body=body + SMUGGLED, **options)


REFUSED = {
    "length and chunks": chunks(LENGTH, CHUNKED),
    "chunks and length": chunks(CHUNKED, LENGTH),
    "the second as the body": post(b"Content-Length: %d" % (5 + len(SMUGGLED)), CHUNKED, body=END + SMUGGLED),
    "the same length twice": both(LENGTH, LENGTH),
    "two lengths": both(LENGTH, b"Content-Length: %d" % (len(FIRST) + len(SMUGGLED))),
    "a list of lengths": both(b"%b, %d" % (LENGTH, len(FIRST))),
    "a signed length": both(b"Content-Length: +%d" % len(FIRST)),
    "a negative length": both(b"Content-Length: -1"),
    "a hexadecimal length": both(b"Content-Length: 0x%x" % len(FIRST)),
    "a length with an underscore": both(b"Content-Length: 1_0"),
    "an empty length": both(b"Content-Length:"),
    "a length beyond all numbers": both(b"Content-Length: 99999999999999999999999"),
    "a folded length": both(LENGTH[:-1] + b"\r\n " + LENGTH[-1:]),
    "a space before the colon of the length": both(LENGTH.replace(b":", b" :")),
    "a space before the colon of the coding": chunks(CHUNKED.replace(b":", b" :")),
    "a vertical tab in the coding": chunks(b"Transfer-Encoding: \x0bchunked"),
    "an unknown coding": chunks(b"Transfer-Encoding: xchunked"),
    "a quoted coding": chunks(b'Transfer-Encoding: "chunked"'),
    "a coding after chunked": chunks(b"Transfer-Encoding: chunked, identity"),
    "a coding before chunked": chunks(b"Transfer-Encoding: gzip, chunked"),
    "identity beside a length": both(b"Transfer-Encoding: identity", LENGTH),
    "chunked twice": chunks(CHUNKED, CHUNKED),
    "chunked, then identity": chunks(CHUNKED, b"Transfer-Encoding: identity"),
    "a folded coding": chunks(b"Transfer-Encoding:\r\n chunked"),
    "a coding behind a bare LF": both(b"X: y\nTransfer-Encoding: chunked", LENGTH),
    "a length behind a bare CR": both(b"X: y\rContent-Length: 0", LENGTH),
    "bare LF all through": both(LENGTH, eol=b"\n"),
    "bare LF around one line": both(b"X: y\nY: z", LENGTH),
    "a folded line": both(b"X: y\r\n z", LENGTH),
    "a folded first line": both(LENGTH, line=b"POST /v1/events HTTP/1.1\r\n X: y"),
    "NUL in a value": both(b"X: y\x00z", LENGTH),
    "NUL in a name": both(b"X\x00: y", LENGTH),
    "a line without a colon": both(b"Xyz", LENGTH),
    "a line without a name": both(b": y", LENGTH),
    "no Host": both(LENGTH).replace(b"Host: localhost\r\n", b""),
    "two Hosts": both(b"Host: other", LENGTH),
    "a chunk's size with LF alone": chunks(CHUNKED, body=chunk(FIRST, eol=b"\n") + b"0\n\n"),
    "LF in a chunk's extension": chunks(CHUNKED, body=chunk(FIRST, b";a\nxx") + END),
    "CR in a chunk's extension": chunks(CHUNKED, body=chunk(FIRST, b";a\rxx") + END),
    "a signed size of a chunk": chunks(CHUNKED, body=b"+" + chunk(FIRST) + END),
    "0x before the size of a chunk": chunks(CHUNKED, body=b"0x" + chunk(FIRST) + END),
    "a space behind the size of a chunk": chunks(CHUNKED, body=chunk(FIRST, b" ") + END),
    "a negative size of a chunk": chunks(CHUNKED, body=b"-1\r\n" + FIRST + END),
    "a size beyond all numbers": chunks(CHUNKED, body=b"fffffffffffffffff\r\n" + FIRST + END),
    "a chunk that is longer than it says": chunks(CHUNKED, body=b"%x\r\n%bXX" % (len(FIRST), FIRST) + END),
    "a length in the trailer": chunks(CHUNKED, body=chunk(FIRST) + b"0\r\nContent-Length: 5\r\n\r\n"),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "HTTP/1.9": both(LENGTH, line=b"POST /v1/events HTTP/1.9"),
    "a method in lower case": both(LENGTH, line=b"post /v1/events HTTP/1.1"),
    "a space in the path": both(LENGTH, line=b"POST /v1/events x HTTP/1.1"),
}  # fmt: skip
# What stands behind the last request of a connection spoils that one too, where both come in one piece.
AT_MOST_ONE = {
    "HTTP/1.0": both(LENGTH, line=b"POST /v1/events HTTP/1.0"),
    "chunks in HTTP/1.0": chunks(CHUNKED, line=b"POST /v1/events HTTP/1.0"),
    "the end of the connection": both(b"Connection: close", LENGTH),
}
ONE = {
    "an upgrade to HTTP/2": both(b"Connection: Upgrade", b"Upgrade: h2c", LENGTH),
    "an upgrade to a websocket": both(b"Connection: Upgrade", b"Upgrade: websocket", LENGTH),
}
NONE = {
    "a tunnel": b"CONNECT bridge:80 HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED,
    "the second as the body of a GET": post(
        b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED, line=b"GET /v1/events HTTP/1.1"
    ),
    "the second as the body of what is not there": post(
        b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED, line=b"POST /v1/nothing HTTP/1.1"
    ),
    "the second as a body that is no event": post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),
}
TWO = {
    "two requests": both(LENGTH),
    "chunks": chunks(CHUNKED),
    "chunks with a tab and in capitals": chunks(b"Transfer-Encoding:\tCHUNKED"),
    "chunks with an extension": chunks(CHUNKED, body=chunk(FIRST, b";a=b") + END),
}
CASES = REFUSED | AT_MOST_ONE | ONE | NONE | TWO


def pieces(data: bytes, cut: str) -> Iterator[bytes]:
    match cut:
        case "whole":
            yield data
        case "lines":
            yield from re.findall(rb"[^\n]*\n|[^\n]+", data)
        case "bytes":
            yield from (data[at : at + 1] for at in range(len(data)))


async def exchange(url: str, data: bytes, cut: str) -> list[tuple[int, str | None]]:
    """Status and code of every answer to `data`, up to the connection's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
    try:
        async with asyncio.timeout(60):
            try:
                for piece in pieces(data, cut):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)  # the other end, in this loop too, looks at what has come so far
                said = await reader.read()
            except ConnectionError:
                said = b""  # refused so early that its answer was lost: what matters is what was taken
    finally:
        writer.close()
    found = re.findall(rb"HTTP/1\.[01] (\d{3}) [^{]*(\{.*?\})(?=HTTP|$)", said, re.DOTALL)
    return [(int(status), orjson.loads(body).get("code")) for status, body in found]


async def check(name: str, cut: str) -> None:
    recorder = Recorder()
    async with intake(recorder, body_timeout_s=0.2) as url:
        answers = await exchange(url, CASES[name] + LAST, cut)
    if name in TWO:
        assert (name, recorder.ids, [status for status, _ in answers]) == (name, ["first", "second"], [202, 202, 404])
    elif name in ONE:
        assert (name, recorder.ids, answers or [(202, None)]) == (name, ["first"], [(202, None)])
    elif name in AT_MOST_ONE:
        assert (name, recorder.ids) in ((name, []), (name, ["first"]))
    else:
        assert (name, recorder.ids) == (name, [])
    if name in REFUSED and answers:
        # Cut up, a broken body is met while it is being read, and ends by its time limit.
        allowed = {"malformed_request", "unsupported_transfer_coding"} | (set() if cut == "whole" else {"body_timeout"})
        assert (name, len(answers)) == (name, 1), "the connection is closed"
        assert (name, {code for _, code in answers} - allowed) == (name, set())


@pytest.mark.parametrize("name", CASES)
async def test_what_stands_behind_a_request_is_taken_only_where_all_agree(name: str) -> None:
    await check(name, "whole")


@pytest.mark.parametrize("cut", ["lines", "bytes"])
async def test_nor_where_it_comes_in_pieces(cut: str) -> None:
    async with asyncio.TaskGroup() as group:
        for name in CASES:
            group.create_task(check(name, cut))


async def test_after_a_refusal_the_listener_goes_on() -> None:
    recorder = Recorder()
    async with intake(recorder) as url:
        await exchange(url, REFUSED["two lengths"], "whole")
        assert (await exchange(url, TWO["two requests"] + LAST, "whole"))[0] == (202, None)
    assert recorder.ids == ["first", "second"]


def test_the_cases_are_for_the_intakes_path() -> None:
    assert EVENTS == "/v1/events"

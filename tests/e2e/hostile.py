"""Hostile requests for both listeners, drawn by Hypothesis, and the exchange that makes them over a raw socket.

Drawn before any is sent: Hypothesis knows no loop, and takes it amiss when somebody else uses `random` meanwhile.
"""

import asyncio
import base64
import gzip
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_from_bytes

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.e2e.support import inbound

HANG_S = 60.0
ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


@dataclass(frozen=True)
class Attack:
    """Bytes for one listener. `http`: they are a request, so they must be answered."""

    listener: str
    data: bytes
    http: bool


async def send(port: int, data: bytes) -> list[int]:
    """Sends `data` on a connection of its own; the statuses of all answers until the other end closes it."""
    said = b""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(HANG_S):
            writer.write(data)
            with suppress(ConnectionError):  # refused before all was sent, or read
                await writer.drain()
                while got := await reader.read(65536):
                    said += got
    finally:
        writer.close()
    return [int(status) for status in ANSWER.findall(said)]


def drawn(number: int, *, derandomize: bool) -> list[Attack]:
    """The known attacks and so many others, each time the same ones if `derandomize`."""
    found = list(KNOWN)

    @settings(
        max_examples=number,
        derandomize=derandomize,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(attacks)
    def draw(one: Attack) -> None:
        found.append(one)

    draw()
    return found


def request(method: str, target: str, headers: list[tuple[str, bytes]], body: bytes = b"") -> bytes:
    head = b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in headers)
    return b"%b %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b\r\n%b" % (
        method.encode(),
        target.encode(),
        head,
        body,
    )


numbers = st.sampled_from(["0", "1", "9" * 16, "9" * 17, "9" * 4301, "-1", "+1", "1e9", "0x1", "١", "²"]) | st.integers(
    -(2**70), 2**70
).map(str)
ids = st.one_of(
    st.text(max_size=40),
    numbers,
    st.sampled_from(["", ".", "..", "\x00", "é", "²", "١", "*", "?", "[a]", "a/b", "%s", "{x}", "${jndi}", "a\r\nb"]),
)
segments = ids.map(lambda text: quote(text, safe="", errors="surrogatepass")) | st.binary(max_size=12).map(
    lambda raw: quote_from_bytes(raw, safe="")
)
cursors = st.one_of(
    ids,
    st.tuples(st.integers(-(2**70), 2**70), st.text(max_size=20)).map(
        lambda p: base64.b64encode(json.dumps(p).encode()).decode()
    ),
    st.recursive(st.none() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)).map(
        lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode()
    ),
    st.tuples(st.integers(0, 2**70), st.integers(0, 2**70)).map("{0[0]}-{0[1]}".format),
)
parameters = st.tuples(
    st.sampled_from(["deviceId", "extensionId", "direction", "state", "limit", "cursor", "x", ""]) | ids,
    cursors | st.sampled_from(["inbound", "started", "1", "1000", "1001", "0"]),
).map(lambda pair: "=".join(quote(part, safe="", errors="surrogatepass") for part in pair))
queries = st.lists(parameters | segments, max_size=4).map("&".join)
wild = st.builds(
    "{}{}{}".format,
    st.sampled_from(["/v1/calls", "/v1/rejections", "/livez", "/readyz", "/metrics", "/openapi.json", ""]),
    st.lists(segments, max_size=3).map(lambda found: "".join(f"/{segment}" for segment in found)),
    st.just("") | queries.map("?{}".format),
)
pairs = st.builds("/v1/calls/{}/{}".format, numbers.map(quote), numbers.map(quote))
paged = st.builds(
    lambda path, name, value: f"{path}?{name}={quote(value, safe='', errors='surrogatepass')}",
    st.sampled_from(["/v1/calls", "/v1/rejections"]),
    st.sampled_from(["cursor", "cursor", "limit", "deviceId"]),
    cursors | numbers,
)
targets = (wild | pairs | paged).filter(lambda target: target.startswith("/") and len(target) < 8000)
methods = st.sampled_from(["GET"] * 12 + ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
header_bytes = st.binary(max_size=40).map(lambda raw: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", raw))
header_names = st.sampled_from(
    ["Authorization", "Content-Type", "Content-Encoding", "Expect", "webhook-id", "webhook-timestamp",
     "webhook-signature", "Accept", "Cookie", "Range", "If-None-Match", "X-Forwarded-For", "Upgrade", "Origin"]
)  # fmt: skip
headers: SearchStrategy[list[tuple[str, bytes]]] = st.just([]) | st.lists(
    st.tuples(header_names, header_bytes), max_size=4, unique_by=lambda header: header[0]
)

json_values: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from([*inbound("x", (1, 1)), "callingName", "extraData", "transferredTo", "sequence", "link"])
events = st.builds(
    lambda base, more: {**base, **more},
    st.builds(inbound, st.text(min_size=1, max_size=20), st.tuples(st.integers(0, 50), st.integers(0, 50))),
    st.dictionaries(fields, json_values, max_size=2),
)
dumped = (events | json_values).map(lambda value: json.dumps(value).encode())
bodies = st.one_of(
    dumped,
    st.lists(events, max_size=5).map(lambda found: json.dumps(found).encode()),
    st.lists(dumped | st.binary(max_size=20), max_size=6).map(b"\n".join),
    st.builds(lambda body, at, junk: body[:at] + junk + body[at:], dumped, st.integers(0, 300), st.binary(max_size=4)),
    st.binary(max_size=100),
    dumped.map(gzip.compress),
    st.integers(1, 2000).map(lambda depth: b"[" * depth),
)
media = (
    st.sampled_from([b"application/json", b"application/x-ndjson", b"application/json; charset=utf-8"]) | header_bytes
)


def _posted(path: str, kind: bytes, more: list[tuple[str, bytes]], body: bytes, coding: bytes) -> bytes:
    told = [(name, value) for name, value in more if name not in ("Content-Type", "Content-Encoding")]
    told += [("Content-Type", kind), ("Content-Length", b"%d" % len(body))]
    return request("POST", path, [*told, *([("Content-Encoding", coding)] if coding else [])], body)


to_admin = st.builds(
    lambda method, target, more: Attack("admin", request(method, target, more), True), methods, targets, headers
)
to_intake = st.builds(
    lambda *parts: Attack("intake", _posted(*parts), True),
    st.just("/v1/events") | targets,
    media,
    headers,
    bodies,
    st.sampled_from([b"", b"", b"", b"gzip", b"br", b"gzip, gzip"]),
)
wholes = (to_admin | to_intake).map(lambda attack: attack.data)
mangled = st.builds(
    lambda whole, at, length, junk: whole[: at % len(whole)] + junk + whole[at % len(whole) + length :],
    wholes,
    st.integers(0, 10_000),
    st.integers(0, 10),
    st.binary(max_size=10) | st.sampled_from([b"\r\n", b"\n", b"\r", b"\x00", b"Transfer-Encoding: chunked\r\n"]),
)
# Ended, so that what is only the beginning of a request does not keep the connection waiting for the rest.
garbage = st.builds(
    lambda listener, data: Attack(listener, data + b"\r\n\r\n\x00\r\n\r\n", False),
    st.sampled_from(["intake", "admin"]),
    st.binary(max_size=300) | mangled,
)
attacks = to_admin | to_intake | garbage

KNOWN = [
    *(
        Attack("admin", request("GET", target, []), True)
        for target in (
            f"/v1/calls/{'9' * 4301}/1",
            f"/v1/calls/1/{'9' * 4301}",
            "/v1/calls/9999999999999999/9999999999999999",
            "/v1/calls/%D9%A1/1",
            "/v1/calls/%FF",
            "/v1/calls/%ED%A0%80",
            "/v1/calls/%00",
            f"/v1/calls/{'x' * 7000}",
            "/v1/calls?limit=%C2%B2",
            "/v1/calls?cursor=%FF",
            f"/v1/calls?cursor={base64.b64encode(b'[1e308,1]').decode()}",
            f"/v1/calls?cursor={base64.b64encode(b'[-1,%b]' % (b'9' * 4301)).decode()}",
            "/v1/rejections?cursor=0-0",
            "/v1/rejections?cursor=18446744073709551616-0",
            f"/v1/rejections?cursor={'9' * 4301}-0",
            "/v1/rejections?cursor=%D9%A1-%D9%A1",
        )
    ),
    *(
        Attack(listener, request("GET", "/metrics", [("Expect", value)]), True)
        for listener in ("admin", "intake")
        for value in (b"the unexpected", b"\xd3", b"100-continue, more")
    ),
    *(
        Attack("intake", _posted("/v1/events", kind, [], body, b""), True)
        for kind in (b"application/json", b"application/x-ndjson")
        for body in (b"", b"1e400", b'"\\ud800"', b"[" * 5000, b"\xed\xa0\x80", b'{"eventId":1e308}', b"[[]]", b"null")
    ),
]
"""What has broken something once, or is made to."""

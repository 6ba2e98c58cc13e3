"""Shared by the tests of the Cention client and sandbox: documents, servers that misbehave, and plain HTTP.

Not a test itself. The servers are real sockets: what the client sees is what a network would show it.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from bridge.cention.client import CentionClient
from bridge.cention.documents import EndErrand, EndObcall, IntegrationData, Message, NewErrand
from bridge.cention.outcome import Failure, Fetched
from bridge.runtime.web import serve

TESTS = Path(__file__).parent.parent
SAMPLES = TESTS / "fixtures" / "cention"
HEADERS = {
    "Authorization": "Bearer any",
    "Content-Type": "application/vnd.api+json",
    "Accept": "application/vnd.api+json",
}


class Caller:
    """Plain HTTP, with nothing of the client under test."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self.base_url, self.view_url, self.session = base_url, base_url.partition("/s/")[0], session

    async def post(self, endpoint: str, body: Any, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**HEADERS, **{name.replace("_", "-").title(): value for name, value in headers.items()}}
        url = f"{self.base_url}/capi/json/{endpoint}"
        async with self.session.post(url, data=raw, headers={k: v for k, v in sent.items() if v}) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None, response.headers

    async def view(self, path: str, method: str = "GET", body: bytes | None = None, status: int = 200) -> Any:
        async with self.session.request(method, self.view_url + path, data=body) as response:
            assert response.status == status, await response.text()
            text = await response.text()
            return json.loads(text) if text else None


TOKEN = "a-token-of-this-test"
ERRAND = NewErrand(
    msg=Message(message_id="av-1", sender="46701740605", name="Åsa Öberg", subject="Call"),
    integration_data=IntegrationData(
        integration_name="aventa",
        reference_id="c-1",
        device_id=1000,
        extension_id=1001,
        dest_number="46846500400",
        queue_name="Support",
        queue_number="7",
        end_session=False,
    ),
)
ENDED = EndErrand(errand_id=511055)
OBCALL = EndObcall(integration_name="aventa", device_id=1000, extension_id=1001, dialed_number="0701740605")

Bytes = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def value(read: Fetched[Any] | Failure) -> Any:
    """What was read; fails where nothing was."""
    assert isinstance(read, Fetched), read
    return read.value


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.request.json").read_bytes())


def errand(reference: str = "1", **integration: Any) -> Any:
    document = sample("new_errand")
    document["data"]["attributes"]["integrationData"].update({"referenceId": reference, **integration})
    return document


def cention(base_url: str, timeout_s: float = 20.0, **settings: Any) -> CentionClient:
    return CentionClient(base_url, attempt_timeout_s=timeout_s, **settings)


class Raw:
    """A TCP server that does what it is told with each connection, and counts them."""

    def __init__(self, behave: Bytes) -> None:
        self.connections = 0
        self.received = b""
        self.base_url = ""
        self._behave = behave
        self._serving: set[asyncio.Task[None]] = set()

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await self._behave(reader, writer)
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def ended(self) -> None:
        """Waits until every connection has been served."""
        async with asyncio.timeout(20):
            await asyncio.gather(*self._serving)

    async def request(self, reader: asyncio.StreamReader) -> None:
        """Reads one whole request."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None
        self.received += head + await reader.readexactly(int(length[1]))


@asynccontextmanager
async def raw(behave: Bytes, scheme: str = "http") -> AsyncIterator[Raw]:
    server = Raw(behave)
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listener:
        server.base_url = f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}/s/demo"
        yield server
        await server.ended()


@asynccontextmanager
async def answering(answer: bytes, *, then_close: bool = True) -> AsyncIterator[Raw]:
    """A server that reads a request and writes `answer`, byte for byte."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.request(reader)
        writer.write(answer)
        await writer.drain()
        if not then_close:
            await reader.read()
        elif writer.can_write_eof():
            writer.write_eof()
            await reader.read()

    async with raw(behave) as server:
        yield server


@asynccontextmanager
async def web_server(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner, port = await serve(app, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()

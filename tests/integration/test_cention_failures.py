"""The client when the network fails: before the first byte, after it, and after the status line."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web

from bridge.cention.client import CentionClient
from bridge.cention.outcome import Delivered, Outcome, Rejected, TryLater, Unauthorised, Unknown
from bridge.cention.sandbox import Sandbox
from tests.integration.cention_support import ERRAND, OBCALL, TOKEN, answering, cention, raw


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox(tokens=frozenset({TOKEN}))
    yield made
    await made.stop()


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[CentionClient]:
    async with cention(await sandbox.start()) as made:
        yield made


# Before the first byte: nothing was done.


@pytest.fixture
def refusing() -> Iterator[socket.socket]:
    """A port that refuses connections until `listen()`, and that nobody else can take."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def base_url_of(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}/s/demo"


async def test_refused_is_tried_later_after_one_quick_second_try(
    refusing: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="aiohttp_retry"):
        async with cention(base_url_of(refusing)) as client:
            outcome = await client.new_errand(ERRAND, TOKEN)
    assert isinstance(outcome, TryLater)
    assert outcome.status is None
    assert outcome.reason.startswith("Connection refused (127.0.0.1")
    attempts = [record.message for record in caplog.records if record.message.startswith("Attempt")]
    assert attempts == ["Attempt 1 out of 2", "Attempt 2 out of 2"]


async def test_a_server_without_tls_is_told_as_what_it_is(sandbox: Sandbox) -> None:
    async with cention((await sandbox.start()).replace("http:", "https:")) as client:
        outcome = await client.new_errand(ERRAND, TOKEN)
    assert isinstance(outcome, TryLater)
    assert "WRONG_VERSION_NUMBER" in outcome.reason


async def test_the_second_try_delivers_once_the_server_is_back(refusing: socket.socket, sandbox: Sandbox) -> None:
    class ListenWhenRefused(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("Retrying after"):
                refusing.listen()

    back, log = ListenWhenRefused(), logging.getLogger("aiohttp_retry")
    log.addHandler(back)
    level = log.level
    log.setLevel(logging.DEBUG)
    runner = web.AppRunner(sandbox.app())
    await runner.setup()
    try:
        async with cention(base_url_of(refusing)) as client:
            attempt = asyncio.create_task(client.new_errand(ERRAND, TOKEN))
            # Serving begins at once; accepting only when the socket listens, which the refused attempt brings about.
            async with asyncio.timeout(20):
                while not listening(refusing):
                    await asyncio.sleep(0)
            await web.SockSite(runner, refusing).start()
            assert await attempt == Delivered(201, "511055")
    finally:
        log.removeHandler(back)
        log.setLevel(level)
        await runner.cleanup()
    assert len(sandbox.arrivals) == 1


def listening(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


async def test_a_name_that_does_not_resolve_is_tried_later() -> None:
    async with cention("http://nowhere.invalid/s/demo") as client:
        assert isinstance(await client.new_errand(ERRAND, TOKEN), TryLater)


async def test_failed_tls_is_tried_later_after_two_connections() -> None:
    async def hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with raw(hang_up, scheme="https") as server, cention(server.base_url) as client:
        assert isinstance(await client.new_errand(ERRAND, TOKEN), TryLater)
    assert server.connections == 2


async def test_no_connection_in_time_is_tried_later() -> None:
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # a full backlog drops what comes: the next one waits for a connection that never is
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        async with cention(base_url_of(listener), timeout_s=0.3) as client:
            assert await client.new_errand(ERRAND, TOKEN) == TryLater("not connected within 0.3 s")


# After the first byte: nobody knows.


async def test_a_black_hole_is_unknown() -> None:
    async def swallow(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw(swallow) as server, cention(server.base_url, timeout_s=0.3) as client:
        assert await client.new_errand(ERRAND, TOKEN) == Unknown("no answer within 0.3 s")
    assert server.connections == 1


async def test_a_server_that_hangs_up_on_a_request_is_unknown_and_not_asked_again() -> None:
    async def hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with raw(hang_up) as server, cention(server.base_url) as client:
        assert isinstance(await client.new_errand(ERRAND, TOKEN), Unknown)
        assert isinstance(await client.end_obcall(OBCALL, TOKEN), Unknown)
    assert server.connections == 2


@pytest.mark.parametrize(("reset", "done"), [("before", 0), ("after", 1)])
async def test_a_reset_is_unknown_whether_the_work_was_done_or_not(
    client: CentionClient, sandbox: Sandbox, reset: str, done: int
) -> None:
    sandbox.set_faults([{"reset": reset, "times": 1}])
    assert isinstance(await client.new_errand(ERRAND, TOKEN), Unknown)
    assert sandbox.faults[0]["hits"] == 1
    assert [arrival.cut for arrival in sandbox.arrivals] == [True] * done
    assert await client.new_errand(ERRAND, TOKEN) == Delivered(201, str(511055 + done))


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 2x1\r\n\r\n", b"HTTP/1.1 201 Cre"])
async def test_an_answer_that_is_no_http_is_unknown(answer: bytes) -> None:
    async with answering(answer) as server, cention(server.base_url) as client:
        assert isinstance(await client.new_errand(ERRAND, TOKEN), Unknown)
    assert server.connections == 1


# The status line came: it decides.


async def test_a_created_errand_whose_answer_is_cut_off_is_delivered_without_its_id(
    client: CentionClient, sandbox: Sandbox
) -> None:
    sandbox.set_faults([{"reset": "midway"}])
    assert await client.new_errand(ERRAND, TOKEN) == Delivered(201, None)
    assert isinstance(await client.end_obcall(OBCALL, TOKEN), Unknown)  # 204: there is no body to cut
    assert len(sandbox.arrivals) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 201 Created\r\nSet-Cookie: session=0123456789abcdef\r\nContent-Ty",
        b"HTTP/1.1 201 Created\r\nSet-Cookie: session=0123456789abcdef\x00\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nSet Cookie: session=0123456789abcdef\r\n\r\n",
        b"session=0123456789abcdef\r\n\r\n",
    ],
    ids=["cut_off", "control_character", "no_name", "no_status"],
)
async def test_an_answer_that_cannot_be_read_is_not_quoted(answer: bytes) -> None:
    async with answering(answer) as server, cention(server.base_url) as client:
        outcome = await client.new_errand(ERRAND, TOKEN)
    assert isinstance(outcome, Unknown)
    assert "session" not in outcome.reason
    assert "0123" not in outcome.reason
    assert "400" not in outcome.reason, "nobody has answered that"


async def test_a_long_header_is_read() -> None:
    answer = b"HTTP/1.1 201 Created\r\nSet-Cookie: a=" + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n"
    async with answering(answer) as server, cention(server.base_url) as client:
        assert await client.new_errand(ERRAND, TOKEN) == Delivered(201, None)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 201 Created\r\nContent-Length: 60\r\n\r\n", Delivered(201, None)),
        (b'HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"data":', Delivered(201, None)),
        (b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nzzzz", Delivered(201, None)),
        (
            b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 9\r\n\r\nx",
            TryLater("Service Unavailable", 503, 3.0),
        ),
        (b"HTTP/1.1 406 No\r\nContent-Length: 9\r\n\r\nx", Rejected(406, "Not Acceptable")),
        (b"HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\n", Unauthorised(401, "Unauthorized")),
    ],
)
async def test_a_body_that_never_ends_well_does_not_matter(answer: bytes, outcome: Outcome) -> None:
    async with answering(answer) as server, cention(server.base_url) as client:
        assert await client.new_errand(ERRAND, TOKEN) == outcome
    # The same when the connection stays open and the attempt's time runs out.
    async with answering(answer, then_close=False) as server, cention(server.base_url, timeout_s=0.3) as client:
        assert await client.new_errand(ERRAND, TOKEN) == outcome

"""The client over real HTTP: what is on the wire, what each status comes out as, and what it must never do."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from bridge.cention.client import CentionClient
from bridge.cention.outcome import Delivered, Outcome, Rejected, TryLater, Unauthorised, Unknown
from bridge.cention.sandbox import Sandbox
from tests.integration.cention_support import ENDED, ERRAND, OBCALL, TOKEN, answering, cention, web_server


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox(tokens=frozenset({TOKEN}))
    yield made
    await made.stop()


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[CentionClient]:
    async with cention(await sandbox.start()) as made:
        yield made


async def test_each_method_is_delivered(client: CentionClient, sandbox: Sandbox) -> None:
    assert await client.new_errand(ERRAND, TOKEN) == Delivered(201, "511055")
    assert await client.end_obcall(OBCALL, TOKEN) == Delivered(204, None)
    assert await client.end_errand(ENDED, TOKEN) == Delivered(201, None)
    assert [a.endpoint for a in sandbox.arrivals] == ["c3_new_errands", "c3_end_obcall", "c3_end_errands"]
    kept = sandbox.errand(511055)
    assert kept is not None
    assert json.loads(kept.document)["data"]["attributes"]["msg"]["name"] == "Åsa Öberg"


async def test_the_request_on_the_wire() -> None:
    async with answering(b"HTTP/1.1 204 No Content\r\n\r\n") as server, cention(server.base_url + "/") as client:
        assert await client.end_obcall(OBCALL, TOKEN) == Delivered(204, None)
    head, _, body = server.received.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    assert line == "POST /s/demo/capi/json/c3_end_obcall HTTP/1.1"
    named = [header.partition(": ")[::2] for header in headers]
    for name, value in (
        ("Content-Type", "application/vnd.api+json"),
        ("Accept", "application/vnd.api+json"),
        ("Authorization", f"Bearer {TOKEN}"),
    ):
        assert [v for n, v in named if n.lower() == name.lower()] == [value]
    assert "cookie" not in head.decode().lower()
    assert json.loads(body) == {
        "data": {
            "type": "c3_end_errands",
            "attributes": {
                "integrationName": "aventa",
                "dialedNumber": "0701740605",
                "deviceId": 1000,
                "extensionId": 1001,
            },
        }
    }


async def test_the_type_of_an_outbound_end_is_a_setting() -> None:
    async with (
        answering(b"HTTP/1.1 204 No Content\r\n\r\n") as server,
        cention(server.base_url, obcall_type="c3_end_obcall") as client,
    ):
        await client.end_obcall(OBCALL, TOKEN)
    assert json.loads(server.received.partition(b"\r\n\r\n")[2])["data"]["type"] == "c3_end_obcall"


async def test_one_connection_serves_many_requests() -> None:
    seen: set[object] = set()
    answers = iter([201, 204, 406, 503, 201, 302, 401, 204])

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        seen.add(request.transport.get_extra_info("peername"))
        status = next(answers)
        response = web.Response(status=status, body=b"" if status == 204 else b'{"errors": [{"title": "x"}]}')
        if status == 406:
            response.enable_chunked_encoding()
        response.set_cookie("session", "kept by nobody")
        assert "Cookie" not in request.headers
        return response

    async with web_server(handler) as url, cention(f"{url}/s/demo") as client:
        for _ in range(8):
            await client.new_errand(ERRAND, TOKEN)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *[(status, Rejected) for status in (400, 404, 405, 406, 409, 413, 415, 422)],
        *[(status, Unauthorised) for status in (401, 403)],
        *[(status, TryLater) for status in (301, 302, 307, 308, 408, 425, 429, 500, 501, 502, 503, 504)],
        *[(status, Delivered) for status in (200, 202, 204)],
    ],
)
async def test_every_status_has_its_outcome(
    client: CentionClient, sandbox: Sandbox, status: int, kind: type[Outcome]
) -> None:
    sandbox.set_faults([{"status": status, "headers": {"Retry-After": "7", "Location": "/elsewhere"}}])
    for attempt in (
        client.new_errand(ERRAND, TOKEN),
        client.end_errand(ENDED, TOKEN),
        client.end_obcall(OBCALL, TOKEN),
    ):
        outcome = await attempt
        assert isinstance(outcome, kind)
        assert not isinstance(outcome, Unknown)
        assert outcome.status == status
        if status in (408, 425, 429, 500, 501, 502, 503, 504):
            assert isinstance(outcome, TryLater)
            assert outcome.retry_after_s == 7.0
    assert sandbox.faults[0]["hits"] == 3  # no status is tried a second time
    assert sandbox.arrivals == []


async def test_the_server_s_words_come_back_without_ours() -> None:
    async def echo(request: web.Request) -> web.Response:
        said = {"title": "Not Acceptable", "detail": f"can't read {await request.text()} of {request.headers}"}
        return web.json_response({"errors": [said]}, status=406)

    async with web_server(echo) as url, cention(f"{url}/s/demo") as client:
        outcome = await client.new_errand(ERRAND, TOKEN)
    assert isinstance(outcome, Rejected)
    assert outcome.reason.startswith("Not Acceptable: can't read")
    for secret in ("46701740605", "Åsa", "Öberg", "46846500400", "Support", TOKEN):
        assert secret not in outcome.reason


async def test_a_refused_token_and_one_that_no_header_can_carry(client: CentionClient, sandbox: Sandbox) -> None:
    assert await client.new_errand(ERRAND, "another") == Unauthorised(
        401, "Unauthorized: the token is missing or not known"
    )
    for token in ("", "two words", "line\nbreak", "ü"):
        outcome = await client.new_errand(ERRAND, token)
        assert isinstance(outcome, Unauthorised)
        assert "nothing was sent" in outcome.reason
    assert sandbox.arrivals == []


async def test_a_redirect_is_not_followed_and_takes_no_token_along() -> None:
    elsewhere: list[web.Request] = []

    async def other(request: web.Request) -> web.Response:
        elsewhere.append(request)
        return web.Response(status=201)

    async with web_server(other) as other_url:

        async def redirect(_request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"{other_url}/s/demo/capi/json/c3_new_errands"})

        async with web_server(redirect) as url, cention(f"{url}/s/demo") as client:
            outcome = await client.new_errand(ERRAND, TOKEN)
    assert isinstance(outcome, TryLater)
    assert outcome.status == 307
    assert elsewhere == []


async def test_a_malformed_location_is_not_followed(client: CentionClient, sandbox: Sandbox) -> None:
    assert await client.new_errand(ERRAND, TOKEN) == Delivered(201, "511055")
    assert len(sandbox.arrivals) == 1


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    written = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(status=406, headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while written < 200 * 2**20:
                await response.write(b"no " * 10_000)
                written += 30_000
        return response

    async with web_server(endless) as url, cention(f"{url}/s/demo") as client:
        outcome = await client.new_errand(ERRAND, TOKEN)
    assert isinstance(outcome, Rejected)
    assert len(outcome.reason) == 300
    assert written < 100 * 2**20  # what the sockets' buffers hold, and no more


async def test_nothing_personal_and_no_token_is_logged(
    client: CentionClient, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    sandbox.set_faults([{"reset": "before", "times": 1}, {"status": 503, "times": 1}])
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            await client.new_errand(ERRAND, TOKEN)
        async with cention("http://127.0.0.1:1/s/demo") as refused:
            await refused.new_errand(ERRAND, TOKEN)
    captured = capfd.readouterr()
    for secret in (TOKEN, "46701740605", "46846500400", "Öberg"):
        assert secret not in caplog.text + captured.out + captured.err


async def test_a_cancelled_attempt_is_cancelled(client: CentionClient, sandbox: Sandbox) -> None:
    sandbox.set_faults([{"delay_s": 3600}])
    attempt = asyncio.create_task(client.new_errand(ERRAND, TOKEN))
    async with asyncio.timeout(20):
        while sandbox.faults[0]["hits"] == 0:
            await asyncio.sleep(0.005)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


async def test_misuse_is_told() -> None:
    with pytest.raises(ValueError, match="workspace"):
        cention("https://api.example.com")
    with pytest.raises(ValueError, match="attempt_timeout_s"):
        cention("https://api.example.com/s/demo", timeout_s=0)
    with pytest.raises(ValueError, match="connections_max"):
        cention("https://api.example.com/s/demo", connections_max=0)
    with pytest.raises(RuntimeError, match="async with"):
        await cention("https://api.example.com/s/demo").new_errand(ERRAND, TOKEN)

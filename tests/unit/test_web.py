"""The manners of both listeners: every error is problem+json, tokens are read and compared, ports are given back."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest
from aiohttp import web
from yarl import URL

from bridge.runtime.web import PROBLEM_TYPE, Handler, Problem, bearer_token, json_response, problems, same_secret, serve
from tests.fakes.logs import captured


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application(middlewares=[problems], client_max_size=100)
    app.router.add_get("/it", handler)
    app.router.add_post("/it", handler)
    runner, port = await serve(app, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def answer(
    handler: Handler, path: str = "/it", method: str = "GET", data: bytes | None = None
) -> tuple[aiohttp.ClientResponse, dict[str, object]]:
    async with (
        serving(handler) as url,
        aiohttp.ClientSession() as http,
        http.request(method, URL(url + path, encoded=True), data=data) as response,
    ):
        return response, orjson.loads(await response.read())


async def fine(_request: web.Request) -> web.StreamResponse:
    return json_response({"å": 1})


async def test_an_answer_is_json_that_no_cache_keeps() -> None:
    response, body = await answer(fine)
    assert (response.status, body) == (200, {"å": 1})
    assert response.headers["Cache-Control"] == "no-store"
    assert response.content_type == "application/json"


async def test_a_problem_becomes_its_document_with_its_headers() -> None:
    async def busy(_request: web.Request) -> web.StreamResponse:
        raise Problem(503, "store_unavailable", "Come again.", headers={"Retry-After": "2"}, errors=[{"pointer": "/a"}])

    response, body = await answer(busy)
    assert response.status == 503
    assert response.content_type == PROBLEM_TYPE
    assert response.headers["Retry-After"] == "2"
    assert body == {
        "type": "urn:aventa-bridge:problem:store_unavailable",
        "title": "Service Unavailable",
        "status": 503,
        "code": "store_unavailable",
        "detail": "Come again.",
        "errors": [{"pointer": "/a"}],
    }


@pytest.mark.parametrize(
    ("path", "method", "data", "status", "code"),
    [
        ("/nowhere/46701740605", "GET", None, 404, "not_found"),
        ("/it", "DELETE", None, 405, "method_not_allowed"),
        ("/it", "POST", b"x" * 101, 413, "body_too_large"),
    ],
)
async def test_what_aiohttp_refuses_is_a_problem_too_and_repeats_nothing(
    path: str, method: str, data: bytes | None, status: int, code: str
) -> None:
    async def reading(request: web.Request) -> web.StreamResponse:
        await request.read()
        return json_response({})

    response, body = await answer(reading, path, method, data)
    assert (response.status, body["status"], body["code"]) == (status, status, code)
    assert response.content_type == PROBLEM_TYPE
    assert "701740605" not in str(body)
    assert (response.headers.get("Allow") or "GET,HEAD,POST") == "GET,HEAD,POST"
    assert ("Allow" in response.headers) == (status == 405)


async def test_what_nobody_foresaw_is_ours_and_in_the_log_without_its_words() -> None:
    async def broken(_request: web.Request) -> web.StreamResponse:
        raise ValueError("no +46701740605")

    with captured() as lines:
        response, body = await answer(broken)
    assert (response.status, body["code"]) == (500, "internal_error")
    assert "701740605" not in str(body) + lines.text
    (line,) = [orjson.loads(line) for line in lines]
    assert line["level"] == "error"
    assert "Traceback" in line["exception"]


async def test_a_redirect_is_left_alone() -> None:
    async def elsewhere(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/it2")

    async with (
        serving(elsewhere) as url,
        aiohttp.ClientSession() as http,
        http.get(f"{url}/it", allow_redirects=False) as response,
    ):
        assert (response.status, response.headers["Location"]) == (302, "/it2")


async def test_bytes_that_are_no_http_are_refused_and_not_logged() -> None:
    with captured() as lines:
        async with serving(fine) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
            writer.write(b"GET /it HTTP/1.1\r\nHost: a\r\nX-Token: s3cret\x00 46701740605\r\n\r\n")
            async with asyncio.timeout(30):
                said = await reader.read()
            writer.close()
            await writer.wait_closed()
    assert said.split()[1] == b"400"
    (line,) = [orjson.loads(line) for line in lines]
    assert line["error"] == "BadHttpMessage"
    assert "s3cret" not in lines.text
    assert "701740605" not in lines.text


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("BEARER abc", "abc"),
        ("Basic abc", None),
        ("abc", None),
        ("Bearerabc", None),
    ],
)
def test_a_bearer_token_is_read_from_its_header_alone(header: str | None, token: str | None) -> None:
    assert bearer_token({} if header is None else {"Authorization": header}) == token


@pytest.mark.parametrize(
    ("given", "accepted", "same"),
    [
        ("a", ["a"], True),
        ("a", ["b", "a", "c"], True),
        ("a", [], False),
        ("", ["a"], False),
        ("a", ["ab"], False),
        ("ab", ["a", "b"], False),
        ("å", ["å"], True),
        ("\udcff", ["\udcff".encode("utf-8", "surrogateescape").decode("latin-1")], False),
    ],
)
def test_a_secret_is_one_of_those_accepted(given: str, accepted: list[str], same: bool) -> None:
    assert same_secret(given, accepted) is same


async def test_a_port_that_is_taken_leaves_nothing_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="address already in use"):
        await serve(web.Application(), "127.0.0.1", taken.getsockname()[1])

"""The manners both HTTP listeners share: problem+json errors (RFC 9457), bearer tokens, one server runner.

Knows nothing of calls. An error leaves either listener only as a `Problem`, with a stable `code`.
"""

import hmac
import re
import resource
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import hdrs, web

from bridge.runtime.connections import Connections, Limits, Refusals, Site
from bridge.runtime.logs import get_logger

log = get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

PROBLEM_TYPE = "application/problem+json"
LIMITS = Limits()


class Problem(Exception):
    """An error that the caller is told of.

    Attributes:
        status: the HTTP status.
        code: stable, machine-readable, snake_case.
        detail: one or two sentences: what is wrong and how to mend it.
        members: extension members, such as `errors`.
        headers: such as `Retry-After` (seconds) or `WWW-Authenticate`.
    """

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.members = dict(headers or {}), members

    def document(self) -> dict[str, Any]:
        """The problem as RFC 9457 section 3 lays it out."""
        title = HTTPStatus(self.status).phrase
        return {
            "type": f"urn:aventa-bridge:problem:{self.code}",
            "title": title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.members,
        }

    def response(self) -> web.Response:
        """The answer. `Connection: close` among the headers closes it; aiohttp would only send the header."""
        response = json_response(self.document(), status=self.status, headers=self.headers, content_type=PROBLEM_TYPE)
        if self.headers.get("Connection") == "close":
            response.force_close()
        return response


def json_response(
    data: Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> web.Response:
    """A JSON answer; nothing of ours may be stored by a cache, since it holds personal data."""
    return web.Response(
        body=orjson.dumps(data),
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        content_type=content_type,
    )


_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns every error of an application into problem+json."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 (what it is decides the answer)
        return answer_to(error, request.method, request.match_info.handler.__name__)


def answer_to(error: Exception, method: str, where: str) -> web.Response:
    """What a request is answered that failed with `error`; what nobody foresaw is a 500 that says it is ours.

    Args:
        method: the request's.
        where: the place in the code or among the routes, for the log: what was sent is not quoted there.

    Raises:
        HTTPException: it is no error, but a redirection.
    """
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, web.HTTPException):
        if error.status < 400:
            raise error
        detail = {404: "There is nothing at this path.", 405: f"{method} is not served here."}.get(
            error.status, error.reason
        )
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return Problem(error.status, _HTTP_CODES.get(error.status, "http_error"), detail, headers=headers).response()
    log.error("unhandled error in a request", method=method, path=where, exc_info=error)
    return Problem(500, "internal_error", "The bridge failed; its log says why. Try again.").response()


def bearer_token(headers: Mapping[str, str]) -> str | None:
    """The token of `Authorization: Bearer <token>`, or None (RFC 6750 section 2.1)."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def same_secret(given: str, accepted: Iterable[str]) -> bool:
    """Whether `given` is one of `accepted`; takes the same time wherever they differ, and looks at every one."""
    found = False
    for secret in accepted:
        found |= hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())
    return found


_LOCAL = re.compile(r"((([\w-]+\.)*localhost)|127(\.\d{1,3}){3}|\[::1\])\.?(:\d*)?", re.ASCII | re.IGNORECASE)


def require_local_name(headers: Mapping[str, str]) -> None:
    """For a listener without secrets, which is on loopback: refuses whoever thinks that he speaks to another host.

    A web page may make its own name resolve to 127.0.0.1, and then read and post here as if it were from here ("DNS
    rebinding"). It cannot hide that name. Programs of old that tell no name are no browsers, and pass.

    Raises:
        Problem: 403.
    """
    host = headers.get("Host", "")
    if host and _LOCAL.fullmatch(host) is None:
        raise Problem(
            403,
            "foreign_host",
            "Without configured secrets, only localhost and loopback addresses are answered to: use one, or configure"
            " secrets.",
        )


def _malformed() -> web.Response:
    detail = "This is not HTTP as RFC 9112 has it, or its head is over a limit; the connection is closed."
    return Problem(400, "malformed_request", detail).response()


def _refusal(request: web.BaseRequest) -> web.Response | None:
    """The answer to what aiohttp would let through, or refuse in words of its own."""
    coding, expectation = request.headers.get(hdrs.TRANSFER_ENCODING), request.headers.get(hdrs.EXPECT)
    if coding is not None and coding.lower() != "chunked":
        # "gzip, chunked" passes aiohttp, which then takes the compressed bytes for the body.
        detail = "The only Transfer-Encoding known here is chunked; the connection is closed."
        return Problem(400, "unsupported_transfer_coding", detail).response()
    if expectation is not None and expectation.lower() != "100-continue":
        detail = "The only Expect known here is 100-continue; the connection is closed."
        return Problem(417, "unsupported_expectation", detail).response()
    return None


def _no_place() -> bytes:
    body = orjson.dumps(Problem(503, "too_many_connections", "Every connection is at work; come again.").document())
    head = (
        f"HTTP/1.1 503 {HTTPStatus(503).phrase}\r\nContent-Type: {PROBLEM_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Retry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _allow_descriptors(wanted: int) -> None:
    """Raises the process's limit of open sockets and files to `wanted`, as far as the system lets it.

    1,024 is what many systems start a process with: fewer than two listeners and Redis can need.
    """
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    if resource.RLIM_INFINITY != allowed < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, most))


async def serve(
    app: web.Application | Answering, host: str, port: int, limits: Limits = LIMITS, *, reuse_port: bool = False
) -> tuple[web.BaseRunner, int]:
    """Starts `app` and returns its runner (the caller cleans it up) and the port it got (`port` 0: any).

    Args:
        app: an application, or what answers requests by itself, without aiohttp's routes and middlewares.
        reuse_port: whether other processes that say so too may listen on the port beside this one (SO_REUSEPORT).
    """
    _allow_descriptors(4 * limits.places)
    runner: web.BaseRunner
    if isinstance(app, web.Application):
        runner = web.AppRunner(app, shutdown_timeout=5)
    else:
        runner = web.ServerRunner(web.Server(app), shutdown_timeout=5)
    await runner.setup()
    try:
        assert runner.server is not None, "set up just now"
        refusals = Refusals(malformed=_malformed, of=_refusal, no_place=_no_place())
        connections = Connections(runner.server, limits, refusals)
        await Site(runner, connections, host, port, reuse_port=reuse_port).start()
    except BaseException:
        await runner.cleanup()
        raise
    bound: int = runner.addresses[0][1]
    return runner, bound


async def stop_listening(runner: web.BaseRunner) -> None:
    """Takes no new connections any more; those that there are go on. They are cleaned up with the runner."""
    for site in runner.sites:
        await site.stop()

"""The intake listener: `POST /v1/events` takes one event, an array or NDJSON, and answers once all of it is durable.

Owns the HTTP side of contract section 3: limits, media types, statuses. Must not know what a valid event is, nor
where events go: `translate`, `accept` and `reject` are given.

Invariants: a 2xx follows `accept`. Events are accepted before rejections are kept, so that a sender who must repeat a
batch (503 in between) meets duplicates, and no rejection is kept twice. What is kept comes from a sender who passed
authentication, or strangers could push an operator's rejections out. What is ours to answer for is a 5xx.
"""

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from bridge.calls.events import CallEvent
from bridge.calls.verdicts import Rejection, Verdict
from bridge.intake import batch
from bridge.intake.auth import Authenticator
from bridge.intake.batch import Accept, Outcome, Reject, Translate
from bridge.runtime.logs import get_logger
from bridge.runtime.web import Handler, Problem, json_response, problems
from bridge.store.errors import StoreUnavailable

log = get_logger(__name__)

IN_FLIGHT_MAX = 1024
BODY_TIMEOUT_S = 30.0

_JSON = "application/json"
_NDJSON = frozenset(["application/x-ndjson", "application/ndjson"])
_ACCEPTED = "application/json, application/x-ndjson"
_GZIP_MAGIC = b"\x1f\x8b"


class Unusable(Problem):
    """A whole body that no event could be read from; it is kept among the rejections.

    Attributes:
        body: the bytes to keep; None where there are none, or none that a person could read.
    """

    body: bytes | None = None


def make_intake_app(
    *,
    authenticator: Authenticator,
    translate: Translate,
    accept: Accept,
    reject: Reject,
    body_bytes_max: int,
    events_max: int,
    draining: Callable[[], bool],
    in_flight_max: int = IN_FLIGHT_MAX,
    body_timeout_s: float = BODY_TIMEOUT_S,
) -> web.Application:
    """The application behind the intake port.

    Args:
        authenticator: decides who may post.
        translate: a parsed event and its JSON text -> the event, or why not.
        accept: makes events durable, in order; may raise `StoreUnavailable`.
        reject: keeps rejections; may raise `StoreUnavailable`.
        body_bytes_max: greatest size of a body in bytes, also after inflating it.
        events_max: most events in an array or in NDJSON.
        draining: whether the service is ending and takes nothing more.
        in_flight_max: requests worked on at a time; further ones are answered 429.
        body_timeout_s: seconds within which a body must have come.

    Source: contract section 3.
    """
    intake = _Intake(
        authenticator=authenticator,
        translate=translate,
        accept=accept,
        reject=reject,
        draining=draining,
        body_bytes_max=body_bytes_max,
        events_max=events_max,
        in_flight_max=in_flight_max,
        body_timeout_s=body_timeout_s,
    )
    app = web.Application(middlewares=[_closes_when_said, problems], client_max_size=body_bytes_max)
    app.router.add_route("POST", "/v1/events", intake.post_events, expect_handler=_continue_later)
    return app


@web.middleware
async def _closes_when_said(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Lets `Connection: close` of a problem close the connection; aiohttp only sends the header."""
    response = await handler(request)
    if response.headers.get("Connection") == "close":
        response.force_close()
    return response


async def _continue_later(_request: web.Request) -> None:
    """Leaves the answer to `Expect: 100-continue` to `_read`: a body that will be refused need not be sent."""


@dataclass(slots=True)
class _Intake:
    """The handler and what it works with; the fields are `make_intake_app`'s arguments."""

    authenticator: Authenticator
    translate: Translate
    accept: Accept
    reject: Reject
    draining: Callable[[], bool]
    body_bytes_max: int
    events_max: int
    in_flight_max: int
    body_timeout_s: float
    in_flight: int = 0

    async def post_events(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/events`."""
        if self.draining():
            headers = {"Retry-After": "2", "Connection": "close"}
            raise Problem(503, "draining", "The bridge is shutting down; repeat the request.", headers=headers)
        # Before a slot is taken, so that strangers cannot use the slots up.
        admitted = self.authenticator.check_headers(request.headers)
        if self.in_flight >= self.in_flight_max:
            detail = f"{self.in_flight_max} requests are being worked on; repeat this one."
            raise Problem(429, "too_many_requests", detail, headers={"Retry-After": "1"})
        self.in_flight += 1
        try:
            return await self._taken(request, admitted)
        except StoreUnavailable as error:
            log.warning("store unavailable, events sent back", reason=error.reason)
            raise Problem(
                503,
                "store_unavailable",
                "The store is unavailable and nothing of this request is promised; repeat all of it.",
                headers={"Retry-After": str(error.retry_after_s)},
            ) from error
        finally:
            self.in_flight -= 1

    async def _taken(self, request: web.Request, admitted: bool) -> web.StreamResponse:
        try:
            body = await self._read(request)
            if not admitted:
                self.authenticator.check(request.headers, body)
                admitted = True
            if _is_ndjson(request, body):
                return await self._many(await self._lines(body))
            value = _parsed(body)
            if not isinstance(value, list):
                return await self._one(batch.one(value, body, self.translate))
            if len(value) > self.events_max:
                raise self._too_many(body)
            return await self._many(await batch.elements(value, self.translate))
        except Unusable as error:
            if admitted:
                text = None if error.body is None else batch.text_of(error.body)
                await self._keep([Rejection(None, error.code, error.detail, (), text)])
            raise

    async def _one(self, outcome: Outcome) -> web.StreamResponse:
        if isinstance(outcome, Rejection):
            await self._keep([outcome])
            members: dict[str, Any] = {"errors": batch.errors(outcome)}
            if outcome.event_id is not None:
                members["eventId"] = outcome.event_id
            raise Problem(422, batch.INVALID, outcome.detail, **members)
        [verdict] = await self.accept([outcome])
        status = 200 if verdict is Verdict.DUPLICATE else 202
        body = {"eventId": outcome.event_id, "result": verdict.result}
        return json_response(body, status=status, headers=_spooled([verdict]))

    async def _many(self, outcomes: Sequence[Outcome]) -> web.StreamResponse:
        events = [outcome for outcome in outcomes if isinstance(outcome, CallEvent)]
        verdicts: Sequence[Verdict] = await self.accept(events) if events else []
        results = batch.results(outcomes, verdicts)
        await self._keep([outcome for outcome in outcomes if isinstance(outcome, Rejection)])
        return json_response({"results": results}, status=207, headers=_spooled(verdicts))

    async def _keep(self, rejections: Sequence[Rejection]) -> None:
        if rejections:
            await self.reject(rejections)

    async def _lines(self, body: bytes) -> list[Outcome]:
        try:
            return await batch.lines(body, self.translate, self.events_max)
        except batch.TooManyEvents:
            raise self._too_many(body) from None

    def _too_many(self, body: bytes) -> Unusable:
        detail = f"More than {self.events_max} events in one request; send them in several."
        return _unusable(413, "too_many_events", detail, body)

    async def _read(self, request: web.Request) -> bytes:
        """The body, its content coding undone, at most `body_bytes_max` bytes at any stage."""
        coding = request.headers.get("Content-Encoding", "").strip().lower() or "identity"
        if coding not in ("identity", "gzip"):
            detail = "A body may be gzip or not compressed."
            raise _unusable(415, "unsupported_encoding", detail, headers={"Accept-Encoding": "gzip, identity"})
        if (request.content_length or 0) > self.body_bytes_max:
            raise self._too_large(unread=True)
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer proper has not begun
        held = bytearray()
        try:
            async with asyncio.timeout(self.body_timeout_s):
                async for chunk in request.content.iter_any():
                    held += chunk
                    if len(held) > self.body_bytes_max:
                        raise self._too_large(None if coding == "gzip" else bytes(held), unread=True)
        except TimeoutError:
            detail = f"The body did not come within {self.body_timeout_s:g} s."
            raise Problem(408, "body_timeout", detail, headers={"Connection": "close"}) from None
        except (web.RequestPayloadError, OSError) as error:
            # The sender went away, or its chunks are malformed: nothing to keep, and perhaps nobody to tell.
            raise Problem(400, "broken_body", "The body broke off or is wrongly framed.") from error
        body = bytes(held)
        # No JSON begins with this magic: a body that the server has inflated already is left as it is.
        return self._inflated(body) if coding == "gzip" and body.startswith(_GZIP_MAGIC) else body

    def _inflated(self, body: bytes) -> bytes:
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            content = inflater.decompress(body, self.body_bytes_max + 1)
        except zlib.error:
            raise _unusable(400, "broken_encoding", "The body is not valid gzip.") from None
        if len(content) > self.body_bytes_max:
            raise self._too_large()
        if not inflater.eof or inflater.unused_data:
            raise _unusable(400, "broken_encoding", "The body is not one complete gzip stream.")
        return content

    def _too_large(self, body: bytes | None = None, *, unread: bool = False) -> Unusable:
        detail = f"The body is larger than {self.body_bytes_max} bytes; send the events in several requests."
        headers = {"Connection": "close"} if unread else None
        return _unusable(413, "body_too_large", detail, body, headers=headers)


def _spooled(verdicts: Sequence[Verdict]) -> dict[str, str]:
    return {"Bridge-Spooled": "true"} if Verdict.SPOOLED in verdicts else {}


def _is_ndjson(request: web.Request, body: bytes) -> bool:
    charset = (request.charset or "utf-8").lower()
    if "Content-Type" in request.headers and charset in ("utf-8", "utf8"):
        if request.content_type == _JSON:
            return False
        if request.content_type in _NDJSON:
            return True
    detail = f"Content-Type must be one of {_ACCEPTED}, in UTF-8."
    raise _unusable(415, "unsupported_media_type", detail, body, headers={"Accept": _ACCEPTED})


def _parsed(body: bytes) -> object:
    try:
        return batch.parse(body)
    except batch.Unreadable as error:
        raise _unusable(400, batch.UNREADABLE, f"The body is not JSON: {error.detail}.", body) from None


def _unusable(
    status: int, code: str, detail: str, body: bytes | None = None, *, headers: dict[str, str] | None = None
) -> Unusable:
    problem = Unusable(status, code, detail, headers=headers)
    problem.body = body
    return problem

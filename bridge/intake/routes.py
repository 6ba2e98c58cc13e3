"""The intake listener: `POST /v1/events` takes one event, an array or NDJSON, and answers once all of it is durable.

`POST /v1/cention/callback` beside it is `bridge.intake.callbacks`'s.

Owns the HTTP side of contract section 3: limits, media types, statuses. Must not know what a valid event is, nor
where events go: `translate`, `accept` and `reject` are given.

Invariants: a 2xx follows `accept`. Events are accepted before rejections are kept, so that a sender who must repeat a
batch (503 in between) meets duplicates, and no rejection is kept twice. What is kept comes from a sender who passed
authentication, or strangers could push an operator's rejections out. What is ours to answer for is a 5xx.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from bridge.calls.events import CallEvent
from bridge.calls.verdicts import Rejection, Verdict
from bridge.intake import batch
from bridge.intake.auth import Authenticator
from bridge.intake.batch import Accept, EventsRefused, Outcome, Reject, Translate
from bridge.intake.body import BODY_TIMEOUT_S, Unusable, read_body, unusable
from bridge.intake.callbacks import CallbackRoute
from bridge.runtime.logs import get_logger
from bridge.runtime.web import Answering, Problem, answer_to, json_response
from bridge.store.errors import StoreUnavailable

log = get_logger(__name__)

IN_FLIGHT_MAX = 1024

_JSON = "application/json"
_SPOOLED = {"Bridge-Spooled": "true"}
_NDJSON = frozenset(["application/x-ndjson", "application/ndjson"])
_ACCEPTED = "application/json, application/x-ndjson"


def make_intake_app(
    *,
    authenticator: Authenticator,
    translate: Translate,
    accept: Accept,
    reject: Reject,
    body_bytes_max: int,
    events_max: int,
    draining: Callable[[], bool],
    callbacks: CallbackRoute | None = None,
    in_flight_max: int = IN_FLIGHT_MAX,
    body_timeout_s: float = BODY_TIMEOUT_S,
) -> Answering:
    """What answers behind the intake port.

    Args:
        authenticator: decides who may post.
        translate: a parsed event and its JSON text -> the event, or why not.
        accept: makes events durable, in order; may raise `StoreUnavailable`.
        reject: keeps rejections; may raise `StoreUnavailable`.
        body_bytes_max: greatest size of a body in bytes, also after inflating it.
        events_max: most events in an array or in NDJSON.
        draining: whether the service is ending and takes nothing more.
        callbacks: takes Cention's callbacks; None: there is no such route.
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
    intake.handlers["/v1/events"] = intake.post_events
    if callbacks is not None:
        intake.callbacks = callbacks
        intake.handlers["/v1/cention/callback"] = intake.post_callback
    return intake.answer


@dataclass(slots=True)
class _Intake:
    """The handlers and what they work with; the fields are `make_intake_app`'s arguments.

    Two paths, one method: aiohttp's routes and middlewares would cost more than they could do here.
    """

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
    callbacks: CallbackRoute | None = None
    handlers: dict[str, Answering] = field(default_factory=dict)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers any request, errors as problem+json."""
        path = request.rel_url.path_safe
        try:
            handler = self.handlers.get(path)
            if handler is None:
                raise web.HTTPNotFound
            if request.method != "POST":
                raise web.HTTPMethodNotAllowed(request.method, ["POST"])
            return await handler(request)
        except Exception as error:  # noqa: BLE001 (what it is decides the answer)
            return answer_to(error, request.method, path)

    async def post_callback(self, request: web.BaseRequest) -> web.StreamResponse:
        """`POST /v1/cention/callback`."""
        self._unless_draining()
        assert self.callbacks is not None, "there is no such route otherwise"
        return await self.callbacks.post(request, self.authenticator)

    def _unless_draining(self) -> None:
        if self.draining():
            headers = {"Retry-After": "2", "Connection": "close"}
            raise Problem(503, "draining", "The bridge is shutting down; repeat the request.", headers=headers)

    async def post_events(self, request: web.BaseRequest) -> web.StreamResponse:
        """`POST /v1/events`."""
        self._unless_draining()
        # Before a slot is taken, so that strangers cannot use the slots up.
        admitted = self.authenticator.check_headers(request.headers)
        if self.in_flight >= self.in_flight_max:
            detail = f"{self.in_flight_max} requests are being worked on; repeat this one."
            raise Problem(429, "too_many_requests", detail, headers={"Retry-After": "1"})
        self.in_flight += 1
        try:
            return await self._taken(request, admitted)
        except (StoreUnavailable, EventsRefused) as error:
            log.warning("store unavailable, events sent back", reason=error.reason)
            raise Problem(
                503,
                "store_unavailable",
                "The store is unavailable and nothing of this request is promised; repeat all of it.",
                headers={"Retry-After": str(error.retry_after_s)},
            ) from error
        finally:
            self.in_flight -= 1

    async def _taken(self, request: web.BaseRequest, admitted: bool) -> web.StreamResponse:
        try:
            body = await read_body(
                request,
                bytes_max=self.body_bytes_max,
                timeout_s=self.body_timeout_s,
                advice="send the events in several requests",
            )
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
        return _told({"eventId": outcome.event_id, "result": verdict.result}, status, [verdict])

    async def _many(self, outcomes: Sequence[Outcome]) -> web.StreamResponse:
        events = [outcome for outcome in outcomes if isinstance(outcome, CallEvent)]
        verdicts: Sequence[Verdict] = await self.accept(events) if events else []
        results = batch.results(outcomes, verdicts)
        await self._keep([outcome for outcome in outcomes if isinstance(outcome, Rejection)])
        return _told({"results": results}, 207, verdicts)

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
        return unusable(413, "too_many_events", detail, body)


def _told(data: object, status: int, verdicts: Sequence[Verdict]) -> web.StreamResponse:
    return json_response(data, status=status, headers=_SPOOLED if Verdict.SPOOLED in verdicts else None)


def _is_ndjson(request: web.BaseRequest, body: bytes) -> bool:
    if request.headers.get("Content-Type") == _JSON:
        return False  # as nearly everybody writes it; what follows reads every other way
    charset = (request.charset or "utf-8").lower()
    if "Content-Type" in request.headers and charset in ("utf-8", "utf8"):
        if request.content_type == _JSON:
            return False
        if request.content_type in _NDJSON:
            return True
    detail = f"Content-Type must be one of {_ACCEPTED}, in UTF-8."
    raise unusable(415, "unsupported_media_type", detail, body, headers={"Accept": _ACCEPTED})


def _parsed(body: bytes) -> object:
    try:
        return batch.parse(body)
    except batch.Unreadable as error:
        raise unusable(400, batch.UNREADABLE, f"The body is not JSON: {error.detail}.", body) from None

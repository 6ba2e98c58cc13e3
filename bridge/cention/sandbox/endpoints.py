"""Cention's endpoints over HTTP: a request in, the answer out, going wrong where a fault rule says so.

Order: the whole body is read; a fault rule is chosen; its delay passes; it breaks the connection or answers in the
work's place; else the request is checked and the work done, in one step without awaiting, so that arrivals stand in
the order of the work.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from aiohttp import HttpVersion11, hdrs, web

from bridge.cention.documents import (
    DIRTY_ERRANDS,
    END_ERRANDS,
    END_OBCALL,
    ERRAND_REPORTS,
    MEDIA_TYPE,
    NEW_ERRANDS,
    DirtyErrands,
    EndErrand,
    EndObcall,
    NewErrand,
)
from bridge.cention.sandbox.checks import Refused, check_claim, check_negotiation, checked, facts_of
from bridge.cention.sandbox.faults import FaultRule, Faults
from bridge.cention.sandbox.reports import report
from bridge.cention.sandbox.state import State
from bridge.runtime.web import bearer_token, same_secret

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, 0 s: close() sends RST

Tokens = Mapping[str, frozenset[str] | None]
"""Each bearer token that is accepted, and the claims it carries; None: every claim."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that passed the checks.

    Attributes:
        body: of a POST.
        id: what stands behind the endpoint in the path, or "".
        fields: the attributes that a sparse read asks for; none for all.
        cut: whether a fault rule will cut the answer off.
    """

    body: bytes
    id: str
    fields: frozenset[str]
    cut: bool


Work = Callable[[Asked], web.Response]


class Endpoints:
    """The handlers of everything below `/s/<workspace>`.

    Args:
        state: what requests change.
        faults: the rules in force.
        tokens: the bearer tokens that are accepted; None accepts any, with every claim.
        stopping: set when the server stops; ends every delay.
    """

    def __init__(self, state: State, faults: Faults, *, tokens: Tokens | None, stopping: asyncio.Event) -> None:
        self._state, self._faults, self._tokens, self._stopping = state, faults, tokens, stopping
        # Source of methods, paths and claims: Cention API, each endpoint's part.
        self._works: dict[tuple[str, str, bool], tuple[Work, str]] = {
            ("POST", NEW_ERRANDS, False): (self._new_errand, "create_errand"),
            ("POST", END_ERRANDS, False): (self._end_errand, "create_errand"),
            ("POST", END_OBCALL, False): (self._end_obcall, "create_errand"),
            ("GET", ERRAND_REPORTS, True): (self._errand_report, "errand_data"),
            ("GET", DIRTY_ERRANDS, False): (self._dirty_errands, "errand_data"),
            ("POST", DIRTY_ERRANDS, False): (self._mark_dirty, "errand_data"),
        }

    def add_to(self, app: web.Application) -> None:
        """Routes what Cention serves."""
        for path in ("/s/{workspace}/capi/json/{endpoint}", "/s/{workspace}/capi/json/{endpoint}/{id}"):
            app.router.add_route("*", path, self._answer)
        app.router.add_route("*", "/s/{tail:.*}", self._nothing_here)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        endpoint, one = request.match_info["endpoint"], "id" in request.match_info
        methods = {method: work for (method, *place), work in self._works.items() if place == [endpoint, one]}
        if not methods:
            return await self._nothing_here(request)
        try:
            if request.method not in methods:
                raise Refused(405, ("", f"only {' and '.join(methods)} is served here"))
            response = await self._serve(request, endpoint, *methods[request.method])
        except Refused as refused:
            response = _json(refused.document(), refused.status)
        except web.HTTPRequestEntityTooLarge as error:
            response = _json(Refused(413, ("", error.text or "the body is too large")).document(), 413)
        if response.status == 405:
            response.headers[hdrs.ALLOW] = ", ".join(methods)
        return _chunked(request, response)

    async def _nothing_here(self, request: web.Request) -> web.StreamResponse:
        return _chunked(request, _json(Refused(404, ("", f"there is nothing at {request.path}")).document(), 404))

    async def _serve(self, request: web.Request, endpoint: str, work: Work, claim: str) -> web.StreamResponse:
        body = await request.read()
        fault = self._faults.next_for(endpoint, facts_of(body), request.method)
        if fault is not None:
            if fault.delay_s and await self._stopped_within(fault.delay_s):
                return _broken(request)
            if fault.reset == "before":
                return _broken(request)
            if fault.status is not None:
                return _answer_of(fault, fault.status)
        self._check(request, claim)
        fields = request.query.get(f"fields[{endpoint}]", "")
        cut = fault is not None and fault.reset is not None
        answer = work(Asked(body, request.match_info.get("id", ""), frozenset(filter(None, fields.split(","))), cut))
        if fault is not None and fault.answer_delay_s and await self._stopped_within(fault.answer_delay_s):
            return _broken(request)
        if fault is not None and fault.reset == "after":
            return _broken(request)
        if fault is not None and fault.reset == "midway":
            return await _cut_off(request, answer)
        return answer

    def _check(self, request: web.Request, claim: str) -> None:
        token = bearer_token(request.headers)
        if token is None or (self._tokens is not None and not same_secret(token, self._tokens)):
            raise Refused(401, ("", "the token is missing or not known"))
        if self._tokens is not None:
            check_claim(self._tokens[token], claim)
        sent = request.headers.get(hdrs.CONTENT_TYPE, "") if request.method == "POST" else None
        check_negotiation(sent, request.headers.getall(hdrs.ACCEPT, []))

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    def _new_errand(self, asked: Asked) -> web.Response:
        errand = self._state.new_errand(checked(asked.body, NewErrand), asked.body, cut=asked.cut)
        response = _json({"data": {"type": NEW_ERRANDS, "id": str(errand.errand_id)}}, 201)
        # As the real server sends it: two slashes where one is meant, and no host. Nobody should follow it.
        response.headers[hdrs.LOCATION] = f"//capi/json//{NEW_ERRANDS}/{errand.errand_id}"
        return response

    def _end_errand(self, asked: Asked) -> web.Response:
        end = checked(asked.body, EndErrand)
        if self._state.end_errand(end, asked.body, cut=asked.cut) is None:
            raise Refused(404, ("/data/attributes/errand_id", "there is no errand with this id"))
        return _json({"data": {"type": END_ERRANDS, "id": str(end.errand_id)}}, 201)

    def _end_obcall(self, asked: Asked) -> web.Response:
        self._state.end_obcall(checked(asked.body, EndObcall), cut=asked.cut)
        return web.Response(status=204)

    def _errand_report(self, asked: Asked) -> web.Response:
        number = int(asked.id) if asked.id.isascii() and asked.id.isdigit() and len(asked.id) <= 18 else -1
        if (found := self._state.read_report(number)) is None:
            raise Refused(404, ("", "there is no errand with this id"))
        errand, was_dirty = found
        return _json(report(errand, changed=was_dirty, fields=asked.fields), 200)

    def _dirty_errands(self, _asked: Asked) -> web.Response:
        errands = self._state.dirty() or None  # Go's empty list: null
        return _json({"data": {"type": DIRTY_ERRANDS, "id": "0", "attributes": {"errands": errands}}}, 200)

    def _mark_dirty(self, asked: Asked) -> web.Response:
        self._state.mark_dirty(checked(asked.body, DirtyErrands).errands or ())
        return _json({"data": {"type": DIRTY_ERRANDS, "id": "0"}}, 201)


def _json(document: object, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, headers={hdrs.CONTENT_TYPE: MEDIA_TYPE})


def _chunked(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """`response` without Content-Length, as Cention's server sends it: its clients must not count on one."""
    whole = isinstance(response, web.Response) and bool(response.body) and not response.prepared
    if whole and request.version >= HttpVersion11:
        response.enable_chunked_encoding()
    return response


def _answer_of(fault: FaultRule, status: int) -> web.Response:
    body = b""
    if fault.body is not None:
        body = fault.body.encode()
    elif status >= 400:
        # Any number up to 599 may be asked for, and not every one has a name.
        title = next((known.phrase for known in HTTPStatus if known == status), "Fault")
        body = orjson.dumps({"errors": [{"status": str(status), "title": title}]})
    headers = {hdrs.CONTENT_TYPE: fault.content_type or MEDIA_TYPE, **(fault.headers or {})}
    return web.Response(body=b"" if status in (204, 304) else body, status=status, headers=headers)


def _broken(request: web.Request) -> web.Response:
    """Resets the connection; what is returned goes nowhere."""
    if (transport := request.transport) is not None:
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    return web.Response()


async def _cut_off(request: web.Request, answer: web.Response) -> web.StreamResponse:
    """Sends the status, the headers and half of the body, then closes the connection."""
    if not isinstance(answer.body, bytes) or not answer.body:
        return _broken(request)
    part = web.StreamResponse(status=answer.status, headers=answer.headers)
    part.content_length = len(answer.body)
    with contextlib.suppress(ConnectionError):
        await part.prepare(request)
        await part.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.abort()
    return part

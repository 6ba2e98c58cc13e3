"""Cention's endpoints over HTTP: a request in, the answer out, going wrong where a fault rule says so.

Order: the whole body is read; a fault rule is chosen; its delay passes; it breaks the connection or answers in the
work's place; else the request is checked and the work done, in one step without awaiting, so that arrivals stand in
the order of the work. What the work is, `parts` knows.
"""

import asyncio
from collections.abc import Iterable, Mapping

from aiohttp import HttpVersion11, hdrs, web

from bridge.cention.sandbox.asked import Asked, Served, document
from bridge.cention.sandbox.breaking import answer_of, broken, cut_off
from bridge.cention.sandbox.checks import Refused, check_claim, check_negotiation, facts_of
from bridge.cention.sandbox.faults import Faults
from bridge.runtime.web import Handler, bearer_token, same_secret

Tokens = Mapping[str, frozenset[str] | None]
"""Each bearer token that is accepted, and the claims it carries; None: every claim."""


class Endpoints:
    """The handlers of everything below `/s/<workspace>`.

    Args:
        served: what there is, each method and path once.
        faults: the rules in force.
        tokens: the bearer tokens that are accepted; None accepts any, with every claim.
        stopping: set when the server stops; ends every delay.
    """

    def __init__(
        self, served: Iterable[Served], faults: Faults, *, tokens: Tokens | None, stopping: asyncio.Event
    ) -> None:
        self._faults, self._tokens, self._stopping = faults, tokens, stopping
        self._served: dict[str, dict[str, Served]] = {}
        for one in served:
            self._served.setdefault(one.path, {})[one.method] = one

    def add_to(self, app: web.Application) -> None:
        """Routes what Cention serves."""
        for path, methods in self._served.items():
            app.router.add_route("*", f"/s/{{workspace}}/capi/{path}", self._handler(methods))
        app.router.add_route("*", "/s/{tail:.*}", self._nothing_here)

    def _handler(self, methods: Mapping[str, Served]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                if request.method not in methods:
                    raise Refused(405, ("", f"only {' and '.join(methods)} is served here"))
                response = await self._serve(request, methods[request.method])
            except Refused as refused:
                response = document(refused.document(), refused.status)
            except web.HTTPRequestEntityTooLarge as error:
                response = document(Refused(413, ("", error.text or "the body is too large")).document(), 413)
            if response.status == 405:
                response.headers[hdrs.ALLOW] = ", ".join(methods)
            return _chunked(request, response)

        return answer

    async def _nothing_here(self, request: web.Request) -> web.StreamResponse:
        return _chunked(request, document(Refused(404, ("", f"there is nothing at {request.path}")).document(), 404))

    async def _serve(self, request: web.Request, served: Served) -> web.StreamResponse:
        body, one = await request.read(), request.match_info.get("id", "")
        facts = {**facts_of(body), **({"id": one} if one else {})}
        fault = self._faults.next_for(served.endpoint, facts, request.method)
        if fault is not None:
            if fault.delay_s and await self._stopped_within(fault.delay_s):
                return broken(request)
            if fault.reset == "before":
                return broken(request)
            if fault.status is not None:
                return answer_of(fault, fault.status)
        self._check(request, served)
        cut = fault is not None and fault.reset is not None
        answer = served.work(Asked(body, one, request.query, cut))
        if fault is not None and fault.answer_delay_s and await self._stopped_within(fault.answer_delay_s):
            return broken(request)
        if fault is not None and fault.reset == "after":
            return broken(request)
        if fault is not None and fault.reset == "midway":
            return await cut_off(request, answer)
        return answer

    def _check(self, request: web.Request, served: Served) -> None:
        token = bearer_token(request.headers)
        if token is None or (self._tokens is not None and not same_secret(token, self._tokens)):
            raise Refused(401, ("", "the token is missing or not known"))
        if self._tokens is not None:
            check_claim(self._tokens[token], served.claims)
        if served.json_api:
            sent = request.headers.get(hdrs.CONTENT_TYPE, "") if request.method == "POST" else None
            check_negotiation(sent, request.headers.getall(hdrs.ACCEPT, []))

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False


def _chunked(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """`response` without Content-Length, as Cention's server sends it: its clients must not count on one."""
    whole = isinstance(response, web.Response) and bool(response.body) and not response.prepared
    if whole and request.version >= HttpVersion11:
        response.enable_chunked_encoding()
    return response

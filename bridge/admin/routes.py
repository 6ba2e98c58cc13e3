"""The admin listener's endpoints (contract section 4): probes and metrics, open; the rest for viewers and operators.

Knows the store by its reads only, and the service by the probes it is given.
"""

import base64
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from bridge.admin.callback_views import callback_view, document_view
from bridge.admin.views import SHOWN_STATES, AgentOf, call_view, history_view, rejection_view, shown_state
from bridge.calls.events import Direction, Pair
from bridge.calls.state import LIVE, Call
from bridge.runtime.web import Handler, Problem, bearer_token, json_response, problems, require_local_name, same_secret
from bridge.store.callbacks import CallbackStore
from bridge.store.errors import StoreUnavailable
from bridge.store.reads import CallRead, Position, Reads
from bridge.store.rejections import RejectionStore

LIMIT, LIMIT_MAX = 100, 1000
INTEGER_MAX = 2**53 - 1
_OPEN = frozenset(["/livez", "/readyz", "/metrics"])
_NO_CURSOR = "must be the `next` of an earlier answer"
_MASKED = web.RequestKey("masked", bool)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the service takes events: each condition by name, and True where it holds.

    Attributes:
        one_of: names of conditions of which one is enough; all others must hold.
    """

    conditions: dict[str, bool]
    one_of: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        either = [holds for name, holds in self.conditions.items() if name in self.one_of]
        others = [holds for name, holds in self.conditions.items() if name not in self.one_of]
        return all(others) and (any(either) or not either)


@dataclass(slots=True)
class Access:
    """`admin.viewer_tokens` and `admin.operator_tokens`; with none of either, everybody is an operator (loopback)."""

    viewers: Sequence[str]
    operators: Sequence[str]

    def replace(self, viewers: Sequence[str], operators: Sequence[str]) -> bool:
        """Accepts other tokens from now on, in place of all, and says whether anything changed.

        None at all for some changes nothing: a listener that is guarded is not opened while it runs.
        """
        if (list(viewers), list(operators)) in ((list(self.viewers), list(self.operators)), ([], [])):
            return False
        self.viewers, self.operators = viewers, operators
        return True

    def masked(self, request: web.Request) -> bool:
        """Whether the caller sees masked numbers.

        Raises:
            Problem: 401, the caller is neither; 403, it asks for a host that this is not.
        """
        if not self.viewers and not self.operators:
            require_local_name(request.headers)
            return False
        token = bearer_token(request.headers)
        if token is not None:
            operator, viewer = same_secret(token, self.operators), same_secret(token, self.viewers)
            if operator or viewer:
                return not operator
        raise Problem(
            401,
            "unauthenticated" if token is None else "bad_token",
            "Send `Authorization: Bearer` with one of admin.viewer_tokens or admin.operator_tokens.",
            headers={"WWW-Authenticate": 'Bearer realm="aventa-bridge admin"'},
        )


class Admin:
    """The handlers."""

    def __init__(
        self,
        *,
        access: Access,
        reads: Reads,
        rejections: RejectionStore,
        callbacks: CallbackStore,
        readiness: Callable[[], Awaitable[Readiness]],
        metrics: Callable[[], bytes],
        document: Callable[[], bytes],
        agent_of: AgentOf = lambda pair: None,
    ) -> None:
        self._access, self._reads, self._rejections = access, reads, rejections
        self._readiness, self._metrics, self._document = readiness, metrics, document
        self._agent_of, self._callbacks = agent_of, callbacks

    def app(self) -> web.Application:
        app = web.Application(middlewares=[problems, self._guard])
        app.router.add_get("/livez", self.livez)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/openapi.json", self.openapi)
        app.router.add_get("/v1/calls", self.calls)
        # Not \d, which takes digits of every script; and no more of them than 2^53-1 has: int() refuses thousands.
        app.router.add_get("/v1/calls/{device_id:[0-9]{1,16}}/{extension_id:[0-9]{1,16}}", self.pair)
        app.router.add_get("/v1/calls/{call_id:[^/]+}", self.call)  # aiohttp's own pattern takes no braces: {guid}
        app.router.add_get("/v1/rejections", self.rejections)
        app.router.add_get("/v1/callbacks", self.callbacks)
        app.router.add_get("/v1/callbacks/{callback_id:[^/]+}", self.callback)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in _OPEN:
            request[_MASKED] = self._access.masked(request)
        try:
            return await handler(request)
        except StoreUnavailable as error:
            raise Problem(
                503,
                "store_unavailable",
                "Redis does not answer; the bridge goes on as soon as it does.",
                headers={"Retry-After": str(error.retry_after_s)},
            ) from error

    async def livez(self, _request: web.Request) -> web.Response:
        """The process runs and its loop turns: that this is answered is the proof."""
        return json_response({"status": "alive"})

    async def readyz(self, _request: web.Request) -> web.Response:
        readiness = await self._readiness()
        body = {"status": "ready" if readiness.ready else "not ready", "conditions": readiness.conditions}
        return json_response(body, status=200 if readiness.ready else 503)

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def openapi(self, _request: web.Request) -> web.Response:
        """The OpenAPI document of both listeners."""
        return web.Response(body=self._document(), content_type="application/json")

    async def calls(self, request: web.Request) -> web.Response:
        query = _Query(request, "deviceId", "extensionId", "direction", "state", "limit", "cursor")
        device_id, extension_id = query.integer("deviceId"), query.integer("extensionId")
        direction = query.choice("direction", [value.value for value in Direction])
        state = query.choice("state", SHOWN_STATES)
        limit = query.integer("limit", least=1, most=LIMIT_MAX) or LIMIT
        after = query.cursor()
        query.done()

        def wanted(call: Call) -> bool:
            return (
                call.state in LIVE
                and device_id in (None, call.pair.device_id)
                and extension_id in (None, call.pair.extension_id)
                and direction in (None, call.facts.direction)
                and state in (None, shown_state(call))
            )

        found, last = await self._reads.active(wanted, limit, after)
        return json_response(self._listed(found, request, None if last is None else _cursor(last)))

    async def pair(self, request: web.Request) -> web.Response:
        pair = Pair(int(request.match_info["device_id"]), int(request.match_info["extension_id"]))
        found = await self._reads.pair(pair)
        if not found:
            raise Problem(
                404, "no_active_call", f"deviceId {pair.device_id}, extensionId {pair.extension_id} has no call."
            )
        return json_response(self._listed(found, request, None))

    def _listed(self, found: Sequence[CallRead], request: web.Request, following: str | None) -> dict[str, Any]:
        views = [call_view(read, masked=request[_MASKED], agent_of=self._agent_of) for read in found]
        return {"calls": views, "next": following}

    async def call(self, request: web.Request) -> web.Response:
        history = await self._reads.history(request.match_info["call_id"])
        if history is None:
            raise Problem(
                404,
                "unknown_call",
                "No event of this call came, or it ended longer than calls.ended_retention_s ago."
                " /v1/rejections has the events that were refused.",
            )
        told = [(Pair.parse(entry["pair"]), entry["callback"]) for entry in history.timeline if "callback" in entry]
        files = dict(zip((name for _, name in told), await self._callbacks.files(told), strict=True))
        return json_response(history_view(history, masked=request[_MASKED], agent_of=self._agent_of, files=files))

    async def callbacks(self, request: web.Request) -> web.Response:
        query = _Query(request, "limit", "cursor")
        limit = query.integer("limit", least=1, most=LIMIT_MAX) or LIMIT
        after = query.cursor()
        query.done()
        found, last = await self._callbacks.newest(limit, after)
        views = [callback_view(kept, masked=request[_MASKED]) for kept in found]
        return json_response({"callbacks": views, "next": None if last is None else _cursor(last)})

    async def callback(self, request: web.Request) -> web.Response:
        kept = await self._callbacks.look_up(request.match_info["callback_id"])
        if kept is None:
            raise Problem(
                404, "unknown_callback", "No such callback came, or it is no longer kept: callback.age_s_max."
            )
        return json_response(document_view(kept, masked=request[_MASKED]))

    async def rejections(self, request: web.Request) -> web.Response:
        query = _Query(request, "limit", "cursor")
        limit = query.integer("limit", least=1, most=LIMIT_MAX) or LIMIT
        before = query.entry("cursor")
        query.done()
        found = await self._rejections.newest(limit, before)
        return json_response(
            {
                "rejections": [rejection_view(stored, masked=request[_MASKED]) for stored in found],
                "next": found[-1]["id"] if len(found) == limit else None,
            }
        )


class _Query:
    """A query string, read member by member; `done` raises one problem with every fault."""

    def __init__(self, request: web.Request, *known: str) -> None:
        self._query = request.query
        self._faults = [
            {"parameter": name, "detail": f"not known here; known are {', '.join(known)}"}
            for name in request.query
            if name not in known
        ]

    def _fault(self, name: str, detail: str) -> None:
        self._faults.append({"parameter": name, "detail": detail})

    def integer(self, name: str, *, least: int = 0, most: int = INTEGER_MAX) -> int | None:
        text = self._query.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) <= 16 and least <= int(text) <= most):
            self._fault(name, f"must be an integer from {least} to {most}")
            return None
        return int(text)

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        text = self._query.get(name)
        if text is not None and text not in choices:
            self._fault(name, f"must be one of {', '.join(choices)}")
        return text

    def entry(self, name: str) -> str | None:
        """The id of a stream's entry, in bounds that Redis takes."""
        text = self._query.get(name)
        if text is not None and (re.fullmatch("[0-9]{1,19}-[0-9]{1,19}", text) is None or not text.strip("0-")):
            self._fault(name, _NO_CURSOR)
            return None
        return text

    def cursor(self) -> Position | None:
        text = self._query.get("cursor")
        if text is None:
            return None
        try:
            started_at, name = orjson.loads(base64.urlsafe_b64decode(text.encode()))
        except (ValueError, TypeError):
            started_at, name = None, None
        if type(started_at) is not int or not 0 <= started_at <= INTEGER_MAX or not isinstance(name, str):
            self._fault("cursor", _NO_CURSOR)
            return None
        return started_at, name

    def done(self) -> None:
        if self._faults:
            detail = "; ".join(f"{fault['parameter']} {fault['detail']}" for fault in self._faults)
            members: dict[str, Any] = {"errors": self._faults}
            raise Problem(400, "bad_query", f"{detail}.", **members)


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode()

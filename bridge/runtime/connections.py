"""A listener's connections: how many there may be, and what ends one that holds its place for nothing.

aiohttp bounds a request's head (length of lines, number of fields, no framing that two readers could read differently)
and closes what has been idle for `idle_s`, a head that never gets complete included. This owns the rest:

- Places. Past their number, the connection that has waited longest without a request gives way to the new one, so that
  whoever opens many and says nothing shuts nobody out. Only where all are at work is the new one refused.
- Answers nobody reads. A connection whose buffers have been full for `unread_s` seconds is cut.
- Bytes that are no HTTP. They are answered without being quoted, and logged by the fault's name, at most once a minute.
- Requests after which the two ends could disagree about where the next one begins. They are answered, then it closes.

Knows nothing of what is served, nor what a refusal says: both are given.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import hdrs, web

from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger

log = get_logger(__name__)

_LOG_EVERY_S = 60.0
# What happens when a peer goes away or frames its body wrongly: its own business, which concerns the handler alone.
_PEER_FAULTS = (ConnectionError, web.RequestPayloadError)


@dataclass(frozen=True, slots=True)
class Limits:
    """What connections may take.

    Attributes:
        places: most connections at a time.
        idle_s: seconds without a complete request head, after which a connection is closed.
        unread_s: seconds that an answer may lie unread.
    """

    places: int = 1024
    idle_s: float = 75.0  # above the 60 s of common load balancers: they must be the ones that close
    unread_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Refusals:
    """What is said where no handler is asked.

    Attributes:
        malformed: makes the answer to bytes that are no HTTP.
        of: the answer to a request that no handler should see; None for all others.
        no_place: the whole answer, head and body, to a connection that there is no place for.
    """

    malformed: Callable[[], web.Response]
    of: Callable[[web.BaseRequest], web.Response | None]
    no_place: bytes


class Connections:
    """The connections of one listener.

    Args:
        server: what aiohttp made of the application. Its request handler is wrapped, so one `Connections` a server.
    """

    def __init__(self, server: web.Server, limits: Limits, refusals: Refusals) -> None:
        self.limits, self.refusals = limits, refusals
        self._server = server
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # a dict for its order: the one idle longest comes first
        self._handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = server.request_handler
        server.request_handler = self._handled
        self._malformed, self._next_line_at = 0, 0.0

    def __len__(self) -> int:
        return len(self._open)

    def make(self) -> "Connection":
        """The protocol of a connection that was just accepted."""
        return Connection(self._server, self)

    def enter(self, connection: "Connection") -> bool:
        """Gives `connection` a place; False if every place is taken by one that is at work."""
        if len(self._open) >= self.limits.places:
            longest_idle = next(iter(self._idle), None)
            if longest_idle is None:
                return False
            self.leave(longest_idle)
            longest_idle.cut()
        self._open.add(connection)
        self._idle[connection] = None
        return True

    def leave(self, connection: "Connection") -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def malformed(self, fault: str) -> None:
        """Notes a request that was no HTTP."""
        self._malformed += 1
        if monotonic() >= self._next_line_at:
            log.warning("not HTTP", error=fault, requests=self._malformed)
            self._malformed, self._next_line_at = 0, monotonic() + _LOG_EVERY_S

    async def _handled(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection), "every connection of this server was made here"
        if (refusal := self.refusals.of(request)) is not None:
            return _last(refusal)
        self._idle.pop(connection, None)
        try:
            response = await self._handle(request)
        finally:
            if connection in self._open:
                self._idle[connection] = None
        # What follows these is in another protocol for a sender who takes any answer as leave to switch.
        return _last(response) if request.method == "CONNECT" or hdrs.UPGRADE in request.headers else response


def _last(response: web.StreamResponse) -> web.StreamResponse:
    response.force_close()
    return response


class Connection(web.RequestHandler):
    """One connection."""

    __slots__ = ("_connections", "_unread", "_wire")

    def __init__(self, server: web.Server, connections: Connections) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # aiohttp's own way of having none; its annotation lags behind
            keepalive_timeout=connections.limits.idle_s,
            auto_decompress=False,  # the intake inflates within its own bound; nobody else takes compressed bodies
            lingering_time=1,  # a refused body that is not read must not hold up the drain
        )
        self._connections = connections
        self._unread: asyncio.TimerHandle | None = None
        self._wire: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        if not self._connections.enter(self):
            self._wire.write(self._connections.refusals.no_place)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.leave(self)
        self._wire = None
        self._read_on()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = asyncio.get_running_loop().call_later(self._connections.limits.unread_s, self.cut)

    def resume_writing(self) -> None:
        self._read_on()
        super().resume_writing()

    def _read_on(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def cut(self) -> None:
        """Ends the connection now. Closing it would wait for the peer to read what is buffered."""
        if self._wire is not None:
            self._wire.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what did not get as far as a handler; aiohttp's own answer and log line quote what came."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        self._connections.malformed(type(exc).__name__)
        return _last(self._connections.refusals.malformed())

    def log_exception(self, *args: Any, **kw: Any) -> None:
        if not isinstance(kw.get("exc_info"), _PEER_FAULTS):
            super().log_exception(*args, **kw)


class Site(web.BaseSite):
    """Listens on a TCP port for `connections`."""

    __slots__ = ("_connections", "_host", "_port", "_shared")

    def __init__(
        self, runner: web.BaseRunner, connections: Connections, host: str, port: int, *, reuse_port: bool
    ) -> None:
        super().__init__(runner, backlog=1024)
        self._connections, self._host, self._port, self._shared = connections, host, port, reuse_port

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        await super().start()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._connections.make, self._host, self._port, backlog=self._backlog, reuse_port=self._shared
        )

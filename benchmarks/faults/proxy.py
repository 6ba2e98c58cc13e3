"""A TCP proxy that goes wrong on demand: between a bridge and Cention, or between a bridge and Redis.

Knows bytes and connections, no protocol. One exchange is what a client sends until something comes back, and what comes
back; that fits both HTTP/1.1 and Redis pipelines. Invariants: one fault is in force at a time; every exchange that was
begun and whose answer did not get through is in `cuts`.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from bridge.runtime.clock import now_ms
from bridge.runtime.tasks import Tasks

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends a reset
_CHUNK_BYTES = 65_536


class Kind(StrEnum):
    """What goes wrong."""

    REFUSE = "refuse"
    """Nobody listens; what was connected is reset."""
    RESET_BEFORE = "reset before"
    """The connection is reset when a request comes; none of it is passed on."""
    RESET_AFTER = "reset after"
    """The request is passed on; the connection is reset when the answer comes."""
    CUT_MIDWAY = "cut midway"
    """The request is passed on; a part of the answer gets through before the connection is closed."""
    BLACK_HOLE = "black hole"
    """What is sent vanishes, in both directions, and nobody says so."""
    HOLD = "hold"
    """What is sent is held up, in both directions, and comes through when the fault ends."""
    DRIP = "drip"
    """The answer comes byte by byte, `delay_s` apart."""
    DELAY = "delay"
    """The answer comes `delay_s` late."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in force.

    Attributes:
        probability: how likely an exchange is to meet it, from 0 to 1 (`REFUSE` meets all).
        delay_s: seconds, for `DRIP` and `DELAY`.
    """

    kind: Kind
    probability: float = 1.0
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cut:
    """An exchange whose answer did not get through: when it ended, ms since the epoch, and what had been asked."""

    at: int
    asked: bytes


class FaultProxy:
    """Listens on a free port of loopback and passes everything on to `upstream_port` there.

    Attributes:
        cuts: every exchange that was cut off, oldest first.
        hits: how often a fault met something: a request, an answer, or a connection that was open.
    """

    def __init__(self, upstream_port: int, *, seed: int) -> None:
        self.upstream_port = upstream_port
        self.cuts: list[Cut] = []
        self.hits = 0
        self.fault: Fault | None = None
        self.released = asyncio.Event()
        self.released.set()
        self._dice = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._held: socket.socket | None = None
        self._port = 0
        self._open: set[_Link] = set()
        self._tasks = Tasks("proxy")

    @property
    def port(self) -> int:
        return self._port

    async def start(self) -> None:
        """Listens; the port stays the same from then on."""
        await self._listen(_bound(0))

    async def fail(self, fault: Fault) -> None:
        """Puts `fault` in force, in place of any other."""
        await self.heal()
        self.fault = fault
        if fault.kind is Kind.REFUSE and self._server is not None:
            self._server.close()
            self._server = None
            self.hits += len(self._open)
            self._reset(lambda _link: True)
            # Bound, not listening: a connection is refused, and nobody else gets the port meanwhile.
            self._held = _bound(self._port)
        if fault.kind is Kind.HOLD:
            self.released.clear()

    async def heal(self) -> None:
        """Ends the fault: what was held comes through, what fell into a black hole is reset."""
        self.fault = None
        self.released.set()
        self._reset(lambda link: link.lost)
        if self._held is not None:
            held, self._held = self._held, None
            await self._listen(held)

    async def close(self) -> None:
        """Ends all connections and stops listening."""
        self.released.set()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._held is not None:
            self._held.close()
            self._held = None
        self._reset(lambda _link: True)
        await self._tasks.drain(2)

    def roll(self) -> float:
        """The proxy's dice, from 0 to 1."""
        return self._dice.random()

    async def _listen(self, bound: socket.socket) -> None:
        self._port = bound.getsockname()[1]
        self._server = await asyncio.start_server(self._accepted, sock=bound, backlog=512)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.start(self._serve(reader, writer), "connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        except OSError:
            _abort(writer)  # nobody serves behind the proxy: the client sees a reset
            return
        link = _Link(self, (reader, writer), upstream)
        self._open.add(link)
        try:
            await link.run()
        finally:
            self._open.discard(link)

    def _reset(self, wanted: Callable[["_Link"], bool]) -> None:
        for link in [link for link in self._open if wanted(link)]:
            link.reset()


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: FaultProxy, client: _Streams, upstream: _Streams) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._from_upstream, self._to_upstream = upstream
        self._asked = bytearray()  # of the exchange under way; empty: none is
        self._roll = 1.0
        self.lost = False
        """Whether something vanished here: the connection can never be in step again."""

    async def run(self) -> None:
        pumps = [asyncio.ensure_future(self._up()), asyncio.ensure_future(self._down())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._note_cut()
            await _close(self._to_upstream)
            await _close(self._to_client)

    def reset(self) -> None:
        """Breaks both ends off."""
        self._note_cut()
        _abort(self._to_client)
        _abort(self._to_upstream)

    def _note_cut(self) -> None:
        if self._asked:
            self._proxy.cuts.append(Cut(now_ms(), bytes(self._asked)))
            self._asked.clear()

    def _fault(self) -> Fault | None:
        fault = self._proxy.fault
        if fault is None or self._roll >= fault.probability:
            return None
        self._proxy.hits += 1
        return fault

    async def _up(self) -> None:
        await self._pump(self._from_client, self._ask)

    async def _down(self) -> None:
        await self._pump(self._from_upstream, self._answer)

    async def _pump(self, source: asyncio.StreamReader, take: Callable[[bytes], Awaitable[bool]]) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(_CHUNK_BYTES):
                if not await take(data):
                    return

    async def _ask(self, data: bytes) -> bool:
        """Takes what the client sent; returns whether the connection goes on."""
        if not self._asked:
            self._roll = self._proxy.roll()
        fault = self._fault()
        if fault is not None and fault.kind is Kind.RESET_BEFORE:
            self.reset()
            return False
        self._asked += data
        if self.lost or (fault is not None and fault.kind is Kind.BLACK_HOLE):
            self.lost = True
            return True
        if fault is not None and fault.kind is Kind.HOLD:
            await self._proxy.released.wait()
        self._to_upstream.write(data)
        await self._to_upstream.drain()
        return True

    async def _answer(self, data: bytes) -> bool:
        """Takes what came back; returns whether the connection goes on."""
        fault = self._fault()
        if self.lost or (fault is not None and fault.kind is Kind.BLACK_HOLE):
            self.lost = True
            return True
        match fault:
            case Fault(kind=Kind.RESET_AFTER):
                self.reset()
                return False
            case Fault(kind=Kind.CUT_MIDWAY):
                self._to_client.write(data[: int(len(data) * self._proxy.roll())])
                await self._to_client.drain()
                self._note_cut()
                return False  # both ends are closed in order: a part of an answer, and then an end
            case Fault(kind=Kind.HOLD):
                await self._proxy.released.wait()
            case Fault(kind=Kind.DELAY, delay_s=delay_s):
                await asyncio.sleep(delay_s)
            case Fault(kind=Kind.DRIP, delay_s=delay_s):
                for at in range(len(data)):
                    if self._proxy.fault is not fault:
                        data = data[at:]
                        break
                    self._to_client.write(data[at : at + 1])
                    await self._to_client.drain()
                    await asyncio.sleep(delay_s)
                else:
                    data = b""
            case _:
                pass
        self._to_client.write(data)
        await self._to_client.drain()
        self._asked.clear()
        return True


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


def _abort(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()

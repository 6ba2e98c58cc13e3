"""`python -m benchmarks.speed.load`: plays prepared requests at one address.

Command `{"do": "prepare", ...}` (the fields of `Plan`) builds every request and opens the connections; `{"do": "go"}`
plays them and answers the times, in seconds on the monotonic clock, one a request: `due`, `sent` and `answered`.

Closed loop (`rate` 0): each connection sends its next request when the last was answered. Open loop: requests leave
when they are due, whatever became of those before; one that finds no free connection leaves late, and its `due` says
how late, so that a stall counts for everyone it held up and not once.
"""

import asyncio
import selectors
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import monotonic, process_time
from typing import Any, cast

from benchmarks.speed.events import Step, Writer, steps
from benchmarks.speed.http import first_message, request
from benchmarks.speed.pipe import answer, commands, quick_loop
from bridge.runtime.tasks import Tasks

AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What to play.

    Attributes:
        ports: of loopback; connections are shared out over them, and an event takes whichever is free.
        run, first, agents: see `events.Writer`.
        calls: how many, each with a start and an end (`ends` false: a start alone).
        active: see `events.steps`.
        connections: open at a time.
        batch: events a request; above 1 they are sent as NDJSON.
        rate: requests a second; 0 for a closed loop.
        seconds: no request is begun after so many; 0: all are sent.
        paired: a connection plays a call's two events one after the other (with `active` 0, closed loop, no batch).
        apart: the calls are shared out over the ports, and not the events (closed loop, no batch, not paired).
        insist: a request is sent again until it is accepted: over a broken connection, and on any answer but 2xx.
    """

    calls: int
    ports: Sequence[int] = ()
    run: str = ""
    first: int = 0
    agents: int = 0
    active: int = 1000
    ends: bool = True
    connections: int = 64
    batch: int = 1
    rate: float = 0.0
    seconds: float = 0.0
    paired: bool = False
    apart: bool = False
    insist: bool = False
    path: str = "/v1/events"
    token: str = "benchmark"

    def steps(self) -> Iterator[Step]:
        """The events, in their order."""
        return (step for step in steps(self.calls, self.active) if self.ends or not step.ended)

    def requests(self) -> Iterator[bytes]:
        writer, host = Writer(self.run, self.first, self.agents), f"127.0.0.1:{self.ports[0]}"
        events = map(writer.event, self.steps())
        while chunk := list(islice(events, self.batch)):
            if self.batch == 1:
                yield request(self.path, host, chunk[0], "application/json", self.token)
            else:
                yield request(self.path, host, b"\n".join(chunk), "application/x-ndjson", self.token)


class Load:
    """Plays one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._requests = list(plan.requests())
        self._apart: dict[int, deque[int]] = {port: deque() for port in plan.ports}
        if plan.apart:
            for place, step in enumerate(plan.steps()):
                self._apart[plan.ports[step.call % len(plan.ports)]].append(place)
        self._open: list[_Connection] = []
        self._idle: list[_Connection] = []
        self._waiting: deque[int] = deque()
        self._next = 0
        self._stop_at = 0.0
        self.due: list[float] = []
        self.sent: list[float] = []
        self.answered: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.refused: str | None = None
        self._left = 0
        self._done: asyncio.Future[None]
        self._tasks = Tasks("load")

    async def connect(self) -> None:
        for _ in range(self._plan.connections):
            self._idle.append(await self._connected())

    async def _connected(self) -> "_Connection":
        loop, ports = asyncio.get_running_loop(), self._plan.ports
        port = ports[len(self._open) % len(ports)]
        _, connection = await loop.create_connection(lambda: _Connection(self, port), "127.0.0.1", port)
        self._open.append(connection)
        return connection

    def close(self) -> None:
        """Closes what is open."""
        for connection in self._open:
            connection.close()

    async def play(self) -> dict[str, Any]:
        number, began = len(self._requests), process_time()
        self._done = asyncio.get_running_loop().create_future()
        self.due, self.sent, self.answered = [0.0] * number, [0.0] * number, [0.0] * number
        self._left = number
        start = monotonic()
        self._stop_at = start + self._plan.seconds if self._plan.seconds else float("inf")
        if self._plan.rate:
            self._pace(start + 0.01)
        else:
            idle, self._idle = self._idle, []
            for connection in idle:
                self.free(connection)
        await self._done
        played = self._next
        return {
            "due": self.due[:played],
            "sent": self.sent[:played],
            "answered": self.answered[:played],
            "statuses": {str(status): number for status, number in self.statuses.items()},
            "refused": self.refused,
            "cpu": process_time() - began,
        }

    def _pace(self, start: float) -> None:
        """Sends what is due, and comes back when the next is."""
        now, rate = monotonic(), self._plan.rate
        while self._next < len(self._requests) and (due := start + self._next / rate) <= now < self._stop_at:
            self.due[self._next] = due
            if self._idle:
                self._send(self._idle.pop(), self._next)
            else:
                self._waiting.append(self._next)
            self._next += 1
        if self._next < len(self._requests):
            if now >= self._stop_at:
                self._over()
            else:
                loop = asyncio.get_running_loop()
                loop.call_later(max(0.0, start + self._next / rate - monotonic()), self._pace, start)

    def _over(self) -> None:
        """What was not begun by now is not sent."""
        self._left -= len(self._requests) - self._next
        del self._requests[self._next :]
        if not self._left:
            self._end()

    def _send(self, connection: "_Connection", place: int) -> None:
        now = monotonic()
        self.sent[place] = now
        if not self._plan.rate:
            self.due[place] = now
        connection.send(place, self._requests[place])

    def free(self, connection: "_Connection") -> None:
        """`connection` can take another request."""
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        elif self._plan.paired and connection.place % 2 == 0:
            self._send(connection, connection.place + 1)
        elif self._plan.rate or self._next >= len(self._requests):
            self._idle.append(connection)
        elif self._plan.apart:
            if places := self._apart[connection.port]:
                self._next += 1
                self._send(connection, places.popleft())
            else:
                self._idle.append(connection)
        elif monotonic() >= self._stop_at:
            self._idle.append(connection)
            self._over()
        else:
            place = self._next
            self._next += 2 if self._plan.paired else 1
            self._send(connection, place)

    def answer(self, connection: "_Connection", status: int, body: bytes) -> None:
        """`connection` has the answer to what it sent."""
        place = connection.place
        self.statuses[status] += 1
        if self._plan.insist and not 200 <= status < 300:
            asyncio.get_running_loop().call_later(AGAIN_S, self._again, connection)
            return
        self.answered[place] = monotonic()
        if self._is_refusal(status, body) and self.refused is None:
            self.refused = f"{status} {body[:500].decode(errors='replace')}"
            self._end()
        self._left -= 1
        if not self._left:
            self._end()
        self.free(connection)

    def _is_refusal(self, status: int, body: bytes) -> bool:
        if self._plan.batch > 1:
            return status != 207 or body.count(b'"accepted"') != body.count(b'"eventId"')
        return not (200 <= status < 300 if self._plan.insist else status == 202)

    def _end(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def lost(self, connection: "_Connection", error: Exception | None) -> None:
        """`connection` is closed."""
        if connection in self._idle:
            self._idle.remove(connection)
        elif self._plan.insist and not self._done.done():
            self._tasks.start(self._replace(connection.place), "reconnect")
        elif not self._done.done():
            self._done.set_exception(ConnectionError(f"a connection was closed: {error}"))

    def _again(self, connection: "_Connection") -> None:
        if not connection.closed:  # else another one has its place
            connection.send(connection.place, self._requests[connection.place])

    async def _replace(self, place: int) -> None:
        """Sends what was under way on a connection that was lost again, on another one."""
        while True:
            try:
                connection = await self._connected()
            except OSError:
                await asyncio.sleep(AGAIN_S)
            else:
                connection.send(place, self._requests[place])
                return


class _Connection(asyncio.Protocol):
    def __init__(self, load: Load, port: int) -> None:
        self.port = port
        self._load, self.place, self._rest, self.closed = load, -1, b"", False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def close(self) -> None:
        self._transport.close()

    def send(self, place: int, data: bytes) -> None:
        self.place = place
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        span = first_message(data)
        if span is None:
            self._rest = data
            return
        self._rest = b""
        self._load.answer(self, int(data[9:12]), data[span.start : span.end])

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._load.lost(self, error)


async def main() -> None:
    load: Load | None = None
    async for command in commands():
        match command.pop("do"):
            case "prepare":
                if load is not None:
                    load.close()
                load = Load(Plan(**command))
                await load.connect()
                answer({"ready": True})
            case "go":
                assert load is not None, "prepared first"
                answer(await load.play())


def exact_loop() -> asyncio.AbstractEventLoop:
    """A loop whose timers are good to microseconds: epoll's round up to a millisecond."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=exact_loop if "--exact" in sys.argv else quick_loop()) as runner:
        runner.run(main())

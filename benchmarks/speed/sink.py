"""`python -m benchmarks.speed.sink`: what stands for Cention. Says 201 to every POST and keeps when which call arrived.

Commands: `{"do": "count"}` answers the number of arrivals; `{"do": "take"}` answers them, as [seconds on the monotonic
clock, call id, whether it told an end], and forgets them; `{"do": "keep", "keep": false}` only counts from then on.
"""

import asyncio
from time import monotonic
from typing import cast

from benchmarks.speed.http import first_message
from benchmarks.speed.pipe import answer, commands, quick_loop

_CALL = (b'"referenceId":"', b'"callId":"')
"""Cention's own name of it, and that of an event that was passed on as it came."""


class Arrivals:
    """What arrived."""

    def __init__(self) -> None:
        self.kept: list[tuple[float, bytes, bool]] = []
        self.count = 0
        self.keep = True

    def add(self, body: bytes) -> None:
        self.count += 1
        if not self.keep:
            return
        for name in _CALL:
            start = body.find(name)
            if start >= 0:
                start += len(name)
                ended = b'"endSession":true' in body or b"call.ended" in body
                self.kept.append((monotonic(), body[start : body.index(b'"', start)], ended))
                return
        raise ValueError(f"no call in {body!r}")


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals, self._rest = arrivals, b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        while data and (span := first_message(data)) is not None:
            self._arrivals.add(data[span.start : span.end])
            body = b'{"data":{"type":"c3_new_errands","id":"%d"}}' % self._arrivals.count
            self._transport.write(
                b"HTTP/1.1 201 Created\r\nContent-Type: application/vnd.api+json\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
            data = data[span.end :]
        self._rest = data


async def main() -> None:
    arrivals = Arrivals()
    server = await asyncio.get_running_loop().create_server(lambda: Server(arrivals), "127.0.0.1", 0)
    answer({"port": server.sockets[0].getsockname()[1]})
    async for command in commands():
        match command["do"]:
            case "count":
                answer(arrivals.count)
            case "take":
                answer([(at, call.decode(), ended) for at, call, ended in arrivals.kept])
                arrivals.kept, arrivals.count = [], 0
            case "keep":
                arrivals.keep, arrivals.kept, arrivals.count = command["keep"], [], 0
                answer(True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=quick_loop()) as runner:
        runner.run(main())

"""Whoever callbacks are forwarded to: verifies each with the Standard Webhooks library, keeps it, misbehaves."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from bridge.runtime.web import serve


@dataclass
class Receiver:
    """See the module's docstring.

    Attributes:
        url: where it listens.
        secret: what signatures are verified with.
        taken: the documents that were answered 2xx, in the order of their coming.
        ids: the `webhook-id` of each request, those that met a fault included.
        headers, bodies: likewise.
        faults: what the next requests meet in place of 204: a status, with headers.
        hanging: while set, no request is answered.
    """

    secret: str
    url: str = ""
    taken: list[Any] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    faults: deque[tuple[int, dict[str, str]]] = field(default_factory=deque)
    hanging: bool = False
    _goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    def go_on(self) -> None:
        """Answers what hangs."""
        self.hanging = False
        self._goes_on.set()

    async def post(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        Webhook(self.secret).verify(body, headers)  # raises, and is then a 500
        self.ids.append(headers["webhook-id"])
        self.headers.append(headers)
        self.bodies.append(body)
        if self.hanging:
            await self._goes_on.wait()
        if self.faults:
            status, more = self.faults.popleft()
            return web.Response(status=status, headers=more)
        self.taken.append(orjson.loads(body))
        return web.Response(status=204)


@asynccontextmanager
async def receiver(secret: str, port: int = 0) -> AsyncIterator[Receiver]:
    """A running `Receiver` on loopback."""
    it = Receiver(secret)
    app = web.Application()
    app.router.add_post("/hook", it.post)
    runner, bound = await serve(app, "127.0.0.1", port)
    it.url = f"http://127.0.0.1:{bound}/hook"
    try:
        yield it
    finally:
        it.go_on()
        await runner.cleanup()

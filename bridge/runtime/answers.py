"""An answer of JSON that leaves in one piece.

aiohttp composes a head in a dozen steps, each of which an application may change; nothing here does, and they cost more
than reading the request. So where nothing is to be said about the connection, head and body are put together at once.
In every other case (HTTP/1.0, a connection that closes, HEAD) the answer is aiohttp's own, with the same fields.

Knows nothing of what is answered.
"""

from functools import lru_cache
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE, HttpVersion11

from bridge.runtime.clock import http_date

JSON: Final = "application/json"
NO_STORE: Final = {"Cache-Control": "no-store"}


@lru_cache
def _head(status: int) -> str:
    """The head but for its last two fields' values."""
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {JSON}\r\nCache-Control: no-store\r\n"
        f"Server: {SERVER_SOFTWARE}\r\nDate: %s\r\nContent-Length: %d\r\n\r\n"
    )


class JsonAnswer(web.Response):
    """`data` as JSON that no cache keeps. For answers that go straight out: fields added later may be lost."""

    def __init__(self, data: object, status: int) -> None:
        content = orjson.dumps(data)
        super().__init__(body=content, status=status, headers=NO_STORE, content_type=JSON)
        self._content, self._has_left = content, False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        closes = self.keep_alive is False or not request.keep_alive
        if closes or request.version != HttpVersion11 or request.method == hdrs.METH_HEAD:
            return await super().prepare(request)
        self._has_left = True
        head = _head(self.status) % (http_date(), len(self._content))
        await request.writer.write_eof(head.encode() + self._content)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        if not self._has_left:
            await super().write_eof(data)

    @property
    def keep_alive(self) -> bool | None:
        return True if self._has_left else super().keep_alive

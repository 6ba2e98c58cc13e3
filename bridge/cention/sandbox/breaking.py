"""How a fault shows on the wire: a connection reset, an answer cut off, an answer in the work's place."""

import contextlib
import socket
import struct
from http import HTTPStatus

import orjson
from aiohttp import hdrs, web

from bridge.cention.documents import MEDIA_TYPE
from bridge.cention.sandbox.faults import FaultRule

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, 0 s: close() sends RST


def answer_of(fault: FaultRule, status: int) -> web.Response:
    """The answer that a rule gives in the work's place."""
    body = b""
    if fault.body is not None:
        body = fault.body.encode()
    elif status >= 400:
        # Any number up to 599 may be asked for, and not every one has a name.
        title = next((known.phrase for known in HTTPStatus if known == status), "Fault")
        body = orjson.dumps({"errors": [{"status": str(status), "title": title}]})
    headers = {hdrs.CONTENT_TYPE: fault.content_type or MEDIA_TYPE, **(fault.headers or {})}
    return web.Response(body=b"" if status in (204, 304) else body, status=status, headers=headers)


def broken(request: web.Request) -> web.Response:
    """Resets the connection; what is returned goes nowhere."""
    if (transport := request.transport) is not None:
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    return web.Response()


async def cut_off(request: web.Request, answer: web.Response) -> web.StreamResponse:
    """Sends the status, the headers and half of the body, then closes the connection."""
    if not isinstance(answer.body, bytes) or not answer.body:
        return broken(request)
    part = web.StreamResponse(status=answer.status, headers=answer.headers)
    part.content_length = len(answer.body)
    with contextlib.suppress(ConnectionError):
        await part.prepare(request)
        await part.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.abort()
    return part

"""The body of a request to the intake: read whole within its limits of size and time, its content coding undone.

Must not know what stands in it. Strangers may send anything: the size is held at every stage, and nobody is asked for a
body that would be refused.
"""

import asyncio
import zlib

from aiohttp import web

from bridge.runtime.web import Problem

BODY_TIMEOUT_S = 30.0

_GZIP_MAGIC = b"\x1f\x8b"


class Unusable(Problem):
    """A whole body that nothing could be read from; where its sender is known, it is kept among the rejections.

    Attributes:
        body: the bytes to keep; None where there are none, or none that a person could read.
    """

    body: bytes | None = None


def unusable(
    status: int, code: str, detail: str, body: bytes | None = None, *, headers: dict[str, str] | None = None
) -> Unusable:
    """An `Unusable` with all that is told of it."""
    problem = Unusable(status, code, detail, headers=headers)
    problem.body = body
    return problem


async def read_body(request: web.BaseRequest, *, bytes_max: int, timeout_s: float, advice: str) -> bytes:
    """The body, its content coding undone.

    Args:
        bytes_max: greatest size in bytes, also after inflating.
        timeout_s: seconds within which it must have come.
        advice: what the sender of a larger one can do, for the problem's `detail`.

    Raises:
        Unusable: it is too large, or its coding is unknown or broken.
        Problem: it did not come, or not in time.
    """
    came = request.content
    if (
        came.is_eof()
        and came.exception() is None
        and came.total_bytes <= bytes_max
        and "Content-Encoding" not in request.headers
    ):
        return came.read_nowait()  # as most bodies: here before anybody asks, and nothing of what follows can occur

    def too_large(body: bytes | None = None, *, unread: bool = False) -> Unusable:
        headers = {"Connection": "close"} if unread else None
        detail = f"The body is larger than {bytes_max} bytes; {advice}."
        return unusable(413, "body_too_large", detail, body, headers=headers)

    coding = request.headers.get("Content-Encoding", "").strip().lower() or "identity"
    if coding not in ("identity", "gzip"):
        detail = "A body may be gzip or not compressed."
        raise unusable(415, "unsupported_encoding", detail, headers={"Accept-Encoding": "gzip, identity"})
    if (request.content_length or 0) > bytes_max:
        raise too_large(unread=True)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer proper has not begun
    held = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in came.iter_any():
                held += chunk
                if len(held) > bytes_max:
                    raise too_large(None if coding == "gzip" else bytes(held), unread=True)
    except TimeoutError:
        detail = f"The body did not come within {timeout_s:g} s."
        raise Problem(408, "body_timeout", detail, headers={"Connection": "close"}) from None
    except (web.RequestPayloadError, OSError) as error:
        # The sender went away, or its chunks are malformed: nothing to keep, and perhaps nobody to tell.
        raise Problem(400, "broken_body", "The body broke off or is wrongly framed.") from error
    body = bytes(held)
    # No JSON begins with this magic: a body that the server has inflated already is left as it is.
    if coding != "gzip" or not body.startswith(_GZIP_MAGIC):
        return body
    content = _inflated(body, bytes_max)
    if len(content) > bytes_max:
        raise too_large()
    return content


def _inflated(body: bytes, bytes_max: int) -> bytes:
    """The content of a gzip `body`; where it is larger than `bytes_max`, as much as shows that."""
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        content = inflater.decompress(body, bytes_max + 1)
    except zlib.error:
        raise unusable(400, "broken_encoding", "The body is not valid gzip.") from None
    if len(content) <= bytes_max and (not inflater.eof or inflater.unused_data):
        raise unusable(400, "broken_encoding", "The body is not one complete gzip stream.")
    return content

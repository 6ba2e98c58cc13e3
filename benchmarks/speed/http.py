"""As much of HTTP/1.1 as a load generator and a sink need: where a message ends. Anything else costs time.

Good only for peers that are known to send Content-Length, as all here do.
"""

import re
from typing import NamedTuple

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"


class NotUnderstood(Exception):
    """A message without Content-Length; the text is its head."""


class Span(NamedTuple):
    """Where the body of the first message lies in a buffer."""

    start: int
    end: int


def first_message(data: bytes | bytearray) -> Span | None:
    """The first message's body in `data`, or None while it is not whole.

    Raises:
        NotUnderstood: the head names no length.
    """
    head_end = data.find(_END)
    if head_end < 0:
        return None
    start = head_end + len(_END)
    found = _LENGTH.search(data, 0, start)
    if found is None:
        raise NotUnderstood(bytes(data[:head_end]).decode("latin-1"))
    end = start + int(found[1])
    return Span(start, end) if len(data) >= end else None


def request(url_path: str, host: str, body: bytes, content_type: str, token: str) -> bytes:
    """A whole POST request on a connection that stays open."""
    head = (
        f"POST {url_path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body

"""Where a file's bytes come from: a path, bytes, or a stream, of which no more is read than is allowed.

Knows no document. Invariant: a file is read whole or not at all; what is too large is given up, never cut.
"""

import asyncio
import base64
import inspect
import mimetypes
from collections.abc import Awaitable
from pathlib import Path, PurePath
from typing import Protocol, TypeGuard

UNKNOWN_CONTENT_TYPE = "application/octet-stream"
"""The media type of a file whose name tells none. Source: RFC 2046 section 4.5.1."""

_PIECE_BYTES = 2**18


class Readable(Protocol):
    """A stream of bytes, such as an open file or `io.BytesIO`: `read` gives any number of them, and b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


class AsyncReadable(Protocol):
    """A stream whose `read` is awaited, such as `asyncio.StreamReader` or the `content` of aiohttp's answers."""

    def read(self, size: int, /) -> Awaitable[bytes]: ...


Source = str | PurePath | bytes | bytearray | memoryview | Readable
"""A path (a text is one too), a file's bytes, or a stream of them."""


class FileTooLarge(ValueError):
    """A file holds more bytes than were allowed. The text says how many those are."""


def read_source(source: Source, bytes_max: int) -> bytes:
    """The file; blocks while it reads. A stream is read to its end and left open.

    Raises:
        FileTooLarge: it holds more than `bytes_max` bytes; of a path or a stream no more than one beyond was read.
        OSError: it can't be read.
        TypeError: it is an asynchronous stream, or one of text.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        _check(len(source) if not isinstance(source, memoryview) else source.nbytes, bytes_max)
        return bytes(source)
    if isinstance(source, str | PurePath):
        with Path(source).open("rb") as file:
            return read_source(file, bytes_max)
    if _is_asynchronous(source):
        raise TypeError("source: an asynchronous stream has to be awaited")
    held = bytearray()
    while piece := _bytes(source.read(_next(held, bytes_max))):
        held += piece
        _check(len(held), bytes_max)
    return bytes(held)


async def load_source(source: Source | AsyncReadable, bytes_max: int) -> bytes:
    """As `read_source`, beside the event loop: in a thread, or awaiting where the stream is asynchronous."""
    if _is_asynchronous(source):
        held = bytearray()
        while piece := _bytes(await source.read(_next(held, bytes_max))):
            held += piece
            _check(len(held), bytes_max)
        return bytes(held)
    blocking: Source = source  # type: ignore[assignment] # a TypeGuard that is false tells mypy nothing
    return await asyncio.to_thread(read_source, blocking, bytes_max)


def base64_of(file: bytes) -> str:
    """`file` as base64, in one line (RFC 4648 section 4)."""
    return base64.b64encode(file).decode("ascii")


def name_of(source: object) -> str:
    """The name of the file that `source` is: the path's, or the open file's.

    Raises:
        TypeError: it tells none.
    """
    told = source if isinstance(source, str | PurePath) else getattr(source, "name", None)
    name = PurePath(told).name if isinstance(told, str | PurePath) else ""  # an open file may be known by a number
    if not name:
        raise TypeError("name: has to be told, since the source tells none")
    return name


def content_type_of(name: str) -> str:
    """The media type that the ending of `name` stands for."""
    kind, packing = mimetypes.guess_type(PurePath(name).name)
    return UNKNOWN_CONTENT_TYPE if kind is None or packing is not None else kind  # "a.tar.gz" is no tar


def _is_asynchronous(source: object) -> TypeGuard[AsyncReadable]:
    return inspect.iscoroutinefunction(getattr(source, "read", None))


def _next(held: bytearray, bytes_max: int) -> int:
    return min(_PIECE_BYTES, bytes_max + 1 - len(held))


def _bytes(piece: object) -> bytes:
    if piece is None:
        raise BlockingIOError("the stream has nothing to read now, and would have to be waited for")
    if not isinstance(piece, bytes | bytearray | memoryview):
        raise TypeError("source: a stream of bytes is wanted")
    return bytes(piece)


def _check(size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise FileTooLarge(f"the file is larger than {bytes_max} bytes")

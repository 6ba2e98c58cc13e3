"""Takes byte streams apart: lines of NDJSON, events of Server-Sent Events. Pure; knows no connection and no JSON.

Invariant: memory stays bounded by the limit given, whatever comes. What is over the limit comes out as `Overlong`
and the stream goes on behind it.
"""

import re
from dataclasses import dataclass, field

EXCERPT_BYTES_MAX = 16_384


@dataclass(frozen=True, slots=True)
class Overlong:
    """A message over the limit: all that is left of it is its beginning."""

    excerpt: bytes


Item = bytes | Overlong


class LineSplitter:
    """Cuts chunks into lines, wherever the chunks were cut.

    Args:
        limit: greatest length of a line in bytes, without its end.
        universal: CR and CRLF end a line as LF does; otherwise LF alone.
    """

    def __init__(self, limit: int, *, universal: bool) -> None:
        self._limit, self._universal = limit, universal
        self._end = re.compile(rb"\r\n|\n|\r" if universal else rb"\n")
        self._held, self._over, self._after_cr = bytearray(), False, False

    def feed(self, chunk: bytes) -> list[Item]:
        """The lines that `chunk` completes."""
        if self._after_cr and chunk:
            # The CR has ended its line already; an LF that follows it belongs to it.
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = self._universal and chunk.endswith(b"\r")
        *ended, rest = self._end.split(chunk)
        lines = [self._finish(part) for part in ended]
        self._grow(rest)
        return lines

    def rest(self) -> Item | None:
        """The last line, if the stream ended without ending it."""
        return self._finish(b"") if self._held else None

    def _grow(self, part: bytes) -> None:
        if self._over:
            return
        self._held += part
        if len(self._held) > self._limit:
            self._over = True
            del self._held[EXCERPT_BYTES_MAX:]

    def _finish(self, part: bytes) -> Item:
        self._grow(part)
        line: Item = Overlong(bytes(self._held)) if self._over else bytes(self._held)
        self._held, self._over = bytearray(), False
        return line


@dataclass(slots=True)
class SseParser:
    """Server-Sent Events as WHATWG interprets them.

    Data is left as bytes: what is not UTF-8 is rejected later, where the standard would replace it silently.

    Attributes:
        limit: greatest length of a line and of an event's data, in bytes.
        last_event_id: to be sent as `Last-Event-ID` on the next connection; empty if the server gave none.
        retry_ms: the reconnection time the server asked for, in ms.

    Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream".
    """

    limit: int
    last_event_id: str = ""
    retry_ms: int | None = None
    _lines: LineSplitter = field(init=False)
    _data: list[bytes] = field(init=False, default_factory=list)
    _size: int = field(init=False, default=0)
    _over: bytes | None = field(init=False, default=None)
    _name: bytes = field(init=False, default=b"")
    _next_id: str = field(init=False, default="")
    _begun: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.connected()

    def connected(self) -> None:
        """Begins a new stream: an event that the last one left unfinished is dropped, ids and retry time stay."""
        self._lines, self._begun = LineSplitter(self.limit + len(b"data: "), universal=True), False
        self._next_id = self.last_event_id
        self._clear()

    def feed(self, chunk: bytes) -> list[tuple[bytes, Item]]:
        """The events that `chunk` completes: name (empty for a plain message) and data."""
        events: list[tuple[bytes, Item]] = []
        for line in self._lines.feed(chunk):
            if not self._begun and isinstance(line, bytes):
                line = line.removeprefix(b"\xef\xbb\xbf")
            self._begun = True
            if isinstance(line, Overlong):
                # A comment may be as long as it likes; anything else was data.
                if not line.excerpt.startswith(b":"):
                    self._drop_data(line.excerpt.removeprefix(b"data:").removeprefix(b" "))
            elif line:
                self._field(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data" and self._over is None:
            self._data.append(value)
            self._size += len(value) + 1
            if self._size - 1 > self.limit:
                self._drop_data(b"\n".join(self._data))
        elif name == b"event":
            self._name = value
        elif name == b"id" and b"\0" not in value:
            self._next_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self.retry_ms = int(value[:12])

    def _dispatch(self) -> tuple[bytes, Item] | None:
        self.last_event_id = self._next_id
        data: Item = Overlong(self._over) if self._over is not None else b"\n".join(self._data)
        event = (self._name, data) if data else None
        self._clear()
        return event

    def _drop_data(self, excerpt: bytes) -> None:
        self._over, self._data, self._size = excerpt[:EXCERPT_BYTES_MAX], [], 0

    def _clear(self) -> None:
        self._data, self._size, self._over, self._name = [], 0, None, b""

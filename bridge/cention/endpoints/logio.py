"""Logio: who logged in and out when, read while the answer arrives."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import datetime
from math import ceil, floor
from types import TracebackType
from typing import Self

from bridge.cention.answer import Answer, failure_of
from bridge.cention.documents import LOGIO, CutOff, LogioFormat, LogioRecord, NotRecords, record_reader
from bridge.cention.endpoints.base import Endpoint, with_query
from bridge.cention.outcome import Failure, Fetched, Rejected, Unknown
from bridge.cention.transport import BODY_BYTES_MAX, Streamed, Transport

LOGIO_IDLE_S = 30.0
"""Seconds that an answer may pause for once it has begun. How long it takes in all is not limited: that depends on the
period, and on how fast its records are taken."""
LOGIO_BYTES_MAX = 1024 * 2**20
"""Bytes after which an answer is taken for one without end; nothing of it is held."""

# Not JSON:API, and no media type is documented: any is taken, the one that is meant is preferred.
_ACCEPT = {"csv": "text/csv, */*;q=0.5", "json": "application/json, */*;q=0.5"}


class LogioAnswer:
    """The records of one answer, in the server's order, and what went wrong if something did.

    `async for` gives each record when it has come. Where the answer is refused, breaks off, or is not as documented, a
    `Failure` comes last, after the records before it; these are good, and there may be more where they come from.
    `async with` closes the connection at the end of the block, which matters to whoever leaves before the last record.
    """

    def __init__(self, items: AsyncGenerator[LogioRecord | Failure, None]) -> None:
        self._items = items

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LogioRecord | Failure:
        return await anext(self._items)

    async def aclose(self) -> None:
        """Ends reading, and closes the connection."""
        await self._items.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def whole(self) -> Fetched[tuple[LogioRecord, ...]] | Failure:
        """All records that are left, held in memory; the failure alone where something went wrong."""
        records: list[LogioRecord] = []
        async with self:
            async for item in self:
                if not isinstance(item, LogioRecord):
                    return item
                records.append(item)
        return Fetched(tuple(records))


class Logio(Endpoint):
    """The endpoint whose token carries the claim "Access to logio API"."""

    def logio(
        self,
        token: str,
        *,
        name: str | None = None,
        from_at: datetime | None = None,
        to_at: datetime | None = None,
        wire_format: LogioFormat = "json",
        idle_s: float = LOGIO_IDLE_S,
        bytes_max: int = LOGIO_BYTES_MAX,
    ) -> LogioAnswer:
        """GET `/capi/custom/logio`. Asks when the first record is wanted, and not before.

        Args:
            token: one with the claim "Access to logio API".
            name: the login name of the agent; None for all of the token's system group.
            from_at: the first second that is wanted, aware; the server's default is 7 days ago.
            to_at: the last second that is wanted, aware; the server's default is now.
            wire_format: how the records travel. The server's default is csv; ours is json, whose end shows: csv that is
                cut off between two records looks whole.
            idle_s: seconds that the answer may pause for once it has begun.
            bytes_max: an answer of more bytes is given up, with what has come.

        Raises:
            ValueError: a time is naive, or `from_at` is after `to_at`.

        Source: Cention API, "Cention Logio (login & logout) API".
        """
        for when in (from_at, to_at):
            if when is not None and when.utcoffset() is None:
                raise ValueError("times must be aware: a naive one would be another second elsewhere")
        if from_at is not None and to_at is not None and from_at > to_at:
            raise ValueError("from_at is after to_at")
        asked = {
            "name": name,
            "format": wire_format,
            "from": None if from_at is None else str(floor(from_at.timestamp())),
            "to": None if to_at is None else str(ceil(to_at.timestamp())),
        }
        url = with_query(f"{self.base_url}/capi/custom/{LOGIO}", asked)
        return LogioAnswer(_items(self._transport, url, token, wire_format, idle_s, bytes_max))


async def _items(
    transport: Transport, url: str, token: str, wire_format: LogioFormat, idle_s: float, bytes_max: int
) -> AsyncGenerator[LogioRecord | Failure, None]:
    async with transport.stream(url, token, accept=_ACCEPT[wire_format], idle_s=idle_s) as answer:
        if not isinstance(answer, Streamed):
            yield answer
            return
        if failure_of(answer.head, sent=b"", token=token) is not None:
            yield await _no_records(answer, token)
            return
        reader, count, received, head = record_reader(wire_format), 0, 0, b""
        try:
            while piece := await answer.read():
                if not isinstance(piece, bytes):
                    yield _after(count, piece)
                    return
                received += len(piece)
                if received > bytes_max:
                    yield _after(count, Rejected(answer.head.status, f"the answer is longer than {bytes_max} bytes"))
                    return
                head = piece[:BODY_BYTES_MAX] if count == 0 else b""
                for record in reader.feed(piece):
                    count += 1
                    yield record
            if received or answer.head.status != 204:
                for record in reader.end():
                    count += 1
                    yield record
        except CutOff as error:
            yield _after(count, Unknown(f"the answer broke off: {error}"))
        except NotRecords as error:
            failure: Failure = Rejected(answer.head.status, f"not the records that are documented: {error}")
            if count == 0:  # it may be an errors document
                failure = await _no_records(answer, token, head, failure)
            yield _after(count, failure)


async def _no_records(answer: Streamed, token: str, head: bytes = b"", otherwise: Failure | None = None) -> Failure:
    """What an answer means that holds no records, in the server's words if it has any."""
    body = bytearray(head)
    while len(body) < BODY_BYTES_MAX and isinstance(piece := await answer.read(), bytes) and piece:
        body += piece
    whole = Answer(answer.head.status, answer.head.headers, bytes(body[:BODY_BYTES_MAX]))
    failure = failure_of(whole, sent=b"", token=token) or otherwise or failure_of(answer.head, sent=b"", token=token)
    assert failure is not None, "called for what is none"
    return failure


def _after(count: int, failure: Failure) -> Failure:
    return replace(failure, reason=f"after {count} records: {failure.reason}") if count else failure

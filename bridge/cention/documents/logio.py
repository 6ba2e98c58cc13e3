"""Logio, who logged in and out when: records, and how they are read while the answer arrives. Not JSON:API. Pure.

Invariants:
- Of an answer, no more is held than one record and the piece that came last.
- A record is given when it is whole, and not before: one that was cut off is never taken for another.

Source: Cention API, "Cention Logio (login & logout) API".
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal, Protocol

from pydantic import Field, ValidationError

from bridge.cention.documents.base import Document, JsonInteger, fault_lines

LOGIO = "logio"
"""Endpoint, below `capi/custom/`. Source: Cention API, "Cention Logio (login & logout) API"."""
LogioFormat = Literal["csv", "json"]
"""Source: Cention API, "API Query Parameters", `format`."""

RECORD_CHARS_MAX = 65_536
"""The longest record that is read; a login name is no novel."""

_LATEST = 253_402_300_799  # the last second of the year 9999, where datetime ends
_ACTIONS = (b"login", b"logout")
_BEGUN = re.compile(rb"\d+(,.*)?\s*", re.DOTALL)  # what may become a record


class LogioRecord(Document):
    """One login or logout.

    Source: Cention API, "Output Response Fields".
    """

    id: JsonInteger
    """Counts up within one answer, and means nothing beyond it."""
    name: str
    """The agent's login name."""
    timestamp: Annotated[int, Field(ge=0, le=_LATEST)]
    """Seconds since the epoch."""
    action: str
    """`Login` or `Logout`."""

    @property
    def at(self) -> datetime:
        """When it happened: aware, UTC."""
        return datetime.fromtimestamp(self.timestamp, UTC)

    @property
    def logged_in(self) -> bool | None:
        """Whether the agent was logged in from then on; None for an action that is not documented."""
        return {"login": True, "logout": False}.get(self.action.casefold())


class NotRecords(ValueError):
    """What came is not the records that are documented. The text says where, and repeats nothing of it."""


class CutOff(NotRecords):
    """What came ends where the answer can't have ended."""


class RecordReader(Protocol):
    """Makes records of an answer that comes piece by piece."""

    def feed(self, piece: bytes) -> Iterator[LogioRecord]:
        """The records that are whole with `piece`.

        Raises:
            NotRecords: after the records before it.
        """

    def end(self) -> Iterator[LogioRecord]:
        """The records that are whole now that nothing more comes.

        Raises:
            CutOff: something more should have come.
            NotRecords: as for `feed`.
        """


class CsvRecords:
    """Lines of `id,name,timestamp,action`, without a header.

    An answer that is cut off between two lines can't be told from one that ended there; HTTP tells, if its length does.

    Source: Cention API, "Sample of response": csv, "headerless, unix new line format".
    """

    def __init__(self) -> None:
        self._rest, self._lines = b"", 0

    def feed(self, piece: bytes) -> Iterator[LogioRecord]:
        """See `RecordReader`."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._lines += 1
            if line.strip():
                yield self._record(line)
        if len(self._rest) > RECORD_CHARS_MAX:
            raise NotRecords(f"line {self._lines + 1} is longer than {RECORD_CHARS_MAX} bytes")

    def end(self) -> Iterator[LogioRecord]:
        """See `RecordReader`. The last line may do without its end, if it ends with an action that is documented."""
        line, self._rest = self._rest, b""
        if not line.strip():
            return
        self._lines += 1
        if _BEGUN.fullmatch(line) and line.strip().rpartition(b",")[2].lower() not in _ACTIONS:
            raise CutOff(f"line {self._lines} is cut off")
        yield self._record(line)

    def _record(self, line: bytes) -> LogioRecord:
        try:
            # From both sides, since nothing says that a name with a comma is quoted.
            number, rest = line.decode().strip().split(",", 1)
            name, timestamp, action = rest.rsplit(",", 2)
            if len(name) >= 2 and name[0] == name[-1] == '"':
                name = name[1:-1].replace('""', '"')
            return LogioRecord(id=int(number), name=name, timestamp=int(timestamp), action=action)
        except ValidationError as error:
            raise NotRecords(f"line {self._lines}: {fault_lines(error)[0]}") from None
        except ValueError:  # UnicodeDecodeError is one
            raise NotRecords(f"line {self._lines} is no id, name, timestamp and action") from None


class JsonRecords:
    """A list of `{"id", "name", "timestamp", "action"}`; null, which Go writes for a list that is empty, is one too.

    Source: Cention API, "Sample of response": json.
    """

    def __init__(self) -> None:
        self._decoder, self._json = codecs.getincrementaldecoder("utf-8")(), json.JSONDecoder()
        self._text, self._records = "", 0
        self._expects: Literal["list", "first", "comma", "record", "nothing"] = "list"

    def feed(self, piece: bytes) -> Iterator[LogioRecord]:
        """See `RecordReader`."""
        try:
            self._text += self._decoder.decode(piece)
        except UnicodeDecodeError:
            raise NotRecords(f"record {self._records + 1} is no UTF-8") from None
        at = 0
        try:
            while (at := self._skip(at)) < len(self._text):
                if self._expects in ("first", "record") and self._text[at] == "{":
                    found = self._object(at)
                    if found is None:
                        break
                    record, at = found
                    self._expects = "comma"
                    yield record
                elif (after := self._mark(at)) is not None:
                    at = after
                else:
                    break
        finally:
            self._text = self._text[at:]
        if len(self._text) > RECORD_CHARS_MAX:
            raise NotRecords(f"record {self._records + 1} is longer than {RECORD_CHARS_MAX} characters")

    def end(self) -> Iterator[LogioRecord]:
        """See `RecordReader`. Nothing is left over but what was cut off."""
        if self._expects != "nothing":
            raise CutOff("the list does not end")
        return iter(())

    def _skip(self, at: int) -> int:
        while at < len(self._text) and self._text[at] in " \t\r\n":
            at += 1
        return at

    def _mark(self, at: int) -> int | None:
        """Takes what stands around records, and returns the place after it; None where more must come first."""
        mark = self._text[at]
        match self._expects, mark:
            case "list", "[":
                self._expects = "first"
            case "list", "n":
                if len(self._text) - at < 4:
                    return None
                if self._text[at : at + 4] != "null":
                    raise NotRecords("not a list of records")
                self._expects = "nothing"
                return at + 4
            case "comma", ",":
                self._expects = "record"
            case (("first" | "comma"), "]"):
                self._expects = "nothing"
            case "list", _:
                raise NotRecords("not a list of records")
            case _:
                raise NotRecords(f"something else than a record follows record {self._records}")
        return at + 1

    def _object(self, at: int) -> tuple[LogioRecord, int] | None:
        """The record that begins there, and the place after it; None where more must come first."""
        try:
            members, after = self._json.raw_decode(self._text, at)
        except json.JSONDecodeError:
            return None  # or never one: it is given up when it grows over the longest
        except RecursionError:
            raise NotRecords(f"record {self._records + 1} is no record") from None
        self._records += 1
        try:
            return LogioRecord.model_validate(members), after
        except ValidationError as error:
            raise NotRecords(f"record {self._records}: {fault_lines(error)[0]}") from None


def record_reader(wire_format: LogioFormat) -> RecordReader:
    """A reader for one answer in `wire_format`."""
    return CsvRecords() if wire_format == "csv" else JsonRecords()


def latest_by_name(records: Iterable[LogioRecord]) -> dict[str, LogioRecord]:
    """Each agent's last record, by login name; of two in the same second, the one with the greater id."""
    latest: dict[str, LogioRecord] = {}
    for record in records:
        known = latest.get(record.name)
        if known is None or (known.timestamp, known.id) <= (record.timestamp, record.id):
            latest[record.name] = record
    return latest

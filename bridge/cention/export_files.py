"""An export's records as a CSV or JSON file, one record at a time. Knows records and files, no HTTP.

Blocks while it writes: where an event loop runs, `await asyncio.to_thread(save_export, ...)`.

Invariants:
- No more than one record is held as text.
- A file is there when it is whole, under its own name, readable by its owner alone: exports are people's messages.
"""

import csv
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic_core import to_json

from bridge.cention.documents import EXPORT_COLUMNS, ExportedErrand

ExportFormat = Literal["csv", "json"]

OnWritten = Callable[[int], None]
"""Told after each record how many are written."""

_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r")


def export_columns(records: Iterable[ExportedErrand]) -> tuple[str, ...]:
    """The documented members, then whatever else any of `records` has, in the order of its first appearance."""
    others = (name for record in records for name in record.model_extra or ())
    return tuple(dict.fromkeys((*EXPORT_COLUMNS, *others)))


def write_csv(
    records: Iterable[ExportedErrand],
    file: TextIO,
    *,
    columns: Sequence[str] | None = None,
    for_spreadsheets: bool = False,
    on_written: OnWritten | None = None,
) -> int:
    """Writes `records` as CSV: a header row, commas, quotes where needed, CRLF (RFC 4180). Returns how many there were.

    What a record lacks, or has as null, is an empty field; a list or an object is written as JSON.

    Args:
        records: what to write; taken one at a time.
        file: open for text, with `newline=""`.
        columns: members to write, in order. By default the documented ones and, where `records` is a sequence, whatever
            else they have.
        for_spreadsheets: whether to put an apostrophe before what a spreadsheet would run as a formula. Customers write
            subjects; but the fields are then no longer what was exported.
        on_written: called after each record.
    """
    if columns is None:
        columns = export_columns(records) if isinstance(records, Sequence) else EXPORT_COLUMNS
    writer = csv.writer(file)
    writer.writerow(columns)
    count = 0
    for members in map(_members, records):
        fields = (_field(members.get(name)) for name in columns)
        writer.writerow(map(_inert, fields) if for_spreadsheets else fields)
        count = _told(count + 1, on_written)
    return count


def write_json(records: Iterable[ExportedErrand], file: TextIO, *, on_written: OnWritten | None = None) -> int:
    """Writes `records` as a JSON list with one record a line, each as it came. Returns how many there were.

    Args:
        records: what to write; taken one at a time.
        file: open for text, UTF-8.
        on_written: called after each record.
    """
    count = 0
    for record in records:
        file.write(f"{',' if count else '['}\n{record.to_json().decode()}")
        count = _told(count + 1, on_written)
    file.write("\n]\n" if count else "[]\n")
    return count


def save_export(
    records: Iterable[ExportedErrand],
    path: str | os.PathLike[str],
    wire_format: ExportFormat | None = None,
    *,
    columns: Sequence[str] | None = None,
    for_spreadsheets: bool = False,
    on_written: OnWritten | None = None,
) -> int:
    """Writes `records` to a file, in place of one that is there. Returns how many there were.

    Args:
        records: as for `write_csv`.
        path: where; its directory must be there.
        wire_format: by default what the path ends with, `.csv` or `.json`.
        columns: as for `write_csv`; JSON files hold all.
        for_spreadsheets: as for `write_csv`; JSON files are never for any.
        on_written: as for `write_csv`.

    Raises:
        OSError: it can't be written; what was there is there still.
        ValueError: the path's ending tells no format.
    """
    target = Path(path)
    chosen = wire_format or target.suffix.lower().removeprefix(".")
    if chosen not in ("csv", "json"):
        raise ValueError("an export's file ends with .csv or .json, or its format is told")
    fd, made = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)  # 0600, whatever the umask
    try:
        with open(fd, "w", encoding="utf-8", newline="" if chosen == "csv" else "\n") as file:  # noqa: PTH123 # by number
            if chosen == "csv":
                count = write_csv(
                    records, file, columns=columns, for_spreadsheets=for_spreadsheets, on_written=on_written
                )
            else:
                count = write_json(records, file, on_written=on_written)
        Path(made).replace(target)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise
    return count


def _members(record: ExportedErrand) -> Mapping[str, Any]:
    return {**record.__dict__, **(record.model_extra or {})}


def _field(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            return to_json(value).decode()


def _inert(field: str) -> str:
    return f"'{field}" if field.startswith(_FORMULA_BEGINS) else field


def _told(count: int, on_written: OnWritten | None) -> int:
    if on_written is not None:
        on_written(count)
    return count

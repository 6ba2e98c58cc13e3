"""How what was read is shown and kept: tables, JSON, and files.

Invariants:
- What other people wrote can't steer the terminal: controls and marks that turn the direction of writing are replaced.
- A file appears when it is whole, readable by its owner alone, and never in the place of another unless that was asked.
"""

import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

if TYPE_CHECKING:
    from bridge.cention.documents import Linked

COLUMN_CHARS_LEAST = 12
"""What a column of a table needs on average to be read, its line included."""

RECORD_FILES = (".csv", ".json")
"""The endings of files that hold records, and the forms that they stand for."""

_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(value: object) -> str:
    """`value` as text fit for a terminal; "" for None."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case tuple() | list():
            return ", ".join(plain(each) for each in value)
        case _:
            return "".join(_shown(char) for char in str(value).replace("\r\n", "\n").rstrip())


def _shown(char: str) -> str:
    if char in "\n\t":
        return char
    return "\ufffd" if unicodedata.category(char) in ("Cc", "Cs") or _STEERING.match(char) else char


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table, or each row below the other where the terminal is too narrow for one.

    A value that does not fit is folded, never cut: part of an id is none.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    every = list(rows)
    if not every:
        click.echo("There are none.")
        return
    if console.width < len(headings) * COLUMN_CHARS_LEAST:
        for row in every:
            facts(zip(headings, row, strict=True))
        return
    made = Table()
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in every:
        made.add_row(*(Text(plain(value)) for value in row))
    console.print(made)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Prints a table of names and values, without those that are None."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(show_header=False)
    made.add_column(overflow="fold")
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and value != ():
            made.add_row(Text(name), Text(plain(value)))
    if made.row_count:
        Console().print(made)


def print_json(value: object) -> None:
    """Prints JSON, indented."""
    click.echo(_harmless(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()))


def json_line(document: bytes) -> str:
    """A JSON document in one line, fit for a terminal."""
    return _harmless(orjson.dumps(orjson.loads(document)).decode())


def _harmless(text: str) -> str:
    """JSON that means the same: of what steers a terminal, orjson escapes only what the JSON standard makes it to."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def document(found: "Linked[Any] | Sequence[Linked[Any]]") -> dict[str, Any]:
    """What was read as a JSON:API document, with everything that it leads to in `included`."""
    from bridge.cention.documents import Linked

    many = [found] if isinstance(found, Linked) else list(found)
    keys = {resource.key for resource in many}
    included = {other.key: other for resource in many for other in resource.reachable(Linked) if other.key not in keys}
    resources = [orjson.loads(resource.to_json()) for resource in many]
    top: dict[str, Any] = {"data": resources[0] if isinstance(found, Linked) else resources}
    if included:
        ordered = sorted(included.items(), key=lambda each: str(each[0]))
        top["included"] = [orjson.loads(other.to_json()) for _, other in ordered]
    return top


def make_directory(path: Path) -> None:
    """Makes the directory `path`, for its owner alone, where there is none.

    Raises:
        click.BadParameter: it can't be made.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise click.BadParameter(f"cannot make {path}: {error.strerror}.", param_hint="--output") from None


def refuse_existing(target: Path, *, force: bool) -> None:
    """Ends the command, before anything is asked of Cention, where `target` can't be written.

    Raises:
        click.BadParameter: it is there and `force` is not set; or its directory is not.
    """
    if target.is_dir():
        raise click.BadParameter(f"{target} is a directory; name a file in it.", param_hint="--output")
    if os.path.lexists(target) and not force:
        raise click.BadParameter(f"{target} is there already; name another, or give --force.", param_hint="--output")
    if not target.parent.is_dir():
        raise click.BadParameter(f"there is no directory {target.parent}.", param_hint="--output")


def refuse_record_file(target: Path, *, force: bool) -> None:
    """As `refuse_existing`, for a file of records, whose ending says its form.

    Raises:
        click.BadParameter: also where the ending is not one of `RECORD_FILES`.
    """
    if target.suffix.lower() not in RECORD_FILES:
        raise click.BadParameter(f"the file must end with {' or '.join(RECORD_FILES)}.", param_hint="--output")
    refuse_existing(target, force=force)


@contextmanager
def appearing(target: Path, *, force: bool) -> Iterator[Path]:
    """Gives a path to write to; what is there when the block ends well becomes `target`.

    Raises:
        FileExistsError: `target` is there by then, and `force` is not set.
        OSError: it can't be written.
    """
    made = Path(tempfile.mkdtemp(prefix=".aventa-", dir=target.parent))  # 0700
    try:
        path = made / f"file{target.suffix}"
        path.touch(mode=0o600)
        yield path
        if force:
            path.replace(target)
        else:
            _publish(path, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _publish(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)  # unlike a rename, never in the place of another file
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(17, "File exists", str(target)) from None
        path.replace(target)


def cannot_write(error: OSError, target: Path) -> click.ClickException:
    """The failure to tell people of."""
    if isinstance(error, FileExistsError):
        return click.ClickException(f"{target} is there already; name another, or give --force.")
    return click.ClickException(f"cannot write {target}: {error.strerror or type(error).__name__}.")

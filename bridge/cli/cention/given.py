"""Documents that are sent, made of options or of a JSON file; and how their faults are told.

Invariant: a fault names the option or the member, and never its value.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click
import orjson
from pydantic import ValidationError

from bridge.cention.documents import Attributes, faults_of

DOCUMENT_BYTES_MAX = 128 * 2**20
"""The largest JSON file that is read: files within it are base64."""

_INTEGER_MAX = 2**53 - 1

A = TypeVar("A", bound=Attributes)

json_file_option = click.option(
    "--json-file",
    type=click.File("rb"),
    metavar="FILE",
    help="The whole document, or its attributes, as JSON in place of the options; - for standard input.",
)


# Functions, and no `click.ParamType`s: those take a type parameter from click 8.5 on, and can't before.


def identifier(text: str) -> str:
    """The type of an id of Cention's that is not said to be a number."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", text):
        raise click.BadParameter("an id is a number, or letters, digits, hyphens and underscores.")
    return text


def integer(text: str) -> int:
    """The type of a JSON integer that no reader rounds."""
    if not re.fullmatch(r"[0-9]{1,16}", text) or int(text) > _INTEGER_MAX:
        raise click.BadParameter(f"must be an integer from 0 to {_INTEGER_MAX}.")
    return int(text)


def any_json(text: str) -> Any:
    """The type of any JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise click.BadParameter("must be JSON.") from None


def day(text: str) -> date:
    """The type of a day: `2019-01-01` or `2019/01/01`."""
    try:
        return date.fromisoformat(text.replace("/", "-"))
    except ValueError:
        raise click.BadParameter("must be a day, such as 2019-01-31.") from None


def moment(text: str) -> datetime:
    """The type of a second: seconds since the epoch, or a time with its offset from UTC."""
    try:
        found = (
            datetime.fromtimestamp(int(text), UTC)
            if re.fullmatch(r"[0-9]{1,12}", text)
            else datetime.fromisoformat(text)
        )
    except (ValueError, OverflowError):
        found = None
    if found is None or found.utcoffset() is None:
        raise click.BadParameter("must be seconds since the epoch, or a time such as 2019-04-01T08:00:00+02:00.")
    return found


ERRAND_ID = click.IntRange(1, 2**63 - 1)
"""The type of an errand's id."""


def told(members: Mapping[str, object]) -> dict[str, Any]:
    """Those of `members` that were told: not None, and not nothing of several."""
    return {name: value for name, value in members.items() if value is not None and value != ()}


def checked(make: Callable[[], A], options: Mapping[str, str] | None = None) -> A:
    """What `make` makes.

    Args:
        make: makes a document of what was told.
        options: the option of each member, by the wire's name, where it isn't the same with hyphens.

    Raises:
        click.UsageError: it has faults; all are told.
    """
    try:
        return make()
    except ValidationError as error:
        raise click.UsageError(_faults(error, options)) from None


def read(file: BinaryIO, kind: type[A], resource_type: str) -> A:
    """The document in a JSON file: `{"data": {"type": …, "attributes": …}}`, or the attributes alone.

    Raises:
        click.UsageError: it is none, or not the one that is wanted.
    """
    name = str(getattr(file, "name", "-"))
    where = "standard input" if name in ("-", "<stdin>") else name
    body = file.read(DOCUMENT_BYTES_MAX + 1)
    if len(body) > DOCUMENT_BYTES_MAX:
        raise click.UsageError(f"{where}: is larger than {DOCUMENT_BYTES_MAX >> 20} MiB.")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f"{where}: is no JSON: line {error.lineno}, column {error.colno}.") from None
    if isinstance(document, dict) and isinstance(resource := document.get("data"), dict):
        if resource.get("type", resource_type) != resource_type:
            raise click.UsageError(f"{where}: data/type must be {resource_type}.")
        document = resource.get("attributes", {})
    try:
        return kind.model_validate_json(orjson.dumps(document))
    except ValidationError as error:
        raise click.UsageError(f"{where}: {_faults(error, None)}") from None


def instead(file: BinaryIO | None, given: Mapping[str, object]) -> bool:
    """Whether the document comes from a file.

    Raises:
        click.UsageError: it comes from there and from options too, or from neither.
    """
    if file is not None and given:
        raise click.UsageError("--json-file is the whole document: leave out the other options that make one.")
    if file is None and not given:
        raise click.UsageError("give options that make a document, or --json-file.")
    return file is not None


def _faults(error: ValidationError, options: Mapping[str, str] | None) -> str:
    found = []
    for pointer, wanted in faults_of(error):
        place = pointer[1:] or "the document"
        if options is not None:
            name = pointer.rpartition("/")[2]
            place = options.get(name) or "--" + re.sub(r"(?=[A-Z])", "-", name).lower().replace("_", "-")
        found.append(f"{place}: {wanted}")
    return "; ".join(dict.fromkeys(found)) + "."


FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
"""A file to be read."""

"""What a sandbox can be given to serve: library, presets of exports, ratings, logins; from JSON, checked as a whole.

Owns the form of `aventa-bridge sandbox --data FILE`. Pure but for `load`, which reads files. `example.json`, beside
this module, is what a sandbox serves that was given nothing.
"""

import base64
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, ValidationError, model_validator

from bridge.cention.documents import fault_lines
from bridge.cention.sandbox.given import Base64, Given

DATA_BYTES_MAX = 64 * 2**20
"""Of the data file, and of all the files that it names together."""

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]


class DataFile(Given):
    """A file; what it holds is told by one of `content`, `text` and `file`, or it is empty."""

    id: Id
    name: str
    content_type: str = "application/octet-stream"
    content: Base64 | None = None
    text: str | None = None
    file: str | None = None
    """A path, from the data file's directory on; `load` puts what is there into `content`."""

    @model_validator(mode="after")
    def _told_once(self) -> Self:
        if sum(told is not None for told in (self.content, self.text, self.file)) > 1:
            raise ValueError("give one of content, text and file")
        return self

    @property
    def base64(self) -> str:
        """What the file holds, base64."""
        return base64.b64encode((self.text or "").encode()).decode() if self.content is None else self.content


class Shelf(Given):
    """What a library and a category have in common: what they hold, by ids."""

    id: Id
    name: str
    libraries: tuple[Id, ...] = ()
    categories: tuple[Id, ...] = ()
    questions: tuple[Id, ...] = ()


class Library(Shelf):
    """A library; `external` ones are served at `c3_external_libraries` as well."""

    external: bool = False


class Category(Shelf):
    """A category of libraries and questions."""


class Question(Given):
    """A question. Its texts refer to archived images as `cid:<id>`, as in `<img src="cid:12"/>`."""

    id: Id
    subject: str = ""
    question: str = ""
    answer: str = ""
    toplist: bool = False
    attachments: tuple[Id, ...] = ()


class LibraryData(Given):
    """The library: what refers to each other by id."""

    libraries: tuple[Library, ...] = ()
    categories: tuple[Category, ...] = ()
    questions: tuple[Question, ...] = ()
    attachments: tuple[DataFile, ...] = ()
    archives: tuple[DataFile, ...] = ()

    @model_validator(mode="after")
    def _refers_to_what_is_there(self) -> Self:
        if faults := list(self._faults()):
            raise ValueError("; ".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        there = {name: Counter(part.id for part in getattr(self, name)) for name in type(self).model_fields}
        holders: tuple[Shelf | Question, ...] = (*self.libraries, *self.categories, *self.questions)
        for name, ids in there.items():
            yield from (f"{name} has the id {number} {count} times" for number, count in ids.items() if count > 1)
        for holder in holders:
            for name in ("libraries", "categories", "questions", "attachments"):
                for number in getattr(holder, name, ()):
                    if number not in there[name]:
                        yield f"{type(holder).__name__.lower()} {holder.id} names {number}, which is not in {name}"


class Export(Given):
    """The preset of an export: its content as Cention would answer it, or made of the sandbox's errands without one."""

    id: str = Field(min_length=1)
    content: list[dict[str, JsonValue]] | dict[str, JsonValue] | None = None


class Rating(Given):
    """A Facebook rating. Source: Cention API, "Facebook Rating", the sample's `data`."""

    model_config = ConfigDict(populate_by_name=True, extra="allow")

    rating_id: Id = Field(alias="ratingId")
    rating: int = 5
    message: str = ""
    reviewer_id: int = Field(default=0, alias="reviewerId")
    reviewer_name: str = Field(default="", alias="reviewerName")
    timestamp_created: int = Field(default=0, alias="timestampCreated")
    """Seconds since the epoch."""


class Logio(Given):
    """An agent logged in or out. `id` is not kept: the server numbers what it answers."""

    name: str = Field(min_length=1, max_length=1000)
    action: Literal["Login", "Logout"]
    timestamp: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """Seconds since the epoch; None: when it is read."""
    id: int | None = None


class Data(Given):
    """All that a sandbox can be given."""

    library: LibraryData = LibraryData()
    exports: tuple[Export, ...] = ()
    ratings: tuple[Rating, ...] = ()
    logio: tuple[Logio, ...] = ()


def example() -> Data:
    """The small data that a sandbox serves when it is given none."""
    return load(Path(__file__).with_name("example.json"))


def load(path: Path) -> Data:
    """The data in a JSON file, with the content of the files that it names.

    Raises:
        OSError: a file can't be read.
        ValueError: the data can't be used, or is too large; the text names every fault, on a line each.
    """
    budget = DATA_BYTES_MAX
    try:
        data = Data.model_validate_json(_read(path, budget))
    except ValidationError as error:
        raise ValueError("\n".join(fault_lines(error))) from None
    parts: dict[str, tuple[DataFile, ...]] = {}
    for name in ("attachments", "archives"):
        loaded = []
        for one in getattr(data.library, name):
            if one.file is not None:
                content = _read(path.parent / one.file, budget)
                budget -= len(content)
                one = one.model_copy(update={"content": base64.b64encode(content).decode(), "file": None})
            loaded.append(one)
        parts[name] = tuple(loaded)
    return data.model_copy(update={"library": data.library.model_copy(update=parts)})


def _read(path: Path, bytes_max: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise ValueError(f"{path}: a data file and what it names may have {DATA_BYTES_MAX} bytes together")
    return content

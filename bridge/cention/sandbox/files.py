"""The files that the sandbox serves: attachments of answers, and archived images of answers and of the library.

Invariants: what agents' answers brought is bounded, the oldest forgotten first; what the library brought stays. Ids
count up and are never given twice.
"""

from dataclasses import dataclass
from typing import Any

from bridge.cention.sandbox.bounded import Bounded
from bridge.cention.sandbox.data import DataFile

FIRST_ATTACHMENT_ID = 788
"""As in the documentation's sample of a callback."""
FIRST_ARCHIVE_ID = 12
"""As in the documentation's sample of a callback."""

_FILES_MAX = 10_000
_FILES_BYTES_MAX = 64 * 2**20


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that an answer brings. `content` is base64."""

    name: str
    content_type: str
    content: str


class Files:
    """See the module's docstring.

    Args:
        library: the library's archived images.
    """

    def __init__(self, library: tuple[DataFile, ...]) -> None:
        self._library = {file.id: file for file in library}
        self._attachments: Bounded[int, DataFile] = Bounded(count_max=_FILES_MAX, size_max=_FILES_BYTES_MAX)
        self._archives: Bounded[int, DataFile] = Bounded(count_max=_FILES_MAX, size_max=_FILES_BYTES_MAX)
        self._next_attachment = FIRST_ATTACHMENT_ID
        self._next_archive = max([FIRST_ARCHIVE_ID - 1, *self._library]) + 1

    def add_attachment(self, new: NewFile) -> int:
        """Keeps a file of an answer and returns its id."""
        number = self._next_attachment
        self._next_attachment += 1
        self._attachments.put(number, _stored(number, new), len(new.content))
        return number

    def add_archive(self, new: NewFile) -> int:
        """Keeps an image that an answer embeds and returns its id."""
        number = self._next_archive
        self._next_archive += 1
        self._archives.put(number, _stored(number, new), len(new.content))
        return number

    def attachment(self, number: int) -> DataFile | None:
        return self._attachments.get(number)

    def archive(self, number: int) -> DataFile | None:
        return self._library.get(number) or self._archives.get(number)

    def reset(self) -> None:
        """Forgets what answers brought."""
        self._attachments.clear()
        self._archives.clear()


def attachment_of(file: DataFile, *, content: bool = True) -> dict[str, Any]:
    """The member `attachment` of a file's attributes. Source: Cention API, "Cention Callback API"."""
    return {
        "c3_id": file.id,
        "content_type": file.content_type,
        "name": file.name,
        **({"content": file.base64} if content else {}),
    }


def _stored(number: int, new: NewFile) -> DataFile:
    return DataFile.model_construct(id=number, name=new.name, content_type=new.content_type, content=new.content)

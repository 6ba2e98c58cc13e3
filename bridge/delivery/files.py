"""Files of answers on the local disk: one directory, bounded in size, one file a name, written whole or not at all.

Owns the directory. Must not know where a file comes from. Nothing here removes a file that is whole: what is done with
them, and when they go, is their reader's.

Invariants: no path leads out of the directory, whatever a file is called; a file is there under its name only once all
of it is on the disk; a file is never written over; the directory 0700, what is made in it 0700 and 0600.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from bridge.cention.documents import safe_name
from bridge.runtime.clock import now_ms

_PART = ".part-"
_PART_AGE_S = 3600.0  # an unfinished file of a process that was killed; a younger one may be another bridge's


class NoRoom(Exception):
    """The directory would grow beyond its bound."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that is there.

    Attributes:
        path: from the directory on.
        size: in bytes.
    """

    path: str
    size: int


class Files:
    """See the module's docstring. Disk work is done beside the loop.

    Args:
        directory: made when the first file is stored.
        bytes_max: greatest size of all files in it together, others' included.
    """

    def __init__(self, directory: Path, *, bytes_max: int) -> None:
        self._directory, self._bytes_max = directory, bytes_max
        self._writing = asyncio.Lock()
        self.size = 0
        """Bytes of all files, as far as known."""

    async def find(self, folder: str, key: str) -> Stored | None:
        """The file that was stored as `key` in `folder`, whatever it is called.

        Raises:
            OSError: the directory cannot be read.
        """
        return await asyncio.to_thread(self._find, folder, key)

    async def store(self, folder: str, key: str, name: str | None, content: bytes) -> Stored:
        """Stores a file unless it is there.

        Args:
            folder: letters, digits and hyphens; made where it is missing.
            key: the same; two files of one folder differ in it.
            name: the sender's word for the file.

        Raises:
            NoRoom: the directory is full.
            OSError: it cannot be written.
        """
        async with self._writing:  # one at a time, or several could share the last room
            return await asyncio.to_thread(self._store, folder, key, name, content)

    def _find(self, folder: str, key: str) -> Stored | None:
        place, start = self._directory / _plain(folder), f"{_plain(key)}_"
        try:
            with os.scandir(place) as entries:
                found = [entry for entry in entries if entry.name.startswith(start)]
        except FileNotFoundError:
            return None
        return Stored(f"{folder}/{found[0].name}", found[0].stat().st_size) if found else None

    def _store(self, folder: str, key: str, name: str | None, content: bytes) -> Stored:
        if (there := self._find(folder, key)) is not None:
            return there
        # Every time: whoever reads the files takes them away, and others may put theirs beside them.
        self.size = self._measure()
        if self.size + len(content) > self._bytes_max:
            raise NoRoom
        place = self._directory / folder
        for directory in (self._directory, place):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        whole = place / f"{key}_{safe_name(name, 'file')}"
        part = place / f"{_PART}{token_hex(8)}"
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(whole)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        for directory in (place, self._directory):
            _sync(directory)
        self.size += len(content)
        return Stored(f"{folder}/{whole.name}", len(content))

    def _measure(self) -> int:
        """Bytes of all files; what a killed process left unfinished is removed on the way."""
        size, old = 0, now_ms() / 1000 - _PART_AGE_S
        for directory, _, names in os.walk(self._directory):
            for name in names:
                path = Path(directory, name)
                try:
                    told = path.lstat()
                    if name.startswith(_PART) and told.st_mtime < old:
                        path.unlink()
                    else:
                        size += told.st_size
                except FileNotFoundError:  # its reader took it away meanwhile
                    continue
        return size


def _plain(word: str) -> str:
    if not word.replace("-", "").isalnum() or not word.isascii():
        raise ValueError("not a word that may stand in a path")
    return word


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

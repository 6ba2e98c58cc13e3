"""One file of the spool: records are added at its end, read from its front, and the file goes when all are read.

Everything here blocks. A segment belongs to whoever holds its `flock`. Knows records as a time and a payload; how they
lie in the file is `bridge.intake.spool_frames`.

Invariants: what `write` took is on the disk when it returns. What it refused may still be found after a crash: nobody
was promised it. Positions and deletions are not flushed: losing one means that records are read again. Nobody but the
owner can read the file: it holds calls.
"""

import contextlib
import fcntl
import os
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.intake.spool_frames import HEAD_BYTES, Gap, frame, frame_at, head, position_of, scan
from bridge.runtime.logs import get_logger

log = get_logger(__name__)

DAMAGED_SUFFIX = ".damaged"
_READ_BYTES_MAX = 1024 * 1024
_PROBE_BYTES = 64 * 1024

Records = Sequence[tuple[int, bytes]]
"""Each with its time, ms since the epoch, and its payload."""
Lost = Callable[[], object]
"""Is told of every stretch of bytes in which no record can be read."""


class Segment:
    """One file, held by its lock.

    Attributes:
        end: the file's size in bytes, as far as it is good.
        damaged: it has lost records that may have been promised, so it is kept aside for a person to look at.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self._fd = path, fd
        self.end, self.damaged = HEAD_BYTES, False
        # Parallel, and compact: a full spool holds half a million records.
        self._offsets, self._ats, self._done = array("Q"), array("Q"), 0

    @classmethod
    def create(cls, path: Path) -> "Segment | None":
        """A new file; None if another process that looked for leftovers was at it first.

        Raises:
            OSError: the disk or the directory does not let us.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if not _locked(fd, path):
                os.close(fd)
                return None
            _write(fd, head(HEAD_BYTES), 0)
            os.fsync(fd)
            sync_directory(path.parent)
        except OSError:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise
        return cls(path, fd)

    @classmethod
    def adopt(cls, path: Path, found: Callable[[bytes], None], lost: Lost) -> "Segment | None":
        """A file left behind, read through; None if it is in use, or gone.

        Args:
            found: is told the payload of every record that waits.
            lost: is told of what cannot be read.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            if not _locked(fd, path):
                os.close(fd)
                return None
            segment = cls(path, fd)
            segment._index(found, lost)
        except BaseException:
            os.close(fd)
            raise
        return segment

    def _index(self, found: Callable[[bytes], None], lost: Lost) -> None:
        size = os.fstat(self._fd).st_size
        data = _read(self._fd, 0, size)
        self.end = max(len(data), HEAD_BYTES)
        for part in scan(data, position_of(data)):
            if isinstance(part, Gap):
                length = part.end - part.offset
                lost()
                if part.torn:
                    log.warning("spool: a write was cut short, its rest is skipped",
                                file=self.path.name, at_byte=part.offset, bytes=length)  # fmt: skip
                else:
                    self.damaged = True
                    log.error("spool: damaged bytes are skipped, events may be lost",
                              file=self.path.name, at_byte=part.offset, bytes=length)  # fmt: skip
            else:
                self._offsets.append(part.offset)
                self._ats.append(part.at)
                found(part.payload)

    @property
    def count(self) -> int:
        return len(self._offsets) - self._done

    @property
    def oldest_at(self) -> int | None:
        return self._ats[self._done] if self.count else None

    def write(self, records: Records) -> None:
        """Adds records and flushes them.

        Raises:
            OSError: nothing is promised of any of them; write no more to this segment.
        """
        frames, offsets, end = [], array("Q"), self.end
        for at, payload in records:
            frames.append(frame(at, payload))
            offsets.append(end)
            end += len(frames[-1])
        try:
            _write(self._fd, b"".join(frames), self.end)
            os.fdatasync(self._fd)
        except OSError:
            # After a failed flush the kernel may call the pages clean: what they hold must not be taken for written.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.end)
            raise
        self._offsets.extend(offsets)
        self._ats.extend(at for at, _ in records)
        self.end = end

    def read(self, count_max: int) -> list[tuple[int, bytes | None]]:
        """The next records, up to `count_max` and about a megabyte; no payload where one no longer checks."""
        first, last = self._done, min(self._done + count_max, len(self._offsets))
        begin = self._offsets[first]
        ends = [*self._offsets[first + 1 : last + 1], self.end][: last - first]
        while len(ends) > 1 and ends[-1] - begin > _READ_BYTES_MAX:
            ends.pop()
        data = _read(self._fd, begin, ends[-1] - begin)
        frames = [frame_at(data, self._offsets[first + place] - begin) for place in range(len(ends))]
        self.damaged = self.damaged or None in frames
        payloads = [None if each is None else each.payload for each in frames]
        return list(zip(self._ats[first : first + len(payloads)], payloads, strict=True))

    def remove(self, count: int) -> None:
        """Moves the position over `count` records.

        Raises:
            OSError: the position could not be written; it holds for this process alone.
        """
        self._done += count
        position = self._offsets[self._done] if self.count else self.end
        _write(self._fd, head(position), 0)

    def probe(self) -> None:
        """Raises OSError unless more can be written here and flushed."""
        try:
            _write(self._fd, bytes(_PROBE_BYTES), self.end)
            os.fdatasync(self._fd)
        finally:
            os.ftruncate(self._fd, self.end)

    def discard(self) -> None:
        """Deletes the file, or puts it aside if it is damaged, and gives it free."""
        try:
            if self.damaged:
                self.path.rename(self.path.with_suffix(DAMAGED_SUFFIX))
                log.error("spool: a damaged file is kept for you to look at", file=self.path.stem + DAMAGED_SUFFIX)
            else:
                self.path.unlink(missing_ok=True)
        finally:
            self.close()

    def close(self) -> None:
        """Gives the file free for another process."""
        os.close(self._fd)


def _locked(fd: int, path: Path) -> bool:
    """Whether the file's lock is ours now, and the file still there under its name."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _read(fd: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0 and (part := os.pread(fd, length, offset)):
        parts.append(part)
        length, offset = length - len(part), offset + len(part)
    return b"".join(parts)


def sync_directory(path: Path) -> None:
    """Flushes a directory, so that the names in it outlast a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

"""The spool's files as one queue: segments in one directory, adopted ones first, bounded in size.

Everything here blocks, and runs in one thread (`bridge.intake.spool` has it). Must not know what a payload says.

Invariants: segments whose lock is free were left by a process that ended, and whoever takes the lock goes on with them;
so several processes may share a directory. What a process left is read in the order in which it was written, and
before what this one writes.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bridge.intake.spool_frames import FRAME_BYTES
from bridge.intake.spool_segment import DAMAGED_SUFFIX, Lost, Records, Segment, sync_directory
from bridge.runtime.clock import now_ms
from bridge.runtime.logs import get_logger

log = get_logger(__name__)

SUFFIX = ".spool"
SEGMENT_BYTES_MAX = 4 * 1024 * 1024
_ROOM_BYTES = 64 * 1024  # with less than that, the spool calls itself full before an event has to be refused


class SpoolFailed(Exception):
    """The spool cannot take an event: it is full, or its disk is.

    Attributes:
        reason: in words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FilesState(NamedTuple):
    """What the files hold.

    Attributes:
        records: how many wait.
        size: bytes on the disk, those of records that were read and still lie in the file of others included.
        oldest_at: when the first that waits was written, ms since the epoch; None when none waits.
        failure: why the last write was refused, in words; None when it was not.
    """

    records: int = 0
    size: int = 0
    oldest_at: int | None = None
    failure: str | None = None


class SpoolFiles:
    """All segments of this process, adopted ones first.

    Args:
        directory: where they lie; made when needed.
        bytes_max: greatest size of all of them together; adopted ones count, but are adopted whatever their size.
        lost: is told of what cannot be read.
    """

    def __init__(self, directory: Path, *, bytes_max: int, lost: Lost) -> None:
        self._directory, self._bytes_max, self._lost = directory, bytes_max, lost
        self._segment_bytes = min(SEGMENT_BYTES_MAX, max(bytes_max // 16, 4096))
        # One process's files sort in the order in which they were made, wherever the clock goes meanwhile.
        self._prefix, self._serial = f"events-{now_ms():013d}-{secrets.token_hex(4)}", 0
        self._segments: list[Segment] = []
        self._adopted = 0  # how many at the front are not our own
        self._active: Segment | None = None
        self._passed_over: set[str] = set()
        self._failure: str | None = None

    def state(self) -> FilesState:
        """What the files hold."""
        oldest = next((segment.oldest_at for segment in self._segments if segment.count), None)
        return FilesState(sum(segment.count for segment in self._segments), self._size(), oldest, self._failure)

    def _size(self) -> int:
        return sum(segment.end for segment in self._segments)

    def adopt(self, found: Callable[[bytes], None]) -> int:
        """Takes over what processes that ended left behind; `found` is told each payload. Returns how many records.

        Raises:
            OSError: the directory cannot be read.
        """
        self._make_directory()
        held = {segment.path.name for segment in self._segments} | self._passed_over
        names = sorted(entry.name for entry in os.scandir(self._directory) if entry.name.endswith(SUFFIX))
        files, count, size = 0, 0, 0
        for name in names:
            if name in held:
                continue
            try:
                segment = Segment.adopt(self._directory / name, found, self._lost)
            except OSError as error:
                self._passed_over.add(name)
                log.error("spool: a file left behind cannot be read", file=name, reason=_words(error))
                continue
            if segment is None:
                continue
            if not segment.count:
                self._discard(segment)
                continue
            self._segments.insert(self._adopted, segment)
            self._adopted += 1
            files, count, size = files + 1, count + segment.count, size + segment.end
        if files:
            log.info("spool: taking over what an ended process left", files=files, events=count, bytes=size)
        return count

    def write(self, appends: Sequence[Records]) -> list[SpoolFailed | None]:
        """Writes what there is room for, and flushes once. Returns why not, one answer an append, in order."""
        answers: list[SpoolFailed | None] = []
        room, taken = self._bytes_max - self._size(), []
        for append in appends:
            need = sum(FRAME_BYTES + len(payload) for _, payload in append)
            if need > room:
                answers.append(SpoolFailed("the spool is full (spool.bytes_max)"))
            else:
                room -= need
                answers.append(None)
                taken.append(append)
        failed = next((answer for answer in answers if answer), None)
        if taken:
            try:
                self._writable().write([record for append in taken for record in append])
            except OSError as error:
                failed = SpoolFailed(f"the spool cannot be written: {_words(error)}")
                answers = [answer or failed for answer in answers]
                self._give_up_active()
        self._note(failed)
        return answers

    def probe(self) -> bool:
        """Whether events could be written: there is room within the bound, and the disk takes a write."""
        failed = None
        if self._bytes_max - self._size() < min(_ROOM_BYTES, self._segment_bytes):
            failed = SpoolFailed("the spool is full (spool.bytes_max)")
        else:
            try:
                self._writable().probe()
                if self._active is not None and not self._active.count:
                    self._drop(self._active)
            except OSError as error:
                failed = SpoolFailed(f"the spool cannot be written: {_words(error)}")
                self._give_up_active()
        self._note(failed)
        return failed is None

    def read(self, count_max: int) -> list[tuple[int, bytes | None]]:
        """The oldest records that wait, up to `count_max`; no payload where one can no longer be read.

        Raises:
            OSError: the disk does not give them.
        """
        segment = next((segment for segment in self._segments if segment.count), None)
        if segment is None:
            return []
        records = segment.read(count_max)
        for _, payload in records:
            if payload is None:
                self._lost()
                log.error("spool: a record is damaged and skipped, an event is lost", file=segment.path.name)
        return records

    def remove(self, count: int) -> None:
        """Forgets the `count` oldest, which `read` has just given."""
        segment = next(segment for segment in self._segments if segment.count)
        try:
            segment.remove(count)
        except OSError as error:
            log.warning("spool: its position cannot be written; after a restart events are read again",
                        file=segment.path.name, reason=_words(error))  # fmt: skip
        if not segment.count:
            self._drop(segment)

    def close(self) -> None:
        """Gives the files free; what waits in them is for the next process."""
        for segment in list(self._segments):
            if segment.count:
                segment.close()
            else:
                self._discard(segment)
        self._segments, self._adopted, self._active = [], 0, None

    def _make_directory(self) -> None:
        missing = [path for path in (self._directory, *self._directory.parents) if not path.exists()]
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in missing:
            sync_directory(path.parent)
        with contextlib.suppress(PermissionError):  # a volume's own directory may belong to somebody else
            self._directory.chmod(0o700)

    def _writable(self) -> Segment:
        """The segment to write to, a new one where there is none or it is long enough."""
        if self._active is None or self._active.end >= self._segment_bytes:
            self._active = None
            while self._active is None:
                self._serial += 1
                name = f"{self._prefix}-{self._serial:08d}{SUFFIX}"
                self._make_directory()
                self._active = Segment.create(self._directory / name)
            self._segments.append(self._active)
        return self._active

    def _give_up_active(self) -> None:
        if self._active is not None:
            if not self._active.count:
                self._drop(self._active)
            self._active = None

    def _drop(self, segment: Segment) -> None:
        if self._segments.index(segment) < self._adopted:
            self._adopted -= 1
        self._segments.remove(segment)
        if segment is self._active:
            self._active = None
        self._discard(segment)

    def _discard(self, segment: Segment) -> None:
        try:
            segment.discard()
        except OSError as error:
            self._passed_over.add(segment.path.name)
            log.error("spool: a file that was read cannot be deleted; delete it, or its events are read again",
                      file=segment.path.name, reason=_words(error))  # fmt: skip

    def _note(self, failed: SpoolFailed | None) -> None:
        reason = None if failed is None else failed.reason
        if reason != self._failure:
            if reason is not None:
                log.error("spool takes no events", reason=reason)
            elif self._failure is not None:
                log.info("spool takes events again")
            self._failure = reason


class Survey(NamedTuple):
    """What there is at a spool's place.

    Attributes:
        free: bytes that the disk has left for this user.
        files, size: what waits there, of processes that live or ended; bytes.
        damaged: files that were put aside.
    """

    free: int
    files: int
    size: int
    damaged: int


def survey(directory: Path) -> Survey:
    """Looks at a spool's directory, which may be there or not, and changes nothing.

    Raises:
        OSError: no spool can be had there.
    """
    place = next(path for path in (directory.resolve(), *directory.resolve().parents) if path.exists())
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    disk = os.statvfs(place)
    sizes = [path.stat().st_size for path in directory.glob(f"*{SUFFIX}")]
    damaged = sum(1 for _ in directory.glob(f"*{DAMAGED_SUFFIX}"))
    return Survey(disk.f_bavail * disk.f_frsize, len(sizes), sum(sizes), damaged)


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__

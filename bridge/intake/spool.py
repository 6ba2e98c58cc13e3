"""The spool: records that wait on the local disk until Redis takes them, oldest first.

Owns the thread that the files are worked in, and which pairs have records waiting. How files lie on the disk is
`bridge.intake.spool_files`; what is done with the records is `bridge.intake.spooling`. Must not know what one says.

Invariants: `append` returns once its records are flushed; appends of one turn of the loop, and those that come while
the disk is busy, share a flush. The loop never waits for the disk. A key is held from the moment in which its record
is handed in until the record is removed.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import orjson

from bridge.intake.spool_files import FilesState, SpoolFailed, SpoolFiles
from bridge.intake.spool_segment import Records
from bridge.runtime.clock import now_ms
from bridge.runtime.logs import get_logger
from bridge.runtime.tasks import Tasks

__all__ = ["Batch", "Record", "Spool", "SpoolFailed"]

log = get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that waits.

    Attributes:
        kind: what `value` is, in a word.
        keys: what it must keep its order on.
        value: UTF-8 text.
        at: when it was appended, ms since the epoch; set by the spool.
    """

    kind: str
    keys: tuple[str, ...]
    value: bytes
    at: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest records. `count` is how many there are in the file: one that is damaged counts, and is not among
    `records`."""

    count: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class _Append:
    frames: Records
    keys: Sequence[str]
    done: asyncio.Future[None]


class Spool:
    """A queue on the disk. `adopt`, `head` and `remove` are for one task; all else is for any number of them.

    Args:
        directory: where the files lie; processes may share it.
        bytes_max: greatest size of this process's files together, in bytes.
        lost: is told of every stretch of bytes in which no record can be read.
    """

    def __init__(self, directory: Path, *, bytes_max: int, lost: Callable[[], object] = lambda: None) -> None:
        self._files = SpoolFiles(directory.resolve(), bytes_max=bytes_max, lost=lost)
        self._thread = ThreadPoolExecutor(1, "spool")
        self._tasks = Tasks("spool")
        self._keys: Counter[str] = Counter()
        self._waiting: list[_Append] = []
        self._flushing = False
        self._state = FilesState()
        self._unreadable = ""

    @property
    def count(self) -> int:
        """Records that wait."""
        return self._state.records

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return self._state.size

    @property
    def oldest_at(self) -> int | None:
        """When the oldest record that waits was appended, ms since the epoch."""
        return self._state.oldest_at

    @property
    def failure(self) -> str | None:
        """Why it takes nothing at the moment, in words; None while it does."""
        return self._state.failure

    @property
    def holds_any(self) -> bool:
        """Whether any record with a key waits, or is on its way to the disk."""
        return bool(self._keys)

    def holds(self, key: str) -> bool:
        """Whether a record with this key waits, or is on its way to the disk."""
        return key in self._keys

    async def open(self) -> None:
        """Takes over what earlier processes left and tries the disk. Does not raise: what is wrong is in `failure`."""
        await self.adopt()
        await self._in_thread(self._files.probe)

    async def adopt(self) -> int:
        """Takes over what processes that ended since left behind; returns how many records."""
        keys: Counter[str] = Counter()
        try:
            count = await self._in_thread(lambda: self._files.adopt(lambda payload: keys.update(_keys(payload))))
        except OSError as error:
            if (reason := error.strerror or "") != self._unreadable:
                log.error("the spool's directory cannot be used", reason=reason)
            self._unreadable = reason
            return 0
        self._unreadable = ""
        self._keys.update(keys)
        return count

    async def append(self, records: Sequence[Record]) -> None:
        """Adds records: all of them are on the disk when this returns, and none is promised when it raises.

        Raises:
            SpoolFailed: there is no room within the bound, or the disk refuses.
        """
        at = now_ms()
        keys = [key for record in records for key in record.keys]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Append([(at, _payload(record)) for record in records], keys, done))
        self._keys.update(keys)
        if not self._flushing:
            self._flushing = True
            self._tasks.start(self._flush(), "flush")
        await done

    async def _flush(self) -> None:
        try:
            while self._waiting:
                appends, self._waiting = self._waiting, []
                answers: Sequence[Exception | None]
                try:
                    answers = await self._in_thread(self._files.write, [append.frames for append in appends])
                except Exception as error:
                    log.exception("the spool failed")
                    answers = [SpoolFailed(f"the spool failed: {type(error).__name__}")] * len(appends)
                for append, answer in zip(appends, answers, strict=True):
                    if answer is not None:
                        self._release(append.keys)
                    if append.done.done():
                        continue  # whoever asked is gone
                    if answer is None:
                        append.done.set_result(None)
                    else:
                        append.done.set_exception(answer)
        finally:
            self._flushing = False

    async def head(self, count_max: int) -> Batch:
        """The oldest records, up to `count_max`; an empty batch when none waits.

        Raises:
            OSError: the disk does not give them.
        """
        found = await self._in_thread(self._files.read, count_max)
        return Batch(len(found), tuple(_record(at, payload) for at, payload in found if payload is not None))

    async def remove(self, batch: Batch) -> None:
        """Forgets what `head` gave last."""
        if not batch.count:
            return
        await self._in_thread(self._files.remove, batch.count)
        self._release(key for record in batch.records for key in record.keys)
        if not self._state.records and not self._flushing:
            self._keys.clear()  # those of records that could not be read back

    async def usable(self) -> bool:
        """Whether it would take events now. Asks the disk if it refused the last time."""
        if self.failure is not None:
            await self._in_thread(self._files.probe)
        return self.failure is None

    async def close(self) -> None:
        """Ends, after what is on its way to the disk; what waits there is for the next process."""
        await self._tasks.drain(10)
        await self._in_thread(self._files.close)
        self._thread.shutdown()

    def _release(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._keys[key] -= 1
            if self._keys[key] <= 0:
                del self._keys[key]

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        def job() -> tuple[T, FilesState]:
            return work(*args), self._files.state()

        result, self._state = await asyncio.get_running_loop().run_in_executor(self._thread, job)
        return result


def _payload(record: Record) -> bytes:
    """A record as the files hold it: a line about it, and its value, which need not be read to know the keys."""
    return orjson.dumps({"kind": record.kind, "keys": record.keys}) + b"\n" + record.value


def _record(at: int, payload: bytes) -> Record:
    about, _, value = payload.partition(b"\n")
    try:
        told = orjson.loads(about)
        return Record(told["kind"], tuple(told["keys"]), value, at)
    except (ValueError, KeyError, TypeError):
        return Record("", (), payload, at)  # checked and yet not ours: whoever reads it says so


def _keys(payload: bytes) -> tuple[str, ...]:
    return _record(0, payload).keys

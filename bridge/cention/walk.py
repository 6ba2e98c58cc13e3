"""Walks the list of errands that have changed, and marks those again that were read and not dealt with.

    dirty list, once -> for each: GET its report (which takes it off the list) -> the consumer
      -> POST the list with what failed

Reading a report takes its errand off a list that is all that tells of the change. Knows two endpoints and a clock.

Invariants:
- One report is read at a time, and none ahead: what dies with the process is the one in hand and what failed since the
  last read, no more.
- An errand is marked again where the consumer said so (`again`), where it left the walk by an exception with it in
  hand, and where its report may have been read without reaching us. Not where it left by `break`.
- The consumer's own exception is never replaced; without one, what could not be marked is one.
- A walk asks for the list once: what is marked again is the next walk's.

Source: Cention API, "Errand Reports", "Dirty Errand List".
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from bridge.cention.documents import ErrandReport
from bridge.cention.outcome import Delivered, Failure, Fetched, Outcome, Rejected, Unknown

MARK_AGAIN_S = (1.0, 5.0)
"""Seconds to wait before further tries to mark, once the walk is over."""


class WalkFailed(Exception):
    """A walk could not go on, or could not mark what it should have.

    Attributes:
        failure: what became of the request that failed.
        unmarked: ids of errands that should count as changed and could not be marked, to be marked later.
    """

    def __init__(self, failure: Failure, unmarked: Sequence[int] = ()) -> None:
        super().__init__(f"{type(failure).__name__}: {failure.reason}")
        self.failure, self.unmarked = failure, tuple(unmarked)


class DirtyWalk:
    """An async iterator of `(errand id, report)`, within `async with`, which marks what is left to mark when it ends.

    Args:
        dirty: asks for the list.
        report: asks for one report.
        mark: marks errands.
        mark_again_s: seconds to wait before each further try to mark, when the walk is left.

    Attributes:
        skipped: errands whose report was refused or cannot be read, with the reason; the walk went on without them.
        unmarked: errands that are to be marked and are not yet.
    """

    def __init__(
        self,
        dirty: Callable[[], Awaitable[Fetched[tuple[int, ...]] | Failure]],
        report: Callable[[int], Awaitable[Fetched[ErrandReport] | Failure]],
        mark: Callable[[Sequence[int]], Awaitable[Outcome]],
        *,
        mark_again_s: Sequence[float] = MARK_AGAIN_S,
    ) -> None:
        self._dirty, self._report, self._mark, self._mark_again_s = dirty, report, mark, mark_again_s
        self._within = False
        self._waiting: deque[int] | None = None
        self._reading: int | None = None
        self._in_hand: int | None = None
        self._again: dict[int, None] = {}
        self.skipped: dict[int, Rejected] = {}

    @property
    def unmarked(self) -> tuple[int, ...]:
        return tuple(self._again)

    def again(self, errand_id: int) -> None:
        """Has `errand_id` marked before the next report is read, or when the walk is left."""
        self._again[errand_id] = None

    async def __aenter__(self) -> Self:
        self._within = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._within = False
        # A report that was being read when the walk was cut short may have been read, as far as Cention is concerned.
        for errand_id in (self._reading, self._in_hand if error is not None else None):
            if errand_id is not None:
                self.again(errand_id)
        failure = await self._put_back()
        # Whoever cancels is in a hurry: no waiting then.
        for seconds in self._mark_again_s if error is None or isinstance(error, Exception) else ():
            if failure is None or not _may_pass(failure):
                break
            await asyncio.sleep(seconds)
            failure = await self._put_back()
        if isinstance(error, WalkFailed):
            error.unmarked = self.unmarked
        elif failure is not None and error is None:
            raise WalkFailed(failure, self.unmarked)
        elif failure is not None and error is not None:  # the consumer's own exception is what it waits for
            error.add_note(f"{len(self._again)} errands could not be marked as changed again: `unmarked` has their ids")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, ErrandReport]:
        """The next errand of the list.

        Raises:
            WalkFailed: the list could not be read, or a report for a reason that is not the report's own.
            RuntimeError: outside of `async with`, where nobody would mark what fails.
        """
        if not self._within:
            raise RuntimeError("walk within its `async with`: leaving that is what marks errands again")
        self._in_hand = None  # whoever asks for the next one is done with it
        if self._waiting is None:
            listed = await self._dirty()
            if not isinstance(listed, Fetched):
                raise WalkFailed(listed)
            self._waiting = deque(dict.fromkeys(listed.value))
        while self._waiting:
            await self._put_back()  # where that fails, what is left is tried again
            self._reading = self._waiting.popleft()
            errand_id, read = self._reading, await self._report(self._reading)
            self._reading = None
            if isinstance(read, Fetched):
                self._in_hand = errand_id
                return errand_id, read.value
            if isinstance(read, Unknown) or (isinstance(read, Rejected) and _was_read(read)):
                self.again(errand_id)
            if not isinstance(read, Rejected):
                raise WalkFailed(read)
            self.skipped[errand_id] = read
        raise StopAsyncIteration

    async def _put_back(self) -> Failure | None:
        if not self._again:
            return None
        marking = tuple(self._again)
        outcome = await self._mark(marking)
        if not isinstance(outcome, Delivered):
            return outcome
        for errand_id in marking:
            del self._again[errand_id]
        return None


def _was_read(refused: Rejected) -> bool:
    """Whether Cention gave the report, and it is we who cannot read it: the flag is cleared then."""
    return refused.status is not None and 200 <= refused.status < 300


def _may_pass(failure: Failure) -> bool:
    """Whether the same again may succeed within seconds; to mark twice does no harm."""
    return not isinstance(failure, Rejected) and getattr(failure, "status", None) not in (401, 403)

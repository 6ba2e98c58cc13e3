"""What stands on both sides of the spool in its tests: a store that fails as it is told, and what is between."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.calls.events import CallEvent, EventKind, Facts, Pair
from bridge.calls.verdicts import Rejection, Verdict
from bridge.intake.spool import Spool
from bridge.intake.spooling import Spooling
from bridge.store.errors import StoreUnavailable
from tests.fakes.intake import until

A, B, C = Pair(1, 1), Pair(2, 2), Pair(3, 3)
ACCEPTED, DUPLICATE, SPOOLED = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.SPOOLED


def event(event_id: str, pair: Pair = A, to: Pair | None = None) -> CallEvent:
    kind = EventKind.UPDATED if to is None else EventKind.TRANSFERRED
    return CallEvent(event_id, kind, 5, "call", pair, Facts(comment="said"), 7, to, body=f'{{"id": "{event_id}"}}')


class Store:
    """A store that can be away, hang, lose its answers, or fail on single events.

    Attributes:
        asked: the ids of each call of `commit`.
        up: cleared, every call fails.
        moving: while cleared, calls hang; they go on from where they stand.
        failing: ids of events that find the store away, whatever the others find.
        slow: ids of events over which committing takes until `slow` is emptied.
        answers: False: what is committed is not answered.
        broken: ids of events on which committing fails for no foreseen reason.
    """

    def __init__(self) -> None:
        self.events: list[CallEvent] = []
        self.rejections: list[Rejection] = []
        self.asked: list[list[str]] = []
        self.up, self.answers, self.keeps = True, True, True
        self.moving = asyncio.Event()
        self.moving.set()
        self.broken: set[str] = set()
        self.slow: set[str] = set()
        self.failing: set[str] = set()
        self.probes = 0

    @property
    def ids(self) -> list[str]:
        return [each.event_id for each in self.events]

    def _check(self) -> None:
        if not self.up:
            raise StoreUnavailable("refused")

    async def commit(self, events: Sequence[CallEvent]) -> list[Verdict]:
        self.asked.append([each.event_id for each in events])
        verdicts = []
        for each in events:
            if each.event_id in self.failing:
                raise StoreUnavailable("a time limit")
            await self.moving.wait()
            if each.event_id in self.slow:
                await until(lambda: not self.slow)
            self._check()
            if each.event_id in self.broken:
                raise RuntimeError("an unforeseen fault")
            verdicts.append(DUPLICATE if each.event_id in self.ids else ACCEPTED)
            if verdicts[-1] is ACCEPTED:
                self.events.append(each)
        if not self.answers:
            raise StoreUnavailable("the answer was lost")
        return verdicts

    async def keep(self, rejections: Sequence[Rejection]) -> None:
        await self.moving.wait()
        self._check()
        if not self.keeps:
            raise RuntimeError("an unforeseen fault")
        self.rejections += rejections

    async def probe(self) -> None:
        self.probes += 1
        await self.moving.wait()
        self._check()


class Bench:
    """A store, a spool, and what stands between; `run` runs only once `start` is called."""

    def __init__(self, directory: Path, bytes_max: int, age_s_max: float) -> None:
        self.directory, self.store = directory, Store()
        self.spool = Spool(directory, bytes_max=bytes_max)
        self.spooled = 0
        self.between = Spooling(
            self.spool,
            commit=self.store.commit,
            keep=self.store.keep,
            probe=self.store.probe,
            age_s_max=age_s_max,
            spooled=self._count,
            adopt_every_s=0.05,
        )
        self.running: asyncio.Task[None] | None = None

    def _count(self, number: int) -> None:
        self.spooled += number

    def start(self) -> None:
        self.running = asyncio.create_task(self.between.run())

    async def accept(self, *events: CallEvent) -> Sequence[Verdict]:
        return await self.between.accept(events)

    async def empty(self) -> None:
        await until(lambda: not self.spool.count and not self.between.away)

    async def lose_while_hanging(self) -> None:
        """One event finds that the store, which hangs, is away."""
        self.store.failing = {"finds it away"}
        assert await self.accept(event("finds it away", C)) == [SPOOLED]

    async def lose(self, *events: CallEvent) -> None:
        """Spools events: the store was away for a moment."""
        self.store.up = False
        assert set(await self.accept(*events)) == {SPOOLED}
        self.store.up = True


@asynccontextmanager
async def bench(
    directory: Path, *left: CallEvent, bytes_max: int = 1024 * 1024, age_s_max: float = 3600
) -> AsyncIterator[Bench]:
    """A bench whose spool holds `left`, left by an earlier process."""
    if left:
        async with bench(directory) as earlier:
            await earlier.lose(*left)
    made = Bench(directory / "spool", bytes_max, age_s_max)
    await made.spool.open()
    try:
        async with asyncio.timeout(60):
            yield made
    finally:
        await made.between.finish(0)
        if made.running is not None:
            await asyncio.gather(made.running, return_exceptions=True)
        await made.spool.close()

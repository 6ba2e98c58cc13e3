"""Whatever is appended, read, killed and torn: nothing that was acknowledged is lost, and its order holds."""

import asyncio
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bridge.intake.spool import Record, Spool, SpoolFailed
from bridge.intake.spool_frames import MAGIC, frame

BYTES_MAX = 64 * 1024  # files of 4 KiB: most sequences need several


@dataclass(frozen=True)
class Append:
    """Appends handed in within one turn of the loop, each of some records of these sizes, at one of four pairs."""

    appends: list[list[tuple[int, int]]]


@dataclass(frozen=True)
class Take:
    count: int


@dataclass(frozen=True)
class Leftover:
    """Another process, which is killed after it wrote so many records."""

    count: int


@dataclass(frozen=True)
class Kill:
    """Killed, between reading and removing if `reading`, while it wrote what `tail` is."""

    tail: bytes
    reading: bool


_RECORDS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3000)), min_size=1, max_size=4)
_TAILS = st.one_of(
    st.just(b""),
    st.binary(max_size=60).filter(lambda tail: MAGIC not in tail),
    st.integers(1, 5000).map(bytes),
    st.builds(lambda size, kept: frame(1, b"x" * size)[:-kept], st.integers(1, 3000), st.integers(1, 20)),
)
_STEPS = st.lists(
    st.one_of(
        st.builds(Append, st.lists(_RECORDS, min_size=1, max_size=3)),
        st.builds(Take, st.integers(1, 12)),
        st.builds(Leftover, st.integers(1, 5)),
        st.builds(Kill, _TAILS, st.booleans()),
    ),
    max_size=12,
)


@dataclass
class World:
    """The disk, the process on it, and what must be there.

    Attributes:
        waiting: what was acknowledged and not removed, by the process that wrote it, oldest first.
    """

    root: Path
    waiting: dict[int, list[str]] = field(default_factory=dict)
    process: int = 0
    serial: int = 0

    async def begin(self) -> None:
        self.directory = self.root / "spool-0"
        self.spool = Spool(self.directory, bytes_max=BYTES_MAX)
        await self.spool.open()

    def _record(self, writer: int, pair: int, size: int) -> tuple[str, Record]:
        self.serial += 1
        text = f"{writer}/{self.serial}/pair-{pair}/"
        return text, Record("event", (f"pair-{pair}",), (text + "x" * size).encode())

    async def step(self, step: Append | Take | Leftover | Kill) -> None:
        match step:
            case Append(appends):
                await self.append(appends)
            case Take(count):
                batch = await self.spool.head(count)
                await self.spool.remove(batch)
                self.removed([record.value for record in batch.records])
            case Leftover(count):
                await self.leftover(count)
            case Kill(tail, reading):
                if reading:
                    await self.spool.head(5)
                await self.kill(tail)
        self.check()

    async def append(self, appends: list[list[tuple[int, int]]]) -> None:
        told = [[self._record(self.process, pair, size) for pair, size in records] for records in appends]
        answers = await asyncio.gather(
            *(self.spool.append([record for _, record in records]) for records in told), return_exceptions=True
        )
        for records, answer in zip(told, answers, strict=True):
            if answer is None:
                self.waiting.setdefault(self.process, []).extend(text for text, _ in records)
            else:
                assert isinstance(answer, SpoolFailed)

    async def leftover(self, count: int) -> None:
        self.process += 1
        writer = self.process = self.process + 1
        place = self.root / f"other-{writer}"
        other = Spool(place, bytes_max=BYTES_MAX)
        told = [self._record(writer, pair % 4, 100) for pair in range(count)]
        await other.append([record for _, record in told])
        for path in place.iterdir():
            shutil.copy(path, self.directory)
        await other.close()
        self.waiting[writer] = [text for text, _ in told]
        assert await self.spool.adopt() == count
        self.process += 1

    async def kill(self, tail: bytes) -> None:
        directory = self.root / f"spool-{self.process + 1}"
        shutil.copytree(self.directory, directory)
        await self.spool.close()
        if (paths := sorted(directory.glob("*.spool"))) and tail:
            with paths[-1].open("ab") as file:
                file.write(tail)
        self.process += 1
        self.directory, self.spool = directory, Spool(directory, bytes_max=BYTES_MAX)
        await self.spool.open()

    def removed(self, values: list[bytes]) -> None:
        for value in values:
            text = value.decode().rstrip("x")
            writer = int(text.split("/")[0])
            assert self.waiting[writer].pop(0) == text, "each process's records keep their order"

    def check(self) -> None:
        texts = [text for of_writer in self.waiting.values() for text in of_writer]
        assert self.spool.count == len(texts)
        pairs = Counter(text.split("/")[2] for text in texts)
        for pair in ("pair-0", "pair-1", "pair-2", "pair-3"):
            assert self.spool.holds(pair) == (pairs[pair] > 0)
        assert (self.spool.oldest_at is None) == (not texts)
        assert self.spool.size <= BYTES_MAX or self.spool.failure is not None or texts

    async def end(self) -> None:
        while (batch := await self.spool.head(7)).count:
            await self.spool.remove(batch)
            self.removed([record.value for record in batch.records])
        assert not any(self.waiting.values())
        assert not self.spool.holds_any
        await self.spool.close()
        assert not list(self.directory.glob("*.spool")), "what was read is gone from the disk"


@given(_STEPS)
def test_nothing_acknowledged_is_lost(steps: list[Append | Take | Leftover | Kill]) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as root:
            world = World(Path(root))
            await world.begin()
            for step in steps:
                await world.step(step)
            await world.end()

    asyncio.run(play())

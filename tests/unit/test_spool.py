"""The spool as a queue: flushes that are shared, keys that are held, a loop that does not wait for the disk."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.intake.spool import Batch, Record, Spool, SpoolFailed
from bridge.intake.spool_frames import frame, head
from bridge.runtime.clock import now_ms

MIB = 1024 * 1024


@asynccontextmanager
async def opened(directory: Path, bytes_max: int = MIB) -> AsyncIterator[Spool]:
    spool = Spool(directory, bytes_max=bytes_max)
    await spool.open()
    try:
        yield spool
    finally:
        await spool.close()


def record(text: str, *keys: str) -> Record:
    return Record("event", keys, text.encode())


def texts(batch: Batch) -> list[str]:
    return [each.value.decode() for each in batch.records]


async def test_records_come_back_whole_and_oldest_first(tmp_path: Path) -> None:
    before = now_ms()
    async with opened(tmp_path / "spool") as spool:
        told = [Record("event", ("1:2", "3:4"), '{"name": "Åsa\nB"}'.encode()), Record("other", (), b"")]
        await spool.append(told)
        await spool.append([record("third")])
        batch = await spool.head(2)
        assert [(each.kind, each.keys, each.value) for each in batch.records] == [
            (each.kind, each.keys, each.value) for each in told
        ]
        assert all(before <= each.at <= now_ms() for each in batch.records)
        assert spool.oldest_at == batch.records[0].at
        assert texts(await spool.head(5)) == [*texts(batch), "third"], "nothing goes before it is removed"
        await spool.remove(batch)
        assert texts(await spool.head(5)) == ["third"]


async def test_what_comes_together_is_flushed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "spool") as spool:
        flush, flushed = os.fdatasync, []

        def counted(fd: int) -> None:
            flush(fd)
            flushed.append(fd)

        monkeypatch.setattr(os, "fdatasync", counted)
        await asyncio.gather(*(spool.append([record(f"{number:03}")]) for number in range(200)))
        assert len(flushed) == 1
        assert texts(await spool.head(500)) == [f"{number:03}" for number in range(200)]


async def test_a_key_is_held_from_the_moment_it_is_handed_in(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        appending = asyncio.create_task(spool.append([record("one", "a", "b"), record("two", "b")]))
        await asyncio.sleep(0)
        assert (spool.holds("a"), spool.holds("b"), spool.holds("c")) == (True, True, False)
        await appending
        await spool.remove(await spool.head(1))
        assert (spool.holds("a"), spool.holds("b")) == (False, True)
        await spool.remove(await spool.head(1))
        assert not spool.holds_any


async def test_what_was_refused_holds_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool", bytes_max=64 * 1024) as spool:
        await spool.append([record("kept", "a")])
        with pytest.raises(SpoolFailed, match="full"):
            await spool.append([record("x" * 70_000, "a", "b")])
        assert (spool.holds("a"), spool.holds("b"), spool.count) == (True, False, 1)
        assert await spool.usable(), "that one was too large; there is room"


async def test_who_stops_waiting_harms_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        impatient = asyncio.create_task(spool.append([record("first", "a")]))
        patient = asyncio.create_task(spool.append([record("second", "b")]))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
        assert texts(await spool.head(5)) == ["first", "second"], "it was on its way: it may be on the disk"
        assert spool.holds("a")


async def test_a_spool_is_taken_over_with_its_keys(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        await spool.append([record("one", "a"), record("two", "b")])
        await spool.remove(await spool.head(1))
    async with opened(tmp_path / "spool") as spool:
        assert (spool.count, spool.holds("a"), spool.holds("b")) == (1, False, True)
        assert texts(await spool.head(5)) == ["two"]
    assert len(list((tmp_path / "spool").iterdir())) == 1, "a spool that is opened and closed adds no file"


async def test_keys_of_a_record_that_rotted_do_not_stay(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        await spool.append([record("rotten", "a"), record("fine", "b")])
        [path] = (tmp_path / "spool").iterdir()
        data = bytearray(path.read_bytes())
        data[data.index(b"rotten")] ^= 1
        path.write_bytes(data)
        batch = await spool.head(5)
        assert (batch.count, texts(batch)) == (2, ["fine"])
        await spool.remove(batch)
        assert not spool.holds_any


async def test_an_unusable_directory_is_said_and_mended(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    async with opened(tmp_path / "spool") as spool:
        assert spool.failure is not None
        with pytest.raises(SpoolFailed):
            await spool.append([record("one", "a")])
        assert not await spool.usable()
        assert not spool.holds_any
        (tmp_path / "spool").unlink()
        assert await spool.usable()
        assert spool.failure is None
        await spool.append([record("one", "a")])


async def test_closing_waits_for_what_is_on_its_way(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", bytes_max=MIB)
    await spool.open()
    appending = [asyncio.create_task(spool.append([record(str(number))])) for number in range(50)]
    await asyncio.sleep(0)
    await spool.close()
    await asyncio.gather(*appending)
    async with opened(tmp_path / "spool") as again:
        assert again.count == 50


async def test_a_record_of_another_make_is_handed_on_as_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        await spool.append([Record("event", (), b"{}")])
        assert [each.kind for each in (await spool.head(1)).records] == ["event"]
    [path] = (tmp_path / "spool").iterdir()
    path.write_bytes(head(32) + frame(7, b"not what this version writes"))
    async with opened(tmp_path / "spool") as spool:
        [strange] = (await spool.head(1)).records
        assert (strange.kind, strange.value, strange.at) == ("", b"not what this version writes", 7)

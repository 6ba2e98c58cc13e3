"""The spool's files: what is written is read, whatever happens to the bytes behind it."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from bridge.intake.spool_files import SpoolFiles
from bridge.intake.spool_frames import FRAME_BYTES, HEAD_BYTES, Frame, Gap, frame, scan
from tests.fakes.logs import captured

MIB = 1024 * 1024
TEXTS = ["first", "second åäö", "third " + "x" * 300, "fourth"]


class Disk:
    """A directory, the processes on it one after the other, and what they report.

    Attributes:
        adopted: the payloads that the newest process found.
        lost: how many unreadable stretches were told of.
    """

    def __init__(self, directory: Path, bytes_max: int = MIB) -> None:
        self.directory, self._bytes_max = directory, bytes_max
        self.lost = 0
        self.adopted: list[bytes] = []
        self.files = self.start()

    def start(self) -> SpoolFiles:
        self.files = SpoolFiles(self.directory, bytes_max=self._bytes_max, lost=self._lose)
        self.adopted = []
        self.files.adopt(self.adopted.append)
        return self.files

    def _lose(self) -> None:
        self.lost += 1

    def write(self, *texts: str) -> None:
        for text in texts:
            assert self.files.write([[(1, text.encode())]]) == [None]

    def take(self, count: int = 1000) -> list[str | None]:
        """Reads and removes up to `count` records."""
        found: list[str | None] = []
        while len(found) < count and (read := self.files.read(count - len(found))):
            self.files.remove(len(read))
            found += [None if payload is None else payload.decode() for _, payload in read]
        return found

    def spools(self) -> list[Path]:
        return sorted(self.directory.glob("*.spool"))

    def spool(self) -> Path:
        [path] = self.spools()
        return path

    def after_a_kill(self) -> "Disk":
        """The disk as a process finds it after this one was killed: the same files, their locks free."""
        other = self.directory.with_name(self.directory.name + "+")
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(self.directory, other)
        return Disk(other, self._bytes_max)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "spool")


def test_records_come_back_in_order_over_files_and_processes(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool", bytes_max=64 * 1024)  # a file holds 4 KiB
    texts = [f"{number} " + "x" * 500 for number in range(40)]
    disk.write(*texts)
    assert len(disk.spools()) > 3
    assert disk.take(5) == texts[:5]
    second = disk.after_a_kill()
    assert [text.decode() for text in second.adopted] == texts[5:]
    second.write("newer")
    assert second.take() == [*texts[5:], "newer"]
    assert second.spools() == []


def test_a_position_survives_a_kill(disk: Disk) -> None:
    disk.write(*TEXTS)
    assert disk.take(2) == TEXTS[:2]
    second = disk.after_a_kill()
    assert second.take(1) == TEXTS[2:3]
    assert second.after_a_kill().take() == TEXTS[3:]


def test_files_are_for_their_owner_alone_and_gone_when_read(disk: Disk) -> None:
    disk.write("a call")
    assert stat.S_IMODE(disk.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(disk.spool().stat().st_mode) == 0o600
    assert disk.take() == ["a call"]
    assert list(disk.directory.iterdir()) == []
    assert disk.files.state().size == 0


def test_a_directory_open_to_all_is_closed(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o755)
    Disk(tmp_path / "spool")
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_the_state_tells_depth_size_and_age(disk: Disk) -> None:
    assert disk.files.state() == (0, 0, None, None)
    assert disk.files.write([[(1000, b"one"), (1001, b"two")], [(2000, b"three")]]) == [None, None]
    size = HEAD_BYTES + 3 * FRAME_BYTES + len("onetwothree")
    assert disk.files.state() == (3, size, 1000, None)
    assert disk.spool().stat().st_size == size
    disk.take(2)
    assert disk.files.state() == (1, size, 2000, None)


# --- torn ends


def test_a_write_cut_short_anywhere_costs_only_itself(disk: Disk) -> None:
    disk.write(*TEXTS)
    whole = disk.spool().read_bytes()
    last = len(frame(1, TEXTS[-1].encode()))
    with captured("warning") as lines:
        for kept in range(len(whole) - last, len(whole)):
            disk.spool().write_bytes(whole[:kept])
            after = disk.after_a_kill()
            assert after.take() == TEXTS[:-1]
            assert after.lost == (0 if kept == len(whole) - last else 1), kept
            assert list(after.directory.iterdir()) == [], "nobody was promised the rest: there is nothing to keep"
    said = [orjson.loads(line) for line in lines]
    assert {line["event"] for line in said} == {"spool: a write was cut short, its rest is skipped"}
    assert [(line["at_byte"], line["bytes"]) for line in said] == [(len(whole) - last, n) for n in range(1, last)]
    assert {line["file"] for line in said} == {disk.spool().name}, "the mask must not take the name for a number"


def test_room_that_was_never_filled_is_no_record(disk: Disk) -> None:
    disk.write(*TEXTS)
    with disk.spool().open("ab") as file:
        file.write(bytes(5000))
    after = disk.after_a_kill()
    assert after.take() == TEXTS
    assert (after.lost, list(after.directory.iterdir())) == (1, [])


def test_a_file_that_has_only_begun_is_no_news(disk: Disk) -> None:
    disk.write("gone in a moment")
    whole = disk.spool().read_bytes()
    for size in range(HEAD_BYTES + 1):
        disk.spool().write_bytes(whole[:size])
        after = disk.after_a_kill()
        assert (after.take(), after.lost, after.spools()) == ([], 0, [])


# --- damage


def test_one_flipped_bit_costs_at_most_one_record_and_the_file_is_kept(disk: Disk) -> None:
    disk.write(*TEXTS)
    whole = disk.spool().read_bytes()
    borders = [HEAD_BYTES]
    for text in TEXTS:
        borders.append(borders[-1] + FRAME_BYTES + len(text.encode()))
    for at in range(len(whole)):
        for bit in (0, 3, 7) if at % 7 else range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            disk.spool().write_bytes(flipped)
            after = disk.after_a_kill()
            hit = next((place for place, border in enumerate(borders[1:]) if at < border), None)
            spared = TEXTS if at < HEAD_BYTES else [text for place, text in enumerate(TEXTS) if place != hit]
            assert after.take() == spared, (at, bit)
            kept = [path.suffix for path in after.directory.iterdir()]
            if at < HEAD_BYTES:
                assert kept == []
            elif hit == len(TEXTS) - 1:  # a length that points past the end looks like a write that was cut short
                assert kept in ([".damaged"], [])
            else:
                assert kept == [".damaged"]


def test_damage_is_told_with_its_place_and_size(disk: Disk) -> None:
    disk.write(*TEXTS)
    data = bytearray(disk.spool().read_bytes())
    at = data.index(b"second")
    data[at] ^= 1
    disk.spool().write_bytes(data)
    with captured("error") as lines:
        after = disk.after_a_kill()
        assert after.take() == [TEXTS[0], *TEXTS[2:]]
    assert after.lost == 1
    skipped, kept = (orjson.loads(line) for line in lines)
    assert (skipped["at_byte"], skipped["bytes"]) == (at - FRAME_BYTES, FRAME_BYTES + len(TEXTS[1].encode()))
    assert [kept["file"]] == [path.name for path in after.directory.iterdir()]
    assert "second" not in lines.text
    assert after.after_a_kill().adopted == [], "a file that was put aside is not taken over again"


def test_damage_that_comes_after_writing_costs_that_record(disk: Disk) -> None:
    disk.write(*TEXTS)
    data = bytearray(disk.spool().read_bytes())
    data[data.index(b"second")] ^= 1
    disk.spool().write_bytes(data)
    assert disk.take() == [TEXTS[0], None, *TEXTS[2:]]
    assert disk.lost == 1
    assert [path.suffix for path in disk.directory.iterdir()] == [".damaged"]


def test_something_else_in_the_directory_is_left_alone(disk: Disk) -> None:
    (disk.directory / "note.txt").write_text("mine")
    (disk.directory / "folder.spool").mkdir()
    (disk.directory / "link.spool").symlink_to(disk.directory / "note.txt")
    after = disk.after_a_kill()
    assert after.adopted == []
    assert (after.directory / "note.txt").read_text() == "mine"
    after.write("works")
    assert after.take() == ["works"]


def test_a_payload_that_looks_like_a_frame_does_not_confuse(disk: Disk) -> None:
    inner = frame(5, b"inner")
    data = frame(1, b"head " + inner + b" tail") + frame(2, b"next")
    assert [part.payload if isinstance(part, Frame) else None for part in scan(data, 0)] == [
        b"head " + inner + b" tail",
        b"next",
    ]
    assert list(scan(b"", 0)) == []
    junk, behind = scan(b"junk" + frame(2, b"next"), 0)
    assert junk == Gap(0, 4, torn=False)
    assert isinstance(behind, Frame)
    assert behind.payload == b"next"


# --- sharing


def test_what_a_living_process_holds_is_not_taken(disk: Disk) -> None:
    disk.write(*TEXTS)
    other = Disk(disk.directory)
    assert other.adopted == []
    other.write("the other's")
    assert disk.start() is not None, "a third one starts beside both"
    assert disk.adopted == []
    assert other.take() == ["the other's"]


def test_what_an_ended_process_left_comes_first(disk: Disk) -> None:
    disk.write("old 1", "old 2")
    other = Disk(disk.directory)
    other.write("new 1")
    disk.files.close()
    found: list[bytes] = []
    assert other.files.adopt(found.append) == 2
    assert found == [b"old 1", b"old 2"]
    assert other.take() == ["old 1", "old 2", "new 1"]
    assert other.spools() == []


# --- bounds


def test_the_bound_holds_over_all_files_and_room_comes_back(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool", bytes_max=64 * 1024)
    text = "x" * 1000
    taken = 0
    while taken < 100 and disk.files.write([[(1, text.encode())]]) == [None]:
        taken += 1
    assert 40 <= taken <= 63
    state = disk.files.state()
    assert state.size <= 64 * 1024
    assert state.failure == "the spool is full (spool.bytes_max)"
    assert not disk.files.probe()
    on_disk = sum(path.stat().st_size for path in disk.spools())
    assert on_disk == state.size, "what was refused is not on the disk either"
    disk.take(10)
    assert disk.files.probe()
    assert disk.files.state().failure is None
    assert len(disk.take()) == taken - 10


def test_in_one_flush_what_fits_is_taken_and_the_rest_refused(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool", bytes_max=8 * 1024)
    big, small = b"b" * 20_000, b"s" * 100
    first, second, third = disk.files.write([[(1, small)], [(1, small), (1, big)], [(1, small)]])
    assert (first, third) == (None, None)
    assert second is not None
    assert second.reason == "the spool is full (spool.bytes_max)"
    assert len(disk.take()) == 2, "an append is taken whole or not at all"


def test_what_was_left_is_taken_over_even_beyond_the_bound(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "spool", bytes_max=256 * 1024)
    texts = [f"{number} " + "x" * 1000 for number in range(100)]
    disk.write(*texts)
    disk.files.close()
    small = Disk(disk.directory, bytes_max=32 * 1024)
    assert len(small.adopted) == 100
    assert small.files.write([[(1, b"more")]]) != [None]
    assert small.take() == texts
    small.write("more")


@pytest.mark.parametrize("act", [lambda files: files.read(5), lambda files: files.close()])
def test_an_empty_spool_has_nothing(disk: Disk, act: Callable[[SpoolFiles], object]) -> None:
    assert act(disk.files) in ([], None)
    assert list(disk.directory.iterdir()) == []

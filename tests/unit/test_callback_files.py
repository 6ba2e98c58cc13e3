"""Fetched files on a real disk: where they come to lie, whatever they are called, and what bounds them."""

import asyncio
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.delivery.files import Files, NoRoom

NAMES = [
    "../../etc/passwd",
    "..",
    ".",
    "",
    "/etc/cron.d/x",
    "..\\..\\windows\\system32\\x.dll",
    ".ssh/authorized_keys",
    "a\0b.txt",
    "a\nb.txt",
    "-rf",
    "~",
    "\u202etxt.exe",
    "．．／．．／x",
    "x" * 5000 + ".pdf",
    "ä" * 5000,
    "CON.txt",
    "%2e%2e%2fx",
    ".part-0123456789abcdef",
]


def all_files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    await lands_inside(tmp_path, name)


@given(st.text() | st.text("./\\ ~%\0\n-:\u202e"))
def test_whatever_the_name(name: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(lands_inside(Path(directory), name))


async def lands_inside(root: Path, name: str) -> None:
    files = Files(root / "files", bytes_max=1000)
    stored = await files.store("2256", "attachment-789", name, b"content")
    (path,) = all_files(root)
    assert path == root / "files" / stored.path
    assert path.parent == root / "files" / "2256"
    assert path.name.startswith("attachment-789_")
    assert path.read_bytes() == b"content"
    assert (await files.find("2256", "attachment-789")) == stored


@pytest.mark.parametrize("word", ["..", "a/b", "", ".", "a b", "ä"])
async def test_folders_and_keys_are_words_of_ours(tmp_path: Path, word: str) -> None:
    files = Files(tmp_path / "files", bytes_max=1000)
    with pytest.raises(ValueError, match="not a word"):
        await files.store(word, "attachment-1", "x", b"")
    with pytest.raises(ValueError, match="not a word"):
        await files.store("1", word, "x", b"")
    assert all_files(tmp_path) == []


async def test_nothing_is_written_over_and_nobody_else_may_read(tmp_path: Path) -> None:
    files = Files(tmp_path / "files", bytes_max=1000)
    first = await files.store("1", "attachment-1", "a.txt", b"first")
    assert await files.store("1", "attachment-1", "b.txt", b"second") == first
    assert await files.store("1", "attachment-11", "a.txt", b"another") != first
    assert await files.find("1", "attachment-2") is None
    assert await files.find("2", "attachment-1") is None
    assert (tmp_path / "files" / first.path).read_bytes() == b"first"
    assert [path.stat().st_mode & 0o777 for path in all_files(tmp_path)] == [0o600, 0o600]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "files", tmp_path / "files" / "1")} == {0o700}


async def test_the_directory_is_bounded_and_has_room_again_when_files_are_taken_away(tmp_path: Path) -> None:
    files = Files(tmp_path, bytes_max=100)
    first = await files.store("1", "attachment-1", "a", b"x" * 60)
    (tmp_path / "of-somebody-else").write_bytes(b"y" * 10)
    with pytest.raises(NoRoom):
        await files.store("1", "attachment-2", "b", b"x" * 31)
    assert all_files(tmp_path) == sorted([tmp_path / first.path, tmp_path / "of-somebody-else"])
    await files.store("1", "attachment-2", "b", b"x" * 30)
    assert files.size == 100
    (tmp_path / first.path).unlink()
    await files.store("1", "attachment-3", "c", b"x" * 60)
    assert files.size == 100


async def test_many_at_once_keep_the_bound(tmp_path: Path) -> None:
    files = Files(tmp_path, bytes_max=100)
    stores = (files.store("1", f"attachment-{number}", "a", b"x" * 30) for number in range(10))
    results = await asyncio.gather(*stores, return_exceptions=True)
    assert sum(isinstance(result, NoRoom) for result in results) == 7
    assert sum(path.stat().st_size for path in all_files(tmp_path)) == 90


async def test_what_was_left_unfinished_is_no_file_and_goes(tmp_path: Path) -> None:
    files = Files(tmp_path, bytes_max=100)
    await files.store("1", "attachment-1", "a", b"x")
    old, young = tmp_path / "1" / ".part-old", tmp_path / "1" / ".part-young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    again = Files(tmp_path, bytes_max=100)
    assert await again.find("1", "attachment-2") is None
    await again.store("1", "attachment-2", "b", b"y")
    assert not old.exists()
    assert young.exists(), "another bridge may be at it"


async def test_a_disk_that_takes_nothing_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file where the directory should be")
    files = Files(tmp_path / "files", bytes_max=100)
    with pytest.raises(OSError):  # noqa: PT011 (which one is the system's to say)
        await files.store("1", "attachment-1", "a", b"x")

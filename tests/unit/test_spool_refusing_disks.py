"""The spool on disks that refuse: full, bounded, or no directory. What was taken stays, and more is taken later."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from bridge.intake.spool_files import SpoolFiles

MIB = 1024 * 1024

_FILL = """
import json, os, sys
from pathlib import Path
from bridge.intake.spool_files import SpoolFiles
from bridge.runtime.logs import configure

configure("error", "json")
files = SpoolFiles(Path(sys.argv[1]), bytes_max=1024 ** 3, lost=lambda: None)
files.adopt(lambda payload: None)
assert files.probe()
taken = 0
while True:
    [refused] = files.write([[(1, b"%06d" % taken + b"x" * 2000)]])
    if refused:
        break
    taken += 1
reason = files.state().failure
on_disk = sum(path.stat().st_size for path in Path(sys.argv[1]).glob("*.spool"))
assert on_disk == files.state().size, "nothing stays of what was refused"
if ballast := sys.argv[2:]:
    assert not files.probe()
    os.unlink(ballast[0])
assert files.probe(), files.state()
assert files.write([[(1, b"room again")]]) == [None]
print(json.dumps([taken, reason]), flush=True)
os._exit(9)  # as if killed
"""


def _read_back(directory: Path) -> list[bytes]:
    found: list[bytes] = []
    SpoolFiles(directory, bytes_max=1024**3, lost=lambda: None).adopt(found.append)
    return [payload[:6] for payload in found]


def test_a_file_that_cannot_grow_refuses_and_keeps_what_it_took(tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    child = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path / "spool")],
        preexec_fn=limited,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == 9, child.stderr
    taken, reason = orjson.loads(child.stdout)
    assert reason == "the spool cannot be written: File too large"
    assert taken >= 40
    assert '"spool takes no events"' in child.stderr
    assert _read_back(tmp_path / "spool") == [*(b"%06d" % number for number in range(taken)), b"room a"]


_ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size=512k tmpfs "$1"
dd if=/dev/zero of="$1/ballast" bs=1k count=200 status=none
"$2" -c "$3" "$1/spool" "$1/ballast" >"$4/said" || test $? = 9
cp -r "$1/spool" "$4/kept"
"""


def test_a_full_disk_refuses_keeps_what_it_took_and_takes_more_when_there_is_room(tmp_path: Path) -> None:
    mount, out = tmp_path / "mount", tmp_path / "out"
    mount.mkdir()
    out.mkdir()
    if shutil.which("unshare") is None or subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", str(mount)], capture_output=True, check=False
    ).returncode:  # fmt: skip
        pytest.skip("no file system can be mounted here")
    run = ["unshare", "--mount", "sh", "-c", _ON_A_SMALL_DISK, "sh", mount, sys.executable, _FILL, out]
    done = subprocess.run(list(map(str, run)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    taken, reason = orjson.loads((out / "said").read_text())
    assert reason == "the spool cannot be written: No space left on device"
    assert taken >= 50
    assert _read_back(out / "kept") == [*(b"%06d" % number for number in range(taken)), b"room a"]


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    files = SpoolFiles(tmp_path / "file" / "spool", bytes_max=MIB, lost=lambda: None)
    with pytest.raises(OSError, match="Not a directory"):
        files.adopt(lambda _: None)
    [refused] = files.write([[(1, b"text")]])
    assert refused is not None
    assert refused.reason == "the spool cannot be written: Not a directory"
    assert not files.probe()
    (tmp_path / "file").unlink()
    assert files.probe(), "it asks the disk anew each time"
    assert files.write([[(1, b"text")]]) == [None]

"""What `aventa-bridge check` says of the spool."""

import asyncio
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli import main
from bridge.intake.spool import Record, Spool
from bridge.store.embedded import find_server

pytestmark = pytest.mark.skipif(find_server() is None, reason="no redis-server here, which is a fault of its own")


def check(tmp_path: Path, **more: str) -> Result:
    (tmp_path / "empty.toml").touch()
    env = {"BRIDGE_SPOOL__DIR": str(tmp_path / "spool"), **more}
    return CliRunner(env=env).invoke(main, ["check", "--sandbox", "--config", str(tmp_path / "empty.toml")])


def line(result: Result) -> str:
    [found] = [each for each in result.output.splitlines() if each.startswith(("ok    spool", "fault spool"))]
    return found


def test_a_usable_directory_is_said_and_not_made(tmp_path: Path) -> None:
    result = check(tmp_path)
    assert result.exit_code == 0, result.output
    assert line(result).startswith(f"ok    spool: {tmp_path}/spool can be used, ")
    assert line(result).endswith("of which it takes 256.0 MiB at most")
    assert not (tmp_path / "spool").exists()


def test_what_waits_and_what_is_damaged_is_said(tmp_path: Path) -> None:
    async def leave() -> None:
        spool = Spool(tmp_path / "spool", bytes_max=1024**2)
        await spool.open()
        await spool.append([Record("event", (), b"x" * 60_000)])
        await spool.close()

    asyncio.run(leave())
    (tmp_path / "spool" / "events-1.damaged").touch()
    result = check(tmp_path)
    assert result.exit_code == 0
    assert "      spool: events wait there (files: 1, 0.1 MiB)" in result.output
    assert "warn  spool: damaged files" in result.output
    assert len(list((tmp_path / "spool").iterdir())) == 2, "nothing is changed"


def test_a_directory_that_cannot_be_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    result = check(tmp_path)
    assert result.exit_code == 2
    assert line(result).startswith(f"fault spool: spool.dir {tmp_path}/spool cannot be used: Not a directory; name a")


def test_a_disk_without_room_is_a_fault(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free > 1024**4:
        pytest.skip("the disk here has room for the greatest spool")
    result = check(tmp_path, BRIDGE_SPOOL__BYTES_MAX="1024 GiB")
    assert result.exit_code == 2
    assert "spool.bytes_max is 1,048,576.0 MiB, and the disk" in line(result)


def test_without_a_spool_nothing_is_said(tmp_path: Path) -> None:
    result = check(tmp_path, BRIDGE_SPOOL__ENABLED="false")
    assert (result.exit_code, "spool" in result.output) == (0, False)

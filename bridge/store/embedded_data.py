"""The embedded Redis's directories of data: one for each server version, and the way from an older to a newer one.

A server reads an older one's files, never a newer one's; 6.2 starts empty and silent on those of 7.0. So each version
has its own directory, and a newer version that starts for the first time takes over a copy of the newest older one.
Must be called with the service's and the server's lock held.
"""

import shutil
from pathlib import Path

from bridge.runtime.logs import get_logger

log = get_logger(__name__)


def tidy(data_dir: Path, data: Path) -> None:
    """Readies `data`, the directory of the version at hand, for its server.

    Removes what a killed server left half written, takes over an older version's data where there are none yet, and
    warns of newer data that this version cannot read.
    """
    for pattern in ("temp-*.aof", "temp-*.rdb"):  # a rewrite's; no later server removes it
        for leftover in data.glob(pattern):
            leftover.unlink(missing_ok=True)
    others = sorted(
        (other for other in data_dir.glob("redis-*") if other != data and _version(other)),
        key=_written_at,
        reverse=True,
    )
    if _written_at(data) == 0:
        older = [other for other in others if _version(other) < _version(data) and _written_at(other) > 0]
        if older:
            _take_over(older[0], data)
    for other in others:
        if _written_at(other) > _written_at(data):
            log.warning(
                "the embedded redis does not read newer data of another server version",
                data=str(data),
                other=str(other),
                hint="run that version, or take that directory away",
            )


def _take_over(older: Path, data: Path) -> None:
    """Copies `older` to `data` in one step: a copy that is cut short is never served."""
    draft = data.with_name(data.name + ".copying")
    shutil.rmtree(draft, ignore_errors=True)
    # Times are kept, so that the copy does not pass for newer than what it was copied from.
    shutil.copytree(older, draft, ignore=shutil.ignore_patterns("*.sock", "temp-*"))
    shutil.rmtree(data)
    draft.rename(data)
    log.warning(
        "the embedded redis has a newer server version: its data were copied over", data=str(data), older=str(older)
    )


def _version(directory: Path) -> tuple[int, ...]:
    """`(6, 2)` of `redis-6.2`; empty for any other name."""
    words = directory.name.removeprefix("redis-").split(".")
    return tuple(int(word) for word in words) if all(word.isdecimal() for word in words) else ()


def _written_at(directory: Path) -> float:
    """When a server of any version last wrote data here, seconds since the epoch; 0 when there are none.

    Up to 6.2 that is one AOF file, from 7.0 a directory of them.
    """
    files = [directory / "appendonly.aof", directory / "dump.rdb", *directory.glob("appendonlydir/*")]
    return max((file.stat().st_mtime for file in files if file.is_file() and file.stat().st_size > 0), default=0.0)

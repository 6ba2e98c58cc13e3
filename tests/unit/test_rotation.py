"""Secrets that are read again: what goes wrong with one reading keeps nobody from the next."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from bridge.rotation import Rotation
from bridge.runtime.metrics import Metrics
from bridge.settings import Settings
from tests.e2e.support import eventually, settings
from tests.fakes.logs import captured


async def test_a_reading_that_fails_for_whatever_reason_is_followed_by_another(tmp_path: Path) -> None:
    good = settings(tmp_path, "redis://127.0.0.1:1")
    taken: list[Settings] = []
    readings: Iterator[Settings | Exception] = iter([RuntimeError("can't start new thread"), MemoryError(), good])

    def reload() -> Settings:
        told = next(readings, good)
        if isinstance(told, Exception):
            raise told
        return told

    def take(new: Settings) -> bool:
        taken.append(new)
        return True

    with captured() as lines:
        running = asyncio.create_task(Rotation(reload, take, Metrics("test"), every_s=0.01).run())
        await eventually(lambda: bool(taken) or running.done(), "the third reading")
        assert taken[0] is good
        running.cancel()
    assert lines.text.count("failed inside the bridge") == 2

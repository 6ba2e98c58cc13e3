"""What the bridge writes to the disk holds calls: nobody else on the machine may read it, whatever the umask is."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from bridge.app import running
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import inbound, post, settings


@pytest.fixture
def generous() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("generous")
async def test_the_spool_is_for_its_owner_alone(redis: EmbeddedRedis, tmp_path: Path) -> None:
    spool = tmp_path / "data" / "spool"
    async with (
        running(settings(tmp_path, redis.url, redis__timeout_s=1.0, spool__dir=str(spool)), sandbox_port=0) as service,
        aiohttp.ClientSession() as http,
    ):
        await redis.stop()
        assert await post(http, service.intake_url, inbound("in-1", (1, 1))) == 202
        files = [path for path in spool.rglob("*") if path.is_file()]
        assert any(b"46701740605" in path.read_bytes() for path in files), "the event waits there"
        assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (spool, *files)} == {0}
        await redis.start()

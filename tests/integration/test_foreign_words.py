"""A proxy before Redis that refuses in words which Redis does not have: nothing is lost, doubled, or stuck."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge import app
from bridge.cention.sandbox import Sandbox
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import ended, eventually, inbound, settings, told
from tests.fakes.logs import captured
from tests.integration.redis_support import status
from tests.integration.store_support import Proxy, proxy

FOREIGN = b"-ERR upstream failure\r\n"
PAIR, OTHER = (1, 1), (2, 2)


class World:
    """A bridge behind a proxy, as its sender sees it."""

    def __init__(self, between: Proxy, service: app.Service, http: aiohttp.ClientSession) -> None:
        assert service.sandbox is not None
        self.between, self.service, self.http = between, service, http
        self.sandbox: Sandbox = service.sandbox

    async def post(self, event: dict[str, Any]) -> tuple[int, str, bool]:
        """Status, result or code, and whether to repeat or where it went: `Retry-After` or `Bridge-Spooled`."""
        async with self.http.post(f"{self.service.intake_url}/v1/events", json=event) as response:
            body = await response.json(content_type=None)
            sign = "Retry-After" if response.status == 503 else "Bridge-Spooled"
            return response.status, body.get("result") or body["code"], sign in response.headers

    async def ready(self) -> bool:
        return await status(self.http, f"{self.service.admin_url}/readyz") == 200


@asynccontextmanager
async def world(redis: EmbeddedRedis, tmp_path: Path, **more: object) -> AsyncIterator[World]:
    async with (
        proxy(redis.socket_path) as between,
        app.running(settings(tmp_path, between.url, **more), sandbox_port=0) as service,
        aiohttp.ClientSession() as http,
    ):
        yield World(between, service, http)


@pytest.mark.parametrize("how", ["instead", "spoiled"])
async def test_events_are_spooled_and_count_once(redis: EmbeddedRedis, tmp_path: Path, how: str) -> None:
    async with world(redis, tmp_path) as it:
        setattr(it.between, how, FOREIGN)
        for event in (inbound("c-1", PAIR), ended("c-1", PAIR), inbound("c-2", OTHER)):
            assert await it.post(event) == (202, "accepted", True)
        assert await it.ready(), "the spool takes events"
        setattr(it.between, how, b"")
        await eventually(lambda: len(told(it.sandbox)) >= 3, "all is delivered")
        assert sorted(told(it.sandbox)) == ["1/1 end-session c-1", "1/1 open c-1", "2/2 open c-2"]
        assert [words for words in told(it.sandbox) if "1/1" in words] == ["1/1 open c-1", "1/1 end-session c-1"]
        assert await it.post(ended("c-1", PAIR)) == (200, "duplicate", False)


async def test_without_a_spool_the_sender_is_told_to_repeat(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with world(redis, tmp_path, spool__enabled=False) as it:
        it.between.instead = FOREIGN
        assert await it.post(inbound("c-1", PAIR)) == (503, "store_unavailable", True)
        assert not await it.ready()
        it.between.instead = b""
        assert await it.post(inbound("c-1", PAIR)) == (202, "accepted", False)


async def test_what_alone_is_refused_is_sent_back_and_holds_up_no_other(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with world(redis, tmp_path) as it:
        it.between.only, it.between.instead = b"seen:too-large", FOREIGN
        for _ in range(2):
            assert await it.post(inbound("too-large", PAIR)) == (503, "store_unavailable", True)
        assert await it.post(inbound("c-1", PAIR)) == (202, "accepted", False)
        assert await it.ready()


async def test_what_alone_is_refused_does_not_stay_in_the_spool_before_others(
    redis: EmbeddedRedis, tmp_path: Path
) -> None:
    async with world(redis, tmp_path) as it:
        it.between.instead = FOREIGN
        for call_id in ("too-large", "c-1"):
            assert await it.post(inbound(call_id, PAIR)) == (202, "accepted", True)
        it.between.only = b"seen:too-large"
        await eventually(lambda: told(it.sandbox) == ["1/1 open c-1"], "the other one")
        async with it.http.get(f"{it.service.admin_url}/v1/rejections") as response:
            kept = await response.json()
        assert [(each["eventId"], each["code"]) for each in kept["rejections"]] == [
            ("too-large-started-1", "internal_error")
        ]


async def test_a_fault_of_ours_is_one_still(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with world(redis, tmp_path) as it:
        it.between.only = b"c-1"
        for words in (b"WRONGTYPE wrong kind of value", b"ERR Error running script: @user_script:1: no such thing"):
            it.between.instead = b"-" + words + b"\r\n"
            with captured() as lines:
                assert await it.post(inbound("c-1", PAIR)) == (500, "internal_error", False)
            assert "unhandled error in a request" in lines.text

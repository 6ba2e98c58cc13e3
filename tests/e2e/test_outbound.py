"""A bridge speaks to nobody but the Redis, the Cention and the feed of its settings, whatever events and answers name.

Python's audit hook notes every connection and every name looked up, from the interpreter's first line on. uvloop
connects without telling it, so the bridge runs on asyncio's own loop here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp import web
from yarl import URL

from bridge.app import running
from bridge.runtime.web import serve
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import ended, environment, eventually, inbound, outbound, post, settings, start_bridge

TOKEN = "token-of-cention-0"
HOOK = """
import os, sys

def note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        told = args[1] if event in ("socket.connect", "socket.sendto") else args[:2]
        with open(os.environ["NOTED"], "a") as file:
            print(event, *(told if isinstance(told, tuple) else [told]), file=file)

sys.addaudithook(note)
sys.modules["uvloop"] = None
"""


@dataclass
class Stranger:
    """A server that nobody may speak to.

    Attributes:
        asked: who did all the same, by method and path.
    """

    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        return web.Response()


@dataclass
class Lurer:
    """A Cention, and a feed, that name the stranger in every answer, in every way there is.

    Attributes:
        tokens: the Authorization headers of what came to Cention.
    """

    stranger: Stranger
    url: str = ""
    tokens: list[str] = field(default_factory=list)

    async def cention(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("Authorization", ""))
        elsewhere = {"Location": f"{self.stranger.url}/errand", "Link": f"<{self.stranger.url}>; rel=next"}
        if len(self.tokens) % 3 == 1:
            return web.Response(status=(301, 302, 303, 307, 308)[len(self.tokens) // 3 % 5], headers=elsewhere)
        links = {"self": f"{self.stranger.url}/self", "related": {"href": self.stranger.url}}
        body = {"data": {"type": "c3_new_errands", "id": str(len(self.tokens)), "links": links}, "links": links}
        headers = {**elsewhere, "Content-Type": "application/vnd.api+json", "Set-Cookie": "a=b; Domain=example.com"}
        return web.Response(status=201, body=orjson.dumps(body), headers=headers)

    async def feed(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": f"{self.stranger.url}/feed"})


@asynccontextmanager
async def served(*routes: web.RouteDef) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes(routes)
    runner, port = await serve(app, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    stranger = Stranger()
    async with served(web.route("*", "/{any:.*}", stranger.answer)) as stranger.url:
        yield stranger


@pytest.fixture
async def lurer(stranger: Stranger) -> AsyncIterator[Lurer]:
    lurer = Lurer(stranger)
    async with served(web.get("/feed", lurer.feed), web.post("/s/demo/{any:.*}", lurer.cention)) as lurer.url:
        yield lurer


async def test_nobody_but_who_is_configured_is_spoken_to(
    redis: EmbeddedRedis, stranger: Stranger, lurer: Lurer, tmp_path: Path
) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    notes = tmp_path / "noted"
    env = environment(
        redis.url,
        delivery__schedule_s=[0.05],
        cention__base_url=f"{lurer.url}/s/demo",
        cention__token=TOKEN,
        feed__kind="sse",
        feed__url=f"{lurer.url}/feed",
    )
    env |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), stranger.url)
    env |= {"no_proxy": "", "PYTHONPATH": str(tmp_path / "hook"), "NOTED": str(notes)}
    bridge = await start_bridge(tmp_path, env)
    try:
        async with aiohttp.ClientSession() as http:
            lures = {
                "link": f"{stranger.url}/recording",
                "callingName": stranger.url,
                "queueName": "${callId}",
                "extraData": {"comment": f"<img src='{stranger.url}'>"},
                "callingNumber": f"sip:a@{URL(stranger.url).authority}",
            }
            for number in range(4):
                pair = (1000, number)
                assert await bridge.post(http, inbound(f"in-{number}", pair, **lures)) == 202
                assert await bridge.post(http, ended(f"in-{number}", pair, link=f"{stranger.url}/late")) == 202
                assert await bridge.post(http, outbound(f"out-{number}", pair)) == 202
                assert await bridge.post(http, ended(f"out-{number}", pair)) == 202
            await eventually(lambda: len(lurer.tokens) >= 16, "every message has come to Cention")
            await eventually(lambda: any("redirect" in line and "feed" in line for line in bridge.log), "the feed")
    finally:
        assert await bridge.end() == 0
    assert stranger.asked == []
    assert set(lurer.tokens) == {f"Bearer {TOKEN}"}
    cention = f"socket.connect 127.0.0.1 {URL(lurer.url).port}"
    store = f"socket.connect {redis.url.removeprefix('unix://')}"
    found = set(notes.read_text().splitlines())
    assert cention in found, "the hook sees what there is to see"
    looked_up = {line.split()[1] for line in found if line.startswith("socket.getaddrinfo")}
    assert {line for line in found if not line.startswith("socket.getaddrinfo")} == {cention, store}
    assert looked_up <= {"127.0.0.1"}


async def test_the_sandboxs_token_goes_to_the_sandbox_alone(
    redis: EmbeddedRedis, stranger: Stranger, tmp_path: Path
) -> None:
    """`--sandbox` stands in for `cention.base_url`, wherever that points, with a token that opens nothing else."""
    elsewhere = {"cention__base_url": f"{stranger.url}/s/demo"}
    async with (
        running(settings(tmp_path, redis.url, **elsewhere), sandbox_port=0) as service,
        aiohttp.ClientSession() as http,
    ):
        assert service.sandbox is not None
        assert await post(http, service.intake_url, inbound("in-1", (1, 1))) == 202
        await eventually(lambda: len(service.sandbox.arrivals) == 1, "the errand")
        assert service.sandbox_url is not None
        assert URL(service.sandbox_url).host == "127.0.0.1"
    assert stranger.asked == []

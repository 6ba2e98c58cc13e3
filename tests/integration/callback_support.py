"""Shared by the tests of callbacks: a bridge with a sandbox, an errand that a call made, and its callback.

Not a test itself.
"""

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from bridge import app
from bridge.cention.documents import MEDIA_TYPE
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import eventually, inbound, post, settings
from tests.integration.cention_support import sample, web_server

SECRET = "123456"
"""As in the documentation's sample of a callback."""
SIGNING = "whsec_" + base64.b64encode(b"s" * 32).decode()
PAIR = (1000, 1001)


def callback(errand_id: int | str = 2256, *, files: bool = True, **meta: Any) -> dict[str, Any]:
    """The documentation's callback, of another errand; `meta` takes the secret's place."""
    document: dict[str, Any] = sample("callback_answer_errand")
    text = orjson.dumps(document).replace(b'"2256"', orjson.dumps(str(errand_id)))
    document = orjson.loads(text.replace(b'"c3_id":2256', b'"c3_id":%d' % int(errand_id)))
    if not files:
        document["included"] = [each for each in document["included"] if each["type"] == "c3_answer_errands"]
        del document["included"][0]["relationships"]
    if meta:
        document["meta"] = meta
    return document


@dataclass
class Desk:
    """A bridge and a client of its listeners."""

    service: app.Service
    http: aiohttp.ClientSession

    async def come(self, document: Any, **headers: str) -> tuple[int, Any]:
        """Posts a callback as Cention does; the answer."""
        body = document if isinstance(document, bytes) else orjson.dumps(document)
        sent = {"Content-Type": MEDIA_TYPE, **{name.replace("_", "-"): value for name, value in headers.items()}}
        url = f"{self.service.intake_url}/v1/cention/callback"
        async with self.http.post(url, data=body, headers={k: v for k, v in sent.items() if v}) as response:
            assert response.headers["Cache-Control"] == "no-store"
            return response.status, await response.json(content_type=None)

    async def get(self, path: str, token: str | None = None, status: int = 200) -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self.http.get(self.service.admin_url + path, headers=headers) as response:
            assert response.status == status, await response.text()
            return await response.json(content_type=None)

    async def callbacks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get("/v1/callbacks"))["callbacks"]
        return found

    async def timeline(self, call_id: str, kind: str) -> list[dict[str, Any]]:
        timeline = (await self.get(f"/v1/calls/{call_id}"))["timeline"]
        return [entry for entry in timeline if entry["kind"] == kind]

    async def call(self, call_id: str = "c-1", pair: tuple[int, int] = PAIR) -> int:
        """A call begins, and has its errand: the errand's id."""
        assert await post(self.http, self.service.intake_url, inbound(call_id, pair)) == 202
        found: list[int] = []

        async def made() -> bool:
            told = (await self.get(f"/v1/calls/{call_id}"))["errandId"]
            found[:] = [] if told is None else [int(told)]
            return bool(found)

        await eventually(made, f"the errand of {call_id}")
        return found[0]

    async def settled(self, *states: str) -> list[dict[str, Any]]:
        """Waits until what the newest callback led to has come to just these states: files first, then forwarding."""
        found: list[dict[str, Any]] = []

        async def is_so() -> bool:
            found[:] = await self.callbacks()
            forward = found[0]["forward"] if found else None
            told = [file["state"] for file in found[0]["files"]] if found else []
            return [*told, *([] if forward is None else [forward["state"]])] == list(states)

        await eventually(is_so, f"{states}")
        return found

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def desk(tmp_path: Path, redis: EmbeddedRedis, *, sandbox: bool = True, **more: object) -> AsyncIterator[Desk]:
    """A bridge in this process, with a sandbox unless `more` names a Cention."""
    given = {
        "callback__secret": SECRET,
        "callback__dir": str(tmp_path / "files"),
        "delivery__schedule_s": [0.05],
        "delivery__poll_s": 0.05,
        "redis__timeout_s": 1.0,
        **more,
    }
    async with (
        app.running(settings(tmp_path, redis.url, **given), sandbox_port=0 if sandbox else None) as service,
        aiohttp.ClientSession() as http,
    ):
        yield Desk(service, http)


TOKEN = "the-token-for-files"
FETCHING: dict[str, Any] = {"callback__fetch_attachments": True}


def forwarding(url: str, **more: Any) -> dict[str, Any]:
    return {"callback__forward_url": url, "callback__forward_secret": SIGNING, **more}


def document(errand_id: int, *files: tuple[str, Any], **more: Any) -> dict[str, Any]:
    """A callback with just these files."""
    given = callback(errand_id, files=False)
    return {
        **given,
        "included": [*given["included"], *({"type": kind, "id": number} for kind, number in files)],
        **more,
    }


def attachment(number: int) -> tuple[str, str]:
    return ("c3_response_attachments", str(number))


Answers = Callable[[str], web.Response]


def file_answer(name: Any, content: bytes | str | None) -> web.Response:
    """A file as Cention tells it; a text stands where base64 should."""
    packed = base64.b64encode(content).decode() if isinstance(content, bytes) else content
    told = {"name": name, "content_type": "text/plain", "content": packed}
    body = {"data": {"type": "c3_response_attachments", "id": "1", "attributes": {"attachment": told}}}
    return web.Response(body=orjson.dumps(body), content_type="application/vnd.api+json")


@asynccontextmanager
async def cention(answers: Answers, asked: list[str], tokens: list[str] | None = None) -> AsyncIterator[str]:
    """A Cention that answers each path as `answers` says; its base URL."""

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path_qs)
        if tokens is not None:
            tokens.append(request.headers["Authorization"])
        return answers(request.path)

    async with web_server(answer) as url:
        yield f"{url}/s/demo"


@asynccontextmanager
async def at(tmp_path: Path, redis: EmbeddedRedis, base_url: str, **more: Any) -> AsyncIterator[Desk]:
    """A bridge that fetches files from `base_url`."""
    given = {"cention__base_url": base_url, "cention__token": "another", "cention__tokens": {"attachment": TOKEN}}
    async with desk(tmp_path, redis, sandbox=False, **{**FETCHING, **given, **more}) as it:
        yield it


def on_disk(tmp_path: Path) -> dict[str, bytes]:
    root = tmp_path / "files"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

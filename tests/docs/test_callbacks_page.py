"""docs/callbacks.md against a running bridge: what it shows is what comes."""

import asyncio
import base64
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from bridge import app
from bridge.cention.sandbox import AnswerGiven, AttachedFile
from bridge.store.embedded import EmbeddedRedis
from tests.docs.test_examples import blocks, shell
from tests.e2e.support import eventually, inbound, post, settings
from tests.fakes.receiver import receiver
from tests.integration.callback_support import SIGNING

PAGE = "docs/callbacks.md"


def shape(value: Any) -> Any:
    """The members of a document and the kinds of their values."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


@pytest.mark.skipif(shutil.which("curl") is None, reason="the example needs curl")
async def test_the_examples_are_true(redis: EmbeddedRedis, tmp_path: Path) -> None:
    (script,) = blocks(PAGE, "sh")
    answer, entry, forwarded = (orjson.loads(block) for block in blocks(PAGE, "json"))
    (verifying,) = blocks(PAGE, "python")
    async with receiver(SIGNING) as to:
        more = {
            "callback__secret": "a-secret",
            "callback__forward_url": to.url,
            "callback__forward_secret": SIGNING,
            "callback__fetch_attachments": True,
            "callback__dir": str(tmp_path / "files"),
        }
        async with (
            app.running(settings(tmp_path, redis.url, **more), sandbox_port=0) as service,
            aiohttp.ClientSession() as http,
        ):
            sandbox = service.sandbox
            assert sandbox is not None
            assert await post(http, service.intake_url, inbound("call-1", (1000, 1001))) == 202

            async def timeline() -> dict[str, Any]:
                async with http.get(f"{service.admin_url}/v1/calls/call-1") as response:
                    told: dict[str, Any] = await response.json()
                    return told

            async def has_errand() -> bool:
                return (await timeline())["errandId"] is not None

            await eventually(has_errand, "the errand")
            environment = f"BRIDGE_URL={service.intake_url} CALLBACK_SECRET=a-secret; "
            told = orjson.loads(await shell("export " + environment + script))
            assert shape(told) == shape(answer)
            assert told["result"] == "accepted"
            assert orjson.loads(await shell("export " + environment + script))["result"] == "duplicate"

            content = base64.b64encode(b"%PDF").decode()
            file = AttachedFile(name="map.pdf", content_type="application/pdf", content=content)
            await sandbox.answer("511055", AnswerGiven(attachments=(file,)))
            shown: list[dict[str, Any]] = []

            async def has_file() -> bool:
                shown[:] = [each for each in (await timeline())["timeline"] if each["kind"] == "callback"]
                return len(shown) == 2 and len(shown[1]["files"]) == 1

            await eventually(has_file, "the file")
            assert shape(shown[1]) == shape(entry)
            assert shown[1]["files"][0]["path"] == entry["files"][0]["path"]
            assert {name: value for name, value in shown[0].items() if name in ("service", "subject", "to")} == {
                name: entry[name] for name in ("service", "subject", "to")
            }
            await eventually(lambda: len(to.taken) == 2, "both are forwarded")
        assert shape(to.taken[0]["meta"]) == shape(forwarded["meta"])
        assert to.taken[0]["meta"]["bridge"]["call"] == forwarded["meta"]["bridge"]["call"]
        names: dict[str, Any] = {"SECRET": SIGNING, "seen": set()}
        exec(verifying, names)
        await asyncio.to_thread(names["received"], to.headers[0], to.bodies[0])
        assert names["seen"] == {told["callbackId"]}

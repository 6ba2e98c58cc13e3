"""`schemathesis` against a running bridge: no 5xx, and both listeners answer as the OpenAPI document tells."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from bridge.cention.sandbox import Sandbox
from bridge.openapi import document, document_json
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import CENTION_TOKEN, BridgeProcess, bridges, ended, inbound
from tests.integration.callback_support import callback

pytestmark = pytest.mark.ci

COMMAND = Path(sys.executable).with_name("schemathesis")
INTAKE, OPERATOR = "token-of-the-intake-0", "token-of-an-operator-0"
# Not checked, because it is more than a schema can say: a number that no country has, a clock that is years off, a
# cursor that no answer gave (valid by the schema, and refused); a batch whose events are refused one by one (not
# valid, and answered 207).
UNCHECKED = "positive_data_acceptance,negative_data_rejection"
UNFORESEEN = ("unhandled error", "task failed", "Unhandled exception", "Traceback")


@pytest.fixture
async def bridge(redis: EmbeddedRedis, tmp_path: Path) -> AsyncIterator[BridgeProcess]:
    sandbox = Sandbox(tokens=frozenset([CENTION_TOKEN]))
    url = await sandbox.start()
    async with bridges(tmp_path, redis.url, url, intake__tokens=[INTAKE], admin__operator_tokens=[OPERATOR]) as (
        process,
    ):
        yield process
    await sandbox.stop()


async def schemathesis(tmp_path: Path, url: str, token: str, *options: str) -> str:
    """Runs it on the document; what it prints."""
    document = tmp_path / "openapi.json"
    document.write_bytes(document_json())
    process = await asyncio.create_subprocess_exec(
        COMMAND, "run", document, "--url", url, "--header", f"Authorization: Bearer {token}",
        "--phases", "examples,coverage,fuzzing", "--exclude-checks", UNCHECKED, "--continue-on-failure",
        "--request-timeout", "30", *options,
        cwd=tmp_path, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(600):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_the_intake(bridge: BridgeProcess, tmp_path: Path) -> None:
    said = await schemathesis(tmp_path, bridge.intake_url, INTAKE, "--include-tag", "intake", "--max-examples", "400")
    assert "Tested: 2" in said
    assert [line for line in bridge.log if any(word in line for word in UNFORESEEN)] == []


async def test_the_admin_listener(bridge: BridgeProcess, tmp_path: Path) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {INTAKE}"}) as http:
        for number in range(5):
            pair = (1000, 1000 + number)
            assert await bridge.post(http, inbound(f"call-{number}", pair, callingName="Ann")) == 202
            assert await bridge.post(http, {"eventId": "bad", "callingNumber": number}) == 422
        assert await bridge.post(http, ended("call-0", (1000, 1000))) == 202
        async with http.post(f"{bridge.intake_url}/v1/cention/callback", json=callback()) as response:
            callback_id = (await response.json())["callbackId"]
    options = ("--include-tag", "admin", "--max-examples", "300")
    said = await schemathesis(tmp_path, bridge.admin_url, OPERATOR, *options)
    paths = document()["paths"].values()
    operations = [told for path in paths for method, told in path.items() if method != "servers"]
    assert f"Tested: {sum('admin' in told['tags'] for told in operations)}" in said
    # Once more with ids that are there, so that calls are answered and not only 404.
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        '[parameters]\n"path.callId" = "call-0"\n"path.deviceId" = 1000\n"path.extensionId" = 1001\n'
        f'"path.callbackId" = "{callback_id}"\n'
    )
    said = await schemathesis(tmp_path, bridge.admin_url, OPERATOR, "--include-tag", "admin", "--max-examples", "50")
    assert "404 Not Found" not in said
    assert [line for line in bridge.log if any(word in line for word in UNFORESEEN)] == []

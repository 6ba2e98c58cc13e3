"""docs/intake.md is true: its examples run against the listener, and its table has every code that can be answered."""

import asyncio
import base64
import os
import re
import shutil
import sys
from pathlib import Path

import orjson
import pytest

from bridge.calls.events import Direction
from bridge.intake.wire import Translator
from bridge.runtime.clock import now_ms
from tests.fakes.intake import Recorder, intake

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "intake.md").read_text()
EXAMPLES = re.findall(r"```(sh|python)\n(.*?)```", DOCUMENT, re.DOTALL)
SECRET = "whsec_" + base64.b64encode(b"a key of twenty-four\xff\x00\n").decode()


async def run(language: str, source: str, url: str) -> str:
    """What the example prints."""
    environment = {**os.environ, "BRIDGE_URL": url, "BRIDGE_TOKEN": "t-1", "BRIDGE_WEBHOOK_SECRET": SECRET}
    command = [sys.executable, "-c"] if language == "python" else ["bash", "-euo", "pipefail", "-c"]
    process = await asyncio.create_subprocess_exec(
        *command, source, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return out.decode()


@pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "openssl"))), reason="the examples need bash, curl and openssl"
)
async def test_the_examples_do_what_they_say() -> None:
    recorder = Recorder()
    translate = Translator(
        default_region=None,
        opens=frozenset(Direction),
        clock_ahead_s_max=60,
        clock_behind_s_max=60,
        now_ms=now_ms,
    )
    async with intake(recorder, tokens=["t-1"], webhook_secrets=[SECRET], translate=translate) as url:
        printed = [await run(language, source, url) for language, source in EXAMPLES]
    one, array, lines, shell, python = printed
    assert orjson.loads(one) == {"eventId": "7f3c-0001", "result": "accepted"}
    told = re.search(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    assert told is not None
    first, second = orjson.loads(array)["results"]
    assert [
        first,
        {**second, "detail": "...", "errors": [{**second["errors"][0], "code": "...", "detail": "..."}]},
    ] == (orjson.loads(told.group(1))["results"])
    assert [each["result"] for each in orjson.loads(lines)["results"]] == ["accepted", "accepted"]
    assert orjson.loads(shell) == {"eventId": "7f3c-0006", "result": "accepted"}
    status, _, body = python.partition(" ")
    assert (status, orjson.loads(body)["result"]) == ("202", "accepted")


def test_the_table_has_every_code_and_no_other() -> None:
    table = set(re.findall(r"^\| (\d{3}) \| `(\w+)` \| .* \|$", DOCUMENT, re.MULTILINE))
    files = ("intake/auth", "intake/body", "intake/routes", "runtime/web")
    sources = "".join((ROOT / "bridge" / f"{name}.py").read_text() for name in files)
    raised = set(re.findall(r'(?:Problem|unusable)\(\s*(\d{3}),\s*"(\w+)"', sources))
    raised |= {("401", code) for code in re.findall(r'_refusal\(\s*"(\w+)"', sources)}
    raised |= {("400", "unreadable_json"), ("422", "invalid_event")}  # named by constants
    raised |= {("404", "not_found"), ("405", "method_not_allowed")}  # of both listeners
    assert table == raised

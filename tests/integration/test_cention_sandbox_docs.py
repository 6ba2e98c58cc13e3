"""The sandbox's page of documentation, against the sandbox: its tables are whole, and its examples work."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from bridge.cention.sandbox import Sandbox
from bridge.cention.sandbox.asked import CLAIMS
from bridge.cention.sandbox.data import load
from bridge.cention.sandbox.faults import ENDPOINTS, MATCHED, FaultRule
from bridge.cli.sandbox import answer, sandbox
from tests.integration.cention_support import TESTS, errand, web_server
from tests.integration.sandbox_support import Reader, serving
from tests.integration.test_cention_sandbox_claims import ENDPOINTS_AND_CLAIMS

PAGE = (TESTS.parent / "docs" / "sandbox.md").read_text("utf-8")
BLOCKS = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    async with serving(Sandbox()) as made:
        yield made


async def test_the_rules_are_accepted(reader: Reader) -> None:
    rules = [block for block in BLOCKS if block.startswith("[")] + re.findall(r"/faults -d '(.*?)'", PAGE)
    assert len(rules) >= 7
    for rule in rules:
        await reader.view("/faults", "PUT", rule.encode())


def test_the_members_of_a_rule_are_told() -> None:
    section = PAGE.partition("## How to make it misbehave")[2]
    for name in (*FaultRule.model_fields, *MATCHED):
        assert f"`{name}`" in section, name


def test_every_endpoint_is_told_with_its_claim() -> None:
    section = PAGE.partition("## What it serves")[2].partition("## ")[0]
    cells = [row.split("|")[1:3] for row in section.splitlines() if row.startswith("|")]
    for method, path, claims in ENDPOINTS_AND_CLAIMS:
        name = re.sub(r"/\d+", "/<id>", path.partition("/")[2])
        (told,) = [claim for call, claim in cells if method in call and re.search(rf"[` /]{re.escape(name)}`", call)]
        assert set(re.findall(r"`(\w+)`", told)) == claims, path
    assert all(endpoint in PAGE for endpoint in ENDPOINTS)
    assert all(f"`{claim}`" in PAGE for claim in CLAIMS)


def test_every_option_is_told() -> None:
    for command in (sandbox, answer):
        for parameter in command.params:
            for option in parameter.opts:
                assert option == "errand_id" or f"`{option}`" in PAGE, option


async def test_every_view_is_told_and_answers(reader: Reader) -> None:
    await reader.post("c3_new_errands", errand())
    for path in (await reader.view("/"))["views"]:
        told = path.replace("/errands/<id>", "/errands/511055").replace("/callbacks/<id>", "/callbacks/76")
        assert re.search(rf"`[A-Z]+ {re.escape(told)}[`?]", PAGE), path
        if "<" not in path:
            await reader.view(path)


async def test_the_data_is_loaded_and_served(tmp_path: Path) -> None:
    (block,) = [block for block in BLOCKS if block.startswith("{")]
    (tmp_path / "data.json").write_text(block, "utf-8")
    (tmp_path / "hours.png").write_bytes(b"\x89PNG")
    data = load(tmp_path / "data.json")
    assert set(json.loads(block)) == set(type(data).model_fields)
    assert set(json.loads(block)["library"]) == set(type(data.library).model_fields)
    async with serving(Sandbox(data=data)) as reader:
        for path, part in (
            ("c3_libraries/{}", data.library.libraries),
            ("c3_library_categories/{}", data.library.categories),
            ("c3_library_questions/{}", data.library.questions),
            ("c3_library_attachments/{}", data.library.attachments),
            ("c3_area_archives/{}", data.library.archives),
        ):
            for one in part:
                await reader.get(path.format(one.id))
        assert len(await reader.logio({"format": "json", "from": "0"})) == 2
        assert (await reader.get("c3_facebook_ratings/3"))["data"]["attributes"]["data"]["message"] == "Kind."


async def test_the_line_that_logs_in_works(reader: Reader) -> None:
    (line,) = re.findall(r"/logio -H 'Content-Type: application/json' -d '(.*?)'", PAGE)
    await reader.tell("/logio", json.loads(line), 204)
    assert (await reader.view("/logio"))["logio"][-1]["name"] == "eva"


async def test_the_example_of_a_test_runs(tmp_path: Path) -> None:
    async def take(_request: web.Request) -> web.Response:
        return web.Response(status=200)

    async def call(base_url: str) -> None:
        async with aiohttp.ClientSession() as session:
            caller = Reader(base_url, session)
            for status in (503, 201):  # the example's fault, once
                assert (await caller.post("c3_new_errands", errand("call-1"), authorization="Bearer a-token"))[
                    0
                ] == status

    (tmp_path / "data.json").write_text("{}")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    async with web_server(take) as url:
        code = code.replace("http://127.0.0.1:8080", url).replace('"data.json"', repr(str(tmp_path / "data.json")))
        code = code.replace("...\n", "await call(base_url)\n", 1)
        lines = "\n".join(f"    {line}" for line in code.splitlines())
        scope: dict[str, object] = {"call": call}
        exec(f"async def example():\n{lines}", scope)  # the documentation's own lines
        await scope["example"]()  # type: ignore[operator] # made by the line above

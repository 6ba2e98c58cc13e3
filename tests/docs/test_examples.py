"""The documentation's examples, run against a service: what they show is what it does."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from bridge import app
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import eventually, post, settings

ROOT = Path(__file__).parents[2]
TIMES = frozenset(["at", "occurredAt", "startedAt", "updatedAt"])
DURATIONS = frozenset(["tookMs", "waitMs"])


@pytest.fixture
async def service(redis: EmbeddedRedis, tmp_path: Path) -> AsyncIterator[app.Service]:
    """A service with a sandbox, that tries again at once."""
    async with app.running(settings(tmp_path, redis.url, delivery__schedule_s=[0.01]), sandbox_port=0) as running:
        yield running


def blocks(page: str, language: str) -> list[str]:
    """The page's fenced blocks of `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def example(member: str) -> Any:
    """The JSON document in the page on admin endpoints that has `member`."""
    (found,) = [document for block in blocks("docs/admin.md", "json") if member in (document := orjson.loads(block))]
    return found


async def shell(script: str) -> str:
    """What `script` prints on standard output; it must end well."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-e", "-o", "pipefail", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    return printed.decode()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's example needs curl")
async def test_the_readmes_calls_do_what_it_says(service: app.Service) -> None:
    assert service.sandbox_url is not None
    (script,) = [block for block in blocks("README.md", "sh") if "curl" in block]
    places = {8080: service.intake_url, 8081: service.admin_url, 8082: service.sandbox_url}
    for port, url in places.items():
        assert f"http://127.0.0.1:{port}" in script
        script = script.replace(f"http://127.0.0.1:{port}", url)
    posting, *looks = re.split(r"\n(?=curl )", script)
    assert "202 Accepted" in await shell(posting)
    shown: list[Any] = []

    async def errand_is_made() -> bool:
        shown[:] = [orjson.loads(await shell(look)) for look in looks]
        return all(each["errandId"] for each in [shown[1], *shown[0]["calls"]])

    await eventually(errand_is_made, "the errand of the README's call")
    pair, call, sandbox = shown
    assert [each["callId"] for each in pair["calls"]] == [call["callId"]] == ["readme"]
    assert pair["calls"][0]["errandId"] == call["errandId"] == sandbox["errands"][0]["id"]
    assert "200 OK" in await shell(posting)
    ending = posting.replace("call.started", "call.ended").replace("readme-1", "readme-2")
    assert "202 Accepted" in await shell(ending)

    async def session_is_ended() -> bool:
        (errand,) = orjson.loads(await shell(looks[2]))["errands"]
        return bool(errand["state"] == "ended")

    await eventually(session_is_ended, "the end of the README's call")
    assert orjson.loads(await shell(looks[0]))["code"] == "no_active_call"


def blank(value: Any) -> Any:
    """`value` with times and durations, which are never the same twice, taken out."""
    match value:
        case dict():
            return {
                name: "time" if name in TIMES else 0 if name in DURATIONS else blank(member)
                for name, member in value.items()
            }
        case list():
            return [blank(member) for member in value]
        case _:
            return value


async def test_the_timeline_that_is_explained_is_the_one_that_is_given(service: app.Service) -> None:
    told = example("timeline")
    assert service.sandbox is not None
    service.sandbox.set_faults([{"endpoint": "c3_new_errands", "status": 503, "times": 1}])
    event = told["timeline"][0]["event"]
    async with aiohttp.ClientSession() as http:
        assert await post(http, service.intake_url, event) == 202
        given: dict[str, Any] = {}

        async def errand_is_made() -> bool:
            async with http.get(f"{service.admin_url}/v1/calls/{told['callId']}") as response:
                given.update(await response.json())
            return given["errandId"] is not None

        await eventually(errand_is_made, "the errand")
    assert blank(given) == blank(told)


async def test_the_rejection_that_is_explained_is_the_one_that_is_given(service: app.Service) -> None:
    told = example("rejections")
    async with aiohttp.ClientSession() as http:
        assert await post(http, service.intake_url, told["rejections"][0]["event"]) == 422
        async with http.get(f"{service.admin_url}/v1/rejections") as response:
            given = await response.json()
    told["rejections"][0]["id"] = given["rejections"][0]["id"]
    assert blank(given) == blank(told)


async def test_the_probes_answer_that_is_explained_has_the_conditions_there_are(service: app.Service) -> None:
    told = example("conditions")
    async with aiohttp.ClientSession() as http, http.get(f"{service.admin_url}/readyz") as response:
        given = await response.json()
    assert given["conditions"].keys() == told["conditions"].keys()


async def test_the_list_of_calls_that_is_explained_has_the_members_there_are(service: app.Service) -> None:
    told = example("calls")
    timeline = example("timeline")
    async with aiohttp.ClientSession() as http:
        assert await post(http, service.intake_url, timeline["timeline"][0]["event"]) == 202
        async with http.get(f"{service.admin_url}/v1/calls", params={"direction": "inbound", "limit": 2}) as response:
            given = await response.json()
    assert given.keys() == told.keys()
    assert given["calls"][0].keys() == told["calls"][0].keys()

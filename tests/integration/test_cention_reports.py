"""Errand reports and the dirty list over real HTTP: the client against the sandbox, and against what may go wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bridge.cention.client import CentionClient
from bridge.cention.documents import EndErrand, ErrandReport
from bridge.cention.outcome import Delivered, Failure, Rejected, TryLater, Unauthorised, Unknown
from bridge.cention.sandbox import Sandbox
from tests.integration.cention_support import ENDED, ERRAND, SAMPLES, TOKEN, cention, raw, value, web_server

DATA_TOKEN = "may-read-errand-data"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox(tokens={TOKEN: ["create_errand"], DATA_TOKEN: ["errand_data"]})
    yield made
    await made.stop()


async def test_a_created_errand_is_dirty_until_its_report_is_read_or_it_is_marked(
    client: CentionClient, sandbox: Sandbox
) -> None:
    assert value(await client.dirty_errands(DATA_TOKEN)) == ()
    for _ in range(2):
        await client.new_errand(ERRAND, TOKEN)
    assert value(await client.dirty_errands(DATA_TOKEN)) == (511055, 511056)
    report: ErrandReport = value(await client.errand_report(511055, DATA_TOKEN))
    assert (report.c3_id, report.changed, report.sla) == (511055, True, None)
    assert (report.errand.subject, report.errand.from_address, report.errand.from_name) == (
        "Call",
        "46701740605",
        "Åsa Öberg",
    )
    assert report.errand.closed is False
    assert value(await client.dirty_errands(DATA_TOKEN)) == (511056,)
    assert value(await client.errand_report(511055, DATA_TOKEN)).changed is False
    assert await client.mark_dirty([511055, 999], DATA_TOKEN) == Delivered(201, None)
    assert value(await client.dirty_errands(DATA_TOKEN)) == (511056, 511055)
    assert sandbox.dirty == [511056, 511055]
    assert (sandbox.counts["reports"], len(sandbox.arrivals)) == (2, 2)


async def test_an_end_makes_an_errand_dirty_again_and_shows_in_its_report(
    client: CentionClient, sandbox: Sandbox
) -> None:
    await client.new_errand(ERRAND, TOKEN)
    await client.errand_report(511055, DATA_TOKEN)
    assert sandbox.dirty == []
    end = json.loads((SAMPLES / "end_errand.request.json").read_bytes())["data"]["attributes"]
    await client.end_errand(EndErrand.model_validate({**end, "errand_id": 511055}), TOKEN)
    assert sandbox.dirty == [511055]
    report: ErrandReport = value(await client.errand_report(511055, DATA_TOKEN))
    assert (report.errand.closed, report.errand.answered) == (True, True)
    assert report.extended is not None
    assert report.extended.answer_subject == "Answer subject"
    assert report.actions is not None
    assert len(report.actions) == 2


async def test_a_sparse_read_brings_what_it_asks_for_and_clears_the_flag_too(
    client: CentionClient, sandbox: Sandbox
) -> None:
    await client.new_errand(ERRAND, TOKEN)
    report: ErrandReport = value(await client.errand_report(511055, DATA_TOKEN, fields=["c3_id", "sla"]))
    assert report.model_fields_set == {"c3_id", "sla"}
    assert sandbox.dirty == []


async def test_what_goes_over_the_wire() -> None:
    seen: list[web.Request] = []

    async def record(request: web.Request) -> web.Response:
        seen.append(request)
        sample = "errand_report.response.json" if "reports" in request.path else "dirty_errand_list.get.response.json"
        return web.Response(body=(SAMPLES / sample).read_bytes(), content_type="application/vnd.api+json")

    async with web_server(record) as url, cention(f"{url}/s/demo") as client:
        assert value(await client.errand_report(33, DATA_TOKEN, fields=["sla", "basic"])).c3_id == 33
        assert value(await client.dirty_errands(DATA_TOKEN)) == (34, 3203, 3204, 3216, 3217)
    assert [request.raw_path for request in seen] == [
        "/s/demo/capi/json/c3_errand_reports/33?fields%5Bc3_errand_reports%5D=sla,basic",
        "/s/demo/capi/json/c3_dirty_errand_list",
    ]
    for request in seen:
        assert request.method == "GET"
        assert request.headers.getall("Accept") == ["application/vnd.api+json"]
        assert request.headers["Authorization"] == f"Bearer {DATA_TOKEN}"
        assert "Content-Type" not in request.headers


async def test_claims(client: CentionClient, sandbox: Sandbox) -> None:
    refused = Unauthorised(403, "Forbidden: the token does not carry the claim errand_data")
    assert await client.errand_report(511055, TOKEN) == refused
    assert await client.dirty_errands(TOKEN) == refused
    assert await client.mark_dirty([511055], TOKEN) == refused
    outcome = await client.new_errand(ERRAND, DATA_TOKEN)
    assert isinstance(outcome, Unauthorised)
    assert outcome.status == 403
    assert isinstance(await client.dirty_errands("unknown"), Unauthorised)
    assert (sandbox.errands, sandbox.counts["reports"]) == ([], 0)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"status": 404}, Rejected),
        ({"status": 429, "headers": {"Retry-After": "3"}}, TryLater),
        ({"status": 503}, TryLater),
        ({"status": 200, "body": "<title>Login</title>", "content_type": "text/html"}, TryLater),
        ({"status": 302, "headers": {"Location": "/login"}}, TryLater),
        ({"status": 401}, Unauthorised),
        ({"status": 200, "body": '{"errors": [{"title": "Not now"}]}'}, Rejected),
        ({"status": 200, "body": '{"data": {"attributes": {"errands": 1, "basic": []}}}'}, Rejected),
        ({"status": 200, "body": "[1]"}, Rejected),
        ({"status": 204}, Rejected),
        ({"reset": "before"}, Unknown),
        ({"reset": "after"}, Unknown),
        ({"reset": "midway"}, Unknown),
    ],
    ids=str,
)
async def test_every_failure_of_a_read_has_its_outcome(
    client: CentionClient, sandbox: Sandbox, rule: dict[str, Any], kind: type[Failure]
) -> None:
    await client.new_errand(ERRAND, TOKEN)
    sandbox.set_faults([{**rule, "method": "GET"}])
    for read in (await client.errand_report(511055, DATA_TOKEN), await client.dirty_errands(DATA_TOKEN)):
        assert isinstance(read, kind), read
        assert "511055" not in read.reason
    # aiohttp asks once more by itself when a kept connection breaks under a GET: reading twice does no harm.
    assert sandbox.faults[0]["hits"] == (4 if rule.get("reset") in ("before", "after") else 2)
    assert await client.mark_dirty([511055], DATA_TOKEN) == Delivered(201, None), (
        "a POST is none of this rule's business"
    )


async def test_an_unknown_errand_has_no_report(client: CentionClient) -> None:
    read = await client.errand_report(4711, DATA_TOKEN)
    assert read == Rejected(404, "Not Found: there is no errand with this id")


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"[" * 2**16)
            await writer.drain()

    async with raw(endless) as server, cention(server.base_url) as client:
        read = await client.dirty_errands(DATA_TOKEN)
    assert isinstance(read, Rejected)
    assert "longer than" in read.reason


async def test_a_black_hole_ends_with_the_attempts_time() -> None:
    async def swallow(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw(swallow) as server, cention(server.base_url, 0.3) as client:
        assert await client.dirty_errands(DATA_TOKEN) == Unknown("no answer within 0.3 s")


async def test_the_sandbox_serves_the_documented_methods_alone(client: CentionClient) -> None:
    assert isinstance(await client.end_errand(ENDED, TOKEN), Rejected)  # 404: nothing was created

    async def status(method: str, path: str) -> tuple[int, str | None]:
        headers = {"Authorization": f"Bearer {DATA_TOKEN}", "Content-Type": "application/vnd.api+json"}
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, f"{client.base_url}/capi/json/{path}", data=b"{}", headers=headers) as response,
        ):
            return response.status, response.headers.get("Allow")

    assert await status("POST", "c3_errand_reports/1") == (405, "GET")
    assert await status("PUT", "c3_dirty_errand_list") == (405, "GET, POST")
    assert (await status("GET", "c3_errand_reports"))[0] == 404
    assert (await status("GET", "c3_errand_reports/x"))[0] == 404
    assert (await status("GET", "c3_errand_reports/" + "9" * 40))[0] == 404
    assert (await status("POST", "c3_dirty_errand_list"))[0] == 406

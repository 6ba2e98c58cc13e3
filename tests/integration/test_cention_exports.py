"""Exports over real HTTP: the client against the sandbox, long and large answers, and what may go wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import pytest
from aiohttp import web

from bridge.cention.client import CentionClient
from bridge.cention.documents import Export
from bridge.cention.export_files import save_export
from bridge.cention.outcome import Failure, Fetched, Rejected, TryLater, Unauthorised, Unknown
from bridge.cention.sandbox import Sandbox
from bridge.cention.sandbox.data import Data
from bridge.runtime.clock import now
from tests.integration.cention_support import ERRAND, TOKEN, answering, cention, sample, web_server

EXPORT_TOKEN = "may-export"
RECORD = {"errand_id": "511055", "subject": "Call", "agent_id": 2, "more": [None]}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    exports: Any = [{"id": "316"}, {"id": "7", "content": RECORD}, {"id": "8", "content": [RECORD, {"errand_id": 2}]}]
    data = Data.model_validate_json(json.dumps({"exports": exports}))
    made = Sandbox(tokens={TOKEN: ["create_errand"], EXPORT_TOKEN: ["export"]}, data=data)
    yield made
    await made.stop()


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[CentionClient]:
    async with cention(await sandbox.start()) as made:
        yield made


def value(read: Fetched[Export] | Failure) -> Export:
    assert isinstance(read, Fetched), read
    return read.value


def document(*records: Any) -> bytes:
    attributes = {"c3_id": 1, "content": records}
    return json.dumps({"data": {"type": "c3_trigger_exports", "id": "1", "attributes": attributes}}).encode()


async def test_a_period_is_exported(client: CentionClient, tmp_path: Any) -> None:
    await client.new_errand(ERRAND, TOKEN)
    today = now().date()
    near = (today - timedelta(days=1), today + timedelta(days=1))  # midnight may be near
    export = value(await client.trigger_export(316, EXPORT_TOKEN, from_date=near[0], to_date=near[1]))
    assert [(each.errand_number, each.subject) for each in export.records] == [(511055, "Call")]
    assert export.attributes is not None
    assert (export.attributes.errand_from_date, export.attributes.errand_to_date) == near
    assert [each.key for each in export.identifiers("export")] == [("c3_exports", "316")]
    assert save_export(export.records, tmp_path / "errands.csv") == 1
    before = value(await client.trigger_export(316, EXPORT_TOKEN, to_date=today - timedelta(days=2)))
    assert before.records == ()
    unclosed = await client.trigger_export("316", EXPORT_TOKEN, from_date=near[0], use_closure_date=True)
    assert value(unclosed).records == ()


async def test_one_record_or_many(client: CentionClient) -> None:
    one = value(await client.trigger_export(7, EXPORT_TOKEN)).records
    assert [json.loads(each.to_json()) for each in one] == [RECORD]
    many = value(await client.trigger_export(8, EXPORT_TOKEN)).records
    assert [each.errand_id for each in many] == ["511055", 2]


async def test_what_is_refused(client: CentionClient) -> None:
    assert await client.trigger_export(4711, EXPORT_TOKEN) == Rejected(
        404, "Not Found: there is no export with this id"
    )
    assert await client.trigger_export(316, TOKEN) == Unauthorised(
        403, "Forbidden: the token does not carry the claim export"
    )
    with pytest.raises(ValueError, match="from_date is after to_date"):
        await client.trigger_export(316, EXPORT_TOKEN, from_date=date(2019, 1, 2), to_date=date(2019, 1, 1))


async def test_the_sample_goes_over_the_wire() -> None:
    seen: list[Any] = []

    async def record(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, await request.json()))
        return web.Response(status=204)

    async with web_server(record) as url, cention(f"{url}/s/demo") as client:
        read = await client.trigger_export(
            316, EXPORT_TOKEN, from_date=date(2019, 1, 1), to_date=date(2019, 1, 30), use_closure_date=True
        )
    assert seen == [("POST", "/s/demo/capi/json/c3_trigger_exports", sample("trigger_export"))]
    assert read == Fetched(Export(), 204)


@pytest.mark.parametrize(
    "body", [b"{}", b'{"data": null}', b'{"data": {"id": "9"}}', b'{"data": {"attributes": null}}']
)
async def test_an_answer_may_say_little(body: bytes) -> None:
    raw = b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with answering(raw) as server, cention(server.base_url) as client:
        assert value(await client.trigger_export(316, EXPORT_TOKEN)).records == ()


@pytest.mark.parametrize("told", [True, False])
async def test_progress_is_told_while_the_answer_arrives(told: bool) -> None:
    body = document(*({"errand_id": number, "question": "?" * 1000} for number in range(3000)))
    at_half: asyncio.Event = asyncio.Event()
    progress: list[tuple[int, int | None]] = []

    async def slowly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if told:
            response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        await at_half.wait()  # the rest only when the client has told of the half
        await response.write(body[len(body) // 2 :])
        await response.write_eof()
        return response

    def report(received: int, length: int | None) -> None:
        progress.append((received, length))
        if received >= len(body) // 2:
            at_half.set()

    async with web_server(slowly) as url, cention(f"{url}/s/demo") as client:
        read = await client.trigger_export(316, EXPORT_TOKEN, on_progress=report)
    assert len(value(read).records) == 3000
    assert progress == sorted(progress)
    assert progress[-1] == (len(body), len(body) if told else None)
    assert len(progress) >= 2


async def test_of_a_compressed_answer_no_length_is_told() -> None:
    progress: list[tuple[int, int | None]] = []
    body = document({"question": "?" * 100_000})

    async def compressed(_request: web.Request) -> web.Response:
        response = web.Response(body=body)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async with web_server(compressed) as url, cention(f"{url}/s/demo") as client:
        await client.trigger_export(316, EXPORT_TOKEN, on_progress=lambda *told: progress.append(told))
    assert progress[-1] == (len(body), None)


async def test_an_export_has_its_own_time() -> None:
    asked = asyncio.Event()

    async def when_the_client_would_have_given_up(_request: web.Request) -> web.Response:
        asked.set()
        await given_up.wait()
        return web.Response(body=document(RECORD))

    given_up = asyncio.Event()
    async with web_server(when_the_client_would_have_given_up) as url, cention(f"{url}/s/demo", 0.05) as client:
        patient = asyncio.create_task(client.trigger_export(316, EXPORT_TOKEN))
        await asked.wait()
        assert await client.dirty_errands(EXPORT_TOKEN) == Unknown("no answer within 0.05 s")
        assert await client.trigger_export(316, EXPORT_TOKEN, timeout_s=0.05) == Unknown("no answer within 0.05 s")
        given_up.set()
        assert len(value(await patient).records) == 1


async def test_an_export_has_its_own_size() -> None:
    body = document(*({"question": "?" * 1000} for _ in range(6000)))  # more than other documents may have

    async def large(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with web_server(large) as url, cention(f"{url}/s/demo") as client:
        assert len(value(await client.trigger_export(316, EXPORT_TOKEN)).records) == 6000
        read = await client.trigger_export(316, EXPORT_TOKEN, bytes_max=len(body))
        assert read == Rejected(200, f"the answer is longer than {len(body)} bytes")
        assert len(value(await client.trigger_export(316, EXPORT_TOKEN, bytes_max=len(body) + 1)).records) == 6000


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"status": 406}, Rejected),
        ({"status": 503}, TryLater),
        ({"status": 504}, TryLater),
        ({"status": 200, "body": "<title>Login</title>", "content_type": "text/html"}, TryLater),
        ({"status": 201, "body": '{"errors": [{"title": "Not now"}]}'}, Rejected),
        ({"status": 201, "body": '{"data": {"attributes": {"content": [{"subject": 46701740605}]}}}'}, Rejected),
        ({"reset": "before"}, Unknown),
        ({"reset": "midway"}, Unknown),
    ],
    ids=str,
)
async def test_every_failure_has_its_outcome(
    client: CentionClient, sandbox: Sandbox, rule: dict[str, Any], kind: type[Failure]
) -> None:
    sandbox.set_faults([rule])
    read = await client.trigger_export(316, EXPORT_TOKEN)
    assert isinstance(read, kind), read
    assert "46701740605" not in read.reason

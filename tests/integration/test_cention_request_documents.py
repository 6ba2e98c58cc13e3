"""Every document that the client sends, as it goes over the wire, is what JSON:API 1.0 demands; large ones included."""

import ast
import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import bridge.cention.endpoints
from bridge.cention.client import CentionClient
from bridge.cention.documents import (
    Answer,
    Attachment,
    ContactCard,
    EndErrand,
    Message,
    NewErrand,
    WhatsAppTemplate,
)
from bridge.cention.outcome import Delivered, Fetched, TryLater
from bridge.cention.sandbox import Sandbox
from tests.fakes.jsonapi_schema import faults
from tests.integration.cention_support import ENDED, ERRAND, OBCALL, TOKEN, cention, sample, web_server

Send = Callable[[CentionClient], Awaitable[Any]]

FULL = NewErrand.model_validate_json(json.dumps(sample("new_errand")["data"]["attributes"]))
ANSWER = Answer(user_type="cention", user_id="17", subject="Re", body="Done", html_body="<p>Done</p>")
TEMPLATE = WhatsAppTemplate(elementname="order", namespace="ns", params=({"default": "$10", "order": "1234"},))
CARD = ContactCard.of(
    "Åsa Öberg",
    email=["asa@example.com"],
    facebook=["1@facebook.com"],
    vk=["centionvk-cc-1"],
    line=["centionline-c1"],
    voice=["+46701740605"],
    custom={"Customer": "17"},
)

SENDS: dict[str, list[Send]] = {
    "new_errand": [
        lambda client: client.new_errand(NewErrand(), TOKEN),
        lambda client: client.new_errand(ERRAND, TOKEN),
        lambda client: client.new_errand(FULL, TOKEN),
        lambda client: client.new_errand(NewErrand(msg=Message(subject="a"), answer=ANSWER), TOKEN),
        lambda client: client.new_errand(NewErrand(answer=ANSWER, watemplate=TEMPLATE), TOKEN),
        lambda client: client.new_errand(NewErrand(extradata=[None, {"a": [1.5, "ü"]}], cuid="5462-13"), TOKEN),
    ],
    "end_errand": [
        lambda client: client.end_errand(ENDED, TOKEN),
        lambda client: client.end_errand(EndErrand(errand_id=1, answer=ANSWER), TOKEN),
    ],
    "end_obcall": [lambda client: client.end_obcall(OBCALL, TOKEN)],
    "mark_dirty": [lambda client: client.mark_dirty([35], TOKEN), lambda client: client.mark_dirty([], TOKEN)],
    "contact_card": [
        lambda client: client.contact_card(CARD, TOKEN),
        lambda client: client.contact_card(ContactCard(name="Beside"), TOKEN),
    ],
    "trigger_export": [
        lambda client: client.trigger_export(316, TOKEN),
        lambda client: client.trigger_export(
            "316", TOKEN, from_date=date(2019, 1, 1), to_date=date(2019, 1, 30), use_closure_date=True
        ),
    ],
}


def posting_methods() -> set[str]:
    """The client's methods that send a document, by what their code calls."""
    found: set[str] = set()
    for path in Path(bridge.cention.endpoints.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
                calls = {
                    n.func.attr for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
                }
                if calls & {"post", "post_for"}:
                    found.add(node.name)
    return found


def test_no_method_is_left_out() -> None:
    assert posting_methods() == set(SENDS)


@pytest.mark.parametrize("name", SENDS)
async def test_what_is_sent_is_json_api(name: str) -> None:
    bodies: list[bytes] = []

    async def record(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        assert request.content_type == request.headers["Content-Type"] == "application/vnd.api+json"
        return web.Response(status=204)

    async with web_server(record) as url, cention(f"{url}/s/demo") as client:
        for send in SENDS[name]:
            assert isinstance(await send(client), Delivered | Fetched)
    assert len(bodies) == len(SENDS[name])
    for body in bodies:
        assert faults(json.loads(body), creating=True) == []
        assert "id" not in json.loads(body)["data"], "ids are the server's to give"


@pytest.mark.parametrize("size", [2**20 - 100_000, 9 * 2**20])
async def test_attachments_of_any_size_arrive(tmp_path: Path, size: int) -> None:
    file = tmp_path / "recording.wav"
    raw = bytes(range(256)) * (size // 256)
    file.write_bytes(raw)
    bodies: list[bytes] = []

    async def record(request: web.Request) -> web.Response:
        assert request.content_length is not None, "a length is told"
        while piece := await request.content.readany():
            bodies.append(piece)
        return web.json_response({"data": {"type": "c3_new_errands", "id": "1"}}, status=201)

    errand = NewErrand(msg=Message(attachments=(await Attachment.load(file),)))
    async with web_server(record) as url, cention(f"{url}/s/demo") as client:
        assert await client.new_errand(errand, TOKEN, timeout_s=60) == Delivered(201, "1")
    sent = json.loads(b"".join(bodies))
    assert faults(sent, creating=True) == []
    (attachment,) = sent["data"]["attributes"]["msg"]["attachments"]
    assert Attachment.model_validate(attachment).decoded() == raw
    assert attachment["content_type"].startswith("audio/")


async def test_the_sandbox_takes_large_attachments() -> None:
    sandbox = Sandbox()
    errand = NewErrand(msg=Message(attachments=(Attachment.of(b"x" * 3 * 2**20, name="a.bin"),)))
    async with cention(await sandbox.start()) as client:
        outcome = await client.new_errand(errand, TOKEN)
    await sandbox.stop()
    assert isinstance(outcome, Delivered)


async def test_a_large_document_is_tried_again_whole_where_nobody_listened() -> None:
    """The one second try within an attempt, after a refused connection."""
    errand = NewErrand(msg=Message(attachments=(Attachment.of(b"x" * 3 * 2**20, name="a.bin"),)))
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with cention(f"http://127.0.0.1:{port}/s/demo") as client:
        assert isinstance(await client.new_errand(errand, TOKEN), TryLater)
        attempt = asyncio.create_task(client.new_errand(errand, TOKEN))
        sandbox = Sandbox()
        await sandbox.start(port=port)
        outcome = await attempt
        if isinstance(outcome, TryLater):  # both tries came before the sandbox listened
            outcome = await client.new_errand(errand, TOKEN)
        assert isinstance(outcome, Delivered)
        assert len(json.loads(sandbox.errands[0].document)["data"]["attributes"]["msg"]["attachments"]) == 1
    await sandbox.stop()


async def test_a_creates_time_can_be_told() -> None:
    asked = asyncio.Event()

    async def wait(_request: web.Request) -> web.Response:
        await asked.wait()
        return web.Response(status=204)

    async with web_server(wait) as url, cention(f"{url}/s/demo", 0.05) as client:
        patient = asyncio.create_task(client.new_errand(ERRAND, TOKEN, timeout_s=60))
        assert "0.05 s" in str(await client.new_errand(ERRAND, TOKEN))
        asked.set()
        assert await patient == Delivered(204, None)

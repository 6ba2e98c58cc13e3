"""Files of answers, and embedded images, over real HTTP: their contents, their bounds, their time."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from bridge.cention.client import CentionClient
from bridge.cention.documents import FILE_BYTES_MAX, UnusableContent
from bridge.cention.outcome import Failure, Fetched, Rejected, Unauthorised, Unknown
from bridge.cention.sandbox import Sandbox
from bridge.cention.sandbox.answering import AnswerGiven, AttachedFile
from tests.integration.cention_support import ERRAND, SAMPLES, TOKEN, cention, raw, web_server

FILE_TOKEN = "may-get-attachments"
LIBRARY_TOKEN = "may-read-the-library"


def value(read: Fetched[Any] | Failure) -> Any:
    assert isinstance(read, Fetched), read
    return read.value


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox(tokens={TOKEN: ["create_errand"], FILE_TOKEN: ["attachment"], LIBRARY_TOKEN: ["library"]})
    yield made
    await made.stop()


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[CentionClient]:
    async with cention(await sandbox.start()) as made:
        yield made


def attached(name: str, file: bytes) -> AttachedFile:
    return AttachedFile(name=name, content_type="text/plain", content=base64.b64encode(file).decode())


async def test_an_answers_files_and_images_are_fetched(client: CentionClient, sandbox: Sandbox) -> None:
    await client.new_errand(ERRAND, TOKEN)
    given = AnswerGiven(attachments=(attached("svar.txt", b"hej"),), images=(attached("bild.png", b"\x89PNG"),))
    answered = await sandbox.answer(511055, given)
    assert answered is not None
    assert answered.errand.answer is not None
    file = value(await client.response_attachment(answered.errand.answer.attachments[0], FILE_TOKEN))
    assert (file.name, file.content_type, file.decoded()) == ("svar.txt", "text/plain", b"hej")
    image_id = answered.errand.answer.archives[0]
    for token in (FILE_TOKEN, LIBRARY_TOKEN):
        image = value(await client.area_archive(image_id, token))
        assert (image.key, image.decoded()) == (("c3_area_archives", str(image_id)), b"\x89PNG")
    assert value(await client.area_archive(image_id, FILE_TOKEN, without_content=True)).decoded() is None


async def test_claims_and_what_is_not_there(client: CentionClient) -> None:
    refused = Unauthorised(403, "Forbidden: the token does not carry the claim attachment")
    assert await client.response_attachment(1, LIBRARY_TOKEN) == refused
    assert isinstance(await client.area_archive(11, TOKEN), Unauthorised)
    absent = await client.response_attachment(1, FILE_TOKEN)
    assert isinstance(absent, Rejected)
    assert absent.status == 404


@pytest.mark.parametrize("wrong", ["..", "1/2", "", "1?x"])
async def test_an_id_cannot_lead_elsewhere(client: CentionClient, wrong: str) -> None:
    for ask in (client.response_attachment, client.area_archive):
        with pytest.raises(ValueError, match="an id is"):
            await ask(wrong, FILE_TOKEN)


async def test_what_goes_over_the_wire() -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(f"{request.method} {request.raw_path}")
        body = (SAMPLES / "response_attachment.response.json").read_bytes()
        return web.Response(body=body, content_type="application/vnd.api+json")

    async with web_server(answer) as url, cention(f"{url}/s/demo") as client:
        for read in (
            await client.response_attachment(1270, FILE_TOKEN),
            await client.area_archive("12", FILE_TOKEN),
            await client.area_archive(12, FILE_TOKEN, without_content=True),
        ):
            assert value(read).decoded() == b"Apple Pen Pineapple Pen"
    assert seen == [
        "GET /s/demo/capi/json/c3_response_attachments/1270",
        "GET /s/demo/capi/json/c3_area_archives/12",
        "GET /s/demo/capi/json/c3_area_archives/12?without_content=true",
    ]


def document(content: str) -> bytes:
    attachment = {"name": "a.bin", "content": content}
    # As the documentation's samples are written: with escaped slashes.
    text = json.dumps(
        {"data": {"id": "1", "type": "c3_response_attachments", "attributes": {"attachment": attachment}}}
    )
    return text.replace("/", "\\/").encode()


async def test_a_file_as_large_as_may_be_is_read_and_one_byte_more_is_not() -> None:
    file = bytes(range(256)) * (FILE_BYTES_MAX // 256)
    content = base64.b64encode(file).decode()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=document(content), content_type="application/vnd.api+json")

    async with web_server(answer) as url, cention(f"{url}/s/demo", 60.0) as client:
        assert value(await client.response_attachment(1, FILE_TOKEN)).decoded() == file
        content = base64.b64encode(file + b"x").decode()
        refused = await client.response_attachment(1, FILE_TOKEN)
        assert refused == Rejected(200, f"the file is larger than {FILE_BYTES_MAX} bytes")
        content = base64.b64encode(file[:1001]).decode()
        refused = await client.response_attachment(1, FILE_TOKEN, file_bytes_max=1000)
        assert refused == Rejected(200, "the file is larger than 1000 bytes")
        assert isinstance(await client.response_attachment(1, FILE_TOKEN, file_bytes_max=1001), Fetched)
        content = "x" * 200_000
        refused = await client.response_attachment(1, FILE_TOKEN, file_bytes_max=1000)
        assert refused == Rejected(200, "the answer is longer than 67036 bytes")


async def test_content_that_is_no_base64_is_told_when_it_is_wanted() -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=document("no base64 at all"), content_type="application/vnd.api+json")

    async with web_server(answer) as url, cention(f"{url}/s/demo") as client:
        file = value(await client.response_attachment(1, FILE_TOKEN))
    assert file.name == "a.bin"
    with pytest.raises(UnusableContent, match="no base64"):
        file.decoded()


async def test_a_file_may_be_given_more_or_less_time_than_a_document() -> None:
    async def swallow(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw(swallow) as server, cention(server.base_url, 60.0) as client:
        for read in (
            await client.response_attachment(1, FILE_TOKEN, timeout_s=0.1),
            await client.area_archive(1, FILE_TOKEN, timeout_s=0.1),
            await client.library_attachment(1, LIBRARY_TOKEN, timeout_s=0.1),
            await client.question_attachments(1, LIBRARY_TOKEN, timeout_s=0.1),
            await client.question_archives(1, LIBRARY_TOKEN, timeout_s=0.1),
        ):
            assert read == Unknown("no answer within 0.1 s")

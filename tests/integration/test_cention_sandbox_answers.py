"""An errand is answered in the sandbox: its state, its files, and the callback that is sent, over real HTTP."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web

from bridge.cention.documents import read_callback
from bridge.cention.sandbox import AnswerGiven, AttachedFile, Sandbox
from tests.integration.cention_support import SAMPLES, errand, raw, web_server
from tests.integration.sandbox_support import Reader, form, in_order, serving

SAMPLE = orjson.loads((SAMPLES / "callback_answer_errand.request.json").read_bytes())
FILE = AttachedFile(name="a.txt", content_type="text/plain", content=base64.b64encode(b"a").decode())
IMAGE = AttachedFile(name="i.png", content_type="image/png", content=base64.b64encode(b"\x89PNG").decode())
ANSWER = AnswerGiven(text="We <called> back.", attachments=(FILE,) * 3, images=(IMAGE,), agent="Eva Ek")


class Receiver:
    """Takes callbacks, and keeps them."""

    def __init__(self) -> None:
        self.status = 202
        self.documents: list[Any] = []
        self.headers: list[dict[str, str]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.documents.append(orjson.loads(await request.read()))
        self.headers.append(dict(request.headers))
        headers = {"Location": "/elsewhere"} if self.status == 302 else {}
        return web.Response(status=self.status, headers=headers)


@asynccontextmanager
async def answering(sandbox: Sandbox) -> AsyncIterator[Reader]:
    """A sandbox with one errand."""
    async with serving(sandbox) as reader:
        await reader.post("c3_new_errands", errand("c-1"))
        yield reader


async def test_an_answered_errand_is_closed_and_dirty_and_its_agent_free() -> None:
    sandbox = Sandbox()
    async with answering(sandbox) as reader:
        await reader.get("c3_errand_reports/511055")
        assert sandbox.dirty == []
        told = await reader.tell("/errands/511055/answer", {"text": "Done", "agent": "Eva Ek"})
        assert told["callback"] is None
        assert told["errand"]["answer"]["text"] == "Done"
        assert (told["errand"]["state"], told["errand"]["endedBy"]) == ("ended", "answer")
        assert sandbox.dirty == [511055]
        assert sandbox.busy_with(1000, 1000) == []
        attributes = (await reader.get("c3_errand_reports/511055"))["data"]["attributes"]
        assert attributes["extended"]["answer_body"] == "Done"
        assert attributes["extended"]["answer_subject"] == "Creating test errand via API"
        shown = attributes["basic"]["data"]
        assert (shown["closed"], shown["answered"], shown["answeredDate"] != "No Date") == (True, True, True)
        assert [action["origin"] for action in attributes["actions"]] == ["Sandbox Agent", "Eva Ek"]
        # The exchange's end, which comes afterwards, changes nothing of that but the link.
        end = errand("c-1", endSession=True, link="https://recordings.example/1")
        assert (await reader.post("c3_new_errands", end))[1]["data"]["id"] == "511055"
        found = sandbox.errand(511055)
        assert found is not None
        assert (found.ended_by, found.link) == ("answer", "https://recordings.example/1")


async def test_an_errand_whose_call_has_ended_can_be_answered() -> None:
    sandbox = Sandbox()
    async with answering(sandbox) as reader:
        await reader.post("c3_new_errands", errand("c-1", endSession=True))
        told = await reader.tell("/errands/511055/answer", {})
        assert (told["errand"]["endedBy"], told["errand"]["answer"]["text"]) == (
            "c3_new_errands",
            "Answered in the sandbox.",
        )
        notes = [a["note"] for a in (await reader.get("c3_errand_reports/511055"))["data"]["attributes"]["actions"]]
        assert len(notes) == 3


async def test_the_callback_is_as_documented() -> None:
    receiver = Receiver()
    async with web_server(receiver.take) as url:
        sandbox = Sandbox(callback_url=f"{url}/v1/cention/callback", callback_secret="123456")
        async with answering(sandbox):
            answered = await sandbox.answer(511055, ANSWER)
    assert answered is not None
    assert answered.callback is not None
    assert (answered.callback.status, answered.callback.attempts) == (202, 1)
    (document,) = receiver.documents
    assert receiver.headers[0]["Content-Type"] == "application/vnd.api+json"

    # Alike but for the links, in which it shows all that the documentation allows.
    ours, theirs = in_order(document), in_order(SAMPLE)
    links = [one.pop("links", None) for one in ours["included"]]
    for one in theirs["included"]:
        one.pop("links", None)
    assert form(ours) == form(theirs)
    assert [(one["type"], one["id"]) for one in ours["included"]] == [
        ("c3_answer_errands", "511055"),
        ("c3_area_archives", "12"),
        ("c3_response_attachments", "788"),
        ("c3_response_attachments", "789"),
        ("c3_response_attachments", "790"),
    ]
    at = "http://localhost/capi/json/c3_response_attachments"
    archive = {"self": {"href": "http://localhost/capi/json/c3_area_archives/12"}}
    assert links == [None, archive, None, {"self": {"href": f"{at}/789"}}, {"self": f"{at}/790"}]

    assert ours["meta"] == theirs["meta"]
    response = ours["included"][0]["attributes"]["answer"]["response"]
    assert response["body"] == "We <called> back."
    assert response["html_body"] == '<div>We &lt;called&gt; back.</div><img src="cid:12"/>'
    assert [(to["email_address"], to["name"]) for to in response["to"]] == [("david.liew@test.se", "David Liew")]


async def test_the_callback_is_read_by_its_model_and_its_files_are_there() -> None:
    receiver = Receiver()
    async with web_server(receiver.take) as url:
        sandbox = Sandbox(callback_url=url, callback_secret="s")
        async with answering(sandbox) as reader:
            await sandbox.answer(511055, ANSWER)
            callback = read_callback(orjson.dumps(receiver.documents[0]))
            assert (callback.event, callback.errand_id) == (1, 511055)
            assert callback.secret is not None
            assert callback.secret.get_secret_value() == "s"
            assert len(callback.files()) == 4
            for file in callback.files():
                document = await reader.get(f"{file.type}/{file.id}")
                content = base64.b64decode(document["data"]["attributes"]["attachment"]["content"])
                assert content == (b"\x89PNG" if file.embedded else b"a")


async def test_included_comes_in_any_order_and_no_secret_means_no_meta() -> None:
    receiver, orders = Receiver(), set()
    async with web_server(receiver.take) as url:
        sandbox = Sandbox(callback_url=url, seed=3)
        async with serving(sandbox) as reader:
            for number in range(10):
                await reader.post("c3_new_errands", errand(f"c-{number}"))
                await sandbox.answer(511055 + number, ANSWER)
    for document in receiver.documents:
        assert "meta" not in document
        orders.add(tuple(one["type"] for one in document["included"]))
    assert len(orders) > 1
    assert [document["data"]["id"] for document in receiver.documents] == [str(number) for number in range(76, 86)]


async def test_an_answer_without_files_has_null_lists() -> None:
    receiver = Receiver()
    async with web_server(receiver.take) as url:
        sandbox = Sandbox(callback_url=url)
        async with answering(sandbox):
            await sandbox.answer("511055")
    (one,) = receiver.documents[0]["included"]
    assert one["relationships"] == {"attachments": {"data": None}, "embedded_archives": {"data": None}}


async def test_a_callback_can_be_sent_again_and_is_shown_without_its_secret() -> None:
    receiver = Receiver()
    async with web_server(receiver.take) as url:
        sandbox = Sandbox(callback_url=url, callback_secret="hush")
        async with answering(sandbox) as reader:
            await sandbox.answer(511055)
            again = await reader.tell("/callbacks/76", {})
            assert (again["attempts"], again["status"], again["errandId"]) == (2, 202, "511055")
            assert receiver.documents[0] == receiver.documents[1]
            shown = await reader.view("/callbacks")
            assert [one["id"] for one in shown["callbacks"]] == ["76"]
            assert "hush" not in str(await reader.view("/callbacks/76"))
            await reader.tell("/callbacks/77", {}, 404)


@pytest.mark.parametrize("status", [200, 302, 401, 500])
async def test_what_the_receiver_says_is_told(status: int) -> None:
    receiver = Receiver()
    receiver.status = status
    async with web_server(receiver.take) as url, answering(Sandbox(callback_url=url)) as reader:
        told = await reader.tell("/errands/511055/answer", {})
    assert (told["callback"]["status"], told["callback"]["error"]) == (status, None)
    assert len(receiver.documents) == 1, "neither followed nor tried again"


async def test_a_receiver_that_is_away_is_told_and_the_errand_is_answered_all_the_same() -> None:
    async def hang_up(_reader: Any, _writer: Any) -> None:
        return

    async with raw(hang_up) as server, answering(Sandbox(callback_url=server.base_url)) as reader:
        told = await reader.tell("/errands/511055/answer", {})
    assert told["callback"]["status"] is None
    assert told["callback"]["error"]
    assert told["errand"]["answer"] is not None


async def test_the_callbacks_address_can_be_set_later() -> None:
    receiver = Receiver()
    async with web_server(receiver.take) as url:
        sandbox = Sandbox()
        async with answering(sandbox):
            sandbox.set_callback(url, "later")
            await sandbox.answer(511055)
    assert receiver.documents[0]["meta"] == {"api_secret": "later"}


@pytest.mark.parametrize(
    ("path", "document", "status", "code"),
    [
        ("/errands/511055/answer", {"txet": ""}, 422, "invalid_data"),
        ("/errands/511055/answer", {"text": 1}, 422, "invalid_data"),
        ("/errands/511055/answer", [], 422, "invalid_data"),
        ("/errands/511055/answer", {"attachments": [{"name": "a", "content": "no base64!"}]}, 422, "invalid_data"),
        ("/errands/1/answer", {}, 404, "not_found"),
        ("/callbacks/1", {}, 404, "not_found"),
    ],
)
async def test_an_answer_that_can_not_be_given(path: str, document: Any, status: int, code: str) -> None:
    sandbox = Sandbox()
    async with answering(sandbox) as reader:
        assert (await reader.tell(path, document, status))["code"] == code
        assert sandbox.counts["open"] == 1
        assert sandbox.callbacks == []


async def test_an_errand_is_answered_once() -> None:
    async with answering(Sandbox()) as reader:
        await reader.tell("/errands/511055/answer", {})
        assert (await reader.tell("/errands/511055/answer", {}, 409))["code"] == "already_answered"


async def test_a_page_of_another_origin_can_not_answer() -> None:
    """A form or a simple request carries no JSON media type; what does is asked for first, and never allowed."""
    sandbox = Sandbox()
    async with answering(sandbox) as reader:
        for path in ("/errands/511055/answer", "/callbacks/76", "/logio", "/ratings"):
            assert (await reader.view(path, "POST", b"{}", 415))["code"] == "unsupported_media_type"
        await reader.view("/errands/511055/answer", "OPTIONS", status=405)
        assert sandbox.counts["open"] == 1


async def test_a_reset_forgets_answers_their_files_and_callbacks() -> None:
    receiver = Receiver()
    async with web_server(receiver.take) as url:
        sandbox = Sandbox(callback_url=url)
        async with answering(sandbox) as reader:
            await sandbox.answer(511055, ANSWER)
            await reader.view("/errands", "DELETE", status=204)
            await reader.get("c3_response_attachments/788", status=404)
            await reader.get("c3_area_archives/12", status=404)
            assert sandbox.callbacks == []
            await reader.get("c3_area_archives/11"), "the library's stay"

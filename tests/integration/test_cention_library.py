"""The library over real HTTP: each endpoint against the sandbox, what goes over the wire, and what may go wrong."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from bridge.cention.client import CentionClient
from bridge.cention.documents import Category, Library, LibraryAttachment, Question
from bridge.cention.endpoints.base import with_query
from bridge.cention.outcome import Failure, Fetched, Rejected, TryLater, Unauthorised, Unknown
from bridge.cention.sandbox import Sandbox
from tests.integration.cention_support import SAMPLES, TOKEN, cention, value, web_server

LIBRARY_TOKEN = "may-read-the-library"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox(tokens={TOKEN: ["create_errand"], LIBRARY_TOKEN: ["library"]})
    yield made
    await made.stop()


async def test_a_library_comes_with_all_that_is_in_it(client: CentionClient) -> None:
    library: Library = value(await client.library(3, LIBRARY_TOKEN))
    assert (library.id, library.name, library.external) == ("3", "Växel", True)
    assert [question.subject for question in library.questions] == ["When are you open?"]
    (category,) = library.categories
    (inner,) = category.libraries
    assert (inner.name, inner.external) == ("Mottagning", False)
    assert [question.subject for question in inner.questions] == ["Greeting", "Rebooking"]
    assert [attachment.name for attachment in inner.questions[1].attachments] == ["rebooking.txt"]
    assert {question.id for question in library.reachable(Question)} == {"2", "4", "5"}


async def test_libraries_and_external_libraries(client: CentionClient) -> None:
    libraries = value(await client.libraries(LIBRARY_TOKEN))
    assert "Växel" in [library.name for library in libraries]
    external = value(await client.external_libraries(LIBRARY_TOKEN))
    assert [library.name for library in external] == ["Växel"]
    one = value(await client.external_library("3", LIBRARY_TOKEN))
    assert (one.name, [category.name for category in one.categories]) == ("Växel", ["Öppettider och tider"])
    assert one.key == ("c3_external_libraries", "3")


async def test_categories(client: CentionClient) -> None:
    names = {category.name for category in value(await client.library_categories(LIBRARY_TOKEN))}
    assert names == {"Hälsningar", "Öppettider och tider"}
    category: Category = value(await client.library_category(2, LIBRARY_TOKEN))
    assert [question.subject for question in category.questions] == ["Greeting"]


async def test_questions_are_listed_and_looked_for(client: CentionClient) -> None:
    async def subjects(**asked: Any) -> set[str]:
        return {question.subject for question in value(await client.library_questions(LIBRARY_TOKEN, **asked))}

    assert await subjects() == {"When are you open?", "Rebooking", "Greeting"}
    assert await subjects(toplist=True) == {"When are you open?", "Greeting"}
    assert await subjects(phrase="weekdays", option="answer") == {"When are you open?"}
    assert await subjects(phrase="weekdays", option="question") == set()
    assert await subjects(phrase="nothing that is there") == set()
    of_one = value(await client.library_questions_of(4, LIBRARY_TOKEN))
    assert [question.subject for question in of_one] == ["Greeting", "Rebooking"]
    assert value(await client.library_question(4, LIBRARY_TOKEN)).answer == "Call us, or use the attached form."


async def test_files_come_with_and_without_content(client: CentionClient) -> None:
    file: LibraryAttachment = value(await client.library_attachment(2020, LIBRARY_TOKEN))
    assert (file.name, file.content_type) == ("rebooking.txt", "text/plain")
    assert file.decoded() == b"Name:\nOld time:\nNew time:\n"
    mentioned = value(await client.library_attachment(2020, LIBRARY_TOKEN, without_content=True))
    assert (mentioned.name, mentioned.decoded()) == ("rebooking.txt", None)
    assert [each.decoded() for each in value(await client.question_attachments(4, LIBRARY_TOKEN))] == [file.decoded()]
    (image,) = value(await client.question_archives(2, LIBRARY_TOKEN))
    assert image.key == ("c3_area_archives", "11")
    assert image.decoded().startswith(b"\x89PNG")
    for listed in (
        client.question_attachments(4, LIBRARY_TOKEN, without_content=True),
        client.question_archives(2, LIBRARY_TOKEN, without_content=True),
    ):
        (mention,) = value(await listed)
        assert mention.decoded() is None
    assert value(await client.question_archives(4, LIBRARY_TOKEN)) == ()


async def test_images_come_inside_of_texts_where_they_are_asked_for(client: CentionClient) -> None:
    plain, embedded = [
        value(await client.library_question(2, LIBRARY_TOKEN, data_url=wanted)) for wanted in (False, True)
    ]
    assert "data:image/png;base64," not in plain.answer
    assert "data:image/png;base64," in embedded.answer


Method = Callable[[CentionClient, str], Awaitable[Fetched[Any] | Failure]]
METHODS: list[tuple[Method, str]] = [
    (lambda c, t: c.libraries(t), "c3_libraries"),
    (lambda c, t: c.libraries(t, data_url=True), "c3_libraries?data_url=true"),
    (lambda c, t: c.library(3, t), "c3_libraries/3"),
    (lambda c, t: c.library("3", t, data_url=True), "c3_libraries/3?data_url=true"),
    (lambda c, t: c.library_questions_of(3, t), "c3_libraries/3/questions"),
    (lambda c, t: c.library_questions_of(3, t, data_url=True), "c3_libraries/3/questions?data_url=true"),
    (lambda c, t: c.external_libraries(t), "c3_external_libraries"),
    (lambda c, t: c.external_libraries(t, data_url=True), "c3_external_libraries?data_url=true"),
    (lambda c, t: c.external_library(3, t), "c3_external_libraries/3"),
    (lambda c, t: c.external_library(3, t, data_url=True), "c3_external_libraries/3?data_url=true"),
    (lambda c, t: c.library_categories(t), "c3_library_categories"),
    (lambda c, t: c.library_categories(t, data_url=True), "c3_library_categories?data_url=true"),
    (lambda c, t: c.library_category(2, t), "c3_library_categories/2"),
    (lambda c, t: c.library_category(2, t, data_url=True), "c3_library_categories/2?data_url=true"),
    (lambda c, t: c.library_questions(t), "c3_library_questions"),
    (
        lambda c, t: c.library_questions(t, toplist=True, phrase="öppet & 8+1?", option="all", data_url=True),
        "c3_library_questions?filter%5Btoplist%5D=true&q_filter%5Bphrase%5D=%C3%B6ppet%20%26%208%2B1?"
        "&q_filter%5Boption%5D=all&data_url=true",
    ),
    (lambda c, t: c.library_question(4, t), "c3_library_questions/4"),
    (lambda c, t: c.library_question(4, t, data_url=True), "c3_library_questions/4?data_url=true"),
    (lambda c, t: c.question_attachments(4, t), "c3_library_questions/4/attachments"),
    (
        lambda c, t: c.question_attachments(4, t, without_content=True),
        "c3_library_questions/4/attachments?without_content=true",
    ),
    (lambda c, t: c.question_archives(4, t), "c3_library_questions/4/embedded_archives"),
    (
        lambda c, t: c.question_archives(4, t, without_content=True),
        "c3_library_questions/4/embedded_archives?without_content=true",
    ),
    (lambda c, t: c.library_attachment(1270, t), "c3_library_attachments/1270"),
    (
        lambda c, t: c.library_attachment(1270, t, without_content=True),
        "c3_library_attachments/1270?without_content=true",
    ),
]


@pytest.mark.parametrize(("ask", "path"), METHODS, ids=[path for _, path in METHODS])
async def test_what_goes_over_the_wire(ask: Method, path: str) -> None:
    seen: list[web.Request] = []

    async def record(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response({"errors": [{"title": "Seen"}]}, status=404)

    async with web_server(record) as url, cention(f"{url}/s/demo") as client:
        assert await ask(client, LIBRARY_TOKEN) == Rejected(404, "Seen")
    (request,) = seen
    assert (request.method, request.raw_path) == ("GET", f"/s/demo/capi/json/{path}")
    assert request.headers.getall("Accept") == ["application/vnd.api+json"]
    assert request.headers["Authorization"] == f"Bearer {LIBRARY_TOKEN}"
    assert "Content-Type" not in request.headers


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_phrase_arrives_as_it_is(phrase: str) -> None:
    url = URL(with_query("http://127.0.0.1/x", {"q_filter[phrase]": phrase, "no": None}, data_url=True, toplist=False))
    assert dict(url.query) == {"q_filter[phrase]": phrase, "data_url": "true"}


@pytest.mark.parametrize("ask", [ask for ask, _ in METHODS], ids=[path for _, path in METHODS])
async def test_a_token_without_the_claim_is_refused(client: CentionClient, ask: Method) -> None:
    assert await ask(client, TOKEN) == Unauthorised(403, "Forbidden: the token does not carry the claim library")


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"status": 404}, Rejected),
        ({"status": 503}, TryLater),
        ({"status": 200, "body": "<title>Login</title>", "content_type": "text/html"}, TryLater),
        ({"status": 401}, Unauthorised),
        ({"status": 200, "body": '{"errors": [{"title": "Not now"}]}'}, Rejected),
        ({"status": 200, "body": '{"data": "46701740605"}'}, Rejected),
        (
            {"status": 200, "body": '{"data": {"attributes": {"name": 46701740605, "attachment": 1, "answer": 1}}}'},
            Rejected,
        ),
        ({"status": 200, "body": '{"included": [{"type": "c3_libraries", "id": []}]}'}, Rejected),
        ({"status": 200, "body": "[1]"}, Rejected),
        ({"status": 200, "body": ""}, Rejected),
        ({"status": 204}, Rejected),
        ({"reset": "after"}, Unknown),
        ({"reset": "midway"}, Unknown),
    ],
    ids=str,
)
async def test_every_failure_of_a_read_has_its_outcome(
    client: CentionClient, sandbox: Sandbox, rule: dict[str, Any], kind: type[Failure]
) -> None:
    sandbox.set_faults([rule])
    for read in (
        await client.library(3, LIBRARY_TOKEN),
        await client.libraries(LIBRARY_TOKEN),
        await client.library_attachment(2020, LIBRARY_TOKEN),
    ):
        assert isinstance(read, kind), read
        assert "46701740605" not in read.reason


async def test_what_is_not_there_is_rejected(client: CentionClient) -> None:
    for read in (
        await client.library(99, LIBRARY_TOKEN),
        await client.external_library(4, LIBRARY_TOKEN),  # there, and not external
        await client.library_questions_of(99, LIBRARY_TOKEN),
        await client.question_attachments(99, LIBRARY_TOKEN),
        await client.library_attachment(99, LIBRARY_TOKEN),
    ):
        assert isinstance(read, Rejected)
        assert read.status == 404


async def test_a_list_that_is_null_is_empty_and_a_resource_that_is_null_is_none(
    client: CentionClient, sandbox: Sandbox
) -> None:
    sandbox.set_faults([{"status": 200, "body": '{"data": null}'}])
    assert await client.libraries(LIBRARY_TOKEN) == Fetched(())
    assert await client.question_archives(2, LIBRARY_TOKEN) == Fetched(())
    assert await client.library(3, LIBRARY_TOKEN) == Rejected(200, "the answer carries no resource")


@pytest.mark.parametrize("wrong", ["", ".", "..", "3/questions", "3?x=1", "3#", "%2e%2e", "a b", "ä", "3\n", "x" * 101])
async def test_an_id_cannot_lead_elsewhere(client: CentionClient, sandbox: Sandbox, wrong: str) -> None:
    for ask in (client.library, client.library_questions_of, client.library_question, client.library_attachment):
        with pytest.raises(ValueError, match="an id is"):
            await ask(wrong, LIBRARY_TOKEN)


async def test_the_samples_are_read_over_the_wire() -> None:
    async def answer(request: web.Request) -> web.Response:
        body = (SAMPLES / f"{names[request.path.rpartition('/')[2]]}.response.json").read_bytes()
        return web.Response(body=body, content_type="application/vnd.api+json")

    names = {
        "c3_libraries": "libraries",
        "3": "external_library",
        "4": "library_question",
        "1270": "library_attachment",
    }
    async with web_server(answer) as url, cention(f"{url}/s/demo") as client:
        (library,) = value(await client.libraries(LIBRARY_TOKEN))
        assert [question.id for question in library.reachable(Question)] == ["2", "5", "4"]
        assert [question.id for question in value(await client.external_library(3, LIBRARY_TOKEN)).questions] == ["2"]
        assert [file.id for file in value(await client.library_question(4, LIBRARY_TOKEN)).attachments] == ["2020"]
        file = value(await client.library_attachment(1270, LIBRARY_TOKEN))
        assert file.decoded() == b"Apple Pen Pineapple Pen"


async def test_a_library_may_be_larger_than_an_errand_and_not_without_bound() -> None:
    question = {"type": "c3_library_questions", "id": "1", "attributes": {"answer": "x" * 5 * 2**20}}
    body = json.dumps({"data": [question]}).encode()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/vnd.api+json")

    async with web_server(answer) as url, cention(f"{url}/s/demo") as client:
        (read,) = value(await client.library_questions(LIBRARY_TOKEN))
        assert len(read.answer) == 5 * 2**20
        refused = await client.library_questions(LIBRARY_TOKEN, bytes_max=len(body))
        assert refused == Rejected(200, f"the answer is longer than {len(body)} bytes")

"""docs/cention-coverage.md against the list of what Cention documents, and against client, sandbox and shell.

`tests/fixtures/cention_api.json` is the list: by the documentation's headings, each endpoint with the names of what is
sent, answered, and asked for in the query.
"""

import asyncio
import copy
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import click
import pytest
from aiohttp import web
from pydantic import BaseModel

from bridge.cention import documents
from bridge.cention.client import CentionClient
from bridge.cention.sandbox import AnswerGiven, AttachedFile, Sandbox
from bridge.cention.sandbox.reports import report
from bridge.cention.sandbox.state import Errand
from bridge.cli import main
from tests.integration.cention_support import HEADERS, SAMPLES, sample, web_server
from tests.integration.sandbox_support import data, in_order

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cention-coverage.md"
LIST: dict[str, dict[str, dict[str, list[str]]]] = json.loads(
    (ROOT / "tests" / "fixtures" / "cention_api.json").read_text("utf-8")
)
CALLBACK = "POST callback"
JSON_FREE = {"extradata"}  # any JSON is right, so none is refused
FILE = AttachedFile(name="a.txt", content_type="text/plain", content="QQ==")
DATA = data(
    library={
        "libraries": [
            {"id": 1, "name": "a", "external": True, "libraries": [2], "categories": [1], "questions": [1]},
            {"id": 2, "name": "b"},
        ],
        "categories": [
            {"id": 1, "name": "c", "libraries": [2], "categories": [2], "questions": [1]},
            {"id": 2, "name": "d"},
        ],
        "questions": [{"id": 1, "subject": "s", "answer": '<img src="cid:1"/>', "attachments": [1], "toplist": True}],
        "attachments": [{"id": 1, "name": "a.txt", "text": "a"}],
        "archives": [{"id": 1, "name": "a.png", "text": "a"}],
    },
    exports=[{"id": "316"}],
    ratings=[{"ratingId": 1}],
    logio=[{"name": "joe", "action": "Login"}],
)
IDS = {"c3_errand_reports": "511055", "c3_response_attachments": "788"}
# Which sample shows what. Not there: what the documentation shows no sample of.
SHOWN = {
    "contact_card.request": ("POST c3_contact_cards", "sent"),
    "contact_card.response": ("POST c3_contact_cards", "answered"),
    "callback_answer_errand.request": (CALLBACK, "answered"),
    "dirty_errand_list.get.response": ("GET c3_dirty_errand_list", "answered"),
    "dirty_errand_list.post.request": ("POST c3_dirty_errand_list", "sent"),
    "dirty_errand_list.post.response": ("POST c3_dirty_errand_list", "answered"),
    "dirty_facebook_ratings.response": ("GET c3_dirty_facebook_ratings", "answered"),
    "end_errand.request": ("POST c3_end_errands", "sent"),
    "end_obcall.request": ("POST c3_end_obcall", "sent"),
    "errand_report.response": ("GET c3_errand_reports/<id>", "answered"),
    "external_library.response": ("GET c3_external_libraries/<id>", "answered"),
    "facebook_rating.response": ("GET c3_facebook_ratings/<id>", "answered"),
    "libraries.response": ("GET c3_libraries", "answered"),
    "library_attachment.response": ("GET c3_library_attachments/<id>", "answered"),
    "library_categories.response": ("GET c3_library_categories", "answered"),
    "library_question.response": ("GET c3_library_questions/<id>", "answered"),
    "new_errand.request": ("POST c3_new_errands", "sent"),
    "new_errand.response": ("POST c3_new_errands", "answered"),
    "response_attachment.response": ("GET c3_response_attachments/<id>", "answered"),
    "trigger_export.request": ("POST c3_trigger_exports", "sent"),
}


class Row(NamedTuple):
    """A row of the page, without its marks; `field` is "" for the endpoint itself."""

    endpoint: str
    kind: str
    field: str
    client: str
    sandbox: str
    shell: str

    def __str__(self) -> str:
        return f"{self.endpoint} {self.kind} {self.field}".strip()


def page() -> Iterator[tuple[str, Row]]:
    """The page's rows, each with its heading."""
    heading = endpoint = ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif found := re.fullmatch(r"\| `(.+)` \| client \| sandbox \| shell \|", line):
            endpoint = found[1]
        elif line.startswith("| ") and endpoint:
            what, client, in_sandbox, shell = (cell.strip() for cell in line.strip("|").split(" |"))
            kind, _, field = what.partition(" ")
            yield (
                heading,
                Row(endpoint, kind, field.strip("`"), client.strip("`"), in_sandbox.strip("`"), shell.strip("`")),
            )


ROWS = [row for _, row in page()]
FIELDS = [row for row in ROWS if row.field]
SENT = [row for row in FIELDS if row.kind == "sent"]
ASKED = [row for row in FIELDS if row.kind == "query"]


def test_the_page_has_every_endpoint_and_field_once_and_no_other() -> None:
    listed = [
        (heading, endpoint, kind, field)
        for heading, endpoints in LIST.items()
        for endpoint, kinds in endpoints.items()
        for kind, field in [("endpoint", ""), *((kind, field) for kind, names in kinds.items() for field in names)]
    ]
    assert sorted((heading, row.endpoint, row.kind, row.field) for heading, row in page()) == sorted(listed)
    assert len(set(listed)) == len(listed)


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Where each member of a JSON value is; lists are passed through."""
    if isinstance(value, list):
        for one in value:
            yield from paths(one, at)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield f"{at}/{name}"
            yield from paths(one, f"{at}/{name}")


def pointer(field: str) -> str:
    """Where a field of the list is, from the top of its document."""
    return field if field.startswith("/") else f"/data/attributes/{field}"


def test_the_list_has_every_member_of_the_samples() -> None:
    assert SHOWN.keys() == {path.name.removesuffix(".json") for path in SAMPLES.glob("*.json")}
    # What frames every document, and what stands in one that is included: that is listed with its own endpoint.
    framing = (
        r"(/data|/data/(type|attributes)|/(data/)?(links|relationships)|/meta|.*/(links|links/\w+/href|data|data/\w+))"
    )
    for name, (endpoint, kind) in SHOWN.items():
        document = json.loads((SAMPLES / f"{name}.json").read_bytes())
        (listed,) = [endpoints[endpoint] for endpoints in LIST.values() if endpoint in endpoints]
        known = {pointer(field) for field in listed[kind]}
        if endpoint != CALLBACK:
            document.pop("included", None)
        for path in set(paths(document)) - known:
            extra = path.startswith("/data/attributes/extradata/")
            linked = re.fullmatch(r"/included(/(type|id|attributes|links|relationships))?|/data/id", path)
            assert extra or linked or re.fullmatch(framing, path), f"{name}: {path}"


def models() -> dict[str, type]:
    """Every class of the client's documents by name."""
    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(documents.__path__):
        loaded = importlib.import_module(f"{documents.__name__}.{module.name}")
        found |= {name: kind for name, kind in vars(loaded).items() if inspect.isclass(kind)}
    return found


MODELS = models()


def function(name: str) -> Callable[..., Any]:
    """A method of the client, or a function of its documents."""
    found: Callable[..., Any] = getattr(CentionClient, name, None) or getattr(documents, name)
    return found


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_a_row_names_is_in_the_client(row: Row) -> None:
    if called := re.fullmatch(r"(\w+)\((?:(\w+)=)?\)", row.client):
        assert callable(function(called[1]))
        assert called[2] is None or called[2] in inspect.signature(function(called[1])).parameters
        return
    assert row.kind != "endpoint"
    wire = row.field.split("/")
    if kept := re.fullmatch(r"(\w+)\[(\w+)\]", row.client):
        model = MODELS[kept[1]]
        assert issubclass(model, BaseModel)
        assert model.model_config["extra"] == "allow"
        assert kept[2] == wire[-1]
        assert kept[2] not in {field.alias or name for name, field in model.model_fields.items()}
        return
    owner, _, member = row.client.partition(".")
    model = MODELS[owner]
    field = model.model_fields.get(member) if issubclass(model, BaseModel) else None
    if field is None:
        assert hasattr(model, member)
    else:
        assert (field.alias or member) in wire or row.field == "/data/id"


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_a_row_names_is_in_the_shell(row: Row) -> None:
    words = row.shell.split()
    option = words.pop() if words[-1].startswith("--") else None
    command: click.Command = main
    for word in ["cention", *words]:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None, word
        command = found
    assert not isinstance(command, click.Group)
    assert option is None or option in {name for param in command.params for name in param.opts}


def test_every_command_of_the_shell_is_on_the_page() -> None:
    def commands(group: click.Group, path: str = "") -> Iterator[str]:
        for name in group.list_commands(click.Context(group)):
            command = group.get_command(click.Context(group), name)
            yield from commands(command, f"{path}{name} ") if isinstance(command, click.Group) else [f"{path}{name}"]

    cention = main.get_command(click.Context(main), "cention")
    assert isinstance(cention, click.Group)
    named = {re.sub(r" --.*", "", row.shell) for row in ROWS}
    assert set(commands(cention)) - named == {"dirty walk"}  # several endpoints as one


class Told(NamedTuple):
    """What a sandbox did.

    Attributes:
        answers: the answer of each endpoint, and the callback.
        refused: the status of a request with another JSON type in a field, by endpoint and field.
        asked: whether a parameter made a difference, likewise.
    """

    answers: dict[str, Any]
    refused: dict[tuple[str, str], int]
    asked: dict[tuple[str, str], bool]


def requests() -> dict[str, Any]:
    """A request with every field for each endpoint that takes one."""
    errand = sample("new_errand")
    answer = sample("end_errand")["data"]["attributes"]["answer"]
    template = {"elementname": "e", "namespace": "n", "params": [{"default": "$10"}]}
    errand["data"]["attributes"] |= {"answer": answer, "watemplate": template}
    ended = sample("end_errand")
    ended["data"]["attributes"]["errand_id"] = 511055
    export = sample("trigger_export")
    export["data"]["attributes"]["errand_to_date"] = "2100/01/01"
    card = sample("contact_card")
    card["data"]["attributes"]["name"] = "Tester"
    card["data"]["attributes"]["contacts"] |= {"vk": ["v"], "line": ["l"], "voice": ["+46701740605"]}
    return {
        "POST c3_new_errands": errand,
        "POST c3_end_errands": ended,
        "POST c3_end_obcall": sample("end_obcall"),
        "POST c3_dirty_errand_list": sample("dirty_errand_list.post"),
        "POST c3_contact_cards": card,
        "POST c3_trigger_exports": export,
    }


def spoilt(document: Any, field: str) -> Any:
    """`document` with a JSON type in `field` that is no field's."""
    made = copy.deepcopy(document)
    *way, last = pointer(field).split("/")[1:]
    place = made
    for step in way:
        place = place[step][0] if isinstance(place[step], list) else place[step]
    assert last in place, field
    place[last] = 7.5
    return made


async def tell() -> Told:
    """Asks a sandbox everything."""
    posted: list[Any] = []

    async def receive(request: web.Request) -> web.Response:
        posted.append(await request.json())
        return web.Response(status=204)

    answers: dict[str, Any] = {}
    refused: dict[tuple[str, str], int] = {}
    asked: dict[tuple[str, str], bool] = {}
    sandbox = Sandbox(data=DATA, seed=1)
    base_url = await sandbox.start()

    async with web_server(receive) as receiver, aiohttp.ClientSession() as http:

        async def post(endpoint: str, document: Any) -> tuple[int, Any]:
            url = f"{base_url}/capi/json/{endpoint.removeprefix('POST ')}"
            async with http.post(url, data=json.dumps(document), headers=HEADERS) as response:
                return response.status, json.loads(await response.read() or b"null")

        async def get(endpoint: str, **query: str) -> tuple[int, Any]:
            name = endpoint.removeprefix("GET ")
            one = IDS.get(name.partition("/")[0], "1")
            path = f"custom/{name}" if name == "logio" else f"json/{name.replace('<id>', one)}"
            async with http.get(f"{base_url}/capi/{path}", params=query, headers=HEADERS) as response:
                text = await response.text()
                return response.status, in_order(json.loads(text)) if text.startswith(("[", "{")) else text

        sandbox.set_callback(f"{receiver}/", "a secret")
        for endpoint, document in requests().items():
            status, answers[endpoint] = await post(endpoint, document)
            assert status in (201, 204), endpoint
        await post("c3_new_errands", sample("new_errand"))
        await sandbox.answer(511056, AnswerGiven(text="Yes", attachments=(FILE,), images=(FILE,)))
        answers[CALLBACK] = posted[0]
        # Sorted: a list of what has changed is asked for before what clears it.
        for endpoint in sorted({row.endpoint for row in ROWS if row.endpoint.startswith("GET ")}):
            query = {"format": "json"} if endpoint == "GET logio" else {}
            status, answers[endpoint] = await get(endpoint, **query)
            assert status == 200, endpoint
        # The report job runs once a minute: what an errand that ended long ago answers is not waited for.
        made = json.dumps(sample("new_errand")).encode()
        old = Errand(33, 1, 2, made, ended_at=2, ended_by="c3_end_errands")
        answers["GET c3_errand_reports/<id>"] = report(old, changed=True)
        for row in ASKED:
            asked[row.endpoint, row.field] = await get(row.endpoint) != await get(row.endpoint, **{row.field: "xx"})
        for row in SENT:
            refused[row.endpoint, row.field] = (await post(row.endpoint, spoilt(requests()[row.endpoint], row.field)))[
                0
            ]
    await sandbox.stop()
    return Told(answers, refused, asked)


@pytest.fixture(scope="module")
def told() -> Told:
    return asyncio.run(tell())


@pytest.mark.parametrize("row", [row for row in FIELDS if row.kind == "answered"], ids=str)
def test_the_sandbox_answers_what_the_page_says(row: Row, told: Told) -> None:
    answer = told.answers[row.endpoint]
    there = set(paths({"data": {"attributes": answer}} if row.endpoint == "GET logio" else answer))
    if row.sandbox.startswith("not answered: "):
        assert pointer(row.field) not in there, "it is, after all"
    else:
        assert row.sandbox == "answered"
        assert pointer(row.field) in there


@pytest.mark.parametrize("row", SENT, ids=str)
def test_the_sandbox_takes_what_the_page_says(row: Row, told: Told) -> None:
    assert row.sandbox == "taken"
    assert told.refused[row.endpoint, row.field] == (201 if row.field in JSON_FREE else 406)


@pytest.mark.parametrize("row", ASKED, ids=str)
def test_the_sandbox_reads_what_the_page_says(row: Row, told: Told) -> None:
    assert row.sandbox == "read"
    assert told.asked[row.endpoint, row.field]


def test_the_sandbox_serves_each_endpoint_there() -> None:
    served = {
        f"{method} {resource.canonical.removeprefix('/s/{workspace}/capi/')}"
        for resource in Sandbox().app().router.resources()
        for method in ("GET", "POST")
    }
    assert {row.sandbox for row in ROWS if row.kind == "endpoint"} <= served

"""The sandbox over HTTP, held to the notes on Cention's API; and its views."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bridge.cention.sandbox import Sandbox
from tests.integration.cention_support import HEADERS, SAMPLES, Caller, errand, sample

TEMPLATE = {"elementname": "reminder", "namespace": "clinic", "params": [{"default": "$10", "order": "1234"}]}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox()
    yield made
    await made.stop()


@pytest.fixture
async def caller(sandbox: Sandbox) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(await sandbox.start(), session)


def without(document: Any, *path: str) -> Any:
    changed = copy.deepcopy(document)
    place = changed
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return changed


# Contract: the documented samples, and the notes on how the server behaves.


async def test_the_samples_are_accepted(caller: Caller) -> None:
    status, created, headers = await caller.post("c3_new_errands", sample("new_errand"))
    assert (status, created) == (201, json.loads((SAMPLES / "new_errand.response.json").read_bytes()))
    assert headers["Transfer-Encoding"] == "chunked"
    assert headers["Content-Type"] == "application/vnd.api+json"
    assert headers["Location"] == "//capi/json//c3_new_errands/511055"

    end = sample("end_errand")
    assert (await caller.post("c3_end_errands", end))[0] == 404  # 4321 was never created here
    end["data"]["attributes"]["errand_id"] = 511055
    assert (await caller.post("c3_end_errands", end))[0] == 201
    assert (await caller.post("c3_end_obcall", sample("end_obcall")))[:2] == (204, None)


async def test_any_workspace_and_any_data_type_is_served(caller: Caller) -> None:
    caller.base_url = caller.base_url.replace("/s/demo", "/s/acme")
    for endpoint, name in (("c3_new_errands", "new_errand"), ("c3_end_obcall", "end_obcall")):
        document = sample(name)
        document["data"]["type"] = "c3_anything"
        assert (await caller.post(endpoint, document))[0] < 300


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b"{}", b'{"data": []}', b'{"data": {}}', b"\xff\xfe", b"[" * 100_000]
)
async def test_an_unreadable_body_is_406(caller: Caller, body: bytes) -> None:
    for endpoint in ("c3_new_errands", "c3_end_errands", "c3_end_obcall"):
        status, document, _ = await caller.post(endpoint, body)
        assert status == 406
        assert all(error["status"] == "406" and error["title"] == "Not Acceptable" for error in document["errors"])


@pytest.mark.parametrize(
    ("endpoint", "name", "path", "value"),
    [
        ("c3_new_errands", "new_errand", "integrationData/deviceId", "1000"),
        ("c3_new_errands", "new_errand", "integrationData/extensionId", 1000.0),
        ("c3_new_errands", "new_errand", "integrationData/endSession", "false"),
        ("c3_new_errands", "new_errand", "integrationData/referenceId", 1),
        ("c3_new_errands", "new_errand", "integrationData/extraData/appointmentTimestamp", 1593047865),
        ("c3_new_errands", "new_errand", "msg/attachments", {}),
        ("c3_new_errands", "new_errand", "cuid", 5),
        ("c3_end_errands", "end_errand", "errand_id", "4321"),
        ("c3_end_errands", "end_errand", "answer/user_id", 1234),
        ("c3_end_obcall", "end_obcall", "deviceId", True),
        ("c3_end_obcall", "end_obcall", "dialedNumber", 1211112222),
        # Stricter than documented, to find our own mistakes.
        ("c3_new_errands", "new_errand", "integrationData/destNumber", "+60374571234"),
        ("c3_new_errands", "new_errand", "integrationData/destNumber", "0374571234"),
        ("c3_new_errands", "new_errand", "integrationData/destNumber", "6037457123456789"),
        ("c3_new_errands", "new_errand", "integrationData/destNumber", "٦٠٣٧٤٥٧١"),
        ("c3_new_errands", "new_errand", "integrationData/destNumber", "60374571234\n"),
        ("c3_new_errands", "new_errand", "integrationData/destNumber", ""),
        ("c3_new_errands", "new_errand", "integrationData/queueName", ""),
        ("c3_new_errands", "new_errand", "integrationData/queueNumber", ""),
        ("c3_new_errands", "new_errand", "integrationData/integrationName", "another"),
        ("c3_end_obcall", "end_obcall", "integrationName", ""),
        ("c3_new_errands", "new_errand", "msg/attachments/0/content", "not base64!"),
    ],
)
async def test_a_wrong_member_is_406_and_named(
    caller: Caller, sandbox: Sandbox, endpoint: str, name: str, path: str, value: Any
) -> None:
    document = sample(name)
    place = document["data"]["attributes"]
    steps: list[Any] = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = value
    status, answer, _ = await caller.post(endpoint, document)
    assert status == 406
    assert [error["source"]["pointer"] for error in answer["errors"]] == [f"/data/attributes/{path}"]
    assert sandbox.arrivals == []


@pytest.mark.parametrize("answer", [None, {}, {"user_type": "cention"}, {"user_id": "1", "user_type": ""}])
async def test_a_template_without_its_user_is_406(caller: Caller, answer: dict[str, str] | None) -> None:
    document = sample("new_errand")
    document["data"]["attributes"] |= {"watemplate": TEMPLATE, **({} if answer is None else {"answer": answer})}
    status, refused, _ = await caller.post("c3_new_errands", document)
    assert status == 406
    assert [error["source"]["pointer"] for error in refused["errors"]] == ["/data/attributes/answer"]


async def test_a_template_is_no_answer_to_its_errand(caller: Caller) -> None:
    document = sample("new_errand")
    document["data"]["attributes"] |= {"watemplate": TEMPLATE, "answer": {"user_type": "CENTION", "user_id": "1"}}
    errand_id = (await caller.post("c3_new_errands", document))[1]["data"]["id"]
    url = f"{caller.base_url}/capi/json/c3_errand_reports/{errand_id}"
    async with caller.session.get(url, headers=HEADERS) as response:
        data = json.loads(await response.read())["data"]["attributes"]["basic"]["data"]
    assert (data["closed"], data["answered"], data["answeredDate"]) == (False, False, "No Date")


@pytest.mark.parametrize(
    "name", ["integrationName", "deviceId", "extensionId", "destNumber", "queueName", "queueNumber"]
)
async def test_a_missing_mandatory_member_is_406(caller: Caller, name: str) -> None:
    document = without(sample("new_errand"), "data", "attributes", "integrationData", name)
    status, answer, _ = await caller.post("c3_new_errands", document)
    assert status == 406
    assert answer["errors"][0]["source"]["pointer"].endswith(f"/integrationData/{name}")


async def test_every_fault_of_a_document_is_told_at_once(caller: Caller) -> None:
    document = errand(destNumber="12-34", queueName="", integrationName="x")
    _, answer, _ = await caller.post("c3_new_errands", document)
    assert len(answer["errors"]) == 3


async def test_an_id_of_ours_is_refused(caller: Caller, sandbox: Sandbox) -> None:
    document = sample("new_errand")
    document["data"]["id"] = "1"
    assert (await caller.post("c3_new_errands", document))[0] == 403
    assert sandbox.errands == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/vnd.api+json; charset=utf-8"}, 415),
        ({"content_type": "application/json"}, 415),
        ({"content_type": "APPLICATION/VND.API+JSON"}, 201),
        ({"accept": "application/vnd.api+json; ext=x"}, 406),
        ({"accept": "application/vnd.api+json; ext=x, application/vnd.api+json"}, 201),
        ({"accept": "*/*"}, 201),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Basic any"}, 401),
    ],
)
async def test_headers(caller: Caller, headers: dict[str, str], status: int) -> None:
    got, answer, _ = await caller.post("c3_new_errands", sample("new_errand"), **headers)
    assert got == status
    assert status == 201 or answer["errors"][0]["status"] == str(status)


async def test_only_known_tokens_are_accepted_when_there_are_any() -> None:
    guarded = Sandbox(tokens=frozenset({"one", "two"}))
    async with aiohttp.ClientSession() as session:
        caller = Caller(await guarded.start(), session)
        for token, status in (("one", 201), ("two", 201), ("three", 401), ("on", 401)):
            assert (await caller.post("c3_new_errands", errand(), authorization=f"Bearer {token}"))[0] == status
    await guarded.stop()


async def test_what_is_not_served_is_told_as_cention_would(caller: Caller) -> None:
    assert (await caller.post("c3_nothing", sample("new_errand")))[0] == 404
    answer = await caller.view("/s/demo/capi/json/c3_new_errands", status=405)
    assert answer["errors"][0]["status"] == "405"
    assert (await caller.view("/s/demo/nothing", status=404))["errors"][0]["status"] == "404"
    assert (await caller.view("/nothing", status=404))["code"] == "not_found"


async def test_a_client_of_http_1_0_is_served_without_chunks(caller: Caller) -> None:
    host, _, port = caller.view_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(sample("new_errand")).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in {**HEADERS, "Content-Length": len(body)}.items())
    writer.write(f"POST /s/demo/capi/json/c3_new_errands HTTP/1.0\r\n{head}\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert b" 201 " in answer
    assert answer.endswith(b'"511055"}}')
    assert b"chunked" not in answer


# Behaviour and views.


async def test_an_inbound_call_in_the_views(caller: Caller) -> None:
    await caller.post("c3_new_errands", errand("c-1", deviceId=1000))
    await caller.post("c3_new_errands", errand("c-2", deviceId=1001))
    agents = (await caller.view("/agents?busy=true"))["agents"]
    assert [(a["deviceId"], [e["referenceId"] for e in a["errands"]]) for a in agents] == [
        (1001, ["c-2"]),
        (1000, ["c-1"]),
    ]

    link = "https://recordings.example/1"
    status, answer, _ = await caller.post("c3_new_errands", errand("c-1", deviceId=1000, endSession=True, link=link))
    assert (status, answer["data"]["id"]) == (201, "511055")
    ended = await caller.view("/errands/511055")
    assert (ended["state"], ended["endedBy"], ended["link"]) == ("ended", "c3_new_errands", link)
    assert ended["attributes"]["integrationData"]["endSession"] is False
    assert ended["endAttributes"]["integrationData"]["endSession"] is True
    assert (await caller.view("/agents?busy=true"))["agents"][0]["deviceId"] == 1001
    assert len((await caller.view("/agents"))["agents"]) == 2


async def test_an_outbound_call_in_the_views(caller: Caller) -> None:
    await caller.post("c3_new_errands", errand("out", destNumber="461211112222"))
    await caller.post("c3_end_obcall", sample("end_obcall"))
    assert (await caller.view("/errands/511055"))["endedBy"] == "c3_end_obcall"
    agent = (await caller.view("/agents"))["agents"][0]
    assert (agent["busy"], agent["outboundEnds"]) == (False, 1)


async def test_errands_are_filtered_and_paged(caller: Caller) -> None:
    for number in range(5):
        await caller.post("c3_new_errands", errand(f"c-{number}", deviceId=number % 2))
    await caller.post("c3_new_errands", errand("c-4", deviceId=0, endSession=True))

    async def found(query: str) -> list[str]:
        return [e["referenceId"] for e in (await caller.view(f"/errands{query}"))["errands"]]

    assert await found("") == ["c-4", "c-3", "c-2", "c-1", "c-0"]
    assert await found("?state=ended") == ["c-4"]
    assert await found("?state=open&deviceId=0") == ["c-2", "c-0"]
    assert await found("?referenceId=c-3") == ["c-3"]
    assert await found("?referenceId=c-3&deviceId=0") == []
    assert await found("?extensionId=1000&limit=2") == ["c-4", "c-3"]
    first = await caller.view("/errands?limit=3")
    assert first["next"] == 3
    rest = await caller.view(f"/errands?limit=3&offset={first['next']}")
    assert ([e["referenceId"] for e in rest["errands"]], rest["next"]) == (["c-1", "c-0"], None)
    counts = {"errands": 5, "open": 4, "agents": 2, "dirty": 5, "arrivals": 6, "reports": 0}
    assert rest["counts"] == counts


async def test_arrivals_are_the_requests_in_their_order(caller: Caller) -> None:
    await caller.post("c3_new_errands", errand("c-1"))
    await caller.post("c3_new_errands", b"{")  # never worked on: no arrival
    await caller.post("c3_end_obcall", sample("end_obcall"))
    page = await caller.view("/arrivals?since=0&limit=1")
    assert (page["next"], page["total"]) == (1, 2)
    first = page["arrivals"][0]
    assert first.pop("at").endswith("Z")
    assert first == {
        "sequence": 1,
        "endpoint": "c3_new_errands",
        "message_id": "msgid_1485096554",
        "referenceId": "c-1",
        "deviceId": 1000,
        "extensionId": 1000,
        "endSession": False,
        "dialedNumber": None,
        "errandId": "511055",
        "status": 201,
        "cut": False,
    }
    page = await caller.view(f"/arrivals?since={page['next']}")
    assert [(a["sequence"], a["dialedNumber"]) for a in page["arrivals"]] == [(2, "01211112222")]
    assert (await caller.view("/arrivals?since=2"))["next"] == 2


async def test_a_reset_of_the_state(caller: Caller) -> None:
    await caller.post("c3_new_errands", errand())
    await caller.view("/errands", "DELETE", status=204)
    assert (await caller.view("/errands"))["errands"] == []
    assert (await caller.view("/arrivals"))["arrivals"] == []
    assert (await caller.view("/agents"))["agents"] == []
    await caller.view("/errands/511055", status=404)


@pytest.mark.parametrize(
    "path",
    [
        "/errands?state=closed",
        "/errands?limit=0",
        "/errands?limit=10001",
        "/errands?offset=-1",
        "/errands?deviceId=x",
        "/arrivals?since=" + "9" * 40,
        "/agents?busy=perhaps",
    ],
)
async def test_a_query_that_makes_no_sense_is_400(caller: Caller, path: str) -> None:
    assert (await caller.view(path, status=400))["code"] == "invalid_query"


async def test_the_index_names_the_views(caller: Caller) -> None:
    for path in (await caller.view("/"))["views"]:
        if "<" not in path:
            await caller.view(path)

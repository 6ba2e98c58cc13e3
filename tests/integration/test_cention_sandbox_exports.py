"""Exports and logio over HTTP: from what the sandbox has, and from what it was given."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.cention.sandbox import AnswerGiven, Sandbox
from bridge.runtime.clock import now
from tests.integration.cention_support import errand, sample
from tests.integration.sandbox_support import Reader, data, serving

LOGINS = [
    {"id": 1, "name": "sysadmin", "timestamp": 1554108462, "action": "Logout"},
    {"id": 2, "name": "tester1", "timestamp": 1554108529, "action": "Logout"},
    {"id": 3, "name": "sysadmin", "timestamp": 1554108536, "action": "Login"},
    {"id": 4, "name": "sysadmin", "timestamp": 1554108578, "action": "Logout"},
    {"id": 5, "name": "tester1", "timestamp": 1554108586, "action": "Login"},
]
CSV = "1,sysadmin,1554108462,Logout\n2,tester1,1554108529,Logout\n3,sysadmin,1554108536,Login\n"
CSV += "4,sysadmin,1554108578,Logout\n5,tester1,1554108586,Login\n"
DAY = {"from": "1554076800", "to": "1554163199"}


@pytest.fixture
async def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
async def reader(sandbox: Sandbox) -> AsyncIterator[Reader]:
    async with serving(sandbox) as made:
        yield made


def day(days: int = 0) -> str:
    return (now() + timedelta(days=days)).strftime("%Y/%m/%d")


async def export(reader: Reader, preset: str = "316", *, status: int = 201, **attributes: Any) -> Any:
    body = sample("trigger_export")
    body["data"]["attributes"] = attributes
    body["data"]["relationships"]["export"]["data"]["id"] = preset
    got, answer, _ = await reader.post("c3_trigger_exports", body)
    assert got == status, answer
    return answer["data"]["attributes"]["content"] if status == 201 else answer["errors"]


async def test_errands_become_rows_oldest_first(reader: Reader, sandbox: Sandbox) -> None:
    for number in range(3):
        await reader.post("c3_new_errands", errand(f"c-{number}"))
    end = sample("end_errand")
    end["data"]["attributes"] |= {"errand_id": 511056, "answer": {"body": "closed so"}}
    await reader.post("c3_end_errands", end)
    await sandbox.answer(511057, AnswerGiven(text="By hand", agent="Eva Ek"))
    rows = await export(reader)
    assert [(row["errand_id"], row["answer"], row["agent_name"]) for row in rows] == [
        ("511055", "", "Sandbox Agent"),
        ("511056", "closed so", "Sandbox Agent"),
        ("511057", "By hand", "Eva Ek"),
    ]
    first = rows[0]
    assert (first["from_address"], first["to_address"], first["channel"]) == (
        "david.liew@test.se",
        "60374571234",
        "Voice",
    )
    assert (first["errand_notes"], first["timestamp_closed"]) == ("internal comment", "")
    assert all(row["timestamp_closed"] and row["timestamp_answered"] for row in rows[1:])


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"errand_from_date": day(-1), "errand_to_date": day(1)}, ["511055", "511056"]),
        ({"errand_from_date": day(2)}, []),
        ({"errand_to_date": day(-2)}, []),
        ({"use_closure_date": True}, ["511056"]),
        ({"use_closure_date": True, "errand_to_date": day(1)}, ["511056"]),
        ({"use_closure_date": False}, ["511055", "511056"]),
    ],
    ids=str,
)
async def test_a_period_of_arrivals_or_closures(reader: Reader, attributes: Any, found: list[str]) -> None:
    await reader.post("c3_new_errands", errand("c-1"))
    await reader.post("c3_new_errands", errand("c-2", endSession=True))
    assert [row["errand_id"] for row in await export(reader, **attributes)] == found


async def test_a_day_is_included_whole(reader: Reader, sandbox: Sandbox) -> None:
    await reader.post("c3_new_errands", errand("c-1"))
    (made,) = sandbox.errands
    of_it = datetime.fromtimestamp(made.created_at / 1000, UTC).strftime("%Y/%m/%d")
    assert len(await export(reader, errand_from_date=of_it, errand_to_date=of_it)) == 1


@pytest.mark.parametrize("content", [[{"errand_id": 1, "more": None}], {"errand_id": "1"}, [], {}], ids=str)
async def test_a_preset_with_content_answers_just_that(content: Any) -> None:
    async with serving(Sandbox(data=data(exports=[{"id": "7", "content": content}]))) as reader:
        assert await export(reader, "7", errand_from_date="2019/01/01") == content
        assert (await export(reader, "316", status=404))[0]["status"] == "404"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"attributes": {"errand_from_date": "January"}}, "/data/attributes/errand_from_date"),
        ({"attributes": {"errand_to_date": 20190101}}, "/data/attributes/errand_to_date"),
        ({"attributes": {"use_closure_date": "true"}}, "/data/attributes/use_closure_date"),
        ({"relationships": {}}, None),
        ({"relationships": {"export": {"data": None}}}, "/data/relationships/export/data"),
        ({"relationships": {"export": {"data": []}}}, "/data/relationships/export/data"),
        ({"relationships": {"export": {"data": {"type": "c3_exports"}}}}, None),
    ],
    ids=str,
)
async def test_an_export_that_is_not_as_documented_is_406(reader: Reader, change: Any, place: str | None) -> None:
    body = sample("trigger_export")
    body["data"] |= change
    status, answer, _ = await reader.post("c3_trigger_exports", body)
    assert status == 406
    pointer = answer["errors"][0]["source"]["pointer"]
    assert pointer == place if place is not None else pointer.startswith("/data/relationships/export")


async def test_the_export_may_be_a_list_of_one_as_in_the_table(reader: Reader) -> None:
    body = sample("trigger_export")
    body["data"]["relationships"]["export"]["data"] = [{"type": "c3_exports", "id": "316"}]
    assert (await reader.post("c3_trigger_exports", body))[0] == 201


async def test_logio_is_answered_as_in_the_samples() -> None:
    async with serving(Sandbox(data=data(logio=LOGINS))) as reader:
        for query in (dict[str, str](), {"format": "csv"}):
            assert await reader.logio({**DAY, **query}) == CSV
        assert await reader.logio({"format": "json", **DAY}) == LOGINS
        url = f"{reader.base_url}/capi/custom/logio?format=json&from=1554076800&to=1554163199"
        async with reader.session.get(url, headers={"Authorization": "Bearer any"}) as response:
            assert b"\n" not in await response.read()
            assert "Location" not in response.headers


@pytest.mark.parametrize(
    ("query", "stamps"),
    [
        ({"name": "tester1"}, [1554108529, 1554108586]),
        ({"name": "nobody"}, []),
        ({"from": "1554108529", "to": "1554108536"}, [1554108529, 1554108536]),
        ({"name": "sysadmin", "from": "1554108537"}, [1554108578]),
    ],
    ids=str,
)
async def test_logio_by_name_and_period(query: dict[str, str], stamps: list[int]) -> None:
    async with serving(Sandbox(data=data(logio=list(reversed(LOGINS))))) as reader:
        found = await reader.logio({"format": "json", **DAY, **query})
    assert [(one["id"], one["timestamp"]) for one in found] == list(enumerate(stamps, 1))


async def test_logio_is_of_the_last_seven_days(reader: Reader, sandbox: Sandbox) -> None:
    stamp = int(now().timestamp())
    for days in (8, 6, -1):
        sandbox.log("agent", "Login", stamp - days * 86_400)
    sandbox.log("agent", "Logout")
    found = await reader.logio({"format": "json"})
    assert [one["action"] for one in found] == ["Login", "Logout"]
    assert found[0]["timestamp"] == stamp - 6 * 86_400


@pytest.mark.parametrize("query", [{"format": "xml"}, {"from": "yesterday"}, {"to": "-1"}, {"to": "9" * 20}], ids=str)
async def test_a_query_of_logio_that_makes_no_sense_is_400(reader: Reader, query: dict[str, str]) -> None:
    assert (await reader.logio(query, 400))["errors"]


async def test_agents_are_logged_in_and_out_by_the_view(reader: Reader) -> None:
    await reader.tell("/logio", LOGINS, method="PUT")
    assert len((await reader.view("/logio"))["logio"]) == 5
    await reader.tell("/logio", {"name": 'With "quotes", and a comma', "action": "Login"}, 204)
    assert await reader.logio() != ""
    shown = (await reader.view("/logio"))["logio"]
    assert shown[-1]["name"] == 'With "quotes", and a comma'
    line = await reader.logio()
    assert line == f'1,"With ""quotes"", and a comma",{shown[-1]["timestamp"]},Login\n'
    await reader.tell("/logio", [], method="PUT")
    assert (await reader.view("/logio"))["logio"] == []
    for wrong in ({"name": "", "action": "Login"}, {"name": "a", "action": "login"}, [LOGINS[0]]):
        assert (await reader.tell("/logio", wrong, 422))["code"] == "invalid_data"


async def test_ratings_are_given_by_the_view(reader: Reader) -> None:
    await reader.tell("/ratings", [{"ratingId": 8, "message": "Good"}], method="PUT")
    assert [one["id"] for one in (await reader.get("c3_dirty_facebook_ratings"))["data"]] == ["8"]
    await reader.get("c3_facebook_ratings/8")
    assert await reader.get("c3_dirty_facebook_ratings") == {"data": None}
    await reader.tell("/ratings", {"ratingId": 9}, 204)
    await reader.tell("/ratings", {"ratingId": 8, "message": "Better"}, 204)
    assert [one["id"] for one in (await reader.get("c3_dirty_facebook_ratings"))["data"]] == ["9", "8"]
    await reader.get("c3_facebook_ratings/8")
    shown = (await reader.view("/ratings"))["ratings"]
    assert [(one["ratingId"], one["isChanged"]) for one in shown] == [(8, False), (9, True)]
    # What the view shows may be given again: every rating has changed then.
    await reader.tell("/ratings", shown, method="PUT")
    again = (await reader.get("c3_facebook_ratings/8"))["data"]["attributes"]["data"]
    assert again == {**shown[0], "isChanged": True}
    await reader.get("c3_facebook_ratings/7", status=404)
    await reader.tell("/ratings", {"ratingId": "8"}, 422)

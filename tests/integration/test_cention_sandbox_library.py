"""The sandbox's library: relationships, filters, images, files, and what is not there."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.cention.sandbox import Sandbox
from tests.integration.sandbox_support import Reader, data, serving

PNG = base64.b64encode(b"\x89PNG").decode()
LIBRARY = {
    "libraries": [
        {"id": 1, "name": "top", "categories": [1], "libraries": [2], "questions": [1]},
        {"id": 2, "name": "below", "external": True, "questions": [2, 3]},
        {"id": 3, "name": "outside", "external": True},
    ],
    "categories": [{"id": 1, "name": "all", "libraries": [1], "categories": [2]}, {"id": 2, "name": "deep"}],
    "questions": [
        {
            "id": 1,
            "subject": "Opening",
            "question": "<p>When <b>open</b>?</p>",
            "answer": "At &auml;tta",
            "toplist": True,
        },
        {"id": 2, "subject": "Map", "question": "Where?", "answer": '<img src="cid:7"/> open, <img src="cid:99"/>'},
        {"id": 3, "subject": "Form", "question": "How?", "answer": "So.", "attachments": [5, 6]},
    ],
    "attachments": [{"id": 5, "name": "a.txt", "content_type": "text/plain", "text": "a"}, {"id": 6, "name": "empty"}],
    "archives": [{"id": 7, "name": "map.png", "content_type": "image/png", "content": PNG}],
}


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    async with serving(Sandbox(data=data(library=LIBRARY))) as made:
        yield made


def keys(resources: Any) -> set[tuple[str, str]]:
    return {(resource["type"], resource["id"]) for resource in resources or ()}


def ids(document: Any) -> list[str]:
    return [resource["id"] for resource in document["data"] or ()]


async def test_what_is_related_is_included_each_once(reader: Reader) -> None:
    document = await reader.get("c3_libraries/1")
    found = [(resource["type"], resource["id"]) for resource in document["included"]]
    assert sorted(found) == [
        ("c3_libraries", "2"),
        ("c3_library_attachments", "5"),
        ("c3_library_attachments", "6"),
        ("c3_library_categories", "1"),
        ("c3_library_categories", "2"),
        ("c3_library_questions", "1"),
        ("c3_library_questions", "2"),
        ("c3_library_questions", "3"),
    ]
    related = {name: keys(one["data"]) for name, one in document["data"]["relationships"].items()}
    assert related == {
        "libraries": {("c3_libraries", "2")},
        "categories": {("c3_library_categories", "1")},
        "questions": {("c3_library_questions", "1")},
    }


async def test_every_relation_leads_to_something_in_the_document(reader: Reader) -> None:
    for path in ("c3_libraries", "c3_external_libraries", "c3_library_categories", "c3_library_questions"):
        document = await reader.get(path)
        there = keys(document["data"]) | keys(document.get("included"))
        assert len(there) == len(document["data"]) + len(document.get("included", ()))
        for resource in [*document["data"], *document.get("included", ())]:
            for related in resource.get("relationships", {}).values():
                assert keys(related["data"]) <= there, path


async def test_libraries_that_others_hold_come_in_included_alone(reader: Reader) -> None:
    assert ids(await reader.get("c3_libraries")) == ["1", "3"], "2 is in 1; and 1 is in itself alone"
    assert ids(await reader.get("c3_external_libraries")) == ["2", "3"]
    assert (await reader.get("c3_external_libraries/2"))["data"]["attributes"] == {"c3_id": 2, "name": "below"}
    await reader.get("c3_external_libraries/1", status=404)


@pytest.mark.parametrize(
    ("held", "listed"),
    [
        ({1: [2], 2: [3], 3: []}, ["1"]),
        ({1: [], 2: [1], 3: [2]}, ["3"]),
        ({1: [1], 2: [], 3: []}, ["1", "2", "3"]),
        ({1: [2], 2: [1], 3: [1]}, ["3"]),
    ],
    ids=str,
)
async def test_every_library_is_found_from_the_list(held: dict[int, list[int]], listed: list[str]) -> None:
    libraries = [{"id": number, "name": "", "libraries": below} for number, below in held.items()]
    async with serving(Sandbox(data=data(library={"libraries": libraries}))) as reader:
        document = await reader.get("c3_libraries")
    assert ids(document) == listed
    assert len(keys(document["data"]) | keys(document.get("included"))) == len(held)


async def test_libraries_in_a_circle_are_found_too() -> None:
    libraries = [{"id": 1, "name": "", "libraries": [2]}, {"id": 2, "name": "", "libraries": [1]}]
    async with serving(Sandbox(data=data(library={"libraries": libraries}))) as reader:
        document = await reader.get("c3_libraries")
    assert len(document["data"]) == 1
    assert len(keys(document["data"]) | keys(document["included"])) == 2


async def test_included_comes_in_any_order() -> None:
    orders = set()
    async with serving(Sandbox(data=data(library=LIBRARY), seed=1)) as reader:
        for _ in range(20):
            document = await reader.get("c3_libraries/1")
            orders.add(tuple((one["type"], one["id"]) for one in document["included"]))
    assert len(orders) > 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["1", "2", "3"]),
        ({"filter[toplist]": "true"}, ["1"]),
        ({"filter[toplist]": "false"}, ["1", "2", "3"]),
        ({"q_filter[phrase]": "OPEN"}, ["1", "2"]),
        ({"q_filter[phrase]": "open", "q_filter[option]": "all"}, ["1", "2"]),
        ({"q_filter[phrase]": "open", "q_filter[option]": "question"}, ["1"]),
        ({"q_filter[phrase]": "open", "q_filter[option]": "answer"}, ["2"]),
        ({"q_filter[phrase]": "åtta"}, []),
        ({"q_filter[phrase]": "Ätta"}, ["1"]),
        ({"q_filter[phrase]": "<b>"}, []),
        ({"q_filter[phrase]": "open", "filter[toplist]": "1"}, ["1"]),
    ],
    ids=str,
)
async def test_questions_are_filtered(reader: Reader, query: dict[str, str], found: list[str]) -> None:
    assert ids(await reader.get("c3_library_questions", query)) == found


async def test_a_librarys_questions(reader: Reader) -> None:
    document = await reader.get("c3_libraries/2/questions")
    assert ids(document) == ["2", "3"]
    assert keys(document["included"]) == {("c3_library_attachments", "5"), ("c3_library_attachments", "6")}
    assert all("self" in question["links"] for question in document["data"])
    assert await reader.get("c3_libraries/3/questions") == {"data": None}
    assert ids(await reader.get("c3_libraries/2/questions", {"q_filter[phrase]": "map"})) == ["2"]


async def test_a_data_url_puts_images_into_texts(reader: Reader) -> None:
    plain = (await reader.get("c3_library_questions/2"))["data"]["attributes"]["answer"]
    assert plain == '<img src="cid:7"/> open, <img src="cid:99"/>'
    inlined = f'<img src="data:image/png;base64,{PNG}"/> open, <img src="cid:99"/>'
    for path in ("c3_library_questions/2", "c3_libraries/2", "c3_external_libraries/2", "c3_libraries/2/questions"):
        document = await reader.get(path, {"data_url": "true"})
        first = document["data"]
        resources = [*(first if isinstance(first, list) else [first]), *document.get("included", ())]
        (answer,) = [
            one["attributes"]["answer"]
            for one in resources
            if (one["type"], one["id"]) == ("c3_library_questions", "2")
        ]
        assert answer == inlined, path


async def test_files_with_and_without_their_content(reader: Reader) -> None:
    listed = await reader.get("c3_library_questions/3/attachments")
    assert ids(listed) == ["5", "6"]
    one = await reader.get("c3_library_attachments/5")
    assert one["data"]["attributes"] == listed["data"][0]["attributes"]
    assert base64.b64decode(one["data"]["attributes"]["attachment"]["content"]) == b"a"
    for path in ("c3_library_attachments/5", "c3_area_archives/7"):
        bare = await reader.get(path, {"without_content": "true"})
        assert "content" not in bare["data"]["attributes"]["attachment"]
        assert "content" in (await reader.get(path, {"without_content": "false"}))["data"]["attributes"]["attachment"]
    bare = await reader.get("c3_library_questions/3/attachments", {"without_content": "true"})
    assert all("content" not in one["attributes"]["attachment"] for one in bare["data"])
    assert await reader.get("c3_library_questions/1/attachments") == {"data": None}


async def test_the_images_of_a_question(reader: Reader) -> None:
    document = await reader.get("c3_library_questions/2/embedded_archives")
    assert keys(document["data"]) == {("c3_area_archives", "7")}, "99 is nowhere"
    assert document["data"][0]["attributes"]["attachment"]["content"] == PNG
    assert await reader.get("c3_library_questions/1/embedded_archives") == {"data": None}


@pytest.mark.parametrize(
    "path",
    [
        *(f"{kind}/9" for kind in ("c3_libraries", "c3_external_libraries", "c3_library_categories")),
        *(f"{kind}/9" for kind in ("c3_library_questions", "c3_library_attachments", "c3_area_archives")),
        *("c3_libraries/9/questions", "c3_library_questions/9/attachments", "c3_library_questions/9/embedded_archives"),
        *("c3_libraries/1/nothing", "c3_libraries/x", "c3_libraries/" + "9" * 40, "c3_response_attachments/7"),
    ],
)
async def test_what_is_not_there_is_404(reader: Reader, path: str) -> None:
    assert (await reader.get(path, status=404))["errors"][0]["status"] == "404"


@pytest.mark.parametrize("query", [{"data_url": "perhaps"}, {"filter[toplist]": "2"}, {"q_filter[option]": "subject"}])
async def test_a_parameter_that_makes_no_sense_is_400(reader: Reader, query: dict[str, str]) -> None:
    assert (await reader.get("c3_library_questions", query, 400))["errors"][0]["status"] == "400"


async def test_the_example_that_is_built_in_has_something_of_everything() -> None:
    async with serving(Sandbox()) as reader:
        for path in ("c3_libraries", "c3_external_libraries", "c3_library_categories", "c3_library_questions"):
            assert (await reader.get(path))["data"], path
        questions = await reader.get("c3_library_questions")
        assert any(one["type"] == "c3_library_attachments" for one in questions["included"])
        assert (await reader.get("c3_library_questions/2/embedded_archives"))["data"]
        assert (await reader.get("c3_dirty_facebook_ratings"))["data"]


async def test_a_sandbox_without_data_answers_null() -> None:
    async with serving(Sandbox(data=data())) as reader:
        for path in ("c3_libraries", "c3_library_categories", "c3_library_questions", "c3_dirty_facebook_ratings"):
            assert await reader.get(path) == {"data": None}

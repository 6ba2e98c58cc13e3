"""The JSON:API layer: relationships lead to what the document carries, wherever it stands, and nothing gets lost."""

import copy
import json
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.cention.documents import (
    IN_A_LIBRARY,
    Category,
    Document,
    ExternalLibrary,
    Identifier,
    Library,
    Linked,
    Many,
    One,
    Question,
    href,
    read_many,
    read_one,
)

BASE = "https://elsewhere.example.com/capi/json"


def resource(kind: str, number: object, relationships: Any = None, **attributes: Any) -> dict[str, Any]:
    made = {"type": kind, "id": number, "attributes": attributes}
    return made if relationships is None else {**made, "relationships": relationships}


def to(*targets: tuple[str, object]) -> dict[str, Any]:
    return {"data": [{"type": kind, "id": number} for kind, number in targets]}


def document(data: Any, *included: dict[str, Any]) -> bytes:
    return json.dumps({"data": data, "included": list(included)}).encode()


def library(body: bytes) -> Library:
    (read,) = read_one(body, Library, IN_A_LIBRARY).resources
    return read


SHELF = resource(
    "c3_libraries",
    "3",
    {"questions": to(("c3_library_questions", "2"), ("c3_library_questions", "9"), ("c3_library_questions", "1"))},
    name="Voice",
)
ONE = resource("c3_library_questions", "1", subject="first")
TWO = resource("c3_library_questions", "2", subject="second")


@pytest.mark.parametrize("included", [(ONE, TWO), (TWO, ONE)])
def test_related_resources_come_in_the_relationships_order(included: Any) -> None:
    read = library(document(SHELF, *included))
    assert [question.subject for question in read.questions] == ["second", "first"]
    assert [identifier.key for identifier in read.identifiers("questions")] == [
        ("c3_library_questions", "2"),
        ("c3_library_questions", "9"),
        ("c3_library_questions", "1"),
    ]


def test_a_list_of_resources_may_lead_to_itself() -> None:
    child = resource("c3_libraries", "4", {"libraries": to(("c3_libraries", "5"))}, name="child")
    other = resource("c3_libraries", "5", {"libraries": to(("c3_libraries", "4"))}, name="other")
    read = read_many(document([child, other]), Library, IN_A_LIBRARY).resources
    assert [each.libraries for each in read] == [(read[1],), (read[0],)]


def circle() -> bytes:
    return document(
        resource("c3_libraries", "1", {"categories": to(("c3_library_categories", "1"))}, name="top"),
        resource(
            "c3_library_categories",
            "1",
            {"libraries": to(("c3_libraries", "1"), ("c3_libraries", "2")), "categories": None},
            name="category",
        ),
        resource(
            "c3_libraries",
            "2",
            {"libraries": to(("c3_libraries", "2")), "questions": to(("c3_library_questions", "1"))},
            name="its own",
        ),
        ONE,
    )


def test_a_circle_is_followed_as_far_as_one_goes() -> None:
    read = library(circle())
    (category,) = read.categories
    assert category.libraries[0] is read
    assert category.libraries[1].libraries == (category.libraries[1],)
    assert [each.subject for each in read.reachable(Question)] == ["first"]
    assert [each.name for each in read.reachable(Library)] == ["its own"]
    assert [type(each) for each in read.reachable(Linked)] == [Category, Library, Question]


def test_a_circle_can_be_compared_shown_copied_and_written() -> None:
    read, same = read_one(circle(), Library, IN_A_LIBRARY), read_one(circle(), Library, IN_A_LIBRARY)
    assert read == same
    assert read.data == same.data
    assert copy.deepcopy(read) == read
    assert len(repr(read)) < 3000
    assert json.loads(read.to_json()) == json.loads(circle())
    changed = json.loads(circle())
    changed["included"][2]["attributes"]["subject"] = "another"
    assert read_one(json.dumps(changed).encode(), Library, IN_A_LIBRARY) != read


def test_a_copy_leads_into_the_copied_document() -> None:
    read = read_one(circle(), Library, IN_A_LIBRARY)
    copied = copy.deepcopy(read)
    assert copied.data is not None
    assert copied.data.categories[0].libraries[0] is copied.data


@pytest.mark.parametrize(
    "relationships",
    [
        None,
        {},
        {"questions": None},
        {"questions": {}},
        {"questions": {"data": None}},
        {"questions": {"data": []}},
        {"questions": {"links": {"related": f"{BASE}/c3_library_questions"}}},
        {"questions": {"links": None, "meta": {"count": 0}}},
    ],
)
def test_a_relationship_may_be_told_in_many_ways_to_hold_nothing(relationships: Any) -> None:
    raw = {"data": {"type": "c3_libraries", "id": "3", "relationships": relationships}, "included": None}
    document = read_one(json.dumps(raw).encode(), Library, IN_A_LIBRARY)
    assert json.loads(document.to_json()) == raw
    assert document.data is not None
    assert (document.data.questions, document.data.identifiers("questions"), document.data.name) == ((), (), None)


def test_a_relationship_may_be_one_and_an_id_a_number() -> None:
    shelf = resource("c3_libraries", 3, {"questions": {"data": {"type": "c3_library_questions", "id": 1}}})
    read = library(document(shelf, ONE))
    assert [question.subject for question in read.questions] == ["first"]
    assert read.identifiers("questions") == (Identifier(type="c3_library_questions", id=1),)
    assert read.key == ("c3_libraries", "3")


def test_resources_are_told_apart_by_type_and_id() -> None:
    external = resource("c3_external_libraries", "1", {"libraries": to(("c3_libraries", "1"))}, name="outside")
    inner = resource("c3_libraries", "1", name="inside")
    (read,) = read_one(document(external, inner), ExternalLibrary, IN_A_LIBRARY).resources
    assert [each.name for each in read.libraries] == ["inside"]


def test_what_a_relationship_leads_to_may_be_of_another_kind_than_is_documented() -> None:
    unknown = {"type": "c3_news", "id": "1", "attributes": {"headline": "new"}}
    shelf = resource("c3_libraries", "3", {"questions": to(("c3_news", "1"), ("c3_library_questions", "1"))})
    read = library(document(shelf, unknown, ONE))
    assert [question.subject for question in read.questions] == ["first"]
    other, _ = read.related("questions", Linked)
    assert other.attributes == Document.model_validate({"headline": "new"})


@pytest.mark.parametrize("raw", [{"data": None}, {"data": []}, {}, {"data": None, "included": None, "links": None}])
def test_a_list_may_be_null_empty_or_missing(raw: Any) -> None:
    document = read_many(json.dumps(raw).encode(), Library, IN_A_LIBRARY)
    assert document.resources == ()
    assert json.loads(document.to_json()) == raw


def test_a_resource_may_be_null() -> None:
    assert read_one(b'{"data": null}', Library).resources == ()


@pytest.mark.parametrize(
    ("link", "url"),
    [
        (f"{BASE}/c3_libraries/3", f"{BASE}/c3_libraries/3"),
        ({"href": f"{BASE}/c3_libraries/3", "meta": {"count": 1}}, f"{BASE}/c3_libraries/3"),
        ({"href": None}, None),
        ({}, None),
        (None, None),
        (7, None),
        ([f"{BASE}/c3_libraries/3"], None),
    ],
)
def test_a_link_is_a_string_or_an_object(link: Any, url: str | None) -> None:
    assert href(link) == url
    raw = {"data": {**SHELF, "links": {"self": link}}, "links": {"self": link}}
    document = read_one(json.dumps(raw).encode(), Library)
    assert document.data is not None
    assert (document.data.link(), document.data.link("related")) == (url, None)
    assert json.loads(document.to_json()) == raw


def test_links_may_be_absent() -> None:
    assert library(document(SHELF)).link() is None


def test_an_errors_document_is_read() -> None:
    raw = {
        "errors": [
            {"title": "Not Found", "status": "404", "id": "1", "links": {"about": BASE}},
            {"status": "record not found", "detail": None},
            {"status": 500, "code": ["any"], "source": {"pointer": "/data"}},
        ],
        "jsonapi": {"version": "1.0"},
    }
    document = read_one(json.dumps(raw).encode(), Library)
    assert document.data is None
    assert document.errors is not None
    assert [error.status for error in document.errors] == ["404", "record not found", 500]
    assert json.loads(document.to_json()) == raw


def test_a_resource_without_an_id_or_a_type_leads_and_is_not_led_to() -> None:
    shelf = {"relationships": {"questions": to(("c3_library_questions", "1"))}}
    read = library(document(shelf, ONE, {"id": "7"}, {"type": "c3_libraries"}))
    assert read.key is None
    assert len(read.questions) == 1


def test_of_two_with_one_identity_the_first_counts_and_both_survive() -> None:
    twice = document(SHELF, ONE, {**ONE, "attributes": {"subject": "again"}})
    read = read_one(twice, Library, IN_A_LIBRARY)
    assert read.data is not None
    assert [question.subject for question in read.data.questions] == ["first"]
    assert json.loads(read.to_json()) == json.loads(twice)


@pytest.mark.parametrize(
    "name", ["_whereabouts", "key", "resources", "related", "model_config", "__class__", "self", "TYPE"]
)
def test_an_unknown_member_may_be_called_as_something_of_ours(name: str) -> None:
    raw = json.loads(document({**SHELF, name: [None, {"a": 1}]}, {**ONE, name: None}))
    raw[name] = {"deep": None}
    raw["data"]["attributes"][name] = 1.5
    raw["data"]["relationships"]["questions"][name] = "x"
    read = read_one(json.dumps(raw).encode(), Library, IN_A_LIBRARY)
    assert json.loads(read.to_json()) == raw
    assert read.data is not None
    assert len(read.data.questions) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"data": []}',
        b'{"data": "46701740605"}',
        b'{"data": {"type": 1}}',
        b'{"data": {"id": true}}',
        b'{"data": {"attributes": []}}',
        b'{"data": {"attributes": {"name": 46701740605}}}',
        b'{"data": {"relationships": []}}',
        b'{"data": {"relationships": {"questions": {"data": "46701740605"}}}}',
        b'{"data": {"relationships": {"questions": {"data": [{"type": "c3_libraries"}]}}}}',
        b'{"included": {}}',
        b'{"included": [null]}',
        b'{"included": [{"type": "c3_libraries", "attributes": {"name": 46701740605}}]}',
        b'{"data": {"type": "\xff"}}',
    ],
)
def test_what_is_no_such_document_is_refused_without_its_values(body: bytes) -> None:
    with pytest.raises(ValidationError) as caught:
        read_one(body, Library, IN_A_LIBRARY)
    assert "46701740605" not in str(caught.value)


def test_a_list_is_no_resource_and_a_resource_no_list() -> None:
    with pytest.raises(ValidationError):
        read_many(document(SHELF), Library)


def test_documents_of_a_kind_are_of_a_class() -> None:
    one, other = read_one(document(SHELF), Library, IN_A_LIBRARY), read_one(document(SHELF), Library, IN_A_LIBRARY)
    assert type(one) is type(other)
    assert isinstance(one, One)
    assert isinstance(read_many(b"{}", Library), Many)


def test_a_resource_of_no_document_leads_nowhere() -> None:
    made = Library.model_validate_json(json.dumps(SHELF))
    assert made.questions == ()
    assert len(made.identifiers("questions")) == 3

"""The check of JSON:API 1.0 finds what the specification forbids, and passes what it allows."""

import copy
from typing import Any

import pytest

from tests.fakes.jsonapi_schema import faults

VALID: Any = {
    "data": {
        "type": "articles",
        "id": "1",
        "attributes": {"title": "A", "deep": [{"er": None}]},
        "relationships": {
            "author": {"data": {"type": "people", "id": "9"}, "links": {"self": "/a", "related": {"href": "/b"}}},
            "none": {"data": None},
            "many": {"data": []},
        },
        "links": {"self": "/articles/1"},
        "meta": {},
    },
    "included": [
        {"type": "people", "id": "9", "relationships": {"knows": {"data": [{"type": "people", "id": "10"}]}}},
        {"type": "people", "id": "10", "attributes": {"name": "ü", "a-b_c d": 1}},
    ],
    "links": {"self": "/", "next": None},
    "meta": {"any": 1},
    "jsonapi": {"version": "1.0"},
}


def test_what_is_allowed() -> None:
    assert faults(VALID) == []
    assert faults({"data": None}) == []
    assert faults({"data": []}) == []
    assert faults({"data": [{"type": "a", "id": "1"}, {"type": "a", "id": "2"}]}) == []
    assert faults({"meta": {}}) == []
    assert (
        faults({"errors": [{"status": "406", "title": "No", "source": {"pointer": ""}, "links": {"about": "/"}}]}) == []
    )
    assert faults({"data": {"type": "a", "attributes": {}}}, creating=True) == []


def changed(path: str, value: Any) -> Any:
    """`VALID` with `value` at `path`; None takes it away."""
    document = copy.deepcopy(VALID)
    *steps, last = path.split("/")
    place = document
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("more", 1, "/more: is no member of its object"),
        ("errors", [], "/: has both data and errors"),
        ("data", "text", "/data: is no resource, no list of them, and not null"),
        ("data", [1], "/data/0: is no object"),
        ("data/type", ..., "/data/type: is missing"),
        ("data/type", 1, "/data/type: is no string"),
        ("data/type", "a/b", "/data/type: is no member name"),
        ("data/id", ..., "/data/id: is missing"),
        ("data/id", 1, "/data/id: is no string"),
        ("data/body", {}, "/data/body: is no member of its object"),
        ("data/attributes", None, "/data/attributes: is no object"),
        ("data/attributes", [], "/data/attributes: is no object"),
        ("data/attributes/id", 1, "/data/attributes/id: must not be a field's name"),
        ("data/attributes/type", 1, "/data/attributes/type: must not be a field's name"),
        ("data/attributes/author", 1, "/data: author is both an attribute and a relationship"),
        ("data/attributes/deep/0/links", {}, "/data/attributes/deep/0/links: must not stand within an attribute"),
        ("data/attributes/deep/0", {"relationships": 1}, "/data/attributes/deep/0/relationships: must not stand"),
        ("data/attributes/a.b", 1, "/data/attributes/a.b: is no member name"),
        ("data/attributes/", 1, "/data/attributes/: is no member name"),
        ("data/attributes/-a", 1, "/data/attributes/-a: is no member name"),
        ("data/attributes/deep/0/a ", 1, "/data/attributes/deep/0/a : is no member name"),
        ("data/relationships", [], "/data/relationships: is no object"),
        ("data/relationships/type", {"data": None}, "/data/relationships/type: must not be a field's name"),
        ("data/relationships/author", {"type": "people", "id": "9"}, "/data/relationships/author/type: is no member"),
        ("data/relationships/none", {}, "/data/relationships/none: has none of links, data, meta"),
        ("data/relationships/none", None, "/data/relationships/none: is no object"),
        ("data/relationships/none/data", "9", "/data/relationships/none/data: is no identifier"),
        ("data/relationships/none/data", [1], "/data/relationships/none/data/0: is no object"),
        ("data/relationships/none/data", {"type": "a"}, "/data/relationships/none/data/id: is missing"),
        ("data/relationships/none/data", {"type": "a", "id": 1}, "/data/relationships/none/data/id: is no string"),
        (
            "data/relationships/none/data",
            {"type": "a", "id": "1", "attributes": {}},
            "/data/relationships/none/data/attr",
        ),
        (
            "data/relationships/none/links",
            {"next": None},
            "/data/relationships/none/links: has neither self nor related",
        ),
        ("data/links", [], "/data/links: is no object"),
        ("data/links/self", None, "/data/links/self: is no URL and no link object"),
        ("data/links/self", {"url": "/"}, "/data/links/self/href: is no string"),
        ("links/self", 1, "/links/self: is no URL and no link object"),
        ("meta", None, "/meta: is no object"),
        ("data/meta", [], "/data/meta: is no object"),
        ("jsonapi", "1.0", "/jsonapi: is no object"),
        ("jsonapi/version", 1, "/jsonapi/version: is no string"),
        ("included", None, "/included: is no list"),
        ("included/0/id", 9, "/included/0/id: is no string"),
        ("included/1/id", "11", "/included/1: nothing leads to it"),
        ("included/1/id", "9", "/included/1: is there more than once"),
        ("data/relationships/author/data", None, "/included/0: nothing leads to it"),
    ],
    ids=str,
)
def test_what_is_forbidden_is_found(path: str, value: Any, fault: str) -> None:
    found = faults(changed(path, value))
    assert any(each.startswith(fault) for each in found), found


@pytest.mark.parametrize("document", [None, [], "text", 1, {}, {"links": {}}])
def test_what_is_no_document(document: Any) -> None:
    assert faults(document)


def test_included_needs_data() -> None:
    assert faults({"meta": {}, "included": []}) == ["/included: must not be where data is not"]


@pytest.mark.parametrize("errors", [{}, [1], [{"status": 406}], [{"more": 1}], [{"source": "x"}], [{"meta": 1}]])
def test_errors_that_are_none(errors: Any) -> None:
    assert faults({"errors": errors})


@pytest.mark.parametrize("document", [{"data": None}, {"data": []}, {"meta": {}}, {"data": {"attributes": {}}}])
def test_what_creates_nothing(document: Any) -> None:
    assert faults(document, creating=True)

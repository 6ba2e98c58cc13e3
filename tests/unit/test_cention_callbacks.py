"""Callbacks: what is read of them, which files they speak of, and that neither secrets nor links lead anywhere."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from bridge.cention.documents import AREA_ARCHIVES, RESPONSE_ATTACHMENTS, CallbackFile, read_callback

RAW = (Path(__file__).parent.parent / "fixtures" / "cention" / "callback_answer_errand.request.json").read_bytes()
BASE = "https://api.example.com/s/demo"


def document() -> Any:
    return json.loads(RAW)


def read(content: Any) -> Any:
    callback = read_callback(json.dumps(content).encode())
    assert json.loads(callback.to_json()) == content, "it comes back equal, whatever it is"
    return callback


def errand_of(content: Any) -> Any:
    return next(each for each in content["included"] if each["type"] == "c3_answer_errands")


def test_the_sample_is_read() -> None:
    callback = read_callback(RAW)
    assert (callback.event, callback.errand_id) == (1, 2256)
    assert callback.secret == SecretStr("123456")
    errand = callback.answered_errand()
    assert errand is not None
    assert errand.c3_id == 2256
    assert errand.service is not None
    assert (errand.service.name, errand.service.type) == ("Form", 19)
    assert (errand.response.subject, errand.response.body) == ("Creating test errand via API", "text")
    assert errand.response.to is not None
    assert (errand.response.to[0].email_address, errand.response.to[0].name) == ("david.liew@test.se", "David Liew")


def test_the_files_are_told_by_type_and_id_on_the_configured_base() -> None:
    files = read_callback(RAW).files()
    assert [(file.type, file.id, file.embedded) for file in files] == [
        (RESPONSE_ATTACHMENTS, 788, False),
        (RESPONSE_ATTACHMENTS, 789, False),
        (RESPONSE_ATTACHMENTS, 790, False),
        (AREA_ARCHIVES, 12, True),
    ]
    assert [file.url(BASE) for file in files] == [
        f"{BASE}/capi/json/c3_response_attachments/788",
        f"{BASE}/capi/json/c3_response_attachments/789",
        f"{BASE}/capi/json/c3_response_attachments/790",
        f"{BASE}/capi/json/c3_area_archives/12",
    ]
    body = errand_of(document())["attributes"]["answer"]["response"]["html_body"]
    assert f"cid:{files[0].content_id}" in body
    assert f"cid:{files[3].content_id}" in body


@pytest.mark.parametrize(
    "links",
    [
        ...,
        None,
        {},
        {"self": "https://evil.example.com/capi/json/c3_response_attachments/1"},
        {"self": {"href": "file:///etc/passwd", "meta": {"a": None}}},
        {"self": None},
        {"self": 7},
    ],
    ids=str,
)
def test_links_are_kept_and_change_nothing(links: Any) -> None:
    content = document()
    for resource in content["included"]:
        resource.pop("links", None)
        if links is not ...:
            resource["links"] = links
    assert read(content).files() == read_callback(RAW).files()


def test_a_file_counts_whether_it_is_included_or_related() -> None:
    content = document()
    errand = errand_of(content)
    content["included"] = [errand]
    assert read(content).files() == read_callback(RAW).files()
    del errand["relationships"]["attachments"]
    errand["relationships"]["embedded_archives"]["data"] = {"type": "c3_area_archives", "id": 12}
    content["included"].append({"type": "c3_response_attachments", "id": "5"})
    assert read(content).files() == (CallbackFile(AREA_ARCHIVES, 12), CallbackFile(RESPONSE_ATTACHMENTS, 5))
    errand["relationships"] = {"attachments": None, "embedded_archives": {"data": None}}
    assert read(content).files() == (CallbackFile(RESPONSE_ATTACHMENTS, 5),)


@pytest.mark.parametrize("number", ["../../../admin", "12/..", "12?x=1", "", "-1", "٣", "1" * 20, "0x1", " 12"])
def test_an_id_that_is_no_number_is_no_file(number: str) -> None:
    content = document()
    content["included"] = [{"type": "c3_area_archives", "id": number}]
    content["data"]["relationships"] = {"attachments": {"data": [{"type": "c3_response_attachments", "id": number}]}}
    assert read(content).files() == ()


def test_types_that_are_no_files_are_none() -> None:
    content = document()
    content["included"] = [{"type": "c3_libraries", "id": "1"}, {"type": "c3_area_archives/../x", "id": "1"}]
    assert read(content).files() == ()


@pytest.mark.parametrize(
    ("attributes", "event"),
    [({"event": 7}, 7), ({"event": "1"}, None), ({"event": True}, None), ({}, None), (None, None), (..., None)],
    ids=str,
)
def test_any_event_is_read(attributes: Any, event: int | None) -> None:
    content = document()
    del content["data"]["attributes"]
    if attributes is not ...:
        content["data"]["attributes"] = attributes
    assert read(content).event == event


def test_an_event_without_an_errand_is_read() -> None:
    callback = read({"data": {"type": "c3_callback_other", "id": "1", "attributes": {"event": 2}}})
    assert (callback.event, callback.errand_id, callback.answered_errand(), callback.files()) == (2, None, None, ())
    assert callback.secret is None
    assert callback.without_secret() == callback


def test_the_errand_is_found_by_its_relationship_or_else_by_its_type() -> None:
    content = document()
    content["included"].insert(0, {"type": "c3_answer_errands", "id": "7", "attributes": {"c3_id": 7}})
    callback = read(content)
    assert callback.errand_id == 2256
    assert callback.answered_errand().c3_id == 2256
    del content["data"]["relationships"]
    callback = read(content)
    assert (callback.errand_id, callback.answered_errand().c3_id) == (7, 7)


def test_an_attribute_of_another_type_loses_nothing_else() -> None:
    content = document()
    errand_of(content)["attributes"]["c3_id"] = "2256"
    callback = read(content)
    assert (callback.event, callback.errand_id, len(callback.files())) == (1, 2256, 4)
    with pytest.raises(ValidationError) as caught:
        callback.answered_errand()
    assert "2256" not in str(caught.value)


def test_bodies_may_be_objects_as_the_table_has_them() -> None:
    content = document()
    response = errand_of(content)["attributes"]["answer"]["response"]
    response["body"], response["html_body"], response["to"] = {"text": "a"}, {"html": "b"}, None
    errand = read(content).answered_errand()
    assert (errand.response.body, errand.response.to) == ({"text": "a"}, None)


def test_an_answer_may_be_missing() -> None:
    content = document()
    for attributes in ({}, {"answer": None}, {"answer": {"response": None}}, None):
        errand_of(content)["attributes"] = attributes
        assert read(content).answered_errand().response.subject is None


def test_the_secret_shows_nowhere_but_in_the_document() -> None:
    callback = read_callback(RAW)
    for shown in (repr(callback), str(callback), str(callback.model_dump()), f"{callback.meta}", f"{callback.secret}"):
        assert "123456" not in shown
    assert b'"api_secret":"123456"' in callback.to_json()
    without = callback.without_secret()
    assert b"123456" not in without.to_json()
    assert without.secret is None
    expected = document()
    expected["meta"] = {}
    assert json.loads(without.to_json()) == expected
    assert callback.secret is not None, "the callback itself has it still"
    assert without.files() == callback.files()


@pytest.mark.parametrize("meta", [None, {}, {"api_secret": None}, {"api_secret": "", "more": [None]}])
def test_there_may_be_no_secret(meta: Any) -> None:
    content = document()
    content["meta"] = meta
    secret = read(content).secret
    assert secret is None or secret.get_secret_value() == ""


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["data"], None),
        (["data"], []),
        (["data", "id"], {}),
        (["data", "attributes"], "x"),
        (["data", "relationships", "errand"], "x"),
        (["included"], {}),
        (["meta"], "123456"),
        (["meta", "api_secret"], 123456),
    ],
)
def test_what_is_no_json_api_is_refused_without_its_values(path: list[str], value: Any) -> None:
    content = copy.deepcopy(document())
    place = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValidationError) as caught:
        read_callback(json.dumps(content).encode())
    assert "123456" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"data": {"type": "\\ud800"}}'])
def test_what_is_no_document_is_refused(body: bytes) -> None:
    with pytest.raises(ValidationError):
        read_callback(body)

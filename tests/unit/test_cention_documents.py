"""Documents: each sample goes through its model and comes back equal; types are strict; None is left out."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.cention.documents import (
    Attributes,
    EndErrand,
    EndObcall,
    IntegrationData,
    Message,
    NewErrand,
    created_errand_id,
    read_document,
    request_body,
)

SAMPLES = Path(__file__).parent.parent / "fixtures" / "cention"
MODELS: dict[str, type[Attributes]] = {
    "new_errand.request.json": NewErrand,
    "end_errand.request.json": EndErrand,
    "end_obcall.request.json": EndObcall,
}


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_bytes())


@pytest.mark.parametrize(("name", "model"), MODELS.items())
def test_sample_comes_back_equal(name: str, model: type[Attributes]) -> None:
    document = read_document((SAMPLES / name).read_bytes(), model)
    assert json.loads(document.to_json()) == sample(name)
    assert json.loads(request_body(document.data.type, document.data.attributes)) == sample(name)


def test_unknown_members_survive_wherever_they_stand() -> None:
    document = sample("new_errand.request.json")
    document["meta"] = {"a": None}
    document["data"]["links"] = None
    document["data"]["attributes"]["newThing"] = [1, {"b": None}]
    document["data"]["attributes"]["msg"]["priority"] = None
    document["data"]["attributes"]["msg"]["attachments"][0]["size"] = 23
    document["data"]["attributes"]["integrationData"]["extraData"]["mood"] = "calm"
    document["data"]["attributes"]["extradata"] = {"deep": [None, {"er": None}]}
    assert json.loads(read_document(json.dumps(document).encode(), NewErrand).to_json()) == document


def test_what_is_none_is_not_sent() -> None:
    document = NewErrand(
        msg=Message(sender="46701740605", name=None),
        integration_data=IntegrationData(
            integration_name="aventa",
            device_id=1000,
            extension_id=1001,
            dest_number="46846500400",
            queue_name="Support",
            queue_number="7",
            link=None,
            end_session=False,
        ),
        cuid=None,
    )
    assert json.loads(request_body("c3_new_errands", document)) == {
        "data": {
            "type": "c3_new_errands",
            "attributes": {
                "msg": {"from": "46701740605"},
                "integrationData": {
                    "integrationName": "aventa",
                    "deviceId": 1000,
                    "extensionId": 1001,
                    "destNumber": "46846500400",
                    "queueName": "Support",
                    "queueNumber": "7",
                    "endSession": False,
                },
            },
        }
    }


@pytest.mark.parametrize("value", ["1000", 1000.0, 1000.5, True, None, [], 2**63])
def test_only_a_json_integer_is_an_integer(value: Any) -> None:
    for name, model, path in (
        ("new_errand.request.json", NewErrand, ["integrationData", "deviceId"]),
        ("end_errand.request.json", EndErrand, ["errand_id"]),
        ("end_obcall.request.json", EndObcall, ["extensionId"]),
    ):
        document = sample(name)
        place = document["data"]["attributes"]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        with pytest.raises(ValidationError):
            read_document(json.dumps(document).encode(), model)


@pytest.mark.parametrize("value", [1, True, {}, []])
def test_only_a_json_string_is_a_string(value: Any) -> None:
    for path in (["integrationData", "referenceId"], ["integrationData", "queueNumber"], ["msg", "from"], ["cuid"]):
        document = sample("new_errand.request.json")
        place = document["data"]["attributes"]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        with pytest.raises(ValidationError):
            read_document(json.dumps(document).encode(), NewErrand)


def test_an_error_does_not_repeat_the_value() -> None:
    document = sample("end_obcall.request.json")
    document["data"]["attributes"]["dialedNumber"] = {"number": "46701740605"}
    with pytest.raises(ValidationError) as caught:
        read_document(json.dumps(document).encode(), EndObcall)
    assert "46701740605" not in str(caught.value)


def test_the_created_id_is_read_leniently() -> None:
    assert created_errand_id((SAMPLES / "new_errand.response.json").read_bytes()) == "511055"
    assert created_errand_id(b'{"data": {"id": 511055}, "links": null}') == "511055"
    assert created_errand_id(b'{"data": {"type": 7, "id": "511055"}}') == "511055"
    for number in (b"1e999", b"NaN"):  # no JSON, or no number that a double holds: the errand exists all the same
        assert created_errand_id(b'{"data": {"id": "511055"}, "meta": {"load": %b}}' % number) == "511055"
    for unreadable in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"data": null}',
        b'{"data": {"id": ""}}',
        b'{"data": {"id": true}}',
        b"\xff",
    ):
        assert created_errand_id(unreadable) is None

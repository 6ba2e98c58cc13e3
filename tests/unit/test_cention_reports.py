"""Errand reports and the dirty list: the samples, what may be missing, and the reference that a look-up reads."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.calls.effects import EffectKind, effect_id
from bridge.calls.events import Pair
from bridge.cention.documents import (
    DIRTY_ERRANDS,
    DirtyErrands,
    Document,
    ErrandReport,
    read_answer,
    read_document,
    request_body,
)
from bridge.delivery.lookup import REFERENCE

SAMPLES = Path(__file__).parent.parent / "fixtures" / "cention"
MODELS: dict[str, type[Document]] = {
    "errand_report.response.json": ErrandReport,
    "dirty_errand_list.get.response.json": DirtyErrands,
    "dirty_errand_list.post.request.json": DirtyErrands,
    "dirty_errand_list.post.response.json": DirtyErrands,
}


def report() -> Any:
    return json.loads((SAMPLES / "errand_report.response.json").read_bytes())


@pytest.mark.parametrize(("name", "model"), MODELS.items())
def test_sample_comes_back_equal(name: str, model: type[Document]) -> None:
    raw = (SAMPLES / name).read_bytes()
    assert json.loads(read_answer(raw, model).to_json()) == json.loads(raw)


def test_marking_sends_what_the_sample_shows() -> None:
    sample = (SAMPLES / "dirty_errand_list.post.request.json").read_bytes()
    assert json.loads(request_body(DIRTY_ERRANDS, DirtyErrands(errands=(35,)))) == json.loads(sample)
    assert read_document(sample, DirtyErrands).data.attributes.errands == (35,)


def test_every_field_of_the_report_has_its_value() -> None:
    data = read_answer((SAMPLES / "errand_report.response.json").read_bytes(), ErrandReport).data
    assert data is not None
    assert data.attributes is not None
    read = data.attributes
    assert (read.c3_id, read.changed, read.errand.id, read.errand.subject) == (33, True, 33, "test")
    assert read.errand.body == '<div dir="ltr">test222</div>\r\n'
    assert (read.errand.from_address, read.errand.to_addresses) == (
        "test.account@cention.se",
        ("test.tester@cention.asia",),
    )
    assert (read.errand.closed, read.errand.answered, read.errand.area_name) == (True, True, "test-services-area")
    assert read.actions is not None
    assert (read.actions[2].id, read.actions[2].timestamp) == (112, 1437124106)
    assert read.basic is not None
    assert (read.basic.thread_id, read.basic.acquired) == (32, False)
    assert read.extended is not None
    assert read.extended.errand_tags is not None
    assert read.extended.errand_tags[0].desc == "Test High Tag"
    assert read.sla is not None
    assert (read.sla.within_sla, read.sla.expiry) == (False, 0)


@pytest.mark.parametrize("name", ["sla", "actions", "basic", "extended", "changed", "c3_id"])
def test_any_part_may_be_null_or_missing_and_stays_so(name: str) -> None:
    document = report()
    document["data"]["attributes"][name] = None
    assert json.loads(read_answer(json.dumps(document).encode(), ErrandReport).to_json()) == document
    del document["data"]["attributes"][name]
    assert json.loads(read_answer(json.dumps(document).encode(), ErrandReport).to_json()) == document


def test_a_report_without_an_errand_has_an_empty_one() -> None:
    for basic in (None, {}, {"data": None}):
        document = {"data": {"type": "c3_errand_reports", "id": "33", "attributes": {"basic": basic}}}
        data = read_answer(json.dumps(document).encode(), ErrandReport).data
        assert data is not None
        assert data.attributes is not None
        assert (data.attributes.errand.subject, data.attributes.errand.body) == (None, None)


@pytest.mark.parametrize(
    "document", [{"data": None}, {}, {"data": {"type": "c3_dirty_errand_list", "id": 0}, "included": None, "x": [None]}]
)
def test_an_answer_may_hold_nothing(document: Any) -> None:
    assert json.loads(read_answer(json.dumps(document).encode(), DirtyErrands).to_json()) == document


def test_wrong_types_are_refused_without_their_values() -> None:
    document = report()
    document["data"]["attributes"]["basic"]["data"]["subject"] = ["46701740605"]
    with pytest.raises(ValidationError) as caught:
        read_answer(json.dumps(document).encode(), ErrandReport)
    assert "46701740605" not in str(caught.value)
    with pytest.raises(ValidationError):
        read_answer(b'{"data": {"attributes": {"errands": ["34"]}}}', DirtyErrands)


@pytest.mark.parametrize("kind", EffectKind)
@pytest.mark.parametrize("ordinal", [0, 7, 12345])
def test_a_reference_is_an_effects_id_wherever_it_stands(kind: EffectKind, ordinal: int) -> None:
    reference = effect_id(Pair(1000, 1001), "any call", kind, ordinal)
    assert REFERENCE.fullmatch(reference)
    for text in ("{}", "Re: ({}).", "<div>Reference: {}<br/></div>", "a{}\nb", "{}&nbsp;"):
        assert REFERENCE.findall(text.format(reference)) == [reference]

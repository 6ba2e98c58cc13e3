"""Every sample of Cention's documentation goes through its model, and comes back as equal JSON; none is left out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.cention.documents import (
    IN_A_LIBRARY,
    AreaArchive,
    Category,
    ContactCard,
    CreatedErrand,
    DirtyErrands,
    DirtyFacebookRating,
    Document,
    EndErrand,
    EndObcall,
    ErrandReport,
    ExternalLibrary,
    FacebookRating,
    Library,
    LibraryAttachment,
    NewErrand,
    Question,
    ResponseAttachment,
    TriggerExport,
    read_answer,
    read_callback,
    read_document,
    read_many,
    read_one,
)
from tests.fakes.jsonapi_schema import faults

SAMPLES = Path(__file__).parent.parent / "fixtures" / "cention"
NAMES = sorted(path.name for path in SAMPLES.glob("*.json"))

READERS: dict[str, Callable[[bytes], Document]] = {
    "callback_answer_errand.request.json": read_callback,
    "contact_card.request.json": lambda raw: read_document(raw, ContactCard),
    "contact_card.response.json": lambda raw: read_answer(raw, ContactCard),
    "dirty_errand_list.get.response.json": lambda raw: read_answer(raw, DirtyErrands),
    "dirty_errand_list.post.request.json": lambda raw: read_document(raw, DirtyErrands),
    "dirty_errand_list.post.response.json": lambda raw: read_answer(raw, DirtyErrands),
    "dirty_facebook_ratings.response.json": lambda raw: read_many(raw, DirtyFacebookRating),
    "end_errand.request.json": lambda raw: read_document(raw, EndErrand),
    "end_obcall.request.json": lambda raw: read_document(raw, EndObcall),
    "errand_report.response.json": lambda raw: read_answer(raw, ErrandReport),
    "external_library.response.json": lambda raw: read_one(raw, ExternalLibrary, IN_A_LIBRARY),
    "facebook_rating.response.json": lambda raw: read_answer(raw, FacebookRating),
    "libraries.response.json": lambda raw: read_many(raw, Library, IN_A_LIBRARY),
    "library_attachment.response.json": lambda raw: read_one(raw, LibraryAttachment),
    "library_categories.response.json": lambda raw: read_many(raw, Category, IN_A_LIBRARY),
    "library_question.response.json": lambda raw: read_one(raw, Question, IN_A_LIBRARY),
    "new_errand.request.json": lambda raw: read_document(raw, NewErrand),
    "new_errand.response.json": CreatedErrand.model_validate_json,
    "response_attachment.response.json": lambda raw: read_one(raw, ResponseAttachment),
    "trigger_export.request.json": lambda raw: read_document(raw, TriggerExport),
}


def test_there_is_a_model_for_every_sample() -> None:
    assert sorted(READERS) == NAMES
    assert len(NAMES) >= 20


@pytest.mark.parametrize("name", READERS)
def test_a_sample_comes_back_equal(name: str) -> None:
    raw = (SAMPLES / name).read_bytes()
    assert json.loads(READERS[name](raw).to_json()) == json.loads(raw)


@pytest.mark.parametrize("name", READERS)
def test_what_no_model_names_comes_back_too(name: str) -> None:
    sample = json.loads((SAMPLES / name).read_bytes())
    resources = sample["data"] if isinstance(sample["data"], list) else [sample["data"]]
    for place in (sample, *resources, *sample.get("included", [])):
        place["more"] = {"deep": [None, {"er": None}, 1.5, "ü"], "none": None}
        if "attributes" in place:
            place["attributes"]["more"] = [None]
    raw = json.dumps(sample).encode()
    assert json.loads(READERS[name](raw).to_json()) == sample


@pytest.mark.parametrize("name", READERS)
def test_a_sample_is_what_json_api_demands(name: str) -> None:
    sample = json.loads((SAMPLES / name).read_bytes())
    created_by_us = name.endswith(".request.json") and not name.startswith("callback")
    assert faults(sample, creating=created_by_us) == []


def test_an_archives_answer_is_like_an_attachments() -> None:
    """The documentation shows no sample of its own for `c3_area_archives`."""
    sample = json.loads((SAMPLES / "response_attachment.response.json").read_bytes())
    sample["data"]["type"] = "c3_area_archives"
    read = read_one(json.dumps(sample).encode(), AreaArchive)
    assert json.loads(read.to_json()) == sample

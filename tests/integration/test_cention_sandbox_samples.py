"""What the sandbox answers is what the documentation shows: equal where it was given the same data, alike elsewhere."""

import pytest

from bridge.cention.sandbox import AnswerGiven, AttachedFile, Sandbox
from bridge.cention.sandbox.reports import report
from bridge.cention.sandbox.state import Errand
from tests.integration.cention_support import SAMPLES, sample
from tests.integration.sandbox_support import answer_sample, data, data_of, form, in_order, serving

FILE = {"content_type": "text/plain", "name": "tst1_1.txt", "content": "QXBwbGUgUGVuIFBpbmVhcHBsZSBQZW4="}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("libraries", "c3_libraries"),
        ("external_library", "c3_external_libraries/3"),
        ("library_categories", "c3_library_categories"),
        ("library_question", "c3_library_questions/4"),
    ],
)
async def test_the_library_is_answered_as_in_the_samples(name: str, path: str) -> None:
    async with serving(Sandbox(data=data_of(answer_sample(name)))) as reader:
        assert in_order(await reader.get(path)) == in_order(answer_sample(name))


async def test_a_librarys_file_is_answered_as_in_the_sample() -> None:
    given = data(library={"attachments": [{"id": 1270, **FILE}]})
    async with serving(Sandbox(data=given)) as reader:
        assert await reader.get("c3_library_attachments/1270") == answer_sample("library_attachment")


async def test_ratings_are_answered_as_in_the_samples() -> None:
    rating = answer_sample("facebook_rating")["data"]["attributes"]["data"]
    async with serving(Sandbox(data=data(ratings=[rating, {**rating, "ratingId": 4}]))) as reader:
        assert await reader.get("c3_dirty_facebook_ratings") == answer_sample("dirty_facebook_ratings")
        first = await reader.get("c3_facebook_ratings/3")
        assert first["data"]["attributes"]["data"]["isChanged"] is True
        assert await reader.get("c3_facebook_ratings/3") == answer_sample("facebook_rating")


async def test_a_contact_card_is_answered_as_in_the_sample() -> None:
    async with serving(Sandbox()) as reader:
        status, answer, headers = await reader.post("c3_contact_cards", sample("contact_card"))
        assert (status, answer) == (201, answer_sample("contact_card"))
        assert headers["Location"] == "//capi/json//c3_contact_cards/13"


async def test_lists_of_errands_and_their_marks_are_answered_as_in_the_samples() -> None:
    async with serving(Sandbox()) as reader:
        await reader.post("c3_new_errands", sample("new_errand"))
        assert form(await reader.get("c3_dirty_errand_list")) == form(answer_sample("dirty_errand_list.get"))
        marked = sample("dirty_errand_list.post")
        assert (await reader.post("c3_dirty_errand_list", marked))[1] == answer_sample("dirty_errand_list.post")


def test_a_report_has_the_samples_form() -> None:
    body = (SAMPLES / "new_errand.request.json").read_bytes()
    old = Errand(33, 1, 2, body, dest_number="46846500400", ended_at=2, ended_by="c3_end_errands")
    made, shown = report(old, changed=True), answer_sample("errand_report")
    made["data"]["attributes"]["extended"]["errand_tags"] = shown["data"]["attributes"]["extended"]["errand_tags"]
    assert form(made) == form(shown)


async def test_a_response_attachment_is_answered_as_in_the_sample() -> None:
    sandbox = Sandbox()
    async with serving(sandbox) as reader:
        await reader.post("c3_new_errands", sample("new_errand"))
        await sandbox.answer(511055, AnswerGiven(attachments=(AttachedFile(**FILE),), images=(AttachedFile(**FILE),)))
        shown = answer_sample("response_attachment")
        answer = await reader.get("c3_response_attachments/788")
        assert answer["data"]["attributes"]["attachment"] == {**FILE, "c3_id": 788}
        assert form(answer) == form(shown)
        assert form(await reader.get("c3_area_archives/12")) == form(shown)


async def test_an_export_carries_what_the_request_told_and_the_documented_members() -> None:
    async with serving(Sandbox()) as reader:
        await reader.post("c3_new_errands", sample("new_errand"))
        asked = sample("trigger_export")
        del asked["data"]["attributes"]["errand_from_date"], asked["data"]["attributes"]["errand_to_date"]
        asked["data"]["attributes"]["use_closure_date"] = False
        status, answer, _ = await reader.post("c3_trigger_exports", asked)
        assert status == 201
        content = answer["data"]["attributes"].pop("content")
        assert answer["data"].pop("id") == "1"
        assert answer["data"]["attributes"].pop("c3_id") == 1
        assert answer == asked
        texts = {name: value for name, value in content[0].items() if isinstance(value, str)}
        assert (content[0].keys() - texts.keys()) == {
            "agent_id", "area_id", "client_id", *(f"satisfaction_meter_answer_{level}" for level in range(1, 6))
        }  # fmt: skip
        assert len(content[0]) == 25


async def test_every_json_api_answer_is_chunked_and_says_so() -> None:
    async with serving(Sandbox()) as reader:
        for path in ("c3_libraries", "c3_dirty_facebook_ratings", "c3_nothing"):
            async with reader.session.get(
                f"{reader.base_url}/capi/json/{path}", headers={"Authorization": "Bearer any"}
            ) as response:
                assert response.headers["Content-Type"] == "application/vnd.api+json"
                assert response.headers["Transfer-Encoding"] == "chunked"
                assert await response.json(content_type=None)

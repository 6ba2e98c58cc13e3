"""The library's and the ratings' documents: each sample goes through its model, says what it says, and comes back."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.cention.documents import (
    IN_A_LIBRARY,
    AreaArchive,
    Category,
    DirtyFacebookRating,
    Document,
    ExternalLibrary,
    FacebookRating,
    Library,
    LibraryAttachment,
    Linked,
    Question,
    ResponseAttachment,
    read_answer,
    read_many,
    read_one,
)

SAMPLES = Path(__file__).parent.parent / "fixtures" / "cention"
ONE: dict[str, type[Linked[Any]]] = {
    "external_library": ExternalLibrary,
    "library_question": Question,
    "library_attachment": LibraryAttachment,
    "response_attachment": ResponseAttachment,
}
MANY: dict[str, type[Linked[Any]]] = {
    "libraries": Library,
    "library_categories": Category,
    "dirty_facebook_ratings": DirtyFacebookRating,
}


def raw(name: str) -> bytes:
    return (SAMPLES / f"{name}.response.json").read_bytes()


@pytest.mark.parametrize(("name", "kind"), ONE.items())
def test_sample_of_one_comes_back_equal(name: str, kind: type[Linked[Any]]) -> None:
    assert json.loads(read_one(raw(name), kind, IN_A_LIBRARY).to_json()) == json.loads(raw(name))


@pytest.mark.parametrize(("name", "kind"), MANY.items())
def test_sample_of_many_comes_back_equal(name: str, kind: type[Linked[Any]]) -> None:
    assert json.loads(read_many(raw(name), kind, IN_A_LIBRARY).to_json()) == json.loads(raw(name))


def test_the_rating_comes_back_equal_and_says_what_it_says() -> None:
    document = read_answer(raw("facebook_rating"), FacebookRating)
    assert json.loads(document.to_json()) == json.loads(raw("facebook_rating"))
    assert document.data is not None
    assert document.data.attributes is not None
    said = document.data.attributes.said
    assert (document.data.attributes.c3_id, said.rating_id, said.rating, said.is_changed) == (3, 3, 5, False)
    assert (said.reviewer_id, said.reviewer_name, said.timestamp_created) == (
        2117249628,
        "Jessica Elizabeth",
        1489569020,
    )
    assert said.message == "Hi its a really great page. It helps to find more people:)"


@pytest.mark.parametrize("attributes", [{}, {"data": None}, {"data": {}}])
def test_a_rating_may_say_nothing(attributes: Any) -> None:
    assert FacebookRating.model_validate(attributes).said.message is None


def test_the_list_of_libraries_says_what_it_says() -> None:
    (library,) = read_many(raw("libraries"), Library, IN_A_LIBRARY).resources
    assert (library.id, library.name, library.external) == ("3", "cention-org - area-named-second", False)
    assert library.libraries == ()
    (category,) = library.categories
    assert (category.id, category.name) == ("3", "old_libraries")
    (question,) = library.questions
    assert (question.subject, question.question, question.answer) == (
        "11th title",
        "11th body<br/>2nd line<br/>",
        "done!",
    )
    (inner,) = category.libraries
    assert [each.subject for each in inner.questions] == ["help me!", "asdadasdas"]
    (attachment,) = inner.questions[1].attachments
    assert (attachment.id, attachment.name, attachment.content_type) == ("2020", "tst1_1.txt", "text/plain")
    assert (attachment.file.c3_id, attachment.decoded()) == (2020, None)
    assert attachment.link() == "https://test.example.com/capi/json/c3_library_attachments/2020"
    assert [each.id for each in library.reachable(Question)] == ["2", "5", "4"]
    assert library.reachable(LibraryAttachment) == (attachment,)


def test_the_external_library_says_what_it_says() -> None:
    (library,) = read_one(raw("external_library"), ExternalLibrary, IN_A_LIBRARY).resources
    assert (library.id, library.name) == ("3", "cention-org - area-named-second")
    (category,) = library.categories
    assert [(each.id, each.external) for each in category.libraries] == [("4", False), ("3", True)]
    assert [each.answer for each in library.questions] == ["ok one"]


def test_the_list_of_categories_says_what_it_says() -> None:
    (category,) = read_many(raw("library_categories"), Category, IN_A_LIBRARY).resources
    assert (category.name, category.libraries, category.categories) == ("greeting", (), ())
    assert [each.answer for each in category.questions] == ["ok\n"]


def test_the_question_says_what_it_says() -> None:
    (question,) = read_one(raw("library_question"), Question, IN_A_LIBRARY).resources
    assert (question.question, question.answer) == ("", "New answer!")
    assert [each.name for each in question.attachments] == ["tst1_1.txt"]


@pytest.mark.parametrize("name", ["library_attachment", "response_attachment"])
def test_the_file_says_what_it_says(name: str) -> None:
    (file,) = read_one(raw(name), ONE[name]).resources
    assert isinstance(file, LibraryAttachment | ResponseAttachment)
    assert (file.id, file.name, file.content_type, file.file.size) == ("1270", "tst1_1.txt", "text/plain", 23)
    assert file.decoded() == b"Apple Pen Pineapple Pen"


def test_an_archive_is_a_file_and_may_be_mentioned_alone() -> None:
    document = json.loads(raw("response_attachment"))
    document["data"]["type"] = "c3_area_archives"
    (file,) = read_one(json.dumps(document).encode(), AreaArchive).resources
    assert file.decoded() == b"Apple Pen Pineapple Pen"
    (mentioned,) = read_one(b'{"data": {"type": "c3_area_archives", "id": "1"}}', AreaArchive).resources
    assert (mentioned.name, mentioned.content_type, mentioned.decoded()) == (None, None, None)


def test_the_mentions_of_ratings_have_ids_alone() -> None:
    read = read_many(raw("dirty_facebook_ratings"), DirtyFacebookRating).resources
    assert [(each.id, each.attributes) for each in read] == [("3", None), ("4", None)]


def test_every_kind_in_a_library_has_a_type_of_its_own() -> None:
    types = [kind.TYPE for kind in IN_A_LIBRARY]
    assert len(set(types)) == len(types)
    assert all(types)
    assert all(issubclass(kind, Document) for kind in IN_A_LIBRARY)

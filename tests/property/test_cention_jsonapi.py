"""Any document of linked resources, its members and `included` in any order, with members that nobody knows."""

import json
import random
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.cention.documents import (
    IN_A_LIBRARY,
    Category,
    DirtyFacebookRating,
    Document,
    ExternalLibrary,
    Library,
    LibraryAttachment,
    Linked,
    Question,
    ResponseAttachment,
    read_many,
    read_one,
)

SAMPLES = Path(__file__).parent.parent / "fixtures" / "cention"
KINDS: dict[str, type[Linked[Any]]] = {
    "external_library": ExternalLibrary,
    "library_question": Question,
    "library_attachment": LibraryAttachment,
    "response_attachment": ResponseAttachment,
    "libraries": Library,
    "library_categories": Category,
    "dirty_facebook_ratings": DirtyFacebookRating,
}
HOLDS = {
    "c3_libraries": ("libraries", "categories", "questions"),
    "c3_library_categories": ("libraries", "categories", "questions"),
    "c3_library_questions": ("attachments",),
    "c3_library_attachments": (),
}
LED_TO = {
    "libraries": "c3_libraries",
    "categories": "c3_library_categories",
    "questions": "c3_library_questions",
    "attachments": "c3_library_attachments",
}
NAMES = ["x-new", "neu", "_private", "related", "model_config", "key", "href", "0", ""]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ids = st.integers(1, 3).map(str)


@st.composite
def relationships(draw: st.DrawFn, kind: str) -> Any:
    told = {}
    for name in HOLDS[kind]:
        identifier = st.fixed_dictionaries({"type": st.just(LED_TO[name]), "id": ids})
        held = draw(
            st.sampled_from(["absent"])
            | st.none()
            | st.just({})
            | st.fixed_dictionaries({"data": st.none() | identifier | st.lists(identifier, max_size=3)})
        )
        if held != "absent":
            told[name] = held
    return told


@st.composite
def libraries(draw: st.DrawFn) -> Any:
    """A library's document, whose resources lead to each other, to themselves, and to what is not there."""

    def resource(kind: str, number: str) -> Any:
        text = "subject" if kind == "c3_library_questions" else "name"
        made = {"type": kind, "id": number, "attributes": {text: draw(st.none() | st.text(max_size=5))}}
        return made | ({"relationships": draw(relationships(kind))} if draw(st.booleans()) else {})

    others = draw(st.lists(st.tuples(st.sampled_from(sorted(HOLDS)), ids), unique=True, max_size=8))
    included = [resource(kind, number) for kind, number in others if (kind, number) != ("c3_libraries", "1")]
    data = resource("c3_libraries", "1")
    return {"data": [data] if draw(st.booleans()) else data, "included": included or draw(st.sampled_from([None, []]))}


samples = st.sampled_from(sorted(KINDS)).map(
    lambda name: (KINDS[name], json.loads((SAMPLES / f"{name}.response.json").read_bytes()))
)
documents = samples | libraries().map(lambda document: (Library, document))


def read(kind: type[Linked[Any]], document: Any) -> Any:
    reading = read_many if isinstance(document["data"], list) else read_one
    return reading(json.dumps(document).encode(), kind, IN_A_LIBRARY)


def said(document: Any) -> Any:
    """What a document that was read says, as far as anybody knows: each resource, and where it leads."""
    names = ("libraries", "categories", "questions", "attachments")
    return {
        resource.key: (
            known(resource.attributes),
            {
                name: [(other.key, known(other.attributes)) for other in resource.related(name, Linked)]
                for name in names
            },
            {name: [identifier.key for identifier in resource.identifiers(name)] for name in names},
            {other.key for other in resource.reachable(Linked)},
            resource.link(),
        )
        for resource in document
    }


def known(value: Any) -> Any:
    """What a model knows of `value`."""
    if isinstance(value, Document):
        return {name: known(getattr(value, name)) for name in type(value).model_fields}
    return value


def shuffled(value: Any, order: random.Random) -> Any:
    match value:
        case dict():
            members = [(name, shuffled(member, order)) for name, member in value.items()]
            order.shuffle(members)
            return dict(members)
        case list():
            return [shuffled(item, order) for item in value]
        case _:
            return value


def objects(value: Any, within: str = "") -> list[Any]:
    """Every object of a document in which a member that is not known may stand."""
    match value:
        case dict():
            inner = [found for name, member in value.items() for found in objects(member, name)]
            # What stands in `relationships` is a relationship, whatever it is called.
            return inner if within == "relationships" else [value, *inner]
        case list():
            return [found for item in value for found in objects(item)]
        case _:
            return []


@given(documents, st.randoms(use_true_random=False))
def test_the_order_of_members_and_of_what_is_included_tells_nothing(given_document: Any, order: random.Random) -> None:
    kind, document = given_document
    other = shuffled(document, order)
    order.shuffle(other.get("included") or [])
    assert said(read(kind, other)) == said(read(kind, document))
    assert json.loads(read(kind, other).to_json()) == other


@given(documents, st.randoms(use_true_random=False), st.data())
def test_members_that_nobody_knows_survive_and_change_nothing(
    given_document: Any, order: random.Random, data: st.DataObject
) -> None:
    kind, document = given_document
    other = json.loads(json.dumps(document))
    for place in objects(other):
        name = data.draw(st.none() | st.sampled_from(NAMES))
        if name is not None and name not in place:
            place[name] = data.draw(values)
    other = shuffled(other, order)
    assert said(read(kind, other)) == said(read(kind, document))
    assert json.loads(read(kind, other).to_json()) == other

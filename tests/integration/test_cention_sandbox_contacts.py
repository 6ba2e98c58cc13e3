"""Contact cards: upserted as documented, over HTTP; what is refused; that they stay bounded."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.cention.sandbox import Sandbox
from bridge.cention.sandbox.cards import CardFull, Cards
from tests.integration.sandbox_support import Reader, serving


@pytest.fixture
async def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
async def reader(sandbox: Sandbox) -> AsyncIterator[Reader]:
    async with serving(sandbox) as made:
        yield made


async def upsert(reader: Reader, status: int = 201, *, name: str | None = None, **contacts: Any) -> Any:
    beside = {} if name is None else {"name": name}
    body = {"data": {"type": "c3_contact_cards", "attributes": {"contacts": contacts, **beside}}}
    got, answer, _ = await reader.post("c3_contact_cards", body)
    assert got == status, answer
    return answer["data"] if status == 201 else answer["errors"]


async def test_a_contact_that_is_found_gets_what_is_new(reader: Reader, sandbox: Sandbox) -> None:
    first = await upsert(reader, email=["a@x.example"], name="Åsa")
    again = await upsert(reader, voice=["+46701740605"], email=["b@x.example", "A@x.example"])
    assert again["id"] == first["id"] == "13"
    assert again["attributes"]["contacts"] == {
        "name": "Åsa",
        "email": ["a@x.example", "b@x.example"],
        "voice": ["+46701740605"],
    }
    by_voice = await upsert(reader, voice=["+46701740605"], vk=["centionvk-cc-1"])
    assert by_voice["id"] == "13"
    assert by_voice["attributes"]["contacts"]["vk"] == ["centionvk-cc-1"]
    assert len(sandbox.contact_cards) == 1


async def test_no_duplicate_when_all_is_known(reader: Reader) -> None:
    card = await upsert(reader, voice=["+46701740605"], line=["centionline-c1"])
    assert await upsert(reader, voice=["+46701740605"], line=["centionline-c1"]) == card


async def test_another_person_gets_another_card(reader: Reader) -> None:
    assert (await upsert(reader, email=["a@x.example"]))["id"] == "13"
    assert (await upsert(reader, email=["c@x.example"]))["id"] == "14"
    assert (await upsert(reader, facebook=["a@x.example"]))["id"] == "15", "a channel of its own"


async def test_of_two_cards_that_are_found_the_older_is_the_one(reader: Reader) -> None:
    await upsert(reader, email=["a@x.example"])
    await upsert(reader, email=["b@x.example"])
    both = await upsert(reader, email=["b@x.example", "a@x.example"])
    assert (both["id"], both["attributes"]["contacts"]["email"]) == ("13", ["a@x.example", "b@x.example"])


async def test_the_name_is_read_from_either_place_and_kept(reader: Reader) -> None:
    await upsert(reader, voice=["+46701740605"])
    named = await upsert(reader, voice=["+46701740605"], name="beside")
    assert named["attributes"]["contacts"]["name"] == "beside"
    inside = {"contacts": {"voice": ["+46701740606"], "name": "inside"}, "name": "beside"}
    _, answer, _ = await reader.post("c3_contact_cards", {"data": {"type": "c3_contact_cards", "attributes": inside}})
    assert answer["data"]["attributes"]["contacts"]["name"] == "inside"
    again = await upsert(reader, voice=["+46701740606"], name="another")
    assert again["attributes"]["contacts"]["name"] == "inside"


async def test_custom_entries_are_kept_and_identify_nobody(reader: Reader) -> None:
    entry = {"label": "club", "value": "7"}
    await upsert(reader, email=["a@x.example"], custom=[entry])
    again = await upsert(reader, email=["a@x.example"], custom=[entry, {"label": "club", "value": "8"}])
    assert again["attributes"]["contacts"]["custom"] == [entry, {"label": "club", "value": "8"}]
    assert (await upsert(reader, email=["b@x.example"], custom=[entry]))["id"] == "14"


@pytest.mark.parametrize(
    ("contacts", "place"),
    [
        ({}, ""),
        ({"name": "alone"}, ""),
        ({"email": []}, ""),
        ({"custom": [{"label": "a", "value": "b"}]}, ""),
        ({"email": "a@x.example"}, "/email"),
        ({"email": [1]}, "/email/0"),
        ({"email": [""]}, "/email/0"),
        ({"voice": ["46701740605"]}, "/voice/0"),
        ({"voice": ["+46701740605", "+46 70"]}, "/voice/1"),
        ({"email": ["a"], "custom": [{"label": "a"}]}, "/custom/0"),
        ({"email": ["a"], "custom": [{"label": "a", "value": "x", "more": 1}]}, "/custom/0"),
        ({"email": ["x" * 1001]}, "/email/0"),
    ],
    ids=str,
)
async def test_what_is_no_card_is_406(reader: Reader, sandbox: Sandbox, contacts: Any, place: str) -> None:
    errors = await upsert(reader, 406, **contacts)
    assert [error["source"]["pointer"] for error in errors] == [f"/data/attributes/contacts{place}"]
    assert (sandbox.contact_cards, sandbox.arrivals) == ([], [])


async def test_a_card_arrives_and_is_shown_and_forgotten(reader: Reader, sandbox: Sandbox) -> None:
    await upsert(reader, voice=["+46701740605"], name="Åsa")
    assert [arrival.endpoint for arrival in sandbox.arrivals] == ["c3_contact_cards"]
    assert await reader.view("/contacts") == {
        "contacts": [{"id": "13", "name": "Åsa", "contacts": {"voice": ["+46701740605"]}, "custom": []}],
        "next": None,
    }
    await reader.view("/errands", "DELETE", status=204)
    assert (await reader.view("/contacts"))["contacts"] == []
    assert (await upsert(reader, voice=["+46701740605"]))["id"] == "14", "ids are never given twice"


def test_a_list_does_not_grow_without_end() -> None:
    cards = Cards()
    cards.upsert("", {"email": [f"{number}@x.example" for number in range(1000)]})
    with pytest.raises(CardFull, match="email"):
        cards.upsert("", {"email": ["0@x.example", "one-more@x.example"]})
    assert len(cards.newest_first()[0].contacts["email"]) == 1000


def test_what_a_forgotten_card_had_can_be_had_by_another() -> None:
    cards = Cards(cards_max=2)
    for number in range(3):
        cards.upsert("", {"email": [f"{number}@x.example"]})
    assert [card.card_id for card in cards.newest_first()] == [15, 14]
    assert cards.upsert("", {"email": ["0@x.example"]}).card_id == 16
    assert cards.upsert("", {"email": ["2@x.example"]}).card_id == 15

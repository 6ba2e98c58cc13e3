"""Contact cards: what is sent, what is read, and which numbers are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.cention.documents import (
    CONTACT_CARDS,
    ContactCard,
    Contacts,
    CustomContact,
    read_answer,
    request_body,
)

SAMPLES = Path(__file__).parent.parent / "fixtures" / "cention"


def sent(card: ContactCard) -> Any:
    return json.loads(request_body(CONTACT_CARDS, card))


def test_a_card_is_sent_as_the_sample_shows() -> None:
    card = ContactCard.of(
        "Tester Cention", email=["tester.c3@cention.se", "tester.c3.2@cention.se"], facebook=["12345@facebook.com"]
    )
    assert sent(card) == json.loads((SAMPLES / "contact_card.request.json").read_bytes())


def test_every_channel() -> None:
    card = ContactCard.of(
        "Åsa Öberg",
        email=["asa@example.com"],
        facebook=["12345@facebook.com"],
        vk=["centionvk-cc-12345"],
        line=["centionline-c12345"],
        voice=["+46701740605", "+46846500400"],
        custom=[("Customer", "17"), ("Customer", "18")],
    )
    assert sent(card)["data"]["attributes"] == {
        "contacts": {
            "name": "Åsa Öberg",
            "email": ["asa@example.com"],
            "facebook": ["12345@facebook.com"],
            "vk": ["centionvk-cc-12345"],
            "line": ["centionline-c12345"],
            "voice": ["+46701740605", "+46846500400"],
            "custom": [{"label": "Customer", "value": "17"}, {"label": "Customer", "value": "18"}],
        }
    }
    assert list(card.faults()) == []


def test_what_is_not_told_is_not_sent() -> None:
    assert sent(ContactCard.of(voice=iter(["+46701740605"])))["data"] == {
        "type": "c3_contact_cards",
        "attributes": {"contacts": {"voice": ["+46701740605"]}},
    }
    assert ContactCard.of(custom={"Customer": "17"}).contacts == Contacts(
        custom=(CustomContact(label="Customer", value="17"),)
    )


def test_one_text_is_no_list_of_addresses() -> None:
    with pytest.raises(TypeError, match="voice: a list of addresses is wanted"):
        ContactCard.of(voice="+46701740605")


@pytest.mark.parametrize(
    ("attributes", "person"),
    [
        ({"contacts": {"name": "Inside"}}, "Inside"),
        ({"name": "Beside", "contacts": {"email": []}}, "Beside"),
        ({"name": "Beside", "contacts": {"name": "Inside"}}, "Inside"),
        ({"name": "Beside"}, "Beside"),
        ({"contacts": None}, None),
        ({}, None),
    ],
)
def test_the_name_is_read_from_either_place(attributes: Any, person: str | None) -> None:
    document = {"data": {"type": CONTACT_CARDS, "id": "13", "attributes": attributes}}
    read = read_answer(json.dumps(document).encode(), ContactCard)
    if None not in attributes.values():  # a null is left out, as in whatever is sent
        assert json.loads(read.to_json()) == document
    assert read.data is not None
    assert read.data.attributes is not None
    assert read.data.attributes.person == person


@pytest.mark.parametrize(
    "number",
    ["46701740605", "0701740605", "+0701740605", "+", "", "+46 70 174 06 05", "+4670174060512345", "anonymous"],
)
def test_a_voice_number_needs_its_plus(number: str) -> None:
    faults = list(ContactCard.of(voice=["+46701740605", number]).faults())
    assert faults == ["contacts/voice/1: must be E.164, a plus and 1 to 15 digits"]


def test_what_cention_keeps_is_read_whatever_its_numbers() -> None:
    raw = b'{"data": {"attributes": {"contacts": {"voice": ["070-174 06 05"], "custom": null, "telex": ["1"]}}}}'
    read = read_answer(raw, ContactCard).data
    assert read is not None
    assert read.attributes is not None
    assert read.attributes.contacts is not None
    assert read.attributes.contacts.voice == ("070-174 06 05",)


def test_wrong_types_are_refused_without_their_values() -> None:
    for contacts in ({"voice": "+46701740605"}, {"voice": [46701740605]}, {"custom": {"a": "46701740605"}}):
        with pytest.raises(ValidationError) as caught:
            read_answer(json.dumps({"data": {"attributes": {"contacts": contacts}}}).encode(), ContactCard)
        assert "46701740605" not in str(caught.value)

"""Contact cards. Source: Cention API, "Cention Contact Cards JSONAPI"."""

from collections.abc import Iterator
from typing import Any

from aiohttp import web

from bridge.cention.documents.contacts import CHANNELS, CONTACT_CARDS, ContactCard, CustomContact
from bridge.cention.documents.contacts import Contacts as ContactsTold
from bridge.cention.sandbox.asked import Asked, Served, created
from bridge.cention.sandbox.cards import Card, CardFull, Cards
from bridge.cention.sandbox.checks import Refused, checked
from bridge.cention.sandbox.state import State

_LENGTH_MAX = 1000


class Contacts:
    """The endpoint whose token carries the claim "Access and create customer contacts"."""

    def __init__(self, state: State, cards: Cards) -> None:
        self._state, self._cards = state, cards

    def served(self) -> list[Served]:
        """What this part serves."""
        return [Served("POST", f"json/{CONTACT_CARDS}", ("contacts",), self._upsert)]

    def _upsert(self, asked: Asked) -> web.Response:
        told = checked(asked.body, ContactCard)
        contacts = told.contacts or ContactsTold()
        if faults := list(_faults(told, contacts)):
            raise Refused(406, *faults)
        channels = {channel: found for channel in CHANNELS if (found := getattr(contacts, channel))}
        custom = [entry.model_dump(mode="json", exclude_unset=True) for entry in contacts.custom or ()]
        try:
            card = self._cards.upsert(told.person or "", channels, custom)
        except CardFull as full:
            raise Refused(406, (f"/data/attributes/contacts/{full}", "the card would hold too many")) from None
        self._state.contact_card(cut=asked.cut)
        return created(_resource(card))


def _faults(told: ContactCard, contacts: ContactsTold) -> Iterator[tuple[str, str]]:
    at = "/data/attributes"
    if not any(getattr(contacts, channel) for channel in CHANNELS):
        yield f"{at}/contacts", f"must have a contact: one of {', '.join(CHANNELS)}"
    for channel in CHANNELS:
        for index, address in enumerate(getattr(contacts, channel) or ()):
            if not 0 < len(address) <= _LENGTH_MAX:
                yield f"{at}/contacts/{channel}/{index}", f"must have 1 to {_LENGTH_MAX} characters"
    for index, entry in enumerate(contacts.custom or ()):
        if not _usable(entry):
            yield f"{at}/contacts/custom/{index}", f"must have a label and a value, of up to {_LENGTH_MAX} characters"
    if len(told.person or "") > _LENGTH_MAX:
        yield f"{at}/contacts/name", f"must have up to {_LENGTH_MAX} characters"
    for fault in told.faults():
        place, _, wanted = fault.partition(": ")
        yield f"{at}/{place}", wanted


def _usable(entry: CustomContact) -> bool:
    texts = (entry.label, entry.value)
    return not entry.model_extra and all(text is not None and 0 < len(text) <= _LENGTH_MAX for text in texts)


def _resource(card: Card) -> dict[str, Any]:
    contacts = {**({"name": card.name} if card.name else {}), **card.contacts}
    if card.custom:
        contacts["custom"] = card.custom
    attributes = {"c3_id": card.card_id, "contacts": contacts}
    return {"type": CONTACT_CARDS, "id": str(card.card_id), "attributes": attributes}

"""Contact cards: what Cention knows of a person, found by any of the person's addresses.

One model for what is sent and what is read. The name stands inside of `contacts` in the documentation's samples and
beside it in its table: it is sent as the samples have it, and read from either place.

Source: Cention API, "Contact Cards"; notes on Cention's API, "Readings to adopt".
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from bridge.cention.documents.base import Attributes, JsonInteger

CONTACT_CARDS = "c3_contact_cards"
"""Endpoint and resource type. Source: Cention API, "Contact Cards"."""
CHANNELS = ("email", "facebook", "vk", "line", "voice")
"""The lists of addresses that a card has. Source: Cention API, "Contact Cards", `contacts`."""

_VOICE = re.compile(r"\+[1-9][0-9]{0,14}")


class CustomContact(Attributes):
    """An address of a channel that Cention has no member for.

    Source: notes on Cention's API, "Readings to adopt".
    """

    label: str | None = None
    """What kind of address it is."""
    value: str | None = None


class Contacts(Attributes):
    """A person's addresses. Source: Cention API, "Contact Cards", `contacts`."""

    name: str | None = None
    """The person's name, where the samples have it."""
    email: tuple[str, ...] | None = None
    facebook: tuple[str, ...] | None = None
    """Such as `12345@facebook.com`."""
    vk: tuple[str, ...] | None = None
    """VKontakte, such as `centionvk-cc-12345`."""
    line: tuple[str, ...] | None = None
    """Such as `centionline-c12345`."""
    voice: tuple[str, ...] | None = None
    """Telephone numbers with a plus: E.164, unlike `destNumber` and `dialedNumber`."""
    custom: tuple[CustomContact, ...] | None = None


class ContactCard(Attributes):
    """POST `c3_contact_cards`: makes a card, or appends to the one that has any of its addresses already.

    Source: Cention API, "Contact Cards".
    """

    c3_id: JsonInteger | None = None
    """The card's database id, in an answer."""
    name: str | None = None
    """The person's name, where the table has it; `person` reads both places."""
    contacts: Contacts | None = None

    @classmethod
    def of(
        cls,
        name: str | None = None,
        *,
        email: Iterable[str] = (),
        facebook: Iterable[str] = (),
        vk: Iterable[str] = (),
        line: Iterable[str] = (),
        voice: Iterable[str] = (),
        custom: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> Self:
        """A card to be sent.

        Args:
            name: the person's name.
            email: addresses.
            facebook: accounts, such as `12345@facebook.com`.
            vk: accounts, such as `centionvk-cc-12345`.
            line: accounts, such as `centionline-c12345`.
            voice: telephone numbers with a plus, E.164.
            custom: a label and a value each; a label may stand for several values where pairs are given.

        Raises:
            TypeError: one text is given in place of several.
        """
        lists = {"email": email, "facebook": facebook, "vk": vk, "line": line, "voice": voice}
        if single := [channel for channel, addresses in lists.items() if isinstance(addresses, str)]:
            raise TypeError(f"{', '.join(single)}: a list of addresses is wanted, not one text")
        pairs = custom.items() if isinstance(custom, Mapping) else custom
        contacts = Contacts(
            name=name,
            **{channel: found for channel, addresses in lists.items() if (found := tuple(addresses))},
            custom=tuple(CustomContact(label=label, value=value) for label, value in pairs) or None,
        )
        return cls(contacts=contacts)

    @property
    def person(self) -> str | None:
        """The person's name, from wherever it stands."""
        inside = self.contacts.name if self.contacts is not None else None
        return self.name if inside is None else inside

    def faults(self) -> Iterator[str]:
        """What makes the card unfit to be sent, without the values: each fault's place, and what belongs there."""
        for place, number in enumerate((self.contacts.voice if self.contacts is not None else None) or ()):
            if not _VOICE.fullmatch(number):
                yield f"contacts/voice/{place}: must be E.164, a plus and 1 to 15 digits"

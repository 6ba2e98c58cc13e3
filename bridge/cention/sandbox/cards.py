"""Contact cards that the sandbox keeps: upserted as Cention documents it. Knows no HTTP.

Invariants:
- A card that has any of the contacts told is the one: what is told is appended to it, nothing of it is lost, and no
  value stands in one list twice. Where several have one, the oldest card is the one.
- Bounded: so many cards, so many bytes; the card that was made first is forgotten first. Ids are never given twice.

What the documentation leaves open is a guess here: that addresses are compared without regard to case, that `custom`
entries and the name identify nobody, and that a card keeps the name that it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.cention.sandbox.bounded import Bounded

FIRST_CARD_ID = 13
"""The id in the documentation's sample."""

_CARDS_MAX = 100_000
_CARDS_BYTES_MAX = 64 * 2**20
_ENTRIES_MAX = 1000  # of one list of one card

Contact = tuple[str, str]  # the channel and the address, as they are compared


@dataclass(slots=True)
class Card:
    """A contact card.

    Attributes:
        contacts: for each channel that it has, the addresses in the order in which they were told.
        custom: `{label, value}` each, and what else came with them.
    """

    card_id: int
    name: str = ""
    contacts: dict[str, list[str]] = field(default_factory=dict)
    custom: list[Any] = field(default_factory=list)

    @property
    def size(self) -> int:
        told = sum(len(address) + 64 for addresses in self.contacts.values() for address in addresses)
        return len(self.name) + told + sum(len(str(entry)) for entry in self.custom)

    def identities(self) -> list[Contact]:
        return [_key(channel, address) for channel, addresses in self.contacts.items() for address in addresses]


class CardFull(Exception):
    """A list of the card would grow over what is kept of one. The text names the list."""


class Cards:
    """See the module's docstring."""

    def __init__(self, *, cards_max: int = _CARDS_MAX) -> None:
        self._cards: Bounded[int, Card] = Bounded(count_max=cards_max, size_max=_CARDS_BYTES_MAX)
        self._known: dict[Contact, int] = {}
        self._next_id = FIRST_CARD_ID

    def __len__(self) -> int:
        return len(self._cards)

    def upsert(self, name: str, contacts: Mapping[str, Sequence[str]], custom: Sequence[Any] = ()) -> Card:
        """Appends what is told to the card that has any of it, or makes a card.

        Raises:
            CardFull: nothing was changed.
        """
        told = [_key(channel, address) for channel, addresses in contacts.items() for address in addresses]
        found = min((number for key in told if (number := self._known.get(key)) is not None), default=None)
        card = None if found is None else self._cards.get(found)
        for name_of, more in (*contacts.items(), ("custom", custom)):
            has_now = () if card is None else card.custom if name_of == "custom" else card.contacts.get(name_of, ())
            if len(has_now) + len(more) > _ENTRIES_MAX:
                raise CardFull(name_of)
        if card is None:
            card = Card(self._next_id)
            self._next_id += 1
        card.name = card.name or name
        for channel, addresses in contacts.items():
            kept = card.contacts.setdefault(channel, [])
            has = {_key(channel, address) for address in kept}
            for address in addresses:
                if (key := _key(channel, address)) not in has:
                    has.add(key)
                    kept.append(address)
                    self._known.setdefault(key, card.card_id)
        card.custom.extend(entry for entry in custom if entry not in card.custom)
        for gone in self._cards.put(card.card_id, card, card.size):
            for key in gone.identities():
                if self._known.get(key) == gone.card_id:
                    del self._known[key]
        return card

    def newest_first(self) -> list[Card]:
        return list(reversed(self._cards))

    def clear(self) -> None:
        """Forgets all cards."""
        self._cards.clear()
        self._known.clear()


def _key(channel: str, address: str) -> Contact:
    return channel, address.casefold()

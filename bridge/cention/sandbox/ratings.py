"""Facebook ratings that the sandbox was given, and which of them have changed.

Invariants: a rating is dirty from when it is given until it is read; bounded, the oldest forgotten first.
"""

from typing import Any

from bridge.cention.sandbox.bounded import Bounded
from bridge.cention.sandbox.data import Rating

_RATINGS_MAX = 100_000
_RATINGS_BYTES_MAX = 16 * 2**20


class Ratings:
    """See the module's docstring."""

    def __init__(self, given: tuple[Rating, ...]) -> None:
        self._ratings: Bounded[int, Rating] = Bounded(count_max=_RATINGS_MAX, size_max=_RATINGS_BYTES_MAX)
        self._dirty: dict[int, None] = {}  # in the order in which they became so
        self.replace(given)

    def replace(self, given: tuple[Rating, ...]) -> None:
        """Puts `given` in place of all others."""
        self._ratings.clear()
        self._dirty.clear()
        for rating in given:
            self.add(rating)

    def add(self, rating: Rating) -> None:
        """Adds a rating, or one in place of that with the same id; it has changed then."""
        size = len(rating.model_dump_json())
        for gone in self._ratings.put(rating.rating_id, rating, size):
            self._dirty.pop(gone.rating_id, None)
        self._dirty[rating.rating_id] = None

    def read(self, number: int) -> tuple[Rating, bool] | None:
        """A rating and whether it was dirty, which it is no longer; None where there is none with this id."""
        if (rating := self._ratings.get(number)) is None:
            return None
        was_dirty = number in self._dirty
        self._dirty.pop(number, None)
        return rating, was_dirty

    def dirty(self) -> list[int]:
        """The ids of the ratings that have changed, the longest changed first."""
        return list(self._dirty)

    def all(self) -> list[Rating]:
        """All, the longest known first."""
        return list(self._ratings)


def shown(rating: Rating, *, changed: bool) -> dict[str, Any]:
    """A rating as Cention tells it. `isChanged` is not explained; it is read as the report's `changed`."""
    return {**rating.model_dump(by_alias=True), "isChanged": changed}

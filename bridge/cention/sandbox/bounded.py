"""A store that forgets its oldest when it holds too much. Pure.

Invariant: at most `count_max` entries of at most `size_max` bytes together, but the newest entry is always there.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """See the module's docstring. An entry's size is what its owner says it is."""

    def __init__(self, *, count_max: int, size_max: int) -> None:
        self._count_max, self._size_max = count_max, size_max
        self._entries: dict[K, tuple[V, int]] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[V]:
        """Oldest first."""
        return (value for value, _ in self._entries.values())

    def __reversed__(self) -> Iterator[V]:
        """Newest first."""
        return (value for value, _ in reversed(self._entries.values()))

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def put(self, key: K, value: V, size: int) -> list[V]:
        """Adds or replaces an entry; a replaced one keeps its place.

        Returns:
            What was forgotten for it, oldest first.
        """
        self._size += size - self._entries.get(key, (None, 0))[1]
        self._entries[key] = (value, size)
        dropped = []
        while len(self._entries) > 1 and (len(self._entries) > self._count_max or self._size > self._size_max):
            oldest = next(one for one in self._entries if one != key)
            gone, its_size = self._entries.pop(oldest)
            self._size -= its_size
            dropped.append(gone)
        return dropped

    def clear(self) -> None:
        self._entries.clear()
        self._size = 0

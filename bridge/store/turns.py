"""Whose turn it is to reconcile, and how far that came: what replicas share of it. Knows nothing of what is compared.

Invariant: a turn has one holder at a time, and ends by itself.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from bridge.store.connection import Connection
from bridge.store.keys import Keys
from bridge.store.reads import Position


@dataclass(frozen=True, slots=True)
class Progress:
    """How far reconciliation came.

    Attributes:
        place: the part that is being gone through and the position in it that is done; None: at the beginning.
        counting: what this round has found so far, by kind.
        counted: what the last whole round found, by kind; empty before the first.
    """

    place: tuple[str, Position] | None = None
    counting: dict[str, int] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)


class Turns:
    """Every method raises `StoreUnavailable` when Redis is away."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._run, self._keys = connection.run, keys

    async def take(self, holder: str, turn_ms: int) -> bool:
        """Whether the turn that begins now is `holder`'s: nobody had one within the last `turn_ms`."""
        (taken,) = await self._run(("SET", self._keys.reconcile_turn(), holder, "NX", "PX", turn_ms))
        return taken is not None

    async def progress(self) -> Progress:
        """How far reconciliation came; from the beginning, where nothing readable is kept."""
        (raw,) = await self._run(("HGET", self._keys.reconcile(), "progress"))
        return Progress() if raw is None else _progress(raw)

    async def keep(self, progress: Progress) -> None:
        """Keeps how far it came, for the next turn, whoever has it."""
        await self._run(("HSET", self._keys.reconcile(), "progress", orjson.dumps(asdict(progress))))


def _progress(raw: bytes | str) -> Progress:
    data: dict[str, Any] = orjson.loads(raw)
    place = data.get("place")
    return Progress(
        None if place is None else (str(place[0]), (int(place[1][0]), str(place[1][1]))),
        dict(data.get("counting", {})),
        dict(data.get("counted", {})),
    )

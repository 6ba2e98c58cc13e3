"""Events that were refused, kept for an operator: a stream bounded by count and age."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson

from bridge.calls.verdicts import Rejection
from bridge.runtime.clock import now_ms, rfc3339
from bridge.store.connection import Connection
from bridge.store.keys import Keys


class RejectionStore:
    """Keeps rejections. Every method raises `StoreUnavailable` when Redis is away."""

    def __init__(self, connection: Connection, keys: Keys, *, count_max: int, age_s_max: int) -> None:
        self._run, self._key = connection.run, keys.rejections()
        self._count_max, self._age_ms_max = count_max, age_s_max * 1000

    async def keep(self, rejections: Sequence[Rejection]) -> None:
        """Adds `rejections`, and lets go of those too old or too many."""
        if rejections:
            added = [
                ("XADD", self._key, "MAXLEN", "~", self._count_max, "*", "rejection", orjson.dumps(asdict(rejection)))
                for rejection in rejections
            ]
            # Exactly, and the last with its key: what is kept is a person's number and name, however little there is.
            await self._run(
                *added, ("XTRIM", self._key, "MINID", self._oldest()), ("PEXPIRE", self._key, self._age_ms_max)
            )

    async def newest(self, limit: int, before: str | None = None) -> list[dict[str, Any]]:
        """Up to `limit` rejections, newest first, each with its `id` and `at`; only those before the id `before`."""
        (entries,) = await self._run(
            ("XREVRANGE", self._key, f"({before}" if before else "+", self._oldest(), "COUNT", limit),
        )
        return [
            {"id": entry_id, "at": rfc3339(int(entry_id.split("-")[0])), **orjson.loads(_field(values, "rejection"))}
            for entry_id, values in entries
        ]

    def _oldest(self) -> int:
        return now_ms() - self._age_ms_max


def _field(values: Any, name: str) -> str:
    """One field of a stream entry, which comes as a flat list (RESP2) or a map (RESP3)."""
    flat: dict[str, str] = values if isinstance(values, dict) else dict(zip(values[::2], values[1::2], strict=True))
    return flat[name]

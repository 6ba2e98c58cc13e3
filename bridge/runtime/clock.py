"""The only owner of the wall clock. Times are aware UTC; milliseconds where they are stored or compared."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The time, aware, UTC."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Milliseconds since 1970-01-01T00:00:00Z."""
    return time.time_ns() // 1_000_000


monotonic = time.monotonic
"""Seconds on a clock that never goes back; only differences mean anything."""


def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC, with milliseconds: `2026-11-24T10:15:30.250Z`."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

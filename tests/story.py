"""Reads the traces of `tests/traces` (its README.md says what stands in them)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from bridge.calls.events import Pair

TRACES = sorted((Path(__file__).parent / "traces").glob("*.yaml"))


@dataclass(frozen=True)
class Step:
    """One event (as JSON of contract section 1), or one timer that runs out; and what Cention is told of it."""

    event: Mapping[str, Any] | None
    expire: tuple[Pair, str] | None
    tells: tuple[str, ...]


@dataclass(frozen=True)
class Trace:
    name: str
    policy: Mapping[str, Any]
    steps: tuple[Step, ...]
    active: Mapping[str, list[str]]

    @property
    def tells(self) -> tuple[str, ...]:
        return tuple(told for step in self.steps for told in step.tells)


def read(path: Path, *, start: datetime | None = None, run: str = "t") -> Trace:
    """The trace at `path`, its times counted from `start`, its event and call ids made unique by `run`."""
    start = start or datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = []
    for number, step in enumerate(raw["steps"], 1):
        tells = tuple(step.pop("tells", ()))
        if "expire" in step:
            pair, call = step["expire"].split()
            steps.append(Step(None, (_pair(pair), call), tells))
            continue
        pair = _pair(step.pop("pair"))
        event = {
            "eventId": f"{run}-{path.stem}-{step.pop('id', number)}",
            "type": f"call.{step.pop('e')}",
            "occurredAt": (start + timedelta(seconds=step.pop("at"))).isoformat(),
            "callId": step.pop("call"),
            "deviceId": pair.device_id,
            "extensionId": pair.extension_id,
            **step,
        }
        steps.append(Step(event, None, tells))
    return Trace(path.stem, raw.get("policy", {}), tuple(steps), raw["active"])


def _pair(text: str) -> Pair:
    device_id, extension_id = text.split("/")
    return Pair(int(device_id), int(extension_id))

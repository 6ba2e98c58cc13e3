"""One run: a subject, a sink and a load, each a process, and what came of it, event by event.

A run counts what reached the sink: from the first request to the last arrival. What was accepted and never arrived is
told as lost and makes the run worthless.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.speed.children import Child, spent
from benchmarks.speed.events import steps
from benchmarks.speed.load import Plan
from benchmarks.speed.subjects import Starter, Subject
from bridge.runtime.clock import monotonic

CALLS_MAX = 2_000_000
"""Calls of one plan, so that each plan has agents of its own."""
STALL_S = 20.0
"""Nothing arrives for so long: it is over."""


class Failed(Exception):
    """A run that shows nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of one plan.

    Attributes:
        events: how many were sent, and accepted.
        accept_s: from the first request to the last answer.
        arrive_s: from the first request to the last arrival at the sink.
        doubled: arrivals beyond the first of an event.
        cpu_s: by role.
        due, sent, answered: seconds on the monotonic clock, an event each.
        arrived: likewise, the first arrival of each event.
    """

    events: int
    accept_s: float
    arrive_s: float
    doubled: int
    cpu_s: dict[str, float]
    due: Sequence[float]
    sent: Sequence[float]
    answered: Sequence[float]
    arrived: Sequence[float]

    def figures(self) -> dict[str, Any]:
        """What is kept of it."""
        return {
            "events": self.events,
            "accepted_per_s": self.events / self.accept_s,
            "delivered_per_s": self.events / self.arrive_s,
            "doubled": self.doubled,
            "cpu_us_per_event": {role: used / self.events * 1e6 for role, used in self.cpu_s.items()},
        }


class Stage:
    """A subject at work, to which plans can be played one after the other."""

    def __init__(self, subject: Subject, sink: Child) -> None:
        self.subject, self.sink = subject, sink
        self._played = 0

    async def play(self, plan: Plan, *, exact: bool = False) -> Played:
        """Plays `plan` and waits for all of its messages.

        Args:
            plan: what to play; its `ports`, `run` and `first` are seen to here.
            exact: a load whose timers are good to microseconds.

        Raises:
            Failed: an event was refused, or never arrived.
        """
        self._played += 1
        plan = replace(plan, ports=self.subject.ports, run=f"run{self._played}", first=self._played * CALLS_MAX)
        async with await Child.module("load", *(["--exact"] if exact else [])) as load:
            await load.ask("prepare", **asdict(plan))
            pids = {**self.subject.pids, "sink": [self.sink.pid], "load": [load.pid]}
            before = spent({}, pids)
            told = await load.ask("go")
            if told["refused"]:
                raise Failed(f"{self.subject.name} refused: {told['refused']}\n" + "\n".join(self.subject.log()))
            await self._all_arrived(_events_sent(plan, told))
            used = spent(before, pids)
        return compared(plan, told, await self.sink.ask("take"), used)

    async def _all_arrived(self, number: int) -> None:
        count, changed = -1, monotonic()
        while True:
            now_there = await self.sink.ask("count")
            if now_there >= number:
                return
            if now_there != count:
                count, changed = now_there, monotonic()
            elif monotonic() - changed > STALL_S:
                said = "\n".join(self.subject.log())
                raise Failed(f"{self.subject.name}: only {count} of {number} messages arrived\n{said}")
            await asyncio.sleep(0.02)


def _events_sent(plan: Plan, told: dict[str, Any]) -> int:
    total = plan.calls * (2 if plan.ends else 1)
    return min(total, len(told["sent"]) * plan.batch)


def compared(
    plan: Plan, told: dict[str, Any], arrivals: Sequence[tuple[float, str, bool]], used: dict[str, float]
) -> Played:
    """What came of `plan`, by what the load and the sink tell.

    Raises:
        Failed: an event never arrived.
    """
    first: dict[tuple[str, bool], float] = {}
    for at, call, ended in arrivals:
        first.setdefault((call, ended), at)
    arrived = []
    places = [step for step in steps(plan.calls, plan.active) if plan.ends or not step.ended]
    for step in places[: _events_sent(plan, told)]:
        at_sink = first.get((f"{plan.run}-{step.call}", step.ended))
        if at_sink is None:
            raise Failed(f"{'the end' if step.ended else 'the start'} of call {step.call} never arrived")
        arrived.append(at_sink)
    due, sent, answered = (
        [told[name][place // plan.batch] for place in range(len(arrived))] for name in ("due", "sent", "answered")
    )
    began, doubled = min(sent), len(arrivals) - len(first)
    accept_s, arrive_s = max(answered) - began, max(arrived) - began
    return Played(len(arrived), accept_s, arrive_s, doubled, used, due, sent, answered, arrived)


@asynccontextmanager
async def staged(start: Starter) -> AsyncIterator[Stage]:
    """A sink and a subject, in a directory that goes with them."""
    directory = Path(tempfile.mkdtemp(prefix="speed-"))
    try:
        async with await Child.module("sink") as sink:
            port = (await sink.hear())["port"]
            async with start(directory, port) as subject:
                yield Stage(subject, sink)
    finally:
        shutil.rmtree(directory, ignore_errors=True)

"""What is lost, doubled and out of order when the subject's process is killed once, in the middle of the load.

The sender does what one should: an event leaves when the call's earlier one was accepted, and is sent again until it is
accepted. Somebody starts the process again at once. Then it is waited until nothing more arrives.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.speed.children import Child
from benchmarks.speed.load import Plan
from benchmarks.speed.runs import Stage
from bridge.runtime.clock import monotonic

QUIET_S = 25.0
"""Longer than what any subject here waits before it takes up what a killed process had under way."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What one kill did to events that had been accepted.

    Attributes:
        events: how many, all accepted.
        lost: never arrived.
        doubled: arrivals beyond the first of an event.
        inverted: calls whose end arrived before their start.
        whole_s: from the kill to the last first arrival.
    """

    events: int
    lost: int
    doubled: int
    inverted: int
    whole_s: float


async def one_kill(stage: Stage, calls: int, connections: int) -> Damage:
    """Plays `calls` calls and kills the subject when a third of their messages have arrived."""
    assert stage.subject.kill is not None, "can be killed"
    plan = Plan(
        calls, stage.subject.ports, "kill", active=0, connections=connections, paired=True, insist=True
    )  # fmt: skip
    await stage.sink.ask("take")
    async with await Child.module("load") as load:
        await load.ask("prepare", **asdict(plan))
        playing = asyncio.get_running_loop().create_task(load.ask("go"))
        await _until(stage.sink, 2 * calls // 3)
        killed_at = monotonic()
        await stage.subject.kill()
        await playing
        await _until(stage.sink, 10 * calls)
    return damage(2 * calls, await stage.sink.ask("take"), killed_at)


async def _until(sink: Child, number: int) -> None:
    """Waits for so many arrivals, or until there were none for a while."""
    count, changed = -1, monotonic()
    while (there := await sink.ask("count")) < number:
        if there != count:
            count, changed = there, monotonic()
        elif monotonic() - changed > QUIET_S:
            return
        await asyncio.sleep(0.05)


def damage(events: int, arrivals: Sequence[tuple[float, str, bool]], killed_at: float) -> Damage:
    """Compares what arrived with what was accepted, all of which is each call's start and end."""
    first: dict[tuple[str, bool], float] = {}
    for at, call, ended in arrivals:
        first.setdefault((call, ended), at)
    ends: dict[str, Any] = {call: at for (call, ended), at in first.items() if ended}
    inverted = sum(1 for call, at in ends.items() if first.get((call, False), 0.0) > at)
    last = max(first.values(), default=killed_at)
    return Damage(events, events - len(first), len(arrivals) - len(first), inverted, max(0.0, last - killed_at))

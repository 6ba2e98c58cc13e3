"""How fast a backlog drains: messages that were held back, and a bridge with default settings started on them.

They are held back by `delivery.rate_per_s` and not by an outage: after that, how long the last attempts had been put
off would count, and not how fast the bridge is.
"""

import asyncio
import shutil
import signal
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.faults.processes import Fleet
from benchmarks.speed.children import Child, cpu_s, memory_mb
from benchmarks.speed.load import Plan
from benchmarks.speed.runs import STALL_S, Failed
from benchmarks.speed.subjects import bridge_settings
from bridge.runtime.clock import monotonic
from bridge.store.embedded import EmbeddedRedis

HELD_PER_S = 0.001
PART = 20_000


async def drained(messages: int) -> dict[str, Any]:
    """Commits `messages` calls' starts, each at a pair of its own, and lets them go."""
    directory = Path(tempfile.mkdtemp(prefix="speed-"))
    try:
        async with EmbeddedRedis(directory / "redis") as server, await Child.module("sink") as sink:
            port, held = (await sink.hear())["port"], {"delivery__rate_per_s": HELD_PER_S}
            fleet = Fleet(directory, lambda slot: bridge_settings(directory, slot, server.url, port) | held)
            try:
                running = await fleet.start(0)
                began = monotonic()
                await _commit(messages, int(running.intake_url.rpartition(":")[2]))
                commit_s = monotonic() - began
                await running.end(signal.SIGTERM)
                early = await sink.ask("count")
                await sink.ask("take")
                held.clear()
                running = await fleet.start(0)
                began, used = monotonic(), cpu_s(running.pid)
                largest = await _arrived(sink, messages - early, running.pid)
                used = cpu_s(running.pid) - used
                took = max(at for at, _, _ in await sink.ask("take")) - began
            finally:
                await fleet.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return {
        "messages": messages,
        "committed_per_s": messages / commit_s,
        "drained_s": took,
        "drained_per_s": (messages - early) / took,
        "cpu_us_per_message": used / (messages - early) * 1e6,
        "bridge_mb": largest,
    }


async def _commit(messages: int, port: int) -> None:
    for first in range(0, messages, PART):
        plan = Plan(min(PART, messages - first), [port], f"backlog{first}", first, ends=False, connections=4, batch=200)
        async with await Child.module("load") as load:
            await load.ask("prepare", **asdict(plan))
            if refused := (await load.ask("go"))["refused"]:
                raise Failed(f"refused: {refused}")


async def _arrived(sink: Child, messages: int, pid: int) -> float:
    """Waits for so many, and returns the most memory that `pid` had meanwhile, MB."""
    count, changed, largest = -1, monotonic(), 0.0
    while True:
        largest = max(largest, memory_mb(pid))
        there = await sink.ask("count")
        if there >= messages:
            return largest
        if there != count:
            count, changed = there, monotonic()
        elif monotonic() - changed > STALL_S:
            raise Failed(f"only {there} of {messages} messages arrived")
        await asyncio.sleep(0.05)

"""`growth`: what becomes of speed and memory with more active calls, and of a backlog.

Calls: one bridge is filled up step by step, through its intake; at each size come throughput at full, and the time to
the 202 at a steady rate. Backlog: messages are held back until all are committed, then a bridge with default settings
is started on them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from redis.asyncio import Redis

from benchmarks.speed.children import memory_mb
from benchmarks.speed.figures import percentile, spread
from benchmarks.speed.growth_backlog import drained
from benchmarks.speed.load import Plan
from benchmarks.speed.memory import by_kind, quiet, used_memory
from benchmarks.speed.output import begin, console, finish, json_option, rounds_option, run, table
from benchmarks.speed.runs import Stage, staged
from benchmarks.speed.subjects import bridge

FILL_BATCH, FILL_CONNECTIONS = 200, 4
FILL_PART = 20_000
"""Calls of one step of filling: the prepared requests and what is kept of them stay small."""


@dataclass(frozen=True)
class Options:
    """What the command was given; see its options."""

    rounds: int = 3
    sizes: Sequence[int] = (1000, 100_000, 1_000_000)
    backlog: int = 100_000
    events: int = 10_000
    rate: float = 500.0
    seconds: float = 8.0


async def at_sizes(options: Options) -> list[dict[str, Any]]:
    """One row a size, smallest first."""
    rows: list[dict[str, Any]] = []
    async with staged(bridge()) as stage, Redis.from_url(stage.subject.redis_url) as redis:
        await stage.play(Plan(1000, active=200))
        there = 0
        for size in sorted(options.sizes):
            before, kinds_before = await used_memory(redis), await by_kind(redis)
            filled_s = await fill(stage, size - there)
            added, there = size - there, size
            await quiet(redis)
            after, kinds = await used_memory(redis), await by_kind(redis)
            row: dict[str, Any] = {
                "active_calls": size,
                "fill_per_s": added / filled_s,
                "bytes_per_call": (after - before) / added,
                "bytes_per_call_by_kind": {
                    kind: (told["bytes"] - kinds_before.get(kind, {"bytes": 0})["bytes"]) / added
                    for kind, told in kinds.items()
                },
                "redis_mb": after / 1e6,
                "bridge_mb": memory_mb(stage.subject.pids["subject"][0]),
            }
            rows.append(row | await speed(stage, options))
            console.print(
                f"{size:9,} active calls: {row['bytes_per_call']:,.0f} bytes of Redis a call;"
                f" filled at {row['fill_per_s']:,.0f}/s; " + shown(rows[-1])
            )
    return rows


async def fill(stage: Stage, calls: int) -> float:
    """Lets `calls` calls start, and returns the seconds until Cention was told of all."""
    took = 0.0
    while calls > 0:
        part = min(calls, FILL_PART)
        plan = Plan(part, ends=False, batch=FILL_BATCH, connections=FILL_CONNECTIONS)
        took += (await stage.play(plan)).arrive_s
        calls -= part
    return took


async def speed(stage: Stage, options: Options) -> dict[str, Any]:
    """Throughput at full, and the 202's percentiles at a steady rate, of calls that come and go."""
    delivered, accepted, cpu, redis_cpu, p50, p99 = [], [], [], [], [], []
    for _ in range(options.rounds):
        full = (await stage.play(Plan(options.events // 2, active=500))).figures()
        delivered.append(full["delivered_per_s"])
        accepted.append(full["accepted_per_s"])
        cpu.append(full["cpu_us_per_event"]["subject"])
        redis_cpu.append(full["cpu_us_per_event"]["redis"])
        if options.rate:
            steady = Plan(round(options.rate * options.seconds / 2), active=500, rate=options.rate)
            played = await stage.play(steady, exact=True)
            waits = sorted(at - due for due, at in zip(played.due, played.answered, strict=True))
            p50.append(percentile(waits, 50) * 1000)
            p99.append(percentile(waits, 99) * 1000)
    told = {"delivered_per_s": spread(delivered), "accepted_per_s": spread(accepted), "cpu_us": spread(cpu)}
    told["redis_cpu_us"] = spread(redis_cpu)
    return told | ({"accept_p50_ms": spread(p50), "accept_p99_ms": spread(p99)} if p50 else {})


def shown(row: dict[str, Any]) -> str:
    texts = [f"{row['delivered_per_s'].text(0)}/s delivered", f"{row['cpu_us'].text(0)} µs CPU/event"]
    texts.append(f"{row['redis_cpu_us'].text(0)} µs of Redis'")
    if "accept_p99_ms" in row:
        texts.append(f"202 after {row['accept_p50_ms'].text(1)} ms p50, {row['accept_p99_ms'].text(1)} ms p99")
    return ", ".join(texts)


@click.command()
@rounds_option
@click.option("--size", "sizes", type=int, multiple=True, default=[1000, 100_000, 1_000_000],
              help="Active calls; may be repeated. 0: leave this out.")  # fmt: skip
@click.option("--backlog", type=click.IntRange(0), default=100_000, help="Messages of the backlog; 0: none.")
@click.option("--events", type=click.IntRange(2), default=10_000, help="Of one round at full.")
@click.option("--rate", type=float, default=500.0, help="Events a second for the time to the 202.")
@click.option("--seconds", type=float, default=8.0, help="How long that lasts.")
@json_option
def growth(file: Path | None, **given: Any) -> None:
    """Speed and memory with more calls, and a backlog."""
    options = Options(**given)
    result = begin("growth", asdict(options))
    if all(options.sizes):
        result["sizes"] = rows = run(at_sizes(options))
        result["least_to_most"] = against = {
            name: rows[0][name].median / rows[-1][name].median for name in ("delivered_per_s", "accepted_per_s")
        }
        against |= {
            name: rows[-1][name].median / rows[0][name].median
            for name in ("cpu_us", "redis_cpu_us", "accept_p50_ms", "accept_p99_ms")
            if name in rows[0]
        }
        console.print("from the least to the most active calls, so many times as costly:")
        console.print(", ".join(f"{name} {ratio:.2f}" for name, ratio in against.items()))
        console.print(_kinds(rows))
    if options.backlog:
        result["backlog"] = told = run(drained(options.backlog))
        console.print(f"backlog of {told['messages']:,}: " + ", ".join(f"{k} {v:,.1f}" for k, v in told.items()))
    finish(file, result)


def _kinds(rows: Sequence[dict[str, Any]]) -> Any:
    made = table("bytes of Redis an active call", *(f"to {row['active_calls']:,}" for row in rows))
    kinds = [kind for kind, weight in rows[-1]["bytes_per_call_by_kind"].items() if abs(weight) >= 1]
    for kind in kinds:
        made.add_row(kind, *(f"{row['bytes_per_call_by_kind'].get(kind, 0.0):,.0f}" for row in rows))
    made.add_row("all, by used_memory", *(f"{row['bytes_per_call']:,.0f}" for row in rows))
    return made

"""`replicas`: what several bridges on one Redis are worth, and how much of that is owed to the machine.

The same load shared out over more replicas. A machine that has too few cores for them is no faster by them, so what
counts is CPU time an event, all replicas together. But there it costs more, too, to run so many processes, whatever
they have to do with each other. So as many bridges play the same load that are strangers: each has its calls to itself,
and a database of its own on the same redis-server. What replicas take beyond these is what they owe each other: most
of it where an event comes to any of them, and little where all of an agent's come to one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.speed.figures import ratios, spread
from benchmarks.speed.load import Plan
from benchmarks.speed.output import begin, console, finish, json_option, rounds_option, run, table
from benchmarks.speed.runs import staged
from benchmarks.speed.subjects import Starter, bridge

CASES = {
    "one": "one bridge",
    "any": "replicas, an event to any of them",
    "kept": "replicas, an agent's events to one of them",
    "strangers": "strangers",
}
AGENTS = 2000
"""They take one call after the other, so that what a replica remembers of an agent may be out of date. Any number of
bridges that divides them, as 2 and 4 do, can have all of an agent's events at one."""


async def compared(number: int, rounds: int, events: int) -> dict[str, Any]:
    """What came of one bridge, of `number` replicas in both cases, and of `number` strangers, in turns.

    Args:
        number: of replicas; 2 or more.
        rounds: how often each is run.
        events: of one run.
    """
    warm_up, full = Plan(500 * number, active=200, agents=AGENTS), Plan(events // 2, active=500, agents=AGENTS)
    cases: list[tuple[str, Starter]] = [
        ("one", bridge()),
        ("any", bridge(number)),
        ("kept", bridge(number)),
        ("strangers", bridge(number, strangers=True)),
    ]
    played: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in cases}
    for _ in range(rounds):
        for name, starter in cases:
            async with staged(starter) as stage:  # afresh: what a process once has of a machine's caches, it keeps
                await stage.play(apart(warm_up, name))
                played[name].append((await stage.play(apart(full, name))).figures())
        cases.reverse()
    return {"number": number, **figures(number, played)}


def apart(plan: Plan, name: str) -> Plan:
    """`plan`, with all that becomes of an agent at one of the bridges, where that is the case."""
    return replace(plan, apart=name in ("kept", "strangers"))


def figures(number: int, played: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What is kept of the runs of each case; see `compared`."""
    cpu = {name: [one["cpu_us_per_event"]["subject"] for one in runs] for name, runs in played.items()}
    told: dict[str, Any] = {
        name: {
            "delivered_per_s": spread([one["delivered_per_s"] for one in runs]),
            "cpu_us": spread(cpu[name]),
            "redis_cpu_us": spread([one["cpu_us_per_event"]["redis"] for one in runs]),
        }
        for name, runs in played.items()
    }
    for name in ("any", "kept"):
        for worth, to in (("as_so_many", "one"), ("as_so_many_to_strangers", "strangers")):
            told[name][worth] = ratios([number * used for used in cpu[to]], cpu[name])
    return told


@click.command()
@rounds_option
@click.option("--replicas", "numbers", type=click.IntRange(2), multiple=True, default=[2, 4], help="May be repeated.")
@click.option("--events", type=click.IntRange(2), default=10_000, help="Of one run.")
@json_option
def replicas(file: Path | None, rounds: int, numbers: Sequence[int], events: int) -> None:
    """What replicas are worth, by CPU time an event, to one bridge and to strangers."""
    result = begin("replicas", {"rounds": rounds, "replicas": numbers, "events": events})
    result["rows"] = rows = [run(compared(number, rounds, events)) for number in numbers]
    shown = table("", "delivered/s", "CPU µs an event", "of Redis", "as so many", "to strangers")
    for row in rows:
        for name, words in CASES.items():
            told = row[name]
            cells = [told["delivered_per_s"].text(0), told["cpu_us"].text(0), told["redis_cpu_us"].text(0)]
            cells += [told[worth].text() for worth in ("as_so_many", "as_so_many_to_strangers") if worth in told]
            shown.add_row(words if name == "one" else f"{row['number']} {words}", *cells)
    console.print(shown)
    finish(file, result)

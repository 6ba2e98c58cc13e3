"""`throughput`: how many events a second go all the way, closed loop at full, against the bare relay.

Each round runs every case once, relay and bridge in turn and the other way round in the next: what else the machine
does then falls on both.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from benchmarks.speed.figures import ratios, spread
from benchmarks.speed.load import Plan
from benchmarks.speed.output import begin, console, finish, json_option, rounds_option, run, table
from benchmarks.speed.runs import Played, staged
from benchmarks.speed.subjects import Starter, bridge, relay

CALLS_PER_S_MAX = 8000
"""Requests are made ready for so many calls a second where the time and not their number is given."""


@dataclass(frozen=True)
class Options:
    """What the command was given; see its options."""

    rounds: int = 3
    events: int = 20_000
    seconds: float = 0.0
    connections: Sequence[int] = (64,)
    batch: int = 100
    batch_connections: int = 8
    active: int = 1000
    agents: int = 0
    warm_up: int = 2000
    relay_uvloop: bool = False
    only: str | None = None


@dataclass(frozen=True)
class Case:
    """One subject under one kind of load."""

    name: str
    start: Starter
    connections: int
    batch: int = 1


def cases(options: Options) -> list[Case]:
    floor = relay(uvloop=options.relay_uvloop)
    made = []
    for connections in options.connections:
        made.append(Case(f"relay, {connections} connections", floor, connections))
        made.append(Case(f"bridge, {connections} connections", bridge(), connections))
    if options.batch > 1:
        name = f"bridge, {options.batch_connections} connections, {options.batch} events a request"
        made.append(Case(name, bridge(), options.batch_connections, options.batch))
    return [case for case in made if options.only is None or case.name.startswith(options.only)]


def floor_of(case: Case, options: Options) -> str:
    """The case that `case` is held against."""
    connections = case.connections if case.batch == 1 else options.connections[0]
    return f"relay, {connections} connections"


async def once(case: Case, options: Options) -> Played:
    """Starts the case's subject afresh, warms it up, and plays the load."""
    calls = round(CALLS_PER_S_MAX * options.seconds) if options.seconds else options.events // 2
    plan = Plan(
        calls,
        agents=options.agents,
        connections=case.connections,
        batch=case.batch,
        active=options.active,
        seconds=options.seconds,
    )
    async with staged(case.start) as stage:
        if options.warm_up:
            few = min(200, options.active)
            await stage.play(replace(plan, calls=options.warm_up // 2, active=few, seconds=0.0))
        return await stage.play(plan)


def compared(case: str, rounds: Sequence[dict[str, Any]], floor: str) -> dict[str, Any]:
    """A case's rounds in short, and against the floor where that was run."""
    ours = [one[case] for one in rounds]
    told: dict[str, Any] = {name: spread([one[name] for one in ours]) for name in ("accepted_per_s", "delivered_per_s")}
    told["cpu_us_per_event"] = {
        role: spread([one["cpu_us_per_event"][role] for one in ours]) for role in ours[0]["cpu_us_per_event"]
    }
    if floor != case and floor in rounds[0]:
        other = [one[floor] for one in rounds]
        told["ratio"] = ratios([one["delivered_per_s"] for one in ours], [one["delivered_per_s"] for one in other])
        told["cpu_ratio"] = ratios(
            [one["cpu_us_per_event"]["subject"] for one in other], [one["cpu_us_per_event"]["subject"] for one in ours]
        )
    return told


@click.command()
@rounds_option
@click.option("--events", type=click.IntRange(2), default=20_000, help="Events of one case in one round.")
@click.option("--seconds", type=float, default=0.0, help="Send for so long instead, however many that is.")
@click.option("--connections", type=click.IntRange(1), multiple=True, default=[64], help="May be given several times.")
@click.option(
    "--batch", type=click.IntRange(0, 1000), default=100, help="Events a request of the NDJSON case; 0: none."
)
@click.option("--batch-connections", type=click.IntRange(1), default=8, help="Connections of the NDJSON case.")
@click.option("--active", type=click.IntRange(1), default=1000, help="Calls active at a time.")
@click.option("--agents", type=int, default=0, help="Who take calls in turn, twice --active at least; 0: one a call.")
@click.option("--warm-up", type=click.IntRange(0), default=2000, help="Events before those that count.")
@click.option("--relay-uvloop", is_flag=True, help="Give the relay uvloop too.")
@click.option("--only", type=click.Choice(["relay", "bridge"]), help="Run these cases alone; then there is no ratio.")
@json_option
def throughput(file: Path | None, **given: Any) -> None:
    """Events a second that go all the way, closed loop, against the bare relay."""
    options = Options(**given)
    result, todo = begin("throughput", asdict(options)), cases(options)
    rounds: list[dict[str, Any]] = []
    for number in range(options.rounds):
        figures: dict[str, Any] = {}
        for case in todo if number % 2 == 0 else reversed(todo):
            told = figures[case.name] = run(once(case, options)).figures()
            console.print(
                f"round {number + 1}  {case.name:46} {told['delivered_per_s']:8,.0f}/s delivered"
                f" {told['accepted_per_s']:8,.0f}/s accepted   CPU µs/event: "
                + ", ".join(f"{role} {used:.0f}" for role, used in told["cpu_us_per_event"].items())
            )
        rounds.append(figures)
    shown = table("case", "delivered/s", "accepted/s", "to the relay", "CPU to the relay", "its CPU µs/event", "Redis")
    in_short: dict[str, Any] = {}
    for case in todo:
        told = in_short[case.name] = compared(case.name, rounds, floor_of(case, options))
        shown.add_row(
            case.name,
            told["delivered_per_s"].text(0),
            told["accepted_per_s"].text(0),
            told["ratio"].text() if "ratio" in told else "",
            told["cpu_ratio"].text() if "cpu_ratio" in told else "",
            told["cpu_us_per_event"]["subject"].text(0),
            told["cpu_us_per_event"]["redis"].text(0),
        )
    console.print(shown)
    finish(file, {**result, "cases": in_short, "rounds": rounds})

"""`peers`: what people would pick instead, under the same load at full, and under one kill in its middle."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.speed.figures import ratios, spread
from benchmarks.speed.kills import one_kill
from benchmarks.speed.load import Plan
from benchmarks.speed.output import begin, console, finish, json_option, rounds_option, run, table
from benchmarks.speed.peers import in_python, node_red
from benchmarks.speed.peers.installed import CannotInstall
from benchmarks.speed.programs import DidNotStart
from benchmarks.speed.runs import staged
from benchmarks.speed.subjects import Starter, bridge, relay

PEERS: dict[str, Starter] = {
    "bridge": bridge(),
    "relay": relay(),
    "Node-RED": node_red.start,
    "FastStream": in_python.faststream,
    "procrastinate": in_python.procrastinate,
}

DAMAGE = {"lost": 0, "doubled": 0, "inverted": 0, "whole_s": 1}
"""What is told of a kill, with the digits that it is shown with."""


async def at_full(start: Starter, events: int, connections: int) -> dict[str, Any]:
    async with staged(start) as stage:
        await stage.play(Plan(500, active=200, connections=connections))
        played = await stage.play(Plan(events // 2, connections=connections))
        return {"name": stage.subject.name, **played.figures()}


async def with_kill(start: Starter, calls: int) -> dict[str, Any]:
    async with staged(start) as stage:
        await stage.play(Plan(200, active=50, connections=16))
        return asdict(await one_kill(stage, calls, 32))


@click.command()
@rounds_option
@click.option("--only", type=click.Choice(list(PEERS)), multiple=True, help="May be repeated; all, without it.")
@click.option("--events", type=click.IntRange(2), default=6000, help="Events at full of one round.")
@click.option("--connections", type=click.IntRange(1), default=64)
@click.option("--kill-calls", type=click.IntRange(1), default=1000, help="Calls of a run with a kill.")
@click.option("--kills", type=click.IntRange(0), default=3, help="Runs with one kill each; 0: none.")
@json_option
def peers(file: Path | None, only: tuple[str, ...], **given: int) -> None:
    """What people would pick instead: throughput, and what one kill costs."""
    todo = {name: start for name, start in PEERS.items() if not only or name in only}
    result, rounds = begin("peers", given), given["rounds"]
    skipped: dict[str, str] = {}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in todo}
    for number in range(rounds):
        for name in list(todo) if number % 2 == 0 else list(reversed(todo)):
            try:
                told = run(at_full(todo[name], given["events"], given["connections"]))
            except (CannotInstall, DidNotStart) as reason:
                skipped[name] = str(reason)
                console.print(f"{name} is left out: {reason}")
                del todo[name], found[name]
                continue
            found[name].append(told)
            console.print(
                f"round {number + 1}  {told['name']:24} {told['delivered_per_s']:8,.0f}/s delivered"
                f" {told['accepted_per_s']:8,.0f}/s accepted   CPU µs/event: "
                + ", ".join(f"{role} {used:.0f}" for role, used in told["cpu_us_per_event"].items())
            )
    kills: dict[str, list[dict[str, Any]]] = {
        name: [run(with_kill(start, given["kill_calls"])) for _ in range(given["kills"])]
        for name, start in todo.items()
    }
    shown = table("", "delivered/s", "the bridge to it", "CPU µs/event", *DAMAGE)
    in_short: dict[str, Any] = {}
    for name, of in found.items():
        delivered = [one["delivered_per_s"] for one in of]
        told = in_short[name] = {
            "name": of[0]["name"],
            "delivered_per_s": spread(delivered),
            "cpu_us": spread([one["cpu_us_per_event"]["subject"] for one in of]),
            "kill": {key: spread([kill[key] for kill in kills[name]]) for key in DAMAGE} if kills[name] else None,
        }
        if name != "bridge" and "bridge" in found:
            told["bridge_to_it"] = ratios([one["delivered_per_s"] for one in found["bridge"]], delivered)
        shown.add_row(
            told["name"],
            told["delivered_per_s"].text(0),
            told["bridge_to_it"].text() if "bridge_to_it" in told else "",
            told["cpu_us"].text(0),
            *(told["kill"][key].text(digits) if told["kill"] else "" for key, digits in DAMAGE.items()),
        )
    console.print(shown)
    if given["kills"]:
        console.print(f"lost, doubled, inverted: by one kill -9, of {2 * given['kill_calls']:,} accepted events")
    finish(file, {**result, "peers": in_short, "skipped": skipped, "rounds": found, "kills": kills})

"""`latency`: how long an event takes from its acceptance to Cention, open loop, against the bare relay.

Open loop: events leave when they are due, whatever became of those before, so that a stall is counted for every event
that it held up. Three spans are told, since the relay's 202 says less than the bridge's: from when the event was due
to its arrival at the sink (the whole way), from its 202 to that arrival, and from when it was due to its 202.

Capacity is measured first, since one rate is half of what the relay can do.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.speed.figures import percentile, ratios, spread
from benchmarks.speed.load import Plan
from benchmarks.speed.output import begin, console, finish, json_option, rounds_option, run, table
from benchmarks.speed.runs import Played, staged
from benchmarks.speed.subjects import Starter, bridge, relay

SPANS = ("whole", "accept_to_receipt", "accept")
PERCENTS = (50.0, 99.0, 99.9)


@dataclass(frozen=True)
class Options:
    """What the command was given; see its options."""

    rounds: int = 3
    seconds: float = 8.0
    rates: Sequence[float] = (1000.0,)
    half: bool = True
    connections: int = 64
    active: int = 1000
    warm_up: int = 3000


def spans_ms(played: Played) -> dict[str, dict[str, float]]:
    """The percentiles of each span, ms. A 202 may be read after the arrival: a span below zero counts as zero."""
    times = list(zip(played.due, played.answered, played.arrived, strict=True))
    values = {
        "whole": [arrived - due for due, _, arrived in times],
        "accept_to_receipt": [max(0.0, arrived - answered) for _, answered, arrived in times],
        "accept": [answered - due for due, answered, _ in times],
    }
    told = {}
    for name, span in values.items():
        span.sort()
        told[name] = {f"p{percent:g}": percentile(span, percent) * 1000 for percent in PERCENTS}
        told[name]["max"] = span[-1] * 1000
    return told


async def once(start: Starter, rate: float, options: Options) -> dict[str, Any]:
    """Starts a subject afresh, warms it up at full, and plays the load at `rate` events a second."""
    async with staged(start) as stage:
        few = min(200, options.active)
        await stage.play(Plan(options.warm_up // 2, active=few))
        plan = Plan(
            round(rate * options.seconds / 2), active=options.active, rate=rate, connections=options.connections
        )
        played = await stage.play(plan, exact=True)
    late = sorted(sent - due for due, sent in zip(played.due, played.sent, strict=True))
    return {**played.figures(), "ms": spans_ms(played), "late_p99_ms": percentile(late, 99) * 1000}


async def capacity(options: Options) -> float:
    """Events a second that the relay delivers at full."""
    async with staged(relay()) as stage:
        await stage.play(Plan(options.warm_up // 2, active=200))
        played = await stage.play(Plan(8000, active=options.active))
        return played.events / played.arrive_s


def compared(ours: Sequence[dict[str, Any]], floor: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each span's percentiles of all rounds, and against the floor's."""
    told: dict[str, Any] = {"ms": {}, "ratio": {}}
    for span in SPANS:
        of = {name: [one["ms"][span][name] for one in ours] for name in ours[0]["ms"][span]}
        to = {name: [one["ms"][span][name] for one in floor] for name in of}
        told["ms"][span] = {name: spread(values) for name, values in of.items()}
        if ours is not floor and all(min(values) > 0 for values in to.values()):
            told["ratio"][span] = {name: ratios(of[name], to[name]) for name in of}
    return told


@click.command()
@rounds_option
@click.option("--seconds", type=float, default=8.0, help="How long each load lasts.")
@click.option("--rate", "rates", type=float, multiple=True, default=[1000.0], help="Events a second; may be repeated.")
@click.option("--half/--no-half", default=True, help="Also at half of what the relay can do.")
@click.option("--connections", type=click.IntRange(1), default=64)
@click.option("--active", type=click.IntRange(1), default=1000, help="Calls active at a time.")
@click.option("--warm-up", type=click.IntRange(2), default=3000, help="Events before those that count.")
@json_option
def latency(file: Path | None, **given: Any) -> None:
    """Time from an event to Cention, open loop, against the bare relay."""
    options = Options(**given)
    result = begin("latency", asdict(options))
    rates = list(options.rates)
    if options.half:
        result["capacity_per_s"] = found = run(capacity(options))
        console.print(f"the relay delivers {found:,.0f} events a second at full")
        rates.append(round(found / 2, -2))
    cases = [(name, start, rate) for rate in rates for name, start in (("relay", relay()), ("bridge", bridge()))]
    rounds: list[dict[str, Any]] = []
    for number in range(options.rounds):
        figures: dict[str, Any] = {}
        for name, start, rate in cases if number % 2 == 0 else reversed(cases):
            told = figures[f"{name}, {rate:g}/s"] = run(once(start, rate, options))
            console.print(
                f"round {number + 1}  {name:6} at {rate:6,.0f}/s: "
                + "; ".join(f"{span} {_shown(told['ms'][span])}" for span in SPANS)
                + f"; late {told['late_p99_ms']:.1f}; {told['cpu_us_per_event']['subject']:.0f} µs CPU/event"
            )
        rounds.append(figures)
    shown = table("case", "span", "p50 ms", "p99 ms", "p50 to the relay", "p99 to the relay")
    in_short: dict[str, Any] = {}
    for name, _, rate in cases:
        key, floor = f"{name}, {rate:g}/s", f"relay, {rate:g}/s"
        ours = [one[key] for one in rounds]
        told = in_short[key] = compared(ours, ours if key == floor else [one[floor] for one in rounds])
        for span in SPANS:
            ms, ratio = told["ms"][span], told["ratio"].get(span)
            against = [ratio[p].text(1) for p in ("p50", "p99")] if ratio else ["", ""]
            shown.add_row(key, span, *(ms[p].text() for p in ("p50", "p99")), *against)
    console.print(shown)
    finish(file, {**result, "rates": rates, "cases": in_short, "rounds": rounds})


def _shown(ms: dict[str, float]) -> str:
    return f"p50 {ms['p50']:.1f} p99 {ms['p99']:.1f}"

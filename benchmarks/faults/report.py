"""What the runs came to: a table for people, JSON for programs. Owns how it looks, judges nothing."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.faults.scenario import SETTINGS, Result, known
from bridge import __version__
from bridge.runtime.clock import rfc3339

SENTENCES_SHOWN = 10
_COLUMNS = (
    "scenario", "sent", "accepted", "messages", "lost", "doubled", "unexplained", "inverted", "late", "parked",
    "kills", "slowest s", "s", "",
)  # fmt: skip


def row(result: Result) -> list[str]:
    """One scenario as cells, in the order of the table's columns."""
    found = result.findings
    kills = result.bridge_kills + result.redis_kills
    if found is None:
        counts = [str(result.sent), str(result.accepted), *("-" * 7), str(kills), "-"]
    else:
        unexplained = len(found.unexplained) + len(found.effects_doubled) + len(found.strange)
        numbers = (result.sent, result.accepted, found.expected, len(found.lost), found.doubled, unexplained,
                   len(found.inverted), len(found.late), found.parked, kills)  # fmt: skip
        counts = [*map(str, numbers), f"{found.slowest_ms / 1000:.1f}"]
    return [result.scenario.name, *counts, f"{result.duration_s:.0f}", "ok" if result.passed else "FAILED"]


def table(results: Sequence[Result]) -> Table:
    """All scenarios, one row each."""
    shown = Table(*_COLUMNS, box=box.SIMPLE_HEAD)
    for column in shown.columns[1:-1]:
        column.justify = "right"
    for result in results:
        shown.add_row(*row(result), style=None if result.passed else "red")
    return shown


def sentences(result: Result) -> list[str]:
    """What a person wants to know beside the row: what broke, and what the scenario measured."""
    told = [f"{name}: {value}" for name, value in result.figures.items()]
    if result.spooled:
        told.append(f"events that waited in a spool: {result.spooled}")
    broken = result.broken
    told += broken[:SENTENCES_SHOWN]
    if len(broken) > SENTENCES_SHOWN:
        told.append(f"and {len(broken) - SENTENCES_SHOWN} more")
    if result.error:
        told.append(result.error)
    return told


def show(console: Console, results: Sequence[Result], seed: int) -> None:
    """Prints the table, what each scenario has to say, and what all of it was run with."""
    console.print(table(results))
    for result in results:
        for text in sentences(result):
            console.print(f"  {result.scenario.name}: {text}", highlight=False, markup=False)
    told = versions(results)
    console.print(f"seed {seed}; " + ", ".join(f"{name} {value}" for name, value in told.items()), highlight=False)
    passed = sum(result.passed for result in results)
    console.print(f"{passed} passed, {len(results) - passed} failed", highlight=False)


def versions(results: Sequence[Result]) -> Mapping[str, str]:
    """What was under test, and what it ran on."""
    return {
        "bridge": __version__,
        "Python": platform.python_version(),
        "redis-server": next((result.redis_version for result in results if result.redis_version), "unknown"),
    }


def document(results: Sequence[Result], seed: int, at: int) -> bytes:
    """Everything as JSON. `at`: when the run began, ms since the epoch."""
    return orjson.dumps(
        {
            "at": rfc3339(at),
            "seed": seed,
            "versions": versions(results),
            "settings": dict(known(SETTINGS)),
            "passed": bool(results) and all(result.passed for result in results),
            "scenarios": [_scenario(result) for result in results],
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )


def _scenario(result: Result) -> dict[str, Any]:
    found = result.findings
    compared: dict[str, Any] = {}
    if found is not None:
        compared = {
            "messages": found.expected,
            "arrived": found.arrived,
            "parked": found.parked,
            "lost": found.lost,
            "doubled": found.doubled,
            "unexplained": found.unexplained,
            "effectsDoubled": found.effects_doubled,
            "strange": found.strange,
            "inverted": found.inverted,
            "late": found.late,
            "slowestMs": found.slowest_ms,
        }
    return {
        "name": result.scenario.name,
        "about": result.scenario.about,
        "passed": result.passed,
        "bridges": result.scenario.bridges,
        "settings": dict(known(result.scenario.settings)),
        "sent": result.sent,
        "accepted": result.accepted,
        "repeatedRequests": result.repeated,
        "spooled": result.spooled,
        "bridgeKills": result.bridge_kills,
        "redisKills": result.redis_kills,
        "answersCut": result.cut,
        "durationS": round(result.duration_s, 1),
        **compared,
        "claims": [{"text": claim.text, "held": claim.held} for claim in result.claims],
        "figures": result.figures,
        "error": result.error,
    }

"""`profile`: where the bridge's CPU time goes at full, by package and by function of the bridge's.

By package: whose code was running. By function: the innermost function of the bridge's that it ran for, so that what a
library does counts for whoever asked it to.
"""

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import orjson

from benchmarks.faults.processes import ROOT, free_port
from benchmarks.speed.load import Plan
from benchmarks.speed.output import begin, console, finish, json_option, run, table
from benchmarks.speed.programs import Program
from benchmarks.speed.runs import staged
from benchmarks.speed.subjects import Subject, bridge_settings
from bridge.store.embedded import EmbeddedRedis

SHOWN = 25


@asynccontextmanager
async def _sampled(directory: Path, sink_port: int, file: Path) -> AsyncIterator[Subject]:
    async with EmbeddedRedis(directory / "redis") as server:
        settings = bridge_settings(directory, 0, server.url, sink_port) | {"intake__port": (port := free_port())}
        env = {
            f"BRIDGE_{name.upper()}": value if isinstance(value, str) else orjson.dumps(value).decode()
            for name, value in settings.items()
        }
        (config := directory / "config.toml").touch()
        command = [sys.executable, "-m", "benchmarks.speed.profiled", str(file), "run", "--config", str(config)]
        async with Program(*command, ready='"ready"', env={**env, "PYTHONPATH": str(ROOT)}, cwd=directory) as program:
            assert server.pid is not None
            pids = {"subject": [program.pid], "redis": [server.pid]}
            yield Subject("bridge, sampled", [port], pids, server.url, program.log)


async def sampled(events: int, batch: int, directory: Path) -> dict[str, Any]:
    """Plays `events` at full to a bridge that is looked at, and returns shares of its CPU time."""
    file = directory / "samples.json"
    async with staged(lambda place, port: _sampled(place, port, file)) as stage:
        played = await stage.play(Plan(events // 2, batch=batch, connections=64 if batch == 1 else 8))
    counted = orjson.loads(file.read_bytes())
    total = sum(counted["packages"].values())
    told: dict[str, Any] = {
        kind: {name: count / total for name, count in sorted(of.items(), key=lambda each: -each[1])}
        for kind, of in counted.items()
    }
    return {**told, "samples": total, **played.figures()}


@click.command()
@click.option("--events", type=click.IntRange(2), default=20_000)
@click.option("--batch", type=click.IntRange(1, 1000), default=1, help="Events a request.")
@json_option
def profile(file: Path | None, events: int, batch: int) -> None:
    """Where the bridge's CPU time goes at full."""
    result = begin("profile", {"events": events, "batch": batch})
    with tempfile.TemporaryDirectory(prefix="speed-") as directory:
        result |= run(sampled(events, batch, Path(directory)))
    console.print(f"{result['samples']:,} samples; {result['cpu_us_per_event']['subject']:.0f} µs of CPU an event")
    for kind, words in (("packages", "whose code"), ("functions", "for which function")):
        shown = table(words, "%")
        for name, share in list(result[kind].items())[:SHOWN]:
            shown.add_row(name, f"{share * 100:.1f}")
        console.print(shown)
        result[kind] = {name: round(share, 4) for name, share in list(result[kind].items())[:SHOWN]}
    finish(file, result)

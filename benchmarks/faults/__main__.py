"""`python -m benchmarks.faults`: plays scenarios one after the other, prints what they came to, and exits with 1 if a
promise was broken. Holds no logic of its own.
"""

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from benchmarks.faults.report import document, row, sentences, show
from benchmarks.faults.scenario import Options, Result
from benchmarks.faults.scenarios import SCENARIOS
from benchmarks.faults.world import played
from bridge.runtime import logs
from bridge.runtime.clock import now_ms


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--scenario", "names", multiple=True, type=click.Choice(list(SCENARIOS)), metavar="NAME",
              help="Play this one; may be given several times. All, without it.")  # fmt: skip
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed plays the same calls and faults.")
@click.option("--kills", type=click.IntRange(1), help="How often a process is killed, paused or restarted.")
@click.option("--calls", type=click.IntRange(1), help="Call stories to play at least; of `backlog`, its deliveries.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write everything there too.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep logs and data below this folder.")
@click.option("--list", "listing", is_flag=True, help="List the scenarios.")
def main(
    names: tuple[str, ...],
    seed: int,
    kills: int | None,
    calls: int | None,
    file: Path | None,
    keep: Path | None,
    listing: bool,
) -> None:
    """Try the bridge under faults: real processes on this machine, compared message by message.

    Exits with 1 if a message was lost, came out of order, or came twice without its answer having been cut off.
    """
    if listing:
        for scenario in SCENARIOS.values():
            click.echo(f"{scenario.name:30} {scenario.about}")
        return
    logs.configure("error", "console")
    options, at = Options(seed=seed, calls=calls, kills=kills), now_ms()
    results: list[Result] = []
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_play(names or tuple(SCENARIOS), options, keep, results))
    show(Console(width=170 if not sys.stdout.isatty() else None), results, seed)
    if file is not None:
        file.write_bytes(document(results, seed, at))
    sys.exit(0 if len(results) == len(names or SCENARIOS) and all(result.passed for result in results) else 1)


async def _play(names: tuple[str, ...], options: Options, keep: Path | None, results: list[Result]) -> None:
    """Plays them, adding to `results` as they end: an interrupted run still shows what it has."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # so that no process is left behind
    for name in names:
        click.echo(f"{name} ...", err=True)
        if keep is None:
            directory = Path(tempfile.mkdtemp(prefix="faults-"))
        else:
            directory = keep.absolute() / f"{name}-{options.seed}"
            shutil.rmtree(directory, ignore_errors=True)  # another run's data would take this run's events for its own
        try:
            result = await played(SCENARIOS[name], options, directory)
        finally:
            if keep is None:
                shutil.rmtree(directory, ignore_errors=True)
        results.append(result)
        click.echo("  ".join(row(result)), err=True)
        for text in sentences(result):
            click.echo(f"  {text}", err=True)


main()

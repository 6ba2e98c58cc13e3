"""What the commands share: options, the console, the JSON file, and how a failed run ends. No measuring."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.speed.runs import Failed
from benchmarks.speed.surroundings import load_average, surroundings

T = TypeVar("T")

console = Console(width=170, highlight=False, markup=False)

json_option = click.option(
    "--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write everything there too."
)
rounds_option = click.option(
    "--rounds", type=click.IntRange(1), default=3, help="How often each case is run; cases take turns."
)


def begin(question: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Says what the machine is busy with already, and returns the result's first members."""
    around = surroundings()
    shown = " ".join(map(str, around["load_average"]))
    console.print(f"load average {shown} on {around['machine']['cores']} cores")
    return {"question": question, "surroundings": around, "settings": settings}


def run(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work`; a run that shows nothing ends the command with exit code 1 and the reason."""
    try:
        return asyncio.run(work)
    except Failed as failure:
        raise click.ClickException(str(failure)) from failure


def finish(file: Path | None, result: dict[str, Any]) -> None:
    """Writes the result, where it is wanted."""
    result["load_average_after"] = [round(value, 2) for value in load_average()]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        console.print(f"written to {file}")


def table(*columns: str) -> Table:
    """A table whose first column holds words and the others numbers."""
    made = Table(*columns, box=box.SIMPLE_HEAD)
    for column in made.columns[1:]:
        column.justify = "right"
    return made

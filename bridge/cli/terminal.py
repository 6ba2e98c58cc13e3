"""What the commands that send events have in common at the terminal: options, a bar, a summary, Ctrl-C.

Progress and faults go to standard error, the summary to standard output. Owns how that looks; sends nothing itself.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Self

import click

from bridge.runtime.clock import monotonic

if TYPE_CHECKING:  # aiohttp takes longer to import than all of `--help`
    from bridge.cli.sender import Counts, Refusal

LINE_EVERY_S = 3.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _bearer(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Checks a token that goes into a header."""
    if value is not None and not (value.isascii() and value.isprintable() and value == value.strip() and value):
        raise click.BadParameter("must be printable ASCII")
    return value


def _target(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Checks the bridge's URL."""
    from bridge.cli.sender import events_url

    try:
        return events_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


url_option = click.option("--url", required=True, callback=_target, help="The bridge, such as http://127.0.0.1:8080.")
token_option = click.option(
    "--token", envvar="AVENTA_BRIDGE_TOKEN", callback=_bearer, help="One of the bridge's intake.tokens."
)
give_up_option = click.option(
    "--give-up",
    "give_up_s",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to go on trying while the bridge does not take events.",
)


class Gauge:
    """A bar where standard error is a terminal, else a line every `LINE_EVERY_S` seconds, as log files want it.

    `total` None means that nobody knows where it ends, or that it doesn't.
    """

    def __init__(self, label: str, total: int | None, unit: Literal["calls", "bytes", "records"]) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._bar: Any = None
        self._task: Any = None
        self._line_at = monotonic() + LINE_EVERY_S

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console
            from rich.table import Column

            amount = progress.DownloadColumn() if self._unit == "bytes" else progress.MofNCompleteColumn()
            self._bar = progress.Progress(
                # Without a least width, a long note would eat the rest.
                progress.TextColumn("{task.description}", table_column=Column(min_width=len(self._label))),
                progress.BarColumn(bar_width=12, table_column=Column(min_width=12)),
                amount,
                progress.TimeElapsedColumn(),
                progress.TextColumn("{task.fields[note]}", markup=False),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(self._label, total=self._total, note="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, done: int, note: str) -> None:
        """`done` calls or bytes so far, and a few words."""
        if self._bar:
            self._bar.update(self._task, completed=done, note=note)
        elif monotonic() >= self._line_at:
            self._line_at = monotonic() + LINE_EVERY_S
            of = "" if self._total is None else f" of {self._total}"
            click.echo(f"{self._label}: {done}{of} {self._unit}, {note}", err=True)


def told(counts: "Counts", trouble: str | None) -> str:
    """The counts in a few words, or what is in the way."""
    if trouble:
        return f"trying again: {trouble}"
    return f"{counts.accepted} accepted, {counts.duplicates} duplicates, {counts.rejected} rejected"


def rows(counts: "Counts") -> list[tuple[str, str]]:
    """The counts as rows of a summary."""
    return [
        ("events sent", str(counts.given)),
        ("accepted", str(counts.accepted)),
        ("duplicates", str(counts.duplicates)),
        ("rejected", str(counts.rejected)),
        ("without an answer", str(counts.unanswered)),
        ("requests repeated", str(counts.retried)),
    ]


def refused(refusal: "Refusal") -> str:
    """One refused event in a line."""
    where = refusal.event_id or "an event without eventId"
    if refusal.label is not None:
        where = f"line {refusal.label} ({where})"
    return f"rejected: {where}: " + "; ".join(refusal.faults or (refusal.code,))


def summary(title: str, values: Sequence[tuple[str, str]]) -> None:
    """Prints a heading and a table of names and values."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    click.echo(title)
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in values:
        table.add_row(name, Text(value))
    Console().print(table)


async def until_signal(work: Awaitable[None]) -> bool:
    """Awaits `work`, ended early by Ctrl-C or SIGTERM. Returns whether it came to its own end.

    A second Ctrl-C, while the caller tidies up, interrupts as usual.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        task.cancel()

    for number in _SIGNALS:
        with suppress(NotImplementedError):  # an event loop without signals: Ctrl-C then ends it the hard way
            loop.add_signal_handler(number, stop)
    try:
        await work
        if stopped:
            await asyncio.sleep(0)  # a signal just as the work ended: its cancellation is still to come
    except asyncio.CancelledError:
        if not stopped:
            raise
        task.uncancel()
    finally:
        for number in _SIGNALS:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
    return not stopped

"""`cention logio`: who logged in and out, printed or kept while it arrives; the claim "Access to logio API".

Invariant: a JSON list that is not closed is one that broke off.
"""

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

import click

from bridge.cention.documents import LogioFormat, LogioRecord
from bridge.cli.cention.call import Call, Failed, connected
from bridge.cli.cention.given import moment
from bridge.cli.cention.output import appearing, cannot_write, json_line, plain, refuse_record_file
from bridge.cli.terminal import Gauge
from bridge.runtime.clock import rfc3339

Keep = Callable[[LogioRecord], None]


@click.command()
@click.option("--name", help="One agent, by login name; without it, all.")
@click.option(
    "--from", "from_at", type=moment, metavar="TIME",
    help="The first second: seconds since the epoch, or 2019-04-01T08:00:00+02:00. Cention's default: 7 days ago.",
)  # fmt: skip
@click.option("--to", "to_at", type=moment, metavar="TIME", help="The last second. Cention's default: now.")
@click.option(
    "--format", "wire_format", type=click.Choice(["csv", "json"]), default="json", show_default=True,
    help="How the records travel.",
)  # fmt: skip
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="Keep them, as .csv (as Cention's) or .json."
)
@click.option("--force", is_flag=True, help="Write over the file that is there.")
@connected("logio")
async def logio(
    call: Call,
    name: str | None,
    from_at: datetime | None,
    to_at: datetime | None,
    wire_format: LogioFormat,
    output: Path | None,
    force: bool,
) -> None:
    """List who logged in and out, each when it arrives. Times are shown in UTC."""
    if from_at is not None and to_at is not None and from_at > to_at:
        raise click.UsageError("--from is after --to.")
    if output is not None:
        refuse_record_file(output, force=force)
    records = call.cention.logio(
        call.token, name=name, from_at=from_at, to_at=to_at, wire_format=wire_format, idle_s=call.timeout_s
    )
    count = 0
    try:
        with ExitStack() as stack:
            keep = stack.enter_context(_destination(call, output, force=force))
            # What is printed shows by itself how far it is.
            gauge = None if output is None else stack.enter_context(Gauge("logio", None, "records"))
            async with records:
                async for record in records:
                    if not isinstance(record, LogioRecord):
                        raise Failed(record)
                    keep(record)
                    count += 1
                    if gauge is not None:
                        gauge.show(count, "come")
    except OSError as error:
        if output is None:
            raise
        raise cannot_write(error, output) from None
    if output is not None:
        click.echo(f"{count} {'record is' if count == 1 else 'records are'} in {output}.")
    elif count == 0 and not call.as_json:
        click.echo("There are none.")


@contextmanager
def _destination(call: Call, output: Path | None, *, force: bool) -> Iterator[Keep]:
    if output is None:
        if call.as_json:
            with _json_list(sys.stdout) as keep:
                yield keep
        else:
            yield _print
    else:
        with appearing(output, force=force) as made, made.open("w", encoding="utf-8", newline="") as file:
            if output.suffix.lower() == ".json":
                with _json_list(file) as keep:
                    yield keep
            else:
                writer = csv.writer(file, lineterminator="\n")
                yield lambda each: writer.writerow([each.id, each.name, each.timestamp, each.action])


@contextmanager
def _json_list(file: TextIO) -> Iterator[Keep]:
    first = True

    def keep(record: LogioRecord) -> None:
        nonlocal first
        file.write(f"{'[' if first else ','}\n{json_line(record.to_json())}")
        first = False

    yield keep
    file.write("[]\n" if first else "\n]\n")


def _print(record: LogioRecord) -> None:
    # Fixed widths, the name last: a table that grows can't know how wide it will be.
    when = rfc3339(record.timestamp * 1000)
    click.echo(f"{when[:19]}Z  {plain(record.action):<6}  {plain(record.name)}".replace("\n", " "))

"""`cention export trigger`: the endpoint whose token carries the claim "Access to export API"."""

import asyncio
from datetime import date
from pathlib import Path

import click

from bridge.cention.documents import Export
from bridge.cention.endpoints.exports import EXPORT_TIMEOUT_S
from bridge.cention.export_files import save_export
from bridge.cli.cention.call import Call, connected
from bridge.cli.cention.given import day, identifier
from bridge.cli.cention.output import appearing, cannot_write, document, print_json, refuse_record_file, table
from bridge.cli.terminal import Gauge


@click.command()
@click.argument("preset", type=identifier)
@click.option("--from", "from_date", type=day, metavar="DAY", help="The first day, such as 2019-01-01.")
@click.option("--to", "to_date", type=day, metavar="DAY", help="The last day.")
@click.option(
    "--by",
    type=click.Choice(["arrival", "closure"]),
    help="Whether the days are those on which errands came or closed.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep all of it, as .csv or .json; without it, what fits is printed.",
)
@click.option("--force", is_flag=True, help="Write over the file that is there.")
@click.option(
    "--for-spreadsheets", is_flag=True, help="Keep what customers wrote from being run as a formula; .csv alone."
)
@connected("export", timeout_s=EXPORT_TIMEOUT_S, lost="Nothing of an errand was changed: ask again.")
async def trigger(
    call: Call,
    preset: str,
    from_date: date | None,
    to_date: date | None,
    by: str | None,
    output: Path | None,
    force: bool,
    for_spreadsheets: bool,
) -> None:
    """Have the preset export PRESET made, and wait for it. Its id is that of Cention's own pages."""
    if from_date is not None and to_date is not None and from_date > to_date:
        raise click.UsageError("--from is after --to.")
    if output is not None:
        refuse_record_file(output, force=force)
    if for_spreadsheets and (output is None or output.suffix.lower() != ".csv"):
        raise click.UsageError("--for-spreadsheets goes with --output FILE.csv.")
    with Gauge("export", None, "bytes") as gauge:
        gauge.show(0, "Cention is at work")
        read = await call.cention.trigger_export(
            preset,
            call.token,
            from_date=from_date,
            to_date=to_date,
            use_closure_date=None if by is None else by == "closure",
            timeout_s=call.timeout_s,
            on_progress=lambda come, of: gauge.show(come, "come" if of is None else f"of {of} come"),
        )
    export = call.value(read)
    count = len(export.records)
    if output is not None:
        await asyncio.to_thread(_save, export, output, force=force, for_spreadsheets=for_spreadsheets)
        if call.as_json:
            print_json({"records": count, "file": str(output)})
        else:
            click.echo(f"{count} {'errand is' if count == 1 else 'errands are'} in {output}.")
    elif call.as_json:
        print_json(document(export))
    else:
        _print(export)


def _save(export: Export, output: Path, *, force: bool, for_spreadsheets: bool) -> None:
    try:
        with appearing(output, force=force) as made, Gauge("writing", len(export.records), "records") as gauge:
            save_export(
                export.records,
                made,
                "csv" if output.suffix.lower() == ".csv" else "json",
                for_spreadsheets=for_spreadsheets,
                on_written=lambda count: gauge.show(count, "written"),
            )
    except OSError as error:
        raise cannot_write(error, output) from None


def _print(export: Export) -> None:
    rows = (
        (
            each.errand_id,
            each.timestamp_arrived,
            each.timestamp_closed,
            each.agent_name,
            each.from_address,
            each.subject,
        )
        for each in export.records
    )
    table(("errand", "arrived", "closed", "agent", "from", "subject"), rows)

"""`cention dirty walk`: the report of every errand that has changed; what could not be kept counts as changed again."""

import sys
from pathlib import Path

import click

from bridge.cention.documents import ErrandReport
from bridge.cention.walk import WalkFailed
from bridge.cli.cention.call import Call, Failed, connected
from bridge.cli.cention.output import appearing, json_line, make_directory, plain
from bridge.cli.cention.reports import fields_option


@click.command()
@fields_option
@click.option("--limit", type=click.IntRange(1), help="Reports read at most; the other errands stay on the list.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Keep each report in a file of its own there, <errand>.json.",
)
@click.option("--force", is_flag=True, help="Write over the reports that are there.")
@connected("errand_data", lost="An errand may count as read that was not shown.")
async def walk(call: Call, fields: tuple[str, ...], limit: int | None, output: Path | None, force: bool) -> int:
    """Read the report of every errand that has changed, one after the other.

    Each is printed as it comes, with --json as one JSON document a line. An errand whose report can't be printed or
    kept counts as changed again.
    """
    if output is not None:
        make_directory(output)
    read = failed = 0
    changed = call.cention.walk_dirty(call.token, fields=fields)
    try:
        async with changed:
            async for errand_id, report in changed:
                read += 1
                if output is not None and not _kept(output / f"{errand_id}.json", report, force=force):
                    failed += 1
                    changed.again(errand_id)
                _print(call, errand_id, report)
                if read == limit:
                    break
    except WalkFailed as error:
        if error.unmarked:
            ids = " ".join(map(str, error.unmarked))
            click.echo(f"these should count as changed, and may not: aventa-bridge cention dirty mark {ids}", err=True)
        raise Failed(error.failure) from None
    for errand_id, refused in changed.skipped.items():
        click.echo(f"errand {errand_id}: its report was not read: {refused.reason}", err=True)
    click.echo(f"{read} read, {len(changed.skipped)} skipped, {failed} not kept", err=True)
    return 1 if failed or changed.skipped else 0


def _kept(path: Path, report: ErrandReport, *, force: bool) -> bool:
    try:
        with appearing(path, force=force) as made:
            made.write_bytes(report.to_json())
    except OSError as error:
        there = isinstance(error, FileExistsError)
        click.echo(f"{path}: {'is there already; give --force' if there else error.strerror}", err=True)
        return False
    return True


def _print(call: Call, errand_id: int, report: ErrandReport) -> None:
    if call.as_json:
        click.echo(f'{{"errandId":{errand_id},"report":{json_line(report.to_json())}}}')
    else:
        closed = {True: "closed", False: "open", None: "?"}[report.errand.closed]
        subject = plain(report.errand.subject).replace("\n", " ")
        click.echo(f"{errand_id}  {closed:<6}  {subject}".rstrip())
    sys.stdout.flush()  # what is said to have been printed has been

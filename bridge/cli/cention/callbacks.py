"""`cention callback show`: a callback document from a file, as the bridge reads it. Asks nothing of Cention."""

from typing import BinaryIO

import click
import orjson
from pydantic import ValidationError

from bridge.cention.documents import AnsweredErrand, fault_lines, read_callback
from bridge.cli.cention.output import facts, print_json, table

CALLBACK_BYTES_MAX = 16 * 2**20


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--json", "as_json", is_flag=True, help="Print the whole document as JSON.")
def show(file: BinaryIO, as_json: bool) -> None:
    """Show the callback in FILE, or - for standard input: the event, the answer, the files. Never its secret."""
    body = file.read(CALLBACK_BYTES_MAX + 1)
    if len(body) > CALLBACK_BYTES_MAX:
        raise click.ClickException(f"the callback is larger than {CALLBACK_BYTES_MAX >> 20} MiB.")
    try:
        callback = read_callback(body)
        errand = callback.answered_errand() or AnsweredErrand()
    except ValidationError as error:
        raise click.ClickException(f"no callback that can be read: {fault_lines(error)[0]}.") from None
    if as_json:
        print_json(orjson.loads(callback.without_secret().to_json()))
        return
    said, service = errand.response, errand.service
    facts(
        [
            ("callback", callback.data.id),
            ("event", callback.event),
            ("errand", callback.errand_id),
            ("channel", None if service is None else service.name),
            ("to", tuple(f"{each.name or ''} <{each.email_address or ''}>".strip() for each in said.to or ())),
            ("subject", said.subject),
            ("body", said.body if isinstance(said.body, str) else None),
            ("html body", said.html_body if isinstance(said.html_body, str) else None),
            ("with a secret", callback.secret is not None),
        ]
    )
    if files := callback.files():
        command = {True: "cention files archive", False: "cention files response"}
        table(
            ("file", "called", "to get it"),
            ((each.id, each.content_id, f"{command[each.embedded]} {each.id}") for each in files),
        )

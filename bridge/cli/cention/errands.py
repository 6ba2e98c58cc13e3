"""`cention errand new`, `errand end` and `obcall end`: the endpoints whose token carries the claim "Create Errand"."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import click

from bridge.cention.documents import (
    END_ERRANDS,
    NEW_ERRANDS,
    Answer,
    Attachment,
    EndErrand,
    EndObcall,
    ExtraData,
    FileTooLarge,
    IntegrationData,
    Message,
    NewErrand,
    WhatsAppTemplate,
)
from bridge.cention.outcome import Delivered
from bridge.cli.cention.call import MAY_BE_DONE, Call, connected
from bridge.cli.cention.given import ERRAND_ID, FILE, any_json, checked, instead, integer, json_file_option, read, told
from bridge.cli.cention.output import print_json

AVENTA = "aventa"
"""The one integration that Cention supports. Source: Cention API, "Supported integrations"."""

Options = Mapping[str, tuple[str, dict[str, Any]]]
"""Option -> the member that it tells, and what click has to know of it."""

MESSAGE: Options = {
    "--message-id": ("message_id", {"help": "Identifies the message."}),
    "--name": ("name", {"help": "Who writes, or calls."}),
    "--from": ("from", {"help": "The writer's address; of a call, the caller's number."}),
    "--subject": ("subject", {}),
    "--body": ("body", {"help": "Plain text."}),
    "--html-body": ("html_body", {"help": "Rich text, for e-mail and web forms."}),
}
ANSWER: Options = {
    "--answer-subject": ("subject", {"help": "An answer closes the errand."}),
    "--answer-body": ("body", {"help": "Plain text."}),
    "--answer-html-body": ("html_body", {"help": "Rich text, for e-mail and web forms."}),
    "--answer-user-type": ("user_type", {"help": "cention, solidus or clearinteract."}),
    "--answer-user-id": ("user_id", {"help": "Database id of the user who closes the errand."}),
}
TEMPLATE: Options = {
    "--wa-elementname": ("elementname", {"help": "A WhatsApp template; needs the answer's user, too."}),
    "--wa-namespace": ("namespace", {}),
    "--wa-params": ("params", {"type": any_json, "help": 'A list of objects, such as [{"default": "$10"}].'}),
}
INTEGRATION: Options = {
    "--integration-name": ("integrationName", {"help": f'"{AVENTA}", unless told.'}),
    "--reference-id": ("referenceId", {"help": "The exchange's id of the call."}),
    "--device-id": ("deviceId", {"type": integer, "help": "The agent's key, first part."}),
    "--extension-id": ("extensionId", {"type": integer, "help": "The agent's key, second part."}),
    "--link": ("link", {"help": "URL of the call's recording."}),
    "--end-session/--no-end-session": ("endSession", {"default": None, "help": "Whether the call has ended."}),
    "--dest-number": ("destNumber", {"help": "The called number as MSISDN: digits, country code first."}),
    "--paging-number": ("pagingNumber", {}),
    "--paging-name": ("pagingName", {}),
    "--queue-name": ("queueName", {"help": "The exchange's queue."}),
    "--queue-number": ("queueNumber", {}),
}
EXTRA: Options = {
    "--comment": ("comment", {"help": "Becomes the errand's internal comment."}),
    "--call-reason": ("callReason", {}),
    "--appointment-timestamp": ("appointmentTimestamp", {"help": "Seconds since the epoch."}),
}
OBCALL: Options = {
    "--integration-name": ("integrationName", {"default": AVENTA, "show_default": True}),
    "--dialed-number": ("dialedNumber", {"help": "As dialled."}),
    "--device-id": ("deviceId", {"type": integer, "help": "The agent's key, first part."}),
    "--extension-id": ("extensionId", {"type": integer, "help": "The agent's key, second part."}),
}
DATA_NAMES = {"params": "--wa-params"}


def _argument(option: str) -> str:
    """The name under which click hands the option over."""
    return option.partition("/")[0].lstrip("-").replace("-", "_") + "_"


def options(*tables: Options) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the options of the tables, in their order."""
    every = [(option, details) for each in tables for option, (_, details) in each.items()]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for option, details in reversed(every):
            function = click.option(option, _argument(option), **details)(function)
        return function

    return decorate


def _members(table: Options, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was told of `table`, by the wire's names."""
    return told({member: given.get(_argument(option)) for option, (member, _) in table.items()})


@click.command()
@options(MESSAGE)
@click.option("--attach", multiple=True, type=FILE, help="File to attach; repeat for several.")
@options(ANSWER, TEMPLATE)
@click.option("--extradata", type=any_json, help="Any JSON, shown as text with the errand.")
@options(INTEGRATION, EXTRA)
@click.option("--cuid", help="The caller's id in another system; goes to the contact card.")
@json_file_option
@connected("create_errand", lost=MAY_BE_DONE)
async def new(
    call: Call, attach: tuple[Path, ...], extradata: Any, cuid: str | None, json_file: BinaryIO | None, **given: Any
) -> None:
    """Create an errand, and print its id.

    With an answer it is made closed. The same --reference-id again with --end-session ends a call's session.
    """
    parts = told({"attach": attach, "extradata": extradata, "cuid": cuid, **given})
    if instead(json_file, parts):
        assert json_file is not None
        document = read(json_file, NewErrand, NEW_ERRANDS)
    else:
        document = checked(lambda: _errand(attach, extradata, cuid, given), DATA_NAMES)
    delivered = call.done(await call.cention.new_errand(document, call.token, timeout_s=call.timeout_s))
    _print(call, delivered, f"Errand {delivered.errand_id} is made." if delivered.errand_id else "The errand is made.")


def _errand(attach: tuple[Path, ...], extradata: Any, cuid: str | None, given: Mapping[str, Any]) -> NewErrand:
    message, answer, template = (_members(table, given) for table in (MESSAGE, ANSWER, TEMPLATE))
    integration, extra = _members(INTEGRATION, given), _members(EXTRA, given)
    if attach:
        message["attachments"] = tuple(map(_attachment, attach))
    if "params" in template:
        template["params"] = tuple(template["params"]) if isinstance(template["params"], list) else template["params"]
    if extra:
        integration["extraData"] = ExtraData(**extra)
    if integration:
        integration.setdefault("integrationName", AVENTA)
    return NewErrand(
        msg=Message(**message) if message else None,
        answer=Answer(**answer) if answer else None,
        watemplate=WhatsAppTemplate(**template) if template else None,
        extradata=extradata,
        integration_data=IntegrationData(**integration) if integration else None,
        cuid=cuid,
    )


def _attachment(path: Path) -> Attachment:
    try:
        return Attachment.of(path)
    except (OSError, FileTooLarge) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise click.BadParameter(f"cannot attach {path}: {why}.", param_hint="--attach") from None


@click.command()
@click.argument("errand_id", metavar="[ID]", type=ERRAND_ID, required=False)
@options(ANSWER)
@json_file_option
@connected("create_errand", lost=MAY_BE_DONE)
async def end(call: Call, errand_id: int | None, json_file: BinaryIO | None, **given: Any) -> None:
    """Close the errand ID, with an answer if one is given."""
    answer = _members(ANSWER, given)
    if instead(json_file, told({"errand_id": errand_id, **answer})):
        assert json_file is not None
        document = read(json_file, EndErrand, END_ERRANDS)
    elif errand_id is None:
        raise click.UsageError("give the errand's ID.")
    else:
        document = checked(lambda: EndErrand(errand_id=errand_id, answer=Answer(**answer) if answer else None))
    delivered = call.done(await call.cention.end_errand(document, call.token))
    _print(call, delivered, f"Errand {document.errand_id} is closed.")


@click.command("end")
@options(OBCALL)
@json_file_option
@connected("create_errand", lost=MAY_BE_DONE)
async def end_obcall(call: Call, json_file: BinaryIO | None, **given: Any) -> None:
    """Tell that an agent's outbound call has ended, so that the agent is no longer busy with it."""
    members = _members(OBCALL, given)
    beside_default = {name: value for name, value in members.items() if (name, value) != ("integrationName", AVENTA)}
    if instead(json_file, beside_default):
        assert json_file is not None
        document = read(json_file, EndObcall, END_ERRANDS)
    else:
        document = checked(lambda: EndObcall(**members), {})
    _print(call, call.done(await call.cention.end_obcall(document, call.token)), "The call is ended.")


def _print(call: Call, delivered: Delivered, sentence: str) -> None:
    if call.as_json:
        print_json({"outcome": "delivered", "status": delivered.status, "errandId": delivered.errand_id})
    else:
        click.echo(sentence)

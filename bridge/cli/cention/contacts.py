"""`cention contact card`: the endpoint whose token carries the claim "Access and create customer contacts"."""

from typing import Any, BinaryIO

import click
import orjson

from bridge.cention.documents import CHANNELS, CONTACT_CARDS, ContactCard
from bridge.cli.cention.call import Call, connected
from bridge.cli.cention.given import checked, instead, json_file_option, read, told
from bridge.cli.cention.output import facts, print_json


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [value.partition("=") for value in values]
    if not all(label and equals for label, equals, _ in pairs):
        raise click.BadParameter("write LABEL=VALUE.")
    return tuple((label, value) for label, _, value in pairs)


@click.command()
@click.option("--name", help="The person's name.")
@click.option("--email", multiple=True, help="Address; this and those below may be repeated.")
@click.option("--facebook", multiple=True, help="Account, such as 12345@facebook.com.")
@click.option("--vk", multiple=True, help="Account, such as centionvk-cc-12345.")
@click.option("--line", multiple=True, help="Account, such as centionline-c12345.")
@click.option("--voice", multiple=True, help="Telephone number with a plus.")
@click.option("--custom", multiple=True, metavar="LABEL=VALUE", callback=_pairs, help="Any other address.")
@json_file_option
@connected("contacts", lost="It may have been done; the same again changes nothing more.")
async def card(call: Call, json_file: BinaryIO | None, **given: Any) -> None:
    """Make a contact card, or add to the one that has any of the addresses. Prints the card as it is then."""
    if instead(json_file, told(given)):
        assert json_file is not None
        wanted = read(json_file, ContactCard, CONTACT_CARDS)
    else:
        wanted = checked(lambda: ContactCard.of(**given), {})
    kept = call.value(await call.cention.contact_card(wanted, call.token))
    if call.as_json:
        print_json(orjson.loads(kept.to_json()))
        return
    contacts = kept.contacts
    if contacts is None:
        click.echo("Cention took the card, and shows nothing of it.")
        return
    facts(
        [
            ("card", kept.c3_id),
            ("name", kept.person),
            *((channel, getattr(contacts, channel)) for channel in CHANNELS),
            *((each.label or "custom", each.value) for each in contacts.custom or ()),
        ]
    )

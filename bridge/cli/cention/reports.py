"""`cention errand report`, `dirty list`, `dirty mark`, `ratings list` and `ratings show`.

The endpoints whose token carries the claim "Access to errand data"; `walks` has the one command that uses several.
"""

import click
import orjson

from bridge.cention.documents import ErrandReport
from bridge.cli.cention.call import ASK_AGAIN, Call, connected
from bridge.cli.cention.given import ERRAND_ID, identifier
from bridge.cli.cention.output import facts, print_json, table

MAY_COUNT_AS_READ = "It may count as read now: `cention dirty mark ID` lets it count as changed again."


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(",")) if text else ()
    if not all(name.isidentifier() for name in names):
        raise click.BadParameter("names of attributes are wanted, such as sla or basic,sla.")
    return names


fields_option = click.option(
    "--fields",
    type=_names,
    default="",
    metavar="NAME[,…]",
    help="Ask for these alone: actions, basic, changed, extended, sla.",
)


@click.command()
@click.argument("errand_id", metavar="ID", type=ERRAND_ID)
@fields_option
@connected("errand_data", lost=MAY_COUNT_AS_READ)
async def report(call: Call, errand_id: int, fields: tuple[str, ...]) -> None:
    """Show the report of the errand ID. Reading it takes the errand off the list of those that have changed."""
    found = call.value(await call.cention.errand_report(errand_id, call.token, fields=fields))
    if call.as_json:
        print_json(orjson.loads(found.to_json()))
    else:
        print_report(errand_id, found)


def print_report(errand_id: int, report: ErrandReport) -> None:
    """Prints a report for people."""
    errand, extended, sla = report.errand, report.extended, report.sla
    feedback = None if extended is None else extended.feedback
    facts(
        [
            ("errand", errand_id),
            ("changed", report.changed),
            ("channel", errand.service_name),
            ("area", errand.area_name),
            ("agent", errand.agent),
            ("acquired", report.basic.acquired if report.basic else None),
            ("from name", errand.from_name),
            ("from", errand.from_address),
            ("to", errand.to_addresses),
            ("date", errand.date),
            ("subject", errand.subject),
            ("body", errand.body),
            ("answered", errand.answered),
            ("closed", errand.closed),
            ("deleted", errand.deleted),
            ("answer's subject", extended.answer_subject if extended else None),
            ("answer", extended.answer_body if extended else None),
            ("tags", tuple(tag.desc for tag in extended.errand_tags or ()) if extended else None),
            ("feedback", orjson.dumps(feedback).decode() if feedback else None),
            ("done is due", sla.done_due if sla else None),
            ("expiry", sla.expiry if sla else None),
            ("handling time, s", sla.handling_time if sla else None),
            ("response time, s", sla.response_time if sla else None),
            ("within SLA", sla.within_sla if sla else None),
        ]
    )
    if report.actions:
        table(("id", "time", "by", "what"), ((each.id, each.time, each.origin, each.note) for each in report.actions))


@click.command("list")
@connected("errand_data", lost=ASK_AGAIN)
async def dirty(call: Call) -> None:
    """List the errands that have changed since their report was read."""
    found = call.value(await call.cention.dirty_errands(call.token))
    if call.as_json:
        print_json(list(found))
    else:
        table(("errand",), ((errand_id,) for errand_id in found))


@click.command()
@click.argument("errand_ids", metavar="ID...", type=ERRAND_ID, nargs=-1, required=True)
@connected("errand_data", lost="It may have been done; to mark an errand twice does no harm.")
async def mark(call: Call, errand_ids: tuple[int, ...]) -> None:
    """Let errands count as changed, so that they are on the list again."""
    delivered = call.done(await call.cention.mark_dirty(errand_ids, call.token))
    if call.as_json:
        print_json({"outcome": "delivered", "status": delivered.status, "errands": list(errand_ids)})
    else:
        click.echo(f"{len(errand_ids)} {'errand counts' if len(errand_ids) == 1 else 'errands count'} as changed.")


@click.command("list")
@connected("errand_data")
async def ratings(call: Call) -> None:
    """List the Facebook ratings that have changed since they were read."""
    found = call.value(await call.cention.dirty_facebook_ratings(call.token))
    if call.as_json:
        print_json(list(found))
    else:
        table(("rating",), ((rating_id,) for rating_id in found))


@click.command("show")
@click.argument("rating_id", metavar="ID", type=identifier)
@connected("errand_data", lost="It may count as read now, and nothing documented lets it count as changed again.")
async def rating(call: Call, rating_id: str) -> None:
    """Show the Facebook rating ID. Reading it takes it off the list of those that have changed."""
    found = call.value(await call.cention.facebook_rating(rating_id, call.token))
    if call.as_json:
        print_json(orjson.loads(found.to_json()))
        return
    said = found.said
    facts(
        [
            ("rating", rating_id),
            ("stars", said.rating),
            ("by", said.reviewer_name),
            ("reviewer", said.reviewer_id),
            ("message", said.message),
            ("created", said.timestamp_created),
            ("changed", said.is_changed),
        ]
    )

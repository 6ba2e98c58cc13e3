"""`cention library …`: libraries, categories, questions; the claim "Access to library". `files` has their files."""

from collections.abc import Sequence
from typing import Any, get_args

import click

from bridge.cention.documents import Category, ExternalLibrary, Library, Linked, Question, SearchedPart
from bridge.cli.cention.call import Call, connected
from bridge.cli.cention.given import identifier
from bridge.cli.cention.output import document, facts, print_json, table

Shelf = Library | ExternalLibrary | Category

data_url_option = click.option("--data-url", is_flag=True, help="Have images come inside of the texts that embed them.")
external_option = click.option("--external", is_flag=True, help="Those that are shown to people outside.")
id_argument = click.argument("resource_id", metavar="ID", type=identifier)


@click.command("list")
@external_option
@data_url_option
@connected("library")
async def libraries(call: Call, external: bool, data_url: bool) -> None:
    """List the libraries."""
    if external:
        outside = call.value(await call.cention.external_libraries(call.token, data_url=data_url))
        _print_shelves(call, outside)
    else:
        every = call.value(await call.cention.libraries(call.token, data_url=data_url))
        _print_shelves(call, every)


@click.command()
@id_argument
@external_option
@data_url_option
@connected("library")
async def library(call: Call, resource_id: str, external: bool, data_url: bool) -> None:
    """Show the library ID, and everything in it."""
    if external:
        _print_shelf(call, call.value(await call.cention.external_library(resource_id, call.token, data_url=data_url)))
    else:
        _print_shelf(call, call.value(await call.cention.library(resource_id, call.token, data_url=data_url)))


@click.command()
@data_url_option
@connected("library")
async def categories(call: Call, data_url: bool) -> None:
    """List the categories."""
    found = call.value(await call.cention.library_categories(call.token, data_url=data_url))
    _print_shelves(call, found)


@click.command()
@id_argument
@data_url_option
@connected("library")
async def category(call: Call, resource_id: str, data_url: bool) -> None:
    """Show the category ID, and everything in it."""
    _print_shelf(call, call.value(await call.cention.library_category(resource_id, call.token, data_url=data_url)))


@click.command()
@click.option("--library", "library_id", metavar="ID", type=identifier, help="Those of one library.")
@click.option("--toplist", is_flag=True, help="Those of the top list.")
@click.option("--phrase", help="Those that hold a phrase.")
@click.option("--in", "option", type=click.Choice(get_args(SearchedPart)), help="Where the phrase is looked for.")
@data_url_option
@connected("library")
async def questions(
    call: Call,
    library_id: str | None,
    toplist: bool,
    phrase: str | None,
    option: SearchedPart | None,
    data_url: bool,
) -> None:
    """List the questions: all, those of a library, those of the top list, or those with a phrase."""
    if library_id is not None and (toplist or phrase is not None):
        raise click.UsageError("--library goes without --toplist and --phrase.")
    if option is not None and phrase is None:
        raise click.UsageError("--in needs --phrase.")
    if library_id is not None:
        read = await call.cention.library_questions_of(library_id, call.token, data_url=data_url)
    else:
        read = await call.cention.library_questions(
            call.token, toplist=toplist, phrase=phrase, option=option, data_url=data_url
        )
    found = call.value(read)
    if call.as_json:
        print_json(document(found))
    else:
        rows = ((each.id, each.subject, each.question, _ids(each, "attachments")) for each in found)
        table(("id", "subject", "question", "files"), rows)


@click.command()
@id_argument
@data_url_option
@connected("library")
async def question(call: Call, resource_id: str, data_url: bool) -> None:
    """Show the question ID with its answer."""
    found = call.value(await call.cention.library_question(resource_id, call.token, data_url=data_url))
    if call.as_json:
        print_json(document(found))
        return
    files = tuple(f"{file.id} {file.name or ''}" for file in found.attachments)
    facts(
        [
            ("question", found.id),
            ("subject", found.subject),
            ("text", found.question),
            ("answer", found.answer),
            ("files", files),
        ]
    )


def _print_shelves(call: Call, shelves: Sequence[Shelf]) -> None:
    if call.as_json:
        print_json(document(shelves))
        return
    parts = ("libraries", "categories", "questions")
    rows = ((each.id, each.name, _outside(each), *(_ids(each, part) for part in parts)) for each in shelves)
    table(("id", "name", "external", *parts), rows)


def _print_shelf(call: Call, shelf: Shelf) -> None:
    if call.as_json:
        print_json(document(shelf))
        return
    facts([("id", shelf.id), ("name", shelf.name), ("external", _outside(shelf))])
    inside: list[tuple[str, Any, Any]] = [("library", each.id, each.name) for each in shelf.reachable(Library)]
    inside += [("category", each.id, each.name) for each in shelf.reachable(Category)]
    inside += [("question", each.id, each.subject) for each in shelf.reachable(Question)]
    table(("in it", "id", "name"), inside)


def _outside(shelf: Shelf) -> bool | None:
    return shelf.external if isinstance(shelf, Library) else True if isinstance(shelf, ExternalLibrary) else None


def _ids(resource: Linked[Any], name: str) -> tuple[str, ...]:
    return tuple(str(each.id) for each in resource.identifiers(name))

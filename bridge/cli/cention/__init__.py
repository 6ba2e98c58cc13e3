"""`aventa-bridge cention`: every endpoint of Cention from a shell. The tables of its commands, and nothing else.

Each command reads its arguments, makes one call of `bridge.cention.client`, and prints what came. What they share:
`call` (options, token, failures), `given` (documents from options and files), `output` (tables, JSON, files).
"""

import click

from bridge.cli.lazy import LazyGroup, Table

ERRAND: Table = {
    "new": ("bridge.cli.cention.errands:new", "Create an errand, or tell again of a call."),
    "end": ("bridge.cli.cention.errands:end", "Close an errand."),
    "report": ("bridge.cli.cention.reports:report", "Show an errand's report; it no longer counts as changed then."),
}
OBCALL: Table = {
    "end": ("bridge.cli.cention.errands:end_obcall", "Tell that an agent's outbound call has ended."),
}
DIRTY: Table = {
    "list": ("bridge.cli.cention.reports:dirty", "List the errands that have changed."),
    "mark": ("bridge.cli.cention.reports:mark", "Let errands count as changed."),
    "walk": ("bridge.cli.cention.walks:walk", "Read the report of every errand that has changed."),
}
RATINGS: Table = {
    "list": ("bridge.cli.cention.reports:ratings", "List the Facebook ratings that have changed."),
    "show": ("bridge.cli.cention.reports:rating", "Show a Facebook rating; it no longer counts as changed then."),
}
CONTACT: Table = {
    "card": ("bridge.cli.cention.contacts:card", "Make a contact card, or add to one."),
}
LIBRARY: Table = {
    "list": ("bridge.cli.cention.library:libraries", "List the libraries."),
    "show": ("bridge.cli.cention.library:library", "Show a library and what is in it."),
    "categories": ("bridge.cli.cention.library:categories", "List the categories."),
    "category": ("bridge.cli.cention.library:category", "Show a category and what is in it."),
    "questions": ("bridge.cli.cention.library:questions", "List or search questions."),
    "question": ("bridge.cli.cention.library:question", "Show a question and its answer."),
}
FILES: Table = {
    "response": ("bridge.cli.cention.files:response", "A file of the answer to an errand."),
    "library": ("bridge.cli.cention.files:library", "A file of a library question."),
    "archive": ("bridge.cli.cention.files:archive", "An image that an answer or a question embeds."),
    "of-question": ("bridge.cli.cention.files:of_question", "All files of a library question."),
    "images-of-question": ("bridge.cli.cention.files:images_of_question", "All images that a question embeds."),
}
EXPORT: Table = {
    "trigger": ("bridge.cli.cention.exports:trigger", "Have a preset export made, and print or keep it."),
}
CALLBACK: Table = {
    "show": ("bridge.cli.cention.callbacks:show", "Show a callback that Cention posted, from a file."),
}
CENTION: Table = {
    "errand": ("bridge.cli.cention:errand_group", "Create, close and show errands."),
    "obcall": ("bridge.cli.cention:obcall_group", "End outbound calls."),
    "dirty": ("bridge.cli.cention:dirty_group", "The errands that have changed."),
    "ratings": ("bridge.cli.cention:ratings_group", "Facebook ratings."),
    "contact": ("bridge.cli.cention:contact_group", "Contact cards."),
    "logio": ("bridge.cli.cention.logio:logio", "List who logged in and out."),
    "library": ("bridge.cli.cention:library_group", "Libraries, categories and questions."),
    "files": ("bridge.cli.cention:files_group", "Attachments and archived images."),
    "export": ("bridge.cli.cention:export_group", "Exports."),
    "callback": ("bridge.cli.cention:callback_group", "Callbacks."),
}


@click.group(cls=LazyGroup, table=CENTION)
def cention() -> None:
    """Every endpoint of Cention from a shell. docs/cention-cli.md has an example of each.

    Where Cention is, and the tokens, come from the bridge's settings: --config, or the environment. A token is never an
    argument: --token-file names a file that holds one.

    Exit code 0 when it is done, 1 when it is not, 2 for bad usage or settings.
    """


def _group(table: Table, text: str) -> LazyGroup:
    return LazyGroup(table=table, help=text)


# Not called as the modules beside are: importing one of those would take the name.
errand_group = _group(ERRAND, "Create, close and show errands.")
obcall_group = _group(OBCALL, "End outbound calls.")
dirty_group = _group(DIRTY, "The errands that have changed since their report was read.")
ratings_group = _group(RATINGS, "Ratings of a Facebook page.")
contact_group = _group(CONTACT, "Contact cards.")
library_group = _group(LIBRARY, "The library: what agents look answers up in, and visitors of a web site are shown.")
files_group = _group(FILES, "Files that Cention keeps. --output writes them; without it, they are listed.")
export_group = _group(EXPORT, "Exports.")
callback_group = _group(CALLBACK, "What Cention posts to us.")

"""`cention files …`: attachments and archived images, listed or kept.

Invariant: a file's name is its sender's word, and becomes one of ours by `safe_name` before it is a path.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from bridge.cention.documents import FileResource, UnusableContent, safe_name
from bridge.cli.cention.call import Call, connected
from bridge.cli.cention.given import identifier
from bridge.cli.cention.output import (
    appearing,
    cannot_write,
    document,
    make_directory,
    print_json,
    refuse_existing,
    table,
)

FILE_TIMEOUT_S = 120.0

id_argument = click.argument("resource_id", metavar="ID", type=identifier)
without_content_option = click.option("--without-content", is_flag=True, help="Ask for names and types alone.")
force_option = click.option("--force", is_flag=True, help="Write over what is there.")
output_option = click.option(
    "--output",
    metavar="FILE|DIRECTORY",
    help="Where to keep it; in a directory under its own name, made safe; - for standard output.",
)
directory_option = click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Keep them there, under their own names, made safe.",
)


@click.command()
@id_argument
@output_option
@force_option
@connected("attachment", timeout_s=FILE_TIMEOUT_S)
async def response(call: Call, resource_id: str, output: str | None, force: bool) -> None:
    """The file ID of the answer to an errand; a callback tells its id."""
    _check(output, force=force)
    _one(call, call.value(await call.cention.response_attachment(resource_id, call.token)), output, force=force)


@click.command()
@id_argument
@output_option
@force_option
@without_content_option
@connected("library", timeout_s=FILE_TIMEOUT_S)
async def library(call: Call, resource_id: str, output: str | None, force: bool, without_content: bool) -> None:
    """The file ID of a library question."""
    _check(output, force=force, without_content=without_content)
    read = await call.cention.library_attachment(resource_id, call.token, without_content=without_content)
    _one(call, call.value(read), output, force=force)


@click.command()
@id_argument
@output_option
@force_option
@without_content_option
@connected("attachment", "library", timeout_s=FILE_TIMEOUT_S)
async def archive(call: Call, resource_id: str, output: str | None, force: bool, without_content: bool) -> None:
    """The image ID that an answer or a library question embeds."""
    _check(output, force=force, without_content=without_content)
    read = await call.cention.area_archive(resource_id, call.token, without_content=without_content)
    _one(call, call.value(read), output, force=force)


@click.command()
@id_argument
@directory_option
@force_option
@without_content_option
@connected("library", timeout_s=FILE_TIMEOUT_S)
async def of_question(call: Call, resource_id: str, output: Path | None, force: bool, without_content: bool) -> int:
    """All files of the library question ID."""
    _check(None if output is None else f"{output}/", force=force, without_content=without_content)
    found = call.value(
        await call.cention.question_attachments(resource_id, call.token, without_content=without_content)
    )
    return _several(call, found, output, force=force)


@click.command()
@id_argument
@directory_option
@force_option
@without_content_option
@connected("library", timeout_s=FILE_TIMEOUT_S)
async def images_of_question(
    call: Call, resource_id: str, output: Path | None, force: bool, without_content: bool
) -> int:
    """All images that the library question ID embeds."""
    _check(None if output is None else f"{output}/", force=force, without_content=without_content)
    found = call.value(await call.cention.question_archives(resource_id, call.token, without_content=without_content))
    return _several(call, found, output, force=force)


def _check(output: str | None, *, force: bool, without_content: bool = False) -> None:
    if output is not None and without_content:
        raise click.UsageError("--output needs the content.")
    if output is not None and output != "-" and not _is_directory(output):
        refuse_existing(Path(output), force=force)


def _is_directory(output: str) -> bool:
    return output.endswith("/") or Path(output).is_dir()


def _one(call: Call, file: FileResource, output: str | None, *, force: bool) -> None:
    if output is None:
        _list(call, [file], document(file))
    elif output == "-":
        click.echo(_content(file), nl=False)
    else:
        path = Path(output)
        if _is_directory(output):
            make_directory(path)
            path /= safe_name(file.name)
        _keep(file, path, force=force)
        _print_kept(call, [(file, path)])


def _several(call: Call, files: Sequence[FileResource], output: Path | None, *, force: bool) -> int:
    if output is None:
        _list(call, files, document(files))
        return 0
    make_directory(output)
    kept: list[tuple[FileResource, Path]] = []
    names: set[str] = set()
    for file in files:
        name = safe_name(file.name)
        if name.casefold() in names:  # two that were called alike, or became so
            name = safe_name(f"{file.id}-{name}")
        names.add(name.casefold())
        try:
            _keep(file, output / name, force=force)
        except click.ClickException as error:
            error.show()
        else:
            kept.append((file, output / name))
    _print_kept(call, kept)
    return 0 if len(kept) == len(files) else 1


def _keep(file: FileResource, path: Path, *, force: bool) -> None:
    content = _content(file)
    try:
        with appearing(path, force=force) as made:
            made.write_bytes(content)
    except OSError as error:
        raise cannot_write(error, path) from None


def _content(file: FileResource) -> bytes:
    try:
        content = file.decoded()
    except UnusableContent as error:
        raise click.ClickException(f"file {file.id}: {error}.") from None
    if content is None:
        raise click.ClickException(f"file {file.id}: Cention's answer carries no content.")
    return content


def _list(call: Call, files: Iterable[FileResource], whole: dict[str, Any]) -> None:
    if call.as_json:
        print_json(whole)
    else:
        rows = ((each.id, each.name, each.content_type, each.file.size) for each in files)
        table(("id", "name", "type", "bytes"), rows)


def _print_kept(call: Call, kept: Sequence[tuple[FileResource, Path]]) -> None:
    if call.as_json:
        print_json([{"id": file.id, "file": str(path), "bytes": path.stat().st_size} for file, path in kept])
        return
    for file, path in kept:
        click.echo(f"File {file.id} is in {path} ({path.stat().st_size} bytes).")

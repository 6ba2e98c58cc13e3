"""What the sandbox's views ask of a request: numbers and pages in its query, JSON in its body."""

from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from bridge.cention.documents import faults_of
from bridge.runtime.web import Problem

T = TypeVar("T")

_LIMIT_MAX = 10_000


def number(request: web.Request, name: str) -> int | None:
    """The query's parameter `name` as an integer from 0, or None where it is absent.

    Raises:
        Problem: 400.
    """
    if (text := request.query.get(name)) is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Problem(400, "invalid_query", f"{name} must be an integer, 0 or more.")
    return int(text)


def limit(request: web.Request, default: int) -> int:
    """How many the query asks for.

    Raises:
        Problem: 400.
    """
    asked = number(request, "limit")
    if asked is not None and not 1 <= asked <= _LIMIT_MAX:
        raise Problem(400, "invalid_query", f"limit must be from 1 to {_LIMIT_MAX}.")
    return asked or default


def page(request: web.Request, items: Iterator[T], *, most: int) -> tuple[list[T], int | None]:
    """The page that the query asks for, and the offset of the next one, if there is one.

    Args:
        request: with `limit` and `offset`.
        items: all there are.
        most: the limit where the query has none.

    Raises:
        Problem: 400.
    """
    offset, most = number(request, "offset") or 0, limit(request, most)
    found = list(islice(items, offset, offset + most + 1))
    return found[:most], offset + most if len(found) > most else None


def require_json(request: web.Request) -> None:
    """Refuses what a page of another origin may send without asking first: a POST that doesn't say it is JSON.

    Raises:
        Problem: 415.
    """
    if request.content_type != "application/json":
        raise Problem(415, "unsupported_media_type", "Content-Type must be application/json.")


def problem_errors(error: ValidationError) -> list[dict[str, str]]:
    """The faults of a document, as a problem lists them."""
    return [{"pointer": pointer, "detail": wanted} for pointer, wanted in faults_of(error)]


async def read(request: web.Request, adapter: TypeAdapter[T]) -> T:
    """The JSON of the request's body.

    Raises:
        Problem: 415, or 422 with every fault.
    """
    require_json(request)
    try:
        return adapter.validate_json(await request.read())
    except ValidationError as error:
        raise Problem(
            422,
            "invalid_data",
            "The document is not as wanted; nothing was changed.",
            errors=problem_errors(error),
        ) from None

"""The library, its files included. Source: Cention API, "Cention Library JSONAPI"."""

from typing import Any, get_args

from aiohttp import web

from bridge.cention.documents.attachments import LIBRARY_ATTACHMENTS
from bridge.cention.documents.library import (
    EXTERNAL_LIBRARIES,
    LIBRARIES,
    LIBRARY_CATEGORIES,
    LIBRARY_QUESTIONS,
    SearchedPart,
)
from bridge.cention.sandbox.asked import Asked, Served, Work, document, not_found
from bridge.cention.sandbox.checks import Refused
from bridge.cention.sandbox.shelves import Shelves

_OPTIONS = get_args(SearchedPart)


class Library:
    """The endpoints whose token carries the claim "Access to library"."""

    def __init__(self, shelves: Shelves) -> None:
        self._shelves = shelves

    def served(self) -> list[Served]:
        """What this part serves."""
        works: dict[str, Work] = {
            LIBRARIES: self._libraries,
            f"{LIBRARIES}/{{id}}": self._library,
            f"{LIBRARIES}/{{id}}/questions": self._questions_of,
            EXTERNAL_LIBRARIES: self._external_libraries,
            f"{EXTERNAL_LIBRARIES}/{{id}}": self._external_library,
            LIBRARY_CATEGORIES: self._categories,
            f"{LIBRARY_CATEGORIES}/{{id}}": self._category,
            LIBRARY_QUESTIONS: self._questions,
            f"{LIBRARY_QUESTIONS}/{{id}}": self._question,
            f"{LIBRARY_QUESTIONS}/{{id}}/attachments": self._attachments,
            f"{LIBRARY_QUESTIONS}/{{id}}/embedded_archives": self._archives,
            f"{LIBRARY_ATTACHMENTS}/{{id}}": self._attachment,
        }
        return [Served("GET", f"json/{path}", ("library",), work) for path, work in works.items()]

    def _libraries(self, asked: Asked) -> web.Response:
        return document(self._shelves.libraries(external=False, data_url=asked.flag("data_url")))

    def _library(self, asked: Asked) -> web.Response:
        found = self._shelves.library(asked.number, external=False, data_url=asked.flag("data_url"))
        return _found(found, "library")

    def _external_libraries(self, asked: Asked) -> web.Response:
        return document(self._shelves.libraries(external=True, data_url=asked.flag("data_url")))

    def _external_library(self, asked: Asked) -> web.Response:
        found = self._shelves.library(asked.number, external=True, data_url=asked.flag("data_url"))
        return _found(found, "external library")

    def _categories(self, asked: Asked) -> web.Response:
        return document(self._shelves.categories(data_url=asked.flag("data_url")))

    def _category(self, asked: Asked) -> web.Response:
        return _found(self._shelves.category(asked.number, data_url=asked.flag("data_url")), "category")

    def _questions(self, asked: Asked) -> web.Response:
        return self._listed(asked, None)

    def _questions_of(self, asked: Asked) -> web.Response:
        return self._listed(asked, asked.number)

    def _listed(self, asked: Asked, of: int | None) -> web.Response:
        option = asked.text("q_filter[option]") or "all"
        if option not in _OPTIONS:
            raise Refused(400, ("", f"q_filter[option] must be one of {', '.join(_OPTIONS)}"))
        found = self._shelves.questions(
            of=of,
            toplist=asked.flag("filter[toplist]"),
            phrase=asked.text("q_filter[phrase]"),
            option=option,
            data_url=asked.flag("data_url"),
        )
        return _found(found, "library")

    def _question(self, asked: Asked) -> web.Response:
        return _found(self._shelves.question(asked.number, data_url=asked.flag("data_url")), "question")

    def _attachments(self, asked: Asked) -> web.Response:
        found = self._shelves.attachments(asked.number, content=not asked.flag("without_content"))
        return _found(found, "question")

    def _archives(self, asked: Asked) -> web.Response:
        found = self._shelves.archives(asked.number, content=not asked.flag("without_content"))
        return _found(found, "question")

    def _attachment(self, asked: Asked) -> web.Response:
        found = self._shelves.attachment(asked.number, content=not asked.flag("without_content"))
        return _found(found, "attachment")


def _found(content: dict[str, Any] | None, what: str) -> web.Response:
    if content is None:
        raise not_found(what)
    return document(content)

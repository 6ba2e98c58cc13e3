"""The library as JSON:API documents: resources, what they relate to, and `included` in random order. Pure but for dice.

Shaped after the documentation's samples: a relation that leads back to what led here is left out, and so is an empty
one; a question alone has its link beside `data`, one among others has it in itself; links name another host and lack
the workspace.

Source: Cention API, "Cention Library JSONAPI".
"""

import html
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bridge.cention.documents.attachments import AREA_ARCHIVES, LIBRARY_ATTACHMENTS
from bridge.cention.documents.library import EXTERNAL_LIBRARIES, LIBRARIES, LIBRARY_CATEGORIES, LIBRARY_QUESTIONS
from bridge.cention.sandbox.data import Category, DataFile, Library, LibraryData, Question, Shelf
from bridge.cention.sandbox.files import attachment_of

_HREF = "https://test.example.com/capi/json"  # the samples' host: nobody should follow it

_INLINED = re.compile(r"cid:(\d{1,18})\b")
_TAG = re.compile(r"<[^>]*>")

Key = tuple[str, int]
Json = dict[str, Any]


@dataclass
class _Built:
    """One document in the making.

    Attributes:
        data_url: whether inlined images are put into the texts.
        included: by type and id; a resource is there before what it relates to, so that none is built twice.
    """

    data_url: bool
    included: dict[Key, Json] = field(default_factory=dict)


class Shelves:
    """The library that a sandbox serves.

    Args:
        data: what it holds.
        archive: finds an archived image by its id.
        dice: shuffle `included`.
    """

    def __init__(self, data: LibraryData, archive: Callable[[int], DataFile | None], dice: random.Random) -> None:
        self._archive, self._dice = archive, dice
        self._libraries = {library.id: library for library in data.libraries}
        self._categories = {category.id: category for category in data.categories}
        self._questions = {question.id: question for question in data.questions}
        self._attachments = {file.id: file for file in data.attachments}
        self._roots = self._found_roots()

    def libraries(self, *, external: bool, data_url: bool) -> Json:
        """The external libraries; or as few libraries as lead to all, the others in `included`, as in the sample."""
        found = [one for one in self._libraries.values() if one.external] if external else self._roots
        built = _Built(data_url)
        return self._document([self._library(one, built, external=external) for one in found], built)

    def library(self, number: int, *, external: bool, data_url: bool) -> Json | None:
        """One library; None where there is none with this id (that is external, if that is asked for)."""
        library = self._libraries.get(number)
        if library is None or (external and not library.external):
            return None
        built = _Built(data_url)
        return self._document(self._library(library, built, external=external), built)

    def categories(self, *, data_url: bool) -> Json:
        """All categories."""
        built = _Built(data_url)
        return self._document([self._category(one, built, ()) for one in self._categories.values()], built)

    def category(self, number: int, *, data_url: bool) -> Json | None:
        """One category; None where there is none with this id."""
        if (category := self._categories.get(number)) is None:
            return None
        built = _Built(data_url)
        return self._document(self._category(category, built, ()), built)

    def questions(self, *, of: int | None, toplist: bool, phrase: str, option: str, data_url: bool) -> Json | None:
        """Questions: all, or a library's own; None where there is no library `of`.

        Args:
            of: the library's id.
            toplist: only those of the top list.
            phrase: only those that have it in the part that `option` names, without regard to case.
            option: `question` (with its subject), `answer`, or `all`.
            data_url: whether inlined images are put into the texts.
        """
        found: Iterable[Question] = self._questions.values()
        if of is not None:
            if (library := self._libraries.get(of)) is None:
                return None
            found = (self._questions[number] for number in library.questions)
        wanted = phrase.casefold()
        built = _Built(data_url)
        questions = [
            {**self._question(one, built), "links": _links(LIBRARY_QUESTIONS, one.id)}
            for one in found
            if (one.toplist or not toplist) and wanted in _searched(one, option)
        ]
        return self._document(questions, built)

    def question(self, number: int, *, data_url: bool) -> Json | None:
        """One question; None where there is none with this id."""
        if (question := self._questions.get(number)) is None:
            return None
        built = _Built(data_url)
        links = _links(LIBRARY_QUESTIONS, number)
        return {**self._document(self._question(question, built), built), "links": links}

    def attachments(self, question: int, *, content: bool) -> Json | None:
        """A question's files; None where there is no question with this id."""
        if (found := self._questions.get(question)) is None:
            return None
        files = [self._attachments[number] for number in found.attachments]
        return _list([_file(LIBRARY_ATTACHMENTS, file, content=content) for file in files])

    def archives(self, question: int, *, content: bool) -> Json | None:
        """The images that a question's texts embed; None where there is no question with this id."""
        if (found := self._questions.get(question)) is None:
            return None
        numbers = dict.fromkeys(map(int, _INLINED.findall(f"{found.question} {found.answer}")))
        files = (file for number in numbers if (file := self._archive(number)) is not None)
        return _list([_file(AREA_ARCHIVES, file, content=content) for file in files])

    def attachment(self, number: int, *, content: bool) -> Json | None:
        """One file of a question; None where there is none with this id."""
        if (file := self._attachments.get(number)) is None:
            return None
        resource = _file(LIBRARY_ATTACHMENTS, file, content=content)
        return {"data": resource, "links": resource.pop("links")}

    def _found_roots(self) -> list[Library]:
        """As few libraries as lead to all, in the data's order.

        Walked twice: what a first walk leaves last can be reached from no other, unless it reaches that one itself.
        """
        left: dict[Key, None] = {}
        for number in self._libraries:
            self._walk((LIBRARIES, number), left)
        reached: dict[Key, None] = {}
        roots = set()
        for kind, number in reversed(left):
            if kind == LIBRARIES and (kind, number) not in reached:
                roots.add(number)
                self._walk((kind, number), reached)
        return [library for number, library in self._libraries.items() if number in roots]

    def _walk(self, start: Key, left: dict[Key, None]) -> None:
        """Adds to `left` what libraries and categories can be reached, each when all beyond it has been."""
        entered, path = {start}, [(start, iter(self._within(start)))]
        while path:
            key, rest = path[-1]
            following = next((one for one in rest if one not in entered and one not in left), None)
            if following is None:
                path.pop()
                left.setdefault(key)
            else:
                entered.add(following)
                path.append((following, iter(self._within(following))))

    def _within(self, key: Key) -> list[Key]:
        kind, number = key
        shelf: Shelf = self._libraries[number] if kind == LIBRARIES else self._categories[number]
        return [(LIBRARIES, one) for one in shelf.libraries] + [(LIBRARY_CATEGORIES, one) for one in shelf.categories]

    def _document(self, data: Json | list[Json], built: _Built) -> Json:
        primary = data if isinstance(data, list) else [data]
        for resource in primary:  # a resource is in a document once. Source: JSON:API 1.0, "Compound Documents"
            built.included.pop((resource["type"], int(resource["id"])), None)
        included = list(built.included.values())
        self._dice.shuffle(included)
        whole = _list(data) if isinstance(data, list) else {"data": data}
        return {**whole, **({"included": included} if included else {})}

    def _library(self, library: Library, built: _Built, *, external: bool) -> Json:
        kind = EXTERNAL_LIBRARIES if external else LIBRARIES
        attributes = {"c3_id": library.id, **({} if external else {"external": library.external}), "name": library.name}
        return _resource(kind, library.id, attributes, self._shelf(library, built, ((kind, library.id),)))

    def _category(self, category: Category, built: _Built, path: tuple[Key, ...]) -> Json:
        key = (LIBRARY_CATEGORIES, category.id)
        attributes = {"c3_id": category.id, "name": category.name}
        return _resource(*key, attributes, self._shelf(category, built, (*path, key)))

    def _shelf(self, shelf: Shelf, built: _Built, path: tuple[Key, ...]) -> Json:
        """The relationships of a library or category that `path` led to, whose ends are then included."""
        related = {}
        for name, kind in (
            ("libraries", LIBRARIES),
            ("categories", LIBRARY_CATEGORIES),
            ("questions", LIBRARY_QUESTIONS),
        ):
            ends = [(kind, number) for number in getattr(shelf, name) if (kind, number) not in path]
            for end in ends:
                self._include(end, built, path)
            if ends:
                related[name] = {"data": [_identifier(*end) for end in ends]}
        return related

    def _include(self, key: Key, built: _Built, path: tuple[Key, ...]) -> None:
        if key in built.included:
            return
        kind, number = key
        built.included[key] = {}  # what it relates to may relate to it
        if kind == LIBRARIES:
            library = self._libraries[number]
            attributes = {"c3_id": number, "external": library.external, "name": library.name}
            resource = _resource(kind, number, attributes, self._shelf(library, built, (*path, key)))
        elif kind == LIBRARY_CATEGORIES:
            resource = self._category(self._categories[number], built, path)
        else:
            resource = {**self._question(self._questions[number], built), "links": _links(kind, number)}
        built.included[key] = resource

    def _question(self, question: Question, built: _Built) -> Json:
        def text(raw: str) -> str:
            return _INLINED.sub(self._data_url, raw) if built.data_url else raw

        attributes = {
            "answer": text(question.answer),
            "c3_id": question.id,
            "question": text(question.question),
            "subject": question.subject,
        }
        related = {}
        if question.attachments:
            at = f"{_HREF}/{LIBRARY_QUESTIONS}/{question.id}"
            related["attachments"] = {
                "data": [_identifier(LIBRARY_ATTACHMENTS, number) for number in question.attachments],
                "links": {
                    "related": {"href": f"{at}/attachments"},
                    "self": {"href": f"{at}/relationships/attachments"},
                },
            }
        for number in question.attachments:
            file = _file(LIBRARY_ATTACHMENTS, self._attachments[number], content=False)
            built.included.setdefault((LIBRARY_ATTACHMENTS, number), file)
        return _resource(LIBRARY_QUESTIONS, question.id, attributes, related)

    def _data_url(self, reference: re.Match[str]) -> str:
        file = self._archive(int(reference[1]))
        return reference[0] if file is None else f"data:{file.content_type};base64,{file.base64}"


def _searched(question: Question, option: str) -> str:
    """The text that a phrase is looked for in, as people read it."""
    asked, answered = (question.subject, question.question), (question.answer,)
    parts = {"question": asked, "answer": answered}.get(option, asked + answered)
    return "\n".join(html.unescape(_TAG.sub(" ", part)) for part in parts).casefold()


def _list(resources: list[Json]) -> Json:
    return {"data": resources or None}  # Go's empty list: null


def _resource(kind: str, number: int, attributes: Json, related: Json) -> Json:
    resource = {"type": kind, "id": str(number), "attributes": attributes}
    return {**resource, "relationships": related} if related else resource


def _identifier(kind: str, number: int) -> Json:
    return {"type": kind, "id": str(number)}


def _links(kind: str, number: int) -> Json:
    return {"self": {"href": f"{_HREF}/{kind}/{number}"}}


def _file(kind: str, file: DataFile, *, content: bool) -> Json:
    attributes = {"attachment": attachment_of(file, content=content), "c3_id": file.id}
    return {**_identifier(kind, file.id), "attributes": attributes, "links": _links(kind, file.id)}

"""The library: what agents look answers up in, and what visitors of a web site are shown.

Libraries hold libraries, categories and questions; categories hold the same; questions hold files. A category may hold
the library that holds it.

Source: Cention API, "Cention Library JSONAPI".
"""

from typing import Literal, TypeVar

from bridge.cention.documents.attachments import AreaArchive, LibraryAttachment
from bridge.cention.documents.base import Document, JsonInteger
from bridge.cention.documents.jsonapi import Linked

LIBRARIES = "c3_libraries"
"""Endpoint and resource type. Source: Cention API, "Library"."""
EXTERNAL_LIBRARIES = "c3_external_libraries"
"""Endpoint and resource type. Source: Cention API, "External Library"."""
LIBRARY_CATEGORIES = "c3_library_categories"
"""Endpoint and resource type. Source: Cention API, "Category"."""
LIBRARY_QUESTIONS = "c3_library_questions"
"""Endpoint and resource type. Source: Cention API, "Library Question"."""
SearchedPart = Literal["all", "question", "answer"]
"""What a phrase is looked for in. Source: Cention API, "Library Question", `q_filter[option]`."""

LIBRARY_BYTES_MAX = 32 * 2**20
"""What is read of a library's document: it is the whole library in one answer, images and all with `data_url`."""


class QuestionAttributes(Document):
    """Source: Cention API, "Library Question", `data.attributes`."""

    c3_id: JsonInteger | None = None
    subject: str | None = None
    question: str | None = None
    """HTML."""
    answer: str | None = None
    """HTML, or text."""


class Question(Linked[QuestionAttributes]):
    """A question of the library, with its answer."""

    TYPE = LIBRARY_QUESTIONS

    @property
    def subject(self) -> str | None:
        return self.attributes.subject if self.attributes is not None else None

    @property
    def question(self) -> str | None:
        """HTML."""
        return self.attributes.question if self.attributes is not None else None

    @property
    def answer(self) -> str | None:
        """HTML, or text."""
        return self.attributes.answer if self.attributes is not None else None

    @property
    def attachments(self) -> tuple[LibraryAttachment, ...]:
        """Its files, without their contents, as far as the document carries them."""
        return self.related("attachments", LibraryAttachment)


class CategoryAttributes(Document):
    """Source: Cention API, "Category" and "External Library", `data.attributes`."""

    c3_id: JsonInteger | None = None
    name: str | None = None


class LibraryAttributes(CategoryAttributes):
    """Source: Cention API, "Library", `data.attributes`."""

    external: bool | None = None
    """Whether it is shown to people outside."""


N = TypeVar("N", bound=CategoryAttributes)


class Shelf(Linked[N]):
    """The base of what holds libraries, categories and questions."""

    @property
    def name(self) -> str | None:
        return self.attributes.name if self.attributes is not None else None

    @property
    def libraries(self) -> tuple["Library", ...]:
        """Libraries in it, as far as the document carries them."""
        return self.related("libraries", Library)

    @property
    def categories(self) -> tuple["Category", ...]:
        """Categories in it, as far as the document carries them."""
        return self.related("categories", Category)

    @property
    def questions(self) -> tuple[Question, ...]:
        """Questions directly in it, as far as the document carries them; `reachable(Question)` has those below too."""
        return self.related("questions", Question)


class Library(Shelf[LibraryAttributes]):
    """A library."""

    TYPE = LIBRARIES

    @property
    def external(self) -> bool | None:
        """Whether it is shown to people outside."""
        return self.attributes.external if self.attributes is not None else None


class ExternalLibrary(Shelf[CategoryAttributes]):
    """A library that is shown to people outside, in its own right; its document does not say `external`."""

    TYPE = EXTERNAL_LIBRARIES


class Category(Shelf[CategoryAttributes]):
    """A category."""

    TYPE = LIBRARY_CATEGORIES


IN_A_LIBRARY: tuple[type[Linked], ...] = (Library, ExternalLibrary, Category, Question, LibraryAttachment, AreaArchive)  # type: ignore[type-arg]
"""What a document of the library may include."""

"""The library: libraries, external libraries, categories, questions, and the files and images of questions.

Each document carries what its resources lead to, so that `library.questions` needs no request of its own.
"""

from bridge.cention.documents import (
    EXTERNAL_LIBRARIES,
    FILE_BYTES_MAX,
    IN_A_LIBRARY,
    LIBRARIES,
    LIBRARY_ATTACHMENTS,
    LIBRARY_BYTES_MAX,
    LIBRARY_CATEGORIES,
    LIBRARY_QUESTIONS,
    AreaArchive,
    Category,
    ExternalLibrary,
    Library,
    LibraryAttachment,
    Question,
    SearchedPart,
)
from bridge.cention.endpoints.base import Endpoint, with_query
from bridge.cention.outcome import Failure, Fetched


class Libraries(Endpoint):
    """The endpoints whose token carries the claim "Access to library".

    Args that mean the same everywhere:
        data_url: whether images that a text embeds come inside of it, as `data:` URLs.
        bytes_max: an answer of so many bytes or more is refused. A library comes whole, with all that is in it.
        without_content: whether to leave the files' contents out.
        file_bytes_max: how large a file may be, in bytes, decoded; what is larger is `Rejected`.
        timeout_s: seconds in place of the client's, since files may take longer than a document.
    """

    async def libraries(
        self, token: str, *, data_url: bool = False, bytes_max: int = LIBRARY_BYTES_MAX
    ) -> Fetched[tuple[Library, ...]] | Failure:
        """GET `c3_libraries`: all of them.

        Source: Cention API, "Library".
        """
        url = with_query(self._url(LIBRARIES), data_url=data_url)
        return await self._many(url, token, Library, IN_A_LIBRARY, bytes_max=bytes_max)

    async def library(
        self, library_id: int | str, token: str, *, data_url: bool = False, bytes_max: int = LIBRARY_BYTES_MAX
    ) -> Fetched[Library] | Failure:
        """GET `c3_libraries/<id>`.

        Source: Cention API, "Library".
        """
        url = with_query(self._url(LIBRARIES, library_id), data_url=data_url)
        return await self._one(url, token, Library, IN_A_LIBRARY, bytes_max=bytes_max)

    async def library_questions_of(
        self, library_id: int | str, token: str, *, data_url: bool = False, bytes_max: int = LIBRARY_BYTES_MAX
    ) -> Fetched[tuple[Question, ...]] | Failure:
        """GET `c3_libraries/<id>/questions`: the questions of one library.

        Source: Cention API, "Library Question".
        """
        url = with_query(self._url(LIBRARIES, library_id, "questions"), data_url=data_url)
        return await self._many(url, token, Question, IN_A_LIBRARY, bytes_max=bytes_max)

    async def external_libraries(
        self, token: str, *, data_url: bool = False, bytes_max: int = LIBRARY_BYTES_MAX
    ) -> Fetched[tuple[ExternalLibrary, ...]] | Failure:
        """GET `c3_external_libraries`: the libraries that are shown to people outside.

        Source: Cention API, "External Library".
        """
        url = with_query(self._url(EXTERNAL_LIBRARIES), data_url=data_url)
        return await self._many(url, token, ExternalLibrary, IN_A_LIBRARY, bytes_max=bytes_max)

    async def external_library(
        self, library_id: int | str, token: str, *, data_url: bool = False, bytes_max: int = LIBRARY_BYTES_MAX
    ) -> Fetched[ExternalLibrary] | Failure:
        """GET `c3_external_libraries/<id>`.

        Source: Cention API, "External Library".
        """
        url = with_query(self._url(EXTERNAL_LIBRARIES, library_id), data_url=data_url)
        return await self._one(url, token, ExternalLibrary, IN_A_LIBRARY, bytes_max=bytes_max)

    async def library_categories(
        self, token: str, *, data_url: bool = False, bytes_max: int = LIBRARY_BYTES_MAX
    ) -> Fetched[tuple[Category, ...]] | Failure:
        """GET `c3_library_categories`: all of them.

        Source: Cention API, "Category".
        """
        url = with_query(self._url(LIBRARY_CATEGORIES), data_url=data_url)
        return await self._many(url, token, Category, IN_A_LIBRARY, bytes_max=bytes_max)

    async def library_category(
        self, category_id: int | str, token: str, *, data_url: bool = False, bytes_max: int = LIBRARY_BYTES_MAX
    ) -> Fetched[Category] | Failure:
        """GET `c3_library_categories/<id>`.

        Source: Cention API, "Category".
        """
        url = with_query(self._url(LIBRARY_CATEGORIES, category_id), data_url=data_url)
        return await self._one(url, token, Category, IN_A_LIBRARY, bytes_max=bytes_max)

    async def library_questions(
        self,
        token: str,
        *,
        toplist: bool = False,
        phrase: str | None = None,
        option: SearchedPart | None = None,
        data_url: bool = False,
        bytes_max: int = LIBRARY_BYTES_MAX,
    ) -> Fetched[tuple[Question, ...]] | Failure:
        """GET `c3_library_questions`: all of them, or those that are looked for.

        Args:
            token: one with the claim "Access to library".
            toplist: whether to get only those of the top list.
            phrase: what to look for.
            option: which part to look for it in; the server's default where it is None.
            data_url: as above.
            bytes_max: as above.

        Source: Cention API, "Library Question", "Query parameters for GET all".
        """
        filters = {"filter[toplist]": toplist, "q_filter[phrase]": phrase, "q_filter[option]": option}
        url = with_query(self._url(LIBRARY_QUESTIONS), filters, data_url=data_url)
        return await self._many(url, token, Question, IN_A_LIBRARY, bytes_max=bytes_max)

    async def library_question(
        self, question_id: int | str, token: str, *, data_url: bool = False, bytes_max: int = LIBRARY_BYTES_MAX
    ) -> Fetched[Question] | Failure:
        """GET `c3_library_questions/<id>`.

        Source: Cention API, "Library Question".
        """
        url = with_query(self._url(LIBRARY_QUESTIONS, question_id), data_url=data_url)
        return await self._one(url, token, Question, IN_A_LIBRARY, bytes_max=bytes_max)

    async def question_attachments(
        self,
        question_id: int | str,
        token: str,
        *,
        without_content: bool = False,
        bytes_max: int = LIBRARY_BYTES_MAX,
        timeout_s: float | None = None,
    ) -> Fetched[tuple[LibraryAttachment, ...]] | Failure:
        """GET `c3_library_questions/<id>/attachments`: the files of one question, all in one answer.

        Source: Cention API, "Library Attachment".
        """
        url = with_query(self._url(LIBRARY_QUESTIONS, question_id, "attachments"), without_content=without_content)
        return await self._many(url, token, LibraryAttachment, IN_A_LIBRARY, bytes_max=bytes_max, timeout_s=timeout_s)

    async def question_archives(
        self,
        question_id: int | str,
        token: str,
        *,
        without_content: bool = False,
        bytes_max: int = LIBRARY_BYTES_MAX,
        timeout_s: float | None = None,
    ) -> Fetched[tuple[AreaArchive, ...]] | Failure:
        """GET `c3_library_questions/<id>/embedded_archives`: the images that one question embeds, all in one answer.

        Source: Cention API, "Library Attachment".
        """
        path = self._url(LIBRARY_QUESTIONS, question_id, "embedded_archives")
        url = with_query(path, without_content=without_content)
        return await self._many(url, token, AreaArchive, IN_A_LIBRARY, bytes_max=bytes_max, timeout_s=timeout_s)

    async def library_attachment(
        self,
        attachment_id: int | str,
        token: str,
        *,
        without_content: bool = False,
        file_bytes_max: int = FILE_BYTES_MAX,
        timeout_s: float | None = None,
    ) -> Fetched[LibraryAttachment] | Failure:
        """GET `c3_library_attachments/<id>`: a file of a question.

        Source: Cention API, "Library Attachment".
        """
        url = with_query(self._url(LIBRARY_ATTACHMENTS, attachment_id), without_content=without_content)
        return await self._file(url, token, LibraryAttachment, file_bytes_max, timeout_s)

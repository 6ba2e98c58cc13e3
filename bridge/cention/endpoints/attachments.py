"""Files that a callback speaks of: those attached to an answer, and images embedded in it."""

from bridge.cention.documents import (
    AREA_ARCHIVES,
    FILE_BYTES_MAX,
    RESPONSE_ATTACHMENTS,
    AreaArchive,
    ResponseAttachment,
)
from bridge.cention.endpoints.base import Endpoint, with_query
from bridge.cention.outcome import Failure, Fetched


class Attachments(Endpoint):
    """The endpoints whose token carries the claim "get attachment"; `area_archive` serves the library's claim too."""

    async def response_attachment(
        self,
        attachment_id: int | str,
        token: str,
        *,
        file_bytes_max: int = FILE_BYTES_MAX,
        timeout_s: float | None = None,
    ) -> Fetched[ResponseAttachment] | Failure:
        """GET `c3_response_attachments/<id>`: a file of the answer to an errand; `decoded()` gives its bytes.

        Args:
            attachment_id: the file's database id, from a callback.
            token: one with the claim "get attachment".
            file_bytes_max: how large the file may be, in bytes, decoded; what is larger is `Rejected`.
            timeout_s: seconds in place of the client's, since a file may take longer than a document.

        Source: Cention API, "Cention Callback API".
        """
        url = self._url(RESPONSE_ATTACHMENTS, attachment_id)
        return await self._file(url, token, ResponseAttachment, file_bytes_max, timeout_s)

    async def area_archive(
        self,
        archive_id: int | str,
        token: str,
        *,
        without_content: bool = False,
        file_bytes_max: int = FILE_BYTES_MAX,
        timeout_s: float | None = None,
    ) -> Fetched[AreaArchive] | Failure:
        """GET `c3_area_archives/<id>`: an image that an answer or a library question embeds.

        Args:
            archive_id: the image's database id.
            token: one with the claim "get attachment", or "Access to library".
            without_content: whether to leave the content out.
            file_bytes_max: as for `response_attachment`.
            timeout_s: as for `response_attachment`.

        Source: Cention API, "Cention Callback API", "Library Attachment".
        """
        url = with_query(self._url(AREA_ARCHIVES, archive_id), without_content=without_content)
        return await self._file(url, token, AreaArchive, file_bytes_max, timeout_s)

"""Files of answers, and archived images. Source: Cention API, "Cention Callback API", "Library Attachment"."""

from aiohttp import web

from bridge.cention.documents.attachments import AREA_ARCHIVES, RESPONSE_ATTACHMENTS
from bridge.cention.sandbox.asked import Asked, Served, document, not_found
from bridge.cention.sandbox.data import DataFile
from bridge.cention.sandbox.files import Files, attachment_of


class ServedFiles:
    """The endpoints whose token carries the claim "get attachment"; images also go with "Access to library"."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def served(self) -> list[Served]:
        """What this part serves."""
        return [
            Served("GET", f"json/{RESPONSE_ATTACHMENTS}/{{id}}", ("attachment",), self._attachment),
            Served("GET", f"json/{AREA_ARCHIVES}/{{id}}", ("attachment", "library"), self._archive),
        ]

    def _attachment(self, asked: Asked) -> web.Response:
        return _file(RESPONSE_ATTACHMENTS, self._files.attachment(asked.number), asked)

    def _archive(self, asked: Asked) -> web.Response:
        return _file(AREA_ARCHIVES, self._files.archive(asked.number), asked)


def _file(kind: str, file: DataFile | None, asked: Asked) -> web.Response:
    if file is None:
        raise not_found("file")
    attachment = attachment_of(file, content=not asked.flag("without_content"))
    return document({"data": {"id": str(file.id), "type": kind, "attributes": {"attachment": attachment}}})

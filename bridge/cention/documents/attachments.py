"""Files that Cention keeps: attachments of answers and of library questions, and images that texts embed.

Read only; a file of an errand that is to be created is an `Attachment` in `errands`.

Invariant: what a file is called, and of which type, is the sender's word, kept as it stands; `safe_name` is for where a
name becomes a path.

Source: Cention API, "Cention Callback API", "Library Attachment".
"""

import base64
import binascii
import re
import unicodedata

from bridge.cention.documents.base import Document, JsonInteger
from bridge.cention.documents.jsonapi import Linked

RESPONSE_ATTACHMENTS = "c3_response_attachments"
"""Endpoint and resource type. Source: Cention API, "Cention Callback API"."""
AREA_ARCHIVES = "c3_area_archives"
"""Endpoint and resource type. Source: Cention API, "Cention Callback API", "Library Attachment"."""
LIBRARY_ATTACHMENTS = "c3_library_attachments"
"""Endpoint and resource type. Source: Cention API, "Library Attachment"."""

FILE_BYTES_MAX = 25 * 2**20
"""How large a file may be, decoded: what the large mail services let one message carry, and Cention's files come and go
by mail. Cention documents no limit."""

_ENVELOPE_BYTES = 65_536  # what stands around the content: names, types, links
_NAME_BYTES_MAX = 200  # file systems allow 255; leaves room for a prefix of whoever stores it
_EXTENSION_BYTES_MAX = 20
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.IGNORECASE)
_KEPT_MARKS = frozenset(" ._-()+=@,&#")


def answer_bytes_max(file_bytes_max: int) -> int:
    """The bound for an answer that carries a file of at most `file_bytes_max` bytes.

    Base64 takes four thirds; escaped slashes or broken lines, which JSON writers and mail writers are fond of, take a
    little more.
    """
    return file_bytes_max + file_bytes_max // 2 + _ENVELOPE_BYTES


class UnusableContent(ValueError):
    """A file's content that is no base64, or decodes to more than was allowed. The text repeats nothing of it."""


class StoredFile(Document):
    """A file, as far as the answer carries it.

    Source: Cention API, "Cention Callback API", "Library Attachment", `data.attributes.attachment`.
    """

    c3_id: JsonInteger | None = None
    content_type: str | None = None
    """The file's media type, such as `text/plain`: the sender's word."""
    name: str | None = None
    """The file's name: the sender's word, which may be a path; see `safe_name`."""
    content: str | None = None
    """The file, base64 (RFC 4648 section 4); None where it was not asked for or is not told."""

    @property
    def size(self) -> int | None:
        """How large the file is, in bytes, by the length of its content; None where that is."""
        if self.content is None:
            return None
        packed = len(self.content) - sum(map(self.content.count, " \t\r\n"))
        return packed * 3 // 4 - self.content[-8:].count("=")

    def decoded(self, bytes_max: int = FILE_BYTES_MAX) -> bytes | None:
        """The file; None where `content` is.

        Args:
            bytes_max: the largest file that is wanted, in bytes.

        Raises:
            UnusableContent: it is larger, or no base64.
        """
        if self.content is None:
            return None
        if (self.size or 0) > bytes_max:  # before anything is copied
            raise UnusableContent(f"the file is larger than {bytes_max} bytes")
        packed = "".join(self.content.split())  # line breaks carry nothing
        try:
            return base64.b64decode(packed, validate=True)
        except (binascii.Error, ValueError):
            raise UnusableContent("the content is no base64") from None


class FileAttributes(Document):
    """Source: Cention API, "Library Attachment", the sample."""

    c3_id: JsonInteger | None = None
    attachment: StoredFile | None = None


class FileResource(Linked[FileAttributes]):
    """A resource that is a file. Without attributes, or with none but `c3_id`, where it is only mentioned."""

    @property
    def file(self) -> StoredFile:
        """The file; all None where the resource is only mentioned."""
        stored = self.attributes.attachment if self.attributes is not None else None
        return StoredFile() if stored is None else stored

    @property
    def name(self) -> str | None:
        """The file's name, as the sender gave it: never a path before `safe_name` had it."""
        return self.file.name

    @property
    def content_type(self) -> str | None:
        """The file's media type, as the sender gave it."""
        return self.file.content_type

    def decoded(self, bytes_max: int = FILE_BYTES_MAX) -> bytes | None:
        """The file; None where the answer carries no content.

        Raises:
            UnusableContent: it is larger than `bytes_max` bytes, or no base64.
        """
        return self.file.decoded(bytes_max)


class ResponseAttachment(FileResource):
    """A file of the answer to an errand. Source: Cention API, "Cention Callback API"."""

    TYPE = RESPONSE_ATTACHMENTS


class AreaArchive(FileResource):
    """An image that an answer or a library question embeds. Source: Cention API, "Library Attachment"."""

    TYPE = AREA_ARCHIVES


class LibraryAttachment(FileResource):
    """A file of a library question. Source: Cention API, "Library Attachment"."""

    TYPE = LIBRARY_ATTACHMENTS


def safe_name(name: str | None, fallback: str = "attachment") -> str:
    """`name` fit to be a file's name in a directory of ours, on any common system; the same for the same `name`.

    Two names may become one: whoever stores must not overwrite.

    Args:
        name: as Cention told it.
        fallback: what stands for a name of which nothing is left; safe itself.

    Returns:
        One path component of 1 to 200 bytes of UTF-8: letters, digits, single spaces and a few marks; it neither begins
        with a dot, a hyphen or a space, nor ends with a dot or a space, nor is a device's name on Windows.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFKC", name or ""))[-1]
    # Letters, marks on letters, digits. Controls are no such thing, nor is what turns the direction of writing (which
    # would show "exe.txt" for "txt.exe").
    kept = "".join(c if c in _KEPT_MARKS or unicodedata.category(c)[0] in "LMN" else "_" for c in last)
    stem, dot, extension = " ".join(kept.split()).rpartition(".")
    if not dot or len(extension.encode()) > _EXTENSION_BYTES_MAX:
        stem, dot, extension = f"{stem}{dot}{extension}", "", ""
    room = _NAME_BYTES_MAX - len(f"_{dot}{extension}".encode())
    cut = stem.encode()[:room].decode("utf-8", "ignore")
    safe = f"{cut}{dot}{extension}".lstrip(" .-").rstrip(" .")
    if not safe.strip("_ ."):
        return fallback
    return f"_{safe}" if _RESERVED.match(safe) else safe

"""What the parts of the client share: where an endpoint is, and how a document that was asked for is read.

Invariants:
- The text of a failure says where a document is not as documented, and never what stood there, since values are
  people's names and numbers.
- An id stays within its place in the path: what could lead elsewhere is refused before anything is sent.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from bridge.cention.answer import Answer
from bridge.cention.documents import (
    Document,
    FileResource,
    Linked,
    answer_bytes_max,
    fault_lines,
    read_answer,
    read_many,
    read_one,
)
from bridge.cention.outcome import Failure, Fetched, Rejected
from bridge.cention.transport import DOCUMENT_BYTES_MAX, Transport

D = TypeVar("D", bound=Document)
L = TypeVar("L", bound=Linked[Any])
F = TypeVar("F", bound=FileResource)
R = TypeVar("R")

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Endpoint:
    """The base of each part of the client."""

    base_url: str
    """`http(s)://<host>/s/<workspace>`."""
    _transport: Transport

    def _url(self, endpoint: str, resource_id: int | str | None = None, part: str | None = None) -> str:
        """Where `endpoint` is, or one of its resources, or a part of that.

        Raises:
            ValueError: `resource_id` is none.
        """
        url = f"{self.base_url}/capi/json/{endpoint}"
        if resource_id is None:
            return url
        if not _ID.fullmatch(str(resource_id)):
            raise ValueError("an id is a number, or letters, digits, hyphens and underscores")
        return f"{url}/{resource_id}" if part is None else f"{url}/{resource_id}/{part}"

    async def _read(self, url: str, token: str, attributes: type[D]) -> Fetched[D | None] | Failure:
        """GETs the one resource at `url`; None where the answer carries no attributes."""
        answer = await self._transport.get(url, token)
        if not isinstance(answer, Answer):
            return answer
        try:
            data = read_answer(answer.body, attributes).data
        except ValidationError as error:
            return not_as_documented(answer.status, error)
        return Fetched(None if data is None else data.attributes, answer.status)

    async def _one(
        self,
        url: str,
        token: str,
        kind: type[L],
        among: Iterable[type[Linked[Any]]] = (),
        *,
        bytes_max: int = DOCUMENT_BYTES_MAX,
        timeout_s: float | None = None,
    ) -> Fetched[L] | Failure:
        """GETs the one resource at `url`; `Rejected` where the answer says that there is none."""
        read = await self._linked(url, token, lambda body: read_one(body, kind, among), bytes_max, timeout_s)
        if not isinstance(read, Fetched):
            return read
        if read.value.data is None:
            return Rejected(read.status, "the answer carries no resource")
        return Fetched(read.value.data, read.status)

    async def _many(
        self,
        url: str,
        token: str,
        kind: type[L],
        among: Iterable[type[Linked[Any]]] = (),
        *,
        bytes_max: int = DOCUMENT_BYTES_MAX,
        timeout_s: float | None = None,
    ) -> Fetched[tuple[L, ...]] | Failure:
        """GETs the list of resources at `url`."""
        read = await self._linked(url, token, lambda body: read_many(body, kind, among), bytes_max, timeout_s)
        return Fetched(read.value.resources, read.status) if isinstance(read, Fetched) else read

    async def _file(
        self, url: str, token: str, kind: type[F], file_bytes_max: int, timeout_s: float | None
    ) -> Fetched[F] | Failure:
        """GETs the file at `url`; `Rejected` where it is larger than `file_bytes_max` bytes."""
        read = await self._one(url, token, kind, bytes_max=answer_bytes_max(file_bytes_max), timeout_s=timeout_s)
        if isinstance(read, Fetched) and (read.value.file.size or 0) > file_bytes_max:
            return Rejected(read.status, f"the file is larger than {file_bytes_max} bytes")
        return read

    async def _linked(
        self, url: str, token: str, read: Callable[[bytes], R], bytes_max: int, timeout_s: float | None
    ) -> Fetched[R] | Failure:
        answer = await self._transport.get(url, token, bytes_max=bytes_max, timeout_s=timeout_s)
        if not isinstance(answer, Answer):
            return answer
        try:
            return Fetched(read(answer.body), answer.status)
        except ValidationError as error:
            return not_as_documented(answer.status, error)


def with_query(url: str, named: Mapping[str, str | bool | None] | None = None, **flags: bool) -> str:
    """`url` with a query of those of `named` and `flags` that are told: neither None nor False.

    Brackets are percent-encoded, as the documentation's example has them. Source: Cention API, "Errand Reports".
    """
    told = {
        name: value for name, value in {**(named or {}), **flags}.items() if value is not None and value is not False
    }
    pairs = [
        f"{quote(name, safe='')}={'true' if value is True else quote(value, safe=',')}" for name, value in told.items()
    ]
    return f"{url}?{'&'.join(pairs)}" if pairs else url


def not_as_documented(status: int, error: ValidationError) -> Rejected:
    """The failure of an answer that is no document of the kind that was asked for."""
    return Rejected(status, f"not the document that is documented: {fault_lines(error)[0]}")

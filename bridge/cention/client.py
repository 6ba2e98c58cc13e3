"""The client of Cention's API: one method per endpoint, each one attempt.

What has something done returns an `Outcome`; what reads returns `Fetched` with what was read, or a `Failure`.

Knows documents and where they go. How a request travels is `transport`'s, what its answer means `answer`'s, when to
ask again `bridge.delivery`'s.
"""

import re
from collections.abc import Iterable
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import ValidationError

from bridge.cention.answer import Answer
from bridge.cention.documents import (
    DIRTY_ERRANDS,
    END_ERRANDS,
    END_OBCALL,
    ERRAND_REPORTS,
    NEW_ERRANDS,
    DirtyErrands,
    Document,
    EndErrand,
    EndObcall,
    ErrandReport,
    NewErrand,
    read_answer,
    request_body,
)
from bridge.cention.outcome import Failure, Fetched, Outcome, Rejected
from bridge.cention.transport import Transport

D = TypeVar("D", bound=Document)

_WORKSPACE_PATH = re.compile(r"(/[^/]+)*/s/[^/]+")


def checked_base_url(text: str) -> str:
    """`text` without a closing slash, if it can be the API's base.

    Raises:
        ValueError: it is not `http(s)://<host>/s/<workspace>`; the text says what to change.

    Source: Cention API, "Create Errand": the endpoint's address.
    """
    example = "such as https://api.example.com/s/demo"
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError(f"holds white space or a control character: write one URL, {example}")
    try:
        url = urlsplit(text)
        host_usable = bool((url.hostname or "").encode("idna")) and url.port != 0
    except ValueError:
        host_usable = False
    if not host_usable:
        raise ValueError(f"needs a host, and a port from 1 to 65535 if any, {example}")
    if url.scheme not in ("http", "https"):
        raise ValueError(f"must begin with https:// (or http://), {example}")
    if url.username is not None or url.password is not None:
        raise ValueError("must not hold a user name or a password: tokens have settings of their own")
    if url.query or url.fragment:
        raise ValueError(f"must end with the workspace, without '?' or '#', {example}")
    path = url.path.rstrip("/")
    if "/capi" in path:
        raise ValueError(f"must end with the workspace: leave out '/capi' and what follows, {example}")
    if not _WORKSPACE_PATH.fullmatch(path):
        raise ValueError(f"must end with /s/<workspace>, {example}")
    return f"{url.scheme}://{url.netloc}{path}"


class CentionClient:
    """Cention's API at one workspace. Use it as `async with CentionClient(...) as cention`.

    A token is given per call, since it is bound to one area (and one claim).

    Args:
        base_url: `http(s)://<host>/s/<workspace>`.
        attempt_timeout_s: seconds that one call of a method may take in all.
        connections_max: connections open to Cention at a time; further calls wait, within their timeout.
        obcall_type: the resource type of `end_obcall`'s document; what the documentation's sample shows, by default.

    Raises:
        ValueError: `base_url`, `attempt_timeout_s` or `connections_max` cannot be used; the text says how to mend it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        attempt_timeout_s: float,
        connections_max: int = 64,
        obcall_type: str = END_ERRANDS,
    ) -> None:
        if not attempt_timeout_s > 0:
            raise ValueError(f"attempt_timeout_s must be above 0, not {attempt_timeout_s}")
        if connections_max < 1:  # aiohttp reads 0 as "no limit"
            raise ValueError(f"connections_max must be at least 1, not {connections_max}")
        self.base_url = checked_base_url(base_url)
        self._obcall_type = obcall_type
        self._transport = Transport(attempt_timeout_s=attempt_timeout_s, connections_max=connections_max)

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def new_errand(self, document: NewErrand, token: str) -> Outcome:
        """POST `c3_new_errands`; `Delivered` carries the new errand's id.

        Source: Cention API, "Create Errand".
        """
        body = request_body(NEW_ERRANDS, document)
        return await self._transport.post(self._url(NEW_ERRANDS), body, token, creates=True)

    async def end_errand(self, document: EndErrand, token: str) -> Outcome:
        """POST `c3_end_errands`.

        Source: Cention API, "Close Errand".
        """
        body = request_body(END_ERRANDS, document)
        return await self._transport.post(self._url(END_ERRANDS), body, token, creates=False)

    async def end_obcall(self, document: EndObcall, token: str) -> Outcome:
        """POST `c3_end_obcall`.

        Source: Cention API, "End Outbound Call".
        """
        body = request_body(self._obcall_type, document)
        return await self._transport.post(self._url(END_OBCALL), body, token, creates=False)

    async def errand_report(
        self, errand_id: int, token: str, *, fields: Iterable[str] = ()
    ) -> Fetched[ErrandReport] | Failure:
        """GET `c3_errand_reports/<id>`. Not without a trace: it clears the errand's dirty flag.

        Args:
            errand_id: the errand's database id.
            token: one with the claim "Access to errand data".
            fields: the attributes to ask for, such as `sla`; none asks for all.

        Source: Cention API, "Errand Reports"; JSON:API 1.0, "Sparse Fieldsets".
        """
        url = f"{self._url(ERRAND_REPORTS)}/{errand_id}"
        if names := ",".join(fields):
            # The brackets percent-encoded, as the documentation's example has them.
            url += f"?{quote(f'fields[{ERRAND_REPORTS}]', safe='')}={quote(names, safe=',')}"
        read = await self._read(url, token, ErrandReport)
        if isinstance(read, Fetched):
            return Fetched(read.value or ErrandReport(), read.status)
        return read

    async def dirty_errands(self, token: str) -> Fetched[tuple[int, ...]] | Failure:
        """GET `c3_dirty_errand_list`: the ids of the errands that have changed, in the server's order.

        Source: Cention API, "Dirty Errand List".
        """
        read = await self._read(self._url(DIRTY_ERRANDS), token, DirtyErrands)
        if isinstance(read, Fetched):
            return Fetched((read.value and read.value.errands) or (), read.status)
        return read

    async def mark_dirty(self, errand_ids: Iterable[int], token: str) -> Outcome:
        """POST `c3_dirty_errand_list`: lets errands count as changed, so that whoever asks for the list next sees them.

        Source: Cention API, "Dirty Errand List".
        """
        body = request_body(DIRTY_ERRANDS, DirtyErrands(errands=tuple(errand_ids)))
        return await self._transport.post(self._url(DIRTY_ERRANDS), body, token, creates=False)

    async def _read(self, url: str, token: str, attributes: type[D]) -> Fetched[D | None] | Failure:
        answer = await self._transport.get(url, token)
        if not isinstance(answer, Answer):
            return answer
        try:
            data = read_answer(answer.body, attributes).data
        except ValidationError as error:
            # Where, and never what: values are people's names and numbers.
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = "/".join(map(str, first["loc"])) or "the document"
            return Rejected(answer.status, f"not the document that is documented: {place}: {first['msg']}")
        return Fetched(None if data is None else data.attributes, answer.status)

    def _url(self, endpoint: str) -> str:
        return f"{self.base_url}/capi/json/{endpoint}"

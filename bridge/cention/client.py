"""The client of Cention's API: one method per endpoint, each one attempt.

What has something done returns an `Outcome`; what reads returns `Fetched` with what was read, or a `Failure`.

Joins the parts of the API, each a module of `endpoints`. How a request travels is `transport`'s, what its answer means
`answer`'s, when to ask again `bridge.delivery`'s.
"""

import re
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from bridge.cention.documents import END_ERRANDS
from bridge.cention.endpoints.attachments import Attachments
from bridge.cention.endpoints.contacts import ContactCards
from bridge.cention.endpoints.errands import Errands
from bridge.cention.endpoints.exports import Exports
from bridge.cention.endpoints.library import Libraries
from bridge.cention.endpoints.logio import Logio
from bridge.cention.endpoints.ratings import Ratings
from bridge.cention.endpoints.reports import Reports
from bridge.cention.transport import Transport

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


class CentionClient(Errands, Reports, ContactCards, Exports, Logio, Ratings, Libraries, Attachments):
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

"""One request to Cention over HTTP, and what became of it. Knows HTTP, no endpoint and no document.

Invariants:
- One attempt is one `post`, `post_for` or `get`, within `attempt_timeout_s` (or the `timeout_s` that it was given) from
  first to last; nothing here waits longer. A `stream` waits so long for the status line, then `idle_s` for each piece.
- The only second try of a POST is aiohttp-retry's, after a connection that could not be made: nothing had been written
  then. A GET on a kept connection that breaks is asked once more by aiohttp: reading twice does no harm.
- A redirect is not followed and a Location is not read, so the token goes to no other host. Cookies are not kept.
- Neither bodies nor tokens are logged.
"""

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import lru_cache

import aiohttp
from aiohttp.tracing import Trace
from aiohttp_retry import ExponentialRetry, RetryClient

from bridge import __version__
from bridge.cention.answer import Answer, failure_of, outcome_of
from bridge.cention.documents import MEDIA_TYPE
from bridge.cention.outcome import Failure, Outcome, Rejected, TryLater, Unauthorised, Unknown
from bridge.cention.words import reason_of, trouble_of

BODY_BYTES_MAX = 65_536
"""No answer of an endpoint that creates or ends something is longer; what is beyond is not read."""
HEADER_BYTES_MAX = 65_536
"""Of one header of an answer, or its status line. Not as little as aiohttp's 8 KB: what is in between adds its own, and
an answer that cannot be read is asked for again and again."""
DOCUMENT_BYTES_MAX = 4 * 2**20
"""What is read of a document that was asked for; an errand's body is somebody's e-mail."""

OnProgress = Callable[[int, int | None], None]
"""Told how many bytes of an answer have come, and how many there will be where the server says so."""

_SENT_AT_ONCE_BYTES_MAX = 2**20  # aiohttp warns beyond: writing more in one step may hold up the loop
_KEEP_ALIVE_S = 4.0  # below the 5 s after which common servers close an idle connection: see docs/adr/0004
_DNS_TTL_S = 60
_SECOND_TRY_AFTER_S = 0.1
_TOKEN = re.compile(r"[\x21-\x7e]+")
_TROUBLES = (aiohttp.ClientError, OSError)  # a TimeoutError is one
# Not an exception: it is an unusable token like any other, and stops its lanes until it is changed.
_UNUSABLE = Unauthorised(401, "the token is empty or holds a character that no header may carry; nothing was sent")


class _Writing:
    """Whether the writing of an attempt has begun. Mutable. Kept by a connection that is made meanwhile, so small."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False


_under_way: ContextVar[_Writing] = ContextVar("under_way")
"""Of the attempt that the task makes."""


class _Connector(aiohttp.TCPConnector):
    """Notes in an attempt that writing begins: aiohttp writes as soon as it has a connection, without another wait.

    Comes before the first byte and not after it: from here on nobody knows how much the server has seen. aiohttp's
    tracing would say the same a little later, for 10 µs a request.
    """

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        _under_way.get().begun = True
        return connection


class Streamed:
    """An answer while it arrives.

    Attributes:
        head: the status and the headers.
    """

    def __init__(self, response: aiohttp.ClientResponse, token: str, idle_s: float) -> None:
        self.head = Answer(response.status, response.headers)
        self._response, self._token, self._idle_s = response, token, idle_s

    async def read(self) -> bytes | Failure:
        """The next piece of the body; b"" at its end; a failure where it broke off before that."""
        try:
            async with asyncio.timeout(self._idle_s):
                return await self._response.content.readany()
        except TimeoutError:
            return Unknown(f"the answer broke off: nothing more within {self._idle_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Unknown(reason_of(f"the answer broke off: {trouble_of(error)}", b"", self._token))


class Transport:
    """The session that all requests to one Cention share. An async context manager.

    Args:
        attempt_timeout_s: seconds that one attempt may take in all, the wait for a free connection included.
        connections_max: connections open at a time.
    """

    def __init__(self, *, attempt_timeout_s: float, connections_max: int) -> None:
        self._attempt_timeout_s, self._connections_max = attempt_timeout_s, connections_max
        self._retrying: RetryClient | None = None

    async def open(self) -> None:
        """Makes the session. Needs a running loop."""
        session = aiohttp.ClientSession(
            connector=_Connector(
                limit=self._connections_max, keepalive_timeout=_KEEP_ALIVE_S, ttl_dns_cache=_DNS_TTL_S
            ),
            headers={"User-Agent": f"aventa-bridge/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # `_exchange` and `stream` hold the one clock
            trust_env=False,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )
        self._retrying = RetryClient(
            session,
            retry_options=ExponentialRetry(
                attempts=2,
                start_timeout=_SECOND_TRY_AFTER_S / 2,  # the first wait is start x factor
                factor=2,
                max_timeout=_SECOND_TRY_AFTER_S,
                statuses=set(),
                exceptions={aiohttp.ClientConnectorError},
                methods={"GET", "POST"},
                retry_all_server_errors=False,
            ),
        )

    async def close(self) -> None:
        """Closes the session and its connections."""
        if self._retrying is not None:
            await self._retrying.close()
            self._retrying = None

    async def post(
        self, url: str, body: bytes, token: str, *, creates: bool, timeout_s: float | None = None
    ) -> Outcome:
        """POSTs `body` (JSON) to `url` and returns what became of it.

        Args:
            url: absolute.
            body: the JSON:API document.
            token: the bearer token.
            creates: whether the answer carries the id of a new errand.
            timeout_s: seconds in place of `attempt_timeout_s`.
        """
        answer = await self._exchange("POST", url, body, token, BODY_BYTES_MAX, timeout_s=timeout_s)
        # Once the status line came, whatever happened to the body: the server has decided.
        return outcome_of(answer, sent=body, token=token, creates=creates) if isinstance(answer, Answer) else answer

    async def get(
        self,
        url: str,
        token: str,
        *,
        accept: str = MEDIA_TYPE,
        bytes_max: int = DOCUMENT_BYTES_MAX,
        timeout_s: float | None = None,
    ) -> Answer | Failure:
        """GETs `url` and returns the whole answer, 2xx and no errors document, or what became of the attempt.

        Args:
            url: absolute, its query percent-encoded.
            token: the bearer token.
            accept: the media type to ask for.
            bytes_max: an answer of so many bytes or more is refused.
            timeout_s: seconds in place of `attempt_timeout_s`.
        """
        answer = await self._exchange("GET", url, b"", token, bytes_max, accept, timeout_s=timeout_s)
        return _document(answer, sent=b"", token=token, bytes_max=bytes_max)

    async def post_for(
        self,
        url: str,
        body: bytes,
        token: str,
        *,
        bytes_max: int = DOCUMENT_BYTES_MAX,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Answer | Failure:
        """POSTs `body` to `url` for the document that the answer carries: as `get`, but what `body` holds is sent.

        Args:
            url: as for `get`.
            body: the JSON:API document.
            token: as for `get`.
            bytes_max: as for `get`.
            timeout_s: seconds in place of `attempt_timeout_s`.
            on_progress: called while the answer arrives.
        """
        answer = await self._exchange("POST", url, body, token, bytes_max, timeout_s=timeout_s, on_progress=on_progress)
        return _document(answer, sent=body, token=token, bytes_max=bytes_max)

    @asynccontextmanager
    async def stream(self, url: str, token: str, *, accept: str, idle_s: float) -> AsyncIterator[Streamed | Failure]:
        """GETs `url` for an answer, of any status, that is read while it arrives; or what became of the attempt.

        Args:
            url: absolute, its query percent-encoded.
            token: the bearer token.
            accept: the media types to ask for.
            idle_s: seconds that the answer may pause for, once it has begun.
        """
        response: aiohttp.ClientResponse | None = None
        answer: Streamed | Failure
        if (headers := _headers("GET", token, accept)) is None:
            answer = _UNUSABLE
        else:
            writing = _Writing()
            try:
                async with asyncio.timeout(self._attempt_timeout_s):
                    response = await self._response("GET", url, b"", headers, writing)
                answer = Streamed(response, token, idle_s)
            except _TROUBLES as error:
                answer = _failure(error, writing, self._attempt_timeout_s, b"", token)
        try:
            yield answer
        finally:
            if response is not None:
                response.close()  # and the connection, where the rest of the answer may be on its way

    async def _exchange(
        self,
        method: str,
        url: str,
        body: bytes,
        token: str,
        bytes_max: int,
        accept: str = MEDIA_TYPE,
        *,
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Answer | Failure:
        if (headers := _headers(method, token, accept)) is None:
            return _UNUSABLE
        seconds = self._attempt_timeout_s if timeout_s is None else timeout_s
        writing, received, whole = _Writing(), bytearray(), False
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(seconds):
                response = await self._response(method, url, body, headers, writing)
                try:
                    await _read(response, received, bytes_max, on_progress)
                    whole = True
                finally:
                    if not response.closed:  # it is at its end
                        response.close()
        except _TROUBLES as error:
            if response is None:
                return _failure(error, writing, seconds, body, token)
        return Answer(response.status, response.headers, bytes(received[:bytes_max]), whole)

    async def _response(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], writing: _Writing
    ) -> aiohttp.ClientResponse:
        if self._retrying is None:
            raise RuntimeError("CentionClient is used outside of its `async with`")
        _under_way.set(writing)
        return await self._retrying.request(
            method,
            url,
            data=io.BytesIO(body) if len(body) > _SENT_AT_ONCE_BYTES_MAX else body or None,
            headers=headers,
            allow_redirects=False,
        )


def _document(answer: Answer | Failure, *, sent: bytes, token: str, bytes_max: int) -> Answer | Failure:
    if not isinstance(answer, Answer):
        return answer
    if (failure := failure_of(answer, sent=sent, token=token)) is not None:
        return failure
    if len(answer.body) >= bytes_max:
        return Rejected(answer.status, f"the answer is longer than {bytes_max} bytes")
    return answer if answer.whole else Unknown("the answer was cut off")


@lru_cache(64)
def _headers(method: str, token: str, accept: str) -> Mapping[str, str] | None:
    """The headers of a request, which aiohttp copies; None for a token that no header may carry."""
    if not _TOKEN.fullmatch(token):
        return None
    headers = {"Authorization": f"Bearer {token}", "Accept": accept}
    if method == "POST":  # what carries no document names no type of it
        headers["Content-Type"] = MEDIA_TYPE
    return headers


async def _read(
    response: aiohttp.ClientResponse, received: bytearray, bytes_max: int, on_progress: OnProgress | None
) -> None:
    content = response.content
    # Kept where it was put: an answer may be a file of many megabytes.
    while len(received) < bytes_max and not content.at_eof():
        received += await content.readany()
        if on_progress is not None:
            # Of a compressed answer, the length that is told is not that of what comes out of it.
            length = None if "Content-Encoding" in response.headers else response.content_length
            on_progress(len(received), length)


def _failure(error: Exception, writing: _Writing, seconds: float, sent: bytes, token: str) -> TryLater | Unknown:
    """What became of an attempt that got no status line."""
    if isinstance(error, TimeoutError):
        trouble = f"{'no answer' if writing.begun else 'not connected'} within {seconds:g} s"
    else:
        trouble = reason_of(trouble_of(error), sent, token)
    return Unknown(trouble) if writing.begun else TryLater(trouble)

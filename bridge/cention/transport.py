"""One request to Cention over HTTP, and what became of it. Knows HTTP, no endpoint and no document.

Invariants:
- One attempt is one `post` or `get`, within `attempt_timeout_s` from first to last; nothing here waits longer.
- The only second try of a POST is aiohttp-retry's, after a connection that could not be made: nothing had been written
  then. A GET on a kept connection that breaks is asked once more by aiohttp: reading twice does no harm.
- A redirect is not followed and a Location is not read, so the token goes to no other host. Cookies are not kept.
- Neither bodies nor tokens are logged.
"""

import asyncio
import re
from types import SimpleNamespace

import aiohttp
from aiohttp_retry import ExponentialRetry, RetryClient

from bridge import __version__
from bridge.cention.answer import Answer, failure_of, outcome_of
from bridge.cention.documents import MEDIA_TYPE
from bridge.cention.outcome import Failure, Outcome, Rejected, TryLater, Unauthorised, Unknown
from bridge.cention.words import reason_of

BODY_BYTES_MAX = 65_536
"""No answer of an endpoint that creates or ends something is longer; what is beyond is not read."""
DOCUMENT_BYTES_MAX = 4 * 2**20
"""What is read of a document that was asked for; an errand's body is somebody's e-mail."""

_KEEP_ALIVE_S = 4.0  # below the 5 s after which common servers close an idle connection: see docs/adr/0004
_DNS_TTL_S = 60
_SECOND_TRY_AFTER_S = 0.1
_TOKEN = re.compile(r"[\x21-\x7e]+")


class _Progress:
    """How far one attempt came. Mutable: aiohttp's tracing writes it."""

    __slots__ = ("answer", "written")

    def __init__(self) -> None:
        self.written = False
        self.answer: Answer | None = None


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
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_writing_began)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections_max, keepalive_timeout=_KEEP_ALIVE_S, ttl_dns_cache=_DNS_TTL_S
            ),
            headers={"User-Agent": f"aventa-bridge/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # `_exchange` holds the one clock
            trace_configs=[trace],
            trust_env=False,
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

    async def post(self, url: str, body: bytes, token: str, *, creates: bool) -> Outcome:
        """POSTs `body` (JSON) to `url` and returns what became of it.

        Args:
            url: absolute.
            body: the JSON:API document.
            token: the bearer token.
            creates: whether the answer carries the id of a new errand.
        """
        answer = await self._exchange("POST", url, body, token, BODY_BYTES_MAX)
        # Once the status line came, whatever happened to the body: the server has decided.
        return outcome_of(answer, sent=body, token=token, creates=creates) if isinstance(answer, Answer) else answer

    async def get(
        self, url: str, token: str, *, accept: str = MEDIA_TYPE, bytes_max: int = DOCUMENT_BYTES_MAX
    ) -> Answer | Failure:
        """GETs `url` and returns the whole answer, 2xx and no errors document, or what became of the attempt.

        Args:
            url: absolute, its query percent-encoded.
            token: the bearer token.
            accept: the media type to ask for.
            bytes_max: an answer of so many bytes or more is refused.
        """
        answer = await self._exchange("GET", url, b"", token, bytes_max, accept)
        return _document(answer, sent=b"", token=token, bytes_max=bytes_max)

    async def post_for(
        self, url: str, body: bytes, token: str, *, bytes_max: int = DOCUMENT_BYTES_MAX
    ) -> Answer | Failure:
        """POSTs `body` to `url` for the document that the answer carries: as `get`, but what `body` holds is sent."""
        answer = await self._exchange("POST", url, body, token, bytes_max)
        return _document(answer, sent=body, token=token, bytes_max=bytes_max)

    async def _exchange(
        self, method: str, url: str, body: bytes, token: str, bytes_max: int, accept: str = MEDIA_TYPE
    ) -> Answer | Failure:
        if not _TOKEN.fullmatch(token):
            # Not an exception: it is an unusable token like any other, and stops its lanes until it is changed.
            return Unauthorised(
                401, "the token is empty or holds a character that no header may carry; nothing was sent"
            )
        progress = _Progress()
        trouble: str | None = None
        try:
            async with asyncio.timeout(self._attempt_timeout_s):
                await self._attempt(method, url, body, token, progress, bytes_max, accept)
        except TimeoutError:
            trouble = f"{'no answer' if progress.written else 'not connected'} within {self._attempt_timeout_s:g} s"
        except (aiohttp.ClientError, OSError) as error:
            trouble = reason_of(str(error) or type(error).__name__, body, token)
        if progress.answer is not None:
            return progress.answer
        assert trouble is not None
        return Unknown(trouble) if progress.written else TryLater(trouble)

    async def _attempt(
        self, method: str, url: str, body: bytes, token: str, progress: _Progress, bytes_max: int, accept: str
    ) -> None:
        if self._retrying is None:
            raise RuntimeError("CentionClient is used outside of its `async with`")
        headers = {"Authorization": f"Bearer {token}", "Accept": accept}
        if method == "POST":  # what carries no document names no type of it
            headers["Content-Type"] = MEDIA_TYPE
        async with self._retrying.request(
            method,
            url,
            data=body or None,
            headers=headers,
            allow_redirects=False,
            trace_request_ctx={"progress": progress},
        ) as response:
            progress.answer = Answer(response.status, response.headers)
            received = bytearray()
            while len(received) < bytes_max and (chunk := await response.content.readany()):
                received += chunk
                progress.answer = Answer(response.status, response.headers, bytes(received[:bytes_max]))
            progress.answer = Answer(response.status, response.headers, bytes(received[:bytes_max]), whole=True)


def _document(answer: Answer | Failure, *, sent: bytes, token: str, bytes_max: int) -> Answer | Failure:
    if not isinstance(answer, Answer):
        return answer
    if (failure := failure_of(answer, sent=sent, token=token)) is not None:
        return failure
    if len(answer.body) >= bytes_max:
        return Rejected(answer.status, f"the answer is longer than {bytes_max} bytes")
    return answer if answer.whole else Unknown("the answer was cut off")


async def _writing_began(_session: aiohttp.ClientSession, trace: SimpleNamespace, _params: object) -> None:
    # Comes before the first byte and not after it: from here on nobody knows how much the server has seen.
    trace.trace_request_ctx["progress"].written = True

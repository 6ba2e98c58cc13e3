"""Forwards a document as a signed POST: one attempt, and what became of it.

Knows HTTP and Standard Webhooks; must not know what the document is.

Invariants: a redirect is not followed, no proxy of the environment is asked, no cookie is kept: what is forwarded goes
where the settings say, or nowhere. The address is in no log line and no outcome: its path may be a secret.
Source: Standard Webhooks specification, "Webhook Headers (sent by us)", "Signature scheme", "Deliverability".
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import aiohttp

from bridge import __version__
from bridge.cention.answer import retry_after_s
from bridge.cention.outcome import Delivered, Outcome, Rejected, TryLater
from bridge.runtime.clock import now_ms

_ANSWER_BYTES_MAX = 65_536  # read so that the connection can be kept; nothing is done with them
_GONE = 410


class Forwarder:
    """Posts to one address. An async context manager.

    Args:
        url: where to.
        secrets: the keys to sign with, `whsec_` and base64; each signs, so that the receiver can change its own.
        attempt_timeout_s: seconds that one attempt may take in all.
        connections_max: connections open at a time.
    """

    def __init__(self, url: str, secrets: Sequence[str], *, attempt_timeout_s: float, connections_max: int) -> None:
        self._url, self._secrets = url, tuple(secrets)
        self._attempt_timeout_s, self._connections_max = attempt_timeout_s, connections_max
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections_max),
            headers={"User-Agent": f"aventa-bridge/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=self._attempt_timeout_s),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def replace(self, secrets: Sequence[str]) -> bool:
        """Signs with others from now on, and says whether anything changed. None at all changes nothing."""
        if tuple(secrets) in (self._secrets, ()):
            return False
        self._secrets = tuple(secrets)
        return True

    async def post(self, message_id: str, body: bytes) -> Outcome:
        """Posts `body` (JSON) once.

        Args:
            message_id: the same at every attempt, so that the receiver knows a repetition.
        """
        assert self._session is not None, "used inside its `async with`"
        headers = {"Content-Type": "application/json", **signed(message_id, now_ms() // 1000, body, self._secrets)}
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                status, asked = response.status, retry_after_s(response.headers)
                await response.content.read(_ANSWER_BYTES_MAX)
        except TimeoutError:
            return TryLater(f"the receiver did not answer within {self._attempt_timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            # The error's own text may hold the address.
            words = getattr(error, "strerror", None)
            return TryLater(f"the receiver cannot be reached: {words or type(error).__name__}")
        if 200 <= status < 300:
            return Delivered(status)
        if status == _GONE:
            return Rejected(status, "the receiver wants no more of these")
        # Whatever else it says, it may be mended there, and nobody else has what was forwarded.
        return TryLater(f"the receiver answered {status}", status, asked)


def signed(message_id: str, timestamp: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The three headers of Standard Webhooks.

    Args:
        timestamp: of this attempt, seconds since 1970-01-01T00:00:00Z.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    keys = (base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets)
    signatures = (base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }

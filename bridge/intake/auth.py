"""Who may hand events in: bearer tokens and Standard Webhooks signatures, several of each for rotation.

Owns the 401s of the intake listener, and its 403. Must not know routes, JSON or calls. Every accepted token and secret
is compared on every request, whichever fits, so that the time taken tells nothing about them.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bridge.runtime.web import Problem, bearer_token, require_local_name, same_secret

_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix that marks a secret, not one
_UNIX_SECONDS = re.compile(r"[0-9]{1,12}")


class _Signed(NamedTuple):
    """The three headers of a signed message."""

    message_id: str
    timestamp: str
    signatures: str


class Authenticator:
    """Checks that a request comes from a configured sender.

    Args:
        tokens: the bearer tokens accepted.
        webhook_secrets: the Standard Webhooks secrets accepted, `whsec_` and base64.
        now_s: seconds since 1970-01-01T00:00:00Z.
        tolerance_s: how far, in seconds, a signature's timestamp may lie behind or ahead of `now_s`.

    Attributes:
        open: nothing is configured, so every request passes.

    Raises:
        ValueError: a secret is not base64, or is empty; the message names its place in the list, never its text.

    Source: Standard Webhooks specification, "Webhook Headers", "Signature scheme", "Verifying webhook authenticity".
    """

    def __init__(
        self,
        tokens: Sequence[str],
        webhook_secrets: Sequence[str],
        now_s: Callable[[], float],
        tolerance_s: int = 300,
    ) -> None:
        self._tokens = tuple(tokens)
        self._keys = tuple(_key(secret, place) for place, secret in enumerate(webhook_secrets))
        self._now_s, self._tolerance_s = now_s, tolerance_s
        self.open = not self._tokens and not self._keys

    def replace(self, tokens: Sequence[str], webhook_secrets: Sequence[str]) -> bool:
        """Accepts other tokens and secrets from now on, in place of all.

        Returns:
            Whether anything changed. None at all for some changes nothing: an intake that is guarded is not opened
            while it runs.
        """
        accepted = tuple(tokens), tuple(_key(secret, place) for place, secret in enumerate(webhook_secrets))
        if accepted == (self._tokens, self._keys) or accepted == ((), ()):
            return False
        self._tokens, self._keys = accepted
        self.open = False
        return True

    def check_headers(self, headers: Mapping[str, str]) -> bool:
        """What can be told before the body is read.

        Args:
            headers: looked up by name in any case, as aiohttp's are.

        Returns:
            True if the request passes whatever its body is; False if `check` must see the body.

        Raises:
            Problem: 401, or 403 where nothing is configured; no body could make the request pass.
        """
        if self.open:
            require_local_name(headers)
            return True
        token = bearer_token(headers)
        if token is not None and same_secret(token, self._tokens):
            return True
        if self._keys and "webhook-signature" in headers:
            self._signed(headers)
            return False
        if token is not None:
            raise _refusal("bad_token", f"The token is not one of those accepted here. {self._ways()}")
        raise _refusal("unauthenticated", self._ways())

    def check(self, headers: Mapping[str, str], body: bytes) -> None:
        """Passes or refuses the whole request.

        Args:
            headers: as for `check_headers`.
            body: the bytes the sender signed: the content, before any transfer or content coding.

        Raises:
            Problem: 401 with `WWW-Authenticate` and one of the codes `unauthenticated`, `bad_token`,
                `bad_signature`, `stale_signature`.
        """
        if self.check_headers(headers):
            return
        signed = self._signed(headers)
        content = f"{signed.message_id}.{signed.timestamp}.".encode("utf-8", "surrogateescape") + body
        expected = [base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()) for key in self._keys]
        found = False
        for entry in signed.signatures.split(" "):
            version, _, value = entry.partition(",")
            # Other versions may stand beside `v1` while a sender moves to a newer scheme.
            if version == "v1":
                given = value.encode("utf-8", "surrogateescape")
                for signature in expected:
                    found |= hmac.compare_digest(given, signature)
        if not found:
            raise _refusal(
                "bad_signature",
                "No v1 signature in webhook-signature fits. Sign `{webhook-id}.{webhook-timestamp}.{body}` over the "
                "bytes of the body, with the secret's base64 decoded.",
            )

    def _signed(self, headers: Mapping[str, str]) -> _Signed:
        """The signature's headers, complete and fresh."""
        signed = _Signed(
            headers.get("webhook-id", ""), headers.get("webhook-timestamp", ""), headers.get("webhook-signature", "")
        )
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        if missing := [name for name, value in zip(names, signed, strict=True) if not value]:
            raise _refusal("bad_signature", f"A signed request also needs {' and '.join(missing)}.")
        if not _UNIX_SECONDS.fullmatch(signed.timestamp):
            raise _refusal("bad_signature", "webhook-timestamp must be whole seconds since 1970-01-01T00:00:00Z.")
        ahead_s = int(signed.timestamp) - self._now_s()
        if abs(ahead_s) > self._tolerance_s:
            raise _refusal(
                "stale_signature",
                f"webhook-timestamp is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's "
                f"clock; {self._tolerance_s} s are allowed. Sign again at every attempt, and check both clocks.",
            )
        return signed

    def _ways(self) -> str:
        """The methods in use, for a person who is setting a sender up."""
        ways = ["`Authorization: Bearer` with a configured token"] if self._tokens else []
        ways += ["a Standard Webhooks signature made with a configured secret"] if self._keys else []
        return f"Send {' or '.join(ways)}."


def _key(secret: str, place: int) -> bytes:
    encoded = secret.removeprefix(_SECRET_PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"webhook secret {place} is not `{_SECRET_PREFIX}` and base64")
    return key


def _refusal(code: str, detail: str) -> Problem:
    return Problem(401, code, detail, headers={"WWW-Authenticate": "Bearer"})

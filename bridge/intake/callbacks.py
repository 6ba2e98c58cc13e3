"""`POST /v1/cention/callback` on the intake listener: takes one callback of Cention, and answers once it is durable.

Owns who may post one, its limits and its statuses. Must not know what becomes of a callback: `receive` is given.

Cention can send no header of ours: its secret stands in the body. So the body of a stranger is read, in places of its
own, and nothing of it is kept or told before the secret was compared. Without a configured secret a callback is let in
as an event is, which on an open listener means from this machine alone.

Invariants: 200 follows `receive`. The secret is not handed on: neither what is received nor what is kept among the
rejections holds it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from bridge.calls.verdicts import Rejection
from bridge.cention.documents import MEDIA_TYPE, Callback, read_callback
from bridge.intake import batch
from bridge.intake.auth import Authenticator
from bridge.intake.batch import Reject
from bridge.intake.body import BODY_TIMEOUT_S, read_body
from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger
from bridge.runtime.web import Problem, json_response, same_secret
from bridge.store.errors import StoreUnavailable

log = get_logger(__name__)

IN_FLIGHT_MAX = 64
"""Callbacks read at a time: they are few, and a stranger's must not take the places of events."""

_LARGE = 65_536  # bytes; a larger document is read beside the loop, which events share
_TELL_EVERY_S = 60.0
_BOM = b"\xef\xbb\xbf"
_MEDIA = frozenset(["application/json", MEDIA_TYPE])


@dataclass(frozen=True, slots=True)
class Received:
    """A callback that is durable.

    Attributes:
        duplicate: it came before.
    """

    callback_id: str
    duplicate: bool


class CallbackSecrets:
    """`callback.secret`: what a callback must carry, several for rotation; none: nothing is asked for."""

    def __init__(self, accepted: Sequence[str]) -> None:
        self._accepted = tuple(accepted)

    def __bool__(self) -> bool:
        return bool(self._accepted)

    def replace(self, accepted: Sequence[str]) -> bool:
        """Accepts others from now on, in place of all, and says whether anything changed.

        None at all for some changes nothing: what is guarded is not opened while it runs.
        """
        if tuple(accepted) in (self._accepted, ()):
            return False
        self._accepted = tuple(accepted)
        return True

    def check(self, document: object) -> None:
        """Raises a `Problem`, 401, unless `document` carries one of them, or none is asked for."""
        if not self._accepted:
            return
        meta = document.get("meta") if isinstance(document, dict) else None
        given = meta.get("api_secret") if isinstance(meta, dict) else None
        if not same_secret(given if isinstance(given, str) else "", self._accepted):
            raise Problem(
                401,
                "bad_secret",
                "meta.api_secret is not one that is accepted here: enter one of callback.secret as the Secret Key of"
                " Cention's callback setting.",
                headers={"WWW-Authenticate": 'Callback realm="meta.api_secret"'},
            )


@dataclass(slots=True)
class CallbackRoute:
    """The handler and what it works with.

    Attributes:
        receive: makes a callback durable; may raise `StoreUnavailable`.
        keep: keeps what cannot be used among the rejections; the same.
        refused: is told the code of each refusal.
        body_bytes_max: greatest size of a callback in bytes, also after inflating it.
        body_timeout_s: seconds within which it must have come.
    """

    secrets: CallbackSecrets
    receive: Callable[[Callback], Awaitable[Received]]
    keep: Reject
    refused: Callable[[str], None]
    body_bytes_max: int
    in_flight_max: int = IN_FLIGHT_MAX
    body_timeout_s: float = BODY_TIMEOUT_S
    in_flight: int = 0
    told_at: float = float("-inf")

    async def post(self, request: web.BaseRequest, authenticator: Authenticator) -> web.StreamResponse:
        """`POST /v1/cention/callback`."""
        # What the headers can tell comes before a place is taken.
        admitted = bool(self.secrets) or authenticator.check_headers(request.headers)
        if self.in_flight >= self.in_flight_max:
            detail = f"{self.in_flight_max} callbacks are being read; repeat this one."
            raise Problem(429, "too_many_requests", detail, headers={"Retry-After": "1"})
        self.in_flight += 1
        try:
            callback = await self._read(request, None if admitted else authenticator)
            received = await self.receive(callback)
        except Problem as problem:
            self._tell(problem.code)
            raise
        except StoreUnavailable as error:
            log.warning("store unavailable, a callback is sent back", reason=error.reason)
            raise Problem(
                503,
                "store_unavailable",
                "The store is unavailable and nothing is promised of this callback; repeat it.",
                headers={"Retry-After": str(error.retry_after_s)},
            ) from error
        finally:
            self.in_flight -= 1
        result = "duplicate" if received.duplicate else "accepted"
        return json_response({"callbackId": received.callback_id, "result": result})

    async def _read(self, request: web.BaseRequest, authenticator: Authenticator | None) -> Callback:
        body = await read_body(
            request,
            bytes_max=self.body_bytes_max,
            timeout_s=self.body_timeout_s,
            advice="callback.body_bytes_max allows no more",
        )
        if authenticator is not None:
            authenticator.check(request.headers, body)
        charset = (request.charset or "utf-8").lower()
        if request.content_type not in _MEDIA or "Content-Type" not in request.headers or charset != "utf-8":
            accepted = ", ".join(sorted(_MEDIA))
            detail = f"Content-Type must be one of {accepted}, in UTF-8."
            raise Problem(415, "unsupported_media_type", detail, headers={"Accept": accepted})
        large = len(body) > _LARGE
        try:
            document = await asyncio.to_thread(batch.parse, body) if large else batch.parse(body)
        except batch.Unreadable as error:
            raise Problem(400, batch.UNREADABLE, f"The body is not JSON: {error.detail}.") from None
        self.secrets.check(document)
        text = body.removeprefix(_BOM)
        try:
            return await asyncio.to_thread(read_callback, text) if large else read_callback(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = "/".join(map(str, first["loc"])) or "the document"
            detail = f"This is not a callback of Cention: {place}: {first['msg']}."
        log.warning("callback refused", code="invalid_callback", detail=detail)
        await self.keep([Rejection(None, "invalid_callback", detail, (), _without_secret(document))])
        raise Problem(422, "invalid_callback", detail)

    def _tell(self, code: str) -> None:
        self.refused(code)
        # Strangers could fill the log; a secret that does not fit must still be seen.
        if code == "bad_secret" and monotonic() - self.told_at >= _TELL_EVERY_S:
            self.told_at = monotonic()
            log.warning("a callback's secret does not fit; it is refused", code=code)


def _without_secret(document: Any) -> str | None:
    """The text of a document that is kept for people; None where it is nested too deep to be written."""
    if isinstance(document, dict) and isinstance(meta := document.get("meta"), dict):
        document = {**document, "meta": {name: value for name, value in meta.items() if name != "api_secret"}}
    try:
        return batch.text_of(orjson.dumps(document))
    except orjson.JSONEncodeError:
        return None

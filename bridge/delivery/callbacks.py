"""What a callback leads to, one attempt each: a file of the answer fetched and stored, or the callback forwarded.

For the lanes of callbacks what `bridge.delivery.dispatch` is for agents' lanes. Never raises for what a callback,
Cention, the disk or the receiver does wrong: that is an outcome.

Invariants: what is fetched is told by type and id alone, on the configured base; a link that was sent is never
followed. An attempt that is repeated stores nothing twice, and forwards under the same id.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import NOTHING_TOLD
from bridge.cention.client import CentionClient
from bridge.cention.documents import CallbackFile, UnusableContent
from bridge.cention.outcome import Delivered, Fetched, Outcome, Rejected, TryLater
from bridge.delivery.breaker import Breaker
from bridge.delivery.files import Files, NoRoom, Stored
from bridge.delivery.forward import Forwarder
from bridge.delivery.tokens import Rest, Tokens
from bridge.runtime.clock import monotonic, rfc3339
from bridge.store.callbacks import CallbackStore, KeptCallback, UnreadableCallback, parse_job
from bridge.store.keys import shard_of
from bridge.store.records import BROKEN

_NAME_CHARS_MAX = 256
_FORGOTTEN = Rejected(None, "the callback is no longer kept")
_UNREADABLE = Rejected(None, "what is kept of the callback cannot be read")


@dataclass(frozen=True, slots=True)
class Fetching:
    """What files are fetched with.

    Attributes:
        tokens: the token with the claim "get attachment" is their default.
        cention: waited for while it is open; not told of files, whose failures say little of errands.
        asked: told how many requests were made.
    """

    client: CentionClient
    tokens: Tokens
    files: Files
    file_bytes_max: int
    cention: Breaker
    asked: Callable[[int], None]


class CallbackDispatcher:
    """Carries out what callbacks lead to.

    Args:
        fetching: None: files are not fetched (any more).
        forwarder: None: callbacks are not forwarded (any more).
        breaker: rests while the receiver does not answer.
    """

    resting = False  # one of the two may go while the other cannot

    def __init__(
        self, store: CallbackStore, fetching: Fetching | None, forwarder: Forwarder | None, breaker: Breaker
    ) -> None:
        self._store, self._fetching, self._forwarder, self._breaker = store, fetching, forwarder, breaker

    def admit(self, effect: Effect) -> Rest | None:
        """Why `effect` cannot be tried now; None: it can, and `send` must follow at once."""
        if effect.kind is EffectKind.FETCH_FILE:
            if (fetching := self._fetching) is None:
                return None
            if (wait_s := fetching.cention.wait_s()) > 0:
                return Rest(wait_s, "breaker", "cention does not answer: attempts rest")
            return fetching.tokens.rest(fetching.tokens.of(NOTHING_TOLD))
        if (wait_s := self._breaker.wait_s()) > 0:
            return Rest(wait_s, "breaker", "the receiver does not answer: attempts rest")
        self._breaker.admit()
        return None

    async def send(self, effect: Effect, *, in_doubt: bool = False) -> Outcome:
        """Makes one attempt. That an earlier one may have been carried out changes nothing: see the invariants.

        Raises:
            StoreUnavailable: the callback could not be read, or the stored file not noted.
        """
        callback_id, name = parse_job(effect)
        if effect.kind is EffectKind.FETCH_FILE:
            try:
                return await self._fetch(effect, callback_id, name)
            except UnreadableCallback:
                return _UNREADABLE
        began, outcome = monotonic(), None
        try:
            kept = await self._store.get(shard_of(effect.pair), callback_id)
            outcome = _FORGOTTEN if kept is None else await self._forward(kept)
        except UnreadableCallback:
            return _UNREADABLE  # which says nothing of the receiver
        finally:
            if outcome is None:
                self._breaker.forget(began)
        self._breaker.note(outcome, str(effect.pair), began)
        return outcome

    def noted(self, _effect: Effect) -> dict[str, object]:
        """Nothing: what is stored is told with the callback."""
        return {}

    async def _forward(self, kept: KeptCallback) -> Outcome:
        if self._forwarder is None:
            return Rejected(None, "callback.forward_url is not set")
        try:
            body = forwarded(kept)
        except BROKEN as error:
            raise UnreadableCallback(f"{type(error).__name__}: {error}") from error
        return await self._forwarder.post(kept.callback_id, body)

    async def _fetch(self, effect: Effect, callback_id: str, name: str) -> Outcome:
        if (fetching := self._fetching) is None:
            return Rejected(None, "callback.fetch_attachments is false")
        shard = shard_of(effect.pair)
        if (kept := await self._store.get(shard, callback_id)) is None:
            return _FORGOTTEN
        if name in kept.files:
            return Delivered(200, found=True)
        kind, _, number = name.rpartition("-")
        file = CallbackFile(kind, int(number))
        folder = str(kept.told.get("errandId") or callback_id)
        try:
            status, told = 200, dict[str, Any]()
            stored = await fetching.files.find(folder, _key(file))
            if stored is None:
                fetched = await self._ask(fetching, file)
                if not isinstance(fetched, Fetched):
                    return fetched
                status, (content, told) = fetched.status, fetched.value
                stored = await fetching.files.store(folder, _key(file), told["name"], content)
        except NoRoom:
            return TryLater("there is no room below callback.dir for the file: see callback.dir_bytes_max")
        except OSError as error:
            return TryLater(f"the file cannot be stored below callback.dir: {error.strerror}")
        await self._store.keep_file(shard, callback_id, name, _shown(file, stored, told))
        return Delivered(status)

    async def _ask(self, fetching: Fetching, file: CallbackFile) -> Fetched[tuple[bytes, dict[str, Any]]] | Outcome:
        """The file's content, and what Cention says of it."""
        token = fetching.tokens.of(NOTHING_TOLD)
        fetching.asked(1)
        most = fetching.file_bytes_max
        get = fetching.client.area_archive if file.embedded else fetching.client.response_attachment
        fetched = await get(file.id, token, file_bytes_max=most)
        if not isinstance(fetched, Fetched):
            fetching.tokens.note(token, fetched)
            return fetched
        fetching.tokens.note(token, Delivered(fetched.status))
        try:
            content = await asyncio.to_thread(fetched.value.decoded, most)
        except UnusableContent as error:
            return Rejected(fetched.status, str(error))
        if content is None:
            return Rejected(fetched.status, "the answer carries no content")
        told = {"name": _short(fetched.value.name), "contentType": _short(fetched.value.content_type)}
        return Fetched((content, told), fetched.status)


def forwarded(kept: KeptCallback) -> bytes:
    """The body that is forwarded: Cention's document without the secret, and in `meta.bridge` what the bridge knows."""
    document = json.loads(kept.document or "{}")  # and not orjson, to which large integers are fractions
    call = None
    if kept.call is not None:
        pair, call_id = kept.call
        call = {"callId": call_id, "deviceId": pair.device_id, "extensionId": pair.extension_id}
    meta = document.get("meta") or {}
    meta["bridge"] = {
        "callbackId": kept.callback_id,
        "receivedAt": rfc3339(kept.received_at),
        "event": kept.told.get("event"),
        "errandId": kept.told.get("errandId"),
        "call": call,
    }
    return json.dumps({**document, "meta": meta}, ensure_ascii=False, separators=(",", ":")).encode()


def _key(file: CallbackFile) -> str:
    return f"{'image' if file.embedded else 'attachment'}-{file.id}"


def _shown(file: CallbackFile, stored: Stored, told: dict[str, Any]) -> dict[str, Any]:
    """What is told of a stored file. Of one that was found, what it is called is in its path."""
    return {"type": file.type, "id": str(file.id), "path": stored.path, "size": stored.size, **told}


def _short(text: str | None) -> str | None:
    return None if text is None else text[:_NAME_CHARS_MAX]

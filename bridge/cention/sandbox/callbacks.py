"""The callbacks that the sandbox sends when an errand is answered: their document, their sending, a record of them.

Shaped after the documentation's sample, with the variety that its text allows, so that a receiver meets it: `included`
comes in random order; every third file is without links, and every third link a string instead of an object; all name
another host and lack the workspace.

Invariants: one attempt a sending, since it is not documented that Cention tries again; no redirect is followed; the
secret is in no record. Bounded: the oldest callback is forgotten first.

Source: Cention API, "Cention Callback API".
"""

import random
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from bridge.cention.documents import MEDIA_TYPE
from bridge.cention.documents.attachments import AREA_ARCHIVES, RESPONSE_ATTACHMENTS
from bridge.cention.documents.callbacks import ANSWER_ERRANDS, CALLBACK_ANSWER_ERRANDS, EVENT_ANSWER_ERRAND
from bridge.cention.sandbox.bounded import Bounded
from bridge.cention.sandbox.records import CHANNEL, Errand, GivenAnswer
from bridge.cention.words import trouble_of
from bridge.runtime.clock import now_ms

FIRST_CALLBACK_ID = 76
"""The id in the documentation's sample."""
SEND_TIMEOUT_S = 10.0

_HREF = "http://localhost/capi/json"  # the sample's host: nobody should follow it
_SERVICE = {"c3_id": 1, "name": CHANNEL, "type": 1}  # which number is voice's is not documented
_CALLBACKS_MAX = 1000
_CALLBACKS_BYTES_MAX = 16 * 2**20

Json = dict[str, Any]


@dataclass(slots=True)
class Callback:
    """A callback, and what became of it.

    Attributes:
        document: what was sent, but for the secret.
        sent_at: of the last attempt, milliseconds since the epoch.
        attempts: how often it was sent.
        status: the HTTP status of the last answer; None where none came.
        error: why none came.
    """

    callback_id: int
    errand_id: int
    document: Json
    sent_at: int = 0
    attempts: int = 0
    status: int | None = None
    error: str | None = None


class Callbacks:
    """See the module's docstring.

    Args:
        url: where callbacks go; None: none is sent.
        secret: what stands in the setting's field "Secret Key"; "": no secret is sent.
        dice: shuffle `included`.
    """

    def __init__(self, url: str | None, secret: str, dice: random.Random) -> None:
        self._url, self._secret, self._dice = url, secret, dice
        self._callbacks: Bounded[int, Callback] = Bounded(count_max=_CALLBACKS_MAX, size_max=_CALLBACKS_BYTES_MAX)
        self._next_id = FIRST_CALLBACK_ID

    def configure(self, url: str | None, secret: str) -> None:
        """Lets later callbacks go to `url`, with `secret`; None: none is sent."""
        self._url, self._secret = url, secret

    async def tell(self, errand: Errand, given: GivenAnswer, recipient: tuple[str, str]) -> Callback | None:
        """Sends the callback of an answered errand; None where there is nowhere to send it.

        Args:
            errand: the errand.
            given: its answer.
            recipient: the address and the name of whom was answered; both "" where unknown.
        """
        if self._url is None:
            return None
        content = document(self._next_id, errand.errand_id, given, recipient)
        self._dice.shuffle(content["included"])
        callback = Callback(self._next_id, errand.errand_id, content)
        self._next_id += 1
        self._callbacks.put(callback.callback_id, callback, given.size * 2 + 4096)
        return await self.send(callback)

    async def send(self, callback: Callback) -> Callback:
        """Sends a callback, for the first time or again."""
        if self._url is None:
            return callback
        meta = {"meta": {"api_secret": self._secret}} if self._secret else {}
        callback.sent_at, callback.status, callback.error = now_ms(), None, None
        callback.attempts += 1
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SEND_TIMEOUT_S)) as http,
                http.post(
                    self._url,
                    data=orjson.dumps({**callback.document, **meta}),
                    headers={"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE},
                    allow_redirects=False,
                ) as response,
            ):
                callback.status = response.status
        except TimeoutError:
            callback.error = f"no answer within {SEND_TIMEOUT_S:g} s"
        except (aiohttp.ClientError, OSError) as error:
            callback.error = trouble_of(error)
        return callback

    def get(self, number: int) -> Callback | None:
        return self._callbacks.get(number)

    def newest_first(self) -> list[Callback]:
        return list(reversed(self._callbacks))

    def clear(self) -> None:
        """Forgets all callbacks."""
        self._callbacks.clear()


def document(callback_id: int, errand_id: int, given: GivenAnswer, recipient: tuple[str, str]) -> Json:
    """The callback's document, without `meta`, and `included` not yet shuffled."""
    attachments = [(RESPONSE_ATTACHMENTS, number) for number in given.attachments]
    archives = [(AREA_ARCHIVES, number) for number in given.archives]
    address, name = recipient
    to = [{"c3_id": given.answer_id, "email_address": address, "name": name}] if address or name else None
    response = {
        "body": given.text,
        "c3_id": given.response_id,
        "html_body": given.html,
        "subject": given.subject,
        "to": to,
    }
    errand = {
        **_identifier(ANSWER_ERRANDS, errand_id),
        "attributes": {
            "answer": {"c3_id": given.answer_id, "response": response},
            "c3_id": errand_id,
            "service": _SERVICE,
        },
        "relationships": {
            "attachments": {"data": [_identifier(*file) for file in attachments] or None},
            "embedded_archives": {"data": [_identifier(*file) for file in archives] or None},
        },
    }
    return {
        "data": {
            **_identifier(CALLBACK_ANSWER_ERRANDS, callback_id),
            "attributes": {"event": EVENT_ANSWER_ERRAND},
            "relationships": {"errand": {"data": _identifier(ANSWER_ERRANDS, errand_id)}},
        },
        "included": [errand, *(_file(*file) for file in (*attachments, *archives))],
    }


def _file(kind: str, number: int) -> Json:
    href = f"{_HREF}/{kind}/{number}"
    links: Json = ({"links": {"self": {"href": href}}}, {"links": {"self": href}}, {})[number % 3]
    return {**_identifier(kind, number), "attributes": {"c3_id": number}, **links}


def _identifier(kind: str, number: int) -> Json:
    return {"type": kind, "id": str(number)}

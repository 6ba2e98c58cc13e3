"""Posts events to a bridge's intake, again and again until each is taken: at once for many pairs, in order for each.

Knows the wire of contract section 3 from the sender's side and nothing of what the bridge does with an event.
Invariants: an event leaves only when every earlier one of its pair (on a transfer, of both pairs) has been answered; a
repeated request carries the same bytes, so that the bridge can tell a repetition by its `eventId`; numbers, names and
tokens never get into a message.

Source: contract section 3; RFC 9110 section 10.2.3 (Retry-After).
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import orjson

from bridge.cention.words import trouble_of
from bridge.runtime.clock import monotonic, now
from bridge.runtime.tasks import Tasks

EVENTS_PATH = "/v1/events"
BATCH_BYTES_MAX = 900_000  # below the intake's default limit of 1 MiB
REFUSALS_KEPT = 1000
BACKOFF_MAX_S = 5.0
_REFUSED = (400, 413, 422)
"""The bridge has read the request and will not take what is in it. Other 4xx are about the sender, not an event."""


class SenderFailed(Exception):
    """Nothing more can be sent; the text says why and, where it can, how to mend it."""


class Refusal(NamedTuple):
    """An event that the bridge refused.

    `label` is what the caller gave with it (such as a line number); `faults` are `pointer: code: detail`.
    """

    label: int | None
    event_id: str | None
    code: str
    faults: tuple[str, ...]


@dataclass(slots=True)
class Counts:
    """What has become of the events so far; `retried` counts requests that were sent again."""

    given: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    retried: int = 0

    @property
    def answered(self) -> int:
        return self.accepted + self.duplicates + self.rejected

    @property
    def unanswered(self) -> int:
        return self.given - self.answered


class _Posting(NamedTuple):
    body: bytes
    label: int | None
    event_id: str | None


class _Stopped(Exception):
    """The sender is closing: whoever waits, give up."""


def events_url(url: str) -> str:
    """The intake's URL, from that or from the bridge's base URL.

    Raises:
        ValueError: not an http or https URL with a host, or one that carries a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL such as http://127.0.0.1:8080")
    if "@" in parts.netloc:
        raise ValueError("must not carry a user or password: use a token")
    path = parts.path.rstrip("/")
    path = path if path.endswith(EVENTS_PATH) else path + EVENTS_PATH
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def retry_after_s(value: str | None, at: datetime) -> float | None:
    """The seconds that a `Retry-After` of seconds or a date asks for, seen from `at`; None where it is neither."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - at).total_seconds())
    except (ValueError, TypeError):  # TypeError: a date without a zone
        return None


class Sender:
    """Sends to one bridge, inside `async with`.

    Leaving the block waits until everything given has been answered; leaving it by an exception abandons what waits.

    Attributes:
        counts: what has become of the events so far.
        refusals: the first `REFUSALS_KEPT` refusals.
        failure: why nothing more can be sent; None while all is well.
        trouble: why the latest attempt failed; None once an answer has come since.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        concurrency: int = 16,
        batch: int = 1,
        give_up_s: float = 60.0,
        attempt_timeout_s: float = 30.0,
        backoff_s: float = 0.2,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """Prepares to send to `url`: the bridge's base URL, or the whole `…/v1/events`.

        Args:
            url: http or https.
            token: bearer token.
            concurrency: how many requests may be open at once.
            batch: how many events go into one request, as NDJSON, one request after the other; 1 posts each alone.
            give_up_s: how long one request is repeated before the sender fails.
            attempt_timeout_s: how long one attempt may take.
            backoff_s: the first repetition comes within this, each later one within twice the time, to 5 s at most.
            on_change: called after every answer and every failed attempt.

        Raises:
            ValueError: `url` is not one to send to.
        """
        self.url = events_url(url)
        self.counts = Counts()
        self.refusals: list[Refusal] = []
        self.failure: SenderFailed | None = None
        self.trouble: str | None = None
        self._token, self._batch = token, batch
        self._give_up_s, self._attempt_timeout_s, self._backoff_s = give_up_s, attempt_timeout_s, backoff_s
        self._on_change = on_change
        self._session: aiohttp.ClientSession
        self._tasks = Tasks("sender")
        self._tails: dict[object, asyncio.Task[None]] = {}  # per pair, the latest event's task
        self._gathered: list[_Posting] = []
        self._gathered_bytes = 0
        self._open = asyncio.Semaphore(concurrency)
        # An event that waits for an earlier one of its pair holds no connection, but it does take memory.
        self._room = asyncio.Semaphore(concurrency * 16)
        self._stop = asyncio.Event()
        self._abandoned = False

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
            timeout=aiohttp.ClientTimeout(total=self._attempt_timeout_s),
            # `_open` is the limit: waiting for a connection would count as part of the attempt's time.
            connector=aiohttp.TCPConnector(limit=0),
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and not self._stop.is_set():
                await self.finish()
        finally:
            await self.stop(0 if kind else 5)
            await self._session.close()

    async def send(self, event: Mapping[str, Any], *, raw: bytes | None = None, label: int | None = None) -> None:
        """Takes an event to send; returns before it is answered, but waits while too many are.

        Args:
            event: as contract section 1 writes it; its pair decides what it must wait for.
            raw: the event's JSON where it must leave byte for byte as it came; without a line break.
            label: comes back in `refusals`.

        Raises:
            SenderFailed: an earlier event could not be sent at all, or the sender was stopped.
        """
        self._check()
        event_id = event.get("eventId")
        posting = _Posting(raw or orjson.dumps(event), label, event_id if isinstance(event_id, str) else None)
        if self._batch == 1:
            await self._room.acquire()
            self._check()
            self.counts.given += 1
            self._start([posting], _pairs(event) or [object()])
            return
        if self._gathered_bytes + len(posting.body) + 1 > BATCH_BYTES_MAX:
            await self.flush()
        self.counts.given += 1
        self._gathered.append(posting)
        self._gathered_bytes += len(posting.body) + 1
        if len(self._gathered) >= self._batch:
            await self.flush()

    async def flush(self) -> None:
        """Sends what has been gathered for a batch, and waits for its answer. Nothing to do without batches.

        Raises:
            SenderFailed: it could not be sent at all.
        """
        if self._gathered:
            # Waiting for a task, not awaiting its work: a caller that is cancelled leaves the request to its end.
            await asyncio.wait([self._start_gathered()])
        if self.failure:
            raise self.failure

    async def finish(self) -> None:
        """Returns once everything given has been answered.

        Raises:
            SenderFailed: something could not be sent at all.
        """
        await self.flush()
        while self._tails:
            await asyncio.wait(set(self._tails.values()))
        if self.failure:
            raise self.failure

    async def pause(self, seconds: float) -> None:
        """Sleeps, but not on after the sender has failed or was stopped."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Ends all repetition; what was given and takes no repetition has `timeout_s` seconds to be answered.

        Once an event had to be left, no other is begun: it might be a later one of the same pair.
        """
        self._stop.set()
        if self._gathered and timeout_s:
            self._start_gathered()
        await self._tasks.drain(timeout_s)

    def _check(self) -> None:
        if self._stop.is_set():
            raise self.failure or SenderFailed("the sender was stopped")

    def _start_gathered(self) -> asyncio.Task[None]:
        postings, self._gathered, self._gathered_bytes = self._gathered, [], 0
        return self._start(postings, ["batch"])

    def _start(self, postings: list[_Posting], keys: Sequence[object]) -> asyncio.Task[None]:
        before = {tail for key in keys if (tail := self._tails.get(key))}
        task = self._tasks.start(self._deliver(postings, before), "post")
        for key in keys:
            self._tails[key] = task
        task.add_done_callback(lambda done: self._done(done, keys))
        return task

    def _done(self, task: asyncio.Task[None], keys: Iterable[object]) -> None:
        if self._batch == 1:
            self._room.release()
        for key in keys:
            if self._tails.get(key) is task:
                del self._tails[key]

    async def _deliver(self, postings: list[_Posting], before: set[asyncio.Task[None]]) -> None:
        if before:
            await asyncio.wait(before)
        try:
            async with self._open:
                if self._batch == 1:
                    await self._deliver_one(postings[0])
                else:
                    await self._deliver_batch(postings)
        except _Stopped:
            self._abandoned = True
        except SenderFailed as failure:
            self.failure = self.failure or failure
            self._stop.set()

    async def _deliver_one(self, posting: _Posting) -> None:
        status, document = await self._answer(posting.body, "application/json")
        if status in _REFUSED:
            self._refused(posting, document)
        else:
            self._taken(posting, document, status)
        self._changed()

    async def _deliver_batch(self, postings: list[_Posting]) -> None:
        body = b"\n".join(posting.body for posting in postings) + b"\n"
        status, document = await self._answer(body, "application/x-ndjson")
        if status in _REFUSED and len(postings) > 1:
            # Refused as a whole: halves find out which event is to blame, and the others get through.
            middle = len(postings) // 2
            await self._deliver_batch(postings[:middle])
            await self._deliver_batch(postings[middle:])
            return
        if status in _REFUSED:
            self._refused(postings[0], document)
        else:
            results = document.get("results")
            if status != 207 or not isinstance(results, list) or len(results) != len(postings):
                raise SenderFailed(f"the answer to a batch (HTTP {status}) does not fit it: is this a bridge?")
            for posting, result in zip(postings, results, strict=True):
                result = result if isinstance(result, dict) else {}
                if result.get("result") == "rejected":
                    self._refused(posting, result)
                else:
                    self._taken(posting, result, status)
        self._changed()

    async def _answer(self, body: bytes, content_type: str) -> tuple[int, dict[str, Any]]:
        """Posts until an answer settles it: its status and its document, empty where that is not a JSON object."""
        began, attempt = monotonic(), 0
        while not (self._abandoned or self.failure or (attempt and self._stop.is_set())):
            wait_s: float | None = None
            self.counts.retried += attempt > 0
            try:
                async with self._session.post(
                    self.url, data=body, headers={"Content-Type": content_type}, allow_redirects=False
                ) as response:
                    text = await response.read()
                    if response.status < 500 and response.status not in (408, 429):
                        self.trouble = None
                        return response.status, _settling(response.status, text)
                    trouble = f"HTTP {response.status} {response.reason or ''}".strip()
                    wait_s = retry_after_s(response.headers.get("Retry-After"), now())
            except (aiohttp.ClientError, TimeoutError) as error:
                trouble = trouble_of(error)
            left_s = began + self._give_up_s - monotonic()
            if left_s <= 0:
                raise SenderFailed(f"gave up after {self._give_up_s:g} s: {trouble}")
            # Full jitter, so that many senders don't come back as one.
            backoff_s = random.uniform(0, min(BACKOFF_MAX_S, self._backoff_s * 2 ** min(attempt, 16)))  # noqa: S311
            attempt += 1
            self.trouble = trouble
            self._changed()
            await self.pause(min(left_s, backoff_s if wait_s is None else wait_s))
        raise _Stopped

    def _taken(self, posting: _Posting, document: Mapping[str, Any], status: int) -> None:
        match document.get("result"):
            case "accepted":
                self.counts.accepted += 1
            case "duplicate":
                self.counts.duplicates += 1
            case _:
                raise SenderFailed(f"the answer (HTTP {status}) is not one that a bridge gives: check the URL")

    def _refused(self, posting: _Posting, document: Mapping[str, Any]) -> None:
        self.counts.rejected += 1
        if len(self.refusals) < REFUSALS_KEPT:
            code = str(document.get("code") or "rejected")
            self.refusals.append(Refusal(posting.label, posting.event_id, code, _faults(document)))

    def _changed(self) -> None:
        if self._on_change:
            self._on_change()


def _pairs(event: Mapping[str, Any]) -> list[object]:
    """The pairs that an event is about; none where it doesn't say, which the bridge will refuse."""
    to = event.get("transferredTo")
    members = [event, to] if isinstance(to, dict) else [event]
    keys = [(member.get("deviceId"), member.get("extensionId")) for member in members]
    return [key for key in dict.fromkeys(map(repr, keys)) if key != "(None, None)"]


def _settling(status: int, text: bytes) -> dict[str, Any]:
    if status in (401, 403):
        raise SenderFailed(f"HTTP {status}: the bridge wants a token, or another one than this")
    if status not in (200, 202, 207, *_REFUSED):
        raise SenderFailed(f"HTTP {status}: there is no intake of a bridge at this URL")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _faults(document: Mapping[str, Any]) -> tuple[str, ...]:
    errors = document.get("errors")
    if not isinstance(errors, list) or not errors:
        return (str(document["detail"]),) if document.get("detail") else ()
    faults = [error for error in errors if isinstance(error, dict)]
    return tuple(
        ": ".join(str(fault[key]) for key in ("pointer", "code", "detail") if fault.get(key)) for fault in faults
    )

"""Cention's callbacks, from their arrival to what they lead to; for them what the pipeline is for events.

    intake: the document, its secret checked and taken off          (bridge.intake.callbacks)
      -> find     the call it belongs to, and whether it came before  (bridge.store.callbacks)
      -> commit   mark, callback, timeline entry, deliveries: one script
      -> 200, and wake the worker
    worker: a lane's head -> file fetched, or callback forwarded -> settle   (bridge.delivery.callbacks)

The worker and its outbox are those of agents' lanes in code, and others in Redis and at work: a receiver that is away
must not hold up an agent. Each errand has two lanes, one for its files and one for what is forwarded.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic import ValidationError

from bridge.calls.effects import Effect, EffectKind
from bridge.cention.client import CentionClient
from bridge.cention.documents import EVENT_ANSWER_ERRAND, AnsweredErrand, Callback
from bridge.delivery.breaker import Breaker
from bridge.delivery.callbacks import CallbackDispatcher, Fetching
from bridge.delivery.files import Files
from bridge.delivery.forward import Forwarder
from bridge.delivery.places import Places
from bridge.delivery.policy import Schedule
from bridge.delivery.rate import Rate
from bridge.delivery.tokens import Tokens
from bridge.delivery.worker import Worker
from bridge.intake.batch import Reject
from bridge.intake.callbacks import CallbackRoute, CallbackSecrets, Received
from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger
from bridge.runtime.metrics import Metrics
from bridge.settings import Settings, secrets
from bridge.store.callbacks import CallbackRetention, CallbackStore, NewCallback, Place, job_of, lane_of
from bridge.store.calls import Retention
from bridge.store.connection import Connection
from bridge.store.keys import CallbackKeys, Keys
from bridge.store.outbox import Outbox

log = get_logger(__name__)

CONCURRENCY: Final = 8
"""What callbacks lead to that is under way at once: people answer errands, and a file is large."""
FILES_MAX: Final = 100
"""Files of one callback that are fetched; an e-mail has fewer."""

_TEXT_CHARS_MAX = 256  # of what stands in a timeline; the whole is in the document
_RECIPIENTS_MAX = 20
_LARGE = 65_536


@dataclass(frozen=True, slots=True)
class LeadsTo:
    """What is done about a callback."""

    fetch: bool
    forward: bool

    def __bool__(self) -> bool:
        return self.fetch or self.forward


class Receiver:
    """Takes callbacks in. Safe to call from many tasks, and from many replicas on one Redis."""

    def __init__(self, store: CallbackStore, leads_to: LeadsTo, metrics: Metrics, wake: Callable[[int], None]) -> None:
        self._store, self._leads_to, self._metrics, self._wake = store, leads_to, metrics, wake

    async def receive(self, callback: Callback) -> Received:
        """Makes a callback durable, once; nothing that it speaks of is fetched before.

        Raises:
            StoreUnavailable: nothing is promised; the same callback again is safe.
        """
        document = callback.without_secret().to_json()
        callback_id = await asyncio.to_thread(id_of, document) if len(document) > _LARGE else id_of(document)
        errand_id = callback.errand_id
        place = await self._store.find(callback_id, errand_id)
        duplicate = place.seen
        if duplicate:
            await self._store.confirm(place, callback_id)
        else:
            new = NewCallback(callback_id, errand_id, told_of(callback), document)
            jobs = self._jobs(new, place, callback)
            duplicate = not await self._store.commit(new, place, jobs)
            if jobs and not duplicate:
                self._wake(place.shard)
        known = callback.event == EVENT_ANSWER_ERRAND
        result = "duplicate" if duplicate else "accepted"
        self._metrics.callbacks.labels("answer_errand" if known else "other", result).inc()
        write = log.info if known or duplicate else log.warning
        write(
            "callback " + result,
            callback=callback_id,
            cention_event=new_event(callback),
            errand=errand_id,
            call=None if place.call is None else place.call[1],
        )
        return Received(callback_id, duplicate)

    def _jobs(self, new: NewCallback, place: Place, callback: Callback) -> list[Effect]:
        # Lanes of the errand: its answers are forwarded in their order, and no other errand's wait for them.
        number = int(new.callback_id[-12:], 16) if new.errand_id is None else new.errand_id
        jobs = []
        if self._leads_to.fetch:
            lane, files = lane_of(number, place.shard, 0), callback.files()
            if len(files) > FILES_MAX:
                log.warning("a callback has more files than are fetched", callback=new.callback_id, files=len(files))
            jobs += [
                job_of(EffectKind.FETCH_FILE, new.callback_id, lane, place.call, f"{file.type}-{file.id}")
                for file in files[:FILES_MAX]
            ]
        if self._leads_to.forward:
            lane = lane_of(number, place.shard, 1)
            jobs.append(job_of(EffectKind.FORWARD_CALLBACK, new.callback_id, lane, place.call))
        return jobs


def id_of(document: bytes) -> str:
    """The callback's id: `cb-` and 24 hex digits, the same for the same callback, however its parts are ordered.

    Made from all of it: Cention does not say whether `data.id` is one callback's, and taking two for one would lose an
    answer. Lists that JSON:API leaves unordered are compared as sets, since Cention's server has no order in them.

    Args:
        document: without the secret, or changing that would change the id.

    Source: JSON:API 1.0, "Compound Documents".
    """
    value = orjson.loads(document)
    resources = [value["data"], *(value.get("included") or ())]
    for resource in resources:
        for relationship in (resource.get("relationships") or {}).values():
            if relationship and isinstance(related := relationship.get("data"), list):
                related.sort(key=_sorted_json)
    if value.get("included"):
        value["included"].sort(key=_sorted_json)
    return f"cb-{hashlib.blake2b(_sorted_json(value), digest_size=12).hexdigest()}"


def _sorted_json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def new_event(callback: Callback) -> int | None:
    """The event's id, if it is one that JSON readers keep exactly."""
    event = callback.event
    return event if event is not None and abs(event) < 2**53 else None


def told_of(callback: Callback) -> dict[str, Any]:
    """What lists and timelines show of a callback: little, since they are read by many and bounded by count."""
    try:
        errand = callback.answered_errand() or AnsweredErrand()
    except (ValidationError, TypeError):  # a part is not as documented; the document is kept all the same
        errand = AnsweredErrand()
    response, service = errand.response, errand.service
    recipients = [recipient.email_address or recipient.name for recipient in response.to or ()]
    errand_id = callback.errand_id
    return {
        "event": new_event(callback),
        "errandId": None if errand_id is None else str(errand_id),
        "service": None if service is None else _short(service.name),
        "subject": _short(response.subject),
        "to": [_short(recipient) for recipient in recipients if recipient][:_RECIPIENTS_MAX],
        "files": len(callback.files()),
    }


def _short(text: str | None) -> str | None:
    return None if text is None else text[:_TEXT_CHARS_MAX]


@dataclass(frozen=True, slots=True)
class Callbacks:
    """All that the service has for callbacks.

    Attributes:
        store: what the admin side reads.
        route: of the intake; None where callbacks are not taken.
    """

    store: CallbackStore
    route: CallbackRoute | None
    _outbox: Outbox
    _worker: Worker | None
    _tokens: Tokens
    _forwarder: Forwarder | None
    _metrics: Metrics
    _files: Files

    async def run(self) -> None:
        """Does what callbacks lead to, until `drain`."""
        if self._worker is not None:
            await self._worker.run()

    async def drain(self, timeout_s: float) -> None:
        """Begins nothing more, and lets what is under way end for up to `timeout_s` seconds."""
        if self._worker is not None:
            await self._worker.drain(timeout_s)

    async def measure(self) -> None:
        """Brings the gauges up to date. Raises `StoreUnavailable`."""
        backlog, metrics = await self._outbox.backlog(), self._metrics
        metrics.callback_waiting.set(backlog.waiting)
        metrics.callback_parked.set(backlog.parked)
        metrics.callback_oldest_seconds.set(backlog.oldest_ms / 1000)
        metrics.callback_files_bytes.set(self._files.size)

    @property
    def any_refused(self) -> bool:
        """Whether Cention refuses the token for files."""
        return self._tokens.any_refused

    def replace(self, settings: Settings, token: str) -> bool:
        """Takes up the secrets of `settings` and the `token` for files; says whether any was new."""
        secret, forward = secrets(settings.callback.secret), secrets(settings.callback.forward_secret)
        token_changed = self._tokens.replace(token, {})
        if token_changed and self._worker is not None:
            self._worker.wake_all()
        let_in = self.route is not None and self.route.secrets.replace(secret)
        signs = self._forwarder is not None and self._forwarder.replace(forward)
        return token_changed or let_in or signs


@asynccontextmanager
async def open_callbacks(
    settings: Settings,
    connection: Connection,
    retention: Retention,
    metrics: Metrics,
    *,
    base_url: str,
    token: str,
    cention: Breaker,
    receiver: Breaker,
    asked: Callable[[int], None],
    keep: Reject,
    alone: bool,
    on_refused: Callable[[], None],
) -> AsyncIterator[Callbacks]:
    """All that the service has for callbacks; they are taken and worked on where the settings say so.

    Args:
        retention: of calls.
        base_url: Cention's, for files.
        token: for files.
        cention: the breaker of errands, which files heed.
        receiver: the breaker of what is forwarded.
        asked: told how many requests were made to Cention.
        keep: keeps what cannot be used among the rejections.
        alone: whether no other bridge can be at work on this Redis.
        on_refused: called when Cention refuses `token`.
    """
    own, delivery = settings.callback, settings.delivery
    age_ms = own.age_s_max * 1000
    calls, keys = Keys(settings.redis.key_prefix), CallbackKeys(settings.redis.key_prefix)
    store = CallbackStore(
        connection,
        calls,
        keys,
        # A mark lives as long as what is kept, or a repetition would meet the deliveries of the first.
        CallbackRetention(max(retention.seen_ms, age_ms), age_ms, own.kept_max, retention.timeline_entries),
    )
    jobs = Retention(
        retention.seen_ms, age_ms, retention.age_ms, retention.grace_ms, retention.timeline_entries, own.kept_max
    )
    outbox = Outbox(connection, keys, jobs, lease_ms=round(delivery.lease_s * 1000))
    leads_to = LeadsTo(fetch=own.fetch_attachments, forward=own.forward_url is not None)
    tokens = Tokens(token, {}, metrics.callback_tokens_refused, on_refused=on_refused)
    files = Files(own.dir, bytes_max=own.dir_bytes_max)
    async with AsyncExitStack() as stack:
        fetching = forwarder = worker = None
        if leads_to.fetch:
            # A client of its own, so that large files never take the connections that errands wait for.
            client = await stack.enter_async_context(
                CentionClient(base_url, attempt_timeout_s=delivery.attempt_timeout_s, connections_max=CONCURRENCY)
            )
            fetching = Fetching(client, tokens, files, own.file_bytes_max, cention, asked)
        if own.forward_url is not None:
            forwarder = await stack.enter_async_context(
                Forwarder(
                    own.forward_url,
                    secrets(own.forward_secret),
                    attempt_timeout_s=delivery.attempt_timeout_s,
                    connections_max=CONCURRENCY,
                )
            )
        if leads_to:
            if alone:
                await outbox.free_leases()
            worker = Worker(
                outbox,
                CallbackDispatcher(store, fetching, forwarder, receiver),
                Schedule(tuple(delivery.schedule_s), delivery.age_s_max),
                metrics.of_callbacks(),
                places=Places(CONCURRENCY),
                poll_s=delivery.poll_s,
                lease_s=delivery.lease_s,
                attempt_timeout_s=delivery.attempt_timeout_s,
                rate=Rate(0, monotonic),
            )
        taking = Receiver(store, leads_to, metrics, lambda shard: worker.wake(shard) if worker else None)
        route = None
        if own.enabled:
            route = CallbackRoute(
                CallbackSecrets(secrets(own.secret)),
                taking.receive,
                keep,
                lambda code: metrics.callbacks_refused.labels(code).inc(),
                own.body_bytes_max,
            )
        yield Callbacks(store, route, outbox, worker, tokens, forwarder, metrics, files)

"""The composition root: settings in, a running service out, and its end in order.

`running` is the one function that builds the service; commands and tests use the same one. What it starts, it ends in
reverse: intake closes, claimed deliveries finish, lanes are given back, listeners and Redis close.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from pydantic import SecretStr

from bridge import __version__
from bridge.admin.routes import Access, Admin, Readiness
from bridge.calls.events import CallEvent
from bridge.calls.state import InboundEnd, Policy
from bridge.calls.verdicts import Rejection, Verdict
from bridge.cention.client import CentionClient
from bridge.cention.sandbox import Sandbox
from bridge.delivery.dispatch import Dispatcher, Tokens
from bridge.delivery.policy import Schedule
from bridge.delivery.render import Renderer
from bridge.delivery.worker import Worker
from bridge.intake.auth import Authenticator
from bridge.intake.feed import Feed
from bridge.intake.routes import make_intake_app
from bridge.intake.wire import Translator
from bridge.pipeline import Pipeline
from bridge.runtime.clock import monotonic, now_ms
from bridge.runtime.logs import get_logger
from bridge.runtime.metrics import Metrics
from bridge.runtime.web import serve
from bridge.settings import Settings
from bridge.store.calls import CallStore, Retention
from bridge.store.connection import Connection
from bridge.store.embedded import EmbeddedRedis
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import Keys
from bridge.store.outbox import Outbox
from bridge.store.reads import Reads
from bridge.store.rejections import RejectionStore

log = get_logger(__name__)

SANDBOX_TOKEN = "sandbox"  # noqa: S105 (opens nothing but the sandbox that this process starts itself)
_EXPIRE_EVERY_S = 1.0
_GAUGES_EVERY_S = 2.0


@dataclass
class Service:
    """A running service.

    Attributes:
        intake_url, admin_url: where its listeners are.
        sandbox_url: where the sandbox's views are, if one was started.
        stop: set it, and the service drains and ends.
    """

    intake_url: str
    admin_url: str
    metrics: Metrics
    sandbox: Sandbox | None
    sandbox_url: str | None
    stop: asyncio.Event


@asynccontextmanager
async def running(
    settings: Settings, *, sandbox_port: int | None = None, stop: asyncio.Event | None = None
) -> AsyncIterator[Service]:
    """Runs the service for as long as the context is open; leaving it drains.

    Args:
        settings: what to run with.
        sandbox_port: start a Cention sandbox there (0: any free port) in place of `cention.base_url`; None: do not.
        stop: the service's `stop`, if it was made already.

    Raises:
        EmbeddedRedisError: the embedded Redis cannot be started.
        OSError: a port is taken.
    """
    metrics = Metrics(__version__)
    draining = asyncio.Event()
    async with AsyncExitStack() as stack:
        sandbox, base_url, token = None, str(settings.cention.base_url or ""), _token(settings)
        if sandbox_port is not None:
            sandbox = Sandbox()
            base_url = await sandbox.start("127.0.0.1", sandbox_port)
            stack.push_async_callback(sandbox.stop)
            token = token or SANDBOX_TOKEN
        redis_url = settings.redis.url.get_secret_value()
        embedded = redis_url == "embedded"
        if embedded:
            redis = EmbeddedRedis(settings.redis.data_dir, fsync=settings.redis.fsync)
            await stack.enter_async_context(redis)
            redis_url = redis.url
        connection = Connection(redis_url, timeout_s=settings.redis.timeout_s)
        stack.push_async_callback(connection.close)

        keys = Keys(settings.redis.key_prefix)
        retention = _retention(settings)
        store = CallStore(connection, keys, retention)
        outbox = Outbox(connection, keys, retention, lease_ms=round(settings.delivery.lease_s * 1000))
        rejections = RejectionStore(
            connection, keys, count_max=settings.redis.rejections_max, age_s_max=settings.redis.rejections_age_s_max
        )
        reads = Reads(connection, keys)
        if embedded:
            await outbox.free_leases()  # nobody else can be at work on a Redis that we started

        client = await stack.enter_async_context(
            CentionClient(
                base_url,
                attempt_timeout_s=settings.delivery.attempt_timeout_s,
                connections_max=settings.delivery.concurrency,
                obcall_type=settings.cention.obcall_type,
            )
        )
        # The pipeline wakes the worker, and the worker hands calls over through the pipeline.
        pipeline = Pipeline(store, outbox, _policy(settings), lambda shard: worker.wake(shard))
        dispatcher = Dispatcher(
            client,
            _renderer(settings),
            Tokens(
                token, {r.queue: r.token.get_secret_value() for r in settings.cention.routes}, metrics.tokens_refused
            ),
            errand_id=outbox.errand_id,
            hand_over=pipeline.hand_over,
        )
        worker = Worker(
            outbox,
            dispatcher,
            Schedule(tuple(settings.delivery.schedule_s), settings.delivery.age_s_max),
            metrics,
            concurrency=settings.delivery.concurrency,
            poll_s=settings.delivery.poll_s,
            lease_s=settings.delivery.lease_s,
        )

        async def accept(events: Sequence[CallEvent]) -> list[Verdict]:
            began = monotonic()
            verdicts = await pipeline.accept(events)
            metrics.accept_seconds.observe(monotonic() - began)
            for verdict in verdicts:
                metrics.events.labels(verdict.value).inc()
            return verdicts

        async def reject(refused: Sequence[Rejection]) -> None:
            await rejections.keep(refused)
            metrics.events.labels("rejected").inc(len(refused))
            for rejection in refused:
                log.warning("event refused", event_id=rejection.event_id, code=rejection.code,
                            errors=[f"{fault.pointer} {fault.code}" for fault in rejection.faults])  # fmt: skip

        async def readiness() -> Readiness:
            try:
                await connection.check(keys.writable())
                writable = True
            except StoreUnavailable:
                writable = False
            return Readiness({"settings": True, "redis": writable, "accepting": not draining.is_set()})

        intake_app = make_intake_app(
            authenticator=Authenticator(
                _secrets(settings.intake.tokens), _secrets(settings.intake.webhook_secrets), lambda: now_ms() / 1000
            ),
            translate=_translator(settings, settings.intake.mapping),
            accept=accept,
            reject=reject,
            body_bytes_max=settings.intake.body_bytes_max,
            events_max=settings.intake.events_max,
            draining=draining.is_set,
        )
        admin_app = Admin(
            access=Access(_secrets(settings.admin.viewer_tokens), _secrets(settings.admin.operator_tokens)),
            reads=reads,
            rejections=rejections,
            readiness=readiness,
            metrics=metrics.render,
        ).app()

        sandbox_url = None if sandbox is None else base_url.rpartition("/s/")[0]
        service = Service("", "", metrics, sandbox, sandbox_url, stop or asyncio.Event())
        service.admin_url = await _listen(stack, admin_app, settings.admin.host, settings.admin.port)
        service.intake_url = await _listen(stack, intake_app, settings.intake.host, settings.intake.port)

        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(_repeat(_EXPIRE_EVERY_S, lambda: _expire(pipeline, metrics)), name="expire"),
                group.create_task(_repeat(_GAUGES_EVERY_S, lambda: _gauges(outbox, reads, metrics)), name="gauges"),
            ]
            if settings.feed.kind != "none":
                feed = Feed(
                    kind=settings.feed.kind,
                    url=settings.feed.url or "",
                    token=None if settings.feed.token is None else settings.feed.token.get_secret_value(),
                    translate=_translator(settings, settings.feed.mapping),
                    accept=accept,
                    reject=reject,
                )
                loops.append(group.create_task(feed.run(), name="feed"))
            group.create_task(worker.run(), name="worker")
            log.info("ready", intake=service.intake_url, admin=service.admin_url, version=__version__)
            try:
                yield service
            finally:
                log.info("draining", deadline_s=settings.delivery.drain_s)
                draining.set()
                for loop in loops:
                    loop.cancel()
                await worker.drain(settings.delivery.drain_s)
    log.info("ended")


async def run(settings: Settings, *, sandbox_port: int | None = None) -> None:
    """Runs the service until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    stop_on_signals(stop)  # before anything can be accepted: a signal while starting drains too
    async with running(settings, sandbox_port=sandbox_port, stop=stop):
        await stop.wait()


def stop_on_signals(stop: asyncio.Event) -> None:
    """Sets `stop` at SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _listen(stack: AsyncExitStack, app: web.Application, host: str, port: int) -> str:
    runner, bound = await serve(app, host, port)
    stack.push_async_callback(runner.cleanup)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{bound}"


async def _repeat(every_s: float, work: Callable[[], Awaitable[object]]) -> None:
    """Does `work` again and again; Redis being away is waited out, anything else ends the service."""
    while True:
        try:
            await work()
        except StoreUnavailable as error:
            log.debug("put off", reason=error.reason)
        await asyncio.sleep(every_s)


async def _expire(pipeline: Pipeline, metrics: Metrics) -> None:
    metrics.expired.inc(await pipeline.expire_due())


async def _gauges(outbox: Outbox, reads: Reads, metrics: Metrics) -> None:
    metrics.redis_available.set(0)
    backlog = await outbox.backlog()
    metrics.waiting.set(backlog.waiting)
    metrics.parked.set(backlog.parked)
    metrics.oldest_seconds.set(0 if backlog.oldest_at is None else max(0, now_ms() - backlog.oldest_at) / 1000)
    metrics.active_calls.set(await reads.active_count())
    metrics.redis_available.set(1)


def _secrets(values: Sequence[SecretStr]) -> list[str]:
    return [value.get_secret_value() for value in values]


def _token(settings: Settings) -> str:
    token = settings.cention.tokens.get("create_errand") or settings.cention.token
    return "" if token is None else token.get_secret_value()


def _policy(settings: Settings) -> Policy:
    return Policy(frozenset(settings.calls.open_errand_for), InboundEnd(settings.calls.inbound_end))


def _retention(settings: Settings) -> Retention:
    calls = settings.calls
    return Retention(
        seen_ms=round(calls.duplicate_retention_s * 1000),
        ended_ms=round(calls.ended_retention_s * 1000),
        age_ms=round(calls.age_s_max * 1000),
        grace_ms=round(calls.orphan_grace_s * 1000),
        timeline_entries=calls.timeline_entries_max,
    )


def _renderer(settings: Settings) -> Renderer:
    return Renderer(
        subject=settings.errand.subject,
        body=settings.errand.body,
        queue_name=settings.calls.default_queue_name,
        queue_number=settings.calls.default_queue_number,
        close_user=(settings.calls.close_user_type, settings.calls.close_user_id),
    )


def _translator(settings: Settings, mapping: Mapping[str, str]) -> Translator:
    return Translator(
        default_region=settings.numbers.default_region,
        opens=frozenset(settings.calls.open_errand_for),
        clock_ahead_s_max=settings.intake.clock_ahead_s_max,
        clock_behind_s_max=settings.intake.clock_behind_s_max,
        now_ms=now_ms,
        mapping=mapping,
    )

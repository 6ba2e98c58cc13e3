"""The composition root: settings in, a running service out, and its end in order.

`running` is the one function that builds the service; commands and tests use the same one. What it starts, it ends in
reverse: intake closes, claimed deliveries finish, lanes are given back, listeners and Redis close.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from bridge import __version__, parts
from bridge.admin.routes import Access, Admin, Readiness
from bridge.callbacks import Callbacks, open_callbacks
from bridge.cention.client import CentionClient
from bridge.cention.sandbox import Sandbox
from bridge.connect import connect, tell_of
from bridge.delivery.dispatch import Dispatcher
from bridge.delivery.pace import Pace
from bridge.delivery.policy import Schedule
from bridge.delivery.rate import Rate
from bridge.delivery.tokens import Tokens
from bridge.delivery.worker import Worker
from bridge.intake.auth import Authenticator
from bridge.intake.entry import Entry, open_entry
from bridge.intake.feed import Feed
from bridge.intake.routes import make_intake_app
from bridge.pipeline import Pipeline
from bridge.rotation import EVERY_S, Rotation
from bridge.runtime.clock import monotonic, now_ms
from bridge.runtime.logs import get_logger
from bridge.runtime.loop import started
from bridge.runtime.metrics import Metrics
from bridge.runtime.signals import ending
from bridge.runtime.web import Answering, serve, stop_listening
from bridge.settings import Settings, secrets
from bridge.store.calls import CallStore
from bridge.store.embedded import EmbeddedRedis
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import Keys
from bridge.store.outbox import Outbox
from bridge.store.reads import Reads
from bridge.store.rejections import RejectionStore
from bridge.store.turns import Turns

log = get_logger(__name__)

_EXPIRE_EVERY_S = 1.0
_GAUGES_EVERY_S = 2.0
_MARK_S = 5.0  # for putting back whose reports were read, when the service is told to stop
_READERS = 3  # connections beyond those of deliveries: for presence, reconciliation, and what they put back


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
    settings: Settings,
    *,
    sandbox_port: int | None = None,
    stop: asyncio.Event | None = None,
    reload: Callable[[], Settings] | None = None,
    reload_every_s: float = EVERY_S,
) -> AsyncIterator[Service]:
    """Runs the service for as long as the context is open; leaving it drains.

    Args:
        settings: what to run with.
        sandbox_port: start a Cention sandbox there (0: any free port) in place of `cention.base_url`; None: do not.
        stop: the service's `stop`, if it was made already.
        reload: reads the settings again, for secrets that change while the service runs; None: they do not.
        reload_every_s: seconds between two readings; the first refusal of a token brings one at once.

    Raises:
        EmbeddedRedisError: the embedded Redis cannot be started.
        OSError: a port is taken.
    """
    metrics = Metrics(__version__)
    draining = asyncio.Event()
    async with AsyncExitStack() as stack:
        sandbox, base_url = None, str(settings.cention.base_url or "")
        if sandbox_port is not None:
            sandbox = Sandbox()
            base_url = await sandbox.start("127.0.0.1", sandbox_port)
            stack.push_async_callback(sandbox.stop)
        embedded = None
        if settings.redis.url == "embedded":
            embedded = EmbeddedRedis(settings.redis.data_dir, fsync=settings.redis.fsync)
            await stack.enter_async_context(embedded)
        connection = connect(settings.redis, url=None if embedded is None else embedded.url)
        stack.push_async_callback(connection.close)

        keys = Keys(settings.redis.key_prefix)
        retention = parts.retention(settings)
        store = CallStore(connection, keys, retention)
        outbox = Outbox(connection, keys, retention, lease_ms=round(settings.delivery.lease_s * 1000))
        rejections = RejectionStore(
            connection, keys, count_max=settings.redis.rejections_max, age_s_max=settings.redis.rejections_age_s_max
        )
        reads = Reads(connection, keys)
        if embedded is not None:
            await outbox.free_leases()  # nobody else can be at work on a Redis that we started

        client = await stack.enter_async_context(
            CentionClient(
                base_url,
                attempt_timeout_s=settings.delivery.attempt_timeout_s,
                connections_max=settings.delivery.concurrency + _READERS,
                obcall_type=settings.cention.obcall_type,
            )
        )
        places = parts.places(settings, connection)
        pace = Pace(places)
        metrics.trying.set_function(lambda: places.trying)
        metrics.in_line.set_function(lambda: len(places.line))
        metrics.paced.set_function(lambda: pace.waiting)
        # The pipeline wakes the worker, and the worker hands calls over through the pipeline.
        pipeline = Pipeline(
            store,
            outbox,
            parts.policy(settings),
            lambda shard: worker.wake(shard),
            pace=pace,
            began=lambda call: None if presence is None else presence.began(call),
        )

        def apply_secrets(new: Settings) -> bool:
            lanes = tokens.replace(*parts.cention_tokens(new, sandboxed=sandbox is not None))
            if lanes:
                worker.wake_all()
            intake = authenticator.replace(secrets(new.intake.tokens), secrets(new.intake.webhook_secrets))
            admin = access.replace(secrets(new.admin.viewer_tokens), secrets(new.admin.operator_tokens))
            answers = callbacks.replace(new, tokens.claim("attachment"))
            return lanes or intake or admin or answers

        def urgent() -> bool:
            return tokens.any_refused or callbacks.any_refused

        rotation = (
            None if reload is None else Rotation(reload, apply_secrets, metrics, every_s=reload_every_s, urgent=urgent)
        )
        hurry = (lambda: None) if rotation is None else rotation.hurry
        default, routes, claims = parts.cention_tokens(settings, sandboxed=sandbox is not None)
        tokens = Tokens(
            default,
            routes,
            metrics.tokens_refused,
            claims=claims,
            on_refused=hurry,
        )
        rate = Rate(settings.delivery.rate_per_s, monotonic)
        lookup = parts.lookup(settings, client, tokens, rate, metrics)
        presence = parts.presence(settings, client, tokens, rate, metrics)
        reconciling = parts.reconciling(
            settings,
            parts.reconciler(settings, client, reads, pipeline, lambda: tokens.claim("errand_data"), rate, metrics),
            Turns(connection, keys),
            metrics,
        )
        breaker = parts.breaker(settings, "cention", metrics)
        dispatcher = Dispatcher(
            client,
            parts.renderer(settings),
            tokens,
            breaker,
            errand_id=outbox.errand_id,
            hand_over=pipeline.hand_over,
            lookup=lookup,
            cards=parts.contact_cards(settings, client, tokens, rate, metrics),
        )
        worker = Worker(
            outbox,
            dispatcher,
            Schedule(tuple(settings.delivery.schedule_s), settings.delivery.age_s_max),
            metrics,
            places=places,
            poll_s=settings.delivery.poll_s,
            lease_s=settings.delivery.lease_s,
            attempt_timeout_s=settings.delivery.attempt_timeout_s + parts.card_s(settings),
            rate=rate,
            unknown=settings.delivery.unknown_outcome,
        )

        store.hand_to(worker)

        callbacks = await stack.enter_async_context(
            open_callbacks(
                settings,
                connection,
                retention,
                metrics,
                base_url=base_url,
                token=tokens.claim("attachment"),
                cention=breaker,
                receiver=parts.breaker(settings, "forward", None),
                asked=rate.owe,
                keep=rejections.keep,
                alone=embedded is not None,
                on_refused=hurry,
            )
        )
        entry = await stack.enter_async_context(
            open_entry(
                settings.spool,
                commit=pipeline.accept,
                keep=rejections.keep,
                probe=lambda: connection.check(keys.writable()),
                metrics=metrics,
            )
        )

        async def readiness() -> Readiness:
            conditions = {"settings": True, **await entry.conditions(), "accepting": not draining.is_set()}
            return Readiness(conditions, one_of=("redis", "spool"))

        authenticator = Authenticator(
            secrets(settings.intake.tokens),
            secrets(settings.intake.webhook_secrets),
            lambda: now_ms() / 1000,
        )
        intake_app = make_intake_app(
            authenticator=authenticator,
            translate=parts.translator(settings, settings.intake.mapping),
            accept=entry.accept,
            reject=entry.reject,
            body_bytes_max=settings.intake.body_bytes_max,
            events_max=settings.intake.events_max,
            draining=draining.is_set,
            callbacks=callbacks.route,
        )
        access = Access(secrets(settings.admin.viewer_tokens), secrets(settings.admin.operator_tokens))
        admin_app = Admin(
            access=access,
            reads=reads,
            rejections=rejections,
            callbacks=callbacks.store,
            readiness=readiness,
            metrics=metrics.render,
            document=_document,
            agent_of=(lambda pair: None) if presence is None else presence.agent_of,
        ).app()

        sandbox_url = None if sandbox is None else base_url.rpartition("/s/")[0]
        service = Service("", "", metrics, sandbox, sandbox_url, stop or asyncio.Event())
        service.admin_url, _ = await _listen(stack, admin_app, settings.admin.host, settings.admin.port)
        intake = settings.intake
        service.intake_url, listening = await _listen(
            stack, intake_app, intake.host, intake.port, reuse_port=intake.reuse_port
        )
        if sandbox is not None and callbacks.route is not None:
            sandbox.set_callback(f"{service.intake_url}/v1/cention/callback", *secrets(settings.callback.secret)[:1])

        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(_repeat(_EXPIRE_EVERY_S, lambda: _expire(pipeline, entry, metrics)), name="expire"),
                group.create_task(
                    _repeat(_GAUGES_EVERY_S, lambda: _gauges(outbox, reads, callbacks, metrics)),
                    name="gauges",
                ),
                group.create_task(tell_of(connection), name="inspect"),
            ]
            if settings.feed.kind != "none":
                feed = Feed(
                    kind=settings.feed.kind,
                    url=settings.feed.url or "",
                    token=None if settings.feed.token is None else settings.feed.token.get_secret_value(),
                    translate=parts.translator(settings, settings.feed.mapping),
                    accept=entry.accept,
                    reject=entry.reject,
                )
                loops.append(group.create_task(feed.run(), name="feed"))
            if rotation is not None:
                loops.append(group.create_task(rotation.run(), name="rotation"))
            if presence is not None:
                loops.append(group.create_task(presence.run(), name="presence"))
            if settings.reconcile.every_s > 0:
                turns = _repeat(settings.reconcile.every_s, reconciling.turn)
                loops.append(group.create_task(turns, name="reconcile"))
            group.create_task(worker.run(), name="worker")
            group.create_task(callbacks.run(), name="callbacks")
            group.create_task(entry.run(), name="spool")
            urls = {"intake": service.intake_url, "admin": service.admin_url}
            if service.sandbox_url is not None:
                urls["sandbox"] = service.sandbox_url
            log.info("ready", **urls, version=__version__)
            try:
                yield service
            finally:
                draining.set()
                if intake.reuse_port:
                    await stop_listening(listening)  # what comes now is for the others on this port
                log.info("draining", deadline_s=settings.delivery.drain_s)
                for loop in loops:
                    loop.cancel()
                drain_s = settings.delivery.drain_s
                await asyncio.gather(worker.drain(drain_s), callbacks.drain(drain_s), entry.finish(drain_s))
                await asyncio.gather(*(each.drain(_MARK_S) for each in (lookup, reconciling) if each is not None))
    log.info("ended")


async def run(
    settings: Settings, *, sandbox_port: int | None = None, reload: Callable[[], Settings] | None = None
) -> None:
    """Runs the service until it is told to end; a signal while it starts ends the start. Arguments as for `running`."""
    stop, starting = asyncio.Event(), asyncio.current_task()

    def end() -> None:
        if starting is not None and not stop.is_set():
            starting.cancel()
        stop.set()

    on_signals(end)
    try:
        async with running(settings, sandbox_port=sandbox_port, stop=stop, reload=reload):
            starting = None
            started()
            await stop.wait()
    except asyncio.CancelledError:
        if starting is None or not stop.is_set():
            raise
        log.info("ended while starting")


def on_signals(act: Callable[[], object]) -> None:
    """Has the running loop call `act` at each signal that ends the service."""
    for number in ending():
        asyncio.get_running_loop().add_signal_handler(number, act)


async def _listen(
    stack: AsyncExitStack, app: web.Application | Answering, host: str, port: int, *, reuse_port: bool = False
) -> tuple[str, web.BaseRunner]:
    runner, bound = await serve(app, host, port, reuse_port=reuse_port)
    stack.push_async_callback(runner.cleanup)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{bound}", runner


async def _repeat(every_s: float, work: Callable[[], Awaitable[object]]) -> None:
    """Does `work` again and again. Whatever it fails at must not end the service, and with it the calls."""
    while True:
        try:
            await work()
        except StoreUnavailable as error:
            log.debug("put off", reason=error.reason)
        except Exception:
            log.exception("housekeeping failed inside the bridge")
        await asyncio.sleep(every_s)


async def _expire(pipeline: Pipeline, entry: Entry, metrics: Metrics) -> None:
    metrics.expired.inc(await pipeline.expire_due(entry.holds))


async def _gauges(outbox: Outbox, reads: Reads, callbacks: Callbacks, metrics: Metrics) -> None:
    try:
        backlog, active = await outbox.backlog(), await reads.active_count()
    except StoreUnavailable:
        metrics.redis_available.set(0)
        raise
    metrics.redis_available.set(1)
    metrics.waiting.set(backlog.waiting)
    metrics.parked.set(backlog.parked)
    metrics.oldest_seconds.set(backlog.oldest_ms / 1000)
    metrics.active_calls.set(active)
    await callbacks.measure()  # last, so that a key of theirs which is damaged hides nothing of the calls


def _document() -> bytes:
    # Imported when first asked for: most services never are, and none should start later for it.
    from bridge.openapi import document_json

    return document_json()

"""Shared by the tests of delivery: a worker on a real Redis that delivers to a Cention sandbox over HTTP.

Not a test itself.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from bridge.calls.effects import Effect
from bridge.calls.events import Pair
from bridge.calls.state import Policy
from bridge.cention.client import CentionClient
from bridge.cention.sandbox import Sandbox
from bridge.delivery.breaker import Breaker
from bridge.delivery.dispatch import Dispatcher
from bridge.delivery.places import Places
from bridge.delivery.policy import Schedule
from bridge.delivery.rate import Rate
from bridge.delivery.render import Renderer
from bridge.delivery.tokens import Tokens
from bridge.delivery.worker import Worker
from bridge.pipeline import Pipeline
from bridge.runtime.clock import monotonic
from bridge.runtime.metrics import Metrics
from bridge.store.keys import LANES, LEASES, shard_of
from tests.e2e.support import eventually, told
from tests.integration.cention_support import web_server
from tests.integration.store_support import A, Bench, bench

USUAL, VIP = "the-usual-token", "the-vip-token"
UNLESS_LEASED = """
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 0 end
return redis.call('ZADD', KEYS[1], 'XX', 0, ARGV[1])
"""
RENDERER = Renderer(
    subject="Call ${callId}", body="", queue_name="outbound", queue_number="0", close_user=("cention", "1")
)


class Clock:
    """Seconds that go on by themselves and can be moved ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return monotonic() + self.ahead_s


class Gate:
    """A Cention that answers when it is told to.

    Attributes:
        open: set, every request is answered.
        under_way, most: how many requests wait for their answer, and the most that ever did.
        calls: the `integrationData` of each request, in order; `tokens` and `paths`: what it came with.
    """

    def __init__(self, *, is_open: bool = False, status: int = 204) -> None:
        self.open = asyncio.Event()
        if is_open:
            self.open.set()
        self.status = status
        self.under_way = self.most = 0
        self.calls: list[dict[str, Any]] = []
        self.tokens: list[str] = []
        self.paths: list[str] = []

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        attributes = (await request.json())["data"]["attributes"]
        self.calls.append(attributes.get("integrationData", attributes))
        self.tokens.append(request.headers["Authorization"].removeprefix("Bearer "))
        self.paths.append(request.path)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        return web.Response(status=self.status)

    @asynccontextmanager
    async def cention(self) -> AsyncIterator[str]:
        """Serves; its base URL."""
        async with web_server(self._answer) as url:
            yield f"{url}/s/demo"


def dispatcher(
    client: CentionClient,
    metrics: Metrics,
    *,
    clock: Callable[[], float] = monotonic,
    routes: Mapping[str, str] | None = None,
    default: str = USUAL,
    errand_id: Callable[[Pair, str], Awaitable[str | None]],
    hand_over: Callable[[Effect], Awaitable[None]],
) -> tuple[Dispatcher, Tokens]:
    """A dispatcher whose breaker never opens, and its tokens."""
    tokens = Tokens(default, routes or {}, metrics.tokens_refused, clock=clock)
    breaker = Breaker(failures=10**6, open_s=1, clock=clock, chance=lambda: 1.0, changed=lambda *_: None)
    return Dispatcher(client, RENDERER, tokens, breaker, errand_id=errand_id, hand_over=hand_over), tokens


@dataclass
class Work:
    """A worker at work.

    Attributes:
        clock: what tokens go by.
    """

    store: Bench
    worker: Worker
    sandbox: Sandbox
    metrics: Metrics
    tokens: Tokens
    clock: Clock

    async def answers(self, call_id: str = "c-1", pair: Pair | None = None) -> list[dict[str, Any]]:
        """What became of every attempt for the call, at `pair` or at all of them."""
        history = await self.store.reads.history(call_id)
        assert history is not None
        return [
            entry for entry in history.timeline if "delivery" in entry and (pair is None or entry["pair"] == str(pair))
        ]

    async def outcomes(self, call_id: str = "c-1", pair: Pair | None = None) -> list[str]:
        return [entry["outcome"] for entry in await self.answers(call_id, pair)]

    async def answered(self, call_id: str = "c-1", *outcomes: str) -> None:
        """Waits until the call's attempts have come to just these outcomes."""

        async def has() -> bool:
            return await self.outcomes(call_id) == list(outcomes)

        await eventually(has, f"{call_id}: {outcomes}")

    async def idle(self) -> None:
        """Waits until nothing waits in any lane."""

        async def empty() -> bool:
            return (await self.store.outbox.backlog()).waiting == 0

        await eventually(empty, "every lane is worked off")

    async def make_due(self, pair: Pair = A) -> None:
        """Lets the time pass that a lane was put back for.

        A leased lane is left alone, in one step with the look at its lease: its time is the end of the lease, and a
        lease that ends under an attempt lets a second worker repeat it.
        """
        shard = shard_of(pair)
        keys = (self.store.keys.of_shard(shard, LANES), self.store.keys.of_shard(shard, LEASES))
        await self.store.raw("EVAL", UNLESS_LEASED, len(keys), *keys, str(pair))
        self.worker.wake_all()

    def told(self, pair: Pair | None = None) -> list[str]:
        """What Cention was told, in order, of `pair` or of all."""
        words = told(self.sandbox)
        start = "" if pair is None else f"{pair.device_id}/{pair.extension_id} "
        return [word.removeprefix(start) for word in words if word.startswith(start)]

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def working(
    redis_url: str,
    *,
    cention_url: str | None = None,
    policy: Policy | None = None,
    routes: Mapping[str, str] | None = None,
    schedule_s: tuple[float, ...] = (0.02,),
    age_s_max: float = 3600,
    attempt_timeout_s: float = 10,
    concurrency: int = 8,
    places: Places | None = None,
    poll_s: float = 0.02,
    lease_s: float = 15,
    errand_id: Callable[[Pair, str], Awaitable[str | None]] | None = None,
    hand_over: Callable[[Effect], Awaitable[None]] | None = None,
    run: bool = True,
) -> AsyncIterator[Work]:
    """A worker at work until the end of the block, then drained; with `run` false, it is the test's to run."""
    metrics, sandbox, clock = Metrics("test"), Sandbox(), Clock()
    base_url = await sandbox.start() if cention_url is None else cention_url
    try:
        async with (
            bench(redis_url, policy=policy) as store,
            CentionClient(base_url, attempt_timeout_s=attempt_timeout_s) as client,
        ):
            store.now = 0
            pipeline = Pipeline(store.calls, store.outbox, store.policy, lambda shard: worker.wake(shard))
            sender, tokens = dispatcher(
                client,
                metrics,
                clock=clock,
                routes=routes,
                errand_id=errand_id or store.outbox.errand_id,
                hand_over=hand_over or pipeline.hand_over,
            )
            worker = Worker(
                store.outbox,
                sender,
                Schedule(schedule_s, age_s_max),
                metrics,
                places=places or Places(concurrency),
                poll_s=poll_s,
                lease_s=lease_s,
                attempt_timeout_s=attempt_timeout_s,
                rate=Rate(0, monotonic),
            )
            work = Work(store, worker, sandbox, metrics, tokens, clock)
            if not run:
                yield work
                return
            running = asyncio.create_task(worker.run())
            try:
                yield work
            finally:
                await worker.drain(10)
                await running
    finally:
        await sandbox.stop()

"""The one way in for events, for intake and feed alike: to Redis, or to the spool while Redis is away; counted.

Owns whether there is a spool, and what the metrics tell of it. How the two are kept in order is
`bridge.intake.spooling`. Must not know what an event does, nor Redis: `commit`, `keep` and `probe` are given.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from bridge.calls.events import CallEvent, Pair
from bridge.calls.verdicts import Rejection, Verdict
from bridge.intake.batch import Accept, EventsRefused, Reject
from bridge.intake.spool import Spool
from bridge.intake.spooling import Spooling
from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger
from bridge.runtime.metrics import Metrics
from bridge.settings_sections import SpoolSettings
from bridge.store.errors import StoreRefused, StoreUnavailable

log = get_logger(__name__)

_ANSWER_S = 1.0  # less than the time a probe has, which must not fail for a Redis that hangs while the spool works

_TRIES = 3


def _told_apart(commit: Accept, probe: Callable[[], Awaitable[object]]) -> Accept:
    """`commit`, but that a refusal in words that say nothing to us is either the store's or these events'.

    The probe tells: where the store takes no write either, it is away like any other, and `StoreUnavailable` is raised.
    Where it does, the events are committed again, which is safe, and at last `EventsRefused` is raised: what the store
    never takes must not go to the spool, where all others would wait behind it.
    """

    async def told_apart(events: Sequence[CallEvent]) -> Sequence[Verdict]:
        reason = ""
        for _ in range(_TRIES):
            try:
                return await commit(events)
            except StoreRefused as refused:
                reason = refused.reason
            await probe()
        raise EventsRefused(reason)

    return told_apart


class Entry:
    """Takes events and rejections. `open_entry` makes one."""

    def __init__(
        self,
        commit: Accept,
        keep: Reject,
        probe: Callable[[], Awaitable[object]],
        metrics: Metrics,
        spooling: Spooling | None,
    ) -> None:
        self._commit = commit if spooling is None else spooling.accept
        self._keep = keep if spooling is None else spooling.reject
        self._probe, self._metrics, self._spooling = probe, metrics, spooling
        self._counted = [(verdict, metrics.events.labels(verdict.result)) for verdict in Verdict]

    async def accept(self, events: Sequence[CallEvent]) -> Sequence[Verdict]:
        """Makes `events` durable; one verdict each.

        Raises:
            StoreUnavailable: nothing is promised of any of them.
            EventsRefused: the same, and the store takes others.
        """
        began = monotonic()
        verdicts = await self._commit(events)
        self._metrics.accept_seconds.observe(monotonic() - began)
        for verdict, counter in self._counted:
            if count := verdicts.count(verdict):
                counter.inc(count)
        return verdicts

    async def reject(self, refused: Sequence[Rejection]) -> None:
        """Keeps rejections.

        Raises:
            StoreUnavailable: none of them may be kept.
        """
        await self._keep(refused)
        self._metrics.events.labels("rejected").inc(len(refused))
        for rejection in refused:
            log.warning("event refused", event_id=rejection.event_id, code=rejection.code,
                        errors=[f"{fault.pointer} {fault.code}" for fault in rejection.faults])  # fmt: skip

    async def conditions(self) -> dict[str, bool]:
        """`redis`: it takes writes. `spool`: it takes events, if there is one. Events are taken while either holds."""
        conditions = {"redis": await self._redis_answers()}
        if self._spooling is not None:
            conditions["spool"] = await self._spooling.ready()
        return conditions

    async def _redis_answers(self) -> bool:
        if self._spooling is not None and self._spooling.away:
            return False
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._probe()
        except (StoreUnavailable, TimeoutError):
            return False
        return True

    def holds(self, pair: Pair) -> bool:
        """Whether events of the pair wait in the spool."""
        return self._spooling is not None and self._spooling.holds(pair)

    async def run(self) -> None:
        """Brings what was spooled to Redis, until `finish`."""
        if self._spooling is not None:
            await self._spooling.run()

    async def finish(self, timeout_s: float) -> None:
        """Brings to Redis what it takes of the spool within `timeout_s` seconds, and ends `run`."""
        if self._spooling is not None:
            await self._spooling.finish(timeout_s)


@asynccontextmanager
async def open_entry(
    settings: SpoolSettings, *, commit: Accept, keep: Reject, probe: Callable[[], Awaitable[object]], metrics: Metrics
) -> AsyncIterator[Entry]:
    """The way in, with a spool as `settings` say. What earlier processes left in the spool is taken over.

    Args:
        settings: the section `spool`.
        commit: makes events durable in Redis, those of one pair in order.
        keep: keeps rejections in Redis.
        probe: raises `StoreUnavailable` unless Redis takes a write.
        metrics: counts.
    """
    commit = _told_apart(commit, probe)
    if not settings.enabled:
        yield Entry(commit, keep, probe, metrics, None)
        return
    spool = Spool(settings.dir, bytes_max=settings.bytes_max, lost=metrics.spool_torn.inc)
    spooling = Spooling(
        spool, commit=commit, keep=keep, probe=probe, age_s_max=settings.age_s_max, spooled=metrics.spooled.inc
    )
    metrics.spool_events.set_function(lambda: spool.count)
    metrics.spool_bytes.set_function(lambda: spool.size)
    metrics.spool_oldest_seconds.set_function(lambda: spooling.age_s)
    metrics.spool_usable.set_function(lambda: spool.failure is None)
    await spool.open()
    try:
        yield Entry(commit, keep, probe, metrics, spooling)
    finally:
        await spool.close()

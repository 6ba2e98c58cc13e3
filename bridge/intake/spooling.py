"""Takes events to Redis, and to the spool while Redis is away; brings them from the one to the other, in order.

How it moves: `accept` asks Redis. At the first failure everything goes to the spool, whoever is still waiting for Redis
included, until `run`'s probe finds Redis back: a Redis that does not answer costs its timeout once and not at every
request. Then `run` commits what waits, oldest first. Meanwhile newer events of pairs that have some waiting join the
spool's end; all others go straight to Redis.

Invariants: what was answered is in Redis or flushed to the disk. Of one pair, what was spooled is committed before
what comes later; a transfer belongs to both its pairs. A record leaves the spool after its commit: what is committed
twice is recognised by its event's id. Must not know what an event does, nor Redis: `commit`, `keep` and `probe` are
given.
Source: docs/adr/0014-spool.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

from bridge.calls.events import CallEvent, Pair
from bridge.calls.verdicts import Rejection, Verdict
from bridge.intake.batch import Accept, Reject, our_fault
from bridge.intake.spool import Record, Spool, SpoolFailed
from bridge.runtime.clock import monotonic, now_ms
from bridge.runtime.logs import get_logger
from bridge.store.errors import StoreUnavailable
from bridge.store.records import dump_event, dump_rejection, load_event, load_rejection

log = get_logger(__name__)

T = TypeVar("T")
R = TypeVar("R")

PROBE_EVERY_S = 0.5
ADOPT_EVERY_S = 10.0
_BATCH = 200
_RETRY_AFTER_S = 5
_PAUSE_S = 5.0
_EVENT, _REJECTION = "event", "rejection"


class Spooling:
    """What the intake and the feed hand their events to.

    Args:
        spool: where events wait.
        commit: makes events durable in Redis, those of one pair in order, a transfer in that of both its pairs; one
            verdict each; may raise `StoreUnavailable`.
        keep: keeps rejections in Redis; may raise `StoreUnavailable`.
        probe: raises `StoreUnavailable` unless Redis takes a write.
        age_s_max: seconds an event may wait before `ready` is no longer so.
        spooled: is told how many events and rejections were spooled.
        adopt_every_s: seconds between two looks for what processes that ended left in the spool.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        commit: Accept,
        keep: Reject,
        probe: Callable[[], Awaitable[object]],
        age_s_max: float,
        spooled: Callable[[int], object] = lambda _: None,
        adopt_every_s: float = ADOPT_EVERY_S,
    ) -> None:
        self._spool, self._commit, self._keep, self._probe = spool, commit, keep, probe
        self._age_s_max, self._spooled, self._adopt_every_s = age_s_max, spooled, adopt_every_s
        self._away = False
        self._in_vain = 0  # drains in a row that a Redis which had just taken the probe broke off at once
        self._under_way: dict[asyncio.Timeout, None] = {}  # in the order in which they came
        self._woken = asyncio.Event()
        self._stopping = False
        self._running: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether Redis counts as away, so that everything is spooled."""
        return self._away

    def holds(self, pair: Pair) -> bool:
        """Whether events of the pair wait in the spool."""
        return self._spool.holds(str(pair))

    @property
    def age_s(self) -> float:
        """How long the oldest record has waited, in seconds; 0 when none does."""
        oldest = self._spool.oldest_at
        return 0.0 if oldest is None else max(0.0, (now_ms() - oldest) / 1000)

    async def ready(self) -> bool:
        """Whether the spool takes events, and brings them to Redis within `age_s_max`."""
        return await self._spool.usable() and self.age_s <= self._age_s_max

    async def accept(self, events: Sequence[CallEvent]) -> Sequence[Verdict]:
        """Takes `events` in, those of one pair in their order.

        Returns:
            One verdict an event, in order: `SPOOLED` is durable on this machine's disk, any other in Redis.

        Raises:
            StoreUnavailable: Redis is away, and the spool is full or broken; nothing is promised of any of them.
            EventsRefused: `commit` raised it; as above.
        """
        held = self._held(events)
        direct = events if not held else [event for place, event in enumerate(events) if place not in held]
        verdicts: Sequence[Verdict] = ()
        reason = "redis is away"
        if direct:
            try:
                verdicts = await self._redis(self._commit, direct)
            except StoreUnavailable as error:
                held, reason = range(len(events)), error.reason
        if not held:
            return verdicts
        taken = iter(verdicts)
        records = [_event_record(event) for place, event in enumerate(events) if place in held]
        await self._append(records, reason)
        return [Verdict.SPOOLED if place in held else next(taken) for place in range(len(events))]

    async def reject(self, rejections: Sequence[Rejection]) -> None:
        """Keeps `rejections`, in the spool while Redis is away.

        Raises:
            StoreUnavailable: as `accept`.
        """
        reason = "redis is away"
        try:
            if not self._away:
                await self._redis(self._keep, rejections)
                return
        except StoreUnavailable as error:
            reason = error.reason
        await self._append([Record(_REJECTION, (), dump_rejection(each)) for each in rejections], reason)

    def _held(self, events: Sequence[CallEvent]) -> Collection[int]:
        """Which of `events` must be spooled, by place."""
        if self._away:
            return range(len(events))
        if not self._spool.holds_any:
            return ()
        held, keys = set(), set[str]()
        for place, event in enumerate(events):
            of_event = _keys(event)
            # What follows a held event of its pair within the same batch is held too.
            if any(key in keys or self._spool.holds(key) for key in of_event):
                held.add(place)
                keys.update(of_event)
        return held

    async def _redis(self, work: Callable[[Sequence[T]], Awaitable[R]], items: Sequence[T]) -> R:
        """Does what waits for Redis. That somebody else has found it away ends the waiting too."""
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._under_way[limit] = None
                try:
                    return await work(items)
                finally:
                    self._under_way.pop(limit, None)
        except StoreUnavailable as error:
            self._lost(error.reason)
            raise
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StoreUnavailable("redis is away") from error

    def _lost(self, reason: str) -> None:
        if self._away:
            return
        self._away = True
        log.warning("redis is away, events are spooled", reason=reason)
        waiting, self._under_way = self._under_way, {}
        for limit in waiting:
            limit.reschedule(asyncio.get_running_loop().time())
        self._woken.set()

    async def _append(self, records: Sequence[Record], reason: str) -> None:
        try:
            await self._spool.append(records)
        except SpoolFailed as error:
            raise StoreUnavailable(f"{reason}; {error.reason}", retry_after_s=_RETRY_AFTER_S) from error
        self._spooled(len(records))
        self._woken.set()

    async def run(self) -> None:
        """Brings spooled events to Redis, until `finish`."""
        self._running = asyncio.current_task()
        adopt_at = monotonic() + self._adopt_every_s
        while True:
            if self._away:
                await self._look_for_redis()
            else:
                await self._drain()
            if self._stopping:
                return
            if self._away:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, adopt_at - monotonic())):
                    await self._woken.wait()
            self._woken.clear()
            if monotonic() >= adopt_at:
                await self._spool.adopt()
                adopt_at = monotonic() + self._adopt_every_s

    async def finish(self, timeout_s: float) -> None:
        """Brings to Redis what it takes within `timeout_s` seconds; the rest is for the next process."""
        self._stopping = True
        self._woken.set()
        if self._running is not None:
            _, late = await asyncio.wait([self._running], timeout=timeout_s)
            for task in late:
                task.cancel()
        if self._spool.count:
            log.warning("events stay in the spool for the next process", events=self._spool.count)

    async def _look_for_redis(self) -> None:
        # A Redis that takes the probe and not the events is not to be asked without a pause.
        await asyncio.sleep(min(PROBE_EVERY_S * self._in_vain, _PAUSE_S))
        try:
            await self._probe()
        except StoreUnavailable:
            self._in_vain = 0
            await asyncio.sleep(PROBE_EVERY_S)
        except Exception:
            log.exception("cannot ask redis whether it is back")
            await asyncio.sleep(_PAUSE_S)
        else:
            self._away = False
            log.info("redis is back", spooled=self._spool.count, oldest_s=round(self.age_s, 1))

    async def _drain(self) -> None:
        began, count = monotonic(), 0
        while self._spool.count and not self._away:
            try:
                batch = await self._spool.head(_BATCH)
                await self._bring(batch.records)
            except StoreUnavailable as error:
                self._in_vain += count == 0
                self._lost(error.reason)
            except Exception:
                # The disk does not give the events, or a fault of ours: they stay where they are.
                log.exception("spooled events cannot be brought to redis")
                await asyncio.sleep(_PAUSE_S)
                break
            else:
                await self._spool.remove(batch)
                count += batch.count
                self._in_vain = 0
        if count:
            took_s = round(monotonic() - began, 3)
            log.info("spooled events are in redis", events=count, took_s=took_s, left=self._spool.count)

    async def _bring(self, records: Iterable[Record]) -> None:
        events: list[CallEvent] = []
        rejections: list[Rejection] = []
        for record in records:
            try:
                if record.kind == _REJECTION:
                    rejections.append(load_rejection(record.value))
                elif record.kind == _EVENT:
                    events.append(_waited(load_event(record.value), record.at))
                else:
                    raise ValueError("a record of no known kind")
            except Exception as error:  # noqa: BLE001 (whatever it is, its text may quote the record)
                log.error("spooled record not understood, kept as a rejection", error=type(error).__name__)
                rejections.append(our_fault(None, record.value.decode("utf-8", "replace")))
        if events:
            rejections += await self._commit_all(events)
        # Last, since nothing tells a rejection that is kept twice.
        if rejections:
            await self._keep(rejections)

    async def _commit_all(self, events: Sequence[CallEvent]) -> list[Rejection]:
        """Commits `events`. One that meets a fault of ours costs only itself: it is returned, to be kept."""
        try:
            await self._commit(events)
            return []
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("spooled event not committed", events=len(events))
        if len(events) == 1:
            return [our_fault(events[0].event_id, events[0].body)]
        failed: list[Rejection] = []
        for event in events:
            failed += await self._commit_all([event])
        return failed


def _keys(event: CallEvent) -> tuple[str, ...]:
    """What the event must keep its order on: its pair, and on a transfer the new agent's."""
    return (str(event.pair),) if event.transferred_to is None else (str(event.pair), str(event.transferred_to))


def _event_record(event: CallEvent) -> Record:
    return Record(_EVENT, _keys(event), dump_event(event))


def _waited(event: CallEvent, since: int) -> CallEvent:
    """The event with a note for its timeline, whose entry has the time of the commit."""
    waited_s = max(0, now_ms() - since) / 1000
    return event._replace(notes=(*event.notes, f"waited {waited_s:.1f} s in the spool, since Redis was away"))

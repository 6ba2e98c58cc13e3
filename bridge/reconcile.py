"""Calls against their errands in Cention: which contradict each other, and, on request, what mends them.

    ended calls with an errand, the longest ended first -> report -> still open?   errand_open
    active calls, the oldest first                      -> report -> closed?       call_active

Owns the comparison and its pace. How a call is mended is the table's to say (`bridge.calls.state`, `RECONCILE`): that
goes through the pipeline, so it is committed with its timeline entry, and what Cention is told of it leaves in the
order of the agent's lane.

Invariants: a comparison reads at most as many reports as it was allowed, each within `delivery.rate_per_s`, and says
where the next one goes on. What Cention was not told yet is no contradiction. An errand that was on Cention's list of
those that have changed is put back there after its report was read, and no other is. Nothing is mended but a call that
is still what it was when it was compared.
Source: Cention API, "Errand Reports", "Dirty Errand List"; docs/adr/0019-reconciliation.md.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from secrets import token_hex

from bridge.calls.effects import EffectKind
from bridge.calls.events import Direction
from bridge.calls.state import LIVE, Call, CallState, InboundEnd
from bridge.cention.client import CentionClient
from bridge.cention.documents import ErrandReport
from bridge.cention.outcome import Failure, Fetched, Rejected, TryLater, Unauthorised, Unknown
from bridge.delivery.marks import Marks
from bridge.delivery.rate import Rate
from bridge.pipeline import Pipeline
from bridge.runtime.clock import now_ms
from bridge.runtime.logs import get_logger
from bridge.runtime.metrics import Metrics
from bridge.store.errors import StoreUnavailable
from bridge.store.reads import CallRead, Position, Reads
from bridge.store.turns import Progress, Turns

log = get_logger(__name__)

ENDED, ACTIVE = "ended", "active"
PARTS = (ENDED, ACTIVE)
Place = tuple[str, Position]
"""A part, and the position in it up to which it has been gone through."""
BEGINNING: Place = (ENDED, (0, ""))

_PAGE = 100
_ERRAND_ID = re.compile(r"[0-9]{1,18}")
_LOOKED_AT = ("basic", "changed")
_TURN_SHARE = 0.9


class What(StrEnum):
    """How a call and its errand contradict each other: a metric's label."""

    ERRAND_OPEN = "errand_open"
    """The call has ended, and its errand is open."""
    CALL_ACTIVE = "call_active"
    """The errand is closed, and the call is active."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One contradiction.

    Attributes:
        call: as it was when it was compared.
        repaired: whether it was mended; what Cention is told of it may still wait.
    """

    what: What
    call: Call
    errand_id: int
    repaired: bool = False


@dataclass(slots=True)
class Comparison:
    """What one run came to.

    Attributes:
        read: how many reports were asked for; `unread`: of these, how many said nothing that could be used.
        next: where the next run goes on; None: everything was gone through.
        trouble: why it stopped before its end, or None.
    """

    findings: list[Finding] = field(default_factory=list)
    read: int = 0
    unread: int = 0
    next: Place | None = BEGINNING
    trouble: str | None = None

    @property
    def counts(self) -> Counter[str]:
        """How many were found, by kind."""
        return Counter(finding.what.value for finding in self.findings)


class Reconciler:
    """Compares, reports and mends.

    Args:
        token: gives the token with the claim "Access to errand data".
        inbound_end: where ends of inbound calls are told to nobody, their errands are meant to stay open.
        grace_ms: how long a call must have been over, or without an event.
        rate: asked before every request.
    """

    def __init__(
        self,
        client: CentionClient,
        reads: Reads,
        pipeline: Pipeline,
        *,
        token: Callable[[], str],
        inbound_end: InboundEnd,
        grace_ms: int,
        rate: Rate,
        metrics: Metrics,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._clock_ms = clock_ms
        self._client, self._reads, self._pipeline, self._token = client, reads, pipeline, token
        self._inbound_end, self._grace_ms, self._rate, self._metrics = inbound_end, grace_ms, rate, metrics
        self._marks = Marks(client, rate.owe)

    async def compare(
        self,
        done: Comparison,
        *,
        reports_max: int,
        repair: bool,
        on_read: Callable[[], None] = lambda: None,
    ) -> None:
        """Goes on from `done.next` until everything is compared or `reports_max` reports were read.

        Args:
            done: filled as it goes, so that what was found is there even if this is cancelled.
            repair: whether what is found is mended.
            on_read: called after every report.

        Raises:
            StoreUnavailable: Redis is away.
        """
        token = self._token()
        await self._allowed()
        listed = await self._client.dirty_errands(token)
        if not isinstance(listed, Fetched):
            done.trouble = f"the list of changed errands cannot be read: {listed.reason}"
            return
        changed, touched = set(listed.value), set[int]()
        try:
            async with aclosing(self._calls(done.next or BEGINNING)) as calls:
                async for place, read in calls:
                    if read is not None and (errand_id := await self._comparable(place[0], read)) is not None:
                        if done.read == reports_max:
                            return
                        await self._allowed()
                        if errand_id in changed:
                            touched.add(errand_id)
                        report = await self._client.errand_report(errand_id, token, fields=_LOOKED_AT)
                        if isinstance(report, Unauthorised):
                            done.trouble = f"errand reports cannot be read: {report.reason}"
                            return
                        _note_flag(errand_id, report, touched)
                        await self._conclude(read.call, errand_id, report, done, repair=repair)
                        on_read()
                    done.next = place  # beyond this one even if Cention failed at it: one must not stop all others
                    if done.trouble is not None:
                        return
            done.next = None
        finally:
            if touched:
                self._marks.put_back(touched, token)

    async def drain(self, timeout_s: float) -> bool:
        """Lets what was read be put back, for up to `timeout_s` seconds; returns whether all of it was."""
        return await self._marks.drain(timeout_s)

    async def _calls(self, place: Place) -> AsyncGenerator[tuple[Place, CallRead | None], None]:
        """The calls behind `place` that are old enough, each with its own place."""
        before = self._clock_ms() - self._grace_ms
        for part in PARTS[PARTS.index(place[0]) :]:
            page_of = self._reads.ended_before if part == ENDED else self._reads.active_before
            after = place[1] if part == place[0] else BEGINNING[1]
            while page := await page_of(before, _PAGE, after):
                for position, read in page:
                    yield (part, position), read
                after = page[-1][0]

    async def _comparable(self, part: str, read: CallRead) -> int | None:
        """The id of the errand that says the same as the call, if both are right; None: there is no such errand."""
        call = read.call
        if not call.has_errand or read.errand_id is None or not _ERRAND_ID.fullmatch(read.errand_id):
            return None
        if part == ACTIVE and not (call.state in LIVE and call.updated_at < self._clock_ms() - self._grace_ms):
            return None
        silent = self._inbound_end is InboundEnd.NOTHING and call.facts.direction is not Direction.OUTBOUND
        if part == ENDED and (call.state is not CallState.ENDED or silent):
            return None
        undelivered = await self._reads.undelivered(call)
        # What waits is on its way. And a call that came back has its first errand's id until it has another.
        if "waiting" in undelivered.values() or EffectKind.OPEN_ERRAND in undelivered:
            return None
        return int(read.errand_id)

    async def _conclude(
        self, call: Call, errand_id: int, report: Fetched[ErrandReport] | Failure, done: Comparison, *, repair: bool
    ) -> None:
        done.read += 1
        closed = _is_closed(report)
        if closed is None:
            done.unread += 1
            if isinstance(report, TryLater | Unknown):
                done.trouble = f"errand reports cannot be read: {report.reason}"
        active = call.state in LIVE
        if closed is None or closed is not active:
            self._metrics.reconciled.labels("unread" if closed is None else "agrees").inc()
            return
        what = What.CALL_ACTIVE if active else What.ERRAND_OPEN
        self._metrics.reconciled.labels(what.value).inc()
        repaired = repair and await self._pipeline.reconcile(call)
        self._metrics.reconcile_repairs.inc(int(repaired))
        done.findings.append(Finding(what, call, errand_id, repaired))
        log.warning(
            "call and errand contradict each other",
            what=what.value,
            call=call.call_id,
            pair=str(call.pair),
            errand=errand_id,
            repaired=repaired,
        )

    async def _allowed(self) -> None:
        """Returns when the rate allows one request, and counts it."""
        await asyncio.sleep(self._rate.wait_s())
        self._rate.owe(1)


class Reconciling:
    """`reconcile.every_s`: one of the replicas compares in each turn, and goes on where the last one stopped.

    Args:
        turns: whose turn it is, and how far the last one came.
        every_s: a turn's length, seconds.
        reports_max: reports read in a turn.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        turns: Turns,
        metrics: Metrics,
        *,
        every_s: float,
        reports_max: int,
        repair: bool,
    ) -> None:
        self._reconciler, self._turns, self._metrics = reconciler, turns, metrics
        self._every_s, self._reports_max, self._repair = every_s, reports_max, repair
        self._holder = token_hex(8)

    async def turn(self) -> None:
        """Compares, if it is this replica's turn, and shows what the last round found, whoever went through it.

        Raises:
            StoreUnavailable: Redis is away.
        """
        mine = await self._turns.take(self._holder, max(1, round(self._every_s * 1000)))
        progress = await self._turns.progress()
        if mine:
            progress = await self._go_on(progress)
        for what in What:
            self._metrics.reconcile_found.labels(what.value).set(progress.counted.get(what.value, 0))

    async def drain(self, timeout_s: float) -> None:
        """Lets what was read be put back, for up to `timeout_s` seconds."""
        await self._reconciler.drain(timeout_s)

    async def _go_on(self, progress: Progress) -> Progress:
        done = Comparison(next=progress.place or BEGINNING)
        try:
            # Within the turn, so that the next holder never meets this one.
            async with asyncio.timeout(self._every_s * _TURN_SHARE):
                await self._reconciler.compare(done, reports_max=self._reports_max, repair=self._repair)
        except TimeoutError:
            done.trouble = "the turn was over"
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("reconciliation failed inside the bridge")  # and must not end the service
        counting = Counter(progress.counting) + done.counts
        if done.next is None:
            progress = Progress(None, {}, dict(counting))
        else:
            progress = Progress(done.next, dict(counting), progress.counted)
        await self._turns.keep(progress)
        log.info("calls compared with their errands", reports=done.read, unread=done.unread, found=dict(done.counts),
                 whole_round=done.next is None, trouble=done.trouble)  # fmt: skip
        return progress


def _is_closed(report: Fetched[ErrandReport] | Failure) -> bool | None:
    """Whether the errand is closed or deleted; None where that is not told."""
    if not isinstance(report, Fetched):
        return None
    errand = report.value.errand
    if errand.closed is None and errand.deleted is None:
        return None
    return bool(errand.closed or errand.deleted)


def _note_flag(errand_id: int, report: Fetched[ErrandReport] | Failure, touched: set[int]) -> None:
    """Corrects what the list said of the errand by what its report says."""
    if isinstance(report, Fetched) and report.value.changed:
        touched.add(errand_id)  # it changed after the list was read
    elif isinstance(report, Rejected) and report.status == 404:
        touched.discard(errand_id)  # deleted meanwhile: to mark it would be refused, and the others with it

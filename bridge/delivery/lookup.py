"""Finds an errand whose create was written and whose answer was lost, by the reference in its subject or body.

    GET c3_dirty_errand_list -> GET c3_errand_reports/<id> of the newest that were not read before
      -> the reference that each carries -> POST c3_dirty_errand_list with all that were read

A new errand is among those that have changed, so it is in the list, unless somebody else has read its report since.
Reading a report takes an errand off the list, and the list is other programs' too: whatever was read here is put back,
ours included. Owns nothing but a bounded memory of what it has read. Knows no lane and no schedule.

Invariants: at most `reports_max` reports and `time_s` seconds a look-up; one look-up at a time in this process, since
two would hide errands from each other; what was read is put back even when the look-up fails or is cut short, as long
as the process lives.
Source: Cention API, "Errand Reports", "Dirty Errand List"; docs/adr/0012-unknown-outcomes.md.
"""

import asyncio
import html
import re
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from prometheus_client import Counter

from bridge.cention.client import CentionClient
from bridge.cention.documents import ErrandData
from bridge.cention.outcome import Failure, Fetched, Rejected, Unauthorised
from bridge.delivery.marks import Marks
from bridge.delivery.tokens import PROBE_S
from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger

log = get_logger(__name__)

K = TypeVar("K")
V = TypeVar("V")

REFERENCE = re.compile(r"av-[0-9a-f]{24}-[a-z_]+-\d+")
"""What an effect's id looks like (`bridge.calls.effects.effect_id`), wherever a template has put it."""

_MEMORY_MAX = 10_000


class Found(StrEnum):
    """What a look-up came to: a metric's label."""

    FOUND = "found"
    ABSENT = "absent"
    """Not among what was read: never created, read by somebody else, or older than the newest `reports_max`."""
    UNAVAILABLE = "unavailable"
    """Cention did not answer, or not in time."""
    REFUSED = "refused"
    """The token may not read errand data."""


class Lookup:
    """Looks errands up.

    Args:
        token: gives the token with the claim "Access to errand data".
        reports_max: reports read a look-up (`delivery.lookup_reports_max`).
        time_s: seconds that a look-up may take; the rest of the lease is the attempt's.
        results: counts look-ups by result.
        asked: told how many requests a look-up made.
    """

    def __init__(
        self,
        client: CentionClient,
        token: Callable[[], str],
        *,
        reports_max: int,
        time_s: float,
        results: Counter,
        asked: Callable[[int], None] = lambda number: None,
    ) -> None:
        self._client, self._token = client, token
        self._reports_max, self._time_s = reports_max, time_s
        self._results, self._asked = results, asked
        self._one_at_a_time = asyncio.Lock()
        self._read: dict[int, None] = {}  # in the order of reading; an errand's reference never changes
        self._errands: dict[str, int] = {}
        self._refused: tuple[str, float] | None = None
        self._marks = Marks(client, asked)

    async def find(self, reference: str) -> str | None:
        """The id of the errand that carries `reference`, or None: it was not found, or not looked for to the end."""
        try:
            async with asyncio.timeout(self._time_s), self._one_at_a_time:
                result = await self._look(reference)
        except TimeoutError:
            result = Found.FOUND if reference in self._errands else Found.UNAVAILABLE
        self._results.labels(result.value).inc()
        log.info("errand looked up", delivery=reference, result=result.value)
        return str(self._errands[reference]) if result is Found.FOUND else None

    async def drain(self, timeout_s: float) -> None:
        """Lets what was read be put back, for up to `timeout_s` seconds."""
        await self._marks.drain(timeout_s)

    async def _look(self, reference: str) -> Found:
        if reference in self._errands:
            return Found.FOUND
        token = self._token()
        if self._refused is not None and self._refused[0] == token and monotonic() < self._refused[1]:
            return Found.REFUSED
        self._asked(1)
        listed = await self._client.dirty_errands(token)
        if not isinstance(listed, Fetched):
            return self._failed(listed, token)
        # Ids count up, so what was just created is among the highest.
        unread = sorted(set(listed.value) - self._read.keys(), reverse=True)[: self._reports_max]
        touched: list[int] = []
        marked = None
        try:
            result = await self._read_reports(unread, reference, token, touched)
        finally:
            if touched:
                marked = self._marks.put_back(touched, token)
        if marked is not None:
            await asyncio.wait([marked])
        return result

    async def _read_reports(self, errand_ids: list[int], reference: str, token: str, touched: list[int]) -> Found:
        for errand_id in errand_ids:
            touched.append(errand_id)
            self._asked(1)
            report = await self._client.errand_report(errand_id, token)
            if isinstance(report, Fetched):
                self._remember(errand_id, report.value.errand)
            elif isinstance(report, Rejected) and report.status == 404:
                touched.pop()  # deleted meanwhile: to mark it would be refused, and the others with it
            else:
                return self._failed(report, token)
            if reference in self._errands:
                return Found.FOUND
        return Found.ABSENT

    def _remember(self, errand_id: int, errand: ErrandData) -> None:
        self._read[errand_id] = None
        for text in (errand.subject, errand.body):
            for reference in REFERENCE.findall(html.unescape(text or "")):
                # The first errand with it: a later one may quote it, in an answer or a forwarded message.
                self._errands[reference] = min(errand_id, self._errands.get(reference, errand_id))
        _bound(self._read)
        _bound(self._errands)

    def _failed(self, failure: Failure, token: str) -> Found:
        if isinstance(failure, Unauthorised):
            self._refused = (token, monotonic() + PROBE_S)
            log.error("cention refuses the token for errand data: errands cannot be looked up", status=failure.status)
            return Found.REFUSED
        log.warning("errand data cannot be read", reason=failure.reason)
        return Found.UNAVAILABLE


def _bound(memory: dict[K, V]) -> None:
    while len(memory) > _MEMORY_MAX:
        del memory[next(iter(memory))]

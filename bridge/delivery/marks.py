"""Puts errands whose reports were read back on Cention's list of those that have changed.

Reading a report takes an errand off that list, which is other programs' too. Owns which errands are still to be put
back, and when that is tried again. Must not know why a report was read.

Invariant: what is given here is put back as long as the process lives and Cention answers within the schedule; neither
the end nor the cancelling of who gave it takes it away.
Source: Cention API, "Errand Reports", "Dirty Errand List".
"""

import asyncio
from collections.abc import Callable, Iterable

from bridge.cention.client import CentionClient
from bridge.cention.outcome import Delivered
from bridge.runtime.logs import get_logger
from bridge.runtime.tasks import Tasks

log = get_logger(__name__)

_AGAIN_S = (1.0, 5.0, 15.0, 60.0, 60.0, 60.0)


class Marks:
    """Marks errands as changed again.

    Args:
        asked: told how many requests that made.
    """

    def __init__(self, client: CentionClient, asked: Callable[[int], None] = lambda number: None) -> None:
        self._client, self._asked = client, asked
        self._unmarked: set[int] = set()
        self._marking = Tasks("dirty errands")

    def put_back(self, errand_ids: Iterable[int], token: str) -> "asyncio.Task[None]":
        """Begins to mark `errand_ids`, and whatever is still unmarked; the task is done when that has come to an end.

        A task of its own: neither the end of a reader's time nor the service's may leave errands off the list.
        """
        self._unmarked.update(errand_ids)
        return self._marking.start(self._mark(token), "mark dirty")

    async def drain(self, timeout_s: float) -> bool:
        """Lets what was read be put back, for up to `timeout_s` seconds; returns whether all of it was."""
        await self._marking.drain(timeout_s)
        if self._unmarked:
            log.error("errands whose reports were read are not marked as changed again", errands=sorted(self._unmarked))
        return not self._unmarked

    async def _mark(self, token: str) -> None:
        for wait_s in (*_AGAIN_S, None):
            errands = sorted(self._unmarked)
            if not errands:
                return
            self._asked(1)
            outcome = await self._client.mark_dirty(errands, token)
            if isinstance(outcome, Delivered):
                self._unmarked.difference_update(errands)
                return
            log.warning("errands whose reports were read cannot be marked as changed yet", reason=outcome.reason)
            if wait_s is not None:
                await asyncio.sleep(wait_s)

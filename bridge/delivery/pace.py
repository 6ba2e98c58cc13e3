"""How fast events are let in: where one process is busy to its limit, no faster than deliveries leave it.

Taking an event in and telling Cention of it are work for the same core. Left alone, the first wins: events are accepted
at twice the speed at which their deliveries leave, every lane has to be claimed from Redis, which costs more than what
was saved, and calls reach agents seconds late. So an event waits, in milliseconds, where it would find no room.

Invariants: it waits only while deliveries leave briskly (see `bridge.delivery.places`): for a Cention that is slower
than that, or away, no event waits. It waits at most `WAIT_S`, to the next look, and the events of a batch that long in
all, but for the last that waits. While lanes wait in Redis, one event is let in for every two deliveries that leave, so
that these lanes get fewer and the senders are not kept out.
Source: docs/adr/0021-a-line-before-the-places.md.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from bridge.delivery.places import Places
from bridge.runtime.clock import monotonic

WAIT_S = 1.0
"""An event waits at most so long: a sender's patience is a few seconds, and Redis keeps what cannot be told yet."""
_LOOK_EVERY_S = 0.1
_LEAVE_PER_EVENT = 2
_SAVED_MAX = 32  # of the deliveries that left while no event waited, so many count, and let half as many in at once


class Pace:
    """Lets events in. Each `enter` is followed by a `leave`, when the event is committed or has failed."""

    def __init__(self, places: Places, clock: Callable[[], float] = monotonic) -> None:
        self._places, self._clock = places, clock
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._inside = self._saved = 0
        self._timer: asyncio.TimerHandle | None = None
        places.follow(self._moved)

    @property
    def waiting(self) -> int:
        """Events that wait for their turn."""
        return sum(not turn.done() for _, turn in self._waiting)

    def until(self) -> float:
        """Until when what comes now may have to wait, for `enter`."""
        return self._clock() + WAIT_S

    async def enter(self, until: float) -> None:
        """Waits until it is the event's turn, or about `until`."""
        if (not self._waiting and self._has_room()) or self._clock() >= until:
            self._inside += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((until, turn))
        self._look_later()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn had come
                self.leave()
            raise

    def leave(self) -> None:
        """Ends what `enter` began."""
        self._inside -= 1
        self._let_in()

    def _has_room(self) -> bool:
        places = self._places
        if not places.brisk:
            return True
        if not places.behind:
            return places.taken + self._inside < places.for_commits
        if self._saved < _LEAVE_PER_EVENT:
            return False
        self._saved -= _LEAVE_PER_EVENT
        return True

    def _moved(self) -> None:
        self._saved = min(self._saved + 1, _SAVED_MAX) if self._places.behind else 0
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            until, turn = self._waiting[0]
            if not turn.done():  # done: whoever waited is gone
                if self._clock() < until and not self._has_room():
                    return
                self._inside += 1
                turn.set_result(None)
            self._waiting.popleft()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        # Deliveries may have stopped leaving, and then nothing else would tell that there is no reason to wait.
        self._timer = None
        self._let_in()
        if self._waiting:
            self._look_later()

"""A worker's places, and the line before them: how many deliveries it may have under a lease at a time.

    place   where an attempt is made; there are `delivery.concurrency`
    line    leased deliveries that wait for a place, first come, first served

Why a line: a lane that finds no room here is claimed later, which costs Redis and us about half as much again. And why
not always: what waits here under our lease could be tried by another replica meanwhile. So there is one only while
deliveries leave briskly, and nothing waits in it for long.

Briskly is not a speed alone: a process with a quarter of a core makes a few hundred deliveries a second, as does one
whose Cention takes 100 ms. The places tell these apart. Where Cention is what is waited for, all of them are taken;
where they stand free though lanes wait, it is us.

Invariants: never more attempts at a time than places, nor begun where twice as many lanes are tried, written down or
given back. Commits fill at most half of the line. The rest is for claims, so that retries that came due, and lanes that
other replicas left, have their turn however much comes in.
Source: docs/adr/0021-a-line-before-the-places.md.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from random import Random

from bridge.runtime.clock import monotonic
from bridge.runtime.tasks import Tasks
from bridge.store.deliveries import Delivery

LINE = 256
"""Deliveries that may wait for a place: several times what a pipeline to Redis carries, so that places never stand
empty for its answer; a moment's work at any speed at which there is a line."""
BRISK_S = 0.25
"""Deliveries leave briskly when a whole line of them left within so many seconds, 1,000 a second, whoever was waited
for."""
OURS_S = 1.0
"""Or within so many, 256 a second, if they waited for us: where they wait for Cention, no line would make it faster."""
_TAKEN = 0.85
"""They waited for Cention if so much of the places was taken meanwhile: Cention is never waited for in all of them,
since each stands free between its attempts."""
_BATCH = 32
"""Places that must be free for a claim while lanes wait in Redis and deliveries leave briskly: a claim for fewer would
cost as much."""
_OF_A_SHARD = 8
"""Lanes that such a claim takes of one shard, for the same reason."""
_SHARE = 4
"""Places given away at a time while lanes wait, deliveries do not leave briskly and few places are free: of many at
once, each shard would get as many, however few lanes it has."""


class Places:
    """Counts what a worker has leased, and keeps those that wait.

    Args:
        number: attempts at a time.
        line: deliveries that may wait for one; 0: none does.
        spread: whether lanes may be on different servers, of which one may be away: then none waits either.
        clock: monotonic seconds.

    Attributes:
        lanes: a task for each lane that is worked on: tried, written down or given back.
        line: the deliveries that wait.
        offered: kept for commits under way.
        claiming: kept for the claim under way.
        crowded: whether a lane found no room, and no claim has asked for all that wait since.
        left_in_redis: whether the claims so far left lanes that are due.
    """

    def __init__(
        self,
        number: int,
        *,
        line: int = 0,
        spread: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._number, self._clock, self._longest, self._spread = number, clock, line, spread
        self._left: deque[tuple[float, float]] = deque(maxlen=line)  # when, and `_used_s` then
        self._used_s, self._used_until = 0.0, clock()
        self._moved: Callable[[], None] = lambda: None
        self.lanes = Tasks("lanes")
        self.line: deque[Delivery] = deque()
        self.offered = self.claiming = self._trying = 0
        self.crowded = self.left_in_redis = False

    def follow(self, moved: Callable[[], None]) -> None:
        """Has `moved` called whenever a delivery leaves."""
        self._moved = moved

    @property
    def trying(self) -> int:
        """The places that are taken."""
        return self._trying

    @property
    def longest(self) -> int:
        """How many deliveries may wait; 0: there is no line."""
        return 0 if self._spread() else self._longest

    @property
    def taken(self) -> int:
        """Deliveries that are leased here, or will be by the commits under way."""
        return len(self.lanes) + len(self.line) + self.offered

    @property
    def free(self) -> bool:
        """Whether one more lane can be worked on at once.

        Where the outcomes of half of the places are being written down, others begin in their stead, as many again: a
        disk that Redis waits for leaves none idle.
        """
        at_work = len(self.lanes)
        if at_work < self._number:
            return True
        return self.longest > 0 and 2 * self._trying < self._number and at_work < 2 * self._number

    @property
    def brisk(self) -> bool:
        """Whether what waits for a place has it in a moment, for all that Cention could make it wait."""
        if not 0 < self.longest == len(self._left):
            return False
        (since, used_then_s), used_s = self._left[0], self._used()
        took_s = self._used_until - since
        return took_s < BRISK_S or (took_s < OURS_S and used_s - used_then_s < _TAKEN * self._number * took_s)

    @property
    def behind(self) -> bool:
        """Whether lanes wait in Redis for a place here: they were there before what comes now."""
        return self.crowded or self.left_in_redis

    @property
    def for_commits(self) -> int:
        """Deliveries that may be leased here before commits find no room any more."""
        return self._number + (self.longest // 2 if self.brisk else 0)

    def take(self) -> None:
        """Takes a place, for an attempt."""
        self._used()
        self._trying += 1

    def vacate(self) -> None:
        """Ends what `take` began."""
        self._used()
        self._trying -= 1

    def go_on(self) -> bool:
        """Takes a place for a lane that was worked on; False: others have begun in all of them meanwhile."""
        if self._trying >= self._number:
            return False
        self.take()
        return True

    def left(self) -> None:
        """Notes that an attempt, or a hand-over, has ended and was written down."""
        if self.longest:
            used_s = self._used()
            self._left.append((self._used_until, used_s))
        self._moved()

    def _used(self) -> float:
        """Seconds that places were taken for so far, of all of them together."""
        now = self._clock()
        self._used_s += self._trying * (now - self._used_until)
        self._used_until = now
        return self._used_s

    def offer(self) -> bool:
        """Keeps room for a commit's first delivery, if there is some and no lane waits for it in Redis."""
        taken, most = self.taken, self.for_commits
        self.crowded |= taken >= most
        # Where there is a line, claims have as much of it for themselves.
        claiming = max(0, self.claiming - (most - self._number))
        if self.behind or taken + claiming >= most:
            return False
        self.offered += 1
        return True

    def to_claim(self) -> tuple[int, int]:
        """How many lanes a claim may lease now, and how many of a shard at least, where it has them."""
        if not self.brisk:
            free = self._number - self.taken
            # While none waits, the other half is for commits: most need no claim, and should not because of one.
            return (min(free, max(_SHARE, free // 2)) if self.left_in_redis else (free + 1) // 2), 1
        share = (self.longest + 1) // 2
        free = min(share, self._number + self.longest - self.taken)
        if not self.left_in_redis:
            return free, 1
        return (free if free >= min(_BATCH, share) else 0), _OF_A_SHARD


def drawn(due: Iterable[int], left: Mapping[int, int], number: int, chance: Random) -> list[int]:
    """At most `number` of the `due` shards by chance, those with many lanes `left` in them more likely.

    By lanes and not by shards: a lane's turn must not come later for having many neighbours.
    """
    lots = {shard: chance.random() ** (1 / (1 + left.get(shard, 0))) for shard in due}
    return sorted(lots, key=lots.__getitem__, reverse=True)[:number]

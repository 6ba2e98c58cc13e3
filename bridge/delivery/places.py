"""A worker's places, and the line before them: how many deliveries it may have under a lease at a time.

    place   where attempts are made; there are `delivery.concurrency`
    line    leased deliveries that wait for a place, first come, first served

Why a line: a lane that finds no room here is claimed later, which costs Redis and us about half as much again. And why
not always: what waits here under our lease could be tried by another replica meanwhile. So there is one only while
deliveries leave briskly, and nothing waits in it for long.

Invariant: commits fill at most half of the line. The rest is for claims, so that retries that came due, and lanes that
other replicas left, have their turn however much comes in.
Source: docs/adr/0021-a-line-before-the-places.md.
"""

from collections import deque
from collections.abc import Callable

from bridge.runtime.clock import monotonic
from bridge.runtime.tasks import Tasks
from bridge.store.deliveries import Delivery

LINE = 256
"""Deliveries that may wait for a place: several times what a pipeline to Redis carries, so that places never stand
empty for its answer; a moment's work at any speed at which there is a line."""
BRISK_S = 0.25
"""Deliveries leave briskly when a whole line of them left within so many seconds: 1,000 a second. If they take longer,
they wait for Cention, and no line here would make it faster."""
_BATCH = 32
"""Places that must be free for a claim while lanes wait in Redis and deliveries leave briskly: a claim for fewer would
cost as much."""
_OF_A_SHARD = 8
"""Lanes that such a claim takes of one shard, for the same reason."""
_SHARE = 4
"""Places given away at a time while lanes wait and deliveries do not leave briskly: of many at once, each shard would
get as many, however few lanes it has."""


class Places:
    """Counts what a worker has leased, and keeps those that wait.

    Args:
        number: attempts at a time.
        line: deliveries that may wait for one; 0: none does.
        clock: monotonic seconds.

    Attributes:
        lanes: the attempts under way, a task a place, and what is being given back.
        line: the deliveries that wait.
        longest: how many may; 0: there is no line.
        offered: kept for commits under way.
        claiming: kept for the claim under way.
        crowded: whether a lane found no room, and no claim has asked for all that wait since.
        left_in_redis: whether the claims so far left lanes that are due.
    """

    def __init__(self, number: int, *, line: int = 0, clock: Callable[[], float] = monotonic) -> None:
        self._number, self._clock, self.longest = number, clock, line
        self._left: deque[float] = deque(maxlen=line)
        self._moved: Callable[[], None] = lambda: None
        self.lanes = Tasks("lanes")
        self.line: deque[Delivery] = deque()
        self.offered = self.claiming = 0
        self.crowded = self.left_in_redis = False

    def follow(self, moved: Callable[[], None]) -> None:
        """Has `moved` called whenever a delivery leaves."""
        self._moved = moved

    @property
    def taken(self) -> int:
        """Deliveries that are leased here, or will be by the commits under way."""
        return len(self.lanes) + len(self.line) + self.offered

    @property
    def free(self) -> bool:
        """Whether an attempt can be begun at once."""
        return len(self.lanes) < self._number

    @property
    def brisk(self) -> bool:
        """Whether deliveries leave so fast that what waits for a place has it in a moment."""
        left = self._left
        return 0 < self.longest == len(left) and self._clock() - left[0] < BRISK_S

    @property
    def behind(self) -> bool:
        """Whether lanes wait in Redis for a place here: they were there before what comes now."""
        return self.crowded or self.left_in_redis

    @property
    def for_commits(self) -> int:
        """Deliveries that may be leased here before commits find no room any more."""
        return self._number + (self.longest // 2 if self.brisk else 0)

    def left(self) -> None:
        """Notes that an attempt, or a hand-over, has ended and was written down."""
        if self.longest:
            self._left.append(self._clock())
        self._moved()

    def offer(self) -> bool:
        """Keeps room for a commit's first delivery, if there is some and no lane waits for it in Redis."""
        brisk, taken = self.brisk, self.taken
        most = self._number + (self.longest // 2 if brisk else 0)
        self.crowded |= taken >= most
        # Where there is a line, claims have its other half for themselves.
        claiming = max(0, self.claiming - self.longest // 2) if brisk else self.claiming
        if self.behind or taken + claiming >= most:
            return False
        self.offered += 1
        return True

    def to_claim(self) -> tuple[int, int]:
        """How many lanes a claim may lease now, and how many of a shard at least, where it has them."""
        if not self.brisk:
            free = self._number - self.taken
            # While none waits, the other half is for commits: most need no claim, and should not because of one.
            return (min(free, _SHARE) if self.left_in_redis else (free + 1) // 2), 1
        share = (self.longest + 1) // 2
        free = min(share, self._number + self.longest - self.taken)
        if not self.left_in_redis:
            return free, 1
        return (free if free >= min(_BATCH, share) else 0), _OF_A_SHARD

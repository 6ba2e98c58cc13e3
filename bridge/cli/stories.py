"""Call stories in time: which are told, when each begins, which agents are in it, and the stream of their sendings.

Seeded, endless if wished. Pure: no IO, no clock. Invariants: the same arguments give the same stories; a pair is in one
story at a time; stories come in the order they begin. The stories themselves are in `bridge.cli.plots`.
"""

import heapq
import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from math import ceil
from typing import NamedTuple

from bridge.calls.events import Pair
from bridge.cli.plots import KINDS, Event, Expect, Message, Step, Story, Writer

__all__ = [
    "KINDS",
    "Due",
    "Event",
    "Expect",
    "Message",
    "Step",
    "Story",
    "agents",
    "agents_for",
    "interleave",
    "stories",
]


_AGENT_SECONDS = 50  # a story keeps agents for 36 s on average, all told; the rest is for chance


class Due(NamedTuple):
    """One sending of the whole run. `last` marks the last one of its story."""

    due_s: float
    event: Event
    last: bool


def agents(number: int) -> list[Pair]:
    """`number` agents' pairs, 1000/1000 and on."""
    return [Pair(1000 + index, 1000 + index) for index in range(number)]


def agents_for(rate: float, speed: float = 1.0) -> int:
    """How many agents it takes for `rate` stories a second seldom to find nobody free; at least twenty."""
    return max(20, ceil(rate * _AGENT_SECONDS / speed))


def stories(
    seed: int,
    *,
    calls: int,
    start: datetime,
    pairs: Sequence[tuple[int, int]] | None = None,
    rate: float = 2.0,
    concurrent: int | None = None,
    speed: float = 1.0,
    run_id: str | None = None,
    kinds: Iterable[str] | None = None,
) -> Iterator[Story]:
    """Tells `calls` stories (endless for 0), in the order they begin.

    Calls arrive at random, `rate` a second on average, and go to the agent who has been idle longest; one that finds no
    agent free, or `concurrent` stories under way, waits. An agent is in one story at a time, which may hold two calls.

    Args:
        seed: the same seed, `run_id` and other arguments give the same stories.
        calls: how many stories; a consultation belongs to its story.
        start: the moment that offsets count from; aware.
        pairs: the agents' (`deviceId`, `extensionId`), each once; by default twenty, 1000/1000 and on.
        rate: stories begun per second.
        concurrent: how many stories may be under way at once; by default as many as there are agents for.
        speed: how many seconds of a call pass in one second.
        run_id: 1 to 64 characters, part of every `eventId` and `callId`; by default `start` in microseconds, in hex, so
            that a later run is not taken for a repetition.
        kinds: which of `KINDS` to tell; by default all, transfers only where there are two agents.

    Raises:
        ValueError: an argument makes no sense.
    """
    if start.tzinfo is None:
        raise ValueError("start must be aware")
    if rate <= 0 or speed <= 0 or calls < 0 or (concurrent is not None and concurrent < 1):
        raise ValueError("rate, speed and concurrent must be above 0, calls at least 0")
    run_id = f"{int(start.timestamp() * 1_000_000):x}" if run_id is None else run_id
    if not 0 < len(run_id) <= 64:
        raise ValueError("run_id must have 1 to 64 characters")
    staff = [Pair(*pair) for pair in pairs] if pairs is not None else agents(20)
    if len(set(staff)) != len(staff):
        raise ValueError("pairs must differ")
    wanted = set(KINDS if kinds is None else kinds)
    if unknown := wanted - KINDS.keys():
        raise ValueError(f"no such kinds of story: {', '.join(sorted(unknown))}")
    told = [name for name, kind in KINDS.items() if name in wanted and kind.agents <= len(staff)]
    if not told:
        raise ValueError("there are too few pairs for the kinds wanted")
    return _tell(seed, calls, start, staff, rate, concurrent or len(staff), speed, run_id, told)


def _tell(
    seed: int,
    calls: int,
    start: datetime,
    staff: Sequence[Pair],
    rate: float,
    concurrent: int,
    speed: float,
    run_id: str,
    told: Sequence[str],
) -> Iterator[Story]:
    weights = [KINDS[name].weight for name in told]
    idle = [(0.0, order, pair) for order, pair in enumerate(staff)]  # a heap: who has been idle longest comes first
    turn = count(len(staff))
    running: list[float] = []  # a heap of the ends of the stories under way
    arrival_s = begin_s = 0.0
    for number in count(1) if calls == 0 else range(1, calls + 1):
        # A generator of its own for each story: story 7 of a seed is the same however many are told.
        rng = random.Random(f"{seed}/{number}")  # noqa: S311 - repeatable on purpose, and nothing secret
        name = rng.choices(told, weights)[0]
        chosen = [heapq.heappop(idle) for _ in range(KINDS[name].agents)]
        free_s = heapq.heappop(running) if len(running) >= concurrent else 0.0
        begin_s = max(begin_s, arrival_s, free_s, *(since_s for since_s, _, _ in chosen))
        writer = Writer(
            rng=rng,
            prefix=f"sim-{seed}-{run_id}-{number}",
            start=start,
            zone=rng.choice((UTC, timezone(timedelta(hours=1)))),
            speed=speed,
            at_s=begin_s,
            pairs=[pair for _, _, pair in chosen],
        )
        KINDS[name].write(writer)
        story = writer.story(name, begin_s)
        end_s = story.steps[-1].offset_s
        heapq.heappush(running, end_s)
        for pair in writer.pairs:
            heapq.heappush(idle, (end_s + rng.uniform(1, 4) / speed, next(turn), pair))
        arrival_s += rng.expovariate(rate)
        yield story


def interleave(told: Iterable[Story]) -> Iterator[Due]:
    """Merges stories, given in the order they begin, into one stream of sendings in the order they are due.

    Reads no further ahead than the next story, so that an endless telling can be played.
    """
    heap: list[tuple[float, int, int, Event, bool]] = []
    for number, story in enumerate(told):
        while heap and heap[0][0] < story.begin_s:
            due_s, _, _, event, last = heapq.heappop(heap)
            yield Due(due_s, event, last)
        for place, (offset_s, event) in enumerate(story.steps):
            heapq.heappush(heap, (offset_s, number, place, event, place == len(story.steps) - 1))
    while heap:
        due_s, _, _, event, last = heapq.heappop(heap)
        yield Due(due_s, event, last)

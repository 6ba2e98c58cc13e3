"""What was sent against what arrived. Pure: no IO, no clock; all times are ms since the epoch.

An *expected* message follows from events by the contract: a call's errand is opened at a pair, or the call ends there.
An *arrival* is one request that Cention worked on. The first arrival of a message counts for order and lateness; every
further one is a double. A double is *explained* when the bridge could not know that Cention had it: the answer was cut
off (the proxy saw it), or a fault that makes a bridge forget (it was killed, paused, or its Redis was) covers it.

| word | means |
|---|---|
| lost | a message that never arrived and is not parked; a call that is wrong in the mapping |
| doubled | an arrival more than one, with the same `message_id` |
| unexplained | a double that nothing explains |
| effect doubled | one message under two `message_id`s: the bridge decided twice |
| strange | an arrival that no event asked for |
| inverted | a first arrival that came before one that it had to follow: of its pair, or of its transfer |
| late | a first arrival beyond two leases after its events were accepted, or after a fault in that time had ended |
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Pair = tuple[int, int]


class Message(NamedTuple):
    """One thing that Cention is told. `ordinal` 1 is an end told again, with the link that came late."""

    pair: Pair
    call_id: str
    opens: bool
    ordinal: int = 0

    def __str__(self) -> str:
        what = "opens" if self.opens else "ends again" if self.ordinal else "ends"
        return f"{self.pair[0]}/{self.pair[1]} {what} {self.call_id}"


@dataclass(frozen=True, slots=True)
class Expected:
    """A message that must arrive.

    Attributes:
        because: ids of the events that it follows from; it is due once all have been accepted.
        follows: another pair's message that must be told first (a transfer's end, before the opening).
        may_park: whether Cention was told to refuse it for good.
    """

    message: Message
    because: tuple[str, ...]
    follows: Message | None = None
    may_park: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that Cention worked on. `mark` tells it from others: its `message_id`, or what stands for one."""

    at: int
    pair: Pair
    call_id: str
    opens: bool
    mark: str
    errand_id: str | None = None


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A fault: when it began and ended.

    Attributes:
        forgets: whether it can make a bridge forget that Cention answered, and so ask again.
    """

    begin: int
    end: int
    forgets: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What the bridge says of one active call."""

    state: str
    errand_id: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a run left behind.

    Attributes:
        expected: per pair in the order that Cention must see; pairs may be mixed.
        accepted: event id to when it was accepted.
        arrivals: in the order Cention worked on them.
        cut: marks of requests whose answer was cut off.
        parked: messages that the bridge has parked, with the reason.
        active: calls that must be active at the end, with their state.
        held: what the bridge lists as active.
        lease_ms: the length of a lease.
        forget_ms: how long before a fault a request may have been answered without the bridge having noted it.
    """

    expected: Sequence[Expected]
    accepted: Mapping[str, int]
    arrivals: Sequence[Arrival]
    cut: frozenset[str] = frozenset()
    disturbances: Sequence[Disturbance] = ()
    parked: Mapping[Message, str] = field(default_factory=dict)
    active: Mapping[tuple[Pair, str], str] = field(default_factory=dict)
    held: Mapping[tuple[Pair, str], Held] = field(default_factory=dict)
    lease_ms: int = 2000
    forget_ms: int = 1000


@dataclass(frozen=True, slots=True)
class Findings:
    """What the comparison found; every list holds one sentence each."""

    expected: int
    arrived: int
    parked: int
    lost: list[str]
    doubled: int
    unexplained: list[str]
    effects_doubled: list[str]
    strange: list[str]
    inverted: list[str]
    late: list[str]
    slowest_ms: int

    @property
    def faults(self) -> list[str]:
        """Everything that breaks a promise. Late ones are counted, not judged here."""
        return [
            *(f"lost: {text}" for text in self.lost),
            *(f"inverted: {text}" for text in self.inverted),
            *(f"doubled without a cut: {text}" for text in self.unexplained),
            *(f"effect doubled: {text}" for text in self.effects_doubled),
            *(f"strange: {text}" for text in self.strange),
        ]


def compare(run: Run) -> Findings:
    """Compares what was sent with what arrived."""
    told = _told(run.arrivals, run.parked)
    wanted = {expected.message: expected for expected in run.expected}
    missing = [message for message in wanted if message not in told.first]
    lost = [
        str(message) + (f" (parked: {run.parked[message]})" if message in run.parked else "")
        for message in missing
        if message not in run.parked or not wanted[message].may_park
    ]
    late, slowest = _lateness(run, told.first)
    return Findings(
        expected=len(wanted),
        arrived=len(wanted) - len(missing),
        parked=len(run.parked),
        lost=lost + _mapping_faults(run, told.errands),
        doubled=len(told.doubles),
        unexplained=[
            f"{again.mark} ({again.call_id}) after {again.at - before.at} ms"
            for before, again in told.doubles
            if not _explained(before, run)
        ],
        # Ordinals count up where the contract knows no second: whatever is beyond it was decided twice.
        effects_doubled=[str(m) for m in told.first if m not in wanted and m._replace(ordinal=0) in wanted],
        strange=[str(m) for m in told.first if m not in wanted and m._replace(ordinal=0) not in wanted],
        inverted=_inversions(run.expected, told.place),
        late=late,
        slowest_ms=slowest,
    )


@dataclass
class _Told:
    first: dict[Message, Arrival] = field(default_factory=dict)
    place: dict[Message, int] = field(default_factory=dict)
    doubles: list[tuple[Arrival, Arrival]] = field(default_factory=list)
    """Each double, with the arrival of the same mark before it."""
    errands: dict[tuple[Pair, str], set[str]] = field(default_factory=lambda: defaultdict(set))


def _told(arrivals: Iterable[Arrival], parked: Mapping[Message, str]) -> _Told:
    told = _Told()
    latest: dict[str, Arrival] = {}
    for place, arrival in enumerate(arrivals):
        if arrival.opens and arrival.errand_id is not None:
            told.errands[(arrival.pair, arrival.call_id)].add(arrival.errand_id)
        before, latest[arrival.mark] = latest.get(arrival.mark), arrival
        if before is not None:
            told.doubles.append((before, arrival))
            continue
        message = Message(arrival.pair, arrival.call_id, arrival.opens)
        while message in told.first or message in parked:
            message = message._replace(ordinal=message.ordinal + 1)
        told.first[message], told.place[message] = arrival, place
    return told


def _explained(before: Arrival, run: Run) -> bool:
    return before.mark in run.cut or any(
        fault.forgets and fault.begin - run.forget_ms <= before.at <= fault.end for fault in run.disturbances
    )


def _inversions(expected: Iterable[Expected], place: Mapping[Message, int]) -> list[str]:
    found: list[str] = []
    furthest: dict[Pair, Message] = {}
    for one in expected:
        message = one.message
        if message not in place:
            continue
        ahead = furthest.get(message.pair)
        if ahead is not None and place[message] < place[ahead]:
            found.append(f"{message} came before {ahead}")
        else:
            furthest[message.pair] = message
        if one.follows is not None and place.get(one.follows, -1) > place[message]:
            found.append(f"{message} came before {one.follows}")
    return found


def _lateness(run: Run, first: Mapping[Message, Arrival]) -> tuple[list[str], int]:
    found, slowest, allowed = [], 0, 2 * run.lease_ms
    faults = sorted(run.disturbances, key=lambda fault: fault.begin)
    for one in run.expected:
        arrival = first.get(one.message)
        if arrival is None or not all(event in run.accepted for event in one.because):
            continue
        due = max(run.accepted[event] for event in one.because)
        slowest = max(slowest, arrival.at - due)
        limit = due + allowed
        for fault in faults:
            if fault.begin <= limit:
                limit = max(limit, fault.end + allowed)
        if arrival.at > limit:
            found.append(f"{one.message}, {arrival.at - limit} ms beyond the limit, {arrival.at - due} ms in all")
    return found, slowest


def _mapping_faults(run: Run, errands: Mapping[tuple[Pair, str], set[str]]) -> list[str]:
    """Calls that are active and should not be, that are not and should be, or that carry another's errand."""
    found = [f"{_name(call)} is active and has ended" for call in run.held.keys() - run.active.keys()]
    for call, state in run.active.items():
        held = run.held.get(call)
        if held is None:
            found.append(f"{_name(call)} is not active, and has not ended")
            continue
        if held.state != state:
            found.append(f"{_name(call)} is {held.state}, not {state}")
        of_the_call = errands.get(call, set())
        # With the answer cut off in its middle, the bridge knows that the errand was made, and not its id.
        if held.errand_id is None and of_the_call and not _was_cut(call, run):
            found.append(f"{_name(call)} has lost its errand")
        elif held.errand_id is not None and held.errand_id not in of_the_call:
            found.append(f"{_name(call)} has an errand that is not its own")
    return sorted(found)


def _was_cut(call: tuple[Pair, str], run: Run) -> bool:
    return any(a.mark in run.cut for a in run.arrivals if (a.pair, a.call_id) == call and a.opens)


def _name(call: tuple[Pair, str]) -> str:
    (device, extension), call_id = call
    return f"{device}/{extension} {call_id}"

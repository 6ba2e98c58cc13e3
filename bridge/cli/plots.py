"""How a call goes: one made-up call of each kind, event by event, with what Cention must have been told at its end.

Owns the plots; `bridge.cli.callers` has the people in them, and `bridge.cli.stories` decides when each is told. Pure,
and knows nothing of the bridge but its vocabulary, so that it can't lean on what it is used to test.

Source: contract section 1 (the event) and 2 (what it does).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from bridge.calls.events import Direction, EventKind, Pair
from bridge.cli.callers import Number, direct_line, inbound_facts, outbound_facts

Event = dict[str, Any]
"""One event as contract section 1 writes it. Nobody changes it: a duplicate is the same object sent again."""


class Step(NamedTuple):
    """One sending: `offset_s` seconds from the run's start. The event itself may have happened earlier."""

    offset_s: float
    event: Event


class Message(NamedTuple):
    """One thing Cention is told: the call's errand is opened (`opens`), or the call ends for this agent."""

    opens: bool
    call_id: str
    pair: Pair
    direction: Direction


@dataclass(frozen=True, slots=True)
class Expect:
    """What a bridge with default `[calls]` settings makes of a story.

    Attributes:
        messages: what Cention is told, each exactly once; for any one pair in this order.
        late_links: calls whose recording link came after their end: their end may be told once more, with the link.
        events: distinct events, which is what is accepted.
        duplicates: sendings of an event that was sent before.
    """

    messages: tuple[Message, ...]
    late_links: tuple[str, ...]
    events: int
    duplicates: int

    def of_pair(self, pair: Pair) -> list[tuple[bool, str]]:
        """`(opens, call_id)` of each message about `pair`, in the order Cention must see them."""
        return [(message.opens, message.call_id) for message in self.messages if message.pair == pair]


@dataclass(frozen=True, slots=True)
class Story:
    """One call from its first ring to its last event, with its consultation where it has one.

    Attributes:
        name: its kind, a key of `KINDS`.
        begin_s: seconds from the run's start to the call's; nothing is sent before.
        steps: what to send, in the order of sending, which now and then is not the order of happening.
    """

    name: str
    begin_s: float
    steps: tuple[Step, ...]
    expect: Expect


@dataclass(slots=True)
class _Call:
    call_id: str
    direction: Direction
    pair: Pair
    facts: Event
    sequence: int | None


@dataclass(slots=True)
class Writer:
    """Writes one story: keeps its clock (`at_s`, seconds from the run's start), its sendings and what to expect."""

    rng: random.Random
    prefix: str
    start: datetime
    zone: timezone
    speed: float
    at_s: float
    pairs: Sequence[Pair]
    steps: list[Step] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    late_links: list[str] = field(default_factory=list)
    repeated: int = 0
    calls: int = 0

    def wait(self, low_s: float, high_s: float) -> None:
        """Lets between `low_s` and `high_s` seconds of the call pass."""
        self.at_s += self.rng.uniform(low_s, high_s) / self.speed

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def say(self, call: _Call, kind: EventKind, late_s: float = 0.0, **members: Any) -> Step:
        """One event, happening now and sent `late_s` seconds of the call later."""
        happened = (self.start + timedelta(seconds=self.at_s)).astimezone(self.zone)
        event: Event = {
            "eventId": f"{self.prefix}-e{len(self.steps) + 1}",
            "type": kind.value,
            "occurredAt": happened.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "callId": call.call_id,
            "deviceId": call.pair.device_id,
            "extensionId": call.pair.extension_id,
            **members,
        }
        if call.sequence is not None:
            call.sequence += 1
            event["sequence"] = call.sequence
        step = Step(self.at_s + late_s / self.speed, event)
        self.steps.append(step)
        return step

    def inbound(self, *, withheld: bool = False) -> _Call:
        """A call from a queue that is about to ring at the first agent."""
        return self._call(Direction.INBOUND, inbound_facts(self.rng, self.start, withheld=withheld))

    def outbound(self, to: Number | None = None) -> _Call:
        """A call that the first agent is about to dial: to somebody outside, or `to` a colleague."""
        return self._call(Direction.OUTBOUND, outbound_facts(self.rng, self.pairs[0], to))

    def _call(self, direction: Direction, facts: Event) -> _Call:
        self.calls += 1
        facts = {"direction": direction.value, **facts}
        if self.chance(0.1):
            facts["pbxNode"] = "aventa-2"  # a member the bridge doesn't know: exchanges send more than is asked for
        sequence = 0 if self.chance(0.3) else None
        return _Call(f"{self.prefix}-c{self.calls}", direction, self.pairs[0], facts, sequence)

    def _told(self, call: _Call, *, opens: bool) -> None:
        self.messages.append(Message(opens, call.call_id, call.pair, call.direction))

    def start_call(self, call: _Call, late_s: float = 0.0) -> Step:
        self._told(call, opens=True)
        return self.say(call, EventKind.STARTED, late_s, **call.facts)

    def answer_lost_start(self, call: _Call) -> None:
        """The first that is heard of the call is its answer, which tells what the start would have told."""
        self._told(call, opens=True)
        self.say(call, EventKind.ANSWERED, **call.facts)

    def ring_and_answer(self, call: _Call) -> None:
        self.start_call(call)
        self.wait(1.5, 9)
        self.say(call, EventKind.ANSWERED)

    def end_call(self, call: _Call, **members: Any) -> Step:
        """The call ends: unless `members` say otherwise, because one of the two has hung up."""
        hung_up = {"cause": "normal", "endedBy": self.rng.choice(("caller", "agent"))}
        self._told(call, opens=False)
        return self.say(call, EventKind.ENDED, **(hung_up | members))

    def hand_over(self, call: _Call, to: Pair) -> None:
        """The call leaves its agent for `to`; its later events name the new agent."""
        target = {"deviceId": to.device_id, "extensionId": to.extension_id}
        self._told(call, opens=False)
        self.say(call, EventKind.TRANSFERRED, transferredTo=target)
        call.pair = to
        self._told(call, opens=True)

    def story(self, name: str, begin_s: float) -> Story:
        # The sort is stable: what is sent at the same moment stays in the order it was written.
        steps = tuple(sorted(self.steps, key=lambda step: step.offset_s))
        events = len(steps) - self.repeated
        return Story(name, begin_s, steps, Expect(tuple(self.messages), tuple(self.late_links), events, self.repeated))


def _inbound(w: Writer) -> None:
    call = w.inbound()
    w.ring_and_answer(call)
    w.wait(6, 45)
    w.end_call(call)


def _inbound_held(w: Writer) -> None:
    call = w.inbound()
    w.ring_and_answer(call)
    for _ in range(w.rng.choice((1, 1, 2))):
        w.wait(4, 15)
        w.say(call, EventKind.HELD)
        w.wait(3, 12)
        if w.chance(0.15):
            break  # the caller tires of the music
        w.say(call, EventKind.RETRIEVED)
    w.wait(2, 20)
    w.end_call(call)


def _outbound(w: Writer) -> None:
    call = w.outbound()
    w.ring_and_answer(call)
    w.wait(6, 45)
    w.end_call(call, endedBy=w.rng.choice(("agent", "called")))


def _outbound_no_answer(w: Writer) -> None:
    call = w.outbound()
    w.start_call(call)
    w.wait(8, 25)
    w.end_call(call, endedBy="agent", cause=w.rng.choice(("no_answer", "no_answer", "busy")))


def _blind_transfer(w: Writer) -> None:
    call = w.inbound() if w.chance(0.85) else w.outbound()
    w.ring_and_answer(call)
    w.wait(5, 25)
    w.hand_over(call, w.pairs[1])
    w.wait(1.5, 9)
    if w.chance(0.9):
        w.say(call, EventKind.ANSWERED)
        w.wait(6, 40)
    w.end_call(call)


def _attended_transfer(w: Writer) -> None:
    call = w.inbound()
    w.ring_and_answer(call)
    w.wait(5, 20)
    w.say(call, EventKind.HELD)
    w.wait(0.5, 2)
    consultation = w.outbound(direct_line(w.pairs[1]))
    w.ring_and_answer(consultation)
    w.wait(4, 15)
    w.hand_over(call, w.pairs[1])
    w.wait(0.05, 0.3)
    w.end_call(consultation, endedBy="agent", cause="transfer")
    w.wait(6, 40)
    w.end_call(call)


def _abandoned(w: Writer) -> None:
    call = w.inbound()
    w.start_call(call)
    w.wait(2, 20)
    w.end_call(call, endedBy="caller", cause="abandoned")


def _withheld(w: Writer) -> None:
    call = w.inbound(withheld=True)
    w.ring_and_answer(call)
    w.wait(5, 30)
    w.end_call(call)


def _late_link(w: Writer) -> None:
    call = w.inbound()
    link = f"https://recordings.example/{call.call_id}"
    w.ring_and_answer(call)
    w.wait(6, 30)
    if w.chance(0.4):
        w.say(call, EventKind.UPDATED, link=link)
        w.wait(0.5, 5)
        w.end_call(call)
    else:
        w.end_call(call)
        w.wait(1, 8)
        w.late_links.append(call.call_id)
        w.say(call, EventKind.UPDATED, link=link)


def _duplicates(w: Writer) -> None:
    w.rng.choice((_inbound, _outbound, _inbound_held))(w)
    _send_some_again(w)


def _transfer_duplicates(w: Writer) -> None:
    w.rng.choice((_blind_transfer, _attended_transfer))(w)
    _send_some_again(w)


def _send_some_again(w: Writer) -> None:
    for step in w.rng.sample(w.steps, k=w.rng.randrange(1, len(w.steps) + 1)):
        w.steps.append(Step(step.offset_s + w.rng.uniform(0.05, 4) / w.speed, step.event))
        w.repeated += 1


def _end_before_start(w: Writer) -> None:
    call = w.inbound() if w.chance(0.6) else w.outbound()
    w.start_call(call, late_s=w.rng.uniform(0.6, 0.9))
    w.wait(0.1, 0.5)
    w.end_call(call, cause="cancelled")


def _answered_before_started(w: Writer) -> None:
    call = w.inbound() if w.chance(0.6) else w.outbound()
    w.start_call(call, late_s=w.rng.uniform(0.6, 0.9))
    w.wait(0.1, 0.5)
    w.say(call, EventKind.ANSWERED)
    w.wait(5, 30)
    w.end_call(call)


def _lost_start(w: Writer) -> None:
    call = w.inbound() if w.chance(0.6) else w.outbound()
    w.answer_lost_start(call)
    w.wait(5, 30)
    w.end_call(call)


class Kind(NamedTuple):
    """How often a kind of story is told, how many agents it needs, and who writes it."""

    weight: float
    agents: int
    write: Callable[[Writer], None]


KINDS = {
    "inbound": Kind(24, 1, _inbound),
    "inbound_held": Kind(10, 1, _inbound_held),
    "outbound": Kind(16, 1, _outbound),
    "outbound_no_answer": Kind(6, 1, _outbound_no_answer),
    "blind_transfer": Kind(7, 2, _blind_transfer),
    "attended_transfer": Kind(5, 2, _attended_transfer),
    "abandoned": Kind(8, 1, _abandoned),
    "withheld": Kind(6, 1, _withheld),
    "late_link": Kind(6, 1, _late_link),
    "duplicates": Kind(4, 1, _duplicates),
    "transfer_duplicates": Kind(1, 2, _transfer_duplicates),
    "end_before_start": Kind(2, 1, _end_before_start),
    "answered_before_started": Kind(2, 1, _answered_before_started),
    "lost_start": Kind(3, 1, _lost_start),
}

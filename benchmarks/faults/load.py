"""The exchange's side: plays call stories at the bridges, and keeps what was sent and when each event was accepted.

Owns the sending: an event leaves when the one before it in its story was accepted, a story begins when the story before
it at each of its pairs was played, and a request is repeated with the same bytes until a bridge takes it. The stories
are `bridge.cli.stories`'; what each must tell Cention is worked out here from the events alone, by the contract.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import orjson

from benchmarks.faults.history import Expected, Message, Pair
from bridge.cli.stories import Event, Story, stories
from bridge.runtime.clock import monotonic, now, now_ms
from bridge.runtime.tasks import Tasks

Targets = Callable[[], Sequence[str]]
"""The intakes that may be posted to at this moment."""

STAYERS_FROM = 900_000
"""Pairs from here on have one call each, which stays active to the end."""
_SPEED = 10.0  # a story's times only date its events here: nobody waits for them
_ATTEMPT_S = 1.5
_FICTION = [f"4670174{number:04}" for number in range(605, 700)] + [f"46846500{number}" for number in range(400, 500)]
"""Numbers kept free for fiction: see `bridge.cli.callers`."""


class NotTaken(Exception):
    """An event was refused, or nobody took it for too long."""


@dataclass(frozen=True, slots=True)
class Play:
    """A story ready to be sent: its events in order, what Cention must be told, and which calls stay active."""

    events: tuple[Event, ...]
    expected: tuple[Expected, ...]
    active: Mapping[tuple[Pair, str], str] = field(default_factory=dict)

    @property
    def pairs(self) -> set[Pair]:
        return {one.message.pair for one in self.expected} | {pair_of(event) for event in self.events}


def pair_of(event: Mapping[str, Any]) -> Pair:
    return (event["deviceId"], event["extensionId"])


class Load:
    """One exchange.

    Args:
        seed: the same seed plays the same stories.
        run_id: part of every id, so that two loads of one run do not mix.
        targets: which intakes to post to; each event goes to one of them by chance, each repetition to the next.
        pairs: the agents.
        pause_s: the longest wait between a story's events, seconds.
        give_up_s: how long one event is repeated.
        kinds: which kinds of story; None for all.

    Attributes:
        expected: what Cention must be told, in the order of the stories.
        sent: ids of the events that were sent at least once.
        accepted: event id to when a bridge first said that it has it, ms.
        dialled: (pair, number as dialled) of each outbound call to its id.
        active: the calls that must be active at the end, with their state.
    """

    def __init__(
        self,
        seed: int,
        run_id: str,
        targets: Targets,
        pairs: Sequence[Pair],
        *,
        pause_s: float = 0.2,
        give_up_s: float = 90.0,
        kinds: Sequence[str] | None = None,
    ) -> None:
        self._seed, self._run_id, self._targets, self._pairs = seed, run_id, targets, list(pairs)
        self._pause_s, self._give_up_s, self._kinds = pause_s, give_up_s, kinds
        self._dice = random.Random(f"{seed}/{run_id}")
        self.expected: list[Expected] = []
        self.sent: set[str] = set()
        self.accepted: dict[str, int] = {}
        self.dialled: dict[tuple[Pair, str], str] = {}
        self.active: dict[tuple[Pair, str], str] = {}
        self.played = self.repeated = self.spooled = 0
        self.stop = asyncio.Event()
        self.failure: NotTaken | None = None
        self._http: aiohttp.ClientSession
        self._tails: dict[Pair, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(max(2, len(self._pairs)))
        self._tasks = Tasks("load")

    async def run(self, calls_min: int) -> None:
        """Plays stories until `stop` is set and at least `calls_min` were begun; returns when all were played.

        Raises:
            NotTaken: an event was refused, or nobody took it.
        """
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_ATTEMPT_S), connector=aiohttp.TCPConnector(limit=0)
        ) as self._http:
            try:
                for number, story in enumerate(self._stories()):
                    if (self.stop.is_set() and number >= calls_min) or self.failure is not None:
                        break
                    await self.also(self.play_of(story))
                    if number % 10 == 0:
                        await self.also(self.stayer(number // 10))
                while self._tails:
                    await asyncio.wait(set(self._tails.values()))
            finally:
                await self._tasks.drain(0)  # none is left, unless this was cancelled
        if self.failure is not None:
            raise self.failure

    def _stories(self) -> Iterator[Story]:
        # Dated back a little: what is sent must not be far ahead of a bridge's clock.
        start = now() - timedelta(hours=1)
        return stories(
            self._seed, calls=0, start=start, pairs=self._pairs, rate=100.0, speed=_SPEED, run_id=self._run_id,
            kinds=self._kinds,
        )  # fmt: skip

    async def also(self, play: Play) -> None:
        """Plays `play` beside the others, while `run` runs; waits only while too many are under way."""
        await self._room.acquire()
        self.expected += play.expected
        self.active.update(play.active)
        before = {tail for pair in play.pairs if (tail := self._tails.get(pair))}
        task = self._tasks.start(self._play(play, before), "story")
        for pair in play.pairs:
            self._tails[pair] = task
        task.add_done_callback(lambda done: self._done(done, play.pairs))

    def _done(self, task: asyncio.Task[None], pairs: set[Pair]) -> None:
        self._room.release()
        for pair in pairs:
            if self._tails.get(pair) is task:
                del self._tails[pair]

    async def _play(self, play: Play, before: set[asyncio.Task[None]]) -> None:
        if before:
            await asyncio.wait(before)
        try:
            for event in play.events:
                if self.failure is not None:
                    return
                await self._post(event)
                await asyncio.sleep(self._dice.uniform(0, self._pause_s))
            self.played += 1
        except NotTaken as failure:
            self.failure = self.failure or failure

    async def _post(self, event: Event) -> None:
        """Posts until a bridge has the event."""
        event_id, body = event["eventId"], orjson.dumps(event)
        self.sent.add(event_id)
        began, turn, trouble = monotonic(), self._dice.randrange(1000), "no bridge runs"
        for attempt in range(1_000_000):
            urls = self._targets()
            if urls:
                url = urls[(turn + attempt) % len(urls)]
                try:
                    async with self._http.post(
                        f"{url}/v1/events", data=body, headers={"Content-Type": "application/json"}
                    ) as response:
                        text = await response.text()
                        if response.status in (200, 202):
                            self.accepted.setdefault(event_id, now_ms())
                            self.spooled += any("spool" in name.lower() for name in response.headers)
                            return
                        if response.status < 500 and response.status not in (408, 429):
                            raise NotTaken(f"{event['type']} {event_id}: HTTP {response.status} {text[:300]}")
                        trouble = f"HTTP {response.status} {text[:200]}"
                except (aiohttp.ClientError, TimeoutError) as error:
                    trouble = f"{type(error).__name__}: {error}"
            if monotonic() - began > self._give_up_s:
                raise NotTaken(f"{event['type']} {event_id}: nobody took it in {self._give_up_s:g} s: {trouble}")
            self.repeated += 1
            await asyncio.sleep(self._dice.uniform(0, min(0.5, 0.02 * 2 ** min(attempt, 8))))

    # What is played.

    def play_of(self, story: Story) -> Play:
        """The story with a number of its own for each outbound call, and what it must tell Cention."""
        events = self._with_own_numbers([step.event for step in story.steps])
        expected: list[Expected] = []
        before: Message | None = None
        for told in story.expect.messages:
            message = Message((told.pair.device_id, told.pair.extension_id), told.call_id, told.opens)
            handed = before is not None and before.call_id == message.call_id and before.pair != message.pair
            expected.append(Expected(message, _because(events, message), before if handed and told.opens else None))
            before = message
        for call_id in story.expect.late_links:
            first = next(one for one in expected if one.message.call_id == call_id and not one.message.opens)
            linked = next(event for event in events if event["callId"] == call_id and "link" in event)
            again = first.message._replace(ordinal=1)
            expected.append(Expected(again, (*first.because, linked["eventId"])))
        return Play(tuple(events), tuple(expected))

    def stayer(self, number: int) -> Play:
        """A call, at a pair of its own, that nobody ends."""
        pair = (STAYERS_FROM + number, self._pairs[0][1])
        call_id = f"stay-{self._seed}-{self._run_id}-{number}"
        direction = ("inbound", "outbound")[number % 2]
        dialled = _FICTION[number % len(_FICTION)]
        facts = {"direction": direction, "calledNumber": dialled, "callingNumber": _FICTION[0]}
        kinds = ("started", "answered", "held")[: 1 + number % 3]
        events = tuple(made_event(call_id, pair, kind, **(facts if kind == "started" else {})) for kind in kinds)
        opens = Message(pair, call_id, opens=True)
        return Play(events, (Expected(opens, (events[0]["eventId"],)),), {(pair, call_id): kinds[-1]})

    def _with_own_numbers(self, events: Sequence[Event]) -> list[Event]:
        """`events`, each outbound call with a number that no other at its pairs has: `c3_end_obcall` names no call."""
        outbound = {event["callId"] for event in events if event.get("direction") == "outbound"}
        numbers: dict[str, str] = {}
        for call_id in sorted(outbound):
            at = {pair for event in events if event["callId"] == call_id for pair in _pairs_of(event)}
            dialled = next(
                number
                for spelling in ("", "+", "00")
                for fiction in _FICTION
                if all((pair, number := spelling + fiction) not in self.dialled for pair in at)
            )
            numbers[call_id] = dialled
            self.dialled.update({(pair, dialled): call_id for pair in at})
        return [
            {**event, "calledNumber": numbers[event["callId"]]}
            if event["callId"] in numbers and "calledNumber" in event
            else event
            for event in events
        ]


def made_event(call_id: str, pair: Pair, kind: str, **members: Any) -> Event:
    """One event made by hand, as contract section 1 writes it."""
    return {
        "eventId": f"{call_id}-{kind}",
        "type": f"call.{kind}",
        "occurredAt": now().isoformat(timespec="milliseconds"),
        "callId": call_id,
        "deviceId": pair[0],
        "extensionId": pair[1],
        **members,
    }


def made_call(call_id: str, pair: Pair, *, may_park: bool = False) -> Play:
    """An inbound call made by hand, from its start to its end."""
    facts = {"direction": "inbound", "calledNumber": _FICTION[0], "callingNumber": _FICTION[1]}
    start, end = made_event(call_id, pair, "started", **facts), made_event(call_id, pair, "ended")
    because = (start["eventId"], end["eventId"])
    return Play(
        (start, end),
        (
            Expected(Message(pair, call_id, opens=True), because[:1], may_park=may_park),
            Expected(Message(pair, call_id, opens=False), because, may_park=may_park),
        ),
    )


def _pairs_of(event: Mapping[str, Any]) -> list[Pair]:
    target = event.get("transferredTo")
    return [pair_of(event)] + ([pair_of(target)] if target else [])


def _because(events: Sequence[Event], message: Message) -> tuple[str, ...]:
    """The events that a message follows from: what opened the call at that pair, and for an end, what ended it."""
    opener = next(
        event["eventId"]
        for event in events
        if event["callId"] == message.call_id
        and (
            ("transferredTo" in event and pair_of(event["transferredTo"]) == message.pair)
            or ("calledNumber" in event and pair_of(event) == message.pair)
        )
    )
    if message.opens:
        return (opener,)
    closer = next(
        event["eventId"]
        for event in events
        if event["callId"] == message.call_id
        and pair_of(event) == message.pair
        and event["type"] in ("call.ended", "call.transferred")
    )
    return (opener, closer)

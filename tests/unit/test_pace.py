"""How fast events are let in, on a clock of the test's own."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from bridge.delivery.pace import WAIT_S, Pace
from bridge.delivery.places import OURS_S, Places
from tests.e2e.support import eventually
from tests.unit.test_places import A_DELIVERY, Clock, brisk


class Events:
    """Events that come, and go in and out as the pipeline lets them.

    Attributes:
        came: those that wait or are inside, by number.
        entered: the numbers of all that were let in, in that order.
        until: until when each may have to wait.
    """

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.came: dict[int, asyncio.Task[None]] = {}
        self.entered: list[int] = []
        self.until: list[float] = []
        self._ends: list[asyncio.Event] = []

    async def come(self, number: int = 1, *, until: float | None = None) -> list[int]:
        """So many come, one after the other; those that have been let in so far."""
        for _ in range(number):
            self.until.append(self.pace.until() if until is None else until)
            self._ends.append(asyncio.Event())
            self.came[len(self.until) - 1] = asyncio.create_task(self._event(len(self.until) - 1))
            await settled()
        return self.entered

    async def _event(self, number: int) -> None:
        try:
            await self.pace.enter(self.until[number])
            try:
                self.entered.append(number)
                await self._ends[number].wait()
            finally:
                self.pace.leave()
        finally:
            del self.came[number]

    @property
    def inside(self) -> list[int]:
        return [number for number in self.came if number in self.entered]

    @property
    def waiting(self) -> list[int]:
        return [number for number in self.came if number not in self.entered]

    async def end(self, number: int) -> list[int]:
        """One that is inside is done; those that have been let in so far."""
        self._ends[number].set()
        await settled()
        return self.entered

    async def cancel(self, number: int) -> None:
        self.came[number].cancel()
        await settled()

    async def all_end(self) -> None:
        for number in self.inside:
            await self.end(number)


async def settled() -> None:
    """Lets all tasks go as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_event_waits_while_deliveries_do_not_leave_briskly() -> None:
    places = Places(1, line=4, clock=Clock())
    places.crowded = places.left_in_redis = True
    places.offered = 100
    events = Events(Pace(places, Clock()))
    assert len(await events.come(300)) == 300
    await events.all_end()


async def test_events_wait_for_room_and_go_in_in_their_order() -> None:
    places, clock = brisk(1, 4)
    events = Events(Pace(places, clock))
    assert await events.come(5) == [0, 1, 2], "as many as commits have"
    assert await events.end(1) == [0, 1, 2, 3], "one comes in for one that leaves"
    places.line.append(A_DELIVERY)
    assert await events.end(0) == [0, 1, 2, 3], "its delivery has its room"
    places.line.clear()
    places.left()
    await settled()
    assert events.entered == [0, 1, 2, 3, 4]
    await events.all_end()
    assert await events.come(4) == list(range(8)), "nobody keeps room that has left"
    await events.all_end()
    assert len(events.entered) == 9


async def test_while_lanes_wait_one_event_goes_in_for_two_deliveries_that_leave() -> None:
    places, clock = brisk(1, 4)
    events = Events(Pace(places, clock))
    places.left_in_redis = True
    assert await events.come(3) == []
    for let_in in ([], [0], [0], [0, 1]):
        places.left()
        await settled()
        assert events.entered == let_in
    await events.all_end()
    assert events.entered == [0, 1], "that they are done is no reason to let others in"
    for _ in range(1000):
        places.left()
    await settled()
    assert events.entered == [0, 1, 2]
    assert len(await events.come(100)) == 3 + 16, "what left while nobody waited counts, but not for long"
    places.left_in_redis = False
    places.left()
    await settled()
    assert len(events.inside) == 1 + 16, "and now there has to be room"


async def test_events_go_in_when_deliveries_have_stopped_leaving() -> None:
    places, clock = brisk(1, 4)
    places.offered = 100
    events = Events(Pace(places, clock))
    assert await events.come(3) == []
    clock.now += OURS_S
    assert await events.come() == [], "nobody overtakes those that were there before"
    await eventually(lambda: events.entered == [0, 1, 2, 3], "the timer finds it out")
    await events.all_end()


async def test_no_event_waits_longer_than_it_may() -> None:
    places, _ = brisk(1, 4)  # and go on leaving briskly
    places.offered, clock = 100, Clock()
    events = Events(Pace(places, clock))
    await events.come(2)
    clock.now += WAIT_S / 2
    await events.come()
    clock.now += WAIT_S / 2
    await eventually(lambda: events.entered == [0, 1], "both have waited long enough")
    assert events.waiting == [2]
    assert events.pace.waiting == 1
    clock.now += WAIT_S / 2
    await eventually(lambda: events.entered == [0, 1, 2], "and the third, for whom the timer looks again")
    await events.all_end()


async def test_what_is_left_of_a_batch_whose_time_is_over_waits_for_nobody() -> None:
    places, clock = brisk(1, 4)
    places.offered = 100
    events = Events(Pace(places, clock))
    assert await events.come() == []
    assert await events.come(until=clock.now) == [1]


async def test_whoever_is_cancelled_while_waiting_holds_up_nobody() -> None:
    places, clock = brisk(1, 2)
    events = Events(Pace(places, clock))
    assert await events.come(5) == [0, 1]
    await events.cancel(2)
    assert await events.end(0) == [0, 1, 3]
    await events.all_end()
    assert events.entered == [0, 1, 3, 4]


async def test_whoever_is_cancelled_when_the_turn_has_come_gives_it_to_the_next() -> None:
    places, clock = brisk(1, 2)
    pace = Pace(places, clock)
    events = Events(pace)
    assert await events.come(4) == [0, 1]
    pace.leave()  # the turn of the third has come, and it has not noticed yet
    events.came[2].cancel()
    await settled()
    assert events.entered == [0, 1, 3]


# Whatever happens

STEPS = st.one_of(
    st.sampled_from(["come", "come", "look", "crowded", "left in redis", "delivery leaves", "delivery leaves"]),
    st.tuples(st.sampled_from(["end", "cancel", "commit"]), st.integers(0, 20)),
    st.floats(0, WAIT_S / 4),
)


@given(st.integers(1, 3), st.integers(0, 6), st.booleans(), st.lists(STEPS, max_size=80))
def test_no_count_goes_wrong_and_all_get_in_in_their_order(
    number: int, line: int, begins_briskly: bool, story: list[str | float | tuple[str, int]]
) -> None:
    asyncio.run(_story(number, line, begins_briskly, story))


async def _story(number: int, line: int, begins_briskly: bool, story: list[str | float | tuple[str, int]]) -> None:
    clock = Clock()
    places = Places(number, line=line, clock=clock)
    for _ in range(line * begins_briskly):
        places.left()
    places.line.extend([A_DELIVERY] * line)
    pace = Pace(places, clock)
    events = Events(pace)
    for step in story:
        before, looked = len(events.entered), step == "look"
        match step:
            case "come":
                await events.come()
            case "look":
                pace._look()
            case "crowded":
                places.crowded = not places.crowded
            case "left in redis":
                places.left_in_redis = not places.left_in_redis
            case "delivery leaves" if places.line:
                places.line.popleft()
                places.left()
                looked = True
            case ("end", int(which)) if events.inside:
                await events.end(events.inside[which % len(events.inside)])
                looked = True
            case ("cancel", int(which)) if events.came:
                await events.cancel(list(events.came)[which % len(events.came)])
            case ("commit", int(which)) if events.inside and places.offer():
                places.offered -= 1
                places.line.append(A_DELIVERY)
                await events.end(events.inside[which % len(events.inside)])
            case float(seconds):
                clock.now += seconds
        await settled()
        assert pace._inside == len(events.inside) >= 0
        assert events.entered == sorted(events.entered), "first come, first served"
        full, paced = places.taken + pace._inside - (number + line // 2), places.brisk and not places.behind
        if paced and len(events.entered) > before and clock.now < events.until[events.entered[-1]]:
            assert full <= 0, "nobody goes in where there is no room"
        assert events.pace.waiting == len(events.waiting)
        if paced and events.waiting and looked:
            assert full >= 0, "nobody waits where there is"
        if step == "look":
            assert all(clock.now < events.until[waiting] for waiting in events.waiting)
            assert places.brisk or not events.waiting
    clock.now += OURS_S
    pace._look()
    await settled()
    assert not events.waiting, "deliveries have stopped leaving"
    await events.all_end()
    assert (pace._inside, len(events.came)) == (0, 0)

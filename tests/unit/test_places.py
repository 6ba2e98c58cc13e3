"""A worker's places and the line before them, on a clock of the test's own."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import Facts, Pair
from bridge.delivery.places import BRISK_S, LINE, OURS_S, Places
from bridge.store.deliveries import Delivery

A_DELIVERY = Delivery(Effect("d", EffectKind.END_SESSION, "c", Pair(1, 1), 0, Facts()), "1", 1, 0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def brisk(number: int = 32, line: int = LINE) -> tuple[Places, Clock]:
    """Places whose deliveries leave briskly until the clock is moved."""
    clock = Clock()
    places = Places(number, line=line, clock=clock)
    for _ in range(line):
        places.left()
    assert places.brisk
    return places, clock


def offers(places: Places) -> int:
    """How many commits in a row find room."""
    before = places.offered
    while places.offer():
        pass
    return places.offered - before


# When there is a line


def test_deliveries_leave_briskly_when_a_whole_line_of_them_left_in_a_moment_whoever_was_waited_for() -> None:
    clock = Clock()
    places = Places(1, line=4, clock=clock)
    places.take()  # and it is taken all the time
    for _ in range(3):
        places.left()
    assert not places.brisk, "not a whole line yet"
    clock.now += BRISK_S / 2
    places.left()
    assert places.brisk
    clock.now += BRISK_S / 2
    assert not places.brisk, "the first of them left too long ago"
    places.left()
    assert not places.brisk
    for _ in range(2):
        places.left()
    assert places.brisk


@pytest.mark.parametrize(
    ("taken", "of_the_time", "briskly"),
    [(10, 1.0, False), (9, 1.0, False), (8, 1.0, True), (10, 0.8, True), (0, 1.0, True)],
)
def test_or_in_more_than_that_where_places_stood_free(taken: int, of_the_time: float, briskly: bool) -> None:
    """Then it was us that they waited for: Cention has all of its places taken when it is."""
    clock = Clock()
    places = Places(10, line=4, clock=clock)
    took_s = (BRISK_S + OURS_S) / 2
    for _ in range(4):
        places.left()
    for _ in range(taken):
        places.take()
    clock.now += took_s * of_the_time
    for _ in range(taken):
        places.vacate()
    clock.now += took_s * (1 - of_the_time)
    assert places.brisk is briskly
    clock.now += OURS_S - took_s
    assert not places.brisk, "nothing leaves that could be waited for"


def test_what_counts_is_how_long_places_were_taken_since_the_first_of_the_line_left() -> None:
    clock = Clock()
    places = Places(1, line=2, clock=clock)
    places.take()
    clock.now += 1000
    places.left()
    places.vacate()
    places.left()
    clock.now += BRISK_S
    assert places.go_on()
    assert places.brisk, "neither taken before, nor until now"
    assert not places.go_on(), "there is one place"
    places.left()
    places.left()
    clock.now += BRISK_S
    assert not places.brisk, "taken since both of them left"


def test_places_without_a_line_never_have_one() -> None:
    places = Places(3, clock=Clock())
    for _ in range(1000):
        places.left()
    assert not places.brisk
    assert (places.for_commits, offers(places)) == (3, 3)


def test_whoever_follows_is_told_of_every_delivery_that_leaves() -> None:
    told = list[int]()
    for places in (Places(1), brisk()[0]):
        places.follow(lambda: told.append(1))
        places.left()
    assert len(told) == 2


# Commits


def test_commits_have_the_places_and_half_of_the_line() -> None:
    places, clock = brisk(32, 256)
    assert (offers(places), places.taken) == (160, 160)
    places.line.append(A_DELIVERY)
    places.offered, places.crowded = 158, False
    assert (offers(places), places.taken) == (1, 160), "what waits counts"
    places.offered, places.crowded = 0, False
    places.line.clear()
    clock.now += OURS_S
    assert offers(places) == 32, "the places alone"


async def test_what_is_under_way_has_its_place() -> None:
    places = Places(2, clock=Clock())
    ending = asyncio.Event()
    places.lanes.start(_until(ending), "place")
    assert (places.free, places.taken) == (True, 1)
    places.lanes.start(_until(ending), "place")
    assert (places.free, places.taken, places.offer()) == (False, 2, False)
    ending.set()
    await places.lanes.drain(10)
    assert (places.free, places.taken) == (True, 0)


async def _until(ending: asyncio.Event) -> None:
    await ending.wait()


def test_nothing_is_offered_before_what_waits_in_redis() -> None:
    places, _ = brisk(1, 4)
    assert offers(places) == 3
    places.offered = 0
    assert places.crowded, "one found no room"
    assert offers(places) == 0
    places.crowded, places.left_in_redis = False, True
    assert (places.behind, offers(places)) == (True, 0)
    places.left_in_redis = False
    assert (places.behind, offers(places)) == (False, 3)


def test_a_claim_that_began_before_there_was_a_line_counts_beyond_its_share() -> None:
    places = Places(40, line=4, clock=Clock())
    places.claiming = places.to_claim()[0]
    for _ in range(4):
        places.left()
    assert places.brisk
    assert (places.claiming, offers(places)) == (20, 24), "and all of them are places and line"


# Claims


def test_a_claim_takes_half_of_what_is_free_and_a_few_at_least_while_lanes_wait() -> None:
    places = Places(32, clock=Clock())
    assert places.to_claim() == (16, 1)
    places.left_in_redis = True
    assert places.to_claim() == (16, 1)
    places.offered = 26
    assert places.to_claim() == (4, 1)
    places.offered = 30
    assert places.to_claim() == (2, 1)
    places.offered = 32
    assert places.to_claim()[0] <= 0


def test_while_deliveries_leave_briskly_a_claim_has_the_commits_other_half() -> None:
    places, _ = brisk(32, 256)
    assert places.to_claim() == (128, 1)
    places.offered = offers(places)
    assert places.to_claim() == (128, 1), "however many commits there are"
    places.claiming, places.crowded = 128, False
    places.offered -= 1
    assert offers(places) == 1, "nor has a claim under way theirs"


@pytest.mark.parametrize(("taken", "lanes"), [(0, 128), (160, 128), (256, 32), (257, 0), (288, 0)])
def test_while_lanes_wait_a_brisk_claim_is_for_a_batch(taken: int, lanes: int) -> None:
    places, _ = brisk(32, 256)
    places.left_in_redis, places.offered = True, taken
    assert places.to_claim() == (lanes, 8)


@pytest.mark.parametrize("line", [1, 2, 7, 63, 256])
def test_no_line_is_too_short_for_claims(line: int) -> None:
    """What no claim may take from Redis would stand there for as long as deliveries leave briskly."""
    places, _ = brisk(1, line)
    for places.left_in_redis in (False, True):
        assert places.to_claim()[0] > 0


# Whatever happens

STEPS = st.one_of(
    st.sampled_from(["offer", "take", "forgo", "leave", "claim"]),
    st.tuples(st.just("claimed"), st.integers(0, 1000), st.booleans()),
    st.tuples(st.just("passed"), st.floats(0, OURS_S)),
)


@given(st.integers(1, 40), st.integers(0, 12), st.lists(STEPS, max_size=200))
def test_no_more_is_leased_than_places_and_line_hold(
    number: int, line: int, story: list[str | tuple[str, int, bool] | tuple[str, float]]
) -> None:
    clock = Clock()
    places = Places(number, line=line, clock=clock)
    for step in story:
        match step:
            case "offer":
                places.offer()
            case "take" if places.offered:
                places.offered -= 1
                places.line.append(A_DELIVERY)
            case "forgo" if places.offered:
                places.offered -= 1
            case "leave" if places.line:
                places.left()
                places.line.popleft()
            case "claim" if not places.claiming:
                places.claiming = max(0, places.to_claim()[0])
            case ("claimed", int(most), bool(left)):
                places.line.extend([A_DELIVERY] * min(most, places.claiming))
                places.claiming, places.crowded, places.left_in_redis = 0, False, left
            case ("passed", float(seconds)):
                clock.now += seconds
        assert places.offered >= 0
        assert places.taken + places.claiming <= number + line

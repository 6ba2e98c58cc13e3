"""The breaker: what opens it, for how long, who may probe, what closes it. Time and dice are the test's own."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cention.outcome import Delivered, Outcome, Rejected, TryLater, Unauthorised, Unknown
from bridge.delivery.breaker import ASKED_S_MAX, OPEN_S_MAX, Breaker, Sign, State, sign_of

REFUSED = TryLater("Cannot connect")
BUSY = TryLater("Service Unavailable", 503)
DONE = Delivered(201, "511055")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.chance = 1.0
        self.changes: list[State] = []

    def breaker(self, failures: int = 3, open_s: float = 5.0) -> Breaker:
        return Breaker(
            failures=failures,
            open_s=open_s,
            clock=lambda: self.now,
            chance=lambda: self.chance,
            changed=lambda _was, state, _reason: self.changes.append(state),
        )

    def attempts(self, breaker: Breaker, *outcomes: Outcome, lanes: str = "ab") -> None:
        """Attempts one after the other, from the lanes in turn."""
        for number, outcome in enumerate(outcomes):
            self.now += 0.01
            assert breaker.admit()
            breaker.note(outcome, lanes[number % len(lanes)], self.now)


def state(breaker: Breaker) -> State:
    return breaker.state  # through a call, so that the type checker does not take it for settled


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("outcome", "sign"),
    [
        (REFUSED, Sign.DOWN),
        (Unknown("no answer within 10 s"), Sign.DOWN),
        *[(TryLater("x", status), Sign.DOWN) for status in (500, 502, 503, 504, 599)],
        (TryLater("redirected", 302), Sign.DOWN),
        (TryLater("a web page answered", 200), Sign.DOWN),
        *[(TryLater("x", status), Sign.ALIVE) for status in (408, 425, 429)],
        *[(Rejected(status, "x"), Sign.ALIVE) for status in (404, 406)],
        (Unauthorised(401, "x"), Sign.ALIVE),
        (DONE, Sign.ALIVE),
        (Rejected(None, "destNumber is missing"), Sign.NONE),
    ],
)
def test_what_an_outcome_says_of_cention(outcome: Outcome, sign: Sign) -> None:
    assert sign_of(outcome) is sign


def test_failures_in_a_row_open_it(clock: Clock) -> None:
    breaker = clock.breaker()
    clock.attempts(breaker, REFUSED, BUSY)
    assert (breaker.wait_s(), breaker.state) == (0.0, State.CLOSED)
    clock.attempts(breaker, Unknown("reset"))
    assert state(breaker) is State.OPEN
    assert breaker.wait_s() == pytest.approx(5.0)
    assert not breaker.admit()


@pytest.mark.parametrize("life", [DONE, Rejected(406, "no"), Unauthorised(401, "who"), TryLater("slow down", 429)])
def test_an_answer_that_proves_life_starts_the_count_again(clock: Clock, life: Outcome) -> None:
    breaker = clock.breaker()
    clock.attempts(breaker, REFUSED, BUSY, life, BUSY, BUSY)
    assert state(breaker) is State.CLOSED


def test_what_says_nothing_neither_counts_nor_starts_again(clock: Clock) -> None:
    breaker = clock.breaker()
    clock.attempts(breaker, REFUSED, BUSY, Rejected(None, "cannot be rendered"))
    assert state(breaker) is State.CLOSED
    clock.attempts(breaker, BUSY)
    assert state(breaker) is State.OPEN


def test_one_lane_alone_never_opens_it(clock: Clock) -> None:
    breaker = clock.breaker()
    clock.attempts(breaker, *[BUSY] * 50, lanes="a")
    clock.attempts(breaker, *[TryLater("x", 503, retry_after_s=30)] * 5, lanes="a")
    assert state(breaker) is State.CLOSED
    clock.attempts(breaker, BUSY, lanes="b")
    assert state(breaker) is State.OPEN


def test_half_open_lets_one_probe_through(clock: Clock) -> None:
    breaker = clock.breaker()
    clock.attempts(breaker, BUSY, BUSY, BUSY)
    clock.now += 5.0
    assert breaker.wait_s() == 0.0
    assert breaker.admit()
    assert state(breaker) is State.HALF_OPEN
    assert [breaker.admit() for _ in range(5)] == [False] * 5
    assert 0 < breaker.wait_s() <= 2, "the others come back soon"
    breaker.note(DONE, "a", clock.now)
    assert clock.changes == [State.OPEN, State.HALF_OPEN, State.CLOSED]
    assert all(breaker.admit() for _ in range(5))


def test_each_probe_that_fails_doubles_the_wait_up_to_a_minute(clock: Clock) -> None:
    breaker = clock.breaker()
    clock.attempts(breaker, BUSY, BUSY, BUSY)
    waits = []
    for _ in range(6):
        waits.append(round(breaker.wait_s(), 3))
        clock.now += breaker.wait_s()
        assert breaker.admit()
        breaker.note(REFUSED, "a", clock.now)
    assert waits == [5, 10, 20, 40, OPEN_S_MAX, OPEN_S_MAX]
    clock.now += breaker.wait_s()
    clock.attempts(breaker, DONE, BUSY, BUSY, BUSY)
    assert breaker.wait_s() == pytest.approx(5.0), "life in between starts the doubling again"


def test_replicas_that_saw_it_together_do_not_probe_together(clock: Clock) -> None:
    waits = []
    for clock.chance in (0.0, 0.5, 1.0):
        breaker = clock.breaker()
        clock.attempts(breaker, BUSY, BUSY, BUSY)
        waits.append(round(breaker.wait_s(), 3))
    assert waits == [3.75, 4.375, 5.0]


def test_a_probe_that_tells_nothing_lets_another_go(clock: Clock) -> None:
    breaker = clock.breaker()
    clock.attempts(breaker, BUSY, BUSY, BUSY)
    clock.now += 5.0
    assert breaker.admit()
    breaker.forget(clock.now)
    assert breaker.admit()
    breaker.note(Rejected(None, "cannot be rendered"), "a", clock.now)
    assert breaker.admit()


def test_attempts_that_began_before_it_opened_tell_nothing_new_when_they_fail(clock: Clock) -> None:
    breaker = clock.breaker()
    before = clock.now
    clock.attempts(breaker, BUSY, BUSY, BUSY)
    clock.now += 5.0
    assert breaker.admit()
    for lane in "cdefg":
        breaker.note(Unknown("no answer within 10 s"), lane, before)
    assert state(breaker) is State.HALF_OPEN, "the probe is still under way"
    breaker.note(DONE, "h", before)
    assert state(breaker) is State.CLOSED, "life is life, whoever saw it"


def test_a_retry_after_that_two_lanes_got_opens_it_for_that_time(clock: Clock) -> None:
    breaker = clock.breaker(failures=10)
    asked = TryLater("Service Unavailable", 503, retry_after_s=30)
    clock.attempts(breaker, asked)
    assert state(breaker) is State.CLOSED
    clock.attempts(breaker, asked, lanes="b")
    assert state(breaker) is State.OPEN
    assert breaker.wait_s() == pytest.approx(30)
    clock.now += 30
    assert breaker.admit()
    breaker.note(TryLater("Service Unavailable", 503, retry_after_s=86_400), "a", clock.now)
    assert breaker.wait_s() == pytest.approx(ASKED_S_MAX), "nobody waits a day without looking"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.floats(0, 30)), max_size=60))
def test_whatever_happens_it_comes_to_a_probe_and_life_closes_it(story: list[tuple[str, int, float]]) -> None:
    clock = Clock()
    breaker = clock.breaker()
    outcomes: list[Any] = [DONE, BUSY, REFUSED, Unknown("x"), Rejected(None, "x"), Unauthorised(401, "x"), None]
    under_way = 0
    for lane, outcome, passed in story:
        clock.now += passed
        if not breaker.admit():
            assert breaker.wait_s() > 0
            continue
        under_way += breaker.state is State.HALF_OPEN
        assert under_way <= 1
        if outcomes[outcome] is None:
            breaker.forget(clock.now)
        else:
            breaker.note(outcomes[outcome], lane, clock.now)
        under_way = 0
    clock.now += breaker.wait_s()
    assert breaker.admit()
    breaker.note(DONE, "a", clock.now)
    assert (breaker.state, breaker.wait_s()) == (State.CLOSED, 0.0)

"""The token bucket, on a clock of the test's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.delivery.rate import BURST_S, Rate


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_zero_is_no_limit() -> None:
    rate = Rate(0, Clock())
    assert [rate.take(1000) for _ in range(10)] == [1000] * 10
    rate.owe(10**6)
    assert (rate.wait_s(), rate.take(7)) == (0.0, 7)


def test_what_is_not_there_is_not_given_and_nobody_waits() -> None:
    clock = Clock()
    rate = Rate(50, clock)
    assert rate.take(32) == 5  # a tenth of a second's worth
    assert rate.take(32) == 0
    assert rate.wait_s() == pytest.approx(0.02)
    clock.now += 0.05
    assert (rate.take(32), rate.take(1)) == (2, 0)
    clock.now += 3600
    assert rate.take(1000) == 5, "an idle hour saves nothing up"


def test_less_than_one_a_second_still_gives_one_at_a_time() -> None:
    clock = Clock()
    rate = Rate(0.5, clock)
    assert (rate.take(10), rate.take(10), rate.wait_s()) == (1, 0, 2.0)
    clock.now += 2.0
    assert rate.take(10) == 1


def test_what_was_not_used_is_given_back() -> None:
    rate = Rate(50, Clock())
    assert rate.take(5) == 5
    rate.give_back(3)
    assert rate.take(5) == 3
    rate.give_back(100)
    assert rate.take(100) == 5, "never more than the bucket holds"


def test_what_is_owed_is_paid_before_anything_is_given() -> None:
    clock = Clock()
    rate = Rate(10, clock)
    rate.owe(11)
    assert rate.wait_s() == pytest.approx(1.1)
    clock.now += 1.0
    assert rate.take(1) == 0
    clock.now += 0.11
    assert rate.take(1) == 1


@given(st.floats(0.1, 1000), st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 64)), max_size=80))
def test_never_more_than_the_rate_and_one_burst(per_s: float, story: list[tuple[float, int]]) -> None:
    clock = Clock()
    rate, taken, began = Rate(per_s, clock), 0, clock.now
    for passed, wanted in story:
        clock.now += passed
        taken += rate.take(wanted)
        assert taken <= per_s * (clock.now - began) + max(1.0, per_s * BURST_S) + 1e-6


@given(st.floats(0.1, 1000), st.integers(0, 50))
def test_after_the_wait_there_is_one(per_s: float, owed: int) -> None:
    clock = Clock()
    rate = Rate(per_s, clock)
    rate.owe(owed)
    clock.now += rate.wait_s() + 1e-6
    assert rate.take(1) == 1

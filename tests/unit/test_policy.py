"""What follows an attempt: for every outcome, number, age and schedule."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cention.outcome import Delivered, Outcome, Rejected, TryLater, Unauthorised, Unknown
from bridge.delivery.policy import RETRY_AFTER_S_MAX, NextStep, Schedule, next_step
from bridge.store.deliveries import Settlement

SCHEDULE = Schedule((1.0, 2.0, 5.0), age_s_max=100.0)

seconds = st.floats(0, 10**6, allow_nan=False)
asked = st.none() | st.floats(0, 10**9)
try_later = st.builds(TryLater, st.just("busy"), st.none() | st.integers(400, 599), asked)
passing = try_later | st.builds(Unknown, st.just("reset"))
rejected = st.builds(Rejected, st.none() | st.integers(400, 499), st.just("no"))
unauthorised = st.builds(Unauthorised, st.sampled_from([401, 403]), st.just("who"))
delivered = st.builds(Delivered, st.just(201), st.none() | st.just("511055"))
outcomes: st.SearchStrategy[Outcome] = delivered | rejected | unauthorised | passing
attempts = st.integers(1, 10_000)
chances = st.floats(0, 1)
schedules = st.builds(
    Schedule,
    st.lists(st.floats(0.001, 3600), min_size=1, max_size=10).map(lambda steps: tuple(accumulate(steps))),
    st.floats(1, 10**6),
)


@given(outcomes, attempts, seconds, schedules, chances)
def test_the_wait_is_within_the_cap_unless_the_server_asks_for_more(
    outcome: Outcome, attempt: int, age_s: float, schedule: Schedule, chance: float
) -> None:
    step = next_step(outcome, attempt, age_s, schedule, chance)
    wanted = outcome.retry_after_s if isinstance(outcome, TryLater) else None
    assert 0 <= step.wait_s <= max(schedule.waits_s[-1], min(wanted or 0.0, RETRY_AFTER_S_MAX))
    if step.settlement is Settlement.RETRY and wanted is not None:
        assert step.wait_s >= min(wanted, RETRY_AFTER_S_MAX), "the server's patience is respected"
    if step.settlement in (Settlement.DELIVERED, Settlement.PARKED):
        assert step.wait_s == 0


@given(outcomes, attempts, seconds, schedules, chances)
def test_parked_is_only_what_is_rejected_or_too_old(
    outcome: Outcome, attempt: int, age_s: float, schedule: Schedule, chance: float
) -> None:
    step = next_step(outcome, attempt, age_s, schedule, chance)
    too_old = age_s >= schedule.age_s_max and isinstance(outcome, TryLater | Unknown)
    assert (step.settlement is Settlement.PARKED) == (too_old or isinstance(outcome, Rejected))
    assert (step.settlement is Settlement.DELIVERED) == isinstance(outcome, Delivered)


@given(unauthorised, attempts, seconds, schedules, chances)
def test_a_refused_token_parks_nothing_however_old(
    outcome: Unauthorised, attempt: int, age_s: float, schedule: Schedule, chance: float
) -> None:
    assert next_step(outcome, attempt, age_s, schedule, chance).settlement is Settlement.HOLD


@pytest.mark.parametrize(("attempt", "cap"), [(1, 1.0), (2, 2.0), (3, 5.0), (4, 5.0), (10**6, 5.0)])
def test_the_wait_is_drawn_below_the_schedules_own_step(attempt: int, cap: float) -> None:
    def wait(chance: float) -> float:
        return next_step(Unknown("reset"), attempt, 0, SCHEDULE, chance).wait_s

    assert (wait(0), wait(0.5), wait(1)) == (0, cap / 2, cap)


@pytest.mark.parametrize(
    ("asks", "chance", "wait_s"),
    [(None, 1, 1), (0.0, 1, 1), (7.0, 0, 7), (0.5, 1, 1), (3600.0, 0, 3600), (86_400.0, 0, 3600)],
)
def test_retry_after_lengthens_the_wait_up_to_an_hour(asks: float | None, chance: int, wait_s: int) -> None:
    assert next_step(TryLater("busy", 503, asks), 1, 0, SCHEDULE, chance) == NextStep(Settlement.RETRY, wait_s, "busy")


def test_a_parked_delivery_says_why() -> None:
    assert next_step(Rejected(406, "Not Acceptable"), 1, 0, SCHEDULE, 1).reason == "Not Acceptable"
    late = next_step(TryLater("Bad Gateway", 502), 9, 100, SCHEDULE, 1)
    assert late == NextStep(Settlement.PARKED, 0, "given up after 100 s: Bad Gateway")
    assert next_step(TryLater("Bad Gateway", 502), 9, 99.9, SCHEDULE, 1).settlement is Settlement.RETRY

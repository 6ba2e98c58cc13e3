"""The checker's comparison, on histories made by hand: what is fine passes, and whatever is wrong is flagged.

A checker that cannot fail proves nothing, so each kind of fault has a history here that differs from a good one by just
that fault.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from benchmarks.faults.evidence import arrivals_of, mark_of
from benchmarks.faults.history import Arrival, Disturbance, Expected, Findings, Held, Message, Run, compare
from benchmarks.faults.load import Load, made_call
from benchmarks.faults.scenario import Scenario, known
from benchmarks.faults.scenarios import SCENARIOS
from bridge.cention.sandbox.state import Arrival as Seen
from bridge.cli.stories import KINDS, stories

A, B = (1000, 1000), (1001, 1001)
OPEN, END = Message(A, "c1", opens=True), Message(A, "c1", opens=False)
OPEN_2 = Message(A, "c2", opens=True)


def arrival(message: Message, at: int, mark: str = "", errand_id: str | None = None) -> Arrival:
    return Arrival(at, message.pair, message.call_id, message.opens, mark or str(message), errand_id)


GOOD = Run(
    expected=[Expected(OPEN, ("e1",)), Expected(END, ("e1", "e2")), Expected(OPEN_2, ("e3",))],
    accepted={"e1": 1000, "e2": 2000, "e3": 3000},
    arrivals=[arrival(OPEN, 1010, errand_id="7"), arrival(END, 2010), arrival(OPEN_2, 3010, errand_id="8")],
    active={(A, "c2"): "started"},
    held={(A, "c2"): Held("started", "8")},
    lease_ms=2000,
    forget_ms=1000,
)


def faults(run: Run) -> list[str]:
    return compare(run).faults


def test_a_history_as_it_should_be_has_no_fault() -> None:
    found = compare(GOOD)
    assert found == Findings(3, 3, 0, [], 0, [], [], [], [], [], slowest_ms=10)
    assert found.faults == []


# Lost


def test_a_message_that_never_arrived_is_lost() -> None:
    assert faults(replace(GOOD, arrivals=[GOOD.arrivals[0], GOOD.arrivals[2]])) == ["lost: 1000/1000 ends c1"]


def test_a_parked_message_is_lost_unless_cention_was_told_to_refuse_it() -> None:
    parked = replace(GOOD, arrivals=[GOOD.arrivals[0], GOOD.arrivals[2]], parked={END: "no such queue"})
    assert faults(parked) == ["lost: 1000/1000 ends c1 (parked: no such queue)"]
    allowed = [replace(one, may_park=True) for one in GOOD.expected]
    found = compare(replace(parked, expected=allowed))
    assert (found.faults, found.parked, found.arrived) == ([], 1, 2)


def test_a_message_that_may_be_parked_and_is_nowhere_is_lost() -> None:
    allowed = [replace(one, may_park=True) for one in GOOD.expected]
    assert faults(replace(GOOD, expected=allowed, arrivals=GOOD.arrivals[:2])) == [
        "lost: 1000/1000 opens c2",
        "lost: 1000/1000 c2 has an errand that is not its own",
    ]


@pytest.mark.parametrize(
    ("held", "what"),
    [
        ({}, "1000/1000 c2 is not active, and has not ended"),
        ({(A, "c2"): Held("started", "8"), (A, "c1"): Held("answered", "7")}, "1000/1000 c1 is active and has ended"),
        ({(A, "c2"): Held("held", "8")}, "1000/1000 c2 is held, not started"),
        ({(A, "c2"): Held("started", "7")}, "1000/1000 c2 has an errand that is not its own"),
        ({(A, "c2"): Held("started", None)}, "1000/1000 c2 has lost its errand"),
    ],
)
def test_a_mapping_that_disagrees_is_a_loss(held: dict[tuple[tuple[int, int], str], Held], what: str) -> None:
    assert faults(replace(GOOD, held=held)) == [f"lost: {what}"]


def test_an_errand_whose_id_was_cut_off_may_be_missing() -> None:
    assert faults(replace(GOOD, held={(A, "c2"): Held("started", None)}, cut=frozenset([str(OPEN_2)]))) == []


# Doubled


def with_double(at: int, **changes: object) -> Run:
    """The good history, in which the first opening comes again at `at`."""
    arrivals = sorted([*GOOD.arrivals, arrival(OPEN, at, errand_id="9")], key=lambda one: one.at)
    return replace(GOOD, arrivals=arrivals, **changes)  # type: ignore[arg-type]  # one field, named by the test


def test_a_double_without_a_cut_is_flagged() -> None:
    found = compare(with_double(1500))
    assert found.doubled == 1
    assert found.faults == ["doubled without a cut: 1000/1000 opens c1 (c1) after 490 ms"]


def test_a_double_whose_answer_was_cut_off_is_counted_and_explained() -> None:
    found = compare(with_double(1500, cut=frozenset([str(OPEN)])))
    assert (found.doubled, found.faults) == (1, [])


def test_a_cut_explains_only_its_own_message() -> None:
    assert len(faults(with_double(1500, cut=frozenset([str(END)])))) == 1


def test_a_killed_bridge_explains_what_it_had_just_sent() -> None:
    kill = Disturbance(1900, 1900, forgets=True)
    assert faults(with_double(2500, disturbances=[kill])) == []
    assert len(faults(with_double(2500, disturbances=[replace(kill, forgets=False)]))) == 1
    assert len(faults(with_double(2500, disturbances=[replace(kill, begin=2100, end=2100)]))) == 1, "long noted by then"


def test_every_further_arrival_needs_an_explanation_of_its_own() -> None:
    kill = Disturbance(1900, 1900, forgets=True)
    third = arrival(OPEN, 9000, errand_id="10")
    run = with_double(2500, disturbances=[kill])
    found = compare(replace(run, arrivals=[*run.arrivals, third]))
    assert (found.doubled, len(found.unexplained)) == (2, 1)


def test_one_message_under_two_ids_is_a_real_double() -> None:
    again = arrival(OPEN, 1500, mark="another message_id", errand_id="9")
    run = replace(GOOD, arrivals=[GOOD.arrivals[0], again, *GOOD.arrivals[1:]], cut=frozenset([str(OPEN)]))
    found = compare(run)
    assert (found.doubled, found.faults) == (0, ["effect doubled: 1000/1000 opens c1"])


def test_an_end_told_again_with_its_late_link_is_no_double() -> None:
    again = END._replace(ordinal=1)
    told = arrival(END, 2500, mark="the one with the link")
    run = replace(
        GOOD,
        expected=[*GOOD.expected[:2], Expected(again, ("e2",)), GOOD.expected[2]],
        arrivals=[*GOOD.arrivals[:2], told, GOOD.arrivals[2]],
    )
    assert faults(run) == []
    assert faults(replace(run, arrivals=GOOD.arrivals)) == ["lost: 1000/1000 ends again c1"]
    # Either of the two may be the parked one.
    allowed = replace(run, expected=[replace(one, may_park=True) for one in run.expected])
    assert faults(replace(allowed, arrivals=GOOD.arrivals, parked={again: "no"})) == []
    assert faults(replace(allowed, arrivals=GOOD.arrivals, parked={END: "no"})) == []


def test_what_nobody_asked_for_is_strange() -> None:
    stray = arrival(Message(B, "c9", opens=True), 1500)
    assert faults(replace(GOOD, arrivals=[*GOOD.arrivals, stray])) == ["strange: 1001/1001 opens c9"]


# Order


def test_messages_of_a_pair_out_of_order_are_flagged() -> None:
    first, second, third = GOOD.arrivals
    assert faults(replace(GOOD, arrivals=[first, third, second])) == [
        "inverted: 1000/1000 opens c2 came before 1000/1000 ends c1"
    ]
    assert len(compare(replace(GOOD, arrivals=[third, second, first])).inverted) == 2


def test_only_first_arrivals_count_for_the_order() -> None:
    late_double = [*GOOD.arrivals, arrival(OPEN, 4000, errand_id="9")]
    assert compare(replace(GOOD, arrivals=late_double)).inverted == []


def test_pairs_have_no_order_between_them_but_a_transfer_has() -> None:
    there = Message(B, "c1", opens=True)
    expected = [Expected(OPEN, ("e1",)), Expected(END, ("e2",)), Expected(there, ("e2",))]
    early = [arrival(OPEN, 1010), arrival(there, 1020), arrival(END, 2010)]
    run = replace(GOOD, expected=expected, arrivals=early, active={}, held={})
    assert faults(run) == []
    followed = [*expected[:2], replace(expected[2], follows=END)]
    assert faults(replace(run, expected=followed)) == ["inverted: 1001/1001 opens c1 came before 1000/1000 ends c1"]
    assert faults(replace(run, expected=followed, arrivals=[early[0], early[2], early[1]])) == []


# Late


def test_two_leases_after_acceptance_is_late() -> None:
    on_time, late = (replace(GOOD, arrivals=[*GOOD.arrivals[:2], arrival(OPEN_2, at)]) for at in (7000, 7001))
    assert compare(on_time).late == []
    assert compare(late).late == ["1000/1000 opens c2, 1 ms beyond the limit, 4001 ms in all"]
    assert compare(late).slowest_ms == 4001


def test_a_fault_moves_the_limit_to_two_leases_after_its_end() -> None:
    run = replace(GOOD, arrivals=[*GOOD.arrivals[:2], arrival(OPEN_2, 12_000)])
    assert compare(replace(run, disturbances=[Disturbance(3500, 8000)])).late == []
    assert len(compare(replace(run, disturbances=[Disturbance(3500, 7999)])).late) == 1
    assert len(compare(replace(run, disturbances=[Disturbance(1000, 2999)])).late) == 1, "over before it was accepted"
    assert len(compare(replace(run, disturbances=[Disturbance(7001, 9000)])).late) == 1, "late before it began"


# What the history is made of


def test_cuts_are_known_by_what_was_asked() -> None:
    errand = {"data": {"attributes": {"msg": {"message_id": "av-1"}, "integrationData": {}}}}
    obcall = {"data": {"attributes": {"deviceId": 1, "extensionId": 2, "dialedNumber": "+46701740605"}}}
    head = b"POST /s/demo/capi/json/x HTTP/1.1\r\nHost: a\r\n\r\n"
    assert mark_of(head + orjson.dumps(errand)) == "av-1"
    assert mark_of(head + orjson.dumps(obcall)) == "c3_end_obcall 1/2 +46701740605"
    assert mark_of(head + orjson.dumps(errand)[:20]) is None
    assert mark_of(b"\x00") is None


def test_an_ended_outbound_call_is_known_by_the_number_that_it_dialled() -> None:
    errand = Seen(1, 10, "c3_new_errands", 201, False, "av-1", "c1", 1, 2, end_session=False, errand_id=5)
    obcall = Seen(2, 20, "c3_end_obcall", 204, False, device_id=1, extension_id=2, dialed_number="0046701740606")
    seen = [errand, obcall, replace(obcall, dialed_number="+46701740699")]
    opens, known, unknown = arrivals_of(seen, {((1, 2), "0046701740606"): "c1"})
    assert (opens.call_id, opens.opens, opens.mark, opens.errand_id) == ("c1", True, "av-1", "5")
    assert (known.call_id, known.opens) == ("c1", False)
    assert unknown.call_id == "a call to +46701740699"


def test_every_kind_of_story_tells_what_its_events_ask_for() -> None:
    load = Load(1, "t", lambda: (), [(1000 + n, 1) for n in range(6)])
    seen, dialled = set(), 0
    told = stories(3, calls=300, start=datetime(2026, 1, 1, tzinfo=UTC), pairs=[(1000 + n, 1) for n in range(6)])
    for story in told:
        play = load.play_of(story)
        seen.add(story.name)
        assert len(play.expected) == len(story.expect.messages) + len(story.expect.late_links)
        ids = {event["eventId"] for event in play.events}
        assert all(set(one.because) <= ids for one in play.expected)
        for one in play.expected:
            kinds = {event["type"] for event in play.events if event["eventId"] in one.because}
            assert one.message.opens or kinds & {"call.ended", "call.transferred"}
        dialled += sum("calledNumber" in event and event.get("direction") == "outbound" for event in play.events)
    assert seen == set(KINDS)
    assert dialled > 50
    transfers = [one for one in load_expectations(3) if one.follows is not None]
    assert transfers
    assert all(one.follows and one.follows.pair != one.message.pair for one in transfers)


def load_expectations(seed: int) -> list[Expected]:
    load = Load(seed, "t", lambda: (), [(1000 + n, 1) for n in range(6)])
    told = stories(seed, calls=100, start=datetime(2026, 1, 1, tzinfo=UTC), pairs=[(1000 + n, 1) for n in range(6)])
    return [one for story in told for one in load.play_of(story).expected]


def test_no_two_outbound_calls_of_a_pair_dial_the_same() -> None:
    load = Load(1, "t", lambda: (), [(1000, 1), (1001, 1)])
    told = stories(5, calls=400, start=datetime(2026, 1, 1, tzinfo=UTC), pairs=[(1000, 1), (1001, 1)])
    numbers: dict[tuple[object, str], set[str]] = {}
    for story in told:
        for event in load.play_of(story).events:
            if event.get("direction") == "outbound":
                numbers.setdefault((event["deviceId"], event["calledNumber"]), set()).add(event["callId"])
    assert len(numbers) > 100
    assert all(len(calls) == 1 for calls in numbers.values())


def test_a_call_made_by_hand_is_opened_and_ended() -> None:
    play = made_call("x", A, may_park=True)
    assert [one.message for one in play.expected] == [Message(A, "x", opens=True), Message(A, "x", opens=False)]
    assert play.pairs == {A}


# What the runs are


def test_the_documentation_lists_every_scenario() -> None:
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text("utf-8")
    listed = page.partition("| scenario | what happens |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    assert listed == [f"| `{scenario.name}` | {scenario.about} |" for scenario in SCENARIOS.values()]


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_scenario_sets_what_there_is(scenario: Scenario) -> None:
    meant = {name for name, value in scenario.settings.items() if value is not None}
    assert known(scenario.settings).keys() == meant, "a misspelt setting would leave the scenario without its point"

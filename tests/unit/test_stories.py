"""Simulated calls: every event is one by the contract, and every story comes to what it says it comes to."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.calls.events import Pair
from bridge.cli.simulate import DEFAULT_SEED
from bridge.cli.stories import KINDS, Event, Story, agents, agents_for, interleave, stories

START = datetime(2026, 11, 24, 10, 15, 30, tzinfo=UTC)
TYPES = {f"call.{name}" for name in ("started", "answered", "held", "retrieved", "transferred", "updated", "ended")}
TEXTS = ("callingName", "queueName", "queueNumber", "pagingNumber", "pagingName", "link", "cuid", "cause", "endedBy")
FICTION = re.compile(r"(?:\+|00|)46(?:7017406(?:0[5-9]|[1-9][0-9])|8465004[0-9]{2})")

some_stories = given(
    seed=st.integers(),
    staff=st.integers(1, 30),
    speed=st.floats(0.5, 1000),
    rate=st.floats(0.1, 1000),
    concurrent=st.none() | st.integers(1, 30),
)


def is_pair(value: Any) -> bool:
    return all(type(value.get(key)) is int and 0 <= value[key] < 2**53 for key in ("deviceId", "extensionId"))


def is_number(value: Any) -> bool:
    """A number in one of the spellings of contract section 1, and from the ranges for fiction."""
    if not isinstance(value, str):
        return False
    bare = re.sub(r"^(tel:|sip:)", "", value).split("@")[0]
    return FICTION.fullmatch(re.sub(r"[ -]", "", bare)) is not None


def faults(event: Event) -> list[str]:
    """What contract section 1 finds wrong with an event."""
    found = [key for key in ("eventId", "callId") if not (isinstance(event[key], str) and 1 <= len(event[key]) <= 128)]
    if event["type"] not in TYPES:
        found.append("type")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|\+01:00)", event["occurredAt"]):
        found.append("occurredAt")
    if not is_pair(event):
        found.append("pair")
    if event["type"] == "call.started" and not {"direction", "calledNumber"} <= event.keys():
        found.append("start")
    if event.get("direction", "inbound") not in ("inbound", "outbound"):
        found.append("direction")
    if "calledNumber" in event and not is_number(event["calledNumber"]):
        found.append("calledNumber")
    if (caller := event.get("callingNumber")) not in (None, "anonymous") and not is_number(caller):
        found.append("callingNumber")
    found += [key for key in TEXTS if not isinstance(event.get(key), str | None)]
    if event["type"] == "call.transferred" and not is_pair(event["transferredTo"]):
        found.append("transferredTo")
    extra = event.get("extraData", {})
    if not extra.keys() <= {"comment", "callReason", "appointmentTimestamp"} or not all(
        isinstance(value, str) for value in extra.values()
    ):
        found.append("extraData")
    if type(event.get("sequence", 0)) is not int:
        found.append("sequence")
    return found


def pair_of(event: Event) -> Pair:
    return Pair(event["deviceId"], event["extensionId"])


def happened(event: Event) -> datetime:
    return datetime.fromisoformat(event["occurredAt"])


def messages_by_pair(story: Story) -> dict[Pair, list[tuple[bool, str]]]:
    """What Cention is to be told, worked out anew: the distinct events in the order they happened."""
    events = {event["eventId"]: event for _, event in story.steps}
    told = defaultdict(list)
    active = set()
    for event in sorted(events.values(), key=lambda event: int(event["eventId"].rpartition("-e")[2])):
        call, pair = event["callId"], pair_of(event)
        if (call, pair) not in active and "calledNumber" in event:
            active.add((call, pair))
            told[pair].append((True, call))
        if event["type"] in ("call.ended", "call.transferred"):
            active.remove((call, pair))
            told[pair].append((False, call))
        if event["type"] == "call.transferred":
            target = pair_of(event["transferredTo"])
            active.add((call, target))
            told[target].append((True, call))
    assert not active, "a call has no end"
    return dict(told)


def tell(**more: Any) -> list[Story]:
    arguments: dict[str, Any] = {"seed": 7, "calls": 400, "start": START, "pairs": agents(60)}
    return list(stories(**(arguments | more)))


def one_kind(name: str, calls: int = 60) -> list[Story]:
    return tell(calls=calls, kinds=[name])


def types(story: Story) -> list[str]:
    return [event["type"].removeprefix("call.") for _, event in story.steps]


@some_stories
@settings(deadline=None, max_examples=60)
def test_every_event_is_one_by_the_contract(seed: int, staff: int, speed: float, rate: float, concurrent: Any) -> None:
    for story in tell(
        seed=seed, calls=40, pairs=agents(staff), speed=speed, rate=rate, concurrent=concurrent, run_id="r" * 64
    ):
        for _, event in story.steps:
            assert faults(event) == []


@some_stories
@settings(deadline=None, max_examples=60)
def test_every_story_comes_to_what_it_says(seed: int, staff: int, speed: float, rate: float, concurrent: Any) -> None:
    for story in tell(seed=seed, calls=40, pairs=agents(staff), speed=speed, rate=rate, concurrent=concurrent):
        expected = {message.pair: story.expect.of_pair(message.pair) for message in story.expect.messages}
        assert expected == messages_by_pair(story)
        ids = [event["eventId"] for _, event in story.steps]
        assert story.expect.events == len(set(ids))
        assert story.expect.duplicates == len(ids) - len(set(ids))


def test_events_happen_in_the_order_of_their_ids_and_are_not_sent_before() -> None:
    for story in tell():
        sent = {event["eventId"]: (offset_s, event) for offset_s, event in reversed(story.steps)}
        in_order = [sent[event_id] for event_id in sorted(sent, key=lambda text: int(text.rpartition("-e")[2]))]
        assert all(happened(earlier) <= happened(later) for (_, earlier), (_, later) in pairwise(in_order))
        for offset_s, event in in_order:
            assert happened(event) <= START + timedelta(seconds=offset_s)
            assert happened(event) >= START + timedelta(seconds=story.begin_s - 0.001)


def test_a_sequence_counts_the_events_of_its_call() -> None:
    numbered = defaultdict(set)
    for story in tell():
        for _, event in story.steps:
            if "sequence" in event:
                numbered[event["callId"]].add((happened(event), event["sequence"]))
    assert numbered
    for numbers in numbered.values():
        assert [number for _, number in sorted(numbers)] == list(range(1, len(numbers) + 1))


def test_the_same_seed_and_run_tell_the_same_and_another_run_shares_no_id() -> None:
    assert tell() == tell()
    assert tell(run_id="a") == tell(run_id="a")
    later = START + timedelta(milliseconds=1)
    runs = [tell(), tell(seed=8), tell(start=later), tell(run_id="a"), tell(run_id="b")]
    events = [{event["eventId"] for story in run for _, event in story.steps} for run in runs]
    calls = [{event["callId"] for story in run for _, event in story.steps} for run in runs]
    for ids in (events, calls):
        assert len(set().union(*ids)) == sum(map(len, ids))


def test_a_story_does_not_depend_on_how_many_are_told() -> None:
    assert tell(calls=5) == tell()[:5]
    assert list(islice(stories(7, calls=0, start=START, pairs=agents(60)), 400)) == tell()


def test_every_kind_is_told_and_a_lone_agent_transfers_to_nobody() -> None:
    told = Counter(story.name for story in tell(calls=2000))
    assert told.keys() == KINDS.keys()
    assert told["inbound"] > told["outbound"] > told["lost_start"]
    assert not [story for story in tell(pairs=[(1, 2)]) if "transferred" in types(story)]


def test_the_calls_of_a_plain_simulate_are_of_every_kind() -> None:
    assert {story.name for story in tell(seed=DEFAULT_SEED, calls=50, pairs=agents(agents_for(2)))} == KINDS.keys()


def test_calls_arrive_at_the_rate() -> None:
    told = tell(calls=3000, rate=5, pairs=agents(agents_for(5)))
    assert 540 < told[-1].begin_s < 660
    # With enough agents nobody waits: a tenth of the speed takes ten times as long, story by story.
    for quick, slow in zip(tell(pairs=agents(500)), tell(pairs=agents(500), speed=0.1), strict=True):
        assert quick.name == slow.name
        duration_s = quick.steps[-1].offset_s - quick.begin_s
        assert slow.steps[-1].offset_s - slow.begin_s == pytest.approx(duration_s * 10)


def of_time(told: Iterable[Story]) -> list[tuple[float, float, set[Pair]]]:
    return [
        (story.begin_s, story.steps[-1].offset_s, {message.pair for message in story.expect.messages}) for story in told
    ]


def test_an_agent_is_in_one_story_at_a_time() -> None:
    busy_until: dict[Pair, float] = {}
    for begin_s, end_s, pairs in of_time(tell(rate=100, pairs=agents(9))):
        for pair in pairs:
            assert busy_until.get(pair, 0.0) <= begin_s
            busy_until[pair] = end_s
    assert len(busy_until) == 9


def test_no_more_stories_are_under_way_than_wanted() -> None:
    ends: list[float] = []
    most = 0
    for begin_s, end_s, _ in of_time(tell(rate=100, concurrent=4)):
        ends = [other for other in ends if other > begin_s] + [end_s]
        most = max(most, len(ends))
    assert most == 4


def test_the_stream_is_in_time_and_keeps_the_order_of_each_story() -> None:
    told = tell(rate=20)
    stream = list(interleave(iter(told)))
    assert [due.due_s for due in stream] == sorted(due.due_s for due in stream)
    assert sum(due.last for due in stream) == len(told)
    by_story = defaultdict(list)
    for due in stream:
        by_story[due.event["callId"].rpartition("-c")[0]].append(due.event)
    for story in told:
        events = [event for _, event in story.steps]
        assert by_story[events[0]["callId"].rpartition("-c")[0]] == events
    assert any(one.event["callId"] != other.event["callId"] and not one.last for one, other in pairwise(stream)), (
        "calls take place side by side"
    )


def test_an_endless_telling_is_read_no_further_than_needed() -> None:
    read = count()
    endless = (story for story, _ in zip(stories(1, calls=0, start=START), read, strict=False))
    assert len(list(islice(interleave(endless), 500))) == 500
    assert next(read) < 400


def test_held_calls_are_held() -> None:
    assert all("held" in types(story) for story in one_kind("inbound_held"))
    assert any("retrieved" in types(story) for story in one_kind("inbound_held"))


def test_outbound_calls_are_answered_or_not() -> None:
    for story in one_kind("outbound"):
        assert types(story) == ["started", "answered", "ended"]
        assert story.steps[0].event["direction"] == "outbound"
    for story in one_kind("outbound_no_answer"):
        assert types(story) == ["started", "ended"]
        assert story.steps[1].event["cause"] in ("no_answer", "busy")


def test_a_consultation_takes_place_on_the_pair_that_transfers() -> None:
    for story in one_kind("attended_transfer"):
        events = [event for _, event in story.steps]
        transfer = next(event for event in events if event["type"] == "call.transferred")
        consultation = [event for event in events if event["callId"] != transfer["callId"]]
        assert [event["type"] for event in consultation] == ["call.started", "call.answered", "call.ended"]
        assert {pair_of(event) for event in consultation} == {pair_of(transfer)}
        assert pair_of(events[-1]) == pair_of(transfer["transferredTo"]) != pair_of(transfer)
    assert all("transferred" in types(story) for story in one_kind("blind_transfer"))


def test_abandoned_and_withheld_calls() -> None:
    for story in one_kind("abandoned"):
        assert types(story) == ["started", "ended"]
        assert story.steps[1].event["endedBy"] == "caller"
    ways = {str(story.steps[0].event.get("callingNumber", "absent")) for story in one_kind("withheld")}
    assert ways == {"absent", "None", "anonymous"}
    assert not any(story.steps[0].event.get("callingName") for story in one_kind("withheld"))


def test_a_recording_link_comes_late() -> None:
    orders = Counter(tuple(types(story))[2:] for story in one_kind("late_link"))
    assert orders.keys() == {("updated", "ended"), ("ended", "updated")}
    for story in one_kind("late_link"):
        after_the_end = types(story)[-1] == "updated"
        assert bool(story.expect.late_links) == after_the_end


def test_duplicates_are_the_same_event_again() -> None:
    for story in one_kind("duplicates") + one_kind("transfer_duplicates"):
        assert story.expect.duplicates > 0
        first: dict[str, Event] = {}
        for _, event in story.steps:
            assert first.setdefault(event["eventId"], event) == event


@pytest.mark.parametrize(
    ("kind", "order"),
    [("end_before_start", ["ended", "started"]), ("answered_before_started", ["answered", "started", "ended"])],
)
def test_events_overtake_each_other_within_a_second(kind: str, order: Sequence[str]) -> None:
    for story in one_kind(kind):
        assert types(story) == list(order)
        (_, overtaking), (sent_s, overtaken) = story.steps[:2]
        assert happened(overtaken) < happened(overtaking)
        assert START + timedelta(seconds=sent_s) - happened(overtaken) < timedelta(seconds=1)


def test_a_lost_start_is_made_up_for_by_the_answer() -> None:
    for story in one_kind("lost_start"):
        assert types(story) == ["answered", "ended"]
        assert {"direction", "calledNumber"} <= story.steps[0].event.keys()


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": START.replace(tzinfo=None)},
        {"rate": 0},
        {"speed": 0},
        {"calls": -1},
        {"concurrent": 0},
        {"run_id": ""},
        {"run_id": "r" * 65},
        {"pairs": []},
        {"pairs": [(1, 1), (1, 1)]},
        {"kinds": ["polka"]},
        {"kinds": ["blind_transfer"], "pairs": [(1, 1)]},
    ],
)
def test_what_makes_no_sense_is_refused_before_the_first_story(wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"seed": 1, "calls": 1, "start": START}
    with pytest.raises(ValueError, match=r".+"):
        stories(**(arguments | wrong))

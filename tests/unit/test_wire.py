"""The call event's JSON -> `CallEvent` or `Rejection`: each rule of contract section 1, and hostile input."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.calls.events import CallEvent, Direction, EventKind, Facts, Pair
from bridge.calls.verdicts import BODY_CHARS_MAX, Rejection
from tests.unit.wire_support import NOW_MS, START, accepted, faults, sent, translator


def test_a_whole_event() -> None:
    body = orjson.dumps(START | {"unknown": [1]}).decode()
    event = translator()(
        START
        | {
            "callingNumber": "sip:+46701740605@pbx",
            "callingName": "Doris Doe",
            "queueName": "Support",
            "queueNumber": "7",
            "pagingNumber": "1",
            "pagingName": "p",
            "link": "https:www.google.com",
            "cuid": "19121212-1212",
            "extraData": {"comment": "c", "callReason": "r", "appointmentTimestamp": "1", "unknown": 1},
            "cause": "normal",
            "endedBy": "caller",
            "sequence": -3,
            "transferredTo": {"deviceId": 1, "extensionId": 2},
            "unknown": [1],
        },
        body,
    )
    assert event == CallEvent(
        event_id="e-1",
        kind=EventKind.STARTED,
        occurred_at=NOW_MS,
        call_id="c-1",
        pair=Pair(1000, 1001),
        facts=Facts(
            direction=Direction.INBOUND,
            called_number="+46846500400",
            dest_number="46846500400",
            calling_number="46701740605",
            calling_name="Doris Doe",
            queue_name="Support",
            queue_number="7",
            paging_number="1",
            paging_name="p",
            link="https:www.google.com",
            cuid="19121212-1212",
            comment="c",
            call_reason="r",
            appointment_timestamp="1",
            cause="normal",
            ended_by="caller",
        ),
        sequence=-3,
        transferred_to=None,  # the new agent of a transfer; this is none
        body=body,
    )
    assert type(event.kind) is EventKind
    assert type(event.facts.direction) is Direction


def test_the_least_event() -> None:
    event = accepted(type="call.ended", direction=..., calledNumber=...)
    assert event.kind is EventKind.ENDED
    assert event.facts == Facts()
    assert event.notes == ()


def test_empty_texts_count_as_not_told() -> None:
    names = ["callingNumber", "callingName", "queueName", "queueNumber", "pagingNumber", "pagingName", "link"]
    empty: dict[str, Any] = dict.fromkeys([*names, "cuid", "cause", "endedBy"], "")
    event = accepted(**empty, extraData={"comment": "", "callReason": "", "appointmentTimestamp": ""})
    assert event.facts == accepted().facts


def test_every_wire_type_has_its_kind_and_the_bridges_own_have_none() -> None:
    for kind in EventKind:
        answer = sent(type=kind.value, transferredTo={"deviceId": 5, "extensionId": 5})
        if kind.value.startswith("call."):
            assert isinstance(answer, CallEvent)
            assert answer.kind is kind
            assert (answer.transferred_to == Pair(5, 5)) is (kind is EventKind.TRANSFERRED)
        else:
            assert isinstance(answer, Rejection)


KEYS = [0, 1000, 2**53 - 1, 1000.0]
NO_KEYS: list[tuple[object, str]] = [
    ("1000", "wrong_type"),
    (True, "wrong_type"),
    (None, "wrong_type"),
    (1000.5, "wrong_type"),
    ([1], "wrong_type"),
    ({}, "wrong_type"),
    (float("inf"), "wrong_type"),
    (float("nan"), "wrong_type"),
    (-1, "out_of_range"),
    (2**53, "out_of_range"),
    (2.0**53, "out_of_range"),
    (1e300, "out_of_range"),
    (10**400, "out_of_range"),
]


@pytest.mark.parametrize("field", ["deviceId", "extensionId"])
@pytest.mark.parametrize("key", KEYS)
def test_keys(field: str, key: float) -> None:
    pair = accepted(**{field: key}).pair
    told = pair.device_id if field == "deviceId" else pair.extension_id
    assert told == key
    assert type(told) is int


@pytest.mark.parametrize("field", ["deviceId", "extensionId"])
@pytest.mark.parametrize(("key", "code"), NO_KEYS, ids=[str(key)[:8] for key, _ in NO_KEYS])
def test_no_keys(field: str, key: object, code: str) -> None:
    assert faults(**{field: key}) == [(f"/{field}", code)]
    to = {"deviceId": 1, "extensionId": 1} | {field: key}
    assert faults(type="call.transferred", transferredTo=to) == [(f"/transferredTo/{field}", code)]


FIELD_FAULTS: dict[str, tuple[str, Any, str]] = {
    "eventId missing": ("eventId", ..., "missing"),
    "eventId empty": ("eventId", "", "empty"),
    "eventId long": ("eventId", "x" * 129, "too_long"),
    "eventId control": ("eventId", "a\nb", "control_character"),
    "eventId number": ("eventId", 7, "wrong_type"),
    "eventId half a pair": ("eventId", "a\ud800", "not_unicode"),
    "callId missing": ("callId", ..., "missing"),
    "callId C1": ("callId", "a\x9fb", "control_character"),
    "callId final line end": ("callId", "a\n", "control_character"),
    "type missing": ("type", ..., "missing"),
    "type unknown": ("type", "call.began", "unknown_type"),
    "type of ours": ("type", "bridge.expired", "unknown_type"),
    "type number": ("type", 1, "wrong_type"),
    "type half a pair": ("type", "\udfff", "not_unicode"),
    "occurredAt missing": ("occurredAt", ..., "missing"),
    "occurredAt number": ("occurredAt", 1795500000, "wrong_type"),
    "occurredAt null": ("occurredAt", None, "wrong_type"),
    "direction unknown": ("direction", "sideways", "unknown_direction"),
    "direction null": ("direction", None, "wrong_type"),
    "direction missing": ("direction", ..., "missing"),
    "calledNumber missing": ("calledNumber", ..., "missing"),
    "calledNumber empty": ("calledNumber", "", "missing"),
    "calledNumber null": ("calledNumber", None, "wrong_type"),
    "calledNumber integer": ("calledNumber", 46846500400, "wrong_type"),
    "calledNumber long": ("calledNumber", "4" * 1025, "too_long"),
    "calledNumber withheld": ("calledNumber", "anonymous", "withheld"),
    "calledNumber short": ("calledNumber", "1000", "short_number"),
    "callingNumber integer": ("callingNumber", 46701740605, "wrong_type"),
    "callingNumber none": ("callingNumber", "hello", "not_a_number"),
    "callingNumber half a pair": ("callingNumber", "\ud800", "not_unicode"),
    "callingName integer": ("callingName", 1, "wrong_type"),
    "callingName long": ("callingName", "x" * 1025, "too_long"),
    "queueName null": ("queueName", None, "wrong_type"),
    "queueNumber integer": ("queueNumber", 7, "wrong_type"),
    "link control": ("link", "https://a\x00", "control_character"),
    "link long": ("link", "x" * 2049, "too_long"),
    "cuid integer": ("cuid", 1912, "wrong_type"),
    "extraData text": ("extraData", "c", "wrong_type"),
    "extraData null": ("extraData", None, "wrong_type"),
    "sequence text": ("sequence", "1", "wrong_type"),
    "sequence null": ("sequence", None, "wrong_type"),
    "sequence fraction": ("sequence", 1.5, "wrong_type"),
    "sequence great": ("sequence", 2**53, "out_of_range"),
    "transferredTo array": ("transferredTo", [1, 2], "wrong_type"),
    "transferredTo null": ("transferredTo", None, "wrong_type"),
}


@pytest.mark.parametrize(("field", "told", "code"), FIELD_FAULTS.values(), ids=FIELD_FAULTS)
def test_a_faulty_field(field: str, told: Any, code: str) -> None:
    assert faults(**{field: told}) == [(f"/{field}", code)]


def test_bounds_are_inclusive() -> None:
    event = accepted(eventId="x" * 128, link="x" * 2048, cuid="x" * 1024, extraData={"comment": "x" * 4096})
    assert event.facts.comment == "x" * 4096
    assert faults(extraData={"comment": "x" * 4097}) == [("/extraData/comment", "too_long")]


def test_a_name_in_any_script_and_an_id_with_an_emoji() -> None:
    assert accepted(callingName="Åsa 王", eventId="~😀" * 64).facts.calling_name == "Åsa 王"


def test_every_fault_at_once_in_the_order_of_the_fields() -> None:
    assert faults(
        eventId=...,
        occurredAt="2020-01-01T00:00:00Z",
        deviceId="1000",
        extensionId=-1,
        direction=...,
        calledNumber="1177",
        callingNumber="hello",
        link="\x00",
        extraData={"comment": 1, "callReason": None},
        transferredTo={"deviceId": 1.5},
    ) == [
        ("/eventId", "missing"),
        ("/occurredAt", "clock_behind"),
        ("/deviceId", "wrong_type"),
        ("/extensionId", "out_of_range"),
        ("/direction", "missing"),
        ("/calledNumber", "short_number"),
        ("/callingNumber", "not_a_number"),
        ("/link", "control_character"),
        ("/extraData/comment", "wrong_type"),
        ("/extraData/callReason", "wrong_type"),
        ("/transferredTo/deviceId", "wrong_type"),
        ("/transferredTo/extensionId", "missing"),
    ]


def test_an_empty_object() -> None:
    required = ["eventId", "type", "occurredAt", "callId", "deviceId", "extensionId"]
    answer = translator()({}, "{}")
    assert isinstance(answer, Rejection)
    assert [(fault.pointer, fault.code) for fault in answer.faults] == [(f"/{name}", "missing") for name in required]


@pytest.mark.parametrize("value", [None, 1, "x", True, [], [START], float("inf")])
def test_no_object(value: object) -> None:
    answer = translator()(value, "x")
    assert isinstance(answer, Rejection)
    assert [(fault.pointer, fault.code) for fault in answer.faults] == [("", "not_an_object")]
    assert answer.event_id is None
    assert answer.body == "x"


def test_a_transfer_needs_another_agent() -> None:
    assert faults(type="call.transferred") == [("/transferredTo", "missing")]
    own = {"deviceId": 1000, "extensionId": 1001}
    assert faults(type="call.transferred", transferredTo=own) == [("/transferredTo", "same_pair")]
    other = {"deviceId": 1000, "extensionId": 1002}
    assert accepted(type="call.transferred", transferredTo=other).transferred_to == Pair(1000, 1002)
    # An own pair that could not be read is not the same as any.
    zero = {"deviceId": 0, "extensionId": 1001}
    assert faults(type="call.transferred", deviceId=None, transferredTo=zero) == [("/deviceId", "wrong_type")]


TIMES = {
    "2026-11-24T06:00:00Z": 1_795_500_000_000,
    "2026-11-24t06:00:00z": 1_795_500_000_000,
    "2026-11-24T06:00:00.5-00:00": 1_795_500_000_500,
    "2026-11-24T06:00:00.2509999999Z": 1_795_500_000_250,
    "2026-11-24T05:30:00.001-00:30": 1_795_500_000_001,
    "2026-11-25T05:59:00+23:59": 1_795_500_000_000,
    "2026-11-24T05:59:60Z": 1_795_500_000_000,
    "2026-11-24T05:59:60.25Z": 1_795_500_000_250,
}


@pytest.mark.parametrize(("text", "ms"), TIMES.items(), ids=TIMES)
def test_times(text: str, ms: int) -> None:
    assert accepted(occurredAt=text).occurred_at == ms


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "now",
            "2026-11-24",
            "2026-11-24T06:00:00",
            "2026-11-24 06:00:00Z",
            "20261124T060000Z",
            "2026-W48-2T06:00Z",
        ),
        *("2026-11-24T06:00Z", "2026-11-24T06:00:00+01", "2026-11-24T06:00:00+0100", "2026-11-24T06:00:00.Z"),
        *("2026-02-30T06:00:00Z", "2026-11-24T24:00:00Z", "2026-11-24T06:60:00Z", "2026-11-24T06:00:61Z"),
        *("2026-11-24T06:00:00+24:00", "2026-11-24T06:00:00+01:60", "0000-01-01T00:00:00Z", "2026-11-24T06:00:00,5Z"),
        *("\u0662026-11-24T06:00:00Z", "2026-11-24T06:00:00Z\n", "1795500000", "10000-01-01T00:00:00Z"),
    ],
)
def test_no_times(text: str) -> None:
    assert faults(occurredAt=text) == [("/occurredAt", "bad_timestamp")]


def test_clocks() -> None:
    def at(offset_ms: int) -> str:
        return (
            f"2026-11-24T{offset_ms // 3_600_000:02}:{offset_ms // 60_000 % 60:02}:{offset_ms % 60_000 / 1000:06.3f}Z"
        )

    now = 6 * 3_600_000 + 250
    assert accepted(occurredAt=at(now + 300_000))
    assert faults(occurredAt=at(now + 300_001)) == [("/occurredAt", "clock_ahead")]
    assert accepted(occurredAt=at(now - 3_600_000))
    assert faults(occurredAt=at(now - 3_600_001)) == [("/occurredAt", "clock_behind")]
    assert faults(occurredAt="9999-12-31T23:59:59-23:59") == [("/occurredAt", "clock_ahead")]
    assert faults(occurredAt="0001-01-01T00:00:00+23:59") == [("/occurredAt", "clock_behind")]


def test_only_a_start_that_opens_an_errand_needs_an_msisdn() -> None:
    inbound_only = translator(opens=frozenset([Direction.INBOUND]))
    outbound = accepted(inbound_only, direction="outbound", calledNumber="1177").facts
    assert (outbound.called_number, outbound.dest_number) == ("1177", None)
    assert faults(inbound_only, calledNumber="1177") == [("/calledNumber", "short_number")]
    assert faults(inbound_only, direction="outbound", calledNumber="hello") == [("/calledNumber", "not_a_number")]
    # With no direction, the number is judged as what every direction needs of it.
    assert faults(direction=..., calledNumber="1177") == [("/direction", "missing"), ("/calledNumber", "short_number")]
    assert faults(inbound_only, direction=..., calledNumber="1177") == [("/direction", "missing")]


def test_national_numbers_need_a_region() -> None:
    assert accepted(calledNumber="08-465 004 00").facts.dest_number == "46846500400"
    assert faults(translator(region=None), calledNumber="08-465 004 00") == [("/calledNumber", "national_number")]
    with pytest.raises(ValueError, match="region"):
        translator(region="se")


LATER = [kind.value for kind in EventKind if kind.value.startswith("call.") and kind is not EventKind.STARTED]


@pytest.mark.parametrize("kind", LATER)
def test_a_later_event_is_not_refused_for_its_numbers(kind: str) -> None:
    to = {"deviceId": 5, "extensionId": 5}
    event = accepted(type=kind, calledNumber="1-800-FLOWERS", callingNumber="+99 hello", transferredTo=to)
    assert (event.facts.called_number, event.facts.dest_number, event.facts.calling_number) == (None, None, None)
    assert [note.split()[0] for note in event.notes] == ["calledNumber", "callingNumber"]
    assert "FLOWERS" not in "".join(event.notes)
    assert "hello" not in "".join(event.notes)
    kept = accepted(type=kind, calledNumber="1177", callingNumber="1000", transferredTo=to)
    assert (kept.facts.called_number, kept.facts.dest_number, kept.facts.calling_number) == ("1177", None, "1000")
    assert kept.notes == ()
    withheld = accepted(type=kind, calledNumber="anonymous", transferredTo=to)
    assert withheld.facts.called_number is None
    assert "withheld" in withheld.notes[0]


@pytest.mark.parametrize("caller", [..., None, "", "anonymous", "Unknown", "sip:anonymous@anonymous.invalid"])
def test_withheld_callers(caller: Any) -> None:
    facts = accepted(callingNumber=caller, callingName=caller).facts
    assert (facts.calling_number, facts.calling_name) == (None, None)


def test_callers_that_are_no_msisdn() -> None:
    assert accepted(callingNumber="1000").facts.calling_number == "1000"
    assert accepted(callingNumber="Alice <sip:alice@pbx>").facts.calling_number == "alice@pbx"


def test_faults_and_notes_repeat_no_number_name_or_cuid() -> None:
    told = {"callingNumber": "x46701740605", "callingName": "Doris\ud800", "cuid": 19121212, "link": "x\x00secret"}
    answer = sent(calledNumber="46846500400123456", deviceId="13371337", type="call.Doris", **told)
    assert isinstance(answer, Rejection)
    words = json.dumps([answer.detail, *[(fault.code, fault.detail) for fault in answer.faults]])
    for secret in ("46701740605", "Doris", "19121212", "secret", "46846500400", "13371337"):
        assert secret not in words


def test_a_rejection_says_whose_it_is_and_keeps_a_bounded_body() -> None:
    def rejection(event_id: Any, body: str) -> Rejection:
        answer = translator()(START | {"eventId": event_id, "deviceId": "1"}, body)
        assert isinstance(answer, Rejection)
        return answer

    assert rejection("e-9", "x" * (BODY_CHARS_MAX + 1)).body == "x" * BODY_CHARS_MAX
    assert rejection("e-9", "").event_id == "e-9"
    assert rejection(9, "").event_id is None
    assert rejection("x" * 500, "").event_id == "x" * 128
    half = rejection("a\ud800", "b\ud800")
    assert (half.event_id, half.body) == ("a\\ud800", "b\\ud800")


def test_a_body_that_no_store_could_encode_is_escaped() -> None:
    event = translator()(START, "å\ud800")
    assert isinstance(event, CallEvent)
    assert event.body == "å\\ud800"


def test_every_code_of_a_fault_is_documented() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text()
    codes = {code for _, _, code in FIELD_FAULTS.values()} | {code for _, code in NO_KEYS}
    for code in codes | {
        "not_an_object",
        "bad_timestamp",
        "clock_ahead",
        "clock_behind",
        "same_pair",
        "mapping_failed",
    }:
        assert f"`{code}`" in documented, code

"""Effects as documents: where each fact goes, what stands in for a missing one, and the JSON type of every member."""

from string import Template
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import FACT_NAMES, Direction, Facts, Pair
from bridge.cention.documents import END_ERRANDS, NEW_ERRANDS, Attributes, NewErrand, request_body
from bridge.cention.sandbox.checks import Refused, checked
from bridge.delivery.render import WITHHELD, CannotRender, Renderer, Text
from bridge.settings import TEMPLATE_FIELDS

RENDERER = Renderer(
    subject="Call from ${callingNumber} to ${calledNumber}",
    body="${direction} ${queueName}/${queueNumber} ${startedAt}",
    queue_name="outbound",
    queue_number="0",
    close_user=("cention", "1234"),
)
AT = 1_795_514_400_250  # 2026-11-24T10:00:00.250Z
INBOUND = Facts(
    direction=Direction.INBOUND,
    called_number="08-465 004 01",
    dest_number="46846500401",
    calling_number="46701740605",
    calling_name="Åsa Öberg",
    queue_name="EHS",
    queue_number="123",
    paging_number="12345",
    paging_name="GP office",
    link="https://rec.example/1",
    cuid="5462-13-6485",
    comment="internal",
    call_reason="reschedule",
    appointment_timestamp="1593047865",
)
OUTBOUND = Facts(direction=Direction.OUTBOUND, called_number="00701740606", dest_number="46701740606")


def effect(facts: Facts, kind: EffectKind = EffectKind.OPEN_ERRAND) -> Effect:
    return Effect("av-1-open_errand-0", kind, "c-1", Pair(1000, 1001), AT, facts)


def attributes(document: Attributes | bytes, resource_type: str = NEW_ERRANDS) -> Any:
    """What is sent, as JSON."""
    data = orjson.loads(request_body(resource_type, document))["data"]
    assert set(data) == {"type", "attributes"}, "an id is never sent"
    return data["attributes"]


def new_errand(facts: Facts, *, end_session: bool = False, renderer: Renderer = RENDERER) -> Any:
    return attributes(renderer.new_errand(effect(facts), end_session=end_session))


def test_an_inbound_call_says_all_that_is_known_of_it() -> None:
    assert new_errand(INBOUND) == {
        "msg": {
            "message_id": "av-1-open_errand-0",
            "name": "Åsa Öberg",
            "from": "46701740605",
            "subject": "Call from 46701740605 to 46846500401",
            "body": "inbound EHS/123 2026-11-24T10:00:00.250Z",
        },
        "integrationData": {
            "integrationName": "aventa",
            "referenceId": "c-1",
            "deviceId": 1000,
            "extensionId": 1001,
            "link": "https://rec.example/1",
            "endSession": False,
            "destNumber": "46846500401",
            "pagingNumber": "12345",
            "pagingName": "GP office",
            "queueName": "EHS",
            "queueNumber": "123",
            "extraData": {
                "comment": "internal",
                "callReason": "reschedule",
                "appointmentTimestamp": "1593047865",
            },
        },
        "cuid": "5462-13-6485",
    }


def test_an_outbound_call_is_from_the_party_that_was_called() -> None:
    facts = OUTBOUND._replace(calling_number="46846500401", calling_name="The centre")
    told = new_errand(facts)
    assert told["msg"]["from"] == told["integrationData"]["destNumber"] == "46701740606"
    assert told["msg"]["name"] == ""
    assert "cuid" not in told


def test_what_no_event_told_is_left_out_and_not_null() -> None:
    told = new_errand(OUTBOUND)
    assert told["integrationData"] == {
        "integrationName": "aventa",
        "referenceId": "c-1",
        "deviceId": 1000,
        "extensionId": 1001,
        "endSession": False,
        "destNumber": "46701740606",
        "queueName": "outbound",
        "queueNumber": "0",
    }


def test_a_queue_of_which_one_part_is_known_gets_the_default_for_the_other() -> None:
    assert new_errand(OUTBOUND._replace(queue_name="EHS"))["integrationData"]["queueNumber"] == "0"
    assert new_errand(OUTBOUND._replace(queue_number="7"))["integrationData"]["queueName"] == "outbound"


def test_a_withheld_caller_is_called_anonymous() -> None:
    told = new_errand(INBOUND._replace(calling_number=None, calling_name=None))
    assert (told["msg"]["from"], told["msg"]["name"]) == (WITHHELD, "")
    assert told["msg"]["subject"] == "Call from anonymous to 46846500401"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"comment": "c"}, {"comment": "c"}),
        ({"call_reason": "r"}, {"callReason": "r"}),
        ({"appointment_timestamp": "1"}, {"appointmentTimestamp": "1"}),
    ],
)
def test_extra_data_holds_only_what_was_told(told: dict[str, str], expected: dict[str, str]) -> None:
    assert new_errand(OUTBOUND._replace(**told))["integrationData"]["extraData"] == expected  # type: ignore[arg-type] # names of text fields


def test_the_end_of_a_session_is_the_same_document_with_end_session_true() -> None:
    opening, end = new_errand(INBOUND), new_errand(INBOUND, end_session=True)
    assert end["integrationData"].pop("endSession") is True
    assert opening["integrationData"].pop("endSession") is False
    assert end == opening


def test_templates_name_every_field_and_leave_alone_what_is_none() -> None:
    body = "|".join(f"${{{name}}}" for name in TEMPLATE_FIELDS)
    subject = "$$5 for $callId, $nobody"
    renderer = Renderer(subject=subject, body=body, queue_name="q", queue_number="1", close_user=("", ""))
    told = new_errand(INBOUND, renderer=renderer)["msg"]
    assert told["subject"] == "$5 for c-1, $nobody"
    assert told["body"] == (
        "c-1|inbound|46846500401|46701740605|Åsa Öberg|EHS|123|12345|GP office|1000|1001|2026-11-24T10:00:00.250Z"
        "|internal|reschedule|av-1-open_errand-0"
    )
    bare = new_errand(Facts(dest_number="46846500401"), renderer=renderer)["msg"]
    assert bare["body"] == "c-1||46846500401|anonymous||q|1|||1000|1001|2026-11-24T10:00:00.250Z|||av-1-open_errand-0"


def test_a_template_does_not_expand_what_a_caller_wrote() -> None:
    told = new_errand(INBOUND._replace(calling_number="$callId", comment="${cuid}"))
    assert told["msg"]["subject"] == "Call from $callId to 46846500401"


def test_without_an_msisdn_there_is_no_errand() -> None:
    with pytest.raises(CannotRender, match="destNumber") as caught:
        RENDERER.new_errand(effect(INBOUND._replace(dest_number=None)), end_session=True)
    assert "465" not in str(caught.value)


def test_closing_takes_the_errands_id_as_an_integer() -> None:
    document = RENDERER.end_errand(effect(INBOUND, EffectKind.CLOSE_ERRAND), "511055")
    assert attributes(document, END_ERRANDS) == {
        "errand_id": 511055,
        "answer": {
            "user_type": "cention",
            "user_id": "1234",
            "subject": "Call from 46701740605 to 46846500401",
            "body": "",
            "html_body": "",
        },
    }


@pytest.mark.parametrize("errand_id", [None, "", "abc", "-1", "1.0", "9" * 19, "٣"])
def test_closing_without_an_id_that_can_be_sent_cannot_be_rendered(errand_id: str | None) -> None:
    with pytest.raises(CannotRender, match="errand_id"):
        RENDERER.end_errand(effect(INBOUND, EffectKind.CLOSE_ERRAND), errand_id)


def test_the_end_of_an_outbound_call_tells_the_number_as_dialled() -> None:
    told = attributes(RENDERER.end_obcall(effect(OUTBOUND)), END_ERRANDS)
    assert told == {"integrationName": "aventa", "dialedNumber": "00701740606", "deviceId": 1000, "extensionId": 1001}
    orphan = attributes(RENDERER.end_obcall(effect(Facts())), END_ERRANDS)
    assert orphan == {"integrationName": "aventa", "deviceId": 1000, "extensionId": 1001}


text = st.none() | st.text(st.characters(codec="utf-8"), max_size=30)
anything = st.builds(
    Facts,
    direction=st.none() | st.sampled_from(Direction),
    called_number=text,
    dest_number=st.from_regex(r"[1-9][0-9]{0,14}", fullmatch=True),
    **{name: text for name in FACT_NAMES if name not in ("direction", "called_number", "dest_number")},
)


@given(anything, st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1), st.booleans())
def test_the_sandbox_takes_whatever_is_rendered(facts: Facts, device_id: int, extension_id: int, end: bool) -> None:
    told = Effect("av-1", EffectKind.OPEN_ERRAND, "c", Pair(device_id, extension_id), AT, facts)
    document = RENDERER.new_errand(told, end_session=end)
    body = request_body(NEW_ERRANDS, document)
    try:
        back = checked(body, NewErrand)
    except Refused as refused:
        raise AssertionError(refused.errors) from refused
    assert back.to_json() == document, "byte for byte what the model writes"
    assert back.msg is not None
    assert back.integration_data is not None
    parts = (back, back.msg, back.integration_data, back.integration_data.extra_data)
    assert not any(part.model_extra for part in parts if part is not None), "the model knows every member"
    data = orjson.loads(body)["data"]["attributes"]["integrationData"]
    types = {name: type(value) for name, value in data.items()}
    expected = dict.fromkeys(types, str) | {"deviceId": int, "extensionId": int, "endSession": bool}
    assert types == expected | ({"extraData": dict} if "extraData" in types else {})


@given(st.text("ab${}_ å", max_size=30), st.dictionaries(st.sampled_from(["a", "b", "ab", "_"]), st.text(max_size=3)))
def test_texts_are_filled_as_string_template_fills_them(template: str, words: dict[str, str]) -> None:
    assert Text(template).filled(words) == Template(template).safe_substitute(words)

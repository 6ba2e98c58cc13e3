"""From an answer to an outcome: the table in `bridge.cention.outcome`, cell by cell; and the server's words."""

import json
from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.cention.answer import Answer, outcome_of, retry_after_s
from bridge.cention.client import checked_base_url
from bridge.cention.outcome import Delivered, Outcome, Rejected, TryLater, Unauthorised
from bridge.cention.words import ECHO_CHARS, reason_of, server_words
from bridge.runtime.clock import now

TOKEN = "eyJhbGciOi.secret.token"
SENT = json.dumps(
    {
        "data": {
            "type": "c3_new_errands",
            "attributes": {
                "msg": {
                    "message_id": "av-0123456789abcdef-open_errand-1",
                    "name": "Åsa Öberg",
                    "from": "46701740605",
                    "subject": "Call to 46846500400",
                    "body": "A call from Åsa Öberg reached\nthe queue   Support, room 54321",
                },
                "extradata": {"personal": 197001011234, "n": 12},
                "integrationData": {"referenceId": "c-1", "deviceId": 100012, "queueName": "EHS", "queueNumber": "0"},
                "cuid": "5462-13-6485",
            },
        }
    }
).encode()


def outcome(status: int, body: bytes | str = b"", *, creates: bool = True, **headers: str) -> Outcome:
    raw = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return outcome_of(Answer(status, named, raw), sent=SENT, token=TOKEN, creates=creates)


def errors(*said: object) -> str:
    return json.dumps({"errors": list(said)})


def reason(text: str) -> str:
    return reason_of(text, SENT, TOKEN)


CREATED = '{"data": {"type": "c3_new_errands", "id": "511055"}}'


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert outcome(status, CREATED) == Delivered(status, "511055")
    assert outcome(status, CREATED, creates=False) == Delivered(status, None)


@pytest.mark.parametrize(
    "body", [b"", b'{"data": {"type": "c3_new_e', b"\xff\xfe", b"OK", b"[1, 2]", b'{"data": null}']
)
def test_2xx_with_an_unreadable_body_is_delivered_without_an_id(body: bytes) -> None:
    assert outcome(201, body) == Delivered(201, None)


def test_2xx_that_is_a_web_page_is_not_taken_for_cention() -> None:
    page = "<!doctype html><TITLE lang=en>Maintenance &amp; rest</TITLE>"
    got = outcome(200, page, content_type="text/html; charset=utf-8")
    assert got == TryLater("a web page answered, not Cention's API: Maintenance & rest", 200)


def test_2xx_with_errors_and_no_data_is_rejected() -> None:
    assert outcome(200, errors({"title": "No area"})) == Rejected(200, "No area")
    assert outcome(201, '{"errors": [], "data": {"id": "1"}}') == Delivered(201, "1")
    assert outcome(201, '{"errors": [{"title": "Half"}], "data": {"id": "1"}}') == Delivered(201, "1")


@pytest.mark.parametrize("status", [401, 403])
def test_401_and_403_are_unauthorised_whatever_the_body(status: int) -> None:
    for body in (b"", b"<html>", errors({"title": "Forbidden"}), b"\x00\xff"):
        assert isinstance(outcome(status, body), Unauthorised)


@pytest.mark.parametrize("status", [s for s in range(400, 500) if s not in (401, 403, 408, 425, 429)])
def test_other_4xx_are_rejected(status: int) -> None:
    got = outcome(status, errors({"title": "Bad thing", "status": "whatever"}), retry_after="3")
    assert got == Rejected(status, "Bad thing")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 507, 599])
def test_overload_and_server_errors_are_tried_later(status: int) -> None:
    assert outcome(status, retry_after="2", content_type="text/html") == TryLater(
        server_words(status, "", b""), status, 2.0
    )


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_redirects_are_tried_later_and_do_not_tell_where_to(status: int) -> None:
    got = outcome(status, location="https://login.example/?from=46701740605")
    assert isinstance(got, TryLater)
    assert got.status == status
    assert "base_url" in got.reason
    assert "login" not in got.reason


def test_a_status_beyond_http_is_tried_later() -> None:
    assert outcome(600) == TryLater("no reason given", 600)


def asked(retry_after: str, **more: str) -> float | None:
    return retry_after_s({"Retry-After": retry_after, **more})


def test_retry_after() -> None:
    assert asked("120") == 120.0
    assert asked(" 0 ") == 0.0
    ahead = asked(format_datetime(now() + timedelta(hours=1), usegmt=True))
    assert ahead is not None
    assert 3500 < ahead <= 3600
    assert asked("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert asked("Wed, 21 Oct 2015 07:28:00 -0000") == 0.0
    assert retry_after_s({}) is None
    for unreadable in ("", "soon", "-1", "1.5", "١", "9" * 5000, "Wed, 99 Oct 2015 07:28:00 GMT", "1e9"):
        assert asked(unreadable) is None


def test_a_retry_after_with_a_date_goes_by_the_servers_clock() -> None:
    until = "Wed, 21 Oct 2099 07:28:30 GMT"
    assert asked(until, Date="Wed, 21 Oct 2099 07:28:00 GMT") == 30.0
    assert asked(until, Date="Wed, 21 Oct 2099 07:29:00 GMT") == 0.0
    assert asked(until, Date="today") == pytest.approx(asked(until), abs=5)


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (errors({"title": "Bad", "detail": "deviceId"}), "application/vnd.api+json", "Bad: deviceId"),
        (errors({"title": "Bad", "detail": "Bad"}), "", "Bad"),
        (
            errors({"title": "Bad", "detail": "no MSISDN", "source": {"pointer": "/data/attributes/msg/from"}}),
            "",
            "Bad: msg/from: no MSISDN",
        ),
        (errors({"title": "Bad", "source": {"pointer": "/data"}}), "", "/data: Bad"),
        (errors({"source": {"pointer": "/data"}}, {"title": "Bad", "source": {"pointer": 1}}), "", "Bad"),
        (errors({"status": "Not Acceptable"}), "", "Not Acceptable"),
        (errors({"status": 406}), "", "Not Acceptable"),
        (errors({"title": 1}, 2, None, {"title": " "}, {"detail": "x"}), "", "Not Acceptable"),
        (errors({"title": "a"}, {"title": "b"}), "", "a; b"),
        (errors({"title": "two\n\n lines\x1b[31m"}), "", "two lines [31m"),
        ('{"errors": {"title": "no list"}}', "", "Not Acceptable"),
        ('{"echo": "anything"}', "text/plain", "Not Acceptable"),
        ("<html><title>\nBad&nbsp;Gateway </title>", "text/html", "Bad Gateway"),
        ("<html>no title", "text/html", "Not Acceptable"),
        ("plain words", "text/plain; charset=utf-8", "plain words"),
        ("  ", "text/plain", "Not Acceptable"),
        ("", "", "Not Acceptable"),
    ],
)
def test_the_server_s_words(body: str, content_type: str, said: str) -> None:
    assert outcome(406, body, content_type=content_type) == Rejected(406, said)


def test_a_reason_is_cut_at_300_characters() -> None:
    assert reason("x" * 300) == "x" * 300
    assert reason("x" * 301) == "x" * 299 + "…"


@pytest.mark.parametrize(
    "echo",
    [
        "46701740605",
        "46846500400",
        "Åsa Öberg",
        "åsa",
        "Öberg",
        "5462-13-6485",
        "reached the queue",
        "197001011234",
        "EHS",
        "54321",
        "c-1",
        TOKEN,
        "+46 70-174 06 05",
        "av-0123456789abcdef",
    ],
)
def test_a_reason_never_repeats_what_was_sent(echo: str) -> None:
    for text in (f"can't use '{echo}' here", f"x={echo}", f"{echo}", f"[{echo}]: " + "y" * 400):
        assert echo.casefold() not in reason(text).casefold()
        assert "***" in reason(text)


def test_a_reason_keeps_the_server_s_own_words_and_ids_of_no_person() -> None:
    said = "Attribute deviceId of queue: no area 0 for device 100012, errand 511055"
    assert reason(said) == said


def test_a_value_across_the_cut_is_still_hidden() -> None:
    for before in range(280, 300):
        assert "4670" not in reason("y" * before + " 46701740605")


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=100)
@given(st.text(max_size=80), st.text(max_size=80), st.text(min_size=1, max_size=120))
def test_no_echo_survives_wherever_it_stands(before: str, after: str, value: str) -> None:
    sent = json.dumps({"data": {"attributes": {"msg": {"body": value}}}}).encode()
    got = reason_of(before + value + after, sent, TOKEN)
    assert len(got) <= 300
    assert got.isprintable()
    shown = got.removesuffix("…")
    flat = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    for start in range(len(flat) - ECHO_CHARS + 1):
        assert flat[start : start + ECHO_CHARS] not in shown or "***" in flat


@given(st.binary(max_size=300), st.integers(100, 999), st.sampled_from(["", "text/html", "text/plain", "a/b"]))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200)
def test_any_answer_has_an_outcome(body: bytes, status: int, content_type: str) -> None:
    assert isinstance(outcome(status, body, content_type=content_type), Outcome)


def test_base_url() -> None:
    assert checked_base_url("https://api.example.com/s/demo/") == "https://api.example.com/s/demo"
    assert checked_base_url("http://[::1]:8082/s/demo") == "http://[::1]:8082/s/demo"
    assert checked_base_url("https://proxy.example/cention/s/demo") == "https://proxy.example/cention/s/demo"


@pytest.mark.parametrize(
    ("text", "mending"),
    [
        ("", "needs a host"),
        ("api.example.com/s/demo", "needs a host"),
        ("ftp://api.example.com/s/demo", "https://"),
        ("https:///s/demo", "needs a host"),
        ("https://a..b/s/demo", "needs a host"),
        ("https://" + "a" * 64 + ".example/s/demo", "needs a host"),
        ("https://[::zz]/s/demo", "needs a host"),
        ("https://api.example.com:99999/s/demo", "needs a host"),
        ("https://api.example.com:0/s/demo", "needs a host"),
        ("https://api.example.com", "/s/<workspace>"),
        ("https://api.example.com/s/", "/s/<workspace>"),
        ("https://api.example.com/demo", "/s/<workspace>"),
        ("https://api.example.com/s/demo/capi/json", "leave out"),
        ("https://api.example.com/s/demo?x=1", "without '?'"),
        ("https://user:word@api.example.com/s/demo", "user name"),
        ("https://api.example.com/s/de mo", "white space"),
    ],
)
def test_a_base_url_that_cannot_work_is_refused_with_what_to_change(text: str, mending: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        checked_base_url(text)
    assert mending in str(caught.value)
    assert "word@" not in str(caught.value)

"""Any bytes as a body, any text as a header: an answer that a sender can be given, and never an exception."""

import asyncio
import hashlib
import json

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from bridge.calls.events import CallEvent
from bridge.calls.verdicts import BODY_CHARS_MAX, Rejection, Verdict
from bridge.intake import batch
from bridge.intake.auth import Authenticator
from bridge.intake.models import WireEvent
from bridge.runtime.web import Problem
from tests.unit.wire_support import START, translator

TRANSLATE = translator("SE")
NOW_S = 1_800_000_000

TELLING = ("call.started", "call.ended", "inbound", "+46701740605", "sip:a@b", "0", "2026-01-31T09:30:00Z")

names = st.sampled_from([str(field.alias) for field in WireEvent.model_fields.values()]) | st.text(max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(
        ["call.started", "call.ended", "inbound", "+46701740605", "sip:a@b", "0", "2026-01-31T09:30:00Z"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
events = st.dictionaries(names, values, max_size=8).map(lambda more: START | more) | values
written = st.builds(
    lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"),
    events,
    st.booleans(),
)


def mutated(whole: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """`whole` with stretches of it replaced: (where, how many bytes, by what)."""
    for where, length, other in changes:
        at = where % (len(whole) + 1)
        whole = whole[:at] + other + whole[at + length :]
    return whole


fragments = st.sampled_from(
    [b"", b"\x00", b"\xff", b"\xed\xa0\x80", b"{", b"}", b"[", b"]", b'"', b"\\u", b"\n", b"\r"]
)
broken = st.builds(
    mutated,
    written,
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5), fragments | st.binary(max_size=8)), max_size=4),
)
bodies = st.one_of(
    written,
    broken,
    st.binary(max_size=200),
    st.lists(broken, max_size=5).map(b"\n".join),
    st.lists(written, max_size=5).map(lambda found: b"[" + b",".join(found) + b"]"),
    st.builds(lambda mark, depth: mark * depth, st.sampled_from([b"[", b'{"a":', b'[{"a":']), st.integers(1, 3000)),
    st.builds(lambda depth: b'{"eventId":"e","x":' + b"[" * depth + b"]" * depth + b"}", st.integers(1, 1200)),
)


def outcomes(body: bytes) -> list[batch.Outcome]:
    """What the intake makes of a body, whatever it is said to be: as one event or an array, then as lines."""
    found: list[batch.Outcome] = []
    try:
        value = batch.parse(body)
    except batch.Unreadable as error:
        found.append(batch.unreadable(error.detail, body))
    else:
        if isinstance(value, list):
            found += asyncio.run(batch.elements(value, TRANSLATE))
        else:
            found.append(batch.one(value, body, TRANSLATE))
    return found + asyncio.run(batch.lines(body, TRANSLATE, 10**6))


@given(bodies)
@example(b"\xef\xbb\xbf" * 2)
@example(b"1e999")
@example(b"-" + b"9" * 5000)
@example(b'{"eventId":"\\ud800"}')
@example(b"\x0b{}\x0c\n\xc2\x85\n\xe2\x80\xa8")
def test_any_body_gets_an_answer_that_can_be_sent_and_kept(body: bytes) -> None:
    found = outcomes(body)
    taken = [outcome for outcome in found if isinstance(outcome, CallEvent)]
    results = batch.results(found, [Verdict.ACCEPTED] * len(taken))
    assert [set(result) for result in orjson.loads(orjson.dumps(results))] == [
        {"eventId", "result"} if isinstance(outcome, CallEvent) else {"eventId", "result", "code", "detail", "errors"}
        for outcome in found
    ]
    for outcome in found:
        if isinstance(outcome, Rejection):
            assert outcome.faults
            assert len(outcome.body or "") <= BODY_CHARS_MAX
        assert outcome.body is None or outcome.body.encode() is not None, "Redis takes it"


@given(bodies)
def test_an_event_meets_the_same_fate_in_every_envelope(body: bytes) -> None:
    try:
        value = batch.parse(body)
    except batch.Unreadable:
        return
    if isinstance(value, list) or b"\n" in body:
        return
    alone = batch.one(value, body, TRANSLATE)
    (in_array,) = asyncio.run(batch.elements([value], TRANSLATE))
    (as_line,) = asyncio.run(batch.lines(body, TRANSLATE, 1)) if body.strip() else (alone,)
    assert type(alone) is type(in_array) is type(as_line)
    if isinstance(alone, Rejection) and isinstance(in_array, Rejection):
        assert alone.faults == in_array.faults


header_text = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=60) | st.binary(
    max_size=30
).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
timestamps = header_text | st.integers(NOW_S - 400, NOW_S + 400).map(str)
signatures = header_text | st.lists(
    st.sampled_from(["v1,", "v1", "v1a,", "v2,", ",", " "]) | header_text.map("v1,{}".format), max_size=5
).map(" ".join)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "Authorization": header_text | header_text.map("Bearer {}".format),
            "webhook-id": header_text,
            "webhook-timestamp": timestamps,
            "webhook-signature": signatures,
        },
    ),
    st.binary(max_size=50),
)
def test_no_header_but_the_right_one_opens(headers: dict[str, str], body: bytes) -> None:
    secret = hashlib.sha256(b"of this test").hexdigest()
    for tokens, secrets in (([secret], []), ([], ["whsec_" + secret]), ([secret], ["whsec_" + secret])):
        gate = Authenticator(tokens, secrets, now_s=lambda: NOW_S)
        with pytest.raises(Problem) as refused:
            gate.check(CIMultiDict(headers), body)
        assert refused.value.status == 401
        assert secret not in str(refused.value.document())


def test_these_tests_start_from_an_event_that_is_taken() -> None:
    assert isinstance(TRANSLATE(START, json.dumps(START)), CallEvent)

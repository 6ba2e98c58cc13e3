"""`POST /v1/events` over real HTTP: what is accepted, what is refused, and what is kept of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

from bridge.calls.events import Direction
from bridge.calls.verdicts import BODY_CHARS_MAX
from bridge.intake.wire import Translator
from bridge.runtime.clock import now_ms, rfc3339
from tests.fakes.intake import (
    EVENTS,
    JSON,
    NDJSON,
    Post,
    Recorder,
    event,
    intake,
    ndjson,
    posting,
    summary,
    until,
)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest_asyncio.fixture
async def post(recorder: Recorder) -> AsyncIterator[Post]:
    async with posting(recorder) as post:
        yield post


# One event


async def test_one_event_is_accepted_then_a_duplicate(post: Post, recorder: Recorder) -> None:
    body = b'{ "eventId":"e-1",  "deviceId": 1000, "unknown": "\xc3\x85sa" }\n'
    assert await post(body) == (202, {"eventId": "e-1", "result": "accepted"})
    assert await post(body) == (200, {"eventId": "e-1", "result": "duplicate"})
    assert recorder.calls == [["e-1"], ["e-1"]]
    assert recorder.accepted[0].body == body.decode()  # as it was sent, unknown fields and spaces too
    assert recorder.rejected == []


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"', "application/json;v=1"],
)
async def test_json_media_types(post: Post, content_type: str) -> None:
    status, _ = await post(orjson.dumps(event("e-1")), {"Content-Type": content_type})
    assert status == 202


async def test_a_byte_order_mark_is_passed_over(post: Post, recorder: Recorder) -> None:
    body = orjson.dumps(event("e-1"))
    assert (await post(b"\xef\xbb\xbf" + body))[0] == 202
    assert recorder.accepted[0].body == body.decode()
    assert (await post(b"\xef\xbb\xbf" + ndjson(event("e-2")), NDJSON))[1]["results"][0]["result"] == "accepted"


async def test_an_invalid_event_is_told_its_faults_and_kept(post: Post, recorder: Recorder) -> None:
    body = orjson.dumps(event("e-1", deviceId="1000"))
    status, answer = await post(body)
    assert status == 422
    assert answer["code"] == "invalid_event"
    assert answer["detail"] == "The event has 1 fault."
    assert answer["eventId"] == "e-1"
    assert answer["errors"] == [{"pointer": "/deviceId", "code": "wrong_type", "detail": "deviceId is a JSON integer."}]
    assert [(each.event_id, each.body) for each in recorder.rejected] == [("e-1", body.decode())]
    assert recorder.calls == []


@pytest.mark.parametrize("body", [b'{"eventId": null}', b"1", b'"text"', b"null", b"true"])
async def test_an_unreadable_event_id_is_left_out(post: Post, body: bytes) -> None:
    status, answer = await post(body)
    assert status == 422
    assert "eventId" not in answer
    assert answer["errors"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "line 1, column 1"),
        (b"{", "line 1, column 2"),
        (b'{"a":1}\n x', "line 2, column 2"),
        (b'{"a":NaN}', "line 1, column 6"),
        (b'{"a":Infinity}', "line 1, column 6"),
        (b'{"a":1e999}', "line 1, column 6"),
        (b'{"a":"\\ud800"}', "line 1, column 7"),
        (b'{"a":"caf\xe9"}', "invalid UTF-8 at byte 10"),
        (b"\xff\xfe{\x00}\x00", "invalid UTF-8 at byte 1"),
        (b"[" * 2000 + b"]" * 2000, "line 1, column 1026"),
        (b"{}{}", "line 1, column 3"),
    ],
)
async def test_what_is_not_json_is_400_and_kept(post: Post, recorder: Recorder, body: bytes, where: str) -> None:
    status, answer = await post(body)
    assert (status, answer["code"]) == (400, "unreadable_json")
    assert where in answer["detail"]
    [rejection] = recorder.rejected
    assert (rejection.event_id, rejection.code) == (None, "unreadable_json")
    assert rejection.body == body.decode("utf-8", "replace")


async def test_no_more_of_a_body_is_kept_than_a_rejection_holds(post: Post, recorder: Recorder) -> None:
    await post("å".encode() * 30_000)
    assert recorder.rejected[0].body == "å" * BODY_CHARS_MAX


async def test_the_detail_never_repeats_what_was_sent(post: Post) -> None:
    _, answer = await post(b'{"callingName": "Anna Andersson" "callingNumber": "+46701740605"}')
    assert "Anna" not in str(answer)
    assert "4670" not in str(answer)


async def test_an_event_too_deep_for_the_journal_is_refused_in_every_envelope(post: Post, recorder: Recorder) -> None:
    deep = orjson.dumps(event("e-1"))[:-1] + b',"x":' + b"[" * 300 + b"]" * 300 + b"}"
    good = orjson.dumps(event("e-2"))
    status, answer = await post(deep)
    assert (status, answer["eventId"], answer["errors"][0]["code"]) == (422, "e-1", "too_deep")
    for body, headers in ((b"[" + deep + b"," + good + b"]", JSON), (deep + b"\n" + good, NDJSON)):
        status, answer = await post(body, headers)
        assert status == 207
        assert [each["result"] for each in answer["results"]] != ["rejected", "rejected"]
        assert answer["results"][0]["eventId"] == "e-1"
        assert answer["results"][0]["errors"][0]["code"] == "too_deep"
    assert [each.code for each in recorder.rejected] == ["too_deep"] * 3
    assert recorder.ids == ["e-2"]


async def test_many_brackets_side_by_side_are_not_deep(post: Post) -> None:
    status, _ = await post(orjson.dumps(event("e-1", more=[{}] * 500)))
    assert status == 202


# Media types


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "json"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/vnd.api+json"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=iso-8859-1"},
        {"Content-Type": "application/x-ndjson; charset=utf-16"},
    ],
)
async def test_other_media_types_are_415_and_kept(recorder: Recorder, headers: dict[str, str]) -> None:
    body = orjson.dumps(event("e-1"))
    async with (
        intake(recorder) as url,
        aiohttp.ClientSession(url, skip_auto_headers=["Content-Type"]) as session,
        session.post(EVENTS, data=body, headers=headers) as response,
    ):
        answer = orjson.loads(await response.read())
    assert (response.status, answer["code"]) == (415, "unsupported_media_type")
    assert response.content_type == "application/problem+json"
    assert "application/x-ndjson" in answer["detail"]
    assert response.headers["Accept"] == "application/json, application/x-ndjson"
    assert [(each.code, each.body) for each in recorder.rejected] == [("unsupported_media_type", body.decode())]


# The store away, faults of ours


@pytest.mark.parametrize("headers", [JSON, NDJSON])
async def test_store_away_promises_nothing_and_a_repeat_is_safe(
    post: Post, recorder: Recorder, headers: dict[str, str]
) -> None:
    events = [event("e-1"), event("e-2", deviceId="x"), event("e-3")]
    body = orjson.dumps(events) if headers is JSON else ndjson(*events)
    recorder.outages = 1
    status, answer = await post(body, headers)
    assert (status, answer["code"]) == (503, "store_unavailable")
    assert recorder.rejected == []  # nor is a rejection kept that the repeat would keep again
    status, answer = await post(body, headers)
    assert [each["result"] for each in answer["results"]] == ["accepted", "rejected", "accepted"]
    assert len(recorder.rejected) == 1


async def test_store_away_says_when_to_come_back(recorder: Recorder) -> None:
    recorder.outages = 1
    async with (
        intake(recorder) as url,
        aiohttp.ClientSession(url) as session,
        session.post(EVENTS, data=orjson.dumps(event("e-1")), headers=JSON) as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (503, "0")


@pytest.mark.parametrize("body", [orjson.dumps(event("e-1", deviceId="x")), b"{", b"[" + b"{}," * 9 + b"{}]"])
async def test_a_rejection_that_cannot_be_kept_is_503(post: Post, recorder: Recorder, body: bytes) -> None:
    recorder.reject_outages = 1
    status, answer = await post(body)
    assert (status, answer["code"]) == (503, "store_unavailable")
    assert (await post(body))[0] in (400, 413, 422)


async def test_accepted_events_of_a_batch_are_duplicates_when_only_the_rejection_failed(
    post: Post, recorder: Recorder
) -> None:
    body = orjson.dumps([event("e-1"), event("e-2", deviceId="x")])
    recorder.reject_outages = 1
    assert (await post(body))[0] == 503
    _, answer = await post(body)
    assert summary(answer["results"]) == [("e-1", "duplicate"), ("e-2", "rejected")]
    assert recorder.ids == ["e-1"]


async def test_a_fault_of_ours_is_500(post: Post, recorder: Recorder) -> None:
    recorder.broken = {"e-1"}
    for body in (orjson.dumps(event("e-1")), orjson.dumps([event("e-2"), event("e-1")])):
        status, answer = await post(body)
        assert (status, answer["code"]) == (500, "internal_error")
    assert recorder.rejected == []


async def test_too_few_verdicts_are_a_fault_of_ours(recorder: Recorder) -> None:
    async def accept(_events: object) -> list[Any]:
        return []

    async with intake(recorder, accept=accept) as url, aiohttp.ClientSession(url, headers=JSON) as session:
        for body in (event("e-1"), [event("e-1")]):
            async with session.post(EVENTS, data=orjson.dumps(body)) as response:
                assert response.status == 500


# Other methods and paths


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_post_is_served(recorder: Recorder, method: str) -> None:
    async with (
        intake(recorder) as url,
        aiohttp.ClientSession(url) as session,
        session.request(method, EVENTS) as response,
    ):
        assert (response.status, response.content_type) == (405, "application/problem+json")
        assert response.headers["Allow"] == "POST"
        body = await response.read()
    if method == "HEAD":
        assert body == b""
    else:
        assert orjson.loads(body)["code"] == "method_not_allowed"


async def test_other_paths_are_404(recorder: Recorder) -> None:
    async with (
        intake(recorder) as url,
        aiohttp.ClientSession(url) as session,
        session.post("/v1/event", data=b"{}") as response,
    ):
        assert (response.status, orjson.loads(await response.read())["code"]) == (404, "not_found")


# Many at once


async def test_too_many_requests_at_once(recorder: Recorder) -> None:
    recorder.open.clear()
    async with (
        intake(recorder, in_flight_max=2) as url,
        aiohttp.ClientSession(url, headers=JSON) as session,
        asyncio.TaskGroup() as group,
    ):

        async def post(number: int) -> int:
            async with session.post(EVENTS, data=orjson.dumps(event(f"e-{number}"))) as response:
                return response.status

        first = [group.create_task(post(number)) for number in (1, 2)]
        await until(lambda: recorder.waiting == 2)
        async with session.post(EVENTS, data=b"{") as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "1")
            assert orjson.loads(await response.read())["code"] == "too_many_requests"
        assert recorder.rejected == []
        recorder.open.set()
        assert [await task for task in first] == [202, 202]
        assert await post(3) == 202  # the places are free again


# With the translation that the service uses


async def test_with_the_contracts_own_event(recorder: Recorder) -> None:
    translator = Translator(
        default_region=None,
        opens=frozenset([Direction.INBOUND]),
        clock_ahead_s_max=300,
        clock_behind_s_max=86_400,
        now_ms=now_ms,
    )
    at = rfc3339(now_ms())
    events = [event("e-1", occurredAt=at), event("e-2", occurredAt=at, calledNumber="1000", deviceId="1000")]
    async with (
        intake(recorder, translate=translator) as url,
        aiohttp.ClientSession(url, headers=JSON) as session,
        session.post(EVENTS, data=orjson.dumps(events)) as response,
    ):
        accepted, rejected = orjson.loads(await response.read())["results"]
    assert accepted == {"eventId": "e-1", "result": "accepted"}
    assert (rejected["eventId"], rejected["result"]) == ("e-2", "rejected")
    assert [each["pointer"] for each in rejected["errors"]] == ["/deviceId", "/calledNumber"]
    assert recorder.accepted[0].facts.dest_number == "46846500400"

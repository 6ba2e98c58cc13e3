"""Arrays and NDJSON at `POST /v1/events`: one result per event, in order, whatever is among them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

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
    translate,
)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest_asyncio.fixture
async def post(recorder: Recorder) -> AsyncIterator[Post]:
    async with posting(recorder) as post:
        yield post


# Arrays


async def test_an_array_gets_one_result_per_event_in_order(post: Post, recorder: Recorder) -> None:
    await post(orjson.dumps(event("e-1")))
    body = orjson.dumps([event("e-2"), event("e-1"), event("e-3", deviceId=None), [], event("e-4", name="Åsa")])
    status, answer = await post(body)
    assert status == 207
    assert summary(answer["results"]) == [
        ("e-2", "accepted"),
        ("e-1", "duplicate"),
        ("e-3", "rejected"),
        (None, "rejected"),
        ("e-4", "accepted"),
    ]
    assert answer["results"][2] == {
        "eventId": "e-3",
        "result": "rejected",
        "code": "invalid_event",
        "detail": "The event has 1 fault.",
        "errors": [{"pointer": "/deviceId", "code": "wrong_type", "detail": "deviceId is a JSON integer."}],
    }
    assert recorder.calls[1:] == [["e-2", "e-1", "e-4"]]  # in one call, in order
    assert [each.event_id for each in recorder.rejected] == ["e-3", None]
    assert orjson.loads(recorder.accepted[-1].body or "") == event("e-4", name="Åsa")  # its own text alone


async def test_an_empty_array_has_no_results(post: Post, recorder: Recorder) -> None:
    assert await post(b"[]") == (207, {"results": []})
    assert recorder.asked == 0


async def test_an_event_twice_in_one_array(post: Post) -> None:
    _, answer = await post(orjson.dumps([event("e-1"), event("e-1")]))
    assert len(answer["results"]) == 2


@pytest.mark.parametrize("headers", [JSON, NDJSON])
async def test_more_events_than_allowed(post: Post, recorder: Recorder, headers: dict[str, str]) -> None:
    events = [event(f"e-{number}") for number in range(6)]
    body = orjson.dumps(events) if headers is JSON else ndjson(*events)
    status, answer = await post(body, headers)
    assert (status, answer["code"]) == (413, "too_many_events")
    assert "5" in answer["detail"]
    assert recorder.asked == 0
    [rejection] = recorder.rejected
    assert rejection.code == "too_many_events"
    assert rejection.body == body.decode()
    status, _ = await post(orjson.dumps(events[:5]) if headers is JSON else ndjson(*events[:5]), headers)
    assert status == 207


# NDJSON


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/ndjson; charset=utf-8"])
async def test_ndjson_gets_one_result_per_line(post: Post, recorder: Recorder, content_type: str) -> None:
    body = ndjson(event("e-1"), event("e-2")) + b"\r\n\n  \r\n" + ndjson(event("e-3")) + b"\n"
    status, answer = await post(body, {"Content-Type": content_type})
    assert status == 207
    assert summary(answer["results"]) == [("e-1", "accepted"), ("e-2", "accepted"), ("e-3", "accepted")]
    assert recorder.calls == [["e-1", "e-2", "e-3"]]
    assert recorder.accepted[1].body == orjson.dumps(event("e-2")).decode()


async def test_broken_lines_cost_only_themselves(post: Post, recorder: Recorder) -> None:
    lines = [
        orjson.dumps(event("e-1")),
        b'{"eventId": "e-2", ',
        b"",
        b'{"eventId": "caf\xe9"}',
        orjson.dumps(event("e-3", deviceId="x")),
        orjson.dumps(event("e-4")),
    ]
    status, answer = await post(b"\n".join(lines), NDJSON)
    results = answer["results"]
    assert status == 207
    assert summary(results) == [
        ("e-1", "accepted"),
        (None, "rejected"),
        (None, "rejected"),
        ("e-3", "rejected"),
        ("e-4", "accepted"),
    ]
    assert [each.get("code") for each in results[1:4]] == ["unreadable_json", "unreadable_json", "invalid_event"]
    for result, line in zip(results[1:3], ["Line 2", "Line 4"], strict=True):
        [fault] = result["errors"]
        assert (fault["pointer"], fault["code"]) == ("", "unreadable_json")
        assert line in fault["detail"]
    assert recorder.ids == ["e-1", "e-4"]
    assert [each.body for each in recorder.rejected] == [
        '{"eventId": "e-2", ',
        '{"eventId": "caf�"}',
        lines[4].decode(),
    ]


@pytest.mark.parametrize("body", [b"", b"\n", b" \r\n\n"])
async def test_ndjson_without_events_has_no_results(post: Post, body: bytes) -> None:
    assert await post(body, NDJSON) == (207, {"results": []})


async def test_a_full_batch_lets_other_requests_in_between(recorder: Recorder) -> None:
    """Translation yields to the loop: a single event posted with a large batch is not behind all of it."""
    done: list[str] = []

    def noted(value: object, body: str) -> Any:
        if not done:  # in the middle of the batch's first turn, whatever else this machine does
            group.create_task(post(orjson.dumps(event("single"))))
        outcome = translate(value, body)
        done.append(getattr(outcome, "event_id", "") or "")
        return outcome

    batch = orjson.dumps([event(f"b-{number}") for number in range(1000)])
    async with (
        intake(recorder, translate=noted, events_max=1000, body_bytes_max=1 << 20) as url,
        aiohttp.ClientSession(url, headers=JSON) as session,
        asyncio.TaskGroup() as group,
    ):

        async def post(body: bytes) -> None:
            async with session.post(EVENTS, data=body) as response:
                assert response.status in (202, 207)

        group.create_task(post(batch))
    assert done.index("single") < 1000

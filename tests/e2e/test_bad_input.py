"""Bad input at a running service: each kind gets its status and code, is kept with its reason, and touches nothing."""

import gzip
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from bridge.runtime.clock import now
from bridge.store.connection import Connection
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import ended, event, eventually, inbound, told
from tests.integration.service_support import Api, running
from tests.integration.store_support import everything

PAIR = (1000, 1001)
LIMIT = 64 * 1024
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
SECRETS = ("701740605", "46846500401", "Öberg")
"""What no answer may repeat."""


@pytest.fixture
async def api(redis: EmbeddedRedis, tmp_path: Path) -> AsyncIterator[Api]:
    """A service in which one call is under way."""
    async with running(tmp_path, redis, intake__body_bytes_max=LIMIT) as api:
        assert await api.post(inbound("c-0", PAIR)) == 202
        await api.delivered(1)

        async def settled() -> bool:
            return (await api.get("/v1/calls/c-0"))["errandId"] is not None

        await eventually(settled, "the errand's id")
        yield api


async def held(redis: EmbeddedRedis) -> dict[str, str]:
    """All that Redis holds, but for the rejections and what the service writes to see whether it can."""
    connection = Connection(redis.url, timeout_s=5)
    try:
        found = await everything(connection)
    finally:
        await connection.close()
    return {name: value for name, value in found.items() if not name.endswith((":rejections", ":writable"))}


class Answer(NamedTuple):
    status: int
    body: Any
    text: str


async def send(api: Api, body: bytes, headers: dict[str, str]) -> Answer:
    async with api.http.post(f"{api.service.intake_url}/v1/events", data=body, headers=headers) as response:
        text = await response.text()
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
        return Answer(response.status, orjson.loads(text), text)


async def newest(api: Api, number: int) -> list[dict[str, Any]]:
    """The `number` newest rejections, the oldest of them first."""
    found: list[dict[str, Any]] = (await api.get(f"/v1/rejections?limit={number}"))["rejections"]
    return found[::-1]


def started(**more: Any) -> dict[str, Any]:
    return inbound("c-9", (9, 9), **{"callingName": "Åsa Öberg", **more})


def without(name: str, of: dict[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in of.items() if member != name}


def at(**distance: float) -> str:
    return (now() + timedelta(**distance)).isoformat()


def transferred(**more: Any) -> dict[str, Any]:
    return event("transferred", "c-9", (9, 9), 1, **more)


LONG = "x" * 129
NO_INTEGERS: list[Any] = ["1000", 1000.5, True, None, [1000], {}]
INVALID: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    # Missing
    *((without(name, started()), [(f"/{name}", "missing")]) for name in
      ("eventId", "type", "occurredAt", "callId", "deviceId", "extensionId", "direction", "calledNumber")),
    (transferred(), [("/transferredTo", "missing")]),
    ({}, [(f"/{name}", "missing") for name in ("eventId", "type", "occurredAt", "callId", "deviceId", "extensionId")]),
    # Wrong JSON types
    *((started(deviceId=value), [("/deviceId", "wrong_type")]) for value in NO_INTEGERS),
    (started(eventId=1), [("/eventId", "wrong_type")]),
    (started(calledNumber=46846500401), [("/calledNumber", "wrong_type")]),
    (started(callingName=["Åsa Öberg"]), [("/callingName", "wrong_type")]),
    (started(extraData="x"), [("/extraData", "wrong_type")]),
    (started(extraData={"comment": 1}), [("/extraData/comment", "wrong_type")]),
    (started(sequence="1"), [("/sequence", "wrong_type")]),
    (started(direction="up"), [("/direction", "unknown_direction")]),
    (started(type="call.sung"), [("/type", "unknown_type")]),
    (transferred(transferredTo=[1, 2]), [("/transferredTo", "wrong_type")]),
    (transferred(transferredTo={"deviceId": 1}), [("/transferredTo/extensionId", "missing")]),
    (transferred(transferredTo={"deviceId": 9, "extensionId": 9}),
     [("/transferredTo", "same_pair")]),
    # Out of bounds
    (started(deviceId=-1), [("/deviceId", "out_of_range")]),
    (started(extensionId=2**53), [("/extensionId", "out_of_range")]),
    (started(eventId=""), [("/eventId", "empty")]),
    (started(eventId=LONG), [("/eventId", "too_long")]),
    (started(callId=LONG), [("/callId", "too_long")]),
    (started(callId="a\nb"), [("/callId", "control_character")]),
    (started(link="x" * 2049), [("/link", "too_long")]),
    # Numbers that are none
    (started(calledNumber="reception"), [("/calledNumber", "not_a_number")]),
    (started(calledNumber="anonymous"), [("/calledNumber", "withheld")]),
    (started(calledNumber=""), [("/calledNumber", "missing")]),
    (started(callingNumber="+reception"), [("/callingNumber", "not_a_number")]),
    # Clocks
    (started(occurredAt=at(days=2)), [("/occurredAt", "clock_ahead")]),
    (started(occurredAt=at(days=-4000)), [("/occurredAt", "clock_behind")]),
    *((started(occurredAt=value), [("/occurredAt", "bad_timestamp")]) for value in
      ("yesterday", "2026-11-24", "2026-11-24T10:00:00", "2026-13-24T10:00:00Z", "1795514400")),
    # All at once
    (started(deviceId="1000", calledNumber="reception", occurredAt="now", direction=None),
     [("/occurredAt", "bad_timestamp"), ("/deviceId", "wrong_type"), ("/direction", "wrong_type"),
      ("/calledNumber", "not_a_number")]),
]  # fmt: skip


async def test_an_event_that_is_wrong_is_422_with_every_fault(api: Api, redis: EmbeddedRedis) -> None:
    before = await held(redis)
    for number, (sent, faults) in enumerate(INVALID):
        answer = await send(api, orjson.dumps(sent), JSON)
        assert (answer.status, answer.body["code"]) == (422, "invalid_event"), sent
        assert [(error["pointer"], error["code"]) for error in answer.body["errors"]] == faults, sent
        assert all(error["detail"] for error in answer.body["errors"])
        assert not any(secret in answer.text for secret in SECRETS), sent
        (kept,) = await newest(api, 1)
        assert (kept["code"], kept["detail"], kept["errors"], kept["event"]) == (
            "invalid_event",
            answer.body["detail"],
            answer.body["errors"],
            sent,
        )
        assert len((await api.get("/v1/rejections?limit=1000"))["rejections"]) == number + 1
    await untouched(api, redis, before)


NUMBERS = ("1000", "112", "+46", "46", "0701740605", "123456789012345678901", "*31#", "+999701740605")


async def test_numbers_that_are_none_are_422_and_not_repeated(api: Api, redis: EmbeddedRedis) -> None:
    before = await held(redis)
    for text in NUMBERS:
        answer = await send(api, orjson.dumps(started(calledNumber=text, queueName="q")), JSON)
        assert (answer.status, answer.body["code"]) == (422, "invalid_event"), text
        (error,) = answer.body["errors"]
        assert error["pointer"] == "/calledNumber"
        assert text not in error["detail"], text
    assert [kept["event"]["calledNumber"] for kept in await newest(api, len(NUMBERS))] == list(NUMBERS)
    await untouched(api, redis, before)


def nested(levels: int) -> bytes:
    return b'{"eventId":"deep","a":' * levels + b"1" + b"}" * levels


BODIES: dict[str, tuple[bytes, dict[str, str], int, str, str]] = {
    # name: body, headers, status, code, the code that is kept
    "empty": (b"", JSON, 400, "unreadable_json", "unreadable_json"),
    "cut off": (b'{"eventId": "e', JSON, 400, "unreadable_json", "unreadable_json"),
    "two values": (b"{} {}", JSON, 400, "unreadable_json", "unreadable_json"),
    "not a number": (b'{"deviceId": NaN}', JSON, 400, "unreadable_json", "unreadable_json"),
    "broken UTF-8": (b'{"eventId": "\xff\xfe"}', JSON, 400, "unreadable_json", "unreadable_json"),
    "half a surrogate": (b'{"eventId": "\\ud800"}', JSON, 400, "unreadable_json", "unreadable_json"),
    "nested beyond reading": (nested(2000), JSON, 400, "unreadable_json", "unreadable_json"),
    "nested deep": (nested(300), JSON, 422, "invalid_event", "too_deep"),
    "no object": (b"46701740605", JSON, 422, "invalid_event", "invalid_event"),
    "null": (b"null", JSON, 422, "invalid_event", "invalid_event"),
    "too large": (b'{"a":"' + b"x" * LIMIT + b'"}', JSON, 413, "body_too_large", "body_too_large"),
    "too large when inflated": (
        gzip.compress(b" " * 10 * LIMIT), {**JSON, "Content-Encoding": "gzip"}, 413, "body_too_large", "body_too_large"
    ),
    "no gzip": (b"{}", {**JSON, "Content-Encoding": "br"}, 415, "unsupported_encoding", "unsupported_encoding"),
    "broken gzip": (
        gzip.compress(b"{}")[:-4], {**JSON, "Content-Encoding": "gzip"}, 400, "broken_encoding", "broken_encoding"
    ),
    "too many": (orjson.dumps([1] * 1001), JSON, 413, "too_many_events", "too_many_events"),
    "too many lines": (b"1\n" * 1001, NDJSON, 413, "too_many_events", "too_many_events"),
    "no type": (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type", "unsupported_media_type"),
    "other charset": (
        b"{}", {"Content-Type": "application/json; charset=latin-1"}, 415, "unsupported_media_type",
        "unsupported_media_type",
    ),
}  # fmt: skip


async def test_a_body_that_is_wrong_is_refused_as_a_whole(api: Api, redis: EmbeddedRedis) -> None:
    before = await held(redis)
    for name, (body, headers, status, code, kept_code) in BODIES.items():
        answer = await send(api, body, headers)
        assert (answer.status, answer.body["code"]) == (status, code), name
        assert "701740605" not in answer.text
        (kept,) = await newest(api, 1)
        assert kept["code"] == kept_code, name
        assert kept["detail"] == answer.body["detail"]
    assert len((await api.get("/v1/rejections?limit=1000"))["rejections"]) == len(BODIES)
    await untouched(api, redis, before)


@pytest.mark.parametrize("form", ["ndjson", "array"])
async def test_one_broken_event_costs_the_others_nothing(api: Api, form: str) -> None:
    good = [inbound("good-1", (2, 1)), inbound("good-2", (2, 2)), ended("good-1", (2, 1))]
    parts: list[tuple[bytes, str, str | None]] = [
        (orjson.dumps(good[0]), "accepted", None),
        (b'{"eventId": "cut', "rejected", "unreadable_json"),
        (orjson.dumps(started(deviceId="1000")), "rejected", "invalid_event"),
        (orjson.dumps(good[1]), "accepted", None),
        (b'{"eventId": "\xff"}', "rejected", "unreadable_json"),
        (nested(300), "rejected", "invalid_event"),
        (b"[]", "rejected", "invalid_event"),
        (orjson.dumps(good[0]), "duplicate", None),
        (orjson.dumps(good[2]), "accepted", None),
    ]
    if form == "array":
        parts = [part for part in parts if part[2] != "unreadable_json"]
        answer = await send(api, b"[" + b",".join(body for body, _, _ in parts) + b"]", JSON)
    else:
        answer = await send(api, b"\n".join(body for body, _, _ in parts) + b"\n\n", NDJSON)
    assert answer.status == 207
    results = answer.body["results"]
    assert [(result["result"], result.get("code")) for result in results] == [tuple(part[1:]) for part in parts]
    refused = [result for result in results if result["result"] == "rejected"]
    assert all(result["errors"] for result in refused)
    kept = await newest(api, 100)
    assert [each["detail"] for each in kept] == [result["detail"] for result in refused]
    assert all(each["errors"] == result["errors"] for each, result in zip(kept, refused, strict=True))
    await api.delivered(4)
    sandbox = api.service.sandbox
    assert sandbox is not None
    assert sorted(told(sandbox)[1:]) == ["2/1 end-session good-1", "2/1 open good-1", "2/2 open good-2"]
    assert {call["callId"] for call in (await api.get("/v1/calls"))["calls"]} == {"c-0", "good-2"}


async def test_unknown_members_and_late_numbers_are_passed_over_and_kept(api: Api) -> None:
    assert await api.post(inbound("c-1", (3, 3), mood="calm", deep={"a": [1, None]})) == 202
    assert await api.post(event("updated", "c-1", (3, 3), 2, callingNumber="+reception", mood=None)) == 202
    timeline = (await api.get("/v1/calls/c-1"))["timeline"]
    first, second = [step["event"] for step in timeline if step["kind"] == "event"]
    assert (first["mood"], first["deep"]) == ("calm", {"a": [1, None]})
    assert second["mood"] is None
    assert (await api.get("/v1/rejections"))["rejections"] == []


async def test_an_event_nested_as_deep_as_is_taken_can_be_looked_at(api: Api) -> None:
    deepest = 254
    for levels, status in ((200, 202), (deepest, 202), (deepest + 1, 422)):
        sent = orjson.dumps(inbound(f"deep-{levels}", (4, levels)))[:-1] + b',"a":' + nested(levels - 1) + b"}"
        assert (await send(api, sent, JSON)).status == status
        call = await api.get(f"/v1/calls/deep-{levels}", 200 if status == 202 else 404)
        if status == 202:
            shown = call["timeline"][0]["event"]
            assert shown == (orjson.loads(sent) if levels == 200 else sent.decode())
    (kept,) = await newest(api, 1)
    assert (kept["code"], kept["eventId"]) == ("too_deep", f"deep-{deepest + 1}-started-1")
    assert kept["event"] == sent.decode()


async def test_strangers_are_refused_and_push_out_nobodys_rejections(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis, intake__tokens=["an-intake-token"]) as api:
        for headers, code in (({}, "unauthenticated"), ({"Authorization": "Bearer an-intake-tokem"}, "bad_token")):
            answer = await send(api, b"{", {**JSON, **headers})
            assert (answer.status, answer.body["code"]) == (401, code)
            assert "an-intake-token" not in answer.text
        assert (await api.get("/v1/rejections"))["rejections"] == []
        answer = await send(api, b"{", {**JSON, "Authorization": "Bearer an-intake-token"})
        assert answer.status == 400
        assert len((await api.get("/v1/rejections"))["rejections"]) == 1


async def untouched(api: Api, redis: EmbeddedRedis, before: dict[str, Any]) -> None:
    """Nothing but the rejections has changed: no call, no mark, no lane, nothing at Cention."""
    assert await held(redis) == before
    (call,) = (await api.get("/v1/calls"))["calls"]
    assert (call["callId"], call["state"]) == ("c-0", "started")
    sandbox = api.service.sandbox
    assert sandbox is not None
    assert told(sandbox) == ["1000/1001 open c-0"]
    refused = len((await api.get("/v1/rejections?limit=1000"))["rejections"])
    assert f'bridge_events_total{{result="rejected"}} {float(refused)}' in await api.get("/metrics")

"""`POST /v1/cention/callback` of a running bridge: who may, what is refused, what is durable when, who sees what."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from bridge import app
from bridge.intake.auth import Authenticator
from bridge.intake.callbacks import CallbackRoute, CallbackSecrets, Received
from bridge.intake.routes import make_intake_app
from bridge.runtime.web import serve
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import eventually, settings
from tests.fakes.logs import captured
from tests.integration.callback_support import SECRET, Desk, callback, desk
from tests.integration.store_support import bench, everything

PERSONAL = ["david.liew", "David Liew", "Creating test errand", "sadadad", SECRET]


# What comes


async def test_the_sample_is_taken_and_joined_to_its_call(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis) as it:
        errand = await it.call("c-1")
        status, answer = await it.come(callback(errand))
        assert (status, answer["result"]) == (200, "accepted")
        (entry,) = await it.timeline("c-1", "callback")
        assert (entry["callbackId"], entry["event"], entry["errandId"]) == (answer["callbackId"], 1, str(errand))
        assert (entry["subject"], entry["to"]) == ("Creating test errand via API", ["david.liew@test.se"])
        assert (entry["service"], entry["fileCount"], entry["files"]) == ("Form", 4, [])
        (listed,) = await it.callbacks()
        assert (listed["callId"], listed["deviceId"], listed["extensionId"]) == ("c-1", 1000, 1001)
        assert (listed["files"], listed["forward"]) == ([], None), "nothing is fetched or forwarded unless asked for"
        alone = await it.get(f"/v1/callbacks/{answer['callbackId']}")
        expected = callback(errand)
        del expected["meta"]["api_secret"]
        assert alone["document"] == expected
        await it.get("/v1/callbacks/cb-0", status=404)
        assert it.metric("bridge_callbacks_total", event="answer_errand", result="accepted") == 1


async def test_the_same_again_is_answered_quietly(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis) as it:
        errand = await it.call("c-1")
        document = callback(errand)
        _, first = await it.come(document)
        again = {**document, "included": list(reversed(document["included"])), "meta": {"api_secret": SECRET}}
        for _ in range(2):
            status, answer = await it.come(again)
            assert (status, answer) == (200, {"callbackId": first["callbackId"], "result": "duplicate"})
        assert len(await it.callbacks()) == 1
        assert len(await it.timeline("c-1", "callback")) == 1
        assert it.metric("bridge_callbacks_total", event="answer_errand", result="duplicate") == 2
        # Another answer to the same errand is another callback.
        document["included"][3]["attributes"]["answer"]["c3_id"] += 1
        assert (await it.come(document))[1]["result"] == "accepted"
        assert len(await it.timeline("c-1", "callback")) == 2


async def test_many_at_once_count_once(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis) as it:
        errand = await it.call("c-1")
        answers = await asyncio.gather(*(it.come(callback(errand)) for _ in range(20)))
        assert sorted(answer["result"] for _, answer in answers) == ["accepted"] + ["duplicate"] * 19
        assert len(await it.timeline("c-1", "callback")) == 1


@pytest.mark.parametrize("event", [2, 0, -5, 99, None, "1", 2**70])
async def test_an_unknown_event_is_counted_and_kept(redis: EmbeddedRedis, tmp_path: Path, event: Any) -> None:
    document = {
        "data": {"type": "c3_callback_something", "id": "1", "attributes": {"event": event, "more": [1]}},
        "meta": {"api_secret": SECRET},
    }
    async with desk(tmp_path, redis) as it:
        assert (await it.come(json.dumps(document).encode()))[0] == 200
        assert it.metric("bridge_callbacks_total", event="other", result="accepted") == 1
        (listed,) = await it.callbacks()
        assert listed["event"] == (event if type(event) is int and event < 2**53 else None)
        assert (listed["errandId"], listed["callId"]) == (None, None)
        alone = await it.get(f"/v1/callbacks/{listed['callbackId']}")
        assert alone["document"]["data"]["attributes"]["more"] == [1]


async def test_an_errand_of_no_call_is_kept_all_the_same(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis) as it:
        assert (await it.come(callback(4)))[0] == 200
        (listed,) = await it.callbacks()
        assert (listed["errandId"], listed["callId"], listed["deviceId"]) == ("4", None, None)


async def test_nothing_is_fetched_before_the_answer(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis, callback__fetch_attachments=True, delivery__drain_s=0.1) as it:
        sandbox = it.service.sandbox
        assert sandbox is not None
        sandbox.set_faults([{"endpoint": "c3_response_attachments", "delay_s": 3600}])
        assert (await it.come(callback(1)))[0] == 200
        await it.settled(*["waiting"] * 4)


# Who may


@pytest.mark.parametrize("meta", [{"api_secret": "12345"}, {"api_secret": 123456}, {"api_secret": None}, {"other": 1}])
async def test_a_wrong_secret_is_refused_and_leaves_nothing(
    redis: EmbeddedRedis, tmp_path: Path, meta: dict[str, Any]
) -> None:
    async with desk(tmp_path, redis, callback__secret=["new one", SECRET]) as it, bench(redis.url) as store:
        before = await everything(store.connection)
        with captured() as log:
            for document in (callback(1, **meta), {"data": None, "meta": meta}, [meta], 7):
                status, answer = await it.come(document)
                assert (status, answer["code"]) == (401, "bad_secret")
        assert log.text.count("does not fit") == 1, "strangers cannot fill the log"
        left = {key for key in await everything(store.connection) if not key.endswith("writable")}
        assert left <= before.keys()
        assert it.metric("bridge_callbacks_refused_total", code="bad_secret") == 4
        for secret in ("new one", SECRET):
            assert (await it.come(callback(2, api_secret=secret)))[0] == 200


async def test_without_a_secret_this_machine_alone_may(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis, callback__secret=[]) as it:
        assert (await it.come(callback(1)))[0] == 200
        assert (await it.come(callback(2, other=1)))[0] == 200
        status, answer = await it.come(callback(3), Host="bridge.example")
        assert (status, answer["code"]) == (403, "foreign_host")
        status, answer = await it.come(callback(3), Content_Type="text/plain")
        assert (status, answer["code"]) == (415, "unsupported_media_type"), "as a web page could send"


async def test_without_a_secret_a_guarded_intake_guards_callbacks_too(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis, callback__secret=[], intake__tokens=["a-token"]) as it:
        status, answer = await it.come(callback(1))
        assert (status, answer["code"]) == (401, "unauthenticated")
        assert (await it.come(callback(1), Authorization="Bearer other"))[0] == 401
        assert (await it.come(callback(1), Authorization="Bearer a-token"))[0] == 200


async def test_with_a_secret_the_intakes_tokens_are_not_asked_for(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis, intake__tokens=["a-token"]) as it:
        assert (await it.come(callback(1), Host="bridge.example"))[0] == 200


async def test_where_callbacks_are_off_there_is_no_such_path(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis, callback__enabled=False) as it:
        errand = await it.call("c-1")
        assert (await it.come(callback(errand)))[0] == 404
        async with bench(redis.url) as store:
            assert [key for key in await everything(store.connection) if ":errand:" in key] == []
        assert await it.callbacks() == []


# What cannot be used


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 400, "unreadable_json"),
        (b"{", {}, 400, "unreadable_json"),
        (b'{"meta": {"api_secret": "\xff"}}', {}, 400, "unreadable_json"),
        (b'{"meta": {"api_secret": "123456"}}', {}, 422, "invalid_callback"),
        (b'{"data": [], "meta": {"api_secret": "123456"}}', {}, 422, "invalid_callback"),
        (b'{"data": {"type": 1, "id": "1"}, "meta": {"api_secret": "123456"}}', {}, 422, "invalid_callback"),
        (b'{"data": {"type": "x", "id": "1"}, "included": 7, "meta": {"api_secret": "123456"}}', {}, 422,
         "invalid_callback"),
        (b'{"meta": {"api_secret": "123456"}, "x": ' + b"[" * 300 + b"]" * 300 + b"}", {}, 422, "invalid_callback"),
        (b"{}", {"Content_Type": ""}, 415, "unsupported_media_type"),
        (b"{}", {"Content_Type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        (b"{}", {"Content_Type": "application/json; charset=latin-1"}, 415, "unsupported_media_type"),
        (b"{}", {"Content_Encoding": "br"}, 415, "unsupported_encoding"),
        (b"{}", {"Content_Encoding": "gzip"}, 401, "bad_secret"),
        (b"\x1f\x8b{}", {"Content_Encoding": "gzip"}, 400, "broken_encoding"),
        (b" " * 5000, {}, 413, "body_too_large"),
    ],
)  # fmt: skip
async def test_what_is_no_callback_is_refused(
    redis: EmbeddedRedis, tmp_path: Path, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async with desk(tmp_path, redis, callback__body_bytes_max=4096) as it:
        answered, answer = await it.come(body, **headers)
        assert (answered, answer["code"]) == (status, code)
        assert it.metric("bridge_callbacks_refused_total", code=code) == 1
        kept = (await it.get("/v1/rejections"))["rejections"]
        # Of a sender whose secret fits, for an operator to see; without the secret.
        assert [rejection["code"] for rejection in kept] == (["invalid_callback"] if status == 422 else [])
        assert SECRET not in str(kept)
        assert await it.callbacks() == []


async def test_what_is_a_callback_is_taken_in_every_dress(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis) as it:
        text = orjson.dumps(callback(1))
        for body, headers in (
            (text, {"Content_Type": "application/json"}),
            (text, {"Content_Type": "application/json; charset=UTF-8"}),
            (b"\xef\xbb\xbf" + text, {}),
            (gzip.compress(text), {"Content_Encoding": "gzip"}),
            (text, {"Expect": "100-continue"}),
        ):
            assert (await it.come(body, **headers))[0] == 200
        assert len(await it.callbacks()) == 1
        large = callback(2, api_secret=SECRET, note="x" * 500_000)
        assert (await it.come(large))[0] == 200


async def test_a_stranger_holds_up_no_event(tmp_path: Path) -> None:
    """Bodies that do not come take the places of callbacks alone."""
    held = asyncio.Event()

    async def receive(_callback: Any) -> Received:
        await held.wait()
        return Received("cb-1", duplicate=False)

    async def nothing(_given: Any) -> Any:
        return []

    route = CallbackRoute(CallbackSecrets([SECRET]), receive, nothing, lambda _: None, 4096, in_flight_max=2)
    intake = make_intake_app(
        authenticator=Authenticator([], [], lambda: 0.0),
        translate=lambda value, text: pytest.fail("no event came"),
        accept=nothing,
        reject=nothing,
        body_bytes_max=4096,
        events_max=10,
        draining=lambda: False,
        callbacks=route,
    )
    runner, port = await serve(intake, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}/v1"
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as http:

        async def come() -> int:
            async with http.post(f"{url}/cention/callback", data=orjson.dumps(callback(1))) as response:
                return response.status

        first = [asyncio.create_task(come()) for _ in range(2)]
        await eventually(lambda: route.in_flight == 2, "both places are taken")
        async with http.post(f"{url}/cention/callback", data=b"{}") as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "1")
        async with http.post(f"{url}/events", data=b"[]") as response:
            assert response.status == 207
        held.set()
        assert await asyncio.gather(*first) == [200, 200]
    await runner.cleanup()


# Durability


async def test_while_redis_is_away_a_callback_is_sent_back(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis) as it:
        await redis.stop()
        url = f"{it.service.intake_url}/v1/cention/callback"
        headers = {"Content-Type": "application/json"}
        async with it.http.post(url, data=orjson.dumps(callback(1)), headers=headers) as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (503, "store_unavailable")
            assert int(response.headers["Retry-After"]) > 0
        await redis.start()

        async def taken() -> bool:
            status, answer = await it.come(callback(1))
            return status == 200 and answer["result"] == "accepted"

        await eventually(taken, "redis is back")


async def test_the_secret_and_the_answer_go_no_further_than_they_must(redis: EmbeddedRedis, tmp_path: Path) -> None:
    tokens: dict[str, Any] = {"admin__viewer_tokens": ["see"], "admin__operator_tokens": ["do"]}
    with captured() as log:
        async with desk(tmp_path, redis, **tokens) as it:
            status, answer = await it.come(callback(7))
            assert status == 200
            await it.come(callback(8, api_secret="guess"))
            await it.come(b'{"data": 7, "meta": {"api_secret": "123456"}, "to": "david.liew@test.se"}')
            async with bench(redis.url) as store:
                stored = "".join((await everything(store.connection)).values())
            assert SECRET not in stored
            assert "sadadad" in stored, "the check sees what there is"
            async with it.http.get(f"{it.service.admin_url}/metrics") as response:
                metrics = await response.text()
            seen = ""
            for path in ("/v1/callbacks", f"/v1/callbacks/{answer['callbackId']}", "/v1/rejections"):
                await it.get(path, status=401)
                seen += orjson.dumps(await it.get(path, "see")).decode()
                assert SECRET not in str(await it.get(path, "do"))
    assert [word for word in PERSONAL if word in log.text] == []
    assert [word for word in PERSONAL if word in seen + metrics] == []
    assert answer["callbackId"] in log.text


async def test_lists_take_the_questions_that_the_others_take(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis) as it:
        ids = [(await it.come(callback(number)))[1]["callbackId"] for number in range(1, 6)]
        first = await it.get("/v1/callbacks?limit=3")
        second = await it.get(f"/v1/callbacks?limit=3&cursor={first['next']}")
        found = [each["callbackId"] for page in (first, second) for each in page["callbacks"]]
        assert sorted(found) == sorted(ids)
        assert second["next"] is None
        for query in ("limit=0", "cursor=x", "state=1"):
            await it.get(f"/v1/callbacks?{query}", status=400)


async def test_a_secret_is_changed_while_the_bridge_runs(redis: EmbeddedRedis, tmp_path: Path) -> None:
    secrets = ["first"]

    def reload() -> Any:
        return settings(tmp_path, redis.url, callback__secret=list(secrets))

    async with (
        app.running(reload(), sandbox_port=0, reload=reload, reload_every_s=0.05) as service,
        aiohttp.ClientSession() as http,
    ):
        it = Desk(service, http)
        assert (await it.come(callback(1, api_secret="second")))[0] == 401
        secrets[:] = ["second", "first"]

        async def changed() -> bool:
            return (await it.come(callback(1, api_secret="second")))[0] == 200

        await eventually(changed, "the new secret is in force")
        assert (await it.come(callback(2, api_secret="first")))[0] == 200

"""The admin listener of a running service: every endpoint, who may see what, and what is wrong with a question."""

import asyncio
import itertools
import os
import signal
from pathlib import Path
from urllib.parse import quote

import aiohttp
from aiohttp import web

from bridge import __version__, app
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import ended, event, eventually, inbound, outbound, settings
from tests.integration.cention_support import web_server
from tests.integration.service_support import Api, running
from tests.integration.store_support import bench

PAIR = (1000, 1001)
VIEWER, OPERATOR = "a-viewers-token", "an-operators-token"
GUARDED = {"admin__viewer_tokens": [VIEWER, "another"], "admin__operator_tokens": [OPERATOR]}
CALL_MEMBERS = {
    *("callId", "deviceId", "extensionId", "direction", "state", "calledNumber", "callingNumber"),
    *("queueName", "queueNumber", "errandId", "startedAt", "updatedAt"),
}


# Probes and metrics


async def test_a_service_is_alive_and_ready_and_counts(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis, **GUARDED) as api:
        assert await api.get("/livez") == {"status": "alive"}
        ready = await api.get("/readyz")
        assert ready["status"] == "ready"
        assert set(ready["conditions"].values()) == {True}
        assert await api.post(inbound("c-1", PAIR)) == 202
        assert await api.post(inbound("c-1", PAIR)) == 200
        assert await api.post(inbound("c-2", PAIR, calledNumber="x")) == 422
        await api.delivered(1)
        metrics = await api.get("/metrics")
        assert f'bridge_build_info{{version="{__version__}"}} 1.0' in metrics
        for result in ("accepted", "duplicate", "rejected"):
            assert f'bridge_events_total{{result="{result}"}} 1.0' in metrics

        async def counted() -> bool:
            said = await api.get("/metrics")
            return (
                'bridge_delivery_attempts_total{kind="open_errand",outcome="delivered"} 1.0' in said
                and "bridge_calls_active 1.0" in said
                and "bridge_deliveries_waiting 0.0" in said
                and "bridge_redis_available 1.0" in said
            )

        await eventually(counted, "the gauges")


async def test_what_is_under_way_is_counted(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis, delivery__drain_s=0.1) as api:
        assert api.service.sandbox is not None
        api.service.sandbox.set_faults([{"delay_s": 3600}])
        for number in range(3):
            assert await api.post(inbound(f"c-{number}", (1, number))) == 202

        async def counted(under_way: int) -> bool:
            said = await api.get("/metrics")
            assert "bridge_deliveries_in_line 0.0" in said
            assert "bridge_events_paced 0.0" in said
            return f"bridge_delivery_attempts_under_way {under_way}.0" in said

        await eventually(lambda: counted(3), "three attempts")


async def test_a_redis_that_takes_no_writes_makes_a_service_unready(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with bench(redis.url) as store, running(tmp_path, redis, spool__enabled=False) as api:
        await api.post(inbound("c-1", PAIR))
        await store.raw("REPLICAOF", "127.0.0.1", "1")
        conditions = (await api.get("/readyz", 503))["conditions"]
        assert conditions["redis"] is False
        assert conditions["settings"] is True
        assert await api.get("/livez")
        assert len((await api.get("/v1/calls"))["calls"]) == 1, "reading goes on"
        await store.raw("REPLICAOF", "NO", "ONE")
        assert (await api.get("/readyz"))["status"] == "ready"


async def test_a_redis_that_does_not_answer_is_said(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis, redis__timeout_s=0.2, spool__enabled=False) as api:
        assert redis.pid is not None
        os.kill(redis.pid, signal.SIGSTOP)
        try:
            assert (await api.get("/readyz", 503))["conditions"]["redis"] is False
            assert await api.get("/livez")
            assert await api.get("/metrics")
            for path in ("/v1/calls", "/v1/calls/1000/1001", "/v1/calls/c-1", "/v1/rejections"):
                assert (await api.get(path, 503))["code"] == "store_unavailable"
        finally:
            os.kill(redis.pid, signal.SIGCONT)

        async def ready() -> bool:
            async with api.http.get(f"{api.service.admin_url}/readyz") as response:
                return response.status == 200

        await eventually(ready, "it is ready again")


async def test_a_service_that_drains_is_alive_and_not_ready(redis: EmbeddedRedis, tmp_path: Path) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await answer.wait()
        return web.Response(status=204)

    async with web_server(slow) as url, aiohttp.ClientSession() as http:
        more = {"cention__base_url": f"{url}/s/demo", "cention__token": "t"}
        up: asyncio.Future[app.Service] = asyncio.get_running_loop().create_future()

        async def serve() -> None:
            async with app.running(settings(tmp_path, redis.url, **more)) as service:
                up.set_result(service)
                await service.stop.wait()

        serving = asyncio.create_task(serve())
        api = Api(await up, http)
        assert await api.post(inbound("c-1", PAIR)) == 202
        await asked.wait()
        api.service.stop.set()

        async def draining() -> bool:
            return await api.post(inbound("c-2", PAIR)) == 503

        await eventually(draining, "intake closes")
        conditions = (await api.get("/readyz", 503))["conditions"]
        assert (conditions["accepting"], conditions["redis"]) == (False, True)
        assert await api.get("/livez") == {"status": "alive"}
        answer.set()
        await serving


# Who may see what


async def test_without_tokens_everybody_on_loopback_is_an_operator(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis) as api:
        await api.post(inbound("c-1", PAIR))
        (call,) = (await api.get("/v1/calls"))["calls"]
        assert call["callingNumber"] == "46701740605"


async def test_a_viewer_sees_masked_numbers_and_an_operator_all(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis, **GUARDED) as api:
        await api.post(inbound("c-1", PAIR, callingName="Åsa Öberg", cuid="5462"))
        await api.post(inbound("c-2", PAIR, calledNumber="+46701"))
        for path in ("/v1/calls", "/v1/calls/1000/1001"):
            (call,) = (await api.get(path, token=VIEWER))["calls"]
            assert (call["calledNumber"], call["callingNumber"]) == ("********401", "********605")
            (call,) = (await api.get(path, token=OPERATOR))["calls"]
            assert (call["calledNumber"], call["callingNumber"]) == ("46846500401", "46701740605")
        for token, sees in ((VIEWER, False), ("another", False), (OPERATOR, True)):
            call = await api.get("/v1/calls/c-1", token=token)
            refused = await api.get("/v1/rejections", token=token)
            assert ("46701740605" in str(call)) is sees
            assert ("Öberg" in str(call)) is sees
            assert ("46701740605" in str(refused)) is sees


async def test_a_stranger_sees_the_probes_alone(redis: EmbeddedRedis, tmp_path: Path) -> None:
    headers = [
        (None, "unauthenticated"),
        ("Basic YTpi", "unauthenticated"),
        ("Bearer", "unauthenticated"),
        ("Bearer wrong", "bad_token"),
        (f"Bearer {VIEWER}x", "bad_token"),
        (f"Bearer {VIEWER.upper()}", "bad_token"),
    ]
    paths = ("/v1/calls", "/v1/calls/1000/1001", "/v1/calls/c-1", "/v1/rejections", "/v1/nothing")
    async with running(tmp_path, redis, **GUARDED) as api:
        for path in ("/livez", "/readyz", "/metrics"):
            await api.get(path)
        for path, (header, code) in itertools.product(paths, headers):
            sent = {} if header is None else {"Authorization": header}
            async with api.http.get(api.service.admin_url + path, headers=sent) as response:
                assert response.status == 401, path
                assert response.headers["WWW-Authenticate"].startswith("Bearer")
                body = await response.text()
                assert f'"code":"{code}"' in body
                assert "wrong" not in body
                assert VIEWER not in body


# Calls


async def test_calls_are_listed_newest_first_and_by_filter(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis) as api:
        await api.post(inbound("in-1", (1000, 1), queueName="EHS", queueNumber="12", occurredAt="2026-01-01T10:00:00Z"))
        await api.post(outbound("out-1", (1000, 2), occurredAt="2026-01-01T11:00:00.5+01:00"))
        await api.post(inbound("in-2", (2000, 1), occurredAt="2026-01-01T10:00:01Z"))
        await api.post(event("held", "in-2", (2000, 1), 2))
        await api.post(inbound("over", (1000, 1)), ended("over", (1000, 1)))
        await api.delivered(5)

        async def found(query: str = "") -> list[str]:
            listed = await api.get(f"/v1/calls{query}")
            assert set(listed) == {"calls", "next"}
            return [call["callId"] for call in listed["calls"]]

        assert await found() == ["in-2", "out-1", "in-1"]
        assert await found("?deviceId=1000") == ["out-1", "in-1"]
        assert await found("?deviceId=1000&extensionId=2") == ["out-1"]
        assert await found("?direction=inbound") == ["in-2", "in-1"]
        assert await found("?state=held") == ["in-2"]
        assert await found("?state=started&direction=inbound") == ["in-1"]
        assert await found("?state=ended") == []
        assert await found("?extensionId=9007199254740991") == []

        async def has_errand() -> bool:
            calls = (await api.get("/v1/calls?direction=inbound&deviceId=1000"))["calls"]
            return calls[0]["errandId"] is not None

        await eventually(has_errand, "the errand's id")
        (call,) = (await api.get("/v1/calls?direction=inbound&deviceId=1000"))["calls"]
        assert set(call) == CALL_MEMBERS
        assert call.pop("updatedAt") == "2026-01-01T10:00:00.000Z"
        assert call.pop("errandId").isdigit()
        assert call == {
            "callId": "in-1",
            "deviceId": 1000,
            "extensionId": 1,
            "direction": "inbound",
            "state": "started",
            "calledNumber": "46846500401",
            "callingNumber": "46701740605",
            "queueName": "EHS",
            "queueNumber": "12",
            "startedAt": "2026-01-01T10:00:00.000Z",
        }


async def test_pages_of_calls_go_on_by_their_cursor(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis) as api:
        same = "2026-01-01T10:00:00Z"
        await api.post(*(inbound(f"c-{number}", (1, number), occurredAt=same) for number in range(7)))
        found, query = [], "?limit=3"
        while True:
            page = await api.get(f"/v1/calls{query}")
            found += [call["callId"] for call in page["calls"]]
            if page["next"] is None:
                break
            query = f"?limit=3&cursor={quote(page['next'])}"
        assert sorted(found) == [f"c-{number}" for number in range(7)]
        assert len(found) == 7


BAD_QUESTIONS = {
    "?limit=0": ["limit"],
    "?limit=1001": ["limit"],
    "?limit=%D9%A3": ["limit"],
    "?deviceId=-1": ["deviceId"],
    "?deviceId=9007199254740992": ["deviceId"],
    "?deviceId=": ["deviceId"],
    "?cursor=": ["cursor"],
    "?cursor=bm90IGpzb24": ["cursor"],
    "?cursor=%C3%A5%00": ["cursor"],
    "?cursor=NQ==": ["cursor"],
    "?cursor=WzFlMzA4LCJ4Il0=": ["cursor"],
    "?cursor=WyIxIiwieCJd": ["cursor"],
    "?deviceId=a&extensionId=1.0&direction=up&state=ringing&limit=many&cursor=x&callId=1": [
        "callId",
        "deviceId",
        "extensionId",
        "direction",
        "state",
        "limit",
        "cursor",
    ],
}


async def test_a_bad_question_is_told_all_its_faults(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis) as api:
        for query, parameters in BAD_QUESTIONS.items():
            problem = await api.get(f"/v1/calls{query}", 400)
            assert problem["code"] == "bad_query"
            assert [error["parameter"] for error in problem["errors"]] == parameters
            assert all(error["parameter"] in problem["detail"] for error in problem["errors"])


async def test_a_pair_has_its_active_calls_or_404(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis) as api:
        await api.post(inbound("c-1", PAIR), event("held", "c-1", PAIR, 2))
        await api.post(outbound("c-2", PAIR))
        calls = (await api.get("/v1/calls/1000/1001"))["calls"]
        assert [(call["callId"], call["state"]) for call in calls] == [("c-2", "started"), ("c-1", "held")]
        for path in ("1000/1002", "0/0", "9007199254740991/9007199254740991", "9999999999999999/1"):
            assert (await api.get(f"/v1/calls/{path}", 404))["code"] == "no_active_call"
        for path in ("1000/x", "-1/1", "1000/1001/1", "1" * 5000 + "/1", "%D9%A3/1"):
            assert (await api.get(f"/v1/calls/{path}", 404))["code"] == "not_found"


async def test_one_call_has_its_timeline(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis, delivery__schedule_s=[0.01]) as api:
        sandbox = api.service.sandbox
        assert sandbox is not None
        sandbox.set_faults([{"status": 503, "times": 1}])
        await api.post(inbound("c-1", PAIR, mood="calm"))
        await api.delivered(1)
        await api.post(event("answered", "c-1", PAIR, 2, callingNumber="+nonsense"))
        await api.post(ended("c-1", PAIR, link="https://rec.example/1"))
        await api.delivered(2)

        async def written() -> bool:
            return len((await api.get("/v1/calls/c-1"))["timeline"]) == 12

        await eventually(written, "the last answer is written down")
        call = await api.get("/v1/calls/c-1")
        timeline = call.pop("timeline")
        assert set(call) == CALL_MEMBERS
        assert (call["state"], call["errandId"]) == ("ended", str(sandbox.errands[0].errand_id))
        kinds = [step["kind"] for step in timeline]
        assert sorted(kinds) == ["answer"] * 3 + ["attempt"] * 3 + ["decision"] * 3 + ["event"] * 3
        assert kinds[:2] == ["event", "decision"]
        assert all((step["deviceId"], step["extensionId"]) == PAIR for step in timeline)
        started = timeline[0]
        assert started["event"]["mood"] == "calm", "unknown members are in the journal"
        opening = next(step for step in timeline if step["kind"] == "decision")
        assert (opening["from"], opening["to"], len(opening["effects"])) == ("unseen", "started", 1)
        first, second, end = [step for step in timeline if step["kind"] == "answer"]
        assert (first["outcome"], first["status"], first["then"], first["attempt"]) == ("try_later", 503, "retry", 1)
        assert (second["outcome"], second["status"], second["then"], second["attempt"]) == (
            "delivered",
            201,
            "delivered",
            2,
        )
        assert first["delivery"] == second["delivery"] == opening["effects"][0]
        assert second["errandId"] == call["errandId"]
        assert (end["outcome"], end["attempt"]) == ("delivered", 1)
        (noted,) = [step for step in timeline if step.get("notes")]
        assert "callingNumber was passed over" in noted["notes"][0]


async def test_an_unknown_call_is_404(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis) as api:
        assert (await api.get("/v1/calls/nobody", 404))["code"] == "unknown_call"
        assert (await api.get("/v1/nothing", 404))["code"] == "not_found"
        async with api.http.post(f"{api.service.admin_url}/v1/calls") as response:
            assert response.status == 405
            assert (await response.json())["code"] == "method_not_allowed"


CALL_IDS = (
    *("a/b", "1000/1001", "50%", "%2F", "å ö/ü", "a b", "{8f14e45f}", "a?b#c&d=e", "a+b", "a:b@c;d", "..x"),
    "'\"<>\\^`|",
)


async def test_a_calls_id_may_hold_anything_that_a_path_can_carry(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis) as api:
        for number, call_id in enumerate(CALL_IDS):
            assert await api.post(inbound(call_id, (1, number))) == 202
            call = await api.get("/v1/calls/" + quote(call_id, safe=""))
            assert (call["callId"], call["extensionId"]) == (call_id, number)


# Rejections


async def test_rejections_are_listed_with_their_reason_and_by_cursor(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with running(tmp_path, redis) as api:
        assert await api.get("/v1/rejections") == {"rejections": [], "next": None}
        for number in range(5):
            assert await api.post(inbound(f"c-{number}", PAIR, deviceId="1000")) == 422
        first = await api.get("/v1/rejections?limit=2")
        newest = first["rejections"][0]
        assert set(newest) == {"id", "at", "eventId", "code", "detail", "errors", "event"}
        assert (newest["eventId"], newest["code"]) == ("c-4-started-1", "invalid_event")
        assert [(error["pointer"], error["code"]) for error in newest["errors"]] == [("/deviceId", "wrong_type")]
        assert newest["event"]["callId"] == "c-4"
        found = [each["eventId"] for each in first["rejections"]]
        cursor = first["next"]
        while cursor is not None:
            page = await api.get(f"/v1/rejections?limit=2&cursor={cursor}")
            found += [each["eventId"] for each in page["rejections"]]
            cursor = page["next"]
        assert found == [f"c-{number}-started-1" for number in reversed(range(5))]
        for query in ("?cursor=x", "?cursor=0-0", "?cursor=%D9%A3-%D9%A3", f"?cursor={'9' * 30}-1", "?cursor=", "?a=1"):
            assert (await api.get(f"/v1/rejections{query}", 400))["code"] == "bad_query"
        assert (await api.get("/v1/rejections?cursor=1-1"))["rejections"] == []

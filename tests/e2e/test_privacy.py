"""No number, name, `cuid` or token of a whole run gets into a log line, the metrics, a problem or a viewer's sight.

The run goes through what makes a service talk: refused and withheld callers, a server that quotes what it was sent,
one that hangs up, a token that is refused, a Redis that stops, requests that are no HTTP.
"""

import asyncio
import base64
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import pytest
from yarl import URL

from bridge import app
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import ended, event, eventually, inbound, outbound, settings
from tests.fakes.logs import Lines, captured

CALLER, CALLED, DIALLED, WRONG = "46701740698", "46846500477", "46701740687", "4670174068199999"
TOKENS = {
    "intake": "intake-token-7f3a9c",
    "viewer": "viewer-token-1d8e2b",
    "operator": "operator-token-5c6f0a",
    "cention": "cention-token-9b2d4e",
    "route": "route-token-3e7a1f",
    "guess": "guessed-token-8c5d2a",
}
WEBHOOK_KEY = base64.b64encode(b"a webhook key of the test").decode()
PERSONAL = {
    "callingNumber": CALLER,
    "callingName": "Kunigunde Zwiebelfisch",
    "cuid": "cuid-5462-13-6485",
    "link": f"https://rec.example/{CALLER}?sig=4f5e6d",
    "pagingNumber": "46846500466",
    "pagingName": "Wunderlich",
    "extraData": {"comment": "about Zwiebelfisch, 46701740698", "callReason": "Gallenstein"},
    "customer": {"phone": CALLER, "mail": "kunigunde@example.org"},
}
SECRETS = (
    # As digits alone, however they are written; three of a number are shown on purpose.
    *("701740698", "846500477", "701740687", "70174068199999", "846500466"),
    *("Kunigunde", "Zwiebelfisch", "Wunderlich", "Gallenstein", "kunigunde@", "cuid-5462", "rec.example", "4f5e6d"),
)
CREDENTIALS = (*TOKENS.values(), WEBHOOK_KEY)


def secrets_in(text: str, secrets: tuple[str, ...] = SECRETS + CREDENTIALS) -> list[str]:
    """Which of `secrets` stand in `text`, numbers also with what people write between digits."""
    joined = "".join(char for char in text if char not in " ()-./\\")
    return [secret for secret in secrets if secret in text or (secret.isdigit() and secret in joined)]


class Run:
    """A service, and everything that it has said.

    Attributes:
        problems: the bodies of all answers that were errors.
    """

    def __init__(self, service: app.Service, http: aiohttp.ClientSession, log: Lines) -> None:
        self.service, self.http, self.log = service, http, log
        self.problems: list[str] = []

    async def post(self, body: bytes | object, *, token: str | None = TOKENS["intake"], **headers: str) -> int:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {"Content-Type": "application/json", **headers}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        async with self.http.post(f"{self.service.intake_url}/v1/events", data=raw, headers=sent) as response:
            text = await response.text()
            if response.status >= 400 or response.status == 207:
                self.problems.append(text)
            return response.status

    async def get(self, path: str, token: str | None = None) -> str:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = URL(self.service.admin_url + path, encoded=True)
        async with self.http.get(url, headers=headers) as response:
            text = await response.text()
            if response.status >= 400:
                self.problems.append(text)
            return text

    async def timeline(self, call_id: str) -> list[dict[str, Any]]:
        call = orjson.loads(await self.get(f"/v1/calls/{quote(call_id)}", TOKENS["operator"]))
        return list(call.get("timeline", []))

    async def answered(self, call_id: str, *outcomes: str) -> None:
        """Waits until the call's attempts have come to these outcomes, in this order."""

        async def has() -> bool:
            said = [step["outcome"] for step in await self.timeline(call_id) if step["kind"] == "answer"]
            return said[: len(outcomes)] == list(outcomes)

        await eventually(has, f"{call_id} {outcomes}")

    async def raw(self, url: str, data: bytes) -> None:
        """Sends bytes to a listener and reads until it closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
        writer.write(data)
        async with asyncio.timeout(30):
            await reader.read()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def run(redis: EmbeddedRedis, tmp_path: Path) -> AsyncIterator[Run]:
    more = {
        "intake__tokens": [TOKENS["intake"]],
        "intake__body_bytes_max": 65536,
        "intake__webhook_secrets": [f"whsec_{WEBHOOK_KEY}"],
        "admin__viewer_tokens": [TOKENS["viewer"]],
        "admin__operator_tokens": [TOKENS["operator"]],
        "cention__token": TOKENS["cention"],
        "cention__routes": [{"queue": "vip", "token": TOKENS["route"]}],
        "calls__orphan_grace_s": 1,
        "delivery__schedule_s": [0.05],
        "redis__timeout_s": 0.5,
    }
    with captured("debug") as log:
        async with (
            app.running(settings(tmp_path, redis.url, **more), sandbox_port=0) as service,
            aiohttp.ClientSession() as http,
        ):
            yield Run(service, http, log)


async def test_nothing_personal_is_said(run: Run, redis: EmbeddedRedis) -> None:
    await calls_that_go_well(run)
    await a_cention_that_misbehaves(run)
    await senders_that_misbehave(run)
    await a_redis_that_stops(run, redis)

    assert await run.get("/livez")
    metrics = await run.get("/metrics")
    assert "bridge_cention_tokens_refused 1.0" in metrics
    assert secrets_in(metrics) == []
    assert [line for line in run.log if secrets_in(line)] == []
    assert [problem for problem in run.problems if secrets_in(problem)] == []
    # The check itself sees what it looks for.
    assert secrets_in(str(PERSONAL))
    assert len(run.problems) > 10
    lines = [orjson.loads(line) for line in run.log]
    said = {line["event"] for line in lines}
    assert {"ready", "event refused", "delivery parked", "delivery retry", "delivery delivered"} <= said
    assert "cention refuses a token: deliveries with it wait until it works" in said

    for token, sees in ((TOKENS["viewer"], False), (TOKENS["operator"], True)):
        paths = ["/v1/calls", "/v1/calls/1000/1001", "/v1/rejections?limit=1000"]
        calls = ("in-1", "out-1", "passed", "quoted", "cut", "vip", "orphan", "withheld")
        shown = [await run.get(path, token) for path in (*paths, *(f"/v1/calls/{call}" for call in calls))]
        assert not any(secrets_in(text, CREDENTIALS) for text in shown)
        assert any(secrets_in(text) for text in shown) is sees
        assert "********698" in "".join(shown) or sees


async def calls_that_go_well(run: Run) -> None:
    assert await run.post(inbound("in-1", (1000, 1001), calledNumber=f"+{CALLED}", **PERSONAL)) == 202
    assert await run.post(inbound("in-1", (1000, 1001), calledNumber=f"+{CALLED}", **PERSONAL)) == 200
    assert await run.post(event("answered", "in-1", (1000, 1001), 2, callingNumber=f"+{WRONG}")) == 202
    assert await run.post(outbound("out-1", (1000, 1002), calledNumber=f"00{DIALLED}", cuid=PERSONAL["cuid"])) == 202
    assert await run.post(ended("out-1", (1000, 1002), link=PERSONAL["link"])) == 202
    withheld = inbound("withheld", (1000, 1003), calledNumber=f"+{CALLED}", callingNumber="anonymous")
    assert await run.post(withheld) == 202
    assert await run.post(ended("orphan", (1000, 1004), direction="outbound", calledNumber=f"00{DIALLED}")) == 202
    passed = [
        inbound("passed", (1000, 1005), calledNumber=f"+{CALLED}", **PERSONAL),
        event("transferred", "passed", (1000, 1005), 2, transferredTo={"deviceId": 2000, "extensionId": 1}),
        ended("passed", (2000, 1), link=PERSONAL["link"]),
    ]
    assert await run.post(passed) == 207
    await run.answered("in-1", "delivered")
    await run.answered("out-1", "delivered", "delivered")
    await run.answered("orphan", "delivered")
    await run.answered("passed", *["delivered"] * 5)


async def a_cention_that_misbehaves(run: Run) -> None:
    sandbox = run.service.sandbox
    assert sandbox is not None
    said = {"title": f"destNumber {CALLED} of Zwiebelfisch", "detail": f"from +{CALLER}, token {TOKENS['cention']}"}
    quoted = orjson.dumps({"errors": [said]}).decode()
    page = f"<html><title>502 for {CALLER} ({PERSONAL['callingName']})</title>Bearer {TOKENS['cention']}</html>"
    sandbox.set_faults(
        [
            {"match": {"referenceId": "quoted"}, "status": 502, "content_type": "text/html", "body": page, "times": 1},
            {"match": {"referenceId": "quoted"}, "status": 406, "body": quoted},
            {"match": {"referenceId": "cut"}, "reset": "after", "times": 1},
            {"match": {"queueName": "vip"}, "status": 401, "body": quoted.replace(TOKENS["cention"], TOKENS["route"])},
        ]
    )
    for number, call_id in enumerate(("quoted", "cut")):
        assert await run.post(inbound(call_id, (3000, number), calledNumber=f"+{CALLED}", **PERSONAL)) == 202
    vip = inbound("vip", (3000, 9), calledNumber=f"+{CALLED}", queueName="vip", **PERSONAL)
    assert await run.post(vip) == 202
    await run.answered("quoted", "try_later", "rejected")
    await run.answered("cut", "unknown", "delivered")
    await run.answered("vip", "unauthorised")


async def senders_that_misbehave(run: Run) -> None:
    wrong = [
        inbound("bad", (4000, 1), calledNumber=WRONG, **PERSONAL),
        inbound("bad", (4000, 1), calledNumber="Kunigunde", **{**PERSONAL, "callingNumber": f"+{WRONG}"}),
        inbound("bad", (4000, 1), calledNumber=int(CALLED), **{**PERSONAL, "callingName": {"deep": ["Zwiebelfisch"]}}),
        inbound("bad", (4000, 1), occurredAt=f"at {CALLER}", calledNumber=f"+{CALLED}", **PERSONAL),
        {**PERSONAL, "deviceId": CALLER, "type": CALLER, "direction": "Zwiebelfisch"},
        [CALLER, {"callingNumber": CALLER}],
    ]
    for each in wrong:
        assert await run.post(each) in (207, 422)
    assert await run.post(b'{"callingNumber": "' + CALLER.encode() + b'"') == 400
    assert await run.post(b'{"callingNumber": "' + CALLER.encode() + b'\xff"}') == 400
    line = orjson.dumps(PERSONAL) + b"\n{" + CALLER.encode() + b"\n"
    assert await run.post(line, **{"Content-Type": "application/x-ndjson"}) == 207
    assert await run.post(CALLER.encode(), **{"Content-Type": f"text/{CALLER}"}) == 415
    assert await run.post(CALLER.encode(), **{"Content-Encoding": CALLER}) == 415
    assert await run.post(orjson.dumps(PERSONAL) * 400) == 413
    # Strangers
    assert await run.post(PERSONAL, token=None) == 401
    assert await run.post(PERSONAL, token=TOKENS["guess"]) == 401
    signed = {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": f"v1,{WEBHOOK_KEY}"}
    assert await run.post(PERSONAL, token=None, **signed) == 401
    for token in (None, TOKENS["guess"]):
        await run.get(f"/v1/calls?callingNumber={CALLER}", token)
    # Questions
    for path in (
        f"/v1/calls?direction={CALLER}&state={CALLER}&cursor={CALLER}&deviceId={CALLER}x",
        f"/v1/calls/{CALLER}",
        f"/v1/{CALLER}/{quote('Zwiebelfisch')}",
        f"/v1/rejections?cursor={CALLER}",
    ):
        await run.get(path, TOKENS["operator"])
    for url in (run.service.intake_url, run.service.admin_url):
        authorization = f"Authorization: Bearer {TOKENS['guess']}\x00 {CALLER}"
        await run.raw(url, f"GET /{CALLER} HTTP/1.1\r\nHost: x\r\n{authorization}\r\n\r\n".encode())
        await run.raw(url, f"{CALLER} Zwiebelfisch\r\n\r\n".encode())


async def a_redis_that_stops(run: Run, redis: EmbeddedRedis) -> None:
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        late = inbound("late", (5000, 1), calledNumber=f"+{CALLED}", **PERSONAL)
        assert await run.post(late) in (202, 503)
        await run.get("/v1/calls", TOKENS["viewer"])
        await run.get("/readyz")
    finally:
        os.kill(redis.pid, signal.SIGCONT)

    async def repeated() -> bool:
        return await run.post(late) in (200, 202)

    await eventually(repeated, "redis is back")
    await run.answered("late", "delivered")

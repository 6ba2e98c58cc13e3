"""GET /openapi.json: valid, complete, and true of what both listeners of a running service answer."""

import io
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import aiohttp
import orjson
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from yarl import URL

from bridge.admin.operations import Step
from bridge.app import Service, running
from bridge.calls.state import CallState
from bridge.cention.documents import MEDIA_TYPE
from bridge.cention.sandbox import AnswerGiven, AttachedFile
from bridge.intake import operations as intake
from bridge.openapi import document, document_json
from bridge.runtime.operations import OF_EVERY_LISTENER
from bridge.runtime.web import PROBLEM_TYPE
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import ended, event, eventually, inbound, outbound, settings
from tests.fakes.receiver import receiver
from tests.integration.callback_support import SECRET, SIGNING, callback

ROOT = Path(__file__).parents[2]
PAIR = (1000, 1001)
INTAKE, VIEWER, OPERATOR = ({"Authorization": f"Bearer {name}"} for name in ("in", "see", "do"))
LINES = {"Content-Type": "application/x-ndjson"}


@asynccontextmanager
async def served(tmp_path: Path, redis: EmbeddedRedis, **more: object) -> AsyncIterator[Service]:
    tokens = {"intake__tokens": ["in"], "admin__viewer_tokens": ["see"], "admin__operator_tokens": ["do"], **more}
    async with running(settings(tmp_path, redis.url, **tokens), sandbox_port=0) as service:
        yield service


class Checked:
    """Requests whose answers are held against the document.

    Attributes:
        met: (operation, status) of every answer so far.
    """

    def __init__(self, http: aiohttp.ClientSession, told: dict[str, Any]) -> None:
        self._http, self._told = http, told
        self.met: set[tuple[str, int]] = set()
        for schema in told["components"]["schemas"].values():
            if "properties" in schema:
                schema["additionalProperties"] = False  # in this test, a member that is not described is a fault
        self._registry: Registry[Any] = Registry().with_resource("urn:told", DRAFT202012.create_resource(told))

    async def __call__(
        self, url: str, path: str, expected: int, *, template: str = "", method: str = "get", **options: Any
    ) -> Any:
        template = template or path.partition("?")[0]
        async with self._http.request(method, URL(url + path, encoded=True), **options) as response:
            assert response.status == expected, await response.text()
            operation = self._told["paths"][template][method]
            answer = operation["responses"][str(expected)]
            assert response.content_type in answer["content"]
            promised = answer.get("headers", {}).keys() - {"Bridge-Spooled"}
            assert response.headers.keys() & {"Retry-After", "WWW-Authenticate"} == (
                promised if response.content_type == PROBLEM_TYPE else set()
            )
            self.met.add((operation["operationId"], expected))
            body = await response.read()
        if "json" not in response.content_type:
            return body
        where = ("paths", template, method, "responses", str(expected), "content", response.content_type, "schema")
        at = "".join(f"/{_pointer(part)}" for part in where)
        validator = Draft202012Validator({"$ref": f"urn:told#{at}"}, registry=self._registry)
        answered = orjson.loads(body)
        assert [error.message for error in validator.iter_errors(answered)] == []
        return answered


def _pointer(text: str) -> str:
    return str(URL.build(path=text.replace("~", "~0").replace("/", "~1"))).replace("{", "%7B").replace("}", "%7D")


def test_it_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(document()).validate()


def _schemas(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _schemas(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _schemas(inner)


def test_every_schema_it_refers_to_is_there_and_none_is_left_over() -> None:
    told = document()
    referred = {found["$ref"] for found in _schemas(told) if isinstance(found.get("$ref"), str)}
    assert referred == {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}


def test_every_route_of_both_listeners_is_in_it_and_no_other() -> None:
    sources = "".join(
        file.read_text() for name in ("admin", "intake") for file in (ROOT / "bridge" / name).glob("*.py")
    )
    routes = re.findall(r'router\.add_(get|post)\(r?"([^"]+)"', sources)
    routes += [("post", path) for path in re.findall(r'\bhandlers\["([^"]+)"\] = ', sources)]  # the intake's
    assert len(routes) > 2
    told = {
        (method, _shape(path)) for path, item in document()["paths"].items() for method in item.keys() - {"servers"}
    }
    assert told == {(method.lower(), _shape(path)) for method, path in routes}


def _shape(path: str) -> str:
    """The path with what differs between the two taken out: parameters' names and patterns."""
    return re.sub(r"\{(?:[^{}]|\{[^{}]*\})*\}", "{}", path)


def test_its_codes_are_those_that_the_intakes_documentation_lists() -> None:
    table = set(re.findall(r"^\| (\d{3}) \| `(\w+)` \|", (ROOT / "docs" / "intake.md").read_text(), re.MULTILINE))
    (operation,) = [each for each in intake.OPERATIONS if each.name == "postEvents"]
    told = {
        (str(status), code)
        for answers in (operation.answers, OF_EVERY_LISTENER)
        for status, answer in answers.items()
        for code in answer.codes
    }
    assert told == table - {("404", "not_found"), ("405", "method_not_allowed")}  # of no operation


def test_its_states_are_those_of_calls() -> None:
    assert set(get_args(Step)) == {state.value for state in CallState}


async def test_it_is_served_to_viewers(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with served(tmp_path, redis) as service, aiohttp.ClientSession() as http:
        for headers, status in ((VIEWER, 200), (OPERATOR, 200), (INTAKE, 401), ({}, 401)):
            async with http.get(f"{service.admin_url}/openapi.json", headers=headers) as response:
                assert response.status == status
                if status == 200:
                    assert response.content_type == "application/json"
                    assert await response.read() == document_json()


async def test_what_the_intake_answers_is_as_told(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with served(tmp_path, redis) as service, aiohttp.ClientSession(headers=INTAKE) as http:
        ask = Checked(http, document())

        async def post(expected: int, body: object, headers: Mapping[str, str] | None = None) -> Any:
            data = io.BytesIO(body if isinstance(body, bytes) else orjson.dumps(body))
            headers = {"Content-Type": "application/json", **(headers or {})}
            return await ask(service.intake_url, "/v1/events", expected, method="post", data=data, headers=headers)

        good = inbound("in-1", PAIR)
        await post(202, good)
        await post(200, good)
        await post(422, {**good, "deviceId": "1000"})
        await post(422, 7)
        batch = [inbound("in-2", PAIR), good, {**good, "calledNumber": "x", "eventId": "bad"}, None]
        results = (await post(207, batch))["results"]
        assert [each["result"] for each in results] == ["accepted", "duplicate", "rejected", "rejected"]
        lines = b"\n".join([orjson.dumps(inbound("in-3", PAIR)), b"{", b"7"])
        assert len((await post(207, lines, LINES))["results"]) == 3
        await post(400, b"{")
        await post(400, b"x", {"Content-Encoding": "gzip"})
        await post(401, good, {"Authorization": "Bearer other"})
        await post(413, b" " * (1024 * 1024 + 1))
        await post(413, [7] * 1001)
        await post(415, good, {"Content-Type": "text/plain"})
        assert {status for _, status in ask.met} == {200, 202, 207, 400, 401, 413, 415, 422}


async def test_what_the_admin_listener_answers_is_as_told(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with served(tmp_path, redis) as service, aiohttp.ClientSession() as http:
        assert service.sandbox is not None
        ask, pair_path, call_path = (
            Checked(http, document()),
            "/v1/calls/{deviceId}/{extensionId}",
            "/v1/calls/{callId}",
        )
        service.sandbox.set_faults([{"endpoint": "*", "status": 503, "times": 1}])
        long_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        for each in (
            inbound("in-1", PAIR, occurredAt=long_ago, callingName="Ann", custom={"x": [1]}),
            event("updated", "in-1", PAIR, 2, calledNumber="not a number"),
            event("transferred", "in-1", PAIR, 3, transferredTo={"deviceId": 7, "extensionId": 8}),
            ended("in-1", (7, 8), cause="normal"),
            outbound("out-1", PAIR, callingNumber=None),
            ended("lost-1", PAIR),
            {**inbound("bad", PAIR), "deviceId": "x"},
        ):
            async with http.post(f"{service.intake_url}/v1/events", json=each, headers=INTAKE) as response:
                assert response.status in (202, 422)
        await eventually(lambda: len(service.sandbox.arrivals) >= 5, "every message to Cention")

        admin = service.admin_url
        await ask(admin, "/livez", 200)
        await ask(admin, "/readyz", 200)
        await ask(admin, "/metrics", 200)
        kinds: set[str] = set()
        for headers in (VIEWER, OPERATOR):
            see: dict[str, Any] = {"headers": headers}
            await ask(admin, "/openapi.json", 200, **see)
            assert len((await ask(admin, "/v1/calls?limit=1", 200, **see))["calls"]) == 1
            await ask(admin, "/v1/calls?deviceId=1000&state=started&direction=outbound", 200, **see)
            await ask(admin, "/v1/calls/1000/1001", 200, template=pair_path, **see)
            for call in ("in-1", "out-1", "lost-1"):
                history = await ask(admin, f"/v1/calls/{call}", 200, template=call_path, **see)
                kinds |= {f"{entry['kind']} {sorted(entry)}" for entry in history["timeline"]}
            assert len((await ask(admin, "/v1/rejections", 200, **see))["rejections"]) == 1
            await ask(admin, "/v1/calls?limit=0&nothing=1", 400, **see)
            await ask(admin, "/v1/rejections?cursor=x", 400, **see)
            await ask(admin, "/v1/calls/1/1", 404, template=pair_path, **see)
            await ask(admin, "/v1/calls/none", 404, template=call_path, **see)
        for path in ("/openapi.json", "/v1/calls", "/v1/rejections"):
            await ask(admin, path, 401)
        assert {kind.partition(" ")[0] for kind in kinds} == {"event", "decision", "attempt", "answer"}


async def test_what_is_switched_on_is_as_told_too(redis: EmbeddedRedis, tmp_path: Path) -> None:
    more: dict[str, Any] = {"presence__agents": {"anna": "1000/1001"}, "contacts__upsert": True}
    async with served(tmp_path, redis, **more) as service, aiohttp.ClientSession() as http:
        assert service.sandbox is not None
        service.sandbox.log("anna", "Login")
        ask = Checked(http, document())
        async with http.post(f"{service.intake_url}/v1/events", json=inbound("in-1", PAIR), headers=INTAKE) as response:
            assert response.status == 202
        answers: list[Any] = []

        async def has_answer() -> bool:
            for headers in (VIEWER, OPERATOR):
                path = "/v1/calls/{callId}"
                call = await ask(service.admin_url, "/v1/calls/in-1", 200, template=path, headers=headers)
                assert call["agent"]["login"] == ("a***" if headers is VIEWER else "anna")
                answers[:] = [step for step in call["timeline"] if step["kind"] == "answer"]
            return len(answers) == 1

        await eventually(has_answer, "the attempt in the timeline")
        assert answers[0]["contactCard"] == "upserted"
        listed = await ask(service.admin_url, "/v1/calls", 200, headers=OPERATOR)
        assert listed["calls"][0]["agent"].keys() == {"login", "loggedIn", "since"}


async def test_what_is_answered_about_callbacks_is_as_told(redis: EmbeddedRedis, tmp_path: Path) -> None:
    more = {
        "callback__secret": SECRET,
        "callback__fetch_attachments": True,
        "callback__dir": str(tmp_path / "files"),
        "callback__forward_secret": SIGNING,
    }
    async with (
        receiver(SIGNING) as to,
        served(tmp_path, redis, **more, callback__forward_url=to.url) as service,
        aiohttp.ClientSession() as http,
    ):
        ask, sandbox = Checked(http, document()), service.sandbox
        assert sandbox is not None

        async def come(expected: int, body: object, media: str = MEDIA_TYPE) -> Any:
            data = io.BytesIO(body if isinstance(body, bytes) else orjson.dumps(body))
            url, headers = service.intake_url, {"Content-Type": media}
            return await ask(url, "/v1/cention/callback", expected, method="post", data=data, headers=headers)

        async with http.post(f"{service.intake_url}/v1/events", json=inbound("in-1", PAIR), headers=INTAKE) as response:
            assert response.status == 202
        await eventually(lambda: len(sandbox.arrivals) == 1, "the errand")
        (errand,) = sandbox.errands

        async def joined() -> bool:
            url = f"{service.admin_url}/v1/calls/in-1"
            async with http.get(url, headers=OPERATOR) as response:
                return (await response.json())["errandId"] is not None

        await eventually(joined, "the errand's id")
        await sandbox.answer(errand.errand_id, AnswerGiven(attachments=(AttachedFile(name="a.txt", content="YQ=="),)))
        taken = await come(200, callback(errand.errand_id))  # whose other files are not there
        assert (await come(200, callback(errand.errand_id)))["result"] == "duplicate"
        await come(200, {"data": {"type": "x", "id": "1"}, "meta": {"api_secret": SECRET}}, "application/json")
        await come(400, b"{")
        await come(401, callback(1, api_secret="guess"))
        await come(413, b" " * (1024 * 1024 + 1))
        await come(415, callback(1), "text/plain")
        await come(422, {"data": 7, "meta": {"api_secret": SECRET}})
        waiting = {"bridge_callback_waiting": 0.0, "bridge_callback_parked": 3.0}

        def all_done() -> bool:
            value = service.metrics.registry.get_sample_value
            return {name: value(name) for name in waiting} == waiting

        await eventually(all_done, "what they lead to")
        for headers in (VIEWER, OPERATOR):
            see: dict[str, Any] = {"headers": headers}
            listed = await ask(service.admin_url, "/v1/callbacks", 200, **see)
            assert len(listed["callbacks"]) == 3
            first = await ask(service.admin_url, "/v1/callbacks?limit=1", 200, **see)
            await ask(service.admin_url, f"/v1/callbacks?limit=1&cursor={first['next']}", 200, **see)
            await ask(service.admin_url, "/v1/callbacks?cursor=x", 400, **see)
            one = {**see, "template": "/v1/callbacks/{callbackId}"}
            alone = await ask(service.admin_url, f"/v1/callbacks/{taken['callbackId']}", 200, **one)
            assert ("document" in alone) is (headers is OPERATOR)
            await ask(service.admin_url, "/v1/callbacks/cb-0", 404, **one)
            history = await ask(service.admin_url, "/v1/calls/in-1", 200, template="/v1/calls/{callId}", **see)
            assert sum(entry["kind"] == "callback" for entry in history["timeline"]) == 2
        await ask(service.admin_url, "/v1/callbacks", 401)
        await redis.stop()
        await come(503, callback(9))
        await ask(service.admin_url, "/v1/callbacks", 503, headers=OPERATOR)
    await redis.start()


async def test_without_redis_the_answers_are_as_told(redis: EmbeddedRedis, tmp_path: Path) -> None:
    for spool in (True, False):
        more = {"redis__timeout_s": 1.0, "spool__enabled": spool, "spool__dir": str(tmp_path / "spool")}
        async with served(tmp_path, redis, **more) as service, aiohttp.ClientSession() as http:
            ask = Checked(http, document())
            await redis.stop()
            await ask(service.admin_url, "/v1/calls", 503, headers=OPERATOR)
            await ask(service.admin_url, "/readyz", 200 if spool else 503)
            events: dict[str, Any] = {"method": "post", "headers": INTAKE}
            one, many = inbound("in-1", PAIR), [inbound("in-2", PAIR)]
            await ask(service.intake_url, "/v1/events", 202 if spool else 503, json=one, **events)
            answer = await ask(service.intake_url, "/v1/events", 207 if spool else 503, json=many, **events)
            assert "spooled" in str(answer) or not spool
        await redis.start()


@pytest.mark.parametrize("unknown", ["/nothing", "/v1/calls/a/b", "/v1/calls/1/2/3"])
async def test_what_is_not_in_it_is_not_there(redis: EmbeddedRedis, tmp_path: Path, unknown: str) -> None:
    async with (
        served(tmp_path, redis) as service,
        aiohttp.ClientSession(headers=OPERATOR) as http,
        http.get(service.admin_url + unknown) as response,
    ):
        assert response.status == 404
        assert (await response.json(content_type=None))["code"] == "not_found"

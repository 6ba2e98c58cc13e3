"""The sandbox made to misbehave, over HTTP and in-process; its lifetime; its documentation."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from bridge.cention.sandbox import Sandbox
from tests.integration.cention_support import HEADERS, Caller, errand


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox()
    yield made
    await made.stop()


@pytest.fixture
async def caller(sandbox: Sandbox) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(await sandbox.start(), session)


async def test_faults_over_http(caller: Caller) -> None:
    rule = {"endpoint": "c3_new_errands", "match": {"referenceId": "c-1"}, "status": 503, "times": 1}
    put = json.dumps([{**rule, "headers": {"Retry-After": "2"}, "body": "<b>no</b>", "content_type": "text/html"}])
    assert (await caller.view("/faults", "PUT", put.encode()))["faults"][0]["remaining"] == 1
    assert (await caller.post("c3_new_errands", errand("c-2")))[0] == 201
    url = f"{caller.base_url}/capi/json/c3_new_errands"
    async with caller.session.post(url, json=errand("c-1"), headers=HEADERS) as response:
        assert (response.status, await response.text()) == (503, "<b>no</b>")
        assert (response.headers["Retry-After"], response.headers["Content-Type"]) == ("2", "text/html")
    assert (await caller.view("/faults"))["faults"][0]["remaining"] == 0
    assert (await caller.post("c3_new_errands", errand("c-1")))[0] == 201
    await caller.view("/faults", "DELETE", status=204)
    assert (await caller.view("/faults"))["faults"] == []


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b'[{"status": 99}]', b'[{"stauts": 500}]', b"[" * 100_000])
async def test_faults_that_make_no_sense_are_422_and_change_nothing(
    caller: Caller, sandbox: Sandbox, body: bytes
) -> None:
    sandbox.set_faults([{"status": 503}])
    answer = await caller.view("/faults", "PUT", body, status=422)
    assert answer["code"] == "invalid_faults"
    assert answer["errors"]
    assert len(sandbox.faults) == 1


async def test_a_delay_delays_only_what_it_matches(caller: Caller, sandbox: Sandbox) -> None:
    sandbox.set_faults([{"match": {"referenceId": "slow"}, "delay_s": 3600}, {"delay_s": 0.01}])
    slow = asyncio.create_task(caller.post("c3_new_errands", errand("slow")))
    assert (await caller.post("c3_new_errands", errand("quick")))[0] == 201
    async with asyncio.timeout(20):
        while sandbox.faults[0]["hits"] == 0:
            await asyncio.sleep(0.005)
    assert [a.reference_id for a in sandbox.arrivals] == ["quick"]
    assert not slow.done()
    # A delay does not outlive the sandbox, and what was delayed is not done after all.
    await sandbox.stop()
    with pytest.raises(aiohttp.ClientError):
        await slow
    assert [a.reference_id for a in sandbox.arrivals] == ["quick"]


@pytest.mark.parametrize(("reset", "done"), [("before", 0), ("after", 1), ("midway", 1)])
async def test_a_reset_breaks_the_connection(caller: Caller, sandbox: Sandbox, reset: str, done: int) -> None:
    sandbox.set_faults([{"reset": reset}])
    with pytest.raises(aiohttp.ClientError):
        await caller.post("c3_new_errands", errand())
    assert [arrival.cut for arrival in sandbox.arrivals] == [True] * done
    assert len(sandbox.errands) == done


async def test_a_sandbox_starts_again_with_what_it_knew(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession() as session:
        caller = Caller(await sandbox.start(), session)
        with pytest.raises(RuntimeError, match="already"):
            await sandbox.start()
        await caller.post("c3_new_errands", errand())
        await sandbox.stop()
        await sandbox.stop()
        caller = Caller(await sandbox.start(), session)
        sandbox.set_faults([{"delay_s": 0.01}])
        assert (await caller.post("c3_new_errands", errand()))[1]["data"]["id"] == "511056"
    assert [e.errand_id for e in sandbox.busy_with(1000, 1000)] == [511055, 511056]
    sandbox.reset()
    assert sandbox.errands == []

"""A service whose Cention does the work and whose answer is lost: what `delivery.unknown_outcome` makes of it."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.cention.sandbox import Sandbox
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import ended, eventually, inbound, post
from tests.integration.ill_support import PAIRS, Service, all_told, at_rest, calls, ill, metric


async def lost_answer(service: Service, sandbox: Sandbox) -> None:
    """One inbound call whose errand is created, and whose answer is lost."""
    sandbox.set_faults([{"endpoint": "c3_new_errands", "reset": "after", "times": 1}])
    async with aiohttp.ClientSession() as http:
        assert await post(http, service.intake_url, inbound("c-1", PAIRS[1])) == 202
        await eventually(lambda: sandbox.faults[0]["hits"] == 1, "the answer that is lost")


async def test_retry_creates_a_second_errand_with_the_same_message_id(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with ill(tmp_path, redis) as (service, sandbox):
        await lost_answer(service, sandbox)
        await eventually(lambda: len(sandbox.errands) == 2, "the repetition")
        assert sandbox.errands[0].message_ids == sandbox.errands[1].message_ids


async def test_lookup_finds_the_errand_and_creates_no_second(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with ill(tmp_path, redis, delivery__unknown_outcome="lookup") as (service, sandbox):
        await lost_answer(service, sandbox)
        (errand,) = sandbox.errands
        call = await _until_errand(service, "c-1")
        assert call["errandId"] == str(errand.errand_id)
        assert [entry.get("found") for entry in call["timeline"] if "outcome" in entry] == [None, True]
        await eventually(lambda: sandbox.dirty == [errand.errand_id], "it still counts as changed")
        assert len(sandbox.errands) == 1
        async with aiohttp.ClientSession() as http:
            assert await post(http, service.intake_url, ended("c-1", PAIRS[1])) == 202
        await eventually(lambda: errand.state == "ended", "the end reaches that errand")
        assert await metric(service, "bridge_errand_lookups_total") == 1


@pytest.mark.parametrize(
    "trouble",
    [
        {"endpoint": "c3_dirty_errand_list", "status": 403},
        {"endpoint": "c3_dirty_errand_list", "status": 503},
        {"endpoint": "c3_errand_reports", "reset": "before"},
        {"endpoint": "c3_errand_reports", "delay_s": 3600},
    ],
    ids=str,
)
async def test_lookup_falls_back_to_retry(trouble: dict[str, Any], redis: EmbeddedRedis, tmp_path: Path) -> None:
    more = {"delivery__unknown_outcome": "lookup", "delivery__attempt_timeout_s": 0.5}
    async with ill(tmp_path, redis, **more) as (service, sandbox):
        sandbox.set_faults([trouble, {"endpoint": "c3_new_errands", "reset": "after", "times": 1}])
        async with aiohttp.ClientSession() as http:
            assert await post(http, service.intake_url, inbound("c-1", PAIRS[1])) == 202
        await eventually(lambda: len(sandbox.errands) == 2, "the repetition")
        call = await _until_errand(service, "c-1")
        assert call["errandId"] == str(sandbox.errands[0].errand_id)


async def test_lookup_creates_what_was_not_created(redis: EmbeddedRedis, tmp_path: Path) -> None:
    rule = {"endpoint": "c3_new_errands", "reset": "before", "times": 2}
    async with ill(tmp_path, redis, rule, delivery__unknown_outcome="lookup") as (service, sandbox):
        async with aiohttp.ClientSession() as http:
            assert await post(http, service.intake_url, inbound("c-1", PAIRS[1])) == 202
        await _until_errand(service, "c-1")
        assert len(sandbox.errands) == 1
        assert await metric(service, "bridge_errand_lookups_total") == 2


async def test_park_leaves_the_errand_to_an_operator_and_the_lane_goes_on(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with ill(tmp_path, redis, delivery__unknown_outcome="park") as (service, sandbox):
        await lost_answer(service, sandbox)
        async with aiohttp.ClientSession() as http:
            assert await post(http, service.intake_url, ended("c-1", PAIRS[1])) == 202
            await eventually(lambda: len(sandbox.arrivals) == 2, "the end")
            async with http.get(f"{service.admin_url}/v1/calls/c-1") as response:
                entries = [entry for entry in (await response.json())["timeline"] if "outcome" in entry]
        assert [(entry["outcome"], entry["then"]) for entry in entries] == [
            ("unknown", "parked"),
            ("delivered", "delivered"),
        ]
        assert len(sandbox.errands) == 1


async def test_park_repeats_what_only_tells_an_end(redis: EmbeddedRedis, tmp_path: Path) -> None:
    rule = {"endpoint": "c3_end_obcall", "reset": "after", "times": 1}
    async with ill(tmp_path, redis, rule, delivery__unknown_outcome="park") as (service, sandbox):
        expected = await calls(service)
        await all_told(sandbox, expected)
        await at_rest(service)


async def _until_errand(service: Service, call_id: str) -> Any:
    """The call with its timeline, once its errand is known."""
    call: Any = None

    async def known() -> bool:
        nonlocal call
        async with aiohttp.ClientSession() as http, http.get(f"{service.admin_url}/v1/calls/{call_id}") as response:
            call = await response.json()
        return response.status == 200 and call["errandId"] is not None

    await eventually(known, "the errand's id")
    return call

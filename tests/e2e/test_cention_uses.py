"""What the bridge itself does with contact cards, logins and errand reports: real processes, Redis and HTTP."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from bridge.cention.client import CentionClient
from bridge.cention.documents import EndErrand
from bridge.cention.sandbox import Sandbox
from bridge.runtime.clock import now_ms
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import CENTION_TOKEN, BridgeProcess, bridges, ended, environment, eventually, inbound, outbound

PAIR, OTHER = (1000, 1001), (2000, 2002)


@pytest.fixture
async def cention() -> AsyncIterator[tuple[Sandbox, str]]:
    sandbox = Sandbox(tokens=frozenset([CENTION_TOKEN]))
    url = await sandbox.start()
    yield sandbox, url
    await sandbox.stop()


async def got(http: aiohttp.ClientSession, bridge: BridgeProcess, path: str, token: str = "do") -> Any:
    async with http.get(bridge.admin_url + path, headers={"Authorization": f"Bearer {token}"}) as response:
        return await response.text() if path == "/metrics" else await response.json()


async def test_a_caller_has_a_card_before_the_errand_and_the_timeline_says_so(
    redis: EmbeddedRedis, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    async with (
        aiohttp.ClientSession() as http,
        bridges(tmp_path, redis.url, url, contacts__upsert=True, contacts__cuid_label="Customer") as (bridge,),
    ):
        told = {"callingName": "Åsa Öberg", "cuid": "K-1"}
        assert await bridge.post(http, inbound("in-1", PAIR, **told)) == 202
        assert await bridge.post(http, inbound("in-2", PAIR, callingNumber=None)) == 202
        assert await bridge.post(http, outbound("out-1", OTHER)) == 202
        await eventually(lambda: len(sandbox.errands) == 3, "the errands")
        cards = {card.contacts["voice"][0]: (card.name, card.custom) for card in sandbox.contact_cards}
        assert cards == {
            "+46701740605": ("Åsa Öberg", [{"label": "Customer", "value": "K-1"}]),
            "+46701740606": ("", []),
        }
        answers: list[Any] = []

        async def is_answered() -> bool:
            calls = [await got(http, bridge, f"/v1/calls/{call}") for call in ("in-1", "in-2", "out-1")]
            answers[:] = [[step for step in call["timeline"] if step["kind"] == "answer"] for call in calls]
            return all(answers)

        await eventually(is_answered, "the answers")
        assert [step.get("contactCard") for (step,) in answers] == ["upserted", None, "upserted"]
        metrics = await got(http, bridge, "/metrics")
        assert 'bridge_contact_cards_total{result="upserted"} 2.0' in metrics
        assert not any("Öberg" in line or "K-1" in line or "46701740605" in line for line in bridge.log)


async def test_agents_are_shown_beside_their_calls_and_calls_to_absent_ones_are_warned_of(
    redis: EmbeddedRedis, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    sandbox.log("anna.ek", "Logout", now_ms() // 1000 - 60)
    agents = {"anna.ek": "1000/1001"}
    tokens = {"admin__operator_tokens": ["do"], "admin__viewer_tokens": ["see"]}
    more: dict[str, Any] = {"presence__agents": agents, "presence__every_s": 0.2, **tokens}
    async with (
        aiohttp.ClientSession() as http,
        bridges(tmp_path, redis.url, url, **more) as (bridge,),
    ):

        async def known() -> bool:
            return "bridge_presence_known 1.0" in await got(http, bridge, "/metrics")

        await eventually(known, "the first read")
        assert await bridge.post(http, inbound("in-1", PAIR)) == 202
        assert await bridge.post(http, inbound("in-2", OTHER)) == 202
        (call,) = (await got(http, bridge, "/v1/calls/1000/1001"))["calls"]
        assert (call["agent"]["login"], call["agent"]["loggedIn"]) == ("anna.ek", False)
        assert call["agent"]["since"].endswith("Z")
        seen = {each["callId"]: each.get("agent") for each in (await got(http, bridge, "/v1/calls", "see"))["calls"]}
        assert seen["in-1"]["login"] == "a***"
        assert seen["in-2"] is None
        assert "bridge_calls_agent_logged_out_total 1.0" in await got(http, bridge, "/metrics")
        assert any('"call begins at an agent who is logged out' in line for line in bridge.log)
        assert not any("anna" in line for line in bridge.log)
        sandbox.log("anna.ek", "Login")

        async def is_back() -> bool:
            return (await got(http, bridge, "/v1/calls/in-1"))["agent"]["loggedIn"] is True

        await eventually(is_back, "the login")


async def reconcile(tmp_path: Path, env: Mapping[str, str], *arguments: str) -> tuple[int, Any]:
    """Runs the command; its exit code and what it printed, as JSON."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "reconcile", "--config", str(tmp_path / "empty.toml"), "--json", *arguments,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}, **env},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, orjson.loads(printed) if printed else said.decode()


async def test_calls_and_errands_that_contradict_are_found_and_mended(
    cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    sandbox, url = cention
    more: dict[str, Any] = {
        "redis__data_dir": str(tmp_path / "data"),
        "reconcile__grace_s": 0.01,
        "reconcile__every_s": 0.2,
        "calls__close_user_id": "7",
    }
    env = environment("embedded", cention__base_url=url, cention__token=CENTION_TOKEN, **more)
    async with (
        aiohttp.ClientSession() as http,
        CentionClient(url, attempt_timeout_s=20) as client,
        bridges(tmp_path, "embedded", url, **more) as (bridge,),
    ):
        sandbox.set_faults([{"endpoint": "c3_new_errands", "match": {"endSession": True}, "status": 406}])
        assert await bridge.post(http, inbound("in-1", PAIR)) == 202
        assert await bridge.post(http, ended("in-1", PAIR)) == 202
        assert await bridge.post(http, inbound("in-2", OTHER)) == 202
        await eventually(lambda: len(sandbox.errands) == 2, "the errands")
        first, second = (next(e for e in sandbox.errands if e.reference_id == call) for call in ("in-1", "in-2"))
        await client.end_errand(EndErrand(errand_id=second.errand_id), CENTION_TOKEN)

        async def is_shown() -> bool:
            metrics = await got(http, bridge, "/metrics")
            return all(
                f'bridge_reconcile_found{{what="{what}"}} 1.0' in metrics for what in ("errand_open", "call_active")
            )

        await eventually(is_shown, "the periodic pass")
        code, told = await reconcile(tmp_path, env)
        found = [(each["what"], each["callId"], each["errandId"], each["repaired"]) for each in told["findings"]]
        assert code == 0
        assert found == [
            ("errand_open", "in-1", str(first.errand_id), False),
            ("call_active", "in-2", str(second.errand_id), False),
        ]
        assert told["next"] is None
        sandbox.set_faults([])
        code, told = await reconcile(tmp_path, env, "--repair", "--limit", "1")
        assert (code, [each["repaired"] for each in told["findings"]]) == (0, [True])
        code, told = await reconcile(tmp_path, env, "--repair", "--after", told["next"])
        assert (code, [each["callId"] for each in told["findings"]]) == (0, ["in-2"])
        await eventually(lambda: first.ended_by == "c3_end_errands", "the errand is closed")
        assert (await got(http, bridge, "/v1/calls"))["calls"] == []
        for call, to in (("in-1", "close_errand"), ("in-2", "end_session")):

            async def is_told(call: str = call, to: str = to) -> bool:
                timeline = (await got(http, bridge, f"/v1/calls/{call}"))["timeline"]
                told = [(step["effect"], step["reason"]) for step in timeline if step["kind"] == "attempt"]
                return (to, "reconciled") in told and any(s.get("type") == "bridge.reconciled" for s in timeline)

            await eventually(is_told, f"{call} in its timeline")
        assert (await reconcile(tmp_path, env))[1]["findings"] == []
        code, said = await reconcile(tmp_path, {**env, "BRIDGE_CALLS__CLOSE_USER_ID": ""}, "--repair")
        assert (code, "calls.close_user_id" in said) == (2, True)
        code, said = await reconcile(tmp_path, {**env, "BRIDGE_CENTION__TOKEN": "another"})
        assert code == 1
    code, said = await reconcile(tmp_path, env)
    assert (code, "start the bridge first" in said) == (1, True)

"""Who is logged in to Cention, against the sandbox: what is read, how long it holds, and what is said of calls."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import web

from bridge.admin.views import Agent
from bridge.calls.events import Pair
from bridge.calls.state import Call, CallState
from bridge.cention.sandbox import Sandbox
from bridge.presence import STALE_PERIODS, Presence
from bridge.runtime.clock import now_ms
from bridge.runtime.metrics import Metrics
from tests.fakes.logs import captured
from tests.integration.cention_support import cention, web_server
from tests.integration.delivery_support import Clock
from tests.integration.store_support import A, B

TOKEN = "may-read-logio"
EVERY_S = 60.0
NOW_S = now_ms() // 1000
BOTH = {"anna.ek": A, "bo.dahl": B}


@dataclass
class World:
    sandbox: Sandbox
    presence: Presence
    metrics: Metrics
    clock: Clock
    token: str = TOKEN

    def state(self, pair: Pair = A) -> bool | None:
        agent = self.presence.agent_of(pair)
        assert agent is not None
        return agent.logged_in

    def warnings(self) -> float | None:
        return self.metrics.registry.get_sample_value("bridge_calls_agent_logged_out_total")


@asynccontextmanager
async def world(agents: Mapping[str, Pair] = BOTH) -> AsyncIterator[World]:
    sandbox = Sandbox(tokens={TOKEN: ["logio"]})
    metrics, clock = Metrics("test"), Clock()
    async with cention(await sandbox.start()) as client:
        presence = Presence(client, lambda: it.token, agents, metrics, every_s=EVERY_S, clock=clock)
        it = World(sandbox, presence, metrics, clock)
        yield it
    await sandbox.stop()


def call(pair: Pair, started_s: int) -> Call:
    return Call("c-1", pair, CallState.STARTED, started_at=started_s * 1000)


async def test_the_last_record_says_who_is_logged_in() -> None:
    async with world() as it:
        assert it.presence.agent_of(A) == Agent("anna.ek"), "nothing is known before the first read"
        it.sandbox.log("anna.ek", "Logout", NOW_S - 300)
        it.sandbox.log("anna.ek", "Login", NOW_S - 200)
        it.sandbox.log("somebody.else", "Logout", NOW_S - 150)
        assert await it.presence.read()
        assert it.presence.agent_of(A) == Agent("anna.ek", True, (NOW_S - 200) * 1000)
        assert it.presence.agent_of(B) == Agent("bo.dahl"), "who was not heard of in a week is not known"
        assert it.presence.agent_of(Pair(3, 3)) is None
        it.sandbox.log("anna.ek", "Logout", NOW_S - 100)
        it.sandbox.log("bo.dahl", "Login", NOW_S - 160)  # written late, and still read
        assert await it.presence.read()
        assert (it.state(A), it.state(B)) == (False, True)


async def test_of_two_records_in_one_second_the_later_one_counts() -> None:
    async with world() as it:
        it.sandbox.log("anna.ek", "Logout", NOW_S - 60)
        it.sandbox.log("anna.ek", "Login", NOW_S - 60)
        await it.presence.read()
        assert it.state() is True
        it.sandbox.log("anna.ek", "Logout", NOW_S - 60)
        await it.presence.read()
        assert it.state() is False


async def test_a_read_goes_on_where_the_last_one_ended() -> None:
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(dict(request.query))
        return web.json_response([{"id": 1, "name": "anna.ek", "timestamp": NOW_S - 500, "action": "Login"}])

    async with web_server(answer) as url, cention(f"{url}/s/demo") as client:
        for agents in (BOTH, {"anna.ek": A}):
            presence = Presence(client, lambda: TOKEN, agents, Metrics("test"), every_s=EVERY_S)
            assert [await presence.read(), await presence.read()] == [True, True]
    fresh, later, alone, _ = asked
    assert "from" not in fresh
    assert int(later["from"]) == NOW_S - 560
    assert ("name" in fresh, alone["name"]) == (False, "anna.ek")


async def test_what_was_read_holds_for_some_periods_and_then_nobody_is_known() -> None:
    async with world() as it:
        it.sandbox.log("anna.ek", "Login", NOW_S - 60)
        assert await it.presence.read()
        it.sandbox.set_faults([{"endpoint": "logio", "status": 503}])
        it.clock.ahead_s += EVERY_S * (STALE_PERIODS - 1)
        assert not await it.presence.read()
        assert it.state() is True
        it.clock.ahead_s += EVERY_S + 1
        assert not await it.presence.read()
        assert it.presence.agent_of(A) == Agent("anna.ek"), "unknown, not wrong"
        it.sandbox.set_faults([])
        it.sandbox.log("anna.ek", "Logout", NOW_S - 30)
        assert await it.presence.read()
        assert it.state() is False


@pytest.mark.parametrize("fault", [{"reset": "midway"}, {"status": 200, "body": "[]x"}, {"status": 401}])
async def test_an_answer_that_is_not_whole_changes_nothing(fault: dict[str, object]) -> None:
    async with world() as it:
        it.sandbox.log("anna.ek", "Login", NOW_S - 60)
        assert await it.presence.read()
        it.sandbox.log("anna.ek", "Logout", NOW_S - 30)
        it.sandbox.set_faults([{"endpoint": "logio", "times": 1, **fault}])
        assert not await it.presence.read()
        assert it.state() is True
        assert await it.presence.read()
        assert it.state() is False


async def test_a_call_that_begins_at_an_agent_who_is_logged_out_is_counted_and_said_without_the_login() -> None:
    with captured() as lines:
        async with world() as it:
            it.presence.began(call(A, NOW_S))
            it.sandbox.log("anna.ek", "Logout", NOW_S - 60)
            it.sandbox.log("bo.dahl", "Login", NOW_S - 60)
            assert await it.presence.read()
            for began in (call(B, NOW_S), call(Pair(3, 3), NOW_S), call(A, NOW_S - 61)):
                it.presence.began(began)
            assert it.warnings() == 0, "logged in, nobody's pair, begun before the logout"
            it.presence.began(call(A, NOW_S))
            assert it.warnings() == 1
            it.clock.ahead_s += EVERY_S * STALE_PERIODS + 1
            it.presence.began(call(A, NOW_S))
            assert it.warnings() == 1, "not known any more"
            it.sandbox.set_faults([{"endpoint": "logio", "status": 503}])
            await it.presence.read()
    (said,) = [line for line in lines if "logged out" in line]
    assert str(A) in said
    assert "anna" not in lines.text

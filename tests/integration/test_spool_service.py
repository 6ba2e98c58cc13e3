"""While a real Redis is gone, hangs, is read-only or full, events are accepted; when it is back, they are done."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from bridge import app
from bridge.calls.events import Direction, EventKind, Facts
from bridge.calls.verdicts import Verdict
from bridge.cention.sandbox import Sandbox
from bridge.pipeline import Pipeline
from bridge.runtime.clock import now_ms
from tests.e2e.support import ended, event, eventually, inbound, outbound, settings, told
from tests.fakes.exchange import Exchange, Line, serving
from tests.fakes.redis_servers import RedisServer, server
from tests.integration.store_support import GRACE_MS, A, B
from tests.integration.store_support import bench as store_bench

KEPT = {"appendonly": "yes", "appendfsync": "no"}
PAIR, OTHER = (1000, 1001), (1000, 1002)
Harm = Callable[[RedisServer], Awaitable[object]]


@dataclass
class Bench:
    """A service in this process, its Redis, its Cention, and a client."""

    redis: RedisServer
    service: app.Service
    sandbox: Sandbox
    http: aiohttp.ClientSession

    async def post(self, body: Any) -> tuple[int, Any, str | None]:
        """Status, body, and the header that says spooled."""
        async with self.http.post(f"{self.service.intake_url}/v1/events", json=body) as response:
            return response.status, await response.json(content_type=None), response.headers.get("Bridge-Spooled")

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.http.get(self.service.admin_url + path) as response:
            return response.status, await response.json()

    async def metric(self, name: str) -> float:
        async with self.http.get(self.service.admin_url + "/metrics") as response:
            found = re.search(rf"^{re.escape(name)} (\S+)$", await response.text(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    async def drained(self) -> None:
        async def empty() -> bool:
            return await self.metric("bridge_spool_events") == 0

        await eventually(empty, "an empty spool")

    async def tells(self, *words: str) -> None:
        """Waits until Cention was told so much, and checks what: of each pair in order."""
        await eventually(lambda: len(told(self.sandbox)) >= len(words), f"{words}, got {told(self.sandbox)}")
        assert sorted(told(self.sandbox), key=_pair) == sorted(words, key=_pair)


def _pair(word: str) -> str:
    return word.partition(" ")[0]


@asynccontextmanager
async def bench(tmp_path: Path, **more: object) -> AsyncIterator[Bench]:
    async with server(tmp_path / "redis", KEPT) as redis:
        # A claim whose answer was lost leases its lane all the same: the lease is short, since tests wait for it.
        short = {"delivery__attempt_timeout_s": 1, "delivery__lease_s": 2}
        chosen = settings(tmp_path, redis.url, **short, **more)
        async with app.running(chosen, sandbox_port=0) as service, aiohttp.ClientSession() as http:
            assert service.sandbox is not None
            yield Bench(redis, service, service.sandbox, http)


async def test_events_are_accepted_while_redis_is_gone_and_done_when_it_is_back(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert await b.post(inbound("before", PAIR)) == (
            202,
            {"eventId": "before-started-1", "result": "accepted"},
            None,
        )
        await b.redis.kill()
        first = inbound("during", OTHER)
        assert await b.post(first) == (202, {"eventId": "during-started-1", "result": "accepted"}, "true")
        assert await b.post(first) == (202, {"eventId": "during-started-1", "result": "accepted"}, "true")
        status, body, spooled = await b.post(
            [event("answered", "during", OTHER, 2), event("held", "before", (1000, -1), 2), ended("before", PAIR)]
        )
        assert (status, spooled) == (207, "true")
        assert [(each["result"], each.get("spooled")) for each in body["results"]] == [
            ("accepted", True), ("rejected", None), ("accepted", True),
        ]  # fmt: skip
        status, body, spooled = await b.post({"eventId": "nothing"})
        assert (status, body["code"], spooled) == (422, "invalid_event", None)
        status, body = await b.get("/readyz")
        assert (status, body["conditions"]) == (
            200, {"settings": True, "redis": False, "spool": True, "accepting": True},
        )  # fmt: skip
        assert await b.metric("bridge_spool_events") == 6
        assert await b.metric("bridge_spooled_total") == 6
        assert await b.metric("bridge_spool_oldest_seconds") > 0
        assert await b.metric("bridge_spool_bytes") > 1000
        assert await b.metric("bridge_spool_usable") == 1
        assert await b.metric('bridge_events_total{result="accepted"}') == 5
        assert await b.metric('bridge_events_total{result="rejected"}') == 2

        await b.redis.start()
        await b.drained()
        await b.tells("1000/1001 open before", "1000/1002 open during", "1000/1001 end-session before")
        status, body = await b.get("/v1/calls/1000/1002")
        assert [(call["callId"], call["state"]) for call in body["calls"]] == [("during", "answered")]
        _, call = await b.get("/v1/calls/during")
        decisions = [entry for entry in call["timeline"] if entry["kind"] == "decision"]
        assert [entry["to"] for entry in decisions] == ["started", "answered"]
        assert all("in the spool, since Redis was away" in entry["notes"][0] for entry in decisions)
        came = [entry["event"]["eventId"] for entry in call["timeline"] if entry["kind"] == "event"]
        assert came == ["during-started-1", "during-answered-2"], "what came is in the timeline as if it had not waited"
        _, body = await b.get("/v1/rejections")
        assert sorted(each["eventId"] for each in body["rejections"]) == ["before-held-2", "nothing"]
        assert await b.post(first) == (200, {"eventId": "during-started-1", "result": "duplicate"}, None)
        assert await b.post(ended("during", OTHER)) == (202, {"eventId": "during-ended-9", "result": "accepted"}, None)
        assert await b.metric("bridge_spool_bytes") == 0


async def _killed(redis: RedisServer) -> None:
    await redis.kill()


async def _paused(redis: RedisServer) -> None:
    redis.send_signal(signal.SIGSTOP)


async def _resumed(redis: RedisServer) -> None:
    redis.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("harm", "mend"),
    [
        (_killed, RedisServer.start),
        (_paused, _resumed),
        (lambda redis: redis.ask("REPLICAOF", "127.0.0.1", 1), lambda redis: redis.ask("REPLICAOF", "NO", "ONE")),
        (
            lambda redis: redis.ask("CONFIG", "SET", "maxmemory", 1),
            lambda redis: redis.ask("CONFIG", "SET", "maxmemory", 0),
        ),
    ],
    ids=["gone", "hanging", "read-only", "full"],
)
async def test_stories_go_on_in_order_through_outages(tmp_path: Path, harm: Harm, mend: Harm) -> None:
    """Every agent has calls one after the other; Redis fails twice in between."""
    agents, calls = 20, 8
    expected: dict[tuple[int, int], list[str]] = {}
    async with bench(tmp_path, redis__timeout_s=0.3) as b:
        posted = most = 0
        let = asyncio.Condition()

        async def let_in(number: int) -> None:
            """Has so many events posted in all, and up to one an agent more; else all might be during one outage."""
            nonlocal most
            async with let:
                most = number
                let.notify_all()

        def may_post() -> bool:
            return posted < most

        async def play(pair: tuple[int, int]) -> None:
            nonlocal posted
            for number in range(calls):
                call, opens = f"{pair[1]}-{number}", (inbound, outbound)[number % 2]
                for each in (opens(call, pair), event("answered", call, pair, 2), ended(call, pair)):
                    async with let:
                        await let.wait_for(may_post)
                    status, _, _ = await b.post(each)
                    assert status == 202
                    posted += 1
                expected.setdefault(pair, []).extend(
                    [f"open {call}", f"end-session {call}" if opens is inbound else f"end-obcall {call}"]
                )

        async def outages() -> None:
            for share in (0.2, 0.6):
                begun = int(agents * calls * 3 * share)
                await let_in(begun + 60)
                await eventually(lambda begun=begun: posted >= begun)
                await harm(b.redis)
                spooled = await b.metric("bridge_spooled_total")
                await let_in(enough := posted + 60)
                await eventually(lambda enough=enough: posted >= enough)

                async def some(before: float = spooled) -> bool:
                    return await b.metric("bridge_spooled_total") > before

                await eventually(some, "events are spooled")
                await mend(b.redis)
            await let_in(agents * calls * 3)

        await asyncio.gather(outages(), *(play((3000, number)) for number in range(agents)))
        await b.drained()
        total = sum(map(len, expected.values()))
        await eventually(lambda: len(b.sandbox.arrivals) >= total, "everything is told")
        assert len(b.sandbox.arrivals) == total, "and nothing twice"
        for pair, words in expected.items():
            of_pair = [word.partition(" ")[2] for word in told(b.sandbox) if word.startswith(f"{pair[0]}/{pair[1]} ")]
            assert of_pair == words
        _, body = await b.get("/v1/calls")
        assert body["calls"] == []


async def test_a_redis_that_hangs_costs_its_time_limit_once(tmp_path: Path) -> None:
    async with bench(tmp_path, redis__timeout_s=2.0) as b:
        assert (await b.post(inbound("first", PAIR)))[0] == 202

        async def settled() -> bool:
            return (await b.get("/v1/calls/first"))[1]["errandId"] is not None

        # Else its settle might hang too, for as long as the short lease: then it would be told twice, as it must.
        await eventually(settled, "the first errand is settled")
        await _paused(b.redis)
        answers = await asyncio.gather(*(b.post(inbound(f"c-{number}", (1, number))) for number in range(30)))
        assert {(status, spooled) for status, _, spooled in answers} == {(202, "true")}
        async with asyncio.timeout(100):  # each waiting for the limit, they would take twice that
            for number in range(100):
                assert (await b.post(event("answered", "first", PAIR, 10 + number)))[2] == "true"
                assert (await b.get("/readyz"))[0] == 200
        await _resumed(b.redis)
        await b.drained()
        await eventually(lambda: len(b.sandbox.arrivals) == 31, "each call has one errand")


async def test_a_probe_is_answered_soon_while_redis_hangs(tmp_path: Path) -> None:
    async with bench(tmp_path, redis__timeout_s=100.0) as b:
        await _paused(b.redis)
        async with asyncio.timeout(50):
            status, body = await b.get("/readyz")
        assert (status, body["conditions"]["redis"], body["conditions"]["spool"]) == (200, False, True)
        await _resumed(b.redis)
        status, body = await b.get("/readyz")
        assert (status, body["conditions"]["redis"]) == (200, True)


async def test_without_a_spool_events_are_sent_back(tmp_path: Path) -> None:
    async with bench(tmp_path, spool__enabled=False) as b:
        assert (await b.post(inbound("before", PAIR)))[0] == 202
        await b.redis.kill()
        status, body, _ = await b.post(inbound("during", PAIR))
        assert (status, body["code"]) == (503, "store_unavailable")
        status, body = await b.get("/readyz")
        assert (status, body["conditions"]) == (503, {"settings": True, "redis": False, "accepting": True})
        assert not (tmp_path / "spool").exists()


async def test_a_full_spool_sends_events_back_and_says_when_to_come_again(tmp_path: Path) -> None:
    async with bench(tmp_path, spool__bytes_max=1024**2) as b:
        await b.redis.kill()
        taken, status = 0, 207
        while status == 207:
            batch = [inbound(f"{taken}-{number}", (taken, number), comment="x" * 900) for number in range(100)]
            status, body, _ = await b.post(batch)
            taken += status == 207
        assert taken >= 3
        assert (status, body["code"]) == (503, "store_unavailable")
        async with b.http.post(f"{b.service.intake_url}/v1/events", json=batch) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
        status, body = await b.get("/readyz")
        assert (status, body["conditions"]["spool"]) == (503, False)
        assert await b.metric("bridge_spool_usable") == 0
        assert await b.metric("bridge_spool_bytes") <= 1024**2
        await b.redis.start()
        await b.drained()
        await eventually(lambda: len(b.sandbox.arrivals) == 100 * taken)
        status, body = await b.get("/readyz")
        assert (status, body["conditions"]) == (
            200, {"settings": True, "redis": True, "spool": True, "accepting": True},
        )  # fmt: skip


async def test_a_spool_that_cannot_be_used_is_no_reason_not_to_serve(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file, where the directory should be")
    async with bench(tmp_path) as b:
        assert (await b.post(inbound("before", PAIR)))[::2] == (202, None)
        await b.tells("1000/1001 open before")
        status, body = await b.get("/readyz")
        assert (status, body["conditions"]["redis"], body["conditions"]["spool"]) == (200, True, False)
        assert await b.metric("bridge_spool_usable") == 0
        await b.redis.kill()
        assert (await b.post(inbound("during", PAIR)))[0] == 503
        assert (await b.get("/readyz"))[0] == 503
        (tmp_path / "spool").unlink()
        assert (await b.get("/readyz"))[0] == 200
        assert (await b.post(inbound("during", PAIR)))[::2] == (202, "true")


async def test_the_timer_of_a_pair_that_is_held_waits(tmp_path: Path) -> None:
    async with server(tmp_path / "redis", KEPT) as redis, store_bench(redis.url) as store:
        pipeline = Pipeline(store.calls, store.outbox, store.policy, lambda _: None)
        orphan = store.event(EventKind.ENDED, A, facts=Facts(direction=Direction.OUTBOUND))
        assert await pipeline.accept([orphan]) == [Verdict.ACCEPTED]
        store.now += GRACE_MS + 1
        assert await pipeline.expire_due(lambda pair: pair == A) == 0
        assert await pipeline.expire_due(lambda pair: pair == B) == 1


async def test_a_timer_waits_for_what_is_spooled(tmp_path: Path) -> None:
    """An end without its start is given up after a grace; the start may be in the spool."""
    async with bench(tmp_path, calls__orphan_grace_s=0.2) as b:
        late = outbound("late", PAIR)
        assert (await b.post(ended("late", PAIR, direction="outbound")))[0] == 202
        over = now_ms() + 300
        await b.redis.kill()
        assert (await b.post(late))[2] == "true"
        await eventually(lambda: now_ms() > over, "the end of the grace")
        await b.redis.start()
        await b.drained()
        await b.tells("1000/1001 open late", "1000/1001 end-obcall late")


async def test_a_transfer_that_was_spooled_comes_before_the_new_agents_next_events(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert (await b.post(inbound("moved", PAIR)))[0] == 202
        await b.redis.kill()
        to = {"deviceId": OTHER[0], "extensionId": OTHER[1]}
        assert (await b.post(event("transferred", "moved", PAIR, 2, transferredTo=to)))[2] == "true"
        await b.redis.start()
        assert (await b.post(ended("moved", OTHER)))[0] == 202
        await b.drained()
        await b.tells(
            "1000/1001 open moved", "1000/1001 end-session moved", "1000/1002 open moved", "1000/1002 end-session moved"
        )


async def test_a_feed_is_spooled_as_well(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def script(line: Line) -> None:
        await line.send(inbound("one", PAIR))
        await go_on.wait()
        await line.send(ended("one", PAIR), inbound("two", PAIR))
        await line.stay()

    exchange = Exchange("ndjson", script)
    async with (
        serving({"/feed": exchange.serve}) as url,
        bench(tmp_path, feed__kind="ndjson", feed__url=f"{url}/feed") as b,
    ):
        await b.tells("1000/1001 open one")
        await b.redis.kill()
        go_on.set()

        async def spooled() -> bool:
            return await b.metric("bridge_spool_events") == 2

        await eventually(spooled, "the feed's events are spooled")
        await b.redis.start()
        await b.tells("1000/1001 open one", "1000/1001 end-session one", "1000/1001 open two")


async def test_the_spools_files_hold_what_the_log_does_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with bench(tmp_path) as b:
        await b.redis.kill()
        await b.post(inbound("private", PAIR, callingName="Astrid Lindgren", cuid="199001011234"))
        [path] = (tmp_path / "spool").iterdir()
        head, _, rest = path.read_bytes()[32 + 20 :].partition(b"\n")
        assert orjson.loads(head) == {"kind": "event", "keys": ["1000:1001"]}
        assert "Lindgren" in rest.decode()
        async with b.http.get(b.service.admin_url + "/metrics") as response:
            shown = await response.text()
        await b.redis.start()
        await b.drained()
    said = capfd.readouterr()
    for secret in ("Lindgren", "199001011234", "46701740605"):
        assert secret not in said.err + said.out + shown

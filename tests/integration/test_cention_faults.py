"""A service whose Cention is ill: whatever goes wrong there, no message is lost, and every pair's order is kept."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bridge import app
from bridge.cention.sandbox import Sandbox
from bridge.runtime.clock import now
from bridge.settings import Settings, load
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import ended, environment, eventually, inbound, outbound, post, settings, told
from tests.integration.cention_support import raw, web_server

FAST = {
    "delivery__schedule_s": [0.05, 0.1],
    "delivery__attempt_timeout_s": 1.0,
    "delivery__lease_s": 5.0,
    "delivery__breaker_failures": 10_000,  # no breaker, except where it is what is looked at
    "delivery__breaker_open_s": 0.2,
}
PAIRS = [(1000, number) for number in range(6)]
Service = app.Service


@asynccontextmanager
async def ill(
    tmp_path: Path, redis: EmbeddedRedis, *rules: dict[str, Any], **more: object
) -> AsyncIterator[tuple[Service, Sandbox]]:
    """A service whose sandbox goes wrong by `rules`."""
    async with app.running(settings(tmp_path, redis.url, **{**FAST, **more}), sandbox_port=0) as service:
        assert service.sandbox is not None
        service.sandbox.set_faults(rules)
        yield service, service.sandbox


async def calls(service: Service) -> dict[str, list[str]]:
    """Posts a whole call at every pair, inbound and outbound in turn, and returns what Cention must be told of each."""
    async with aiohttp.ClientSession() as http:
        for pair in PAIRS:
            opens = inbound if pair[1] % 2 else outbound
            assert await post(http, service.intake_url, opens(f"c-{pair[1]}", pair)) == 202
            assert await post(http, service.intake_url, ended(f"c-{pair[1]}", pair)) == 202
    return {
        f"{pair[0]}/{pair[1]}": [f"open c-{pair[1]}", f"end-session c-{pair[1]}" if pair[1] % 2 else "end-obcall"]
        for pair in PAIRS
    }


def by_pair(sandbox: Sandbox) -> dict[str, list[str]]:
    """What each pair's lane told Cention, in its order; an outbound end names no call."""
    pairs: dict[str, list[str]] = {}
    for word in told(sandbox):
        pair, _, what = word.partition(" ")
        pairs.setdefault(pair, []).append("end-obcall" if what.startswith("end-obcall") else what)
    return pairs


def once(words: dict[str, list[str]]) -> dict[str, list[str]]:
    """Without what was told again."""
    return {pair: list(dict.fromkeys(told)) for pair, told in words.items()}


async def all_told(sandbox: Sandbox, expected: dict[str, list[str]]) -> None:
    await eventually(lambda: once(by_pair(sandbox)) == expected, f"{expected}; it was {by_pair(sandbox)}")


async def metric(service: Service, name: str) -> float:
    text = service.metrics.render().decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)


async def at_rest(service: Service) -> None:
    """Waits until nothing waits any more, and asserts that nothing was parked."""

    async def rest() -> bool:
        async with aiohttp.ClientSession() as http, http.get(f"{service.admin_url}/metrics") as response:
            lines = dict(line.rpartition(" ")[::2] for line in (await response.text()).splitlines() if line[0] != "#")
        return float(lines["bridge_deliveries_waiting"]) == 0

    await eventually(rest, "nothing waits")
    assert await metric(service, "bridge_deliveries_parked") == 0


def soon() -> str:
    return format_datetime(now() + timedelta(seconds=1.5), usegmt=True)


def ci(*values: Any) -> Any:
    """A case that CI alone runs: it differs little from one that always runs."""
    return pytest.param(*values, marks=pytest.mark.ci)


PAGE = "<html><title>Bad Gateway</title><body>46701740605</body></html>"


@pytest.mark.parametrize(
    "rule",
    [
        {"status": 500, "times": 20},
        *[ci({"status": status, "times": 20}) for status in (501, 502, 503, 504)],
        {"status": 503, "headers": {"Retry-After": "1"}, "times": 3},
        {"status": 429, "headers": {"Retry-After": "1"}, "times": 2},
        {"status": 429, "times": 20},
        ci({"status": 408, "times": 20}),
        {"status": 502, "body": PAGE, "content_type": "text/html", "times": 20},
        {"status": 200, "body": PAGE, "content_type": "text/html; charset=utf-8", "times": 20},
        {"reset": "before", "times": 20},
        {"delay_s": 3600, "times": 4},
        {"delay_s": 0.2, "times": 4},
    ],
    ids=str,
)
async def test_nothing_is_lost_doubled_or_inverted_where_nothing_was_done(
    rule: dict[str, Any], redis: EmbeddedRedis, tmp_path: Path
) -> None:
    async with ill(tmp_path, redis, rule) as (service, sandbox):
        expected = await calls(service)
        await all_told(sandbox, expected)
        assert by_pair(sandbox) == expected, "nothing was told twice"
        await at_rest(service)
        assert sandbox.faults[0]["hits"] == rule["times"]


@pytest.mark.parametrize("status", [ci(429), 503])
async def test_a_retry_after_with_a_date_is_waited_out(status: int, redis: EmbeddedRedis, tmp_path: Path) -> None:
    asked = {"status": status, "headers": {"Retry-After": soon()}, "times": 2}
    async with ill(tmp_path, redis, asked) as (service, sandbox):
        until = now()
        expected = await calls(service)
        await all_told(sandbox, expected)
        assert by_pair(sandbox) == expected
        assert now() > until


@pytest.mark.parametrize("reset", ["after", "midway"])
async def test_what_was_done_before_the_answer_was_lost_is_told_again_with_the_same_id(
    reset: str, redis: EmbeddedRedis, tmp_path: Path
) -> None:
    rule = {"reset": reset, "probability": 0.5, "seed": 3, "times": 8}
    async with ill(tmp_path, redis, rule) as (service, sandbox):
        expected = await calls(service)
        await all_told(sandbox, expected)
        await at_rest(service)
        cut = [arrival for arrival in sandbox.arrivals if arrival.cut]
        assert cut
        for pair, words in by_pair(sandbox).items():
            assert words == sorted(words, key=expected[pair].index), "told again, never out of order"
        # Doubled only where an answer was cut off, and always with the same message_id.
        times = [arrival.message_id for arrival in sandbox.arrivals if arrival.message_id]
        doubled = {message_id for message_id in times if times.count(message_id) > 1}
        assert doubled <= {arrival.message_id for arrival in cut}


@pytest.mark.parametrize("status", [404, 406, *map(ci, [400, 415, 422])])
async def test_what_cention_will_not_take_is_parked_with_its_words_and_the_lane_goes_on(
    status: int, redis: EmbeddedRedis, tmp_path: Path
) -> None:
    said = '{"errors": [{"title": "No", "detail": "the queue of 46701740605 is unknown here"}]}'
    rule = {"status": status, "body": said, "match": {"referenceId": "c-1", "endSession": False}}
    async with ill(tmp_path, redis, rule) as (service, sandbox):
        expected = await calls(service)
        expected["1000/1"].remove("open c-1")
        await all_told(sandbox, expected)
        async with aiohttp.ClientSession() as http, http.get(f"{service.admin_url}/v1/calls/c-1") as response:
            timeline = (await response.json())["timeline"]
        (parked,) = [entry for entry in timeline if entry.get("then") == "parked"]
        assert parked["status"] == status
        assert parked["answer"].startswith("No: the queue of")
        assert "46701740605" not in parked["answer"]
        assert sandbox.faults[0]["hits"] == 1, "it is not asked again"


async def test_a_redirect_takes_no_token_along_and_loses_nothing(redis: EmbeddedRedis, tmp_path: Path) -> None:
    elsewhere: list[str] = []

    async def other(request: web.Request) -> web.Response:
        elsewhere.append(request.path)
        return web.Response(status=201)

    async with web_server(other) as other_url:
        rules = [{"status": status, "headers": {"Location": f"{other_url}/x"}, "times": 3} for status in (301, 307)]
        async with ill(tmp_path, redis, *rules) as (service, sandbox):
            await all_told(sandbox, await calls(service))
    assert elsewhere == []


async def refused_port() -> tuple[socket.socket, int]:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


@asynccontextmanager
async def at(tmp_path: Path, redis: EmbeddedRedis, url: str, **more: object) -> AsyncIterator[Service]:
    """A service whose Cention is at `url`."""
    env = environment(redis.url, **{**FAST, "cention__base_url": url, "cention__token": "a-token", **more})
    (tmp_path / "empty.toml").touch()
    async with app.running(load(tmp_path / "empty.toml", environ=env)) as service:
        yield service


async def test_a_dead_cention_is_left_in_peace_and_nothing_is_parked(redis: EmbeddedRedis, tmp_path: Path) -> None:
    sock, port = await refused_port()
    more = {"delivery__breaker_failures": 4, "delivery__breaker_open_s": 0.4, "delivery__schedule_s": [0.01]}
    async with at(tmp_path, redis, f"http://127.0.0.1:{port}/s/demo", **more) as service:
        expected = await calls(service)
        await eventually(lambda: _opened(service) >= 2, "a probe that failed")
        assert await metric(service, "bridge_cention_breaker_open") == 1
        attempts = await metric(service, "bridge_delivery_attempts_total")
        # 6 lanes that wait 10 ms at most would have made a hundred; before it opened, what was under way ended too.
        assert attempts <= 4 + len(PAIRS) + _opened(service)
        assert await metric(service, "bridge_deliveries_held_total") > 0
        sock.close()
        sandbox = Sandbox()
        await sandbox.start(port=port)
        await all_told(sandbox, expected)
        assert by_pair(sandbox) == expected
        await at_rest(service)
        assert await metric(service, "bridge_cention_breaker_open") == 0
    await sandbox.stop()


def _opened(service: Service) -> float:
    return service.metrics.registry.get_sample_value("bridge_cention_breaker_opened_total") or 0.0


async def test_a_held_delivery_counts_no_attempt(redis: EmbeddedRedis, tmp_path: Path) -> None:
    rule = {"status": 503, "times": 40}
    more = {"delivery__breaker_failures": 2, "delivery__breaker_open_s": 0.1}
    async with ill(tmp_path, redis, rule, **more) as (service, sandbox):
        expected = await calls(service)
        await eventually(lambda: _opened(service) >= 3, "probes")
        sandbox.set_faults([])
        await all_told(sandbox, expected)
        made = await metric(service, "bridge_delivery_attempts_total")
        async with aiohttp.ClientSession() as http:
            numbered = 0
            for pair in PAIRS:
                async with http.get(f"{service.admin_url}/v1/calls/c-{pair[1]}") as response:
                    entries = [entry for entry in (await response.json())["timeline"] if "outcome" in entry]
                for delivery in {entry["delivery"] for entry in entries}:
                    numbers = [entry["attempt"] for entry in entries if entry["delivery"] == delivery]
                    assert numbers == list(range(1, len(numbers) + 1)), "attempts are counted, holds are not"
                    numbered += len(numbers)
        assert numbered == made


async def test_one_poisoned_lane_does_not_open_the_breaker(redis: EmbeddedRedis, tmp_path: Path) -> None:
    rule = {"reset": "before", "match": {"referenceId": "c-1"}}
    async with ill(tmp_path, redis, rule, delivery__breaker_failures=2) as (service, sandbox):
        expected = await calls(service)
        await eventually(lambda: sandbox.faults[0]["hits"] > 10, "a lane that fails again and again")
        assert _opened(service) == 0
        sandbox.set_faults([])
        await all_told(sandbox, expected)


@pytest.mark.parametrize("limit", [50, ci(20)])
async def test_the_rate_is_kept(limit: int, redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with ill(tmp_path, redis, delivery__rate_per_s=limit, delivery__poll_s=5.0) as (service, sandbox):
        expected = await calls(service)
        async with aiohttp.ClientSession() as http:
            for number in range(10, 30):
                await post(http, service.intake_url, inbound(f"c-{number}", (1000, number)))
                expected[f"1000/{number}"] = [f"open c-{number}"]
        await all_told(sandbox, expected)
        assert by_pair(sandbox) == expected
        at = [arrival.at for arrival in sandbox.arrivals]
        burst = max(1, limit // 10)
        took_s = (at[-1] - at[0]) / 1000
        assert took_s >= (len(at) - burst - 1) / limit - 0.05
        assert took_s < 3 * len(at) / limit, "and it is used"


# Unknown outcomes.


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


# Tokens.


@pytest.mark.parametrize("status", [401, ci(403)])
async def test_a_refused_token_stops_its_lanes_alone_until_its_file_changes(
    status: int, redis: EmbeddedRedis, tmp_path: Path
) -> None:
    sandbox = Sandbox(tokens={"new": ["create_errand"], "other": ["create_errand"], "powerless": ["logio"]})
    file = tmp_path / "token"
    file.write_text("old" if status == 401 else "powerless")
    env = environment(
        redis.url,
        **FAST,
        cention__base_url=await sandbox.start(),
        cention__token_file=str(file),
        cention__routes=[{"queue": "Other", "token": "other"}],
    )
    (tmp_path / "empty.toml").touch()

    def read() -> Settings:
        return load(tmp_path / "empty.toml", environ=env)

    async with app.running(read(), reload=read, reload_every_s=0.2) as service, aiohttp.ClientSession() as http:
        assert await post(http, service.intake_url, inbound("c-1", PAIRS[1])) == 202
        assert await post(http, service.intake_url, inbound("c-2", PAIRS[2], queueName="Other", queueNumber="1")) == 202
        await eventually(lambda: told(sandbox) == ["1000/2 open c-2"], "the other token's lane")
        assert service.metrics.registry.get_sample_value("bridge_cention_tokens_refused") == 1
        file.write_text("")  # half a change: the tokens in force are kept
        await eventually(lambda: _reloads(service, "failed") > 0, "a reading that fails")
        file.write_text("new\n")
        await eventually(lambda: len(told(sandbox)) == 2, "the lane goes on")
        assert service.metrics.registry.get_sample_value("bridge_cention_tokens_refused") == 0
        assert await metric(service, "bridge_deliveries_parked") == 0
    await sandbox.stop()


def _reloads(service: Service, result: str) -> float:
    return service.metrics.registry.get_sample_value("bridge_secret_reloads_total", {"result": result}) or 0.0


def _more_failed(service: Service, before: float) -> bool:
    return _reloads(service, "failed") > before


async def test_intake_and_admin_tokens_are_changed_without_a_restart(redis: EmbeddedRedis, tmp_path: Path) -> None:
    senders, viewers = tmp_path / "senders", tmp_path / "viewers"
    senders.write_text("first\n")
    viewers.write_text("looker\n")
    env = environment(redis.url, intake__tokens_file=str(senders), admin__viewer_tokens_file=str(viewers))
    (tmp_path / "empty.toml").touch()

    def read() -> Settings:
        return load(tmp_path / "empty.toml", environ=env, sandbox=True)

    async with (
        app.running(read(), sandbox_port=0, reload=read, reload_every_s=0.1) as service,
        aiohttp.ClientSession() as http,
    ):

        def status(url: str, token: str) -> Callable[[], Awaitable[int]]:
            async def ask() -> int:
                headers = {"Authorization": f"Bearer {token}"}
                method, body = ("POST", inbound("c-1", PAIRS[1])) if "events" in url else ("GET", None)
                async with http.request(method, url, json=body, headers=headers) as response:
                    return response.status

            return ask

        events, listed = f"{service.intake_url}/v1/events", f"{service.admin_url}/v1/calls"
        for url, file, old, new in ((events, senders, "first", "second"), (listed, viewers, "looker", "watcher")):
            assert await status(url, old)() < 300
            assert await status(url, new)() == 401
            file.write_text(f"{old}\n{new}\n")
            await _until(status(url, new), lambda code: code < 300)
            assert await status(url, old)() < 300
            file.write_text(f"{new}\n")
            await _until(status(url, old), lambda code: code == 401)
            file.write_text("\n")
            failed = _reloads(service, "failed")
            await eventually(partial(_more_failed, service, failed), "a faulty file")
            assert await status(url, old)() == 401, "an empty file opens nothing"
            file.write_text(f"{new}\n")


async def _until(ask: Callable[[], Awaitable[int]], fits: Callable[[int], bool]) -> None:
    async def check() -> bool:
        return fits(await ask())

    await eventually(check, "the new tokens")


# A raw socket: what the sandbox cannot do.


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Busy\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 307 Go\r\nLocation: //nowhere\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
    ids=["retry_after_unreadable", "cut_off_500", "malformed_redirect", "no_http", "hang_up"],
)
async def test_answers_that_are_no_answers_lose_nothing(answer: bytes, redis: EmbeddedRedis, tmp_path: Path) -> None:
    well = asyncio.Event()
    sandbox = Sandbox()
    inner = (await sandbox.start()).removeprefix("http://127.0.0.1:").partition("/")[0]

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not well.is_set():
            await server.request(reader)
            writer.write(answer)
            await writer.drain()
            return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", int(inner))
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    async with raw(behave) as server, at(tmp_path, redis, server.base_url) as service:
        expected = await calls(service)
        await eventually(lambda: server.connections > 20, "attempts")
        well.set()
        await all_told(sandbox, expected)
        assert by_pair(sandbox) == expected
    await sandbox.stop()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()
    sink.close()

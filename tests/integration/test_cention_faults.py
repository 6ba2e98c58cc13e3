"""A service whose Cention is ill: whatever goes wrong there, no message is lost, and every pair's order is kept."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bridge.cention.sandbox import Sandbox
from bridge.runtime.clock import now
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import eventually, inbound, post
from tests.integration.cention_support import raw, web_server
from tests.integration.ill_support import (
    PAIRS,
    Service,
    all_told,
    at,
    at_rest,
    by_pair,
    calls,
    ci,
    ill,
    metric,
    soon,
)

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

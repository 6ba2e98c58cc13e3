"""The benchmarks' own code: that the load is what it says, that a bad run is told, and that the page is of its files.

What they measure is not looked at here. `python -m benchmarks.speed` measures; docs/speed.md says how.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest

from benchmarks.speed import report, report_pictures
from benchmarks.speed.events import Step, Writer, steps
from benchmarks.speed.figures import Spread, percentile, ratios, spread
from benchmarks.speed.http import NotUnderstood, first_message, request
from benchmarks.speed.kills import damage
from benchmarks.speed.latency import spans_ms
from benchmarks.speed.load import Load, Plan
from benchmarks.speed.memory import kind_of
from benchmarks.speed.parts import pure_parts
from benchmarks.speed.parts_redis import redis_parts
from benchmarks.speed.peers import node_red
from benchmarks.speed.pictures import Bar, bars
from benchmarks.speed.replicas import CASES
from benchmarks.speed.replicas import compared as replicas_and_strangers
from benchmarks.speed.replicas import figures as worth
from benchmarks.speed.results import RESULTS, read
from benchmarks.speed.runs import Failed, Played, compared, staged
from benchmarks.speed.sink import Arrivals, Server
from benchmarks.speed.subjects import Starter, bridge, relay
from benchmarks.speed.targets import TARGETS
from bridge.store.embedded import find_server

needs_redis = pytest.mark.skipif(find_server() is None, reason="no redis-server here")


# The load


def test_each_call_starts_and_ends_once_and_ends_after_others_started() -> None:
    told = list(steps(5, 2))
    assert sorted(told) == sorted([Step(call, ended) for call in range(5) for ended in (False, True)])
    assert told[:4] == [Step(0, False), Step(1, False), Step(2, False), Step(0, True)]
    assert list(steps(2, 0)) == [Step(0, False), Step(0, True), Step(1, False), Step(1, True)]


def test_calls_are_at_agents_of_their_own() -> None:
    events = [orjson.loads(Writer("r", first).event(Step(call, False))) for first in (0, 10) for call in range(3)]
    assert len({event["deviceId"] for event in events}) == 6
    agents = [orjson.loads(Writer("r", 0, 2).event(Step(call, False)))["deviceId"] for call in range(4)]
    assert agents[:2] == agents[2:]


def test_a_message_ends_where_its_length_says() -> None:
    data = request("/", "h", b"one", "text/plain", "t") + request("/", "h", b"two!", "text/plain", "t")
    span = first_message(data)
    assert span is not None
    assert data[span.start : span.end] == b"one"
    assert first_message(data[: span.end - 1]) is None
    with pytest.raises(NotUnderstood):
        first_message(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


@asynccontextmanager
async def sink() -> AsyncIterator[tuple[int, Arrivals]]:
    arrivals = Arrivals()
    server = await asyncio.get_running_loop().create_server(lambda: Server(arrivals), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], arrivals
    finally:
        server.close()


PLAN = Plan(20, run="r", active=5, connections=4, insist=True)


async def played(plan: Plan) -> dict[str, Any]:
    load = Load(plan)
    await load.connect()
    try:
        return await load.play()
    finally:
        load.close()
        await asyncio.sleep(0)  # a closed transport goes at the loop's next turn


@pytest.mark.parametrize(
    "plan",
    [PLAN, replace(PLAN, rate=2000.0), replace(PLAN, active=0, paired=True), replace(PLAN, active=30)],
    ids=["closed", "open", "paired", "few calls"],
)
async def test_a_load_sends_every_event_once(plan: Plan) -> None:
    async with sink() as (port, arrivals):
        told = await played(replace(plan, ports=[port]))
    assert told["refused"] is None
    assert sorted((call, ended) for _, call, ended in arrivals.kept) == sorted(
        (b"r-%d" % call, ended) for call in range(20) for ended in (False, True)
    )
    assert len(told["sent"]) == 40
    times = zip(told["due"], told["sent"], told["answered"], strict=True)
    assert all(due <= sent <= answered for due, sent, answered in times)


async def test_strangers_have_all_that_becomes_of_their_calls() -> None:
    async with sink() as (one, some), sink() as (other, others):
        told = await played(replace(PLAN, ports=[one, other], apart=True))
    assert len(told["sent"]) == 40
    for arrivals, calls in ((some, range(0, 20, 2)), (others, range(1, 20, 2))):
        assert sorted((call, ended) for _, call, ended in arrivals.kept) == sorted(
            (b"r-%d" % call, ended) for call in calls for ended in (False, True)
        )


async def test_an_answer_that_is_no_acceptance_ends_the_load() -> None:
    async with sink() as (port, _):
        told = await played(replace(PLAN, ports=[port], insist=False))  # the sink says 201, not 202
    assert told["refused"].startswith("201")


async def test_an_open_load_counts_from_when_an_event_was_due() -> None:
    """One connection, and an answer that takes far longer than the time between two events."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
                await asyncio.sleep(0.02)
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    told = await played(Plan(5, [server.sockets[0].getsockname()[1]], "r", connections=1, rate=1000.0))
    await ended.wait()
    server.close()
    gaps = [later - earlier for earlier, later in pairwise(told["due"])]
    assert gaps == pytest.approx([0.001] * 9)
    assert told["answered"][-1] - told["due"][-1] > 9 * 0.02 - 0.009


# What came of it


def test_a_message_that_never_arrived_fails_the_run() -> None:
    plan = replace(PLAN, calls=1, active=1)
    told = {"due": [1.0, 2.0], "sent": [1.0, 2.0], "answered": [1.5, 2.5]}
    arrivals = [(1.7, "r-0", False), (2.7, "r-0", True), (2.8, "r-0", True)]
    found = compared(plan, told, arrivals, {"subject": 0.5})
    assert (found.events, found.doubled, found.accept_s) == (2, 1, 1.5)
    assert found.arrive_s == pytest.approx(1.7)
    assert found.figures()["cpu_us_per_event"] == {"subject": 250_000}
    with pytest.raises(Failed):
        compared(plan, told, arrivals[:1], {})


def test_spans_are_of_each_event() -> None:
    found = Played(2, 1.0, 1.0, 0, {}, due=[1, 2], sent=[1, 2], answered=[1.1, 2.3], arrived=[1.2, 2.2])
    told = spans_ms(found)
    assert told["whole"]["p99"] == pytest.approx(200)
    assert told["accept"]["max"] == pytest.approx(300)
    assert told["accept_to_receipt"]["p50"] == 0  # the second arrived before its answer was read


def test_a_kills_damage_is_told() -> None:
    good: list[tuple[float, str, bool]] = [(1, "a", False), (2, "a", True), (3, "b", False), (4, "b", True)]
    assert damage(4, good, 2.5).whole_s == 1.5
    assert damage(4, good[:3], 0).lost == 1
    assert damage(4, [*good, (5, "a", True)], 0).doubled == 1
    assert damage(4, [(5, "a", False), *good[1:]], 0).inverted == 1
    fine = damage(4, good, 0)
    assert (fine.lost, fine.doubled, fine.inverted) == (0, 0, 0)


def test_what_replicas_are_worth_goes_by_rounds() -> None:
    def runs(*cpu_us: float) -> list[dict[str, Any]]:
        return [{"delivered_per_s": 1.0, "cpu_us_per_event": {"subject": used, "redis": 1.0}} for used in cpu_us]

    used = {"one": runs(100, 200), "any": runs(200, 200), "kept": runs(100, 100), "strangers": runs(150, 150)}
    told = worth(4, used)
    assert told["any"]["as_so_many"] == Spread(3.0, 2.0, 4.0)
    assert told["any"]["as_so_many_to_strangers"] == Spread(3.0, 3.0, 3.0)
    assert told["kept"]["as_so_many"] == Spread(6.0, 4.0, 8.0)
    assert told["any"]["cpu_us"] == Spread(200, 200, 200)


def test_figures() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert ratios([2.0, 9.0], [1.0, 3.0]) == Spread(2.5, 2.0, 3.0)
    ordered = [float(value) for value in range(1, 101)]
    assert [percentile(ordered, percent) for percent in (0, 50, 99, 99.9, 100)] == [1, 50, 99, 100, 100]
    assert Spread(2, 2, 2).text(0) == "2"
    assert Spread(2000, 1, 3000).text(0) == "2,000 (1 to 3,000)"


def test_kinds_of_keys() -> None:
    keys = ["aventa:{3}:pair:1:1", "aventa:{3}:timeline:1:1:c", "aventa:index:c", "aventa:{12}:lanes"]
    assert [kind_of(key) for key in keys] == ["pair", "timeline", "index", "lanes"]


# The parts, and whole runs


@pytest.mark.parametrize("name", list(pure_parts()))
def test_a_part_runs(name: str) -> None:
    work = pure_parts()[name]
    work()
    work()


@needs_redis
async def test_the_parts_with_redis_run() -> None:
    told = await redis_parts(128)
    assert {"load", "commit", "settle"} < told.keys()


@needs_redis
@pytest.mark.parametrize(
    "start", [pytest.param(relay(), id="relay"), pytest.param(bridge(), id="bridge", marks=pytest.mark.ci)]
)
async def test_a_whole_run(start: Starter) -> None:
    async with staged(start) as stage:
        found = await stage.play(Plan(50, active=10, connections=8))
    assert (found.events, found.doubled) == (100, 0)
    assert {"subject", "redis", "sink", "load"} == found.cpu_s.keys()


@needs_redis
@pytest.mark.ci
async def test_one_bridge_replicas_and_strangers_play_the_same() -> None:
    told = await replicas_and_strangers(2, 1, 100)
    assert {"number", *CASES} == told.keys()


def test_the_flow_of_node_red_is_connected() -> None:
    nodes = {node["id"]: node for node in node_red.flow("/x", 1)}
    wires: list[str] = [to for node in nodes.values() for out in _wires(node) for to in out]
    assert set(wires) <= nodes.keys()
    assert {"accepted", "tell", "cention", "out"} <= set(wires)


def _wires(node: dict[str, Any]) -> list[list[str]]:
    return list(node.get("wires", []))


# The page


def test_the_page_shows_what_the_files_hold() -> None:
    page = report.PAGE.read_text("utf-8")
    assert report.filled(page, read()) == page, "run: python -m benchmarks.speed report"
    assert all(f"<!-- figures: {name} -->" in page for name in report.TABLES)


def test_the_pictures_are_of_the_files() -> None:
    results = read()
    for name, picture in report_pictures.PICTURES.items():
        drawn = picture(results)
        if drawn is not None:
            assert (report.IMAGES / f"speed-{name}.svg").read_text("utf-8") == drawn, "run the report"
            ElementTree.fromstring(drawn)


def test_the_kept_results_are_small_and_tell_where_they_are_from() -> None:
    for path in RESULTS.glob("*.json"):
        kept = orjson.loads(path.read_bytes())
        assert path.stat().st_size < 100_000
        assert {"question", "surroundings", "settings"} <= kept.keys()


def test_a_target_that_was_not_measured_says_so() -> None:
    assert {target.cells({})[2] for target in TARGETS} == {"not measured"}
    assert "Not measured yet" in report.filled("<!-- figures: parts -->\n<!-- end of figures -->", {})


def test_a_pictures_words_cannot_break_it() -> None:
    drawn = ElementTree.fromstring(bars("a < b", [[Bar("<&>", 1.0, '"1"', least=0.5, greatest=2.0)]]))
    assert drawn.findtext("{http://www.w3.org/2000/svg}title") == "a < b"

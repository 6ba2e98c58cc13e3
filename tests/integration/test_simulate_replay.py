"""`simulate` and `replay` as their users run them: real processes against a bridge on loopback."""

import asyncio
import os
import pty
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from bridge.cli.sender import Sender
from bridge.cli.simulate import play
from bridge.cli.stories import Due
from bridge.runtime.clock import monotonic
from tests.fakes.target import Target, target

ROOT = Path(__file__).parents[2]
QUICK = ("--rate", "500", "--speed", "500")


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
async def bridge() -> AsyncIterator[Target]:
    async with target() as it:
        yield it


async def start(*arguments: object, **more: Any) -> Process:
    command = (sys.executable, "-m", "bridge", *map(str, arguments))
    pipes = {"stdout": PIPE, "stderr": PIPE} | more
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, **pipes)


async def ended(process: Process, given: bytes | None = None) -> Ended:
    async with asyncio.timeout(60):
        out, err = await process.communicate(given)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), (err or b"").decode())


async def run(*arguments: object) -> Ended:
    return await ended(await start(*arguments))


def row(text: str, name: str) -> int:
    """The number beside `name` in a summary."""
    [line] = [line for line in text.splitlines() if f" {name} " in line]
    return int(line.replace(name, "").strip(" │|"))


def by_pair(events: list[dict[str, Any]]) -> dict[tuple[int, int], list[str]]:
    pairs = defaultdict(list)
    for event in events:
        pairs[event["deviceId"], event["extensionId"]].append(event["eventId"])
    return dict(pairs)


def recording(path: Path, *lines: object) -> Path:
    """A file of lines: bytes as they are, all else as JSON."""
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines))
    return path


def event(event_id: str, device: object = 1000) -> dict[str, Any]:
    return {"eventId": event_id, "type": "call.updated", "deviceId": device, "extensionId": 1000}


@pytest.mark.parametrize("batch", [1, 40])
async def test_simulated_calls_reach_the_bridge_whole_and_in_each_pairs_order(
    bridge: Target, tmp_path: Path, batch: int
) -> None:
    bridge.faults.extend([(503, {"Retry-After": "0"}), "reset"])
    record = tmp_path / "events.ndjson"
    result = await run("simulate", "--url", bridge.url, "--calls", 40, *QUICK, "--batch", batch, "--record", record)
    assert result.code == 0, result.err
    sent = [orjson.loads(line) for line in record.read_bytes().splitlines()]
    distinct = list({event["eventId"]: event for event in sent}.values())
    assert by_pair(bridge.events) == by_pair(distinct)
    assert row(result.out, "calls played") == 40
    assert row(result.out, "events sent") == len(sent) > 100
    assert row(result.out, "accepted") == len(distinct)
    assert row(result.out, "duplicates") == len(sent) - len(distinct) > 0
    assert row(result.out, "requests repeated") == 2
    assert row(result.out, "without an answer") == 0


@pytest.mark.parametrize(("batch", "lines"), [(1, [0, 0, 0]), (10, [1, 2])])
async def test_nothing_is_sent_before_it_is_due_nor_kept_for_a_batch_till_the_next(
    bridge: Target, batch: int, lines: list[int]
) -> None:
    began = monotonic()
    async with Sender(bridge.url, batch=batch) as sender:
        await play([Due(0, event("a"), False), Due(0.5, event("b"), False), Due(0.5, event("c"), True)], sender)
    assert bridge.ids() == ["a", "b", "c"]
    assert [body.count(b"\n") for body in bridge.bodies] == lines
    assert monotonic() - began >= 0.5
    assert bridge.came_at[1] - began >= 0.5


async def test_a_second_simulation_is_not_a_repetition_of_the_first(bridge: Target) -> None:
    for _ in range(2):
        assert (await run("simulate", "--url", bridge.url, "--calls", 5, *QUICK, "--agents", 3, "--seed", 7)).code == 0
    assert by_pair(bridge.events).keys() <= {(1000, 1000), (1001, 1001), (1002, 1002)}
    assert all(name.startswith("sim-7-") for name in bridge.ids())
    starts = [event for event in bridge.events if "calledNumber" in event]
    assert len({event["callId"] for event in starts}) == len(starts) >= 10


async def test_a_simulation_with_a_token(bridge: Target) -> None:
    bridge.token = "s3cret"
    refused = await run("simulate", "--url", bridge.url, "--calls", 2, *QUICK)
    assert refused.code == 1
    assert "wants a token" in refused.err
    assert (await run("simulate", "--url", bridge.url, "--calls", 2, *QUICK, "--token", "s3cret")).code == 0
    process = await start(
        "simulate", "--url", bridge.url, "--calls", 2, *QUICK, env={**os.environ, "AVENTA_BRIDGE_TOKEN": "s3cret"}
    )
    assert (await ended(process)).code == 0


async def test_a_simulation_of_what_the_bridge_rejects_fails(bridge: Target) -> None:
    bridge.faults.append((422, {}))
    result = await run("simulate", "--url", bridge.url, "--calls", 3, *QUICK)
    assert result.code == 1
    assert row(result.out, "rejected") == 1
    assert "rejected: sim-42-" in result.err


@pytest.mark.parametrize("command", ["simulate", "replay"])
async def test_a_bridge_that_stays_unreachable_is_given_up(tmp_path: Path, command: str) -> None:
    async with target() as gone:
        url = gone.url
    arguments = [recording(tmp_path / "events", event("a"))] if command == "replay" else ["--calls", 1, *QUICK]
    result = await run(command, *arguments, "--url", url, "--give-up", "0.3")
    assert result.code == 1
    assert f"{command}: gave up after 0.3 s: Connection refused (127.0.0.1:" in result.err
    assert row(result.out, "without an answer") > 0


@pytest.mark.parametrize(
    "wrong",
    [
        ["simulate"],
        ["simulate", "--url", "127.0.0.1:8080"],
        ["simulate", "--url", "http://127.0.0.1", "--rate", "0"],
        ["simulate", "--url", "http://127.0.0.1", "--batch", "1001"],
        ["simulate", "--url", "http://127.0.0.1", "--token", "two\nlines"],
        ["replay", "--url", "http://127.0.0.1"],
        ["replay", "nowhere.ndjson", "--url", "http://127.0.0.1"],
    ],
)
async def test_bad_usage(wrong: list[str]) -> None:
    result = await run(*wrong)
    assert (result.code, result.out) == (2, "")
    assert "Error: " in result.err


@pytest.mark.parametrize(("number", "batch"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 30)])
async def test_an_endless_simulation_ends_with_a_summary(bridge: Target, number: signal.Signals, batch: int) -> None:
    process = await start("simulate", "--url", bridge.url, "--calls", 0, *QUICK, "--batch", batch)
    await bridge.until_requests(50 if batch == 1 else 3)
    process.send_signal(number)
    result = await ended(process)
    assert result.code == 0, result.err
    assert "stopped early" in result.out
    assert row(result.out, "accepted") == len(bridge.events) >= 40
    assert row(result.out, "without an answer") == 0
    assert "Traceback" not in result.err


async def test_a_simulation_can_be_ended_while_the_bridge_is_away(bridge: Target) -> None:
    bridge.faults.extend([(503, {"Retry-After": "50"})] * 1000)
    process = await start("simulate", "--url", bridge.url, "--calls", 0, *QUICK)
    await bridge.until_requests(1)
    process.send_signal(signal.SIGINT)
    result = await ended(process)
    assert result.code == 1
    assert "stopped early" in result.out
    assert row(result.out, "without an answer") > 0


async def test_a_terminal_shows_a_bar_and_a_log_file_lines(bridge: Target) -> None:
    ours, theirs = pty.openpty()
    process = await start("simulate", "--url", bridge.url, "--calls", 5, *QUICK, stderr=theirs)
    os.close(theirs)
    result = await ended(process)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert result.code == 0
    assert "━" in shown
    assert "5/5" in shown
    slow = await start("simulate", "--url", bridge.url, "--calls", 0, "--rate", 20, "--speed", 20)
    assert slow.stderr is not None
    async with asyncio.timeout(60):
        line = (await slow.stderr.readline()).decode()
    slow.send_signal(signal.SIGINT)
    await ended(slow)
    assert line.startswith("simulate: ")
    assert " calls, " in line
    assert " accepted, " in line


async def test_a_recording_is_sent_in_order_and_safe_to_send_again(bridge: Target, tmp_path: Path) -> None:
    file = recording(tmp_path / "events.ndjson", *(event(f"e{index}", index % 3) for index in range(25)))
    first = await run("replay", file, "--url", bridge.url, "--batch", 10)
    assert first.code == 0, first.err
    assert row(first.out, "accepted") == 25
    again = await run("replay", file, "--url", f"{bridge.url}/v1/events")
    assert again.code == 0
    assert (row(again.out, "accepted"), row(again.out, "duplicates")) == (0, 25)
    assert bridge.ids() == [f"e{index}" for index in range(25)]
    assert [body.count(b"\n") for body in bridge.bodies] == [10, 10, 5, 25]


async def test_a_recording_sent_one_by_one_keeps_the_order_between_pairs_too(bridge: Target, tmp_path: Path) -> None:
    bridge.faults.extend([(503, {"Retry-After": "0"})] * 3)
    file = recording(tmp_path / "events.ndjson", *(event(f"e{index}", index) for index in range(20)))
    assert (await run("replay", file, "--url", bridge.url, "--batch", 1)).code == 0
    assert bridge.ids() == [f"e{index}" for index in range(20)]


async def test_bad_lines_are_named_and_the_others_go_through(bridge: Target, tmp_path: Path) -> None:
    file = recording(
        tmp_path / "events.ndjson",
        b"\xef\xbb\xbf" + orjson.dumps(event("a")),
        b"",
        b'  {"eventId": "b",  "deviceId": 1, "extensionId": 1e0}\r',
        b'{"eventId": "torn',
        event("c", "1000"),
        b"\xff\xfe",
        b"[]",
        b"null",
        b"   ",
        b'{"eventId": "long", "link": "' + b"x" * (16 * 1024 * 1024) + b'"}',
        event("d"),
    )
    result = await run("replay", file, "--url", bridge.url)
    assert result.code == 1
    assert bridge.ids() == ["a", "b", "d"]
    assert b'{"eventId": "b",  "deviceId": 1, "extensionId": 1e0}\n' in bridge.bodies[0], "sent as it was written"
    assert result.err.splitlines() == [
        "rejected: line 5 (c): /deviceId: wrong_type: deviceId is a JSON integer.",
        "unreadable: line 4: not JSON",
        "unreadable: line 6: not JSON",
        "unreadable: line 7: not a JSON object",
        "unreadable: line 8: not a JSON object",
        "unreadable: line 10: longer than 16 MiB",
    ]
    assert (row(result.out, "rejected"), row(result.out, "unreadable lines")) == (1, 5)


async def test_a_pipe_is_sent_as_it_comes(bridge: Target) -> None:
    process = await start("replay", "-", "--url", bridge.url, stdin=PIPE)
    assert process.stdin is not None
    process.stdin.write(orjson.dumps(event("a")) + b"\n" + orjson.dumps(event("b"))[:10])
    await process.stdin.drain()
    await bridge.until_requests(1)
    assert bridge.bodies[0].count(b"\n") == 1
    result = await ended(process, orjson.dumps(event("b"))[10:])
    assert result.code == 0, result.err
    assert bridge.ids() == ["a", "b"]


async def test_a_replay_that_waits_for_its_pipe_can_be_ended(bridge: Target) -> None:
    process = await start("replay", "-", "--url", bridge.url, stdin=PIPE)
    assert process.stdin is not None
    process.stdin.write(orjson.dumps(event("a")) + b"\n")
    await bridge.until_requests(1)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
        assert await process.wait() == 1
    result = await ended(process)
    assert "run it again" in result.err
    assert row(result.out, "accepted") == 1


async def test_a_replay_shows_how_far_it_is_in_bytes(bridge: Target, tmp_path: Path) -> None:
    file = recording(tmp_path / "events.ndjson", *(event(f"e{index}") for index in range(100)))
    ours, theirs = pty.openpty()
    process = await start("replay", file, "--url", bridge.url, stderr=theirs)
    os.close(theirs)
    assert (await ended(process)).code == 0
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert f"{file.stat().st_size / 1000:.1f}/{file.stat().st_size / 1000:.1f} kB" in shown


async def test_help_imports_nothing_that_takes_its_time() -> None:
    for name in ("simulate", "replay"):
        code = f"import sys, bridge.cli.{name}; print({{'aiohttp', 'rich', 'structlog', 'orjson'}} & set(sys.modules))"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT, stdout=PIPE)
        assert (await ended(process)).out == "set()\n"

"""What the end-to-end tests share: settings, a bridge as a process of its own, waiting for a condition, posting."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bridge.cention.sandbox import Sandbox
from bridge.settings import Settings, load

HANG_S = 60.0
"""A test that waits so long hangs; no test is expected to come near."""
CENTION_TOKEN = "test-token-of-cention"


async def eventually(check: Callable[[], Awaitable[bool]] | Callable[[], bool], what: str = "the condition") -> None:
    """Waits until `check` holds."""
    try:
        async with asyncio.timeout(HANG_S):
            while True:
                held = check()
                if await held if isinstance(held, Awaitable) else held:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


def environment(redis_url: str, **more: object) -> dict[str, str]:
    """The settings of a bridge on `redis_url`, as environment: any free ports, and `section__key` from `more`."""
    values = {"redis__url": redis_url, "intake__port": 0, "admin__port": 0, "delivery__poll_s": 0.1, **more}
    return {
        f"BRIDGE_{name.upper()}": value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in values.items()
    }


def settings(tmp_path: Path, redis_url: str, **more: object) -> Settings:
    """Settings of a bridge with a sandbox in this process."""
    file = tmp_path / "empty.toml"
    file.touch()
    return load(file, environ=environment(redis_url, **{"spool__dir": str(tmp_path / "spool"), **more}), sandbox=True)


def event(kind: str, call_id: str, pair: tuple[int, int], number: int, **more: Any) -> dict[str, Any]:
    """An event of contract section 1, its id made of its call, type and `number`."""
    return {
        "eventId": f"{call_id}-{kind}-{number}",
        "type": f"call.{kind}",
        "occurredAt": datetime.now(UTC).isoformat(),
        "callId": call_id,
        "deviceId": pair[0],
        "extensionId": pair[1],
        **more,
    }


def inbound(call_id: str, pair: tuple[int, int], **more: Any) -> dict[str, Any]:
    told = {"direction": "inbound", "calledNumber": "46846500401", "callingNumber": "46701740605", **more}
    return event("started", call_id, pair, 1, **told)


def outbound(call_id: str, pair: tuple[int, int], **more: Any) -> dict[str, Any]:
    return event("started", call_id, pair, 1, **{"direction": "outbound", "calledNumber": "0046701740606", **more})


def ended(call_id: str, pair: tuple[int, int], **more: Any) -> dict[str, Any]:
    return event("ended", call_id, pair, 9, **more)


def told(sandbox: Sandbox) -> list[str]:
    """What reached Cention because of calls, in the order of its arrival, in the words of the traces."""
    words = []
    for arrival in sandbox.arrivals:
        if arrival.endpoint == "c3_contact_cards":
            continue
        what = {"c3_end_obcall": "end-obcall", "c3_end_errands": "close"}.get(
            arrival.endpoint, "end-session" if arrival.end_session else "open"
        )
        errand = None if arrival.errand_id is None else sandbox.errand(arrival.errand_id)
        call_id = arrival.reference_id or (errand.reference_id if errand else None)
        pair = (arrival.device_id, arrival.extension_id)
        if arrival.device_id is None and errand is not None and errand.pair is not None:
            pair = errand.pair
        words.append(f"{pair[0]}/{pair[1]} {what} {call_id}")
    return words


@dataclass
class BridgeProcess:
    """`aventa-bridge run` as a process of its own.

    Attributes:
        log: its standard error, line by line, as far as it was read.
    """

    process: asyncio.subprocess.Process
    intake_url: str
    admin_url: str
    log: list[str]
    reading: asyncio.Task[None]

    async def post(self, http: aiohttp.ClientSession, *events: Mapping[str, Any]) -> int:
        return await post(http, self.intake_url, *events)

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends the signal, and returns the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await self.process.wait()
        await self.reading
        return code


async def post(http: aiohttp.ClientSession, url: str, *events: Mapping[str, Any]) -> int:
    """Posts one event, or several as an array; returns the status."""
    body = events[0] if len(events) == 1 else list(events)
    async with http.post(f"{url}/v1/events", json=body) as response:
        return response.status


async def start_bridge(tmp_path: Path, env: Mapping[str, str], arguments: Sequence[str] = ()) -> BridgeProcess:
    """Starts a bridge with its settings in `env` and waits until it is ready."""
    empty = tmp_path / "empty.toml"
    empty.touch()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "run", "--config", str(empty), *arguments,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")},
            "BRIDGE_SPOOL__DIR": str(tmp_path / "spool"),
            **env,
        },
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    stream, log = process.stderr, []
    ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def read() -> None:
        async for line in stream:
            log.append(line.decode().rstrip())
            if not ready.done() and '"ready"' in log[-1]:
                ready.set_result(orjson.loads(line))
        if not ready.done():
            ready.set_exception(AssertionError("the bridge ended before it was ready:\n" + "\n".join(log)))

    reading = asyncio.create_task(read())
    said = await ready
    return BridgeProcess(process, said["intake"], said["admin"], log, reading)


@asynccontextmanager
async def bridges(
    tmp_path: Path, redis_url: str, cention_url: str, *, number: int = 1, **more: object
) -> AsyncIterator[list[BridgeProcess]]:
    """`number` bridges as processes, on one Redis and one Cention; what still runs at the end is ended."""
    env = environment(redis_url, cention__base_url=cention_url, cention__token=CENTION_TOKEN, **more)
    running = await asyncio.gather(*(start_bridge(tmp_path, env) for _ in range(number)))
    try:
        yield running
    finally:
        await asyncio.gather(*(bridge.end() for bridge in running))

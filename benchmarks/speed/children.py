"""The processes of a run: started, spoken to, measured by /proc, and ended by their own ids."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import orjson

from benchmarks.faults.processes import ROOT
from benchmarks.speed.pipe import LINE_BYTES_MAX

_TICKS_S = os.sysconf("SC_CLK_TCK")
_END_S = 15.0


class Ended(Exception):
    """A process ended when an answer was due."""


def cpu_s(pid: int) -> float:
    """CPU time so far of a process with its threads and its children, user and system, seconds."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # a child that ended just now
        return 0.0
    return sum(map(int, after_name[11:15])) / _TICKS_S + sum(cpu_s(int(child)) for child in children)


def memory_mb(pid: int) -> float:
    """Resident memory, in MB of 10^6 bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Child:
    """A process that is spoken to as `pipe` has it. It ends when its input is closed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, *command: str, env: Mapping[str, str] | None = None) -> Self:
        """Starts a command; its standard error is ours."""
        return cls(
            await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_BYTES_MAX,
                cwd=ROOT,
                env=None if env is None else {**os.environ, **env},
            )
        )

    @classmethod
    async def module(cls, name: str, *arguments: str) -> Self:
        """Starts a module of this package."""
        return await cls.start(sys.executable, "-m", f"benchmarks.speed.{name}", *arguments)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.returncode is None

    async def hear(self) -> Any:
        """The next answer.

        Raises:
            Ended: there will be none.
        """
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise Ended(f"process {self.pid} ended with {await self._process.wait()}")
        return orjson.loads(line)

    async def ask(self, do: str, **members: object) -> Any:
        """Gives a command and returns its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps({"do": do, **members}) + b"\n")
        return await self.hear()

    async def kill(self) -> None:
        """SIGKILL, and its end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def end(self) -> None:
        """Closes its input and waits for its end; one that does not end is killed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()


def spent(before: Mapping[str, float], pids: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """CPU seconds of each role since `before`, which is what this gave for an empty `before`."""
    return {role: sum(map(cpu_s, of_role)) - before.get(role, 0.0) for role, of_role in pids.items()}

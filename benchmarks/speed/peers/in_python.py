"""The two peers in Python: FastStream on Redis streams, and procrastinate on a PostgreSQL of its own."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.faults.processes import ROOT, free_port
from benchmarks.speed.peers import installed
from benchmarks.speed.programs import Program, tied
from benchmarks.speed.subjects import Subject
from bridge.store.embedded import EmbeddedRedis

_USER = "postgres"
"""Who runs PostgreSQL where we are root, which it refuses to run as."""


def _program(interpreter: Path, module: str, port: int, sink_port: int, *arguments: str) -> Program:
    command = [str(interpreter), "-m", f"benchmarks.speed.peers.{module}", "--port", str(port), *arguments]
    sink = ["--sink", f"http://127.0.0.1:{sink_port}/"]
    return Program(*command, *sink, ready='"port"', env={"PYTHONPATH": str(ROOT)})


@asynccontextmanager
async def faststream(directory: Path, sink_port: int) -> AsyncIterator[Subject]:
    interpreter = installed.python()
    name = installed.versions(interpreter, "faststream")
    async with EmbeddedRedis(directory / "redis") as server:
        port = free_port()
        async with _program(interpreter, "faststream_app", port, sink_port, "--redis", server.url) as program:
            assert server.pid is not None
            pids = {"subject": [program.pid], "store": [server.pid]}
            yield Subject(name, [port], pids, server.url, program.log, program.replace)


@asynccontextmanager
async def procrastinate(directory: Path, sink_port: int) -> AsyncIterator[Subject]:
    interpreter, programs = installed.python(), installed.postgres()
    name = installed.versions(interpreter, "procrastinate")
    async with _postgres(directory, programs) as (database, server):
        port = free_port()
        async with _program(
            interpreter, "procrastinate_app", port, sink_port, "--database", database
        ) as program:  # fmt: skip
            pids = {"subject": [program.pid], "store": [server.pid]}
            yield Subject(name, [port], pids, "", program.log, program.replace)


@asynccontextmanager
async def _postgres(directory: Path, programs: Path) -> AsyncIterator[tuple[str, Program]]:
    """A server on a unix socket. By default it flushes each commit before it says so, as our Redis does."""
    data = directory / "postgres"
    data.mkdir(mode=0o700)
    directory.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(data, _USER, _USER)
    made = await asyncio.create_subprocess_exec(
        *tied(str(programs / "initdb"), "-D", str(data / "data"), "-U", _USER, "--auth=trust", user=_USER),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=data,
    )  # fmt: skip
    said, _ = await made.communicate()
    if made.returncode:
        raise installed.CannotInstall(f"initdb failed: {said.decode(errors='replace')[-500:]}")
    # Statistics at once and not after a minute: without them, its planner makes fetching a job five times as slow.
    options = ("-c", "listen_addresses=", "-c", "autovacuum_naptime=1")
    command = tied(str(programs / "postgres"), "-D", str(data / "data"), "-k", str(data), *options, user=_USER)
    ready = "database system is ready to accept connections"
    async with Program(*command, ready=ready, cwd=data, ending=signal.SIGINT) as server:
        yield f"host={data} user={_USER} dbname=postgres", server

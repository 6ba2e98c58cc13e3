"""The embedded Redis when processes die: the server, the service, both; and who may have the directory then."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.store.embedded import EmbeddedRedis, EmbeddedRedisError, ServerBinary
from tests.integration.embedded_support import (
    alive,
    client_of,
    put_on_path,
    server_or_skip,
    service_process,
    started,
    until,
    until_replaced,
    until_there_are,
)

HOLD_LOCK = """
import fcntl, sys
with open(sys.argv[1]) as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def server() -> ServerBinary:
    return server_or_skip()


@pytest.fixture
def wrapped(tmp_path: Path, server: ServerBinary, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a newer redis-server that runs the given shell lines before it becomes the real one."""
    return partial(put_on_path, tmp_path, server, monkeypatch)


# Kills


async def test_killed_server_comes_back_with_its_data_on_the_same_socket(tmp_path: Path) -> None:
    restarts: list[int | None] = []
    redis = EmbeddedRedis(tmp_path, on_restart=lambda: restarts.append(redis.pid))
    async with redis, client_of(redis.url) as client:
        socket = redis.socket_path
        for number in range(3):
            await client.set(f"call:{number}", "kept")
            pid = redis.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until_there_are(number + 1, restarts)
            assert redis.pid == restarts[-1] != pid
        assert redis.socket_path == socket
        assert await client.keys() == [f"call:{number}" for number in range(3)] or await client.dbsize() == 3


async def test_server_told_to_end_by_others_comes_back(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as redis:
        first = redis.pid
        assert first is not None
        os.kill(first, signal.SIGTERM)
        await until_replaced(lambda: redis.pid, first)
        async with client_of(redis.url) as client:
            assert await client.ping()


async def test_failing_listener_does_not_end_the_supervision(tmp_path: Path) -> None:
    calls: list[int | None] = []

    def listener() -> None:
        calls.append(redis.pid)
        raise RuntimeError("the listener's own fault")

    redis = EmbeddedRedis(tmp_path, on_restart=listener)
    async with redis:
        for count in (1, 2):
            assert redis.pid is not None
            os.kill(redis.pid, signal.SIGKILL)
            await until_there_are(count, calls)


async def test_server_that_keeps_failing_is_tried_with_growing_delays(
    tmp_path: Path, wrapped: Callable[[str], None]
) -> None:
    broken = tmp_path / "broken"
    wrapped(f'[ -e "{broken}" ] && echo "no luck today" && exit 3')
    with capture_logs() as logs:
        async with EmbeddedRedis(tmp_path / "data") as redis, client_of(redis.url) as client:
            await client.set("call", "kept")
            broken.touch()
            assert redis.pid is not None
            os.kill(redis.pid, signal.SIGKILL)
            await until(lambda: len([line for line in logs if "reason" in line]) == 3)
            broken.unlink()
            assert await client.get("call") == "kept"
    delays = [line["restart_in_s"] for line in logs if "restart_in_s" in line]
    assert delays == [0.1, 0.2, 0.4, 0.8]
    assert all(
        "exit status 3" in line["reason"] and "no luck today" in line["reason"] for line in logs if "reason" in line
    )


async def test_stop_while_the_server_is_down(tmp_path: Path, wrapped: Callable[[str], None]) -> None:
    broken = tmp_path / "broken"
    wrapped(f'[ -e "{broken}" ] && exit 3')
    with capture_logs() as logs:
        async with EmbeddedRedis(tmp_path / "data") as redis:
            broken.touch()
            assert redis.pid is not None
            os.kill(redis.pid, signal.SIGKILL)
            await until(lambda: any("restart_in_s" in line for line in logs))
    broken.unlink()
    async with EmbeddedRedis(tmp_path / "data"):
        pass


async def test_server_outlives_the_threads_that_come_and_go(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as redis, client_of(redis.url) as client:
        first = redis.pid
        # The server would end with the thread that started it: it must not be one of the executor's.
        await asyncio.get_running_loop().shutdown_default_executor()
        assert await client.ping()
        assert redis.pid == first


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_server_ends_with_a_killed_service_and_the_data_are_kept(tmp_path: Path, how: signal.Signals) -> None:
    async with service_process(tmp_path) as service:
        async with client_of(service.url) as client:
            await client.set("call", "kept")
        service.process.send_signal(how)
        await service.process.wait()
        await until(lambda: not alive(service.server_pid))
    async with EmbeddedRedis(tmp_path) as redis, client_of(redis.url) as client:
        assert await client.get("call") == "kept"


async def test_server_ends_with_a_killed_service_even_when_it_is_stuck(tmp_path: Path) -> None:
    async with service_process(tmp_path) as service:
        os.kill(service.server_pid, signal.SIGSTOP)
        service.process.kill()
        await service.process.wait()
        await until(lambda: not alive(service.server_pid))


async def test_service_and_server_killed_at_once_and_again(tmp_path: Path) -> None:
    for number in range(5):
        async with service_process(tmp_path) as service, client_of(service.url) as client:
            assert await client.dbsize() == number
            await client.set(f"call:{number}", "kept")
            os.kill(service.server_pid, signal.SIGKILL)
            service.process.kill()
            await service.process.wait()  # but not for the server: the next one starts while it is dying
    async with EmbeddedRedis(tmp_path) as redis, client_of(redis.url) as client:
        assert await client.dbsize() == 5


async def test_what_a_killed_rewrite_left_is_removed(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as redis:
        leftover = redis.data_path / "temp-rewriteaof-bg-1.aof"
    leftover.write_bytes(b"half")
    async with EmbeddedRedis(tmp_path):
        assert not leftover.exists()


# Locks


async def test_second_service_is_refused_and_told_who_has_the_directory(tmp_path: Path) -> None:
    async with service_process(tmp_path) as service:
        with pytest.raises(EmbeddedRedisError, match=f"in use by another service .process {service.process.pid}."):
            await started(EmbeddedRedis(tmp_path))
        async with client_of(service.url) as client:
            assert await client.ping()  # and its socket is still there
        service.process.kill()
        await service.process.wait()
        async with EmbeddedRedis(tmp_path):
            pass


async def test_second_service_is_refused_whatever_version_it_runs(
    tmp_path: Path, wrapped: Callable[[str], None]
) -> None:
    async with EmbeddedRedis(tmp_path / "data"):
        wrapped("")
        with pytest.raises(EmbeddedRedisError, match=f"process {os.getpid()}"):
            await started(EmbeddedRedis(tmp_path / "data"))


async def test_second_service_is_refused_while_the_first_one_restarts_its_server(
    tmp_path: Path, wrapped: Callable[[str], None]
) -> None:
    broken = tmp_path / "broken"
    wrapped(f'[ -e "{broken}" ] && exit 3')
    async with EmbeddedRedis(tmp_path / "data") as redis, client_of(redis.url) as client:
        broken.touch()
        assert redis.pid is not None
        os.kill(redis.pid, signal.SIGKILL)
        await until(lambda: redis.pid is None)
        with pytest.raises(EmbeddedRedisError, match="in use by another service"):
            await started(EmbeddedRedis(tmp_path / "data"))
        broken.unlink()
        assert await client.ping()


async def test_a_stopped_instance_that_is_refused_leaves_the_others_socket(tmp_path: Path) -> None:
    late = EmbeddedRedis(tmp_path)
    await late.start()
    await late.stop()
    async with EmbeddedRedis(tmp_path) as redis, client_of(redis.url) as client:
        with pytest.raises(EmbeddedRedisError):
            await late.start()
        assert redis.socket_path.exists()
        assert await client.ping()


async def test_no_server_starts_beside_one_that_is_still_dying(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as redis:
        lock_file = tmp_path / "server.lock"
        # The server itself holds the lock, so that the lock lives as long as the server when the service is gone.
        held = [str(entry.readlink()) for entry in Path(f"/proc/{redis.pid}/fd").iterdir()]
        assert str(lock_file) in held
        data = redis.data_path
    # Stands for the dying server: a process that keeps the lock until it is told to go.
    dying = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLD_LOCK, str(lock_file)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert dying.stdout is not None
    await dying.stdout.readline()
    with capture_logs() as logs:
        redis = EmbeddedRedis(tmp_path)
        starting = asyncio.create_task(redis.start())
        await until(lambda: any("waiting for" in line["event"] for line in logs))
        assert not starting.done()
        assert redis.pid is None
        assert not (data / "redis.sock").exists()
        await dying.communicate(b"")
        await starting
    await redis.stop()

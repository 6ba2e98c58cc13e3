"""The store on each shape of Redis, on real servers: what its address says, where commands go, and what moves."""

import asyncio
import random
import signal
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from bridge.calls.decide import decide
from bridge.calls.events import CallEvent, EventKind, Pair
from bridge.settings_types import _REDIS_URL, _redis_url
from bridge.store.calls import Commit
from bridge.store.connection import Connection, Login, Tls
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import EPOCH, LANES, LEASES, SHARDS, WAITING, Keys, shard_of
from bridge.store.outbox import Delivery, Settlement
from bridge.store.urls import Address, Shape, parse
from tests.e2e.support import eventually
from tests.fakes.redis_servers import (
    MASTER,
    RedisServer,
    cluster,
    cluster_url,
    move_slot,
    named_master,
    order_failover,
    replicated,
    sentinel_url,
    sentinels,
    server,
    until_settled,
    with_tls,
)
from tests.integration.store_support import INBOUND, LEASE_MS, A, Bench, bench
from tests.integration.test_redis_refusals import documented_acl

PAIRS_BY_SHARD: dict[int, list[Pair]] = defaultdict(list)
for _number in range(1, 400):
    PAIRS_BY_SHARD[shard_of(Pair(1, _number))].append(Pair(1, _number))


@asynccontextmanager
async def connected(
    url: str, *, tls: Tls | None = None, sentinel: Login | None = None, timeout_s: float = 2
) -> AsyncIterator[Connection]:
    connection = Connection(url, timeout_s=timeout_s, tls=tls, sentinel=sentinel)
    try:
        yield connection
    finally:
        await connection.close()


# Addresses


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("unix:///run/a@b.sock", Address(Shape.SINGLE, (), "/run/a@b.sock")),
        ("unix://u:p%2F@/run/r%20s?db=3", Address(Shape.SINGLE, (), "/run/r s", login=Login("u", "p/"), db=3)),
        ("redis://localhost", Address(Shape.SINGLE, (("localhost", 6379),))),
        ("redis://:p%40@[::1]:1/2", Address(Shape.SINGLE, (("::1", 1),), login=Login(None, "p@"), db=2)),
        ("rediss://u:a:b@h/", Address(Shape.SINGLE, (("h", 6379),), tls=True, login=Login("u", "a:b"))),
        ("redis+sentinel://a,b:1/m.x-1", Address(Shape.SENTINEL, (("a", 26379), ("b", 1)), None, "m.x-1")),
        (
            "rediss+sentinel://u:p@a/m/4",
            Address(Shape.SENTINEL, (("a", 26379),), None, "m", tls=True, login=Login("u", "p"), db=4),
        ),
        ("redis+cluster://a:7000,[::1]", Address(Shape.CLUSTER, (("a", 7000), ("::1", 6379)))),
        ("rediss+cluster://a/", Address(Shape.CLUSTER, (("a", 6379),), tls=True)),
    ],
)
def test_an_address_is_read_whole(url: str, address: Address) -> None:
    assert parse(url) == address
    assert _redis_url(url) == url


@given(st.from_regex(_REDIS_URL, fullmatch=True))
def test_every_address_that_the_settings_take_can_be_read(url: str) -> None:
    try:
        _redis_url(url)
    except ValueError:
        return
    if url != "embedded":
        parse(url)


# Sentinel


async def test_the_sentinels_master_is_followed(tmp_path: Path) -> None:
    async with (
        replicated(tmp_path) as (master, replica),
        sentinels(tmp_path, master, number=1) as (watching,),
        bench(sentinel_url([watching])) as store,
    ):
        await store.start(call_id="c-1")
        assert await master.ask_all(("SET", "a", 1), ("WAIT", 1, 1000)) == [True, 1]
        await order_failover(watching)

        async def followed() -> bool:
            try:
                return list(await store.connection.info()) == [f"127.0.0.1:{replica.port}"]
            except StoreUnavailable:
                return False

        await eventually(followed, "the bridge asks the new master")
        await store.start(call_id="c-2")
        assert {read.call.call_id for read in await store.reads.pair(A)} == {"c-1", "c-2"}


@pytest.mark.parametrize("stands_still", [True, False])
async def test_what_a_replaced_master_says_is_not_promised(tmp_path: Path, stands_still: bool) -> None:
    """It does not know yet that it was replaced, and does what it is asked."""
    async with (
        replicated(tmp_path) as (master, replica),
        sentinels(tmp_path, master, number=1) as (watching,),
        bench(sentinel_url([watching])) as store,
    ):
        event = store.event(EventKind.STARTED, facts=INBOUND)
        loaded = await store.calls.load(event)
        if stands_still:
            master.send_signal(signal.SIGSTOP)
            taking = asyncio.create_task(store.commit(event, loaded))
        await order_failover(watching)

        async def replaced() -> bool:
            return await named_master([watching]) == replica.port

        await eventually(replaced, "the sentinel names the replica")
        if stands_still:
            master.send_signal(signal.SIGCONT)
        else:
            await master.ask("CLIENT", "PAUSE", 300, "WRITE")  # until the sentinel was asked again
            taking = asyncio.create_task(store.commit(event, loaded))
        with pytest.raises(StoreUnavailable):
            await taking


async def test_sentinels_that_are_away_cost_nothing_while_the_master_is_there(tmp_path: Path) -> None:
    async with (
        server(tmp_path / "redis") as master,
        sentinels(tmp_path, master, number=1) as (watching,),
        # The first is a host that nobody is behind.
        connected(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{watching.port}/{MASTER}") as connection,
    ):
        await connection.run(("PING",))
        await watching.kill()
        await asyncio.gather(*(connection.run(("PING",)) for _ in range(10)))


async def test_a_replica_is_not_taken_for_the_master(tmp_path: Path) -> None:
    """The sentinels have not noticed yet."""
    async with (
        server(tmp_path / "redis") as master,
        sentinels(tmp_path, master, number=1) as (watching,),
        connected(sentinel_url([watching])) as connection,
    ):
        await master.ask("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(StoreUnavailable, match="is not the master yet: its role is slave"):
            await connection.run(("PING",))
        assert not connection.available


async def test_a_name_that_no_sentinel_knows_is_said(tmp_path: Path) -> None:
    async with (
        server(tmp_path / "redis") as master,
        sentinels(tmp_path, master, number=1) as (watching,),
        connected(f"redis+sentinel://127.0.0.1:{watching.port}/other") as connection,
    ):
        with pytest.raises(StoreUnavailable, match="knows no master other"):
            await connection.run(("PING",))


async def test_sentinels_have_a_login_of_their_own(tmp_path: Path) -> None:
    rules = " ".join(documented_acl("aventa-sentinel"))
    async with (
        server(tmp_path / "redis") as master,
        sentinels(tmp_path, master, number=1, more=f"user aventa-sentinel {rules}") as (watching,),
    ):
        async with connected(sentinel_url([watching]), sentinel=Login("aventa-sentinel", "PASSWORD")) as connection:
            assert await connection.run(("SET", "a", "1")) == [True]
        assert await watching.ask("ACL", "LOG") == []
        async with connected(sentinel_url([watching]), sentinel=Login("aventa-sentinel", "wrong")) as connection:
            with pytest.raises(StoreUnavailable, match="invalid username-password"):
                await connection.run(("PING",))


# Cluster


def slot_of(shard: int) -> int:
    return key_slot(Keys("test").of_shard(shard, LANES).encode())


def owner(nodes: list[RedisServer], slot: int) -> int:
    """Which of the masters of a new cluster has the slot."""
    return next(n for n in range(len(nodes)) if slot < 16_384 * (n + 1) // len(nodes))


async def test_every_script_runs_on_a_cluster(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes, bench(cluster_url(nodes[:1])) as store:
        for shard in range(SHARDS):
            first, second = PAIRS_BY_SHARD[shard][0], PAIRS_BY_SHARD[(shard + 1) % SHARDS][1]
            await store.start(first, f"c-{shard}")
            hand_over = await store.transfer(first, f"c-{shard}", to=second)
            await store.open_at_new_agent(hand_over)
            await store.outbox.release(hand_over)
            history = await store.reads.history(f"c-{shard}")
            assert history is not None
            assert len(history.legs) == 2
        told = 0
        while claimed := await store.claim(100):
            for first_delivery in claimed.values():
                delivery: Delivery | None = first_delivery
                while delivery is not None:
                    told += 1
                    delivery = await store.outbox.settle(delivery, Settlement.DELIVERED, errand_id="1")
            store.now += 1
        assert told == SHARDS * 4  # open, its end, the hand-over; open at the new agent
        assert (await store.outbox.backlog()).waiting == 0
        found, _ = await store.reads.active(lambda _: True, 100)
        assert len(found) == SHARDS == await store.reads.active_count()
        await store.connection.check(store.keys.writable())
        assert len(await store.connection.info()) == 3
        for node in nodes:
            await node.ask("SCRIPT", "FLUSH")
        await store.start(A, "c-99")

        async with bench(nodes[0].url) as as_one_server:
            shard = next(shard for shard in range(SHARDS) if owner(nodes, slot_of(shard)) == 1)
            with pytest.raises(StoreUnavailable, match="MovedError"):
                await as_one_server.start(PAIRS_BY_SHARD[shard][0])


async def test_a_slot_that_is_moved_key_by_key_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path, masters=2) as nodes, bench(cluster_url(nodes[:1])) as store:
        for seed in range(4):
            shard = [shard for shard in range(SHARDS) if owner(nodes, slot_of(shard)) == 0][seed]
            rng = random.Random(seed)
            moved = _Moved(store, PAIRS_BY_SHARD[shard][1:9], rng)
            # Somebody holds a lane all the while, or a claim would find no leases, and no claim run in the move.
            await store.start(PAIRS_BY_SHARD[shard][0], f"held-{shard}")
            assert len(await store.claim(1, [shard])) == 1
            await moved.start_calls()
            await moved.start_calls()
            # As long as a claim's own keys are there, it runs, and meets lanes that are gone.
            last = [store.keys.of_shard(shard, name) for name in (LANES, LEASES, EPOCH)] if seed % 2 else []
            await move_slot(slot_of(shard), nodes[0], nodes[1], rng, moved.go_on, at_once=2, last=last)
            assert moved.refused, "some of it fell into the move"
            await until_settled(nodes)
            await moved.finish()


class _Moved:
    """Pairs of a shard at work while its slot is moved: what was accepted, and what was told of it."""

    def __init__(self, store: Bench, pairs: list[Pair], rng: random.Random) -> None:
        self.store, self.pairs, self.rng, self.refused = store, pairs, rng, 0
        self.accepted: dict[Pair, list[str]] = defaultdict(list)
        self.told: dict[Pair, list[str]] = defaultdict(list)
        self._number = 0
        self._refused: dict[Pair, tuple[CallEvent, list[str]]] = {}
        self._unsettled: list[Delivery] = []

    async def start_calls(self) -> None:
        """As a sender does it: what was refused is sent again, before what comes next."""
        for pair in self.pairs:
            if pair not in self._refused:
                self._number += 1
                event = self.store.event(EventKind.STARTED, pair, f"{pair}-{self._number}", facts=INBOUND)
                self._refused[pair] = (event, [])
            event, effects = self._refused[pair]
            try:
                loaded = await self.store.calls.load(event)
                if not loaded.seen:
                    decision = decide(loaded.calls, event, self.store.policy)
                    effects[:] = [effect.effect_id for effect in decision.effects]
                    assert await self.store.calls.commit(event, loaded, decision) is Commit.OK
            except StoreUnavailable:
                self.refused += 1
            else:
                self.accepted[pair] += effects
                del self._refused[pair]

    async def go_on(self) -> None:
        await self.start_calls()
        if self.rng.random() < 0.2:  # seldom: lanes that are due must be left when some of their keys are gone
            with suppress(StoreUnavailable):
                self._tell((await self.store.claim(2, [shard_of(self.pairs[0])])).values())
        await self._settle()

    def _tell(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            assert delivery.attempt == 1, "no lease was lost with its answer"
            self.told[delivery.effect.pair].append(delivery.effect.effect_id)
            self._unsettled.append(delivery)

    async def _settle(self, *, go_on: bool = False) -> None:
        unsettled, self._unsettled = self._unsettled, []
        for delivery in unsettled:
            try:
                following = await self.store.outbox.settle(delivery, Settlement.DELIVERED, go_on=go_on)
            except StoreUnavailable:
                self._unsettled.append(delivery)
            else:
                self._tell([] if following is None else [following])

    async def finish(self) -> None:
        refused = self.refused
        for _ in range(3):
            await self.go_on()
        assert self.refused == refused, "a client that knows the slot's old place is sent to its new one"
        shard = shard_of(self.pairs[0])
        while self._unsettled or await self.store.raw("ZCARD", self.store.keys.of_shard(shard, WAITING)) > 1:
            while self._unsettled:
                await self._settle(go_on=True)
            self.store.now += LEASE_MS  # a lane that was passed over is due again after a lease's length
            claimed = (await self.store.claim(10, [shard])).values()
            self._tell(delivery for delivery in claimed if delivery.effect.pair in self.pairs)
        assert self.told == self.accepted


@pytest.mark.ci
async def test_a_node_that_is_away_takes_only_its_own_along(tmp_path: Path) -> None:
    partial = {"cluster-require-full-coverage": "no"}
    async with cluster(tmp_path, partial) as nodes, bench(cluster_url(nodes)) as store:
        homes = {shard: owner(nodes, slot_of(shard)) for shard in range(SHARDS)}
        for shard in range(SHARDS):
            await store.start(PAIRS_BY_SHARD[shard][0], f"c-{shard}")
        await nodes[2].kill()
        lost = {PAIRS_BY_SHARD[shard][0] for shard in range(SHARDS) if homes[shard] == 2}
        assert set(await store.claim(1)) == {PAIRS_BY_SHARD[shard][0] for shard in range(SHARDS)} - lost
        with pytest.raises(StoreUnavailable):
            await store.connection.check(store.keys.writable())
        with pytest.raises(StoreUnavailable):
            await store.start(next(iter(lost)), "c-99")

        # The index of a call lies elsewhere than its pair. It comes first: without it, nothing of the call is written.
        at_lost = next(f"i-{n}" for n in range(100) if owner(nodes, key_slot(f"test:index:i-{n}".encode())) == 2)
        pair = next(PAIRS_BY_SHARD[shard][1] for shard in range(SHARDS) if homes[shard] != 2)
        event = store.event(EventKind.STARTED, pair, at_lost, facts=INBOUND)
        with pytest.raises(StoreUnavailable):
            await store.take(event)
        assert not (await store.calls.load(event)).seen

        await nodes[2].start()

        async def back() -> bool:
            try:
                await store.connection.check(store.keys.writable())
            except StoreUnavailable:
                return False
            return True

        await eventually(back, "all of the cluster takes writes")
        await store.take(event)


async def test_a_server_is_not_a_cluster(tmp_path: Path) -> None:
    async with server(tmp_path / "alone") as alone, connected(cluster_url([alone])) as connection:
        with pytest.raises(StoreUnavailable, match="cluster support disabled"):
            await connection.run(("PING",))


# TLS


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A certificate authority's, a server's for localhost alone, and a client's, with their keys."""
    made = tmp_path / "tls"
    made.mkdir()

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=made, check=True, capture_output=True)

    key = ["-newkey", "rsa:2048", "-noenc", "-days", "2"]
    openssl("req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=test authority")
    for name, more in (("server", "subjectAltName=DNS:localhost"), ("client", "subjectAltName=DNS:client")):
        openssl(
            *("req", "-x509", *key, "-keyout", f"{name}-key.pem", "-out", f"{name}.pem", "-subj", f"/CN={name}"),
            *("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-addext", more, "-addext", "basicConstraints=CA:FALSE"),
        )
    return made


@pytest.mark.ci
async def test_tls_with_a_client_certificate(tmp_path: Path, certificates: Path) -> None:
    files = Tls(*(str(certificates / name) for name in ("ca.pem", "client.pem", "client-key.pem")))
    async with server(tmp_path / "redis", binary=with_tls(tmp_path), tls=certificates) as it:
        await it.ask("ACL", "SETUSER", "aventa-bridge", *documented_acl("aventa-bridge"))
        login = "aventa-bridge:PASSWORD"
        async with connected(f"rediss://{login}@localhost:{it.port}", tls=files) as connection:
            assert await connection.run(("SET", "aventa:a", "1")) == [True]
        refused = [
            (f"rediss://{login}@127.0.0.1:{it.port}", files, "IP address mismatch"),
            (f"rediss://{login}@localhost:{it.port}", Tls(None, files.cert_file, files.key_file), "self-signed"),
            (f"rediss://{login}@localhost:{it.port}", Tls(files.ca_file), "ConnectionError"),
            (f"rediss://{login}@localhost:{it.port}", Tls("none.pem"), "No such file"),
            (f"redis://{login}@localhost:{it.port}", files, "ConnectionError"),
        ]
        for url, given, said in refused:
            async with connected(url, tls=given) as connection:
                with pytest.raises(StoreUnavailable, match=said):
                    await connection.run(("PING",))


@pytest.mark.ci
async def test_tls_in_a_cluster(tmp_path: Path, certificates: Path) -> None:
    files = Tls(*(str(certificates / name) for name in ("ca.pem", "client.pem", "client-key.pem")))
    names = {"cluster-announce-hostname": "localhost", "cluster-preferred-endpoint-type": "hostname"}
    async with cluster(tmp_path, names, binary=with_tls(tmp_path), tls=certificates) as nodes:
        url = f"rediss+cluster://localhost:{nodes[0].port}"
        async with connected(url, tls=files) as connection:
            await connection.check(Keys("test").writable())
            assert set(await connection.info()) == {f"localhost:{node.port}" for node in nodes}

"""The shapes of Redis on real servers: addresses, Sentinel, TLS. The cluster has test_redis_cluster.py."""

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.events import EventKind
from bridge.settings_types import _REDIS_URL, _redis_url
from bridge.store.connection import Login, Tls
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import Keys
from bridge.store.urls import Address, Shape, parse
from tests.e2e.support import eventually
from tests.fakes.redis_servers import (
    MASTER,
    cluster,
    named_master,
    order_failover,
    replicated,
    sentinel_url,
    sentinels,
    server,
    with_tls,
)
from tests.integration.redis_support import (
    connected,
    documented_acl,
)
from tests.integration.store_support import INBOUND, A, bench

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

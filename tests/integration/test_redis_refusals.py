"""A Redis that refuses, lags or is not there yet: the bridge on real servers.

What single commands meet is in test_connection.py; here it is the store and the service as a whole.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError

from bridge.calls.events import EventKind
from bridge.store.calls import Commit
from bridge.store.connection import Connection, Durability
from bridge.store.deliveries import Settlement
from bridge.store.errors import StoreUnavailable
from bridge.store.inspection import inspect
from tests.e2e.support import ended, event, eventually, inbound, outbound, post
from tests.fakes.logs import captured
from tests.fakes.redis_servers import RedisServer, newest, replicated, server
from tests.integration.cention_support import raw
from tests.integration.redis_support import (
    PAIR,
    delivered,
    service,
    status,
    until_ready,
)
from tests.integration.store_support import INBOUND, A, Bench, bench


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with server(tmp_path / "redis", {"appendonly": "yes", "appendfsync": "no"}) as it:
        yield it


# The service while Redis refuses


async def test_a_service_starts_before_its_redis(tmp_path: Path) -> None:
    async with server(tmp_path / "redis", start=False) as late, service(tmp_path, late.url) as (it, http):
        await until_ready(it, http, ready=False)
        assert await status(http, f"{it.admin_url}/livez") == 200
        assert await post(http, it.intake_url, inbound("c-1", PAIR)) == 503
        await late.start()
        await until_ready(it, http)
        assert await post(http, it.intake_url, inbound("c-1", PAIR)) == 202
        assert await delivered(it, 1) == ["1000/1001 open c-1"]


async def test_a_redis_that_answers_what_nobody_asked_ends_nothing(tmp_path: Path) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            for _ in range(int(line[1:])):
                await reader.readexactly(int((await reader.readline())[1:]) + 2)
            writer.write(b":1\r\n")

    with captured() as lines:
        async with (
            raw(answers, "redis") as odd,
            service(tmp_path, odd.base_url.partition("/s/")[0]) as (it, http),
        ):
            await eventually(lambda: "redis cannot be inspected" in lines.text, "the inspection fails")
            await eventually(lambda: "claiming failed inside the bridge" in lines.text, "so does the worker")
            assert await status(http, f"{it.admin_url}/livez") == 200


async def test_a_demoted_master_is_left_alone_until_it_is_one_again(master: RedisServer, tmp_path: Path) -> None:
    async with service(tmp_path, master.url) as (it, http):
        assert await post(http, it.intake_url, inbound("c-1", PAIR)) == 202
        await delivered(it, 1)
        await master.ask("REPLICAOF", "127.0.0.1", 1)
        assert await post(http, it.intake_url, ended("c-1", PAIR)) == 503
        await until_ready(it, http, ready=False)
        await master.ask("CONFIG", "SET", "replica-serve-stale-data", "no")  # MASTERDOWN, to reads too
        assert await post(http, it.intake_url, ended("c-1", PAIR)) == 503
        await master.ask("REPLICAOF", "NO", "ONE")
        await until_ready(it, http)
        assert await post(http, it.intake_url, ended("c-1", PAIR)) == 202
        assert len(await delivered(it, 2)) == 2


async def test_a_name_that_leads_to_another_server_is_followed(tmp_path: Path) -> None:
    """As where somebody else runs Redis for us: after a failover, its one name leads to the new master."""
    async with (
        replicated(tmp_path) as (master, replica),
        forwarded(master.port) as (port, lead_to),
        bench(f"redis://127.0.0.1:{port}") as store,
    ):
        await store.start(call_id="c-1")
        await replica.ask("REPLICAOF", "NO", "ONE")
        await master.ask("REPLICAOF", "127.0.0.1", replica.port)
        lead_to(replica.port)
        with pytest.raises(StoreUnavailable):
            await store.start(call_id="c-2")  # on a connection to the old one, which is alive and well
        await store.start(call_id="c-3")
        assert await replica.ask("EXISTS", store.keys.index("c-3")) == 1


@asynccontextmanager
async def forwarded(port: int) -> AsyncIterator[tuple[int, Callable[[int], None]]]:
    """A port that new connections are led on from: to `port`, or to the last one that was asked for since."""
    target = port
    pumps: set[asyncio.Task[None]] = set()

    def lead_to(other: int) -> None:
        nonlocal target
        target = other

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
        sink.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await asyncio.open_connection("127.0.0.1", target)
        pumps.update({asyncio.create_task(pump(reader, onward[1])), asyncio.create_task(pump(onward[0], writer))})

    async with await asyncio.start_server(lead, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1], lead_to
        listener.close()
        await asyncio.gather(*pumps)


async def test_a_server_that_is_loading_is_waited_for(master: RedisServer, tmp_path: Path) -> None:
    await master.ask("CONFIG", "SET", "rdbcompression", "no")
    await master.ask("EVAL", "for i = 1, 400 do redis.call('SET', 'filler:' .. i, string.rep('x', 20000)) end", 0)
    await master.ask("BGREWRITEAOF")

    async def rewritten() -> bool:
        info = await master.info("persistence")
        return not info["aof_rewrite_in_progress"] and info["aof_last_bgrewrite_status"] == "ok"

    await eventually(rewritten, "the file is rewritten")
    async with service(tmp_path, master.url) as (it, http):
        await until_ready(it, http)
        await master.kill()
        master.settings = {**master.settings, "key-load-delay": 4000}  # µs a key
        await master.start(ready=False)

        async def is_loading() -> bool:
            try:
                await master.ask("GET", "none")
            except BusyLoadingError:
                return True
            except RedisConnectionError:
                return False
            raise AssertionError("it was never seen loading")

        await eventually(is_loading, "the server loads")
        assert await post(http, it.intake_url, inbound("c-1", PAIR)) == 503
        await master.until_it_answers()
        await until_ready(it, http)
        assert await post(http, it.intake_url, inbound("c-1", PAIR)) == 202


async def test_what_waits_is_delivered_while_memory_is_full(master: RedisServer, tmp_path: Path) -> None:
    async with service(tmp_path, master.url, delivery__schedule_s=[0.2], delivery__breaker_open_s=0.2) as (it, http):
        assert it.sandbox is not None
        it.sandbox.set_faults([{"endpoint": "*", "status": 503}])
        for number in range(20):
            assert await post(http, it.intake_url, inbound(f"c-{number}", (1000, number))) == 202
        await master.ask("CONFIG", "SET", "maxmemory", 1)
        it.sandbox.set_faults([])
        assert await post(http, it.intake_url, inbound("late", PAIR)) == 503
        await until_ready(it, http, ready=False)
        assert sorted(await delivered(it, 20)) == sorted(f"1000/{n} open c-{n}" for n in range(20))
        await master.ask("CONFIG", "SET", "maxmemory", 0)
        await until_ready(it, http)
        assert await post(http, it.intake_url, inbound("late", PAIR)) == 202
        assert len(await delivered(it, 21)) == 21, "nothing of it was told twice"


async def test_a_transfer_goes_on_while_memory_is_full(master: RedisServer, tmp_path: Path) -> None:
    async with service(tmp_path, master.url, delivery__schedule_s=[0.2], delivery__breaker_open_s=0.2) as (it, http):
        assert it.sandbox is not None
        it.sandbox.set_faults([{"endpoint": "*", "status": 503}])
        passed_on = event("transferred", "c-1", PAIR, 3, transferredTo={"deviceId": 1000, "extensionId": 7})
        for each in (inbound("c-1", PAIR), passed_on):
            assert await post(http, it.intake_url, each) == 202
        await master.ask("CONFIG", "SET", "maxmemory", 1)
        assert await post(http, it.intake_url, passed_on) == 200, "it was taken before: there is nothing to write"
        it.sandbox.set_faults([])
        assert len(await delivered(it, 3)) == 3, "the old agent's opening and end, the new one's opening"


async def test_a_settle_that_is_asked_for_again_is_answered_while_memory_is_full(master: RedisServer) -> None:
    async with bench(master.url) as store:
        await store.start()
        await store.end()
        claimed = (await store.claim())[A]
        following = await store.outbox.settle(claimed, Settlement.DELIVERED)
        assert following is not None
        await master.ask("CONFIG", "SET", "maxmemory", 1)
        assert await store.outbox.settle(claimed, Settlement.DELIVERED) == following


async def test_a_server_without_its_replicas_takes_no_events(tmp_path: Path) -> None:
    # min-replicas-to-write covers scripts too.
    async with replicated(tmp_path, {"min-replicas-to-write": 1, "min-replicas-max-lag": 1}) as (master, replica):

        async def taken(call_id: str) -> bool:
            return await post(http, it.intake_url, inbound(call_id, PAIR)) == 202

        async with service(tmp_path, master.url) as (it, http):
            await eventually(lambda: taken("c-1"), "the replica counts as good")
            await replica.kill()
            await until_ready(it, http, ready=False)
            assert not await taken("c-2")
            await replica.start()
            await until_ready(it, http)
            await eventually(lambda: taken("c-2"), "it is taken again")


# Waiting for replicas


@asynccontextmanager
async def waiting_bench(url: str, durability: Durability) -> AsyncIterator[Bench]:
    async with bench(url) as store:
        await store.connection.close()
        connection = Connection(url, timeout_s=5, durability=durability)
        try:
            yield Bench(connection, store.keys, store.retention)
        finally:
            await connection.close()


async def test_what_no_replica_has_is_not_promised(tmp_path: Path) -> None:
    async with (
        replicated(tmp_path) as (master, replica),
        waiting_bench(master.url, Durability(replicas=1, timeout_ms=100)) as store,
    ):
        await store.start(call_id="c-1")
        assert await replica.ask("EXISTS", store.keys.index("c-1")) == 1
        claimed = await store.claim()
        (delivery,) = claimed.values()

        replica.send_signal(signal.SIGSTOP)
        asked = store.event(EventKind.STARTED, call_id="c-2", facts=INBOUND)
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            await store.take(asked)
        loaded = await store.calls.load(asked)
        assert loaded.seen, "it was written; nobody was told so"
        with pytest.raises(StoreUnavailable, match="0 of 1 replicas"):
            await store.commit(asked, loaded)
        with pytest.raises(StoreUnavailable):
            await store.outbox.settle(delivery, Settlement.DELIVERED)
        with pytest.raises(StoreUnavailable):
            await store.connection.check(store.keys.writable())

        replica.send_signal(signal.SIGCONT)
        await eventually(lambda: answers(store.connection.check(store.keys.writable())), "the replica confirms")
        assert await store.commit(asked, loaded) is Commit.DUPLICATE
        following = await store.outbox.settle(delivery, Settlement.DELIVERED)
        assert following is not None
        assert (following.effect.call_id, following.attempt) == ("c-2", 1), "it goes on where it was"


async def answers(asked: Any) -> bool:
    try:
        await asked
    except StoreUnavailable:
        return False
    return True


async def test_reads_do_not_wait_for_replicas(tmp_path: Path) -> None:
    async with (
        replicated(tmp_path) as (master, replica),
        waiting_bench(master.url, Durability(replicas=1, timeout_ms=4000)) as store,
    ):
        await store.start(call_id="c-1")
        replica.send_signal(signal.SIGSTOP)
        taking = asyncio.create_task(store.start(call_id="c-2"))
        for _ in range(20):
            await store.calls.load(store.event(EventKind.STARTED))
        assert not taking.done()
        replica.send_signal(signal.SIGCONT)
        await taking


async def test_a_sender_hears_of_acceptance_when_a_replica_has_it(tmp_path: Path) -> None:
    async with replicated(tmp_path) as (master, replica):
        waits = {"redis__wait_replicas": 1, "redis__wait_timeout_ms": 100}
        async with service(tmp_path, master.url, **waits) as (it, http):
            assert await post(http, it.intake_url, inbound("c-1", PAIR)) == 202
            await delivered(it, 1)
            replica.send_signal(signal.SIGSTOP)
            for _ in range(2):  # a repetition is a duplicate, and no more durable than the first
                assert await post(http, it.intake_url, outbound("c-2", PAIR)) == 503
            await until_ready(it, http, ready=False)
            replica.send_signal(signal.SIGCONT)
            await until_ready(it, http)
            assert await post(http, it.intake_url, outbound("c-2", PAIR)) == 200
            assert await delivered(it, 2) == ["1000/1001 open c-1", "1000/1001 open c-2"]


async def test_an_older_redis_cannot_be_asked_for_its_disk(master: RedisServer) -> None:
    if tuple(map(int, (await master.info("server"))["redis_version"].split("."))) >= (7, 2):
        pytest.skip("the redis-server here is a newer one")
    async with waiting_bench(master.url, Durability(aof=True)) as store:
        with pytest.raises(StoreUnavailable, match="cannot be waited for"):
            await store.start()
        _, findings = await inspect(store.connection)
        assert [finding.text for finding in findings if finding.fatal] == [
            "is older than 7.2, which redis.wait_aof needs: every event would be refused"
        ]


@pytest.mark.ci
async def test_the_disk_of_a_newer_redis_is_waited_for(tmp_path: Path) -> None:
    aof = {"appendonly": "yes", "appendfsync": "everysec"}
    async with (
        replicated(tmp_path, aof, binary=newest()) as (master, replica),
        waiting_bench(master.url, Durability(replicas=1, timeout_ms=4000, aof=True)) as store,
    ):
        await store.start(call_id="c-1")
        assert (await inspect(store.connection))[1] == []
        await replica.ask("CONFIG", "SET", "appendonly", "no")
        await master.ask("CONFIG", "SET", "appendfsync", "always")
        async with waiting_bench(master.url, Durability(timeout_ms=4000, aof=True)) as alone:
            await alone.start(call_id="c-2", event_id="a-2")
        async with waiting_bench(master.url, Durability(replicas=1, timeout_ms=200, aof=True)) as hasty:
            with pytest.raises(StoreUnavailable, match="0 of 1 replicas had it, on disk"):
                await hasty.start(call_id="c-3", event_id="a-3")
        await master.ask("CONFIG", "SET", "appendonly", "no")
        with pytest.raises(StoreUnavailable, match="appendonly"):
            await store.start(call_id="c-4")


async def test_a_failover_does_not_bring_an_old_lease_back(tmp_path: Path) -> None:
    """The counter of leases that a replica knows may be behind: the same number would be given out again."""
    async with replicated(tmp_path) as (master, replica):
        async with bench(master.url) as store:
            await store.start(call_id="c-1")
            await store.end(call_id="c-1")
            assert await master.ask("WAIT", 1, 1000) == 1
            await replica.ask("REPLICAOF", "NO", "ONE")
            lost = await store.claim()
        async with bench(replica.url) as store:
            (ours,) = lost.values()
            (theirs,) = (await store.claim()).values()
            assert theirs.effect == ours.effect
            assert theirs.epoch != ours.epoch
            assert await store.outbox.settle(ours, Settlement.DELIVERED) is None
            assert len(await store.lane()) == 2

"""The connection on real servers: what leaves together, what fails alone, and what a server's trouble looks like."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from redis.exceptions import RedisError, ResponseError

from bridge.calls.events import EventKind
from bridge.runtime.tasks import Tasks
from bridge.store.calls import Commit
from bridge.store.connection import SCRIPTS, Command, Connection, scored
from bridge.store.deliveries import Settlement
from bridge.store.embedded import EmbeddedRedis
from bridge.store.errors import StoreUnavailable
from bridge.store.routes import Single
from bridge.store.servers import SLOW_S, Durability, Server
from bridge.store.urls import Clients, Login, Tls, parse
from tests.e2e.support import eventually
from tests.integration.cention_support import raw
from tests.integration.store_support import INBOUND, A, Bench, bench, proxy


@asynccontextmanager
async def connected(url: str, timeout_s: float = 5) -> AsyncIterator[Connection]:
    connection = Connection(url, timeout_s=timeout_s)
    try:
        yield connection
    finally:
        await connection.close()


async def test_what_one_turn_asks_for_leaves_together_and_in_order(redis: EmbeddedRedis) -> None:
    async with proxy(redis.socket_path) as between, connected(between.url) as connection:
        answers = await asyncio.gather(*(connection.run(("RPUSH", "l", n), ("INCR", "n")) for n in range(50)))
        assert answers == [[n + 1, n + 1] for n in range(50)]
        assert await connection.run(("LRANGE", "l", 0, -1)) == [[str(n) for n in range(50)]]
        assert between.connections == 1
        assert await connection.run() == []


async def test_more_turns_than_connections_wait_and_do_not_fail(redis: EmbeddedRedis) -> None:
    """A Redis that takes its time is not one that is away."""
    async with proxy(redis.socket_path) as between, connected(between.url, 30) as connection:
        await connection.run(("PING",))
        between.open.clear()
        asking = []
        for _ in range(300):
            asking.append(asyncio.create_task(connection.run(("INCR", "n"))))
            await asyncio.sleep(0)  # a turn of the loop each, and so a pipeline each
            await asyncio.sleep(0)
        between.open.set()
        answers = await asyncio.gather(*asking)
        assert sorted(answers) == [[n + 1] for n in range(300)]
        assert between.connections <= 66


async def test_a_command_that_fails_fails_alone(redis: EmbeddedRedis) -> None:
    async with connected(redis.url) as connection:
        await connection.run(("SET", "text", "x"))
        asked: list[list[Command]] = [
            [("SET", "a", "1")],
            [("INCR", "n"), ("INCR", "text"), ("INCR", "n")],
            [("INCR", "n")],
        ]
        good, bad, other = await asyncio.gather(*(connection.run(*each) for each in asked), return_exceptions=True)
        assert good == [True]
        assert isinstance(bad, ResponseError)
        assert not isinstance(bad, StoreUnavailable)
        assert other == [3], "what stood before and behind it was run"


@pytest.mark.parametrize("command", [("NOSUCHCOMMAND",), ("GET",), ("PEXPIRE", "s", "soon")])
async def test_a_fault_of_ours_stays_what_it_is(redis: EmbeddedRedis, command: tuple[str, ...]) -> None:
    async with connected(redis.url) as connection:
        with pytest.raises(RedisError):
            await connection.run(command)
        assert await connection.run(("PING",)) == [True]


async def test_scripts_that_a_server_forgot_are_loaded_again(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        for number in range(2):
            await store.raw("SCRIPT", "FLUSH")
            await store.start(call_id=f"c-{number}")
        assert len(await store.lane()) == 2


async def test_a_server_that_cannot_load_scripts_costs_the_scripts_alone(redis: EmbeddedRedis) -> None:
    async with connected(redis.url) as connection:
        await connection.run(("ACL", "SETUSER", "poor", "on", ">pw", "~*", "+@all", "-script"))
        url = redis.url.replace("unix://", "unix://poor:pw@")
        async with connected(url) as poor:
            script = SCRIPTS["release"].call(["a", "b", "c"], ["0", "x", "y", "z"])
            asked = [("INCR", "n"), script]
            good, bad = await asyncio.gather(*(poor.run(each) for each in asked), return_exceptions=True)
            assert good == [1]
            assert isinstance(bad, RedisError | StoreUnavailable)
        assert await connection.run(("GET", "n")) == ["1"]


async def test_a_killed_server_is_away_until_it_is_back(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.start(call_id="c-1")
        assert store.connection.available
        assert redis.pid is not None
        os.kill(redis.pid, signal.SIGKILL)
        with pytest.raises(StoreUnavailable) as caught:
            await store.raw("PING")  # on the connection that broke; no server is waited for
        assert caught.value.retry_after_s >= 1
        assert not store.connection.available

        async def is_back() -> bool:
            try:
                return bool(await store.raw("PING"))
            except StoreUnavailable:
                return False

        await eventually(is_back, "redis-server is back")
        assert store.connection.available
        assert len(await store.reads.pair(A)) == 1
        await store.start(call_id="c-2")  # the new server knows no scripts
        assert len(await store.lane()) == 2


async def test_a_lost_answer_is_told_and_not_asked_for_again(redis: EmbeddedRedis) -> None:
    async with proxy(redis.socket_path) as between, connected(between.url) as connection:
        await connection.run(("PING",))
        between.cut = True
        with pytest.raises(StoreUnavailable):
            await connection.run(("INCR", "n"))
        assert await connection.run(("GET", "n")) == ["1"], "run once, whatever became of the answer"


async def test_a_commit_whose_answer_was_lost_is_applied_once(redis: EmbeddedRedis) -> None:
    async with proxy(redis.socket_path) as between, bench(between.url) as store:
        await store.start(call_id="c-0")
        event = store.event(EventKind.STARTED, facts=INBOUND)
        loaded = await store.calls.load(event)
        between.cut = True
        with pytest.raises(StoreUnavailable):
            await store.commit(event, loaded)
        for again in (loaded, await store.calls.load(event)):
            assert await store.commit(event, again) is Commit.DUPLICATE
        assert (await store.calls.load(event)).seen
        assert len(await store.lane()) == 2


def test_a_connection_that_was_reset_at_rest_is_replaced(tmp_path: Path) -> None:
    """On uvloop, as the service runs: it raises RuntimeError for such a connection, and not what redis-py looks for."""
    uvloop = pytest.importorskip("uvloop")

    async def reset_at_rest() -> None:
        async with (
            EmbeddedRedis(tmp_path / "redis", fsync="no") as redis,
            proxy(redis.socket_path) as between,
            connected(between.url) as connection,
        ):
            await connection.run(("PING",))
            await between.reset()
            async with connected(between.url) as other:  # once it has its answer, the reset has been noticed
                await other.run(("PING",))
            assert await connection.run(("INCR", "n")) == [1]
            assert between.connections == 3

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(reset_at_rest())


async def test_a_server_that_does_not_answer_is_away_after_the_timeout(redis: EmbeddedRedis) -> None:
    async with proxy(redis.socket_path) as between, connected(between.url, 0.1) as connection:
        await connection.run(("PING",))
        between.open.clear()
        with pytest.raises(StoreUnavailable):
            await connection.run(("PING",))


async def test_slow_answers_ask_whether_the_server_still_stands_one_after_the_other() -> None:
    """One comes just when the question of another has been answered, and before that one has gone on."""

    class Asks(Single):
        answers: ClassVar = [True, False]
        trusted: ClassVar[list[asyncio.Task[bool]]] = []

        async def still_stands(self, server: Server) -> bool:
            if len(self.answers) == 2:
                loop = asyncio.get_running_loop()
                loop.call_soon(lambda: self.trusted.append(loop.create_task(server.is_trusted(SLOW_S))))
            return self.answers.pop(0)

    address = parse("redis://127.0.0.1:1/0")
    clients = Clients(address, timeout_s=1, tls=Tls(), sentinel=Login(), connections_max=1)
    routes = Asks(clients, Durability(), Tasks("test"), address.places[0], "", ())
    (server,) = routes.servers()
    assert await server.is_trusted(SLOW_S)
    (after,) = routes.trusted
    assert not await after
    await routes.close()


async def test_nobody_listens() -> None:
    async with connected("redis://127.0.0.1:1") as connection:
        with pytest.raises(StoreUnavailable):
            await connection.check(["k"])


# A server that answers, and takes no writes


async def commits_are_refused(store: Bench) -> None:
    event = store.event(EventKind.STARTED, facts=INBOUND)
    loaded = await store.calls.load(event)
    with pytest.raises(StoreUnavailable):
        await store.commit(event, loaded)
    with pytest.raises(StoreUnavailable):
        await store.connection.check(store.keys.writable())
    assert not (await store.calls.load(event)).seen
    assert await store.lane() == []


async def test_a_replica_takes_no_writes(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.raw("REPLICAOF", "127.0.0.1", "1")
        await commits_are_refused(store)
        await store.raw("REPLICAOF", "NO", "ONE")
        await store.start()


async def test_a_full_server_takes_no_writes(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        await store.raw("CONFIG", "SET", "maxmemory", "1")
        await commits_are_refused(store)
        assert await store.claim() == {}, "nothing is due"
        await store.raw("CONFIG", "SET", "maxmemory", "0")
        await store.start()
        await store.raw("CONFIG", "SET", "maxmemory", "1")
        claimed = (await store.claim())[A]
        await store.outbox.settle(claimed, Settlement.DELIVERED, entry={"delivery": claimed.effect.effect_id})
        assert await store.lane() == [], "what waits goes on, since it makes room"


async def test_a_server_with_a_broken_disk_takes_no_writes(redis: EmbeddedRedis) -> None:
    async with bench(redis.url) as store:
        (redis.data_path / "dump.rdb").mkdir()  # a snapshot cannot replace it
        await store.raw("CONFIG", "SET", "save", "3600 1000000")
        await store.raw("BGSAVE")

        async def failed() -> bool:
            return bool((await store.raw("INFO", "persistence"))["rdb_last_bgsave_status"] == "err")

        await eventually(failed, "the snapshot fails")
        await commits_are_refused(store)
        await store.raw("CONFIG", "SET", "save", "")  # or it would not end before it is killed
        await store.start()


@pytest.mark.parametrize(
    "said",
    [
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "NOREPLICAS Not enough good replicas to write.",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "NOSCRIPT No matching script. Please use EVAL.",
    ],
)
async def test_what_passes_is_unavailable(said: str) -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            for _ in range(int(line[1:])):
                await reader.readexactly(int((await reader.readline())[1:]) + 2)
            writer.write(f"-{said}\r\n".encode())

    async with raw(answers, "redis") as server:
        async with connected(server.base_url.partition("/s/")[0]) as connection:
            with pytest.raises(StoreUnavailable):
                await connection.run(SCRIPTS["release"].call(["a", "b", "c"], ["0", "x", "y", "z"]))
        assert server.connections >= 1


# The end


async def test_what_was_asked_for_before_the_close_is_done(redis: EmbeddedRedis) -> None:
    connection = Connection(redis.url, timeout_s=5)
    asking = [asyncio.create_task(connection.run(("INCR", "n"))) for _ in range(10)]
    await asyncio.sleep(0)  # they have asked; nothing was sent yet
    await connection.close()
    assert [(await task)[0] for task in asking] == list(range(1, 11))


async def test_a_closed_connection_is_unavailable_and_stays_closed(redis: EmbeddedRedis) -> None:
    async with proxy(redis.socket_path) as between:
        connection = Connection(between.url, timeout_s=5)
        await connection.run(("PING",))
        await connection.close()
        with pytest.raises(StoreUnavailable):
            await connection.run(("PING",))
        assert between.connections == 1


async def test_a_caller_who_gives_up_takes_nobody_along(redis: EmbeddedRedis) -> None:
    async with connected(redis.url) as connection:
        given_up = asyncio.create_task(connection.run(("INCR", "n")))
        other = asyncio.create_task(connection.run(("INCR", "n")))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await other == [2]
        assert given_up.cancelled()


@pytest.mark.parametrize("answer", [[], ["b", "2.0", "a", "1"], [["b", "2.0"], ["a", "1"]], [("b", 2.0), ("a", 1)]])
def test_scores_are_read_from_either_protocol(answer: list[object]) -> None:
    assert scored(answer) == ([(2, "b"), (1, "a")] if answer else [])

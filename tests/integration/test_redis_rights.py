"""What a login must be allowed, and what is said of a server's settings: on real servers, by their own ACLs."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.calls.events import Pair
from bridge.cention.sandbox import AnswerGiven, AttachedFile
from bridge.cli import main
from bridge.store.calls import TRIM_EVERY
from bridge.store.connection import Connection, Durability
from bridge.store.deliveries import Delivery, Settlement
from bridge.store.inspection import inspect
from tests.e2e.support import ended, event, inbound, outbound, post
from tests.fakes.exchange import Exchange, Line, serving
from tests.fakes.receiver import receiver
from tests.fakes.redis_servers import RedisServer, replicated, server
from tests.integration.callback_support import FETCHING, SECRET, SIGNING, Desk, callback, forwarding
from tests.integration.redis_support import (
    PAIR,
    ROOT,
    delivered,
    documented_acl,
    documented_users,
    service,
    status,
    until_ready,
)
from tests.integration.store_support import bench


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with server(tmp_path / "redis", {"appendonly": "yes", "appendfsync": "no"}) as it:
        yield it


async def checked(url: str) -> tuple[int, str]:
    """What `aventa-bridge check` says of a Redis: its exit code and its output."""
    env = {"BRIDGE_REDIS__URL": url, "BRIDGE_SPOOL__ENABLED": "false"}
    result = await asyncio.to_thread(CliRunner(env=env).invoke, main, ["check", "--sandbox"], catch_exceptions=False)
    return result.exit_code, result.output


# Only what we must


def commands_of_the_bridge() -> set[str]:
    """What the store's scripts and modules ask of a Redis of somebody's own, as ACLs name it."""
    found = set()
    for script in (ROOT / "bridge" / "store" / "scripts").glob("*.lua"):
        found |= set(re.findall(r"redis\.p?call\('([A-Z]+)'", script.read_text("utf-8")))
    for module in (ROOT / "bridge" / "store").glob("[!e]*.py"):  # the embedded server has no users
        found |= set(re.findall(r"\(\"([A-Z]{3,}(?: [A-Z]+)?)\"[,)]", module.read_text("utf-8")))
    elsewhere = {"sentinel", "waitaof"}  # of the sentinels, added where it is used
    parts = {"cluster": "cluster|slots", "script": "script|load"}
    return {parts.get(command.lower(), command.lower()) for command in found} - elsewhere


async def used(master: RedisServer) -> set[str]:
    """The commands that were asked of it since it was started, and of which none was refused."""
    assert await master.ask("ACL", "LOG") == []
    return {name.removeprefix("cmdstat_") for name in await master.info("commandstats")}


async def all_that_a_service_does(tmp_path: Path, master: RedisServer, url: str) -> set[str]:
    """Calls, transfers, what is refused, a feed, callbacks with a file and a receiver, the spool, the admin's reads."""

    async def fed(line: Line) -> None:
        await line.send(inbound("c-4", (4, 4)))
        await line.stay()

    async with (
        receiver(SIGNING) as to,
        serving({"/feed": Exchange("ndjson", fed).serve}) as exchange,
        service(
            tmp_path,
            url,
            spool__enabled=True,
            feed__kind="ndjson",
            feed__url=f"{exchange}/feed",
            reconcile__every_s=1.0,
            calls__orphan_grace_s=0.1,
            callback__secret=SECRET,
            callback__dir=str(tmp_path / "files"),
            **forwarding(to.url, **FETCHING),
        ) as (it, http),
    ):
        await until_ready(it, http)
        for sent in (
            inbound("c-1", PAIR),
            event("transferred", "c-1", PAIR, 2, transferredTo={"deviceId": 2000, "extensionId": 2001}),
            ended("c-1", (2000, 2001)),
            outbound("c-2", PAIR),
            event("answered", "c-3", (3, 3), 1),  # whose start never came
        ):
            assert await post(http, it.intake_url, sent) == 202
        assert await post(http, it.intake_url, {**inbound("c-5", PAIR), "deviceId": "none"}) == 422
        assert await post(http, it.intake_url, outbound("c-2", PAIR)) == 200
        assert len(await delivered(it, 6)) == 6

        desk = Desk(it, http)
        errand = await desk.call("c-6", (6, 6))
        answer = AnswerGiven(attachments=(AttachedFile(name="a", content=base64.b64encode(b"x").decode()),))
        assert it.sandbox is not None
        await it.sandbox.answer(errand, answer)
        await desk.settled("delivered", "delivered")
        for result in ("accepted", "duplicate"):
            assert (await desk.come(callback(errand, files=False)))[1]["result"] == result
        kept = [each["callbackId"] for each in await desk.callbacks()]

        before = await used(master)
        await master.kill()
        assert await post(http, it.intake_url, inbound("c-7", (7, 7))) == 202
        await master.start()
        assert len(await delivered(it, 8)) == 8
        reads = ("calls?limit=1", "calls/1000/1001", "calls/c-1", "calls/c-6", "rejections", "callbacks?limit=1")
        for path in (*reads, *(f"callbacks/{each}" for each in kept)):
            assert await status(http, f"{it.admin_url}/v1/{path}") == 200, path
        assert await status(http, it.admin_url + "/metrics") == 200
        exit_code, output = await checked(url)
        assert (exit_code, output.count("ok    redis:")) == (0, 1), output
    return before | await used(master)


async def what_a_service_does_seldom(url: str) -> None:
    """An id that comes again, and what goes because it is old or too many."""
    many, again = Pair(8, 8), Pair(9, 9)
    async with bench(url, prefix="aventa") as store:
        (effect,) = await store.start(again)
        await store.outbox.settle((await store.claim())[again], Settlement.DELIVERED, errand_id="1")
        await store.raw("DEL", store.keys.pair(again))
        assert await store.start(again) == [effect]
        await store.outbox.settle((await store.claim())[again], Settlement.HOLD, reason="not now")
        assert (await store.delivery(effect))["reason"] == "not now"
    async with bench(url, prefix="aventa", delivered_per_shard=1) as store:
        for number in range(TRIM_EVERY):
            await store.start(many, f"c-{number}")
            await store.end(many, f"c-{number}")
        delivery: Delivery | None = (await store.claim())[many]
        while delivery is not None:
            delivery = await store.outbox.settle(delivery, Settlement.DELIVERED, errand_id="2")


async def test_a_server_with_the_documented_users_lets_the_bridge_do_all_it_does(tmp_path: Path) -> None:
    users = tmp_path / "users.acl"
    users.write_text(documented_users("aventa-bridge"))
    kept = {"aclfile": users, "appendonly": "yes", "appendfsync": "no"}
    async with server(tmp_path / "redis", kept) as master:
        url = f"redis://aventa-bridge:PASSWORD@127.0.0.1:{master.port}"
        tried = await all_that_a_service_does(tmp_path, master, url)
        await what_a_service_does_seldom(url)
        tried |= await used(master)
    granted = {rule[1:].partition("|")[0] for rule in documented_acl("aventa-bridge") if rule.startswith("+")}
    other_shapes = {"role", "cluster", "wait", "select"}
    assert granted - tried == other_shapes, "what was never done here was not tried with these rights"


def test_the_documented_user_has_every_command_and_no_other() -> None:
    granted = {rule.removeprefix("+") for rule in documented_acl("aventa-bridge") if rule.startswith("+")}
    assert granted == commands_of_the_bridge() | {"ping", "select"}


async def test_a_redis_that_tells_nothing_of_itself_will_do(master: RedisServer, tmp_path: Path) -> None:
    """As one that somebody else runs for us: no CONFIG, no INFO."""
    rules = [rule for rule in documented_acl("aventa-bridge") if rule != "+info"]
    await master.ask("ACL", "SETUSER", "aventa-bridge", *rules)
    url = f"redis://aventa-bridge:PASSWORD@127.0.0.1:{master.port}"
    async with service(tmp_path, url) as (it, http):
        assert await post(http, it.intake_url, inbound("c-1", PAIR)) == 202
        await delivered(it, 1)
    connection = Connection(url, timeout_s=5)
    _, findings = await inspect(connection)
    await connection.close()
    assert [(finding.fatal, finding.text.partition(",")[0]) for finding in findings] == [
        (False, "does not let the bridge ask INFO")
    ]


async def test_a_login_that_is_refused_is_mended_without_a_restart(master: RedisServer, tmp_path: Path) -> None:
    url = f"redis://aventa-bridge:PASSWORD@127.0.0.1:{master.port}"
    async with service(tmp_path, url) as (it, http):
        assert await post(http, it.intake_url, inbound("c-1", PAIR)) == 503
        await master.ask("ACL", "SETUSER", "aventa-bridge", "on", ">PASSWORD", "~*", "+ping")
        assert await post(http, it.intake_url, inbound("c-1", PAIR)) == 503
        await until_ready(it, http, ready=False)
        await master.ask("ACL", "SETUSER", "aventa-bridge", *documented_acl("aventa-bridge"))
        await until_ready(it, http)
        assert await post(http, it.intake_url, inbound("c-1", PAIR)) == 202


# What is said of a server


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"maxmemory-policy": "allkeys-lru", "appendonly": "yes"}, "set maxmemory-policy allkeys-lru to noeviction"),
        ({"cluster-enabled": "yes", "appendonly": "yes"}, "redis.url must start with redis+cluster://"),
        ({"replicaof": "127.0.0.1 1", "appendonly": "yes"}, "is a replica, which takes no writes"),
    ],
)
async def test_what_would_lose_calls_is_said(tmp_path: Path, given: dict[str, object], said: str) -> None:
    async with server(tmp_path / "redis", given) as it:
        exit_code, output = await checked(it.url)
        assert exit_code == 2
        (fault,) = [line for line in output.splitlines() if line.startswith("fault ")]
        assert fault.startswith(f"fault redis: 127.0.0.1:{it.port} ")
        assert said in fault


async def test_what_might_lose_calls_is_a_warning(tmp_path: Path) -> None:
    async with server(tmp_path / "redis") as it:
        exit_code, output = await checked(it.url)
        assert exit_code == 0
        assert f"warn  redis: 127.0.0.1:{it.port} keeps no append-only file" in output


async def test_too_few_replicas_are_said(tmp_path: Path) -> None:
    async with replicated(tmp_path, {"appendonly": "yes"}) as (master, _):
        for replicas, fatal in ((1, []), (2, [True])):
            connection = Connection(master.url, timeout_s=5, durability=Durability(replicas=replicas))
            _, findings = await inspect(connection)
            await connection.close()
            assert [finding.fatal for finding in findings] == fatal

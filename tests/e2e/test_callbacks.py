"""Cention's callbacks end to end: bridges as processes, a sandbox that answers errands, a receiver that verifies."""

import asyncio
import base64
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from bridge.cention.documents import MEDIA_TYPE
from bridge.cention.sandbox import AnswerGiven, AttachedFile, Sandbox
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import CENTION_TOKEN, BridgeProcess, bridges, eventually, inbound
from tests.fakes.receiver import Receiver, receiver
from tests.integration.callback_support import SECRET, SIGNING, callback
from tests.integration.store_support import bench

PAIR = (1000, 1001)
FILES_TOKEN = "token-for-files-alone"
FAST: dict[str, Any] = {
    "callback__secret": SECRET,
    "delivery__schedule_s": [0.1],
    "delivery__attempt_timeout_s": 1,
    "delivery__lease_s": 2,
}


@pytest.fixture
async def cention() -> AsyncIterator[tuple[Sandbox, str]]:
    """A Cention whose token for errands opens no file, and its base URL."""
    sandbox = Sandbox(tokens={CENTION_TOKEN: {"create_errand"}, FILES_TOKEN: {"attachment"}})
    url = await sandbox.start()
    yield sandbox, url
    await sandbox.stop()


@pytest.fixture
async def to() -> AsyncIterator[Receiver]:
    async with receiver(SIGNING) as it:
        yield it


def forwarding(to: Receiver, **more: Any) -> dict[str, Any]:
    return {**FAST, "callback__forward_url": to.url, "callback__forward_secret": SIGNING, **more}


async def come(http: aiohttp.ClientSession, bridge: BridgeProcess, document: Any) -> tuple[int, Any]:
    url = f"{bridge.intake_url}/v1/cention/callback"
    async with http.post(url, data=orjson.dumps(document), headers={"Content-Type": MEDIA_TYPE}) as response:
        return response.status, await response.json(content_type=None)


async def get(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(url) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def errand_of(http: aiohttp.ClientSession, bridge: BridgeProcess, call_id: str = "c-1") -> int:
    """A call begins and has its errand: the errand's id."""
    assert await bridge.post(http, inbound(call_id, PAIR)) == 202
    found: list[int] = []

    async def made() -> bool:
        told = (await get(http, f"{bridge.admin_url}/v1/calls/{call_id}"))["errandId"]
        found[:] = [] if told is None else [int(told)]
        return bool(found)

    await eventually(made, "the errand")
    return found[0]


async def test_an_answer_comes_back_to_its_call_with_its_files(
    redis: EmbeddedRedis, cention: tuple[Sandbox, str], to: Receiver, tmp_path: Path
) -> None:
    sandbox, url = cention
    more = forwarding(
        to,
        callback__fetch_attachments=True,
        callback__dir=str(tmp_path / "files"),
        cention__tokens={"attachment": FILES_TOKEN},
    )
    async with bridges(tmp_path, redis.url, url, **more) as (bridge,), aiohttp.ClientSession() as http:
        sandbox.set_callback(f"{bridge.intake_url}/v1/cention/callback", SECRET)
        errand = await errand_of(http, bridge)

        def file(name: str, content: bytes) -> AttachedFile:
            return AttachedFile(name=name, content=base64.b64encode(content).decode())

        # The ids are then those of the documentation's sample.
        attachments = tuple(file(f"../../{number}.txt", str(number).encode()) for number in (788, 789, 790))
        answered = await sandbox.answer(errand, AnswerGiven(attachments=attachments, images=(file("12.png", b"12"),)))
        assert answered is not None
        assert answered.callback is not None
        assert answered.callback.status == 200

        # And the documentation's own, of the same errand: as another answer, since its text differs.
        status, sample = await come(http, bridge, callback(errand))
        assert (status, sample["result"]) == (200, "accepted")
        assert (await come(http, bridge, callback(errand)))[1] == {**sample, "result": "duplicate"}

        async def shown() -> list[dict[str, Any]]:
            timeline = (await get(http, f"{bridge.admin_url}/v1/calls/c-1"))["timeline"]
            return [entry for entry in timeline if entry["kind"] == "callback"]

        async def all_stored() -> bool:
            return [len(entry["files"]) for entry in await shown()] == [4, 4]

        await eventually(all_stored, "the files of both")
        _, entry = await shown()
        assert entry["callbackId"] == sample["callbackId"]
        assert (entry["subject"], entry["to"]) == ("Creating test errand via API", ["david.liew@test.se"])
        assert [(file["type"], file["id"], file["size"]) for file in entry["files"]] == [
            ("c3_area_archives", "12", 2),
            *(("c3_response_attachments", str(number), 3) for number in (788, 789, 790)),
        ]
        stored = {str(path.relative_to(tmp_path / "files")): path.read_bytes() for path in _files(tmp_path / "files")}
        assert stored == {
            f"{errand}/image-12_12.png": b"12",
            **{f"{errand}/attachment-{n}_{n}.txt": str(n).encode() for n in (788, 789, 790)},
        }
        assert set(stored) == {file["path"] for file in entry["files"]}
        await eventually(lambda: len(to.taken) == 2, "both forwarded")
        assert {body["meta"]["bridge"]["call"]["callId"] for body in to.taken} == {"c-1"}
        assert SECRET not in str(to.bodies)
        log, never = "\n".join(bridge.log), ("david.liew", "Creating test", SECRET, FILES_TOKEN, "46701740605")
        assert [word for word in never if word in log] == []


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def test_a_wrong_secret_and_an_unknown_event(
    redis: EmbeddedRedis, cention: tuple[Sandbox, str], tmp_path: Path
) -> None:
    _, url = cention
    async with bridges(tmp_path, redis.url, url, **FAST) as (bridge,), aiohttp.ClientSession() as http:
        status, answer = await come(http, bridge, callback(1, api_secret="guess"))
        assert (status, answer["code"]) == (401, "bad_secret")
        unknown = callback(1)
        unknown["data"]["attributes"]["event"] = 7
        assert (await come(http, bridge, unknown))[0] == 200
        (kept,) = (await get(http, f"{bridge.admin_url}/v1/callbacks"))["callbacks"]
        assert kept["event"] == 7
        async with http.get(f"{bridge.admin_url}/metrics") as response:
            metrics = await response.text()
        assert 'bridge_callbacks_total{event="other",result="accepted"} 1.0' in metrics
        assert 'bridge_callbacks_refused_total{code="bad_secret"} 1.0' in metrics


async def test_a_bridge_killed_between_answer_and_forwarding_forwards_once(
    redis: EmbeddedRedis, cention: tuple[Sandbox, str], to: Receiver, tmp_path: Path
) -> None:
    _, url = cention
    to.faults.extend([(503, {})] * 10_000)
    async with aiohttp.ClientSession() as http:
        async with bridges(tmp_path, redis.url, url, **forwarding(to)) as (first,):
            status, answer = await come(http, first, callback(1))
            assert status == 200
            await eventually(lambda: len(to.ids) >= 2, "attempts")
            await first.end(signal.SIGKILL)
        to.faults.clear()
        assert to.taken == []
        async with bridges(tmp_path, redis.url, url, **forwarding(to)) as (second,):
            await eventually(lambda: len(to.taken) == 1, "it is forwarded")
            assert (await come(http, second, callback(1)))[1]["result"] == "duplicate"
            assert (await come(http, second, callback(2)))[1]["result"] == "accepted"
            await eventually(lambda: len(to.taken) == 2, "the next one")
        assert set(to.ids[:-1]) == {answer["callbackId"]}
        assert to.ids[-1] != answer["callbackId"], "nothing was forwarded twice in between"


async def test_a_bridge_killed_in_mid_attempt_repeats_it_under_the_same_id(
    redis: EmbeddedRedis, cention: tuple[Sandbox, str], to: Receiver, tmp_path: Path
) -> None:
    _, url = cention
    to.hanging = True
    async with aiohttp.ClientSession() as http:
        more = forwarding(to, delivery__attempt_timeout_s=30, delivery__lease_s=31)
        async with bridges(tmp_path, redis.url, url, **more) as (first,):
            _, answer = await come(http, first, callback(1))
            await eventually(lambda: len(to.ids) == 1, "it is under way")
            await first.end(signal.SIGKILL)
        to.go_on()
        await eventually(lambda: len(to.taken) == 1, "the receiver had it")
        # The lease of a killed process ends by itself; here it is made to.
        async with bench(redis.url) as store:
            for shard in range(16):
                key = f"aventa:callback:{{{shard}}}:lanes"
                for lane in await store.raw("ZRANGE", key, 0, -1):
                    await store.raw("ZADD", key, 0, lane)
        async with bridges(tmp_path, redis.url, url, **more):
            await eventually(lambda: len(to.ids) == 2, "it is repeated")
        assert to.ids == [answer["callbackId"]] * 2
        assert to.bodies[0] == to.bodies[1]


async def test_a_bridge_that_is_stopped_finishes_what_is_under_way(
    redis: EmbeddedRedis, cention: tuple[Sandbox, str], to: Receiver, tmp_path: Path
) -> None:
    _, url = cention
    to.hanging = True
    async with aiohttp.ClientSession() as http:
        slow = forwarding(to, delivery__attempt_timeout_s=20, delivery__lease_s=30)
        async with bridges(tmp_path, redis.url, url, **slow) as (bridge,):
            await come(http, bridge, callback(1))
            await eventually(lambda: len(to.ids) == 1, "it is under way")
            bridge.send_signal(signal.SIGTERM)
            await eventually(lambda: any('"draining"' in line for line in bridge.log), "the drain begins")
            to.go_on()
            assert await bridge.end() == 0
        async with bridges(tmp_path, redis.url, url, **forwarding(to)) as (again,):
            (kept,) = (await get(http, f"{again.admin_url}/v1/callbacks"))["callbacks"]
            assert kept["forward"] == {"state": "delivered", "attempts": 1}
    assert len(to.ids) == 1


async def test_two_bridges_take_a_callback_once_and_forward_it_once(
    redis: EmbeddedRedis, cention: tuple[Sandbox, str], to: Receiver, tmp_path: Path
) -> None:
    _, url = cention
    async with (
        bridges(tmp_path, redis.url, url, number=2, **forwarding(to)) as both,
        aiohttp.ClientSession() as http,
    ):
        errand = await errand_of(http, both[0])
        documents = [callback(errand, api_secret=SECRET, number=number) for number in range(20)]
        answers = await asyncio.gather(*(come(http, bridge, each) for each in documents for bridge in both))
        results = sorted(answer["result"] for _, answer in answers)
        assert results == ["accepted"] * 20 + ["duplicate"] * 20
        await eventually(lambda: len(to.taken) >= 20, "all are forwarded")
        for bridge in both:
            assert await bridge.end() == 0
    assert len(to.ids) == len(set(to.ids)) == 20

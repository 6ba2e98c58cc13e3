"""Callbacks forwarded by a running bridge to a receiver that verifies them, misbehaves, hangs or is gone."""

import base64
from pathlib import Path

from aiohttp import web

from bridge.cention.sandbox import AnswerGiven, AttachedFile
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import eventually, told
from tests.fakes.logs import captured
from tests.fakes.receiver import receiver
from tests.integration.callback_support import (
    FETCHING,
    SIGNING,
    at,
    attachment,
    callback,
    cention,
    desk,
    document,
    forwarding,
)


async def test_a_callback_is_forwarded_signed_with_its_call(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with receiver(SIGNING) as to, desk(tmp_path, redis, **forwarding(to.url)) as it:
        errand = await it.call("c-1")
        _, answer = await it.come(callback(errand))
        await it.settled("delivered")
        (body,) = to.taken
        bridge = body["meta"].pop("bridge")
        expected = callback(errand)
        del expected["meta"]["api_secret"]
        assert body == expected
        assert bridge["call"] == {"callId": "c-1", "deviceId": 1000, "extensionId": 1001}
        assert (bridge["callbackId"], bridge["errandId"], bridge["event"]) == (answer["callbackId"], str(errand), 1)
        assert to.ids == [answer["callbackId"]]
        assert to.headers[0]["content-type"] == "application/json"
        attempts = [each for each in await it.timeline("c-1", "answer") if "forward" in each["delivery"]]
        assert [(each["outcome"], each["status"]) for each in attempts] == [("delivered", 204)]
        await it.come(callback(errand))  # again
        await it.come(callback(12))  # of no call
        await eventually(lambda: len(to.taken) == 2, "the next one")
        assert to.taken[1]["meta"]["bridge"]["call"] is None


async def test_a_receiver_that_is_down_gets_all_of_it_later_in_order_and_once(
    redis: EmbeddedRedis, tmp_path: Path
) -> None:
    async with receiver(SIGNING) as to:
        to.faults.extend([(500, {}), (503, {"Retry-After": "0"}), (404, {}), (401, {}), (429, {}), (302, {})])
        async with desk(tmp_path, redis, **forwarding(to.url)) as it:
            first, second = callback(7), callback(7)
            second["data"]["id"] = "77"
            ids = [(await it.come(each))[1]["callbackId"] for each in (first, second)]
            await eventually(lambda: len(to.taken) == 2, "both")
            assert [body["meta"]["bridge"]["callbackId"] for body in to.taken] == ids, (
                "answers to one errand keep order"
            )
            assert to.ids == [ids[0]] * 7 + [ids[1]], "a repetition has the id of the first"
            assert len(set(to.bodies[:7])) == 1


async def test_a_receiver_that_is_gone_is_tried_until_it_is_there(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with receiver(SIGNING) as to:
        url, port = to.url, int(to.url.rpartition(":")[2].partition("/")[0])
    async with desk(tmp_path, redis, **forwarding(url)) as it:
        await it.come(callback(7))

        async def said() -> bool:
            (listed,) = await it.callbacks()
            return "cannot be reached" in listed["forward"].get("reason", "")

        await eventually(said, "what it waits for")
        assert url not in str(await it.callbacks()), "the address may be a secret"
        async with receiver(SIGNING, port) as to:
            await eventually(lambda: len(to.taken) == 1, "it is forwarded")
            await it.settled("delivered")


async def test_a_receiver_that_wants_no_more_is_not_asked_again(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with receiver(SIGNING) as to, desk(tmp_path, redis, **forwarding(to.url)) as it:
        to.faults.append((410, {}))
        await it.come(callback(7))
        (listed,) = await it.settled("parked")
        assert listed["forward"]["reason"] == "the receiver wants no more of these"
        assert len(to.ids) == 1


async def test_a_redirect_is_not_followed(redis: EmbeddedRedis, tmp_path: Path) -> None:
    lured: list[str] = []
    async with cention(lambda _: web.Response(), lured) as elsewhere, receiver(SIGNING) as to:
        to.faults.extend((status, {"Location": f"{elsewhere}/x"}) for status in (301, 302, 303, 307, 308))
        async with desk(tmp_path, redis, **forwarding(to.url)) as it:
            await it.come(callback(7))
            await eventually(lambda: len(to.taken) == 1, "it is forwarded where it belongs")
        assert lured == []


async def test_a_receiver_that_hangs_holds_up_neither_agents_nor_files(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with receiver(SIGNING) as to:
        to.hanging = True
        async with desk(tmp_path, redis, **forwarding(to.url, **FETCHING, delivery__drain_s=0.1)) as it:
            sandbox = it.service.sandbox
            assert sandbox is not None
            errand = await it.call("c-1")
            content = base64.b64encode(b"x").decode()
            await sandbox.answer(errand, AnswerGiven(attachments=(AttachedFile(name="a", content=content),)))
            await it.settled("delivered", "waiting")
            await it.call("c-2")
            assert [word.split()[1] for word in told(sandbox)] == ["open", "open"]
            to.go_on()
            await it.settled("delivered", "delivered")


async def test_a_file_that_cannot_be_had_yet_holds_up_no_forwarding(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with (
        receiver(SIGNING) as to,
        cention(lambda _: web.Response(status=503), []) as url,
        at(tmp_path, redis, url, **forwarding(to.url)) as it,
    ):
        await it.come(document(9, attachment(1)))
        await it.settled("waiting", "delivered")


async def test_a_dead_receiver_is_spared(redis: EmbeddedRedis, tmp_path: Path) -> None:
    """After some failures at several errands it rests for a while, and what waits is not counted as tried."""
    async with receiver(SIGNING) as to:
        more = {"delivery__breaker_failures": 3, "delivery__breaker_open_s": 3600.0}
        to.faults.extend([(503, {})] * 1000)
        with captured() as log:
            async with desk(tmp_path, redis, **forwarding(to.url, **more)) as it:
                for number in range(1, 9):
                    await it.come(callback(number))
                held = eventually(lambda: it.metric("bridge_callback_held_total", what="breaker") >= 1, "it rests")
                await held
                assert it.metric("bridge_cention_breaker_open") == 0
                assert len(to.ids) < 40
        assert "forward breaker open" in log.text
        assert to.url not in log.text


async def test_what_was_to_be_done_is_parked_where_that_is_switched_off(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with receiver(SIGNING) as to:
        to.faults.extend([(503, {})] * 1000)
        async with desk(tmp_path, redis, **forwarding(to.url)) as it:
            await it.come(callback(7))
            await eventually(lambda: len(to.ids) >= 1, "an attempt")
        async with desk(tmp_path, redis, **FETCHING) as it:
            (listed,) = await it.settled("parked")
            assert listed["forward"]["reason"] == "callback.forward_url is not set"

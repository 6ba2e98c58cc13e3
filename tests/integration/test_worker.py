"""The worker with a real Redis and a Cention sandbox over HTTP: order, retries, parking, tokens, faults, drain."""

import asyncio

import pytest

from bridge.calls.effects import Effect, handed_over
from bridge.calls.events import Facts, Pair
from bridge.calls.state import InboundEnd, Policy
from bridge.delivery.tokens import PROBE_S
from bridge.store.embedded import EmbeddedRedis
from bridge.store.errors import StoreUnavailable
from bridge.store.keys import SHARDS, shard_of
from tests.e2e.support import eventually
from tests.fakes.logs import captured
from tests.integration.delivery_support import USUAL, VIP, Gate, working
from tests.integration.store_support import INBOUND, OUTBOUND, A, B, proxy

VIP_CALL = Facts(INBOUND.direction, INBOUND.called_number, INBOUND.dest_number, queue_name="vip")
AN_HOUR_MS = 3_600_000


# Retries


async def test_a_lane_that_is_put_back_keeps_its_order_and_holds_up_no_other(redis: EmbeddedRedis) -> None:
    async with working(redis.url) as work:
        work.sandbox.set_faults([{"match": {"referenceId": "c-1"}, "status": 503, "times": 3}])
        await work.store.start(A, "c-1")
        await work.store.end(A, "c-1")
        await work.store.start(A, "c-2", OUTBOUND)
        await work.store.end(A, "c-2")
        await work.store.start(B, "c-3")
        await work.idle()
        assert work.told(A) == ["open c-1", "end-session c-1", "open c-2", "end-obcall c-2"]
        assert work.told(B) == ["open c-3"]
        answers = await work.answers("c-1")
        assert [(entry["outcome"], entry["attempt"], entry["then"]) for entry in answers] == [
            ("try_later", 1, "retry"),
            ("try_later", 2, "retry"),
            ("try_later", 3, "retry"),
            ("delivered", 4, "delivered"),
            ("delivered", 1, "delivered"),
        ]
        assert work.sample("bridge_delivery_attempts_total", kind="open_errand", outcome="try_later") == 3
        assert work.sample("bridge_delivery_attempts_total", kind="open_errand", outcome="delivered") == 3
        assert work.sample("bridge_delivery_seconds_count") == 5


async def test_retry_after_is_what_the_lane_is_put_back_for(redis: EmbeddedRedis) -> None:
    async with working(redis.url) as work:
        work.sandbox.set_faults([{"status": 503, "headers": {"Retry-After": "7"}, "times": 1}])
        await work.store.start()
        await work.answered("c-1", "try_later")
        (answer,) = await work.answers()
        assert (answer["waitMs"], answer["status"], answer["answer"]) == (7000, 503, "Service Unavailable")
        (now,) = await work.store.calls._time()
        due = await work.store.due()
        assert due is not None
        assert now < due <= now + 7000
        await work.make_due()
        await work.answered("c-1", "try_later", "delivered")


@pytest.mark.parametrize("reset", ["before", "after", "midway"])
async def test_a_lost_answer_is_asked_for_again_with_the_same_message_id(redis: EmbeddedRedis, reset: str) -> None:
    async with working(redis.url) as work:
        work.sandbox.set_faults([{"reset": reset, "times": 1}])
        (opening,) = await work.store.start()
        await work.store.end()
        await work.idle()
        ids = [arrival.message_id for arrival in work.sandbox.arrivals]
        outcomes = await work.outcomes()
        if reset == "midway":  # the status line had come: that the work is done is known
            assert outcomes == ["delivered", "delivered"]
            assert len(ids) == 2
        else:
            assert outcomes == ["unknown", "delivered", "delivered"]
            assert ids.count(opening.effect_id) == (2 if reset == "after" else 1)
        assert ids[0] == opening.effect_id
        assert work.told()[-1].split()[1] == "end-session"


async def test_what_is_too_old_is_parked_after_one_more_attempt(redis: EmbeddedRedis) -> None:
    async with working(redis.url, age_s_max=3000, run=False) as work:
        work.sandbox.set_faults([{"match": {"referenceId": "c-1"}, "status": 502, "times": 2}])
        for pair, call_id in ((A, "c-1"), (B, "c-2")):
            (opening,) = await work.store.start(pair, call_id)
            key = work.store.keys.delivery(shard_of(pair), opening.effect_id)
            await work.store.raw("HINCRBY", key, "created", -AN_HOUR_MS)
        await work.store.end(A, "c-1")
        running = asyncio.create_task(work.worker.run())
        await work.answered("c-2", "delivered")
        await work.answered("c-1", "try_later", "try_later", "delivered")
        first, second, _ = await work.answers("c-1")
        assert (first["effect"], first["then"]) == ("open_errand", "parked")
        assert (second["effect"], second["then"]) == ("end_session", "retry"), "the lane goes on"
        held = await work.store.raw("HGET", work.store.keys.delivery(shard_of(A), first["delivery"]), "reason")
        assert held.startswith("given up after 36")
        assert held.endswith("Bad Gateway")
        assert (await work.store.outbox.backlog()).parked == 1
        await work.worker.drain(10)
        await running


# What Cention will not take


async def test_what_is_refused_is_parked_with_the_servers_words(redis: EmbeddedRedis) -> None:
    async with working(redis.url) as work:
        body = '{"errors": [{"title": "Not Acceptable", "detail": "queueName is not known here"}]}'
        work.sandbox.set_faults([{"match": {"endSession": False, "referenceId": "c-1"}, "status": 406, "body": body}])
        (opening,) = await work.store.start()
        await work.store.end()
        await work.idle()
        held = await work.store.delivery(opening)
        assert (held["state"], held["reason"]) == ("parked", "Not Acceptable: queueName is not known here")
        assert work.told() == ["1000/1001 end-session c-1"]
        assert (await work.store.outbox.backlog()).parked == 1
        assert [(entry["outcome"], entry["then"]) for entry in await work.answers()] == [
            ("rejected", "parked"),
            ("delivered", "delivered"),
        ]
        assert work.sample("bridge_delivery_attempts_total", kind="open_errand", outcome="rejected") == 1


async def test_an_errand_is_closed_by_its_id(redis: EmbeddedRedis) -> None:
    async with working(redis.url, policy=Policy(inbound_end=InboundEnd.CLOSE_ERRAND)) as work:
        await work.store.start()
        await work.store.end()
        await work.idle()
        (errand,) = work.sandbox.errands
        assert (errand.state, errand.ended_by) == ("ended", "c3_end_errands")
        assert await work.outcomes() == ["delivered", "delivered"]


async def test_an_errand_that_was_never_made_is_not_closed(redis: EmbeddedRedis) -> None:
    async with working(redis.url, policy=Policy(inbound_end=InboundEnd.CLOSE_ERRAND)) as work:
        work.sandbox.set_faults([{"endpoint": "c3_new_errands", "status": 406}])
        await work.store.start()
        await work.store.end()
        await work.idle()
        _, close = await work.answers()
        assert (close["then"], close["outcome"]) == ("parked", "rejected")
        assert close["answer"].startswith("errand_id is missing")
        assert "status" not in close
        assert work.told() == []


# Tokens


async def test_a_refused_token_stops_its_lanes_alone_and_parks_nothing(redis: EmbeddedRedis) -> None:
    async with working(redis.url, routes={"vip": VIP}, age_s_max=0.001) as work:
        work.sandbox.set_faults([{"match": {"queueName": "vip"}, "status": 401}])
        with captured() as lines:
            await work.store.start(A, "c-1", VIP_CALL)
            await work.answered("c-1", "unauthorised")
        assert USUAL not in lines.text
        assert VIP not in lines.text
        assert "cention refuses a token" in lines.text
        assert work.sample("bridge_cention_tokens_refused") == 1

        others = [Pair(7, number) for number in range(5)]
        for number, pair in enumerate(others):
            await work.store.start(pair, f"vip-{number}", VIP_CALL)
        await work.store.start(B, "c-2")
        await work.answered("c-2", "delivered")

        async def held() -> bool:
            return work.sample("bridge_deliveries_held_total", what="token") >= len(others)

        await eventually(held, "the token's other lanes are put back")
        assert work.sample("bridge_delivery_attempts_total", kind="open_errand", outcome="unauthorised") == 1
        backlog = await work.store.outbox.backlog()
        assert (backlog.waiting, backlog.parked) == (1 + len(others), 0)
        assert [entry["then"] for entry in await work.answers()] == ["hold"]

        work.sandbox.set_faults([])  # the token works again
        work.clock.ahead_s = PROBE_S
        for pair in (A, *others):
            await work.make_due(pair)

        async def all_told() -> bool:
            for pair in (A, *others):  # those that came before the probe's answer were put back once more
                await work.make_due(pair)
            return (await work.store.outbox.backlog()).waiting == 0

        await eventually(all_told, "all lanes of the token go on")
        assert work.told(A) == ["open c-1"]
        assert all(len(work.told(pair)) == 1 for pair in others)
        assert work.sample("bridge_cention_tokens_refused") == 0
        assert (await work.answers())[-1]["attempt"] == 1, "the refused one was not counted"


# Faults of our own


async def test_an_exception_inside_the_bridge_costs_neither_delivery_nor_lane(redis: EmbeddedRedis) -> None:
    failures = 2

    async def faulty(pair: Pair, call_id: str) -> str | None:
        nonlocal failures
        if failures:
            failures -= 1
            raise RuntimeError(f"no luck with {call_id}")
        return await work.store.outbox.errand_id(pair, call_id)

    policy = Policy(inbound_end=InboundEnd.CLOSE_ERRAND)
    with captured() as lines:
        async with working(redis.url, policy=policy, errand_id=faulty) as work:
            await work.store.start(A, "c-1")
            await work.store.end(A, "c-1")
            await work.store.start(A, "c-2")
            await work.idle()
            assert await work.outcomes("c-1") == ["delivered", "try_later", "try_later", "delivered"]
            assert work.told(A) == ["open c-1", "close c-1", "open c-2"]
    assert lines.text.count("attempt failed inside the bridge") == 2
    assert "no luck with c-1" in lines.text, "the log has the traceback"


async def test_a_hand_over_is_done_even_when_redis_fails_it_and_it_is_old(redis: EmbeddedRedis) -> None:
    """Were it parked like a message, the new agent's lane would wait for good."""
    failures = 2

    async def hand_over(effect: Effect) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise StoreUnavailable("away") if failures else RuntimeError("broken")
        await work.store.take(handed_over(effect))
        await work.store.outbox.release(effect)

    with captured():
        async with working(redis.url, age_s_max=0.001, hand_over=hand_over) as work:
            await work.store.start(A)
            await work.store.transfer(A, to=B)
            await work.idle()
            assert work.told() == ["1000/1001 open c-1", "1000/1001 end-session c-1", "2000/2002 open c-1"]
            assert (await work.store.outbox.backlog()).parked == 0


async def test_a_transfer_that_died_between_its_commits_is_finished_by_its_lane(redis: EmbeddedRedis) -> None:
    async with working(redis.url) as work:
        work.sandbox.set_faults([{"match": {"endSession": True}, "status": 503, "times": 2}])
        await work.store.start(A)
        await work.store.transfer(A, to=B)  # the first commit alone
        await work.idle()
        assert work.told() == ["1000/1001 open c-1", "1000/1001 end-session c-1", "2000/2002 open c-1"]
        assert len(await work.store.reads.pair(B)) == 1
        attempts = work.sample("bridge_delivery_attempts_total", kind="hand_over", outcome="delivered")
        assert attempts == 0, "it is no attempt at Cention"


async def test_a_settle_whose_answer_was_lost_tells_cention_nothing_twice(redis: EmbeddedRedis) -> None:
    gate = Gate()
    async with (
        gate.cention() as url,
        proxy(redis.socket_path) as between,
        working(between.url, cention_url=url, poll_s=3600) as work,
    ):
        await work.store.start()
        await work.store.end()
        work.worker.wake_all()
        await eventually(lambda: gate.under_way == 1, "the first attempt")
        between.cut = True
        gate.open.set()
        await eventually(lambda: not between.cut, "the settle's answer is lost")

        async def worked_off() -> bool:
            work.worker.wake_all()  # once its lease has ended, the lane goes on
            return (await work.store.outbox.backlog()).waiting == 0

        await eventually(worked_off, "the lane is worked off")
        assert [call["endSession"] for call in gate.calls] == [False, True]


# Many lanes


async def test_no_more_attempts_at_a_time_than_allowed(redis: EmbeddedRedis) -> None:
    gate = Gate()
    async with gate.cention() as url, working(redis.url, cention_url=url, concurrency=3) as work:
        for number in range(20):
            await work.store.start(Pair(1, number), f"c-{number}")
        work.worker.wake_all()
        await eventually(lambda: gate.under_way == 3, "three attempts")
        assert len(await work.store.leases()) == 3, "nor are more lanes leased than are worked on"
        gate.open.set()
        await work.idle()
        assert gate.most == 3
        assert len(gate.calls) == 20


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_every_shard_is_served_between_two_polls(redis: EmbeddedRedis, concurrency: int) -> None:
    """Fewer attempts at a time than shards must not mean that some wait for the next poll, and the next."""
    async with working(redis.url, concurrency=concurrency, poll_s=3600, run=False) as work:
        pairs = [Pair(1, number) for number in range(64)]
        assert {shard_of(pair) for pair in pairs} == set(range(SHARDS))
        for pair in pairs:
            await work.store.start(pair, f"c-{pair}")
        running = asyncio.create_task(work.worker.run())
        await work.idle()
        late = Pair(2, 2)
        await work.store.start(late, "late")
        work.worker.wake(shard_of(late))
        await work.idle()
        assert len(work.sandbox.arrivals) == 65
        await work.worker.drain(10)
        await running


async def test_a_slow_lane_holds_up_no_other(redis: EmbeddedRedis) -> None:
    async with working(redis.url, concurrency=2) as work:
        work.sandbox.set_faults([{"match": {"referenceId": "slow"}, "delay_s": 3600}])
        await work.store.start(A, "slow")
        await eventually(lambda: work.sandbox.faults[0]["hits"] == 1, "the slow one is under way")
        for number in range(20):
            await work.store.start(Pair(1, number), f"c-{number}")
            await work.store.end(Pair(1, number), f"c-{number}")
        await eventually(lambda: len(work.told()) == 40, "all the others")
        assert work.told(A) == []
        assert list(await work.store.leases()) == [str(A)]
        await work.sandbox.stop()  # or the drain would wait for it


async def test_an_attempt_ends_within_its_time_and_is_made_again(redis: EmbeddedRedis) -> None:
    async with working(redis.url, attempt_timeout_s=0.1) as work:
        work.sandbox.set_faults([{"delay_s": 3600, "times": 1}])
        await work.store.start()
        await work.answered("c-1", "unknown", "delivered")
        assert (await work.answers())[0]["answer"] == "no answer within 0.1 s"


# The end


async def test_a_drain_finishes_what_is_under_way_and_gives_the_lanes_back(redis: EmbeddedRedis) -> None:
    gate = Gate()
    async with gate.cention() as url, working(redis.url, cention_url=url, concurrency=2, run=False) as work:
        running = asyncio.create_task(work.worker.run())
        for number in range(4):
            await work.store.start(Pair(1, number), f"c-{number}")
            await work.store.end(Pair(1, number), f"c-{number}")
        await eventually(lambda: gate.under_way == 2, "two attempts")
        draining = asyncio.create_task(work.worker.drain(30))
        await running  # nothing more is claimed
        gate.open.set()
        await draining
        assert len(gate.calls) == 2, "the lanes' other deliveries were not begun"
        assert await work.store.leases() == {}
        assert (await work.store.outbox.backlog()).waiting == 6
        assert len(await work.store.claim()) == 4, "all due at once"


async def test_a_drain_cuts_off_what_does_not_end_and_it_is_made_again(redis: EmbeddedRedis) -> None:
    gate = Gate()
    async with gate.cention() as url, working(redis.url, cention_url=url, run=False) as work:
        running = asyncio.create_task(work.worker.run())
        await work.store.start()
        await eventually(lambda: gate.under_way == 1, "the attempt")
        with captured() as lines:
            await work.worker.drain(0.01)
            await running
        assert "attempts cut off" in lines.text
        assert list(await work.store.leases()) == [str(A)], "whether it was carried out is not known"
        assert len(await work.store.lane()) == 1
        gate.open.set()


async def test_lanes_that_are_claimed_while_the_drain_begins_are_given_back(redis: EmbeddedRedis) -> None:
    async with proxy(redis.socket_path) as between, working(between.url, concurrency=SHARDS, run=False) as work:
        await work.store.start()
        between.open.clear()
        running = asyncio.create_task(work.worker.run())
        await eventually(lambda: between.held > 0, "the claim's answer is on its way")
        draining = asyncio.create_task(work.worker.drain(10))
        await asyncio.sleep(0)
        between.open.set()
        await draining
        await running
        assert work.told() == [], "nothing is begun after the drain"
        assert await work.store.leases() == {}
        (delivery,) = (await work.store.claim()).values()
        assert (delivery.attempt, delivery.in_doubt) == (1, False)


async def test_a_redis_that_goes_away_stops_the_work_and_not_the_worker(redis: EmbeddedRedis) -> None:
    async with working(redis.url) as work:
        await work.store.raw("REPLICAOF", "127.0.0.1", "1")
        with captured() as lines:
            await eventually(lambda: "cannot claim lanes" in lines.text, "a claim fails")
        await work.store.raw("REPLICAOF", "NO", "ONE")
        await work.store.start()
        await work.idle()
        assert work.told() == ["1000/1001 open c-1"]

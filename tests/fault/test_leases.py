"""A worker that stood still beyond its lease: what it holds is another's by now, and Cention does not hear it twice."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.faults.processes import RedisServer
from benchmarks.faults.proxy import Fault, FaultProxy, Kind
from bridge.store.deliveries import Settlement
from bridge.store.embedded import EmbeddedRedis, find_server
from bridge.store.keys import shard_of
from tests.e2e.support import eventually
from tests.integration.delivery_support import Gate, working
from tests.integration.store_support import A, bench, proxy


async def test_an_attempt_is_not_begun_when_its_lease_has_run_out(redis: EmbeddedRedis) -> None:
    async with (
        proxy(redis.socket_path) as between,
        working(between.url, lease_s=1, attempt_timeout_s=0.2, run=False) as work,
        bench(redis.url) as other,
    ):
        other.now = 0  # Redis's own time
        assert await other.claim() == {}  # and Redis knows the script: the next to ask for it is answered with a lease
        await work.store.start()
        between.open.clear()
        running = asyncio.create_task(work.worker.run())
        await eventually(lambda: between.held > 0, "the claim is made, and its answer on its way")

        async def taken_over() -> bool:
            claimed = await other.claim()
            return bool(claimed) and await other.outbox.settle(claimed[A], Settlement.DELIVERED) is None

        await eventually(taken_over, "the lease runs out, and another worker delivers")
        between.open.set()
        await work.store.end()
        await work.idle()
        await work.worker.drain(10)
        await running
        assert work.told() == ["1000/1001 end-session c-1"], "the opening was the other worker's"


async def test_a_lane_whose_worker_stood_still_goes_on_with_that_worker_if_no_other_has_it(
    redis: EmbeddedRedis,
) -> None:
    async with (
        proxy(redis.socket_path) as between,
        # What it could not begin in time is claimed again at once: there is no poll, nor anything else to wake it.
        working(between.url, lease_s=1, attempt_timeout_s=0.9, poll_s=3600, run=False) as work,
    ):
        running = asyncio.create_task(work.worker.run())
        await eventually(lambda: not work.worker._due and not work.worker._places.claiming, "the first claims are over")
        await work.store.start()
        between.open.clear()
        work.worker.wake(shard_of(A))
        await eventually(lambda: between.held > 0, "the claim is made, and its answer on its way")
        late = asyncio.get_running_loop().time() + 0.2
        await eventually(lambda: asyncio.get_running_loop().time() > late, "too little is left of the lease")
        between.open.set()
        await work.idle()
        await work.worker.drain(10)
        await running
        assert work.told() == ["1000/1001 open c-1"]
        assert await work.outcomes() == ["delivered"], "what was not begun is no attempt"
        history = await work.store.reads.history("c-1")
        assert history is not None
        assert [entry["attempt"] for entry in history.timeline if "delivery" in entry] == [1]
        assert work.sample("bridge_delivery_attempts_total", kind="open_errand", outcome="delivered") == 1


async def test_an_answer_is_written_down_even_when_redis_was_away_for_longer_than_the_lease(tmp_path: Path) -> None:
    if find_server() is None:
        pytest.skip("no redis-server")
    server, gate = RedisServer(tmp_path / "redis", fsync="no"), Gate()
    await server.start()
    link = FaultProxy(server.port, seed=1)
    await link.start()
    try:
        async with (
            gate.cention() as cention_url,
            bench(f"redis://127.0.0.1:{server.port}") as direct,
            working(
                f"redis://127.0.0.1:{link.port}", cention_url=cention_url, lease_s=1, attempt_timeout_s=0.9
            ) as work,
        ):
            await work.store.start()
            await eventually(lambda: gate.under_way == 1, "the attempt is under way")
            await link.fail(Fault(Kind.REFUSE))
            gate.open.set()

            async def lease_is_over() -> bool:
                seconds, micros = await direct.raw("TIME")
                due = await direct.due()
                return due is not None and int(seconds) * 1000 + int(micros) // 1000 > due + 500

            await eventually(lease_is_over, "the lease has run out")
            await link.heal()
            await work.idle()
            assert len(gate.calls) == 1, "Cention is not asked again for what it has done"
            assert await work.outcomes() == ["delivered"]
    finally:
        await link.close()
        await server.stop()

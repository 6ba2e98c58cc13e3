"""Scenarios in which Redis is killed, or cannot be reached as it should be.

Each bridge has one exchange of its own here: while Redis is away, bridges know nothing of each other, so only events
that go to one bridge have an order to keep (docs/faults.md, "What is not promised").
"""

from redis import asyncio as redis

from benchmarks.faults.proxy import Fault, Kind
from benchmarks.faults.scenario import LEASE_S, Scenario
from benchmarks.faults.world import World
from bridge.store.keys import CLOCK, LANES, SHARDS, Keys


async def redis_killed(world: World) -> None:
    for _ in range(world.kills(3)):
        # Now and then so long that what was spooled is worked off, and the kill meets events on their straight way.
        await world.lapse(world.dice.uniform(0.2, 2.0))
        with world.disturbance(forgets=True):
            await world.redis.kill()
            await world.lapse(world.dice.uniform(0.0, 0.4))
            await world.redis.start()


async def redis_and_bridge_killed(world: World) -> None:
    for _ in range(world.kills(2)):
        await world.lapse(world.dice.uniform(0.2, 0.8))
        with world.disturbance(forgets=True):
            await world.redis.kill()
            await world.lapse(0.5)  # so that a bridge that keeps events elsewhere meanwhile has some
            slot = world.dice.choice(world.fleet.slots)
            await world.fleet.kill(slot)
            await world.redis.start()
            await world.add_bridge(slot)


async def redis_refused(world: World) -> None:
    await world.failing(list(world.redis_links.values()), Fault(Kind.REFUSE), 0.6 * LEASE_S)


async def redis_away(world: World) -> None:
    # Beyond a lease another bridge may take a lane whose answer is not written down yet.
    with world.disturbance(forgets=True):
        await world.failing(list(world.redis_links.values()), Fault(Kind.REFUSE), 1.5 * LEASE_S)


async def redis_resets(world: World) -> None:
    # Most connections lie in a pool when it happens, and each is used again.
    for _ in range(world.kills(10)):
        await world.failing(list(world.redis_links.values()), Fault(Kind.REFUSE), 0.05)
        await world.lapse(world.dice.uniform(0.1, 0.3))


async def redis_lost_by_one(world: World) -> None:
    with world.disturbance(forgets=True):
        await world.failing([world.redis_links[0]], Fault(Kind.REFUSE), 1.5 * LEASE_S)


async def redis_reply_lost(world: World) -> None:
    await world.failing(list(world.redis_links.values()), Fault(Kind.RESET_AFTER, probability=0.1), 3.0)


async def redis_stalls(world: World) -> None:
    for _ in range(2):
        await world.failing(list(world.redis_links.values()), Fault(Kind.HOLD), 1.5)
        await world.lapse(0.5)


async def redis_stalls_for_one(world: World) -> None:
    with world.disturbance(forgets=True):
        await world.failing([world.redis_links[0]], Fault(Kind.HOLD), 1.5 * LEASE_S)


async def redis_slow(world: World) -> None:
    await world.failing(list(world.redis_links.values()), Fault(Kind.DELAY, delay_s=0.2), 2.0)


# All that the bridges have put at a time comes to lie an hour ahead: so it looks when the server's clock goes back.
_AN_HOUR_BACK = """
for _, lane in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZINCRBY', KEYS[1], 3600000, lane) end
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('INCRBY', KEYS[2], 3600000) end
"""


async def redis_clock_back(world: World) -> None:
    keys = Keys("aventa")
    async with redis.Redis(host="127.0.0.1", port=world.redis.port) as client:
        with world.disturbance(forgets=True):
            # So that most lanes have been put back when it happens; others are under a lease.
            world.sandbox.set_faults([{"status": 503, "probability": 0.8}])
            await world.lapse(0.7)
            for shard in range(SHARDS):
                await client.eval(_AN_HOUR_BACK, 2, keys.of_shard(shard, LANES), keys.of_shard(shard, CLOCK))
            await world.lapse(0.3)
            world.sandbox.set_faults([])
    await world.lapse(0.5)


_SHORT = {"redis__timeout_s": 1}
"""Shorter than a lease, and than Redis stands still here."""

SCENARIOS = (
    Scenario(
        "redis_killed",
        "SIGKILL of Redis (fsync always) under load, and its restart.",
        redis_killed,
        sticks=True,
        settings=_SHORT,
    ),
    Scenario(
        "redis_killed_without_spool",
        "SIGKILL of Redis (fsync always), and bridges have no spool: senders repeat what is not taken.",
        redis_killed,
        sticks=True,
        settings={**_SHORT, "spool__enabled": False},
    ),
    Scenario(
        "redis_and_bridge_killed",
        "SIGKILL of Redis, and of a bridge while Redis is away.",
        redis_and_bridge_killed,
        sticks=True,
        settings=_SHORT,
    ),
    Scenario(
        "redis_refused", "Redis refuses connections for less than a lease.", redis_refused, sticks=True, settings=_SHORT
    ),
    Scenario(
        "redis_away", "Redis refuses connections for one and a half leases.", redis_away, sticks=True, settings=_SHORT
    ),
    Scenario(
        "redis_resets",
        "All connections to Redis are reset, again and again.",
        redis_resets,
        sticks=True,
        settings=_SHORT,
    ),
    Scenario(
        "redis_refused_without_spool",
        "Redis refuses connections, and bridges have no spool: senders repeat what is not taken.",
        redis_refused,
        sticks=True,
        settings={**_SHORT, "spool__enabled": False},
    ),
    Scenario(
        "redis_lost_by_one",
        "One of two bridges cannot reach Redis for one and a half leases.",
        redis_lost_by_one,
        sticks=True,
        settings=_SHORT,
    ),
    Scenario(
        "redis_reply_lost",
        "One in ten of Redis's answers is cut off, its work done.",
        redis_reply_lost,
        sticks=True,
        settings=_SHORT,
    ),
    Scenario(
        "redis_stalls",
        "Redis stands still for longer than redis.timeout_s, then does what it was asked.",
        redis_stalls,
        sticks=True,
        settings=_SHORT,
    ),
    Scenario(
        "redis_stalls_for_one",
        "Redis stands still for one of two bridges, until its leases have run out.",
        redis_stalls_for_one,
        sticks=True,
        settings=_SHORT,
    ),
    Scenario("redis_slow", "Every answer of Redis comes 0.2 s late.", redis_slow, sticks=True, settings=_SHORT),
    Scenario(
        "redis_clock_back",
        "Redis's clock goes back by an hour, while Cention fails now and then.",
        redis_clock_back,
    ),
)

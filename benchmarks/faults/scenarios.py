"""The list of scenarios, and those in which bridges are killed, paused, restarted or added, or their clocks differ."""

import asyncio
import signal

from benchmarks.faults import scenarios_backlog, scenarios_cention, scenarios_redis
from benchmarks.faults.history import Disturbance
from benchmarks.faults.proxy import Fault, Kind
from benchmarks.faults.scenario import ATTEMPT_S, LEASE_S, Scenario
from benchmarks.faults.world import World
from bridge.runtime.clock import now_ms

_DISTANCE_S = 0.05
"""How late Cention's answers come here: with none, an attempt is so short that hardly a kill meets one."""


async def _far_away(world: World) -> None:
    await world.cention.fail(Fault(Kind.DELAY, delay_s=_DISTANCE_S))


async def bridge_killed(world: World) -> None:
    await _far_away(world)
    for _ in range(world.kills(3)):
        await world.lapse(world.dice.uniform(0.1, 0.8))
        slot = world.dice.choice(world.fleet.slots)
        with world.disturbance(forgets=True):
            await world.fleet.kill(slot)
        await world.add_bridge(slot)


async def all_bridges_killed(world: World) -> None:
    await _far_away(world)
    for _ in range(world.kills(2)):
        await world.lapse(world.dice.uniform(0.2, 0.8))
        # Until they are back nobody delivers, so that is how long the fault lasts.
        with world.disturbance(forgets=True):
            slots = world.fleet.slots
            await asyncio.gather(*(world.fleet.kill(slot) for slot in slots))
            await asyncio.gather(*(world.add_bridge(slot) for slot in slots))


async def bridge_paused(world: World) -> None:
    await _far_away(world)
    for _ in range(world.kills(2)):
        await world.lapse(world.dice.uniform(0.1, 0.5))
        bridge = world.fleet[world.dice.choice(world.fleet.slots)]
        begin = now_ms()
        bridge.send(signal.SIGSTOP)
        await world.lapse(1.5 * LEASE_S)
        bridge.send(signal.SIGCONT)
        world.disturbances.append(Disturbance(begin, now_ms(), forgets=True))
    await world.lapse(ATTEMPT_S)


async def rolling_restart(world: World) -> None:
    codes = []
    for _ in range(world.kills(1)):
        for slot in world.fleet.slots:
            await world.lapse(world.dice.uniform(0.2, 0.6))
            # Not noted as a disturbance: a drained bridge finishes what it began, so nothing is doubled or late.
            codes.append(await world.fleet[slot].end(signal.SIGTERM))
            await world.add_bridge(slot)
    world.claim(f"every bridge exits with 0 after SIGTERM ({len(codes)} did)", set(codes) == {0})


async def two_to_five_replicas(world: World) -> None:
    for slot in (2, 3, 4):
        await world.add_bridge(slot)
        await world.lapse(0.7)
    world.claim("five bridges run on one Redis", len(world.fleet.urls) == 5)


async def clock_skew(world: World) -> None:
    await asyncio.gather(world.add_bridge(2, clock_shift_s=3600), world.add_bridge(3, clock_shift_s=-3600))
    await world.lapse(0.5)
    # With a failure, ages and waits are looked at; an hour's error in either would park or delay what is due.
    with world.disturbance():
        world.sandbox.set_faults([{"status": 503, "probability": 0.5}])
        await world.lapse(1.5)
        world.sandbox.set_faults([])
    await world.lapse(0.5)


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "bridge_killed",
            "SIGKILL of one of three bridges at random moments, and its restart.",
            bridge_killed,
            bridges=3,
        ),
        Scenario("all_bridges_killed", "SIGKILL of all bridges at once, and their restart.", all_bridges_killed),
        Scenario(
            "bridge_paused",
            "SIGSTOP of one of three bridges until its leases have run out, then SIGCONT; senders go to the others.",
            bridge_paused,
            bridges=3,
            # A bridge that wakes takes Redis for away, for a moment, and what it then spools others may overtake.
            settings={"redis__timeout_s": 1, "spool__enabled": False},
        ),
        Scenario(
            "bridge_paused_sticky",
            "The same, with a spool, and senders that wait for the bridge they are with.",
            bridge_paused,
            bridges=3,
            sticks=True,
            settings={"redis__timeout_s": 1},
        ),
        Scenario(
            "rolling_restart",
            "SIGTERM of one bridge after the other under load; a new one takes its place.",
            rolling_restart,
            bridges=3,
            # So long that only a lane that was given back, and not one whose lease ran out, goes on in time.
            settings={"delivery__lease_s": 60},
            slowest_s_max=20,
        ),
        Scenario(
            "two_to_five_replicas", "Two bridges become five under load; nothing else happens.", two_to_five_replicas
        ),
        Scenario(
            "clock_skew",
            "Of four bridges one is an hour ahead and one an hour behind, while Cention fails now and then.",
            clock_skew,
            settings={"delivery__age_s_max": 600},
        ),
        *scenarios_cention.SCENARIOS,
        *scenarios_redis.SCENARIOS,
        *scenarios_backlog.SCENARIOS,
    )
}
"""Every scenario by its name, in the order in which they are played."""

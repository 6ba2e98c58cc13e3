"""Scenarios in which deliveries pile up: one that can never be made, and very many behind a Cention that is away."""

import asyncio
from collections import Counter

import aiohttp

from benchmarks.faults.history import Arrival, Pair, Run, compare
from benchmarks.faults.load import NotTaken, Play, made_call
from benchmarks.faults.proxy import Fault, Kind
from benchmarks.faults.scenario import LEASE_S, Scenario
from benchmarks.faults.world import World
from bridge.runtime.clock import monotonic, now_ms

_POISONED: Pair = (700_001, 1)
_STUCK: Pair = (700_002, 1)
_LANES, _LANES_FROM = 40, 800_000
_EVENTS_A_REQUEST = 1000
MEMORY_MB_MAX = 40.0
"""How much more memory than before a bridge may take while a backlog waits and drains, whatever its length."""


async def poison(world: World) -> None:
    load = world.loads[0]
    document = '{"errors": [{"detail": "this one never"}]}'
    world.sandbox.set_faults(
        [
            {"match": {"referenceId": "poisoned"}, "status": 406, "body": document},
            {"match": {"referenceId": "stuck"}, "status": 500},
        ]
    )
    plays = [made_call("poisoned", _POISONED, may_park=True), made_call("after-poison", _POISONED),
             made_call("stuck", _STUCK, may_park=True), made_call("after-stuck", _STUCK)]  # fmt: skip
    began = monotonic()
    with world.disturbance():
        for play in plays:
            await load.also(play)
        await world.until(lambda: _came(world, "after-poison"), "the rest of the poisoned lane")
        went_on_s = monotonic() - began
        await world.lapse(1.0)
        world.claim("a lane whose head fails for now waits with it", not _came(world, "after-stuck"))
        await world.until(lambda: _came(world, "after-stuck"), "the rest of the stuck lane, once its head is too old")
        world.sandbox.set_faults([])
    parked = {message.call_id for message in await world.outbox.parked()}
    world.claim("the poisoned and the stuck call are parked, and they alone", parked == {"poisoned", "stuck"})
    others = [one for one in load.expected if one.message.pair not in (_POISONED, _STUCK)]
    slowest_s = compare(Run(others, load.accepted, world.arrivals())).slowest_ms / 1000
    world.claim("no other lane waits for the stuck one", slowest_s < 2 * LEASE_S)
    world.result.figures |= {
        "poisoned lane went on after, s": round(went_on_s, 2),
        "slowest of the others, s": slowest_s,
    }


def _came(world: World, call_id: str) -> bool:
    return any(arrival.reference_id == call_id and arrival.end_session for arrival in world.sandbox.arrivals)


async def backlog(world: World) -> None:
    lanes = [(_LANES_FROM + number, 1) for number in range(_LANES)]
    per_lane = max(1, world.pile // (2 * len(lanes)))
    load, bridge = world.loads[0], world.fleet.any()
    before_mb = peak_mb = bridge.memory_mb()
    with world.disturbance():
        await world.cention.fail(Fault(Kind.REFUSE))
        plays = [made_call(f"pile-{lane[0]}-{turn}", lane) for turn in range(per_lane) for lane in lanes]
        await _post_all(world, plays)
        waiting = await world.outbox.waiting()
        full_mb = bridge.memory_mb()
        load.stop.set()  # what drains now is the backlog, and not what is played on
        await world.cention.heal()
        began = monotonic()
        while await world.outbox.waiting():
            peak_mb = max(peak_mb, bridge.memory_mb())
            await asyncio.sleep(0.1)
        took_s = monotonic() - began
    piled = [arrival for arrival in world.arrivals() if arrival.pair in set(lanes)]
    slowest, fastest = _progress_at_half(piled)
    world.result.figures |= {
        "deliveries waiting": waiting,
        "drained in, s": round(took_s, 1),
        "drained, a second": round(waiting / took_s),
        "bridge memory before / full / peak, MB": f"{before_mb:.0f} / {full_mb:.0f} / {max(peak_mb, full_mb):.0f}",
        "redis memory at the end, MB": round(await world.outbox.memory_mb()),
        "lanes' progress at half, least / most": f"{slowest:.0%} / {fastest:.0%}",
    }
    world.claim(f"{2 * len(plays)} deliveries waited at once", waiting >= 2 * len(plays))
    world.claim(f"memory stays within {MEMORY_MB_MAX:.0f} MB", max(peak_mb, full_mb) - before_mb < MEMORY_MB_MAX)
    # A turn is 8 deliveries, so a short pass is coarse; a starved lane would stand at nothing.
    world.claim("no lane is starved: at half of it all, each has a tenth of its own", slowest >= 0.1)


async def _post_all(world: World, plays: list[Play]) -> None:
    """Posts plays as arrays, in their order; the next array leaves when the one before it was accepted."""
    load, bridge = world.loads[0], world.fleet.any()
    events = [event for play in plays for event in play.events]
    load.expected += [one for play in plays for one in play.expected]
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        for at in range(0, len(events), _EVENTS_A_REQUEST):
            part = events[at : at + _EVENTS_A_REQUEST]
            load.sent.update(event["eventId"] for event in part)
            async with http.post(f"{bridge.intake_url}/v1/events", json=part) as response:
                results = (await response.json())["results"]
            if any(result["result"] != "accepted" for result in results):
                raise NotTaken("an event of the backlog was not accepted")
            load.accepted.update({event["eventId"]: now_ms() for event in part})


def _progress_at_half(piled: list[Arrival]) -> tuple[float, float]:
    """How far the slowest and the fastest lane had come when half of all had arrived, as parts of 1."""
    first = {arrival.mark: arrival.pair for arrival in reversed(piled)}
    order = list(reversed(first.values()))
    whole, early = Counter(order), Counter(order[: len(order) // 2])
    shares = [early[pair] / count for pair, count in whole.items()]
    return min(shares), max(shares)


SCENARIOS = (
    Scenario(
        "poison",
        "One lane's head is refused for good, another's fails until it is too old; all other lanes go on.",
        poison,
        settings={"delivery__age_s_max": 8},
    ),
    Scenario(
        "backlog",
        "Deliveries pile up in 40 lanes while Cention is away (--calls says how many), then Cention is back.",
        backlog,
        bridges=1,
        calls=20,
        pile=4000,
        agents=8,
        # Far fewer places than lanes, and no breaker that lets lanes rest: only so does it show that they take turns.
        settings={"delivery__concurrency": 8, "delivery__breaker_failures": 10_000},
    ),
)

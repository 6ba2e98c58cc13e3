"""One scenario's world: a Redis, bridges, a Cention sandbox, what stands between them, and the calls that are played.

Owns the order of a run: start, play while the scenario does its worst, wait until all is quiet, compare, end. What goes
wrong is decided by a scenario's function (`benchmarks.faults.scenarios`), which gets the `World`.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp

from benchmarks.faults.evidence import OutboxView, arrivals_of, held_calls, mark_of
from benchmarks.faults.history import Arrival, Disturbance, Findings, Pair, Run, compare
from benchmarks.faults.load import Load, NotTaken
from benchmarks.faults.processes import DidNotStart, Fleet, RedisServer
from benchmarks.faults.proxy import Fault, FaultProxy
from benchmarks.faults.scenario import ATTEMPT_S, SETTINGS, Claim, Options, Result, Scenario, known
from bridge.cention.sandbox import Sandbox
from bridge.runtime.clock import monotonic, now_ms
from bridge.runtime.tasks import Tasks


class World:
    """See the module's docstring. Attributes are the parts; faults are made by calling them."""

    def __init__(self, scenario: Scenario, options: Options, directory: Path) -> None:
        self.scenario, self.options, self.directory = scenario, options, directory
        self.dice = random.Random(f"{options.seed}/{scenario.name}")
        self.result = Result(scenario, options.seed)
        self.settings = dict(known({**SETTINGS, **scenario.settings}))
        self.redis = RedisServer(directory / "redis")
        self.sandbox = Sandbox(tokens=scenario.tokens, errands_max=1_000_000, arrivals_max=5_000_000)
        self.cention: FaultProxy
        self.redis_links: dict[int, FaultProxy] = {}
        self.fleet = Fleet(directory, self._environment)
        self.loads: list[Load] = []
        self.outbox: OutboxView
        self.disturbances: list[Disturbance] = []
        self._tasks = Tasks("world")
        self._workspace = ""

    @property
    def calls(self) -> int:
        """How many stories are played at least."""
        return self.scenario.calls if self.options.calls is None or self.scenario.pile else self.options.calls

    @property
    def pile(self) -> int:
        """How many deliveries pile up, in a scenario that has them do so."""
        return self.scenario.pile if self.options.calls is None else self.options.calls

    def kills(self, default: int) -> int:
        """How many kills the scenario makes."""
        return default if self.options.kills is None else self.options.kills

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts all but the calls, and ends all."""
        async with AsyncExitStack() as stack:
            self.directory.mkdir(parents=True, exist_ok=True)
            for name, text in self.scenario.files.items():
                (self.directory / name).write_text(text)
            stack.push_async_callback(self.redis.stop)
            await self.redis.start()
            self.result.redis_version = self.redis.version
            self.outbox = OutboxView(self.redis.port)
            stack.push_async_callback(self.outbox.close)
            url = await self.sandbox.start()
            stack.push_async_callback(self.sandbox.stop)
            port, self._workspace = int(url.split(":")[2].split("/")[0]), "/" + url.split("/", 3)[3]
            self.cention = FaultProxy(port, seed=self.options.seed)
            stack.push_async_callback(self.cention.close)
            await self.cention.start()
            stack.push_async_callback(self._close_links)
            stack.push_async_callback(self.fleet.stop)
            await asyncio.gather(*(self.add_bridge(slot) for slot in range(self.scenario.bridges)))
            yield

    async def add_bridge(self, slot: int, *, clock_shift_s: float = 0.0) -> None:
        """Starts a bridge in a new slot, or in one whose bridge has ended."""
        if slot not in self.redis_links:
            link = FaultProxy(self.redis.port, seed=self.options.seed + slot)
            await link.start()
            self.redis_links[slot] = link
        await self.fleet.start(slot, clock_shift_s=clock_shift_s)

    async def _close_links(self) -> None:
        await asyncio.gather(*(link.close() for link in self.redis_links.values()))

    def _environment(self, slot: int) -> Mapping[str, object]:
        settings = {
            name: value.replace("{world}", str(self.directory)) if isinstance(value, str) else value
            for name, value in self.settings.items()
        }
        return {
            **settings,
            "redis__url": f"redis://127.0.0.1:{self.redis_links[slot].port}/0",
            "cention__base_url": f"http://127.0.0.1:{self.cention.port}{self._workspace}",
        }

    # The calls.

    def make_loads(self) -> None:
        """The exchanges: one that posts to any bridge, or one for each bridge with agents of its own."""
        exchanges = self.scenario.bridges if self.scenario.sticks else 1
        for number in range(exchanges):
            agents = range(number, self.scenario.agents, exchanges)
            pairs = [(1000 + agent, 2000 + number) for agent in agents]
            self.loads.append(
                Load(self.options.seed, f"x{number}", self._targets(number), pairs, kinds=self.scenario.kinds)
            )

    def _targets(self, exchange: int) -> Callable[[], Sequence[str]]:
        if not self.scenario.sticks:
            return lambda: self.fleet.urls
        return lambda: [url] if (url := self.fleet.url_of(exchange)) else []

    async def play(self) -> None:
        """Plays calls, and the scenario beside them, until all events have been accepted.

        Raises:
            NotTaken: an event was refused, or nobody took it.
        """
        calls = max(1, self.calls // len(self.loads))
        playing = [self._tasks.start(load.run(calls), "exchange") for load in self.loads]
        try:
            await self.until(lambda: sum(len(load.accepted) for load in self.loads) >= 20, "the first events")
            await self.scenario.play(self)
        except asyncio.CancelledError:
            await self._tasks.drain(0)
            raise
        finally:
            for load in self.loads:
                load.stop.set()
            results = await asyncio.gather(*playing, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    # What a scenario uses.

    @contextmanager
    def disturbance(self, *, forgets: bool = False) -> Iterator[None]:
        """Notes a fault's beginning and its end. `forgets`: see `history.Disturbance`."""
        begin = now_ms()
        try:
            yield
        finally:
            self.disturbances.append(Disturbance(begin, now_ms(), forgets))

    async def lapse(self, seconds: float) -> None:
        """Lets time pass: how long a fault lasts is part of it."""
        await asyncio.sleep(seconds)

    async def failing(self, links: Sequence[FaultProxy], fault: Fault, seconds: float) -> None:
        """Lets `links` go wrong for a while."""
        before = sum(link.hits for link in links)
        with self.disturbance():
            for link in links:
                await link.fail(fault)
            await self.lapse(seconds)
            for link in links:
                await link.heal()
        hits = sum(link.hits for link in links) - before
        self.claim(f"{fault.kind}: it met something ({hits} times)", hits > 0)

    def claim(self, text: str, held: bool) -> None:
        """Notes what the scenario promises, and whether it held."""
        self.result.claims.append(Claim(text, held))

    async def until(self, check: Callable[[], bool], what: str) -> None:
        """Waits until `check` holds.

        Raises:
            DidNotStart: it does not come true.
        """
        try:
            async with asyncio.timeout(60):
                while not check():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise DidNotStart(f"never came true: {what}") from None

    # The end.

    def arrivals(self) -> list[Arrival]:
        """What Cention worked on, in its order."""
        dialled = {key: call for load in self.loads for key, call in load.dialled.items()}
        return arrivals_of(self.sandbox.arrivals, dialled)

    async def until_quiet(self) -> None:
        """Waits until nothing waits and every expected message is there, or until nothing moves any more."""
        wanted = {one.message for load in self.loads for one in load.expected}
        moved, before = monotonic(), (-1, -1)
        while True:
            waiting = await self.outbox.waiting()
            arrived = len(self.sandbox.arrivals)
            if waiting == 0:
                first = {(one.pair, one.call_id, one.opens, one.mark) for one in self.arrivals()}
                if len(first) + len(await self.outbox.parked()) >= len(wanted):
                    break
            if (waiting, arrived) != before:
                moved, before = monotonic(), (waiting, arrived)
            if monotonic() - moved > self.scenario.patience_s:
                break
            await asyncio.sleep(0.1)
        # A bridge that was held up may still have a request to make: an attempt's length shows it.
        await asyncio.sleep(ATTEMPT_S)

    async def compared(self) -> Findings:
        """The run as it was, compared."""
        accepted: dict[str, int] = {}
        active: dict[tuple[Pair, str], str] = {}
        for load in self.loads:
            accepted.update(load.accepted)
            active.update(load.active)
        expected = [one for load in self.loads for one in load.expected]
        parked = await self.outbox.parked()
        if self.scenario.may_park:
            expected = [replace(one, may_park=True) for one in expected]
        return compare(
            Run(
                expected=expected,
                accepted=accepted,
                arrivals=self.arrivals(),
                cut=frozenset(mark for cut in self.cention.cuts if (mark := mark_of(cut.asked)) is not None),
                disturbances=self.disturbances,
                parked=parked,
                active=active,
                held=await held_calls(self.fleet.any().admin_url),
                lease_ms=round(float(str(self.settings["delivery__lease_s"])) * 1000),
            )
        )


async def played(scenario: Scenario, options: Options, directory: Path) -> Result:
    """Plays one scenario from its start to its comparison; what goes wrong in the checker itself is in `error`."""
    world = World(scenario, options, directory)
    result, began = world.result, monotonic()
    try:
        async with world.running():
            began = monotonic()
            world.make_loads()
            try:
                await world.play()
            finally:
                _count(world)
            await world.until_quiet()
            result.findings = found = await world.compared()
            if (most := scenario.slowest_s_max) is not None:
                world.claim(f"every message arrives within {most:g} s of its event", found.slowest_ms <= most * 1000)
            _count(world)
    except (NotTaken, DidNotStart, OSError, aiohttp.ClientError, TimeoutError) as error:
        result.error = f"{type(error).__name__}: {error}"
    if world.fleet.fallen:  # whatever became of the calls: others may have taken them
        result.error = "\n".join([*filter(None, [result.error]), *world.fleet.fallen])
    result.duration_s = monotonic() - began
    return result


def _count(world: World) -> None:
    result, loads = world.result, world.loads
    result.sent = sum(len(load.sent) for load in loads)
    result.accepted = sum(len(load.accepted) for load in loads)
    result.repeated = sum(load.repeated for load in loads)
    result.spooled = sum(load.spooled for load in loads)
    result.bridge_kills, result.redis_kills = world.fleet.kills, world.redis.kills
    result.cut = len(world.cention.cuts)

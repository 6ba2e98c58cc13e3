"""Which server takes a command: always the same one, the master that the sentinels name, or the slot's in a cluster.

Must not know what the commands do. Invariants: one look around at a time, and none so soon after one that failed that
a Redis which is away is hammered; a server that is no longer the one to ask answers what it was asked, then is left.

Source: Redis, "Guidelines for Redis clients with support for Redis Sentinel"; Redis, "Redis cluster specification",
"Redirection and resharding".
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from redis.crc import key_slot
from redis.exceptions import MovedError, RedisError

from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger
from bridge.runtime.tasks import Tasks
from bridge.store.errors import StoreUnavailable
from bridge.store.servers import Asked, Command, Durability, Server
from bridge.store.urls import SENTINEL_S_MAX, Address, Clients, Place, Shape

log = get_logger(__name__)

LOOK_AGAIN_S = 0.2
SENTINELS_EVERY_S = 0.25
"""How old the sentinels' word may grow. An old master that only we can still reach tells us nothing by itself."""
SLOTS = 16_384


class Routes(ABC):
    """The servers, and which of them takes a command."""

    def __init__(self, clients: Clients, durability: Durability, tasks: Tasks) -> None:
        self._clients, self._durability, self._tasks = clients, durability, tasks
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")
        self._failure: StoreUnavailable | None = None

    @abstractmethod
    def server_for(self, command: Command) -> Server | None:
        """The server that takes `command`; None: `look` first."""

    @abstractmethod
    def servers(self) -> Collection[Server]:
        """Those that take writes, as far as known."""

    @property
    @abstractmethod
    def spread(self) -> bool:
        """Whether keys of different slots may be on different servers, as far as known."""

    @abstractmethod
    async def _look(self) -> None:
        """Finds out which servers take commands. Raises `StoreUnavailable` if it cannot."""

    @abstractmethod
    def doubt(self, server: Server) -> None:
        """Says that `server` gave no answer, or is not the one to write to."""

    def redirect(self, server: Server, asked: Asked, error: MovedError) -> bool:
        """Only servers of a cluster send elsewhere; from another one that is its own answer."""
        return False

    def stands(self, server: Server, command: Command) -> bool:
        current = self.server_for(command)
        return current is None or current.place == server.place

    async def still_stands(self, server: Server) -> bool:
        """Nobody knows better than the server itself, but where there are sentinels or other nodes."""
        return True

    async def look(self) -> None:
        """Finds out which servers take commands.

        Raises:
            StoreUnavailable: nobody who knows could be asked, or what was told does not hold yet.
        """
        if self._looking is None or self._looking.done():
            if self._failure is not None and not self._may_look():
                raise self._failure
            self._looking = self._tasks.start(self._looked(), "look")
        looking = self._looking
        await asyncio.wait([looking])
        if looking.cancelled():
            raise StoreUnavailable("the connection is closing")
        if self._failure is not None:
            raise self._failure

    def _look_soon(self) -> None:
        """As `look`, while we go on with what we know."""
        if (self._looking is None or self._looking.done()) and self._may_look():
            self._looking = self._tasks.start(self._looked(), "look")

    def _may_look(self) -> bool:
        return monotonic() - self._looked_at >= LOOK_AGAIN_S

    async def _looked(self) -> None:
        try:
            await self._look()
        except StoreUnavailable as failure:
            if self._failure is None:
                log.error("redis cannot be found", reason=failure.reason)
            self._failure = failure
        else:
            self._failure = None
        finally:
            self._looked_at = monotonic()

    async def close(self) -> None:
        """Lets every server answer what it was asked."""
        await asyncio.gather(*(server.leave() for server in self.servers()))

    def _new(self, place: Place | None, path: str = "", apart: Sequence[str] = ()) -> Server:
        client, timeout_s = self._clients.server(place), self._clients.timeout_s
        return Server(place, path, client, self._durability, self, self._tasks, timeout_s=timeout_s, apart=apart)

    def _leave(self, server: Server) -> None:
        self._tasks.start(server.leave(), f"leave {server.name}")


class Single(Routes):
    """One server, at one address; or what looks like one, and may be a cluster."""

    def __init__(
        self,
        clients: Clients,
        durability: Durability,
        tasks: Tasks,
        place: Place | None,
        path: str,
        apart: Sequence[str],
    ) -> None:
        super().__init__(clients, durability, tasks)
        self._place, self._path, self._apart = place, path, apart
        self._server = self._new(place, path, apart)

    def server_for(self, command: Command) -> Server:
        return self._server

    def servers(self) -> Collection[Server]:
        return [self._server]

    @property
    def spread(self) -> bool:
        return self._server.spread

    def stands(self, server: Server, command: Command) -> bool:
        return True  # at its address there is no other

    async def _look(self) -> None:
        """There is nothing to find out."""

    def doubt(self, server: Server) -> None:
        # New connections: behind a name in the DNS there may be another server by now.
        if server is self._server:
            self._server = self._new(self._place, self._path, self._apart)
            self._server.available = False
            self._leave(server)


class Sentinels(Routes):
    """The master that the sentinels name."""

    def __init__(
        self, clients: Clients, durability: Durability, tasks: Tasks, places: Collection[Place], master: str
    ) -> None:
        super().__init__(clients, durability, tasks)
        self._master = master
        timeout_s = min(clients.timeout_s, SENTINEL_S_MAX)
        self._sentinels = [
            Server(place, "", clients.sentinel(place), Durability(), self, tasks, timeout_s=timeout_s)
            for place in places
        ]
        self._server: Server | None = None

    @property
    def spread(self) -> bool:
        return False  # sentinels watch no cluster

    def server_for(self, command: Command) -> Server | None:
        if self._server is not None and monotonic() - self._looked_at > SENTINELS_EVERY_S:
            self._look_soon()
        return self._server

    def servers(self) -> Collection[Server]:
        return [] if self._server is None else [self._server]

    async def _look(self) -> None:
        place = await self._ask()
        if self._server is not None and place == self._server.place:
            return
        server = self._new(place)
        try:
            await self._make_sure(server)
        except BaseException:
            await server.leave()
            raise
        log.info("the sentinels name a master", master=self._master, server=server.name)
        old, self._server = self._server, server
        if old is not None:
            self._leave(old)

    async def _make_sure(self, server: Server) -> None:
        """Raises `StoreUnavailable` unless the server itself says that it is the master, and the sentinels still do."""
        try:
            (role,) = await server.pipeline([("ROLE",)])
            if isinstance(role, BaseException):
                raise role
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"master {server.name}: {type(error).__name__}: {error}") from error
        if role[0] != "master":
            raise StoreUnavailable(f"{server.name} is not the master yet: its role is {role[0]}")
        if not await self.still_stands(server):  # it may have stood still for the better part of a failover
            raise StoreUnavailable(f"{server.name} is the master no more")

    async def _ask(self) -> Place:
        """Where the first sentinel that answers and knows says the master is."""
        said = []
        for number, sentinel in enumerate(self._sentinels):
            told = await self._told_by(sentinel)
            if isinstance(told, tuple):
                self._sentinels.insert(0, self._sentinels.pop(number))
                return told
            said.append(f"{sentinel.name}: {told}")
        raise StoreUnavailable("; ".join(said))

    async def _told_by(self, sentinel: Server) -> Place | str:
        """Where a sentinel says that the master is, or why it does not say."""
        try:
            (told,) = await sentinel.pipeline([("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)])
            if isinstance(told, BaseException):
                raise told
        except (RedisError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return (str(told[0]), int(told[1])) if told else f"knows no master {self._master}"

    async def still_stands(self, server: Server) -> bool:
        """Whether some sentinel names the server, and none another: the one that led a failover knows it first."""
        told = await asyncio.gather(*map(self._told_by, self._sentinels))
        return {place for place in told if isinstance(place, tuple)} == {server.place}

    def doubt(self, server: Server) -> None:
        if server is self._server:
            self._server = None
            self._leave(server)

    async def close(self) -> None:
        await super().close()
        for sentinel in self._sentinels:
            await sentinel.leave()


class Cluster(Routes):
    """The masters of a cluster, by slot."""

    def __init__(self, clients: Clients, durability: Durability, tasks: Tasks, places: Collection[Place]) -> None:
        super().__init__(clients, durability, tasks)
        self._seeds = list(places)
        self._known: dict[Place, Server] = {}
        self._slots: list[Server | None] = []
        self._doubted: set[Server] = set()

    def server_for(self, command: Command) -> Server | None:
        if not self._slots:
            return None
        key = key_of(command)
        return self._slots[0 if key is None else key_slot(key.encode())]

    def servers(self) -> Collection[Server]:
        return list(self._known.values())

    @property
    def spread(self) -> bool:
        return True

    async def _look(self) -> None:
        ranges = await self._ask()
        places = {place for _, _, place in ranges}
        known = {}
        for place in places:
            known[place] = self._known.get(place) or self._new(place)
            if known[place] in self._doubted:
                known[place] = self._new(place)
                known[place].available = False
        slots: list[Server | None] = [None] * SLOTS
        for first, last, place in ranges:
            slots[first : last + 1] = [known[place]] * (last + 1 - first)
        gone = [server for server in self._known.values() if server not in known.values()]
        self._known, self._slots = known, slots
        self._doubted.clear()
        for server in gone:
            self._leave(server)

    async def _ask(self) -> list[tuple[int, int, Place]]:
        """First slot, last slot and master of each range, as the first node that answers has it."""
        said = []
        places = dict.fromkeys([*self._known, *self._seeds])
        for place in sorted(places, key=lambda place: self._known.get(place) in self._doubted):
            server = self._new(place)
            try:
                (answer,) = await server.pipeline([("CLUSTER", "SLOTS")])
                if isinstance(answer, BaseException):
                    raise answer
                ranges = [
                    (int(first), int(last), (str(master[0] or place[0]), int(master[1])))
                    for first, last, master, *_ in answer
                ]
            except (RedisError, OSError) as error:
                said.append(f"{place[0]}:{place[1]}: {type(error).__name__}: {error}")
                continue
            finally:
                await server.leave()
            if ranges:
                return ranges
            said.append(f"{place[0]}:{place[1]}: knows of no slots")
        raise StoreUnavailable("; ".join(said))

    def doubt(self, server: Server) -> None:
        self._doubted.add(server)
        self._look_soon()

    async def still_stands(self, server: Server) -> bool:
        """Whether the other nodes still have it for a master."""
        self._doubted.add(server)  # so that it is asked last
        try:
            await self._look()
        except StoreUnavailable:
            return False
        return server.place in self._known

    def redirect(self, server: Server, asked: Asked, error: MovedError) -> bool:
        # MOVED alone. ASK leads to where a part of the slot is, and a script there would take the rest for gone.
        assert server.place is not None, "a cluster's nodes are reached by TCP"
        place = (str(error.host or server.place[0]), int(error.port))
        if place not in self._known:
            self._known[place] = self._new(place)
        if (key := key_of(asked.command)) is not None and self._slots:
            self._slots[key_slot(key.encode())] = self._known[place]
        self._look_soon()
        self._known[place].ask(asked)
        return True


_NO_KEY = frozenset(["PING", "TIME", "INFO", "ROLE"])
_SCRIPT = frozenset(["EVALSHA", "EVAL"])


def key_of(command: Command) -> str | None:
    """The first key of `command`, by which its slot is known; None where any server will do."""
    if command[0] in _NO_KEY:
        return None
    return str(command[3] if command[0] in _SCRIPT else command[1])


def routes_for(
    address: Address, clients: Clients, durability: Durability, tasks: Tasks, apart: Sequence[str]
) -> Routes:
    """The routes of an address's shape.

    Args:
        apart: two keys of ours in different slots.
    """
    match address.shape:
        case Shape.SINGLE:
            place = next(iter(address.places), None)
            return Single(clients, durability, tasks, place, address.path or "", apart)
        case Shape.SENTINEL:
            assert address.master is not None, "the sentinels' form names a master"
            return Sentinels(clients, durability, tasks, address.places, address.master)
        case Shape.CLUSTER:
            return Cluster(clients, durability, tasks, address.places)

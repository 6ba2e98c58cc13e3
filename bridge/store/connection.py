"""The connection to Redis, in whichever shape: commands in, answers out.

Owns nothing but the way from one to the other. What leaves together, and what each server said, is
`bridge.store.servers`'s; which server takes a command `bridge.store.routes`'s.

Nothing here retries: redis-py's retries would run a write twice when only its answer was lost (see
`docs/adr/0007-store.md`). Every script is safe to ask for again: `commit` by the event's mark, `settle` by its epoch.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from bridge.runtime.logs import get_logger
from bridge.runtime.tasks import Tasks
from bridge.store.errors import StoreUnavailable, as_unavailable
from bridge.store.keys import Keys
from bridge.store.routes import routes_for
from bridge.store.servers import CONNECTIONS_MAX, SCRIPTS, Asked, Command, Durability, Script
from bridge.store.urls import Clients, Login, Tls, parse

__all__ = ["SCRIPTS", "Command", "Connection", "Durability", "Login", "Script", "Tls", "scored", "unless_all_failed"]

log = get_logger(__name__)

_CLOSE_S = 5.0


class Connection:
    """Runs commands. Those asked for within one turn of the loop leave together, in the order they were asked in.

    In a cluster that holds for those that one node takes.

    Args:
        url: where Redis is, as `redis.url` is documented in config.toml, "embedded" excepted.
        timeout_s: longest wait for an answer, seconds.
        tls: files for `rediss` forms.
        sentinel: who the sentinels take us for.
        durability: what must have a write before it counts as done, where it is promised.
        key_prefix: what our keys begin with; a login may be let at no others.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        tls: Tls | None = None,
        sentinel: Login | None = None,
        durability: Durability | None = None,
        key_prefix: str = "aventa",
    ) -> None:
        self._tasks = Tasks("redis")
        self.durability = durability or Durability()
        self.address = parse(url)
        clients = Clients(
            self.address,
            timeout_s=timeout_s,
            tls=tls or Tls(),
            sentinel=sentinel or Login(),
            connections_max=CONNECTIONS_MAX,
        )
        apart = Keys(key_prefix).writable()[:2]
        self._routes = routes_for(self.address, clients, self.durability, self._tasks, apart)
        self._closed = False

    @property
    def available(self) -> bool:
        """Whether every server that is known answered when it was last asked."""
        servers = self._routes.servers()
        return bool(servers) and all(server.available for server in servers)

    @property
    def spread(self) -> bool:
        """Whether keys of different slots may be on different servers: in a cluster, behind whatever address.

        An address of one server tells nothing of that; its first answer does, and until then it is so.
        """
        return self._routes.spread

    async def run(self, *commands: Command, promised: bool = False) -> list[Any]:
        """Runs `commands` in order, in one pipeline with whatever else this turn of the loop asks for.

        Args:
            promised: whether their success is made known outside: then it needs the durability that was asked for.

        Raises:
            StoreUnavailable: Redis did not answer, refused, or has it on too few replicas; whether a command ran is
                not known.
            RedisError: a command of ours is wrong.
        """
        results = await self.run_each(*commands, promised=promised)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    async def ask(self, command: Command, *, promised: bool = False) -> Any:
        """The answer to one command; as `run`, which asks for a list, and with less ado.

        Raises:
            StoreUnavailable: as `run`.
            RedisError: as `run`.
        """
        server = None if self._closed else self._routes.server_for(command)
        if server is None:
            (result,) = await self.run(command, promised=promised)
            return result
        asked = Asked(command, asyncio.get_running_loop().create_future(), promised)
        server.ask(asked)
        result = await asked.answer
        if isinstance(result, BaseException):
            raise result
        return result

    async def run_each(self, *commands: Command, promised: bool = False) -> list[Any]:
        """As `run`, with an error, of those that `run` raises, in the place of each answer that there is none of."""
        if self._closed:
            return [StoreUnavailable("the connection is closed")] * len(commands)
        servers = [self._routes.server_for(command) for command in commands]
        if None in servers:
            try:
                await self._routes.look()
            except StoreUnavailable as failure:
                return [failure] * len(commands)
            servers = [self._routes.server_for(command) for command in commands]
        loop = asyncio.get_running_loop()
        answers = []
        for command, server in zip(commands, servers, strict=True):
            asked = Asked(command, loop.create_future(), promised)
            answers.append(asked.answer)
            if server is None:
                asked.settle(StoreUnavailable("no server takes this slot"))
            else:
                server.ask(asked)
        return [await answer for answer in answers]

    async def check(self, keys: Sequence[str]) -> None:
        """Raises `StoreUnavailable` unless Redis takes a promised write at each of `keys`, wherever in it they are."""
        await self.run(*(("SET", key, "1", "PX", 60_000) for key in keys), promised=True)

    async def info(self, *sections: str) -> dict[str, dict[str, Any]]:
        """What each server says of itself, by its name; nothing, where it does not let us ask.

        Raises:
            StoreUnavailable: one of them does not answer.
        """
        await self._routes.look()
        told = {}
        for server in self._routes.servers():
            try:
                (answer,) = await server.pipeline([("INFO", *sections)])
            except Exception as error:
                raise as_unavailable(error) from error
            # Not permitted, or renamed, as some who run Redis for others do.
            told[server.name] = {} if isinstance(answer, ResponseError) else answer
        return told

    async def close(self) -> None:
        """Lets what was asked for be answered, then closes; what is asked for later is `StoreUnavailable`."""
        if self._closed:
            return
        self._closed = True
        self._tasks.start(self._routes.close(), "close")
        while len(self._tasks):
            await self._tasks.drain(_CLOSE_S)


def unless_all_failed(results: Sequence[Any]) -> list[Any]:
    """The answers among the results of `run_each`. Raises the first failure where there are failures alone.

    What is no passing trouble, such as a key that is not ours, is said in the log, and the others go on.
    """
    answers = [result for result in results if not isinstance(result, BaseException)]
    if results and not answers:
        raise results[0]
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, StoreUnavailable):
            log.error("a part failed inside the bridge; the others go on", error=f"{type(result).__name__}: {result}")
    return answers


def scored(answer: Any) -> list[tuple[int, str]]:
    """An answer WITHSCORES as (score, member): it comes flat (RESP2) or in pairs (RESP3), by the server's version."""
    if answer and not isinstance(answer[0], list | tuple):
        answer = zip(answer[::2], answer[1::2], strict=True)
    return [(int(float(score)), name) for name, score in answer]

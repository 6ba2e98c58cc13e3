"""One redis-server: what a turn of the loop asks of it leaves as one pipeline, scripts by digest, WAIT at the end.

Must not know which server takes which command (`bridge.store.routes` does), nor keys.

Invariants: nothing is sent twice, but what the server said it did not run (NOSCRIPT, a redirect). What was promised
succeeds only once the replicas have confirmed it, on the connection that wrote it. A pipeline is not a transaction:
each command fails or succeeds alone.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Protocol

import hiredis
from redis import asyncio as redis
from redis.exceptions import (
    ClusterCrossSlotError,
    MaxConnectionsError,
    MovedError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from bridge.runtime.clock import monotonic
from bridge.runtime.logs import get_logger
from bridge.runtime.tasks import Tasks
from bridge.store.errors import StoreUnavailable, as_unavailable, is_misplaced
from bridge.store.urls import Place

log = get_logger(__name__)

Command = tuple[Any, ...]

PIPELINES_MAX = 2
"""Pipelines under way at once: one that Redis works on, and one that it finds when that is done. What comes meanwhile
leaves as one; in more and smaller ones the same commands would cost more, and wait longer where there are many."""
CONFIRMED_MAX = 64
"""The same where replicas, or disks, confirm what is promised: each waits for the network, and not for the others."""
CONNECTIONS_MAX = PIPELINES_MAX + CONFIRMED_MAX + 8  # the last for what asks beside the pipelines
SLOW_S = 0.5
"""An answer that took longer could be that of a master which was replaced meanwhile. No failover is done sooner."""
REDIRECTS_MAX = 2
"""How often a command is sent on: the first server may know no better than we did."""


@dataclass(frozen=True)
class Script:
    """A Lua script of `bridge/store/scripts`, with the SHA-1 that EVALSHA knows it by."""

    name: str
    text: str
    sha: str

    @classmethod
    def load(cls, name: str) -> "Script":
        text = (files("bridge.store") / "scripts" / f"{name}.lua").read_text(encoding="utf-8")
        return cls(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    def call(self, keys: Sequence[str], args: Sequence[Any]) -> Command:
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


SCRIPTS = {name: Script.load(name) for name in ("commit", "claim", "settle", "release", "callback", "callback_file")}
_BY_SHA = {script.sha: script for script in SCRIPTS.values()}
_NO_SCRIPT = "0" * 40


@dataclass(frozen=True, slots=True)
class Durability:
    """What must have a write before it counts.

    Attributes:
        replicas: how many replicas; 0: none is waited for.
        aof: whether they, and the server itself, must have it on disk. Redis 7.2.
        timeout_ms: how long they may take.

    Source: Redis, "WAIT" and "WAITAOF".
    """

    replicas: int = 0
    timeout_ms: int = 500
    aof: bool = False

    @property
    def command(self) -> Command | None:
        if self.aof:
            return ("WAITAOF", 1, self.replicas, self.timeout_ms)
        return ("WAIT", self.replicas, self.timeout_ms) if self.replicas else None

    def missing(self, answer: Any) -> StoreUnavailable | None:
        """Why what was written before does not count, or None."""
        if isinstance(answer, BaseException):
            return StoreUnavailable(f"replicas cannot be waited for: {answer}")
        local, replicas = answer if self.aof else (1, answer)
        if local >= 1 and replicas >= self.replicas:
            return None
        disk = ", on disk" if self.aof else ""
        here = "" if local >= 1 else "; not on the disk of the master"
        return StoreUnavailable(f"{replicas} of {self.replicas} replicas had it{disk} in {self.timeout_ms} ms{here}")


@dataclass(slots=True, eq=False)
class Asked:
    """A command somebody waits for.

    Attributes:
        promised: whether its success is made known outside, and so must be as durable as the settings say.
        answer: the answer, or an error in its place: raised in a future, one that nobody asks for would be logged.
        redirects: how often it was sent on to another server.
    """

    command: Command
    answer: asyncio.Future[Any]
    promised: bool = False
    redirects: int = 0

    def settle(self, result: Any) -> None:
        if self.answer.done():
            return  # whoever asked has given up
        self.answer.set_result(as_unavailable(result) if isinstance(result, BaseException) else result)


class Watch(Protocol):
    """Who is told how a server fares."""

    def doubt(self, server: "Server") -> None:
        """It gave no answer, or is not the one to write to."""

    def redirect(self, server: "Server", asked: Asked, error: MovedError) -> bool:
        """Sends `asked` on to where the error says. False where servers do not send elsewhere."""

    def stands(self, server: "Server", command: Command) -> bool:
        """Whether, as far as known, no other server has taken its place for `command`."""

    async def still_stands(self, server: "Server") -> bool:
        """Whether no other server has taken its place, as those who must know say now."""


class Server:
    """A server and the connections to it.

    Attributes:
        name: for logs.
        place: where it is; None on a unix socket.
        available: whether its last pipeline was answered; None before the first.
        spread: whether keys of different slots may be on different servers behind it; so it is until it was asked.

    Args:
        apart: two keys of different slots, by which it is asked whether they may be apart; none: it is not asked.
    """

    def __init__(
        self,
        place: Place | None,
        path: str,
        client: redis.Redis,
        durability: Durability,
        watch: Watch,
        tasks: Tasks,
        *,
        timeout_s: float,
        apart: Sequence[str] = (),
    ) -> None:
        self.name, self.place = path if place is None else f"{place[0]}:{place[1]}", place
        self.available: bool | None = None
        self.spread, self._apart = True, apart
        self._client, self._watch, self._timeout_s = client, watch, timeout_s
        self._shapes: dict[str, Callable[[Any], Any] | None] = {}
        """What redis-py makes of a command's answer: it looks that up by name in whatever case, at each."""
        self._plain = _Channel(self, None, tasks)
        self._promised = self._plain if durability.command is None else _Channel(self, durability, tasks)
        self._at_rest = asyncio.Event()
        self._left = False
        self._tasks = tasks
        self._checking: asyncio.Task[bool] | None = None

    def ask(self, asked: Asked) -> None:
        """Puts `asked` into the pipeline that leaves at the end of this turn of the loop."""
        if self._left:
            asked.settle(StoreUnavailable("the connection is closed"))
        else:
            (self._promised if asked.promised else self._plain).put(asked)

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Runs `commands` now; each has its answer or its error.

        Raises:
            RedisError, OSError: there is no answer.
        """
        if not self._apart:
            return await self._there_and_back(commands)
        # The first question on the way of whatever is asked first. INFO would not do: a login may lack it, and it is of
        # one server, while a proxy may have several behind it. A script that nobody has changes nothing.
        told, *answers = await self._there_and_back([("EVALSHA", _NO_SCRIPT, 2, *self._apart), *commands])
        if isinstance(told, NoScriptError | ClusterCrossSlotError):  # another error, such as LOADING, tells nothing
            self.spread, self._apart = isinstance(told, ClusterCrossSlotError), ()
        return answers

    async def _there_and_back(self, commands: Sequence[Command]) -> list[Any]:
        # By the connection and not by redis-py's own pipeline: that one keeps a clock for each answer, and packs in
        # Python. docs/adr/0020-speed.md has what both cost.
        pool = self._client.connection_pool
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await pool.get_connection()  # type: ignore[no-untyped-call] # redis-py left it so
                try:
                    await _send(connection, [hiredis.pack_command(command) for command in commands])
                    return await self._answers(connection, commands)
                except BaseException:
                    # What is not read yet would be taken for the answers to whatever is asked next.
                    await connection.disconnect(nowait=True)
                    raise
                finally:
                    await pool.release(connection)
        except TimeoutError:
            raise RedisTimeoutError(f"no answer from {self.name} within {self._timeout_s:g} s") from None

    async def _answers(self, connection: redis.Connection, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = []
        for command in commands:
            try:
                answer = await connection.read_response()
            except ResponseError as error:
                answers.append(error)
                continue
            if (name := command[0]) not in self._shapes:
                self._shapes[name] = self._client.response_callbacks.get(name)
            shaped = self._shapes[name]
            answers.append(answer if shaped is None else shaped(answer))
        return answers

    async def leave(self) -> None:
        """Takes nothing more, lets what was asked for be answered, and closes."""
        self._left = True
        try:
            while self._plain.busy or self._promised.busy:
                self._at_rest.clear()
                await self._at_rest.wait()
        finally:
            await self._client.aclose()

    # For its channels.

    def rested(self) -> None:
        self._at_rest.set()

    def told(self, error: BaseException | None) -> None:
        """Takes note of how a pipeline went."""
        if isinstance(error, MaxConnectionsError):
            return  # ours, not the server's
        if self.available is not (error is None):
            self.available = error is None
            if error is None:
                log.info("redis is available", server=self.name)
            else:
                log.error("redis is away", server=self.name, reason=f"{type(error).__name__}: {error}")
        if error is not None:
            self._watch.doubt(self)

    def answered(self, asked: Asked, result: Any) -> None:
        if isinstance(result, MovedError) and asked.redirects < REDIRECTS_MAX:
            asked.redirects += 1
            if self._watch.redirect(self, asked, result):
                return
        if isinstance(result, RedisError) and is_misplaced(result):
            self._watch.doubt(self)
        done = not isinstance(result, BaseException)
        # One that was sent on here was so by a server that knows better than we do.
        if done and asked.promised and not asked.redirects and not self._watch.stands(self, asked.command):
            result = _SUPERSEDED
        asked.settle(result)

    async def is_trusted(self, took_s: float) -> bool:
        """Whether what it answered after `took_s` seconds may be promised.

        A master that stood still does not know that it was replaced meanwhile, nor do replicas that were not told yet:
        it answers as if nothing had been, and they confirm.
        """
        if took_s < SLOW_S:
            return True
        checking = self._checking
        if checking is None or checking.done():  # what stood still answers many at once
            self._checking = checking = self._tasks.start(self._watch.still_stands(self), "still stands")
        await asyncio.wait([checking])
        return not checking.cancelled() and checking.result()


async def _send(connection: redis.Connection, packed: Sequence[bytes]) -> None:
    try:
        await connection.send_packed_command(packed)
    except _RESET_AT_REST:
        # redis-py has let go of it, and connects anew: nothing had left.
        try:
            await connection.send_packed_command(packed)
        except _RESET_AT_REST as error:
            raise RedisConnectionError(f"closed at once: {error}") from error


_RESET_AT_REST = (RuntimeError, TypeError, AttributeError)
"""What writing to a connection raises that was reset while it lay in the pool: uvloop the first; asyncio's own loop, by
its version, the others. redis-py looks there for an end alone, and passes these on.
Source: redis-py, issue 4287; uvloop, issue 506."""
_SUPERSEDED = StoreUnavailable("another server took its place before it answered")


class _Channel:
    """Collects what is asked for into pipelines.

    While as many as there may be are under way, the rest waits and leaves as one: a Redis that takes its time is not
    one that is away.
    """

    def __init__(self, server: Server, durability: Durability | None, tasks: Tasks) -> None:
        self._server, self._durability, self._tasks = server, durability, tasks
        self._waiting: list[Asked] = []
        self._under_way = 0
        self._most = PIPELINES_MAX if durability is None else CONFIRMED_MAX

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._under_way)

    def put(self, asked: Asked) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(asked)

    def _flush(self) -> None:
        if not self._waiting or self._under_way >= self._most:
            return
        self._under_way += 1
        batch, self._waiting = self._waiting, []
        self._tasks.start(self._send(batch), "pipeline")

    async def _send(self, batch: list[Asked]) -> None:
        results: list[Any] = [StoreUnavailable("the connection is closing")] * len(batch)
        began = monotonic()
        try:
            answers = await self._execute(batch)
            self._server.told(None)
            if any(asked.promised for asked in batch) and not await self._server.is_trusted(monotonic() - began):
                answers = [
                    _SUPERSEDED if asked.promised else answer for asked, answer in zip(batch, answers, strict=True)
                ]
            results = answers
        except (RedisError, OSError) as error:
            results = [error] * len(batch)
            self._server.told(error)
        except Exception as error:  # noqa: BLE001 (it goes to those who asked)
            results = [error] * len(batch)
        finally:
            for asked, result in zip(batch, results, strict=True):
                self._server.answered(asked, result)
            self._under_way -= 1
            self._flush()
            if not self.busy:
                self._server.rested()

    async def _execute(self, batch: list[Asked]) -> list[Any]:
        results = await self._round(batch)
        missing = [at for at, result in enumerate(results) if isinstance(result, NoScriptError)]
        if missing:
            try:
                again = await self._load_and_execute([batch[at] for at in missing])
            except (RedisError, OSError) as error:
                again = [error] * len(missing)  # theirs alone: the others have their answers
            for at, result in zip(missing, again, strict=True):
                results[at] = result
        return results

    async def _load_and_execute(self, batch: list[Asked]) -> list[Any]:
        """A restarted server knows no scripts. Such a command did not run: the same one is simply asked for again."""
        shas = sorted({asked.command[1] for asked in batch})
        for answer in await self._server.pipeline([("SCRIPT", "LOAD", _BY_SHA[sha].text) for sha in shas]):
            if isinstance(answer, RedisError):
                raise answer
        return await self._round(batch)

    async def _round(self, batch: list[Asked]) -> list[Any]:
        """One pipeline there and back."""
        wait = None if self._durability is None else self._durability.command
        commands = [asked.command for asked in batch]
        if wait is None:
            return await self._server.pipeline(commands)
        *results, confirmed = await self._server.pipeline([*commands, wait])
        assert self._durability is not None, "it is where the command came from"
        if (missing := self._durability.missing(confirmed)) is not None:
            results = [result if isinstance(result, BaseException) else missing for result in results]
        return results

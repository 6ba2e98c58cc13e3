"""The connection to Redis: one client, commands of one loop turn collected into one pipeline, scripts by digest.

Nothing here retries: redis-py's retries would run a write twice when only its answer was lost (see
`docs/adr/0007-store.md`). Every script is safe to ask for again: `commit` by the event's mark, `settle` by its epoch.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from bridge.runtime.logs import get_logger
from bridge.runtime.tasks import Tasks
from bridge.store.errors import StoreUnavailable

log = get_logger(__name__)

Command = tuple[Any, ...]


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


SCRIPTS = {name: Script.load(name) for name in ("commit", "claim", "settle", "release")}
_BY_SHA = {script.sha: script for script in SCRIPTS.values()}


class Connection:
    """Runs commands. Those asked for within one turn of the loop leave together, in the order they were asked in.

    A pipeline is not a transaction: each command fails or succeeds alone.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._client: redis.Redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=timeout_s,
            socket_connect_timeout=min(timeout_s, 2.0),
            retry=Retry(NoBackoff(), 0),
            max_connections=64,
        )
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._flushes = Tasks("redis")
        self.available = False

    async def run(self, *commands: Command) -> list[Any]:
        """Runs `commands` in order, in one pipeline with whatever else this turn of the loop asks for.

        Raises:
            StoreUnavailable: Redis did not answer or refused the write as a whole; whether a command ran is not known.
            RedisError: a command of ours is wrong.
        """
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in commands]
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.extend(zip(commands, futures, strict=True))
        results = await asyncio.gather(*futures, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        self._flushes.start(self._send(batch), "pipeline")

    async def _send(self, batch: list[tuple[Command, asyncio.Future[Any]]]) -> None:
        try:
            results = await self._execute([command for command, _ in batch])
        except (RedisError, OSError, TimeoutError) as error:
            self._note(available=False)
            results = [error] * len(batch)
        except asyncio.CancelledError:
            results = [StoreUnavailable("the connection is closing")] * len(batch)
            raise
        except Exception as error:  # noqa: BLE001 (it goes to those who asked)
            results = [error] * len(batch)
        finally:
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, BaseException):
                    future.set_exception(_as_unavailable(result))
                else:
                    future.set_result(result)

    async def _execute(self, commands: list[Command]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            results: list[Any] = await pipe.execute(raise_on_error=False)
        self._note(available=True)
        # A restarted server knows no scripts. Such a command did not run: the same one is simply asked for again.
        missing = [at for at, result in enumerate(results) if isinstance(result, NoScriptError)]
        if missing:
            async with self._client.pipeline(transaction=False) as pipe:
                for sha in {commands[at][1] for at in missing}:
                    pipe.execute_command("SCRIPT LOAD", _BY_SHA[sha].text)
                await pipe.execute()
                for at in missing:
                    pipe.execute_command(*commands[at])
                for at, result in zip(missing, await pipe.execute(raise_on_error=False), strict=True):
                    results[at] = result
        return results

    def _note(self, *, available: bool) -> None:
        if available != self.available:
            self.available = available
            (log.info if available else log.error)("redis is available" if available else "redis is away")

    async def check(self, key: str) -> None:
        """Raises `StoreUnavailable` unless Redis answers and takes a write at `key`."""
        await self.run(("SET", key, "1", "PX", 60_000))

    async def info(self, section: str = "server") -> dict[str, Any]:
        result: dict[str, Any] = await self._client.info(section)
        return result

    async def close(self) -> None:
        await self._flushes.drain(5)
        await self._client.aclose()


_REFUSED = ("READONLY", "LOADING", "OOM", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "TRYAGAIN")


def _as_unavailable(error: BaseException) -> BaseException:
    """What the caller sees: `StoreUnavailable` for whatever may pass, the error itself for a fault of ours."""
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError | TimeoutError):
        return StoreUnavailable(f"{type(error).__name__}: {error}")
    text = str(error)
    if isinstance(error, RedisError) and (
        type(error).__name__ in ("ReadOnlyError", "BusyLoadingError", "OutOfMemoryError")
        or any(word in text for word in _REFUSED)
    ):
        return StoreUnavailable(text)
    return error


def scored(answer: Any) -> list[tuple[int, str]]:
    """An answer WITHSCORES as (score, member): it comes flat (RESP2) or in pairs (RESP3), by the server's version."""
    if answer and not isinstance(answer[0], list | tuple):
        answer = zip(answer[::2], answer[1::2], strict=True)
    return [(int(float(score)), name) for name, score in answer]

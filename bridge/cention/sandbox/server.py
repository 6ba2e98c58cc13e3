"""The sandbox as one thing: its state, its routes, its listener.

Invariants: a program reads and sets in-process just what it would over HTTP; a stopped sandbox leaves no task behind.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiohttp import web

from bridge.cention.sandbox.endpoints import Endpoints, Tokens
from bridge.cention.sandbox.faults import FaultRule, Faults
from bridge.cention.sandbox.state import Arrival, Errand, State
from bridge.cention.sandbox.views import Views
from bridge.runtime.web import problems, serve

WORKSPACE = "demo"
"""The workspace in `base_url`; every other name is served just as well."""

_BODY_BYTES_MAX = 32 * 2**20  # a create may carry attachments


class Sandbox:
    """A Cention server in memory.

    Args:
        tokens: the bearer tokens that are accepted, with every claim; or a mapping of each to the claims it carries
            (named as in `cention.tokens`: `create_errand`, `errand_data`); None accepts any that is not empty.
        errands_max: errands kept; the one that ended first is dropped first.
        arrivals_max: requests kept in the record of arrivals; the oldest is dropped first.
    """

    def __init__(
        self,
        *,
        tokens: Collection[str] | Mapping[str, Collection[str]] | None = None,
        errands_max: int = 100_000,
        arrivals_max: int = 200_000,
    ) -> None:
        self._state = State(errands_max=errands_max, arrivals_max=arrivals_max)
        self._faults = Faults()
        self._stopping = asyncio.Event()
        claims = None if tokens is None else _claims(tokens)
        self._endpoints = Endpoints(self._state, self._faults, tokens=claims, stopping=self._stopping)
        self._views = Views(self._state, self._faults)
        self._runner: web.AppRunner | None = None

    def app(self) -> web.Application:
        """A new application over this sandbox's state: Cention's API below `/s/<workspace>`, the views beside it."""
        app = web.Application(middlewares=[problems], client_max_size=_BODY_BYTES_MAX)
        self._endpoints.add_to(app)
        self._views.add_to(app)
        app.on_startup.append(self._started)
        app.on_shutdown.append(self._stopped)
        return app

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listens, and returns the base URL for `cention.base_url`, such as `http://127.0.0.1:8082/s/demo`.

        Args:
            host: the sandbox guards nothing: any other than loopback is open to whoever reaches it.
            port: 0 takes a free one.

        Raises:
            OSError: the address cannot be listened on.
            RuntimeError: it is listening already.
        """
        if self._runner is not None:
            raise RuntimeError("the sandbox is listening already")
        self._runner, bound = await serve(self.app(), host, port)
        return f"http://{f'[{host}]' if ':' in host else host}:{bound}/s/{WORKSPACE}"

    async def stop(self) -> None:
        """Stops listening; what it remembers stays."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def set_faults(self, rules: Iterable[FaultRule | Mapping[str, Any]]) -> None:
        """Puts `rules` in place of all others; none mends all.

        Raises:
            pydantic.ValidationError: one of them can't be used; nothing is changed then.
        """
        self._faults.replace(rules)

    @property
    def faults(self) -> list[dict[str, Any]]:
        """The rules in force, with `hits` and `remaining`."""
        return self._faults.view()

    @property
    def errands(self) -> list[Errand]:
        """All errands, newest first."""
        return list(self._state.errands())

    @property
    def arrivals(self) -> list[Arrival]:
        """Every request that was worked on and is still kept, oldest first."""
        return self._state.arrivals()

    def errand(self, errand_id: str | int) -> Errand | None:
        """One errand by its id."""
        return self._state.errand(int(errand_id))

    def busy_with(self, device_id: int, extension_id: int) -> list[Errand]:
        """The open errands that an agent is busy with, oldest first."""
        return self._state.busy_with((device_id, extension_id))

    @property
    def dirty(self) -> list[int]:
        """The ids of the errands that have changed since their report was read, the longest changed first."""
        return self._state.dirty()

    @property
    def counts(self) -> dict[str, int]:
        """What is kept, and what was ever done: `errands`, `open`, `agents`, `dirty`; `arrivals`, `reports`."""
        return self._state.counts

    def reset(self) -> None:
        """Forgets errands, agents and arrivals; faults stay."""
        self._state.reset()

    async def _started(self, _app: web.Application) -> None:
        self._stopping.clear()

    async def _stopped(self, _app: web.Application) -> None:
        self._stopping.set()


def _claims(tokens: Collection[str] | Mapping[str, Collection[str]]) -> Tokens:
    if isinstance(tokens, Mapping):
        return {token: frozenset(claims) for token, claims in tokens.items()}
    return dict.fromkeys(tokens)

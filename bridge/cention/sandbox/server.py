"""The sandbox as one thing: its state, its routes, its listener.

Invariants: a program reads and sets in-process just what it would over HTTP; a stopped sandbox leaves no task behind.
"""

import asyncio
import random
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from aiohttp import web

from bridge.cention.sandbox.answering import Answered, AnswerGiven, Answering
from bridge.cention.sandbox.asked import CLAIMS
from bridge.cention.sandbox.callbacks import Callback, Callbacks
from bridge.cention.sandbox.cards import Card, Cards
from bridge.cention.sandbox.data import Data, Logio, example
from bridge.cention.sandbox.desk import Desk
from bridge.cention.sandbox.endpoints import Endpoints, Tokens
from bridge.cention.sandbox.faults import FaultRule, Faults
from bridge.cention.sandbox.files import Files
from bridge.cention.sandbox.logins import Logins
from bridge.cention.sandbox.page import Page
from bridge.cention.sandbox.parts.contacts import Contacts
from bridge.cention.sandbox.parts.errands import Errands
from bridge.cention.sandbox.parts.exports import Exports
from bridge.cention.sandbox.parts.files import ServedFiles
from bridge.cention.sandbox.parts.library import Library
from bridge.cention.sandbox.parts.logio import ServedLogins
from bridge.cention.sandbox.parts.reports import Reports
from bridge.cention.sandbox.ratings import Ratings
from bridge.cention.sandbox.shelves import Shelves
from bridge.cention.sandbox.state import Arrival, Errand, State
from bridge.cention.sandbox.stocks import Stocks
from bridge.cention.sandbox.views import Views
from bridge.runtime.web import problems, serve

WORKSPACE = "demo"
"""The workspace in `base_url`; every other name is served just as well."""

_BODY_BYTES_MAX = 32 * 2**20  # a create may carry attachments


class Sandbox:
    """A Cention server in memory.

    Args:
        tokens: the bearer tokens that are accepted, with every claim; or a mapping of each to the claims it carries
            (named as in `cention.tokens`: see `CLAIMS`); None accepts any that is not empty.
        data: library, exports, ratings and logins to serve; None: a small example.
        callback_url: where a callback goes when an errand is answered; None: none is sent.
        callback_secret: sent with it as `meta.api_secret`; "": none is.
        seed: lets `included` be shuffled the same way in every run; None: another way each.
        errands_max: errands kept; the one that ended first is dropped first.
        arrivals_max: requests kept in the record of arrivals; the oldest is dropped first.

    Raises:
        ValueError: a token has a claim that there is not, or a bound is below 1.
    """

    def __init__(
        self,
        *,
        tokens: Collection[str] | Mapping[str, Collection[str]] | None = None,
        data: Data | None = None,
        callback_url: str | None = None,
        callback_secret: str = "",
        seed: int | None = None,
        errands_max: int = 100_000,
        arrivals_max: int = 200_000,
    ) -> None:
        data = example() if data is None else data
        dice = random.Random(seed)  # noqa: S311 - it shuffles answers, and guards nothing
        self._state = State(errands_max=errands_max, arrivals_max=arrivals_max)
        self._faults, self._cards = Faults(), Cards()
        self._ratings, self._logins = Ratings(data.ratings), Logins(data.logio)
        self._files = Files(data.library.archives)
        self._callbacks = Callbacks(callback_url, callback_secret, dice)
        self._answering = Answering(self._state, self._files, self._callbacks)
        self._stopping = asyncio.Event()
        parts = (
            Errands(self._state),
            Reports(self._state, self._ratings),
            Contacts(self._state, self._cards),
            Library(Shelves(data.library, self._files.archive, dice)),
            ServedFiles(self._files),
            Exports(self._state, data.exports),
            ServedLogins(self._logins),
        )
        self._endpoints = Endpoints(
            (one for part in parts for one in part.served()),
            self._faults,
            tokens=None if tokens is None else _claims(tokens),
            stopping=self._stopping,
        )
        views = Views(self._state, self._faults, self.reset)
        self._views = (
            views,
            Page(views.index),
            Desk(self._answering, self._callbacks),
            Stocks(self._cards, self._ratings, self._logins),
        )
        self._runner: web.BaseRunner | None = None

    def app(self) -> web.Application:
        """A new application over this sandbox's state: Cention's API below `/s/<workspace>`, the views beside it."""
        app = web.Application(middlewares=[problems], client_max_size=_BODY_BYTES_MAX)
        self._endpoints.add_to(app)
        for view in self._views:
            view.add_to(app)
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

    async def answer(self, errand_id: str | int, answer: AnswerGiven | None = None) -> Answered | None:
        """Answers an errand as its agent would, and sends the callback; None where there is no errand with this id.

        Raises:
            AlreadyAnswered: nothing was done.
        """
        return await self._answering.answer(int(errand_id), answer or AnswerGiven())

    def set_callback(self, url: str | None, secret: str = "") -> None:
        """Lets later callbacks go to `url`, with `secret` if it is not empty; None: none is sent."""
        self._callbacks.configure(url, secret)

    @property
    def callbacks(self) -> list[Callback]:
        """The callbacks that were sent and are still kept, newest first."""
        return self._callbacks.newest_first()

    @property
    def contact_cards(self) -> list[Card]:
        """All contact cards, the newest first."""
        return self._cards.newest_first()

    def log(self, name: str, action: Literal["Login", "Logout"], timestamp: int | None = None) -> None:
        """Lets an agent log in or out.

        Args:
            name: the agent's login name.
            action: which of both.
            timestamp: when, in seconds since the epoch; None: now.
        """
        self._logins.add([Logio(name=name, action=action, timestamp=timestamp)])

    def reset(self) -> None:
        """Forgets errands with their answers and callbacks, agents, arrivals and contact cards; all else stays."""
        self._state.reset()
        self._files.reset()
        self._callbacks.clear()
        self._cards.clear()

    async def _started(self, _app: web.Application) -> None:
        self._stopping.clear()

    async def _stopped(self, _app: web.Application) -> None:
        self._stopping.set()


def _claims(tokens: Collection[str] | Mapping[str, Collection[str]]) -> Tokens:
    if isinstance(tokens, Mapping):
        if unknown := {claim for claims in tokens.values() for claim in claims}.difference(CLAIMS):
            raise ValueError(f"no claim is called {', '.join(sorted(unknown))}, only {', '.join(CLAIMS)}")
        return {token: frozenset(claims) for token, claims in tokens.items()}
    return dict.fromkeys(tokens)

"""What the sandbox serves besides errands, over HTTP: contact cards to look at, ratings and logins to give.

Not Cention's API.
"""

from aiohttp import web
from pydantic import TypeAdapter

from bridge.cention.sandbox.cards import Cards
from bridge.cention.sandbox.data import Logio, Rating
from bridge.cention.sandbox.logins import Logins
from bridge.cention.sandbox.queries import page, read
from bridge.cention.sandbox.ratings import Ratings, shown
from bridge.runtime.web import json_response

_RATING, _RATINGS = TypeAdapter(Rating), TypeAdapter(tuple[Rating, ...])
_LOGIN, _LOGINS = TypeAdapter(Logio), TypeAdapter(tuple[Logio, ...])


class Stocks:
    """The handlers."""

    def __init__(self, cards: Cards, ratings: Ratings, logins: Logins) -> None:
        self._cards, self._ratings, self._logins = cards, ratings, logins

    def add_to(self, app: web.Application) -> None:
        """Routes them."""
        app.router.add_get("/contacts", self._contacts)
        app.router.add_get("/ratings", self._get_ratings)
        app.router.add_put("/ratings", self._put_ratings)
        app.router.add_post("/ratings", self._post_rating)
        app.router.add_get("/logio", self._get_logio)
        app.router.add_put("/logio", self._put_logio)
        app.router.add_post("/logio", self._post_logio)

    async def _contacts(self, request: web.Request) -> web.Response:
        found, following = page(request, iter(self._cards.newest_first()), most=100)
        cards = [
            {"id": str(card.card_id), "name": card.name, "contacts": card.contacts, "custom": card.custom}
            for card in found
        ]
        return json_response({"contacts": cards, "next": following})

    async def _get_ratings(self, request: web.Request) -> web.Response:
        found, following = page(request, iter(self._ratings.all()), most=100)
        dirty = frozenset(self._ratings.dirty())
        ratings = [shown(one, changed=one.rating_id in dirty) for one in found]
        return json_response({"ratings": ratings, "next": following})

    async def _put_ratings(self, request: web.Request) -> web.Response:
        self._ratings.replace(await read(request, _RATINGS))
        return await self._get_ratings(request)

    async def _post_rating(self, request: web.Request) -> web.Response:
        self._ratings.add(await read(request, _RATING))
        return web.Response(status=204)

    async def _get_logio(self, request: web.Request) -> web.Response:
        found, following = page(request, iter(self._logins.all()), most=1000)
        logins = [{"name": one.name, "action": one.action, "timestamp": one.timestamp} for one in found]
        return json_response({"logio": logins, "next": following})

    async def _put_logio(self, request: web.Request) -> web.Response:
        given = await read(request, _LOGINS)
        self._logins.replace(given)
        return await self._get_logio(request)

    async def _post_logio(self, request: web.Request) -> web.Response:
        self._logins.add([await read(request, _LOGIN)])
        return web.Response(status=204)

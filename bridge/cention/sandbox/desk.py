"""The agent's side over HTTP: answers an errand, and shows the callbacks that were sent. Not Cention's API."""

from typing import Any

from aiohttp import web
from pydantic import TypeAdapter

from bridge.cention.sandbox.answering import AlreadyAnswered, AnswerGiven, Answering
from bridge.cention.sandbox.callbacks import Callback, Callbacks
from bridge.cention.sandbox.queries import page, read, require_json
from bridge.cention.sandbox.views import errand_view
from bridge.runtime.clock import rfc3339
from bridge.runtime.web import Problem, json_response

_ANSWER = TypeAdapter(AnswerGiven)


class Desk:
    """The handlers."""

    def __init__(self, answering: Answering, callbacks: Callbacks) -> None:
        self._answering, self._callbacks = answering, callbacks

    def add_to(self, app: web.Application) -> None:
        """Routes them."""
        app.router.add_post("/errands/{id:[0-9]{1,18}}/answer", self._answer)
        app.router.add_get("/callbacks", self._list)
        app.router.add_get("/callbacks/{id:[0-9]{1,18}}", self._one)
        app.router.add_post("/callbacks/{id:[0-9]{1,18}}", self._again)

    async def _answer(self, request: web.Request) -> web.Response:
        given = await read(request, _ANSWER)
        try:
            answered = await self._answering.answer(int(request.match_info["id"]), given)
        except AlreadyAnswered:
            raise Problem(409, "already_answered", "The errand has its answer; nothing was done.") from None
        if answered is None:
            raise Problem(404, "not_found", "There is no errand with this id.")
        callback = None if answered.callback is None else _view(answered.callback)
        return json_response({"errand": errand_view(answered.errand), "callback": callback})

    async def _list(self, request: web.Request) -> web.Response:
        found, following = page(request, iter(self._callbacks.newest_first()), most=100)
        return json_response({"callbacks": [_view(one) for one in found], "next": following})

    async def _one(self, request: web.Request) -> web.Response:
        callback = self._found(request)
        return json_response({**_view(callback), "document": callback.document})

    async def _again(self, request: web.Request) -> web.Response:
        require_json(request)
        return json_response(_view(await self._callbacks.send(self._found(request))))

    def _found(self, request: web.Request) -> Callback:
        if (callback := self._callbacks.get(int(request.match_info["id"]))) is None:
            raise Problem(404, "not_found", "There is no callback with this id.")
        return callback


def _view(callback: Callback) -> dict[str, Any]:
    return {
        "id": str(callback.callback_id),
        "errandId": str(callback.errand_id),
        "sentAt": rfc3339(callback.sent_at),
        "attempts": callback.attempts,
        "status": callback.status,
        "error": callback.error,
    }

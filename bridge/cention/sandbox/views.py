"""JSON about the sandbox's state for people and programs, and the switchboard of its faults. Not Cention's API."""

from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from bridge.cention.sandbox.faults import Faults
from bridge.cention.sandbox.queries import limit, number, page, problem_errors
from bridge.cention.sandbox.state import Agent, Arrival, Errand, GivenAnswer, Pair, State
from bridge.runtime.clock import rfc3339
from bridge.runtime.web import Problem, json_response


class Views:
    """The handlers of errands, agents, arrivals and faults.

    Args:
        state: what is shown.
        faults: what is shown and set.
        reset: makes the sandbox forget.
    """

    def __init__(self, state: State, faults: Faults, reset: Callable[[], None]) -> None:
        self._state, self._faults, self._forget = state, faults, reset

    def add_to(self, app: web.Application) -> None:
        """Routes the views."""
        app.router.add_get("/errands", self._errands)
        app.router.add_delete("/errands", self._reset)
        app.router.add_get("/errands/{id:[0-9]{1,18}}", self._errand)
        app.router.add_get("/agents", self._agents)
        app.router.add_get("/arrivals", self._arrivals)
        app.router.add_get("/faults", self._get_faults)
        app.router.add_put("/faults", self._put_faults)
        app.router.add_delete("/faults", self._delete_faults)

    async def index(self, _request: web.Request) -> web.Response:
        """What there is: for `/`, where no page is asked for."""
        return json_response(
            {
                "name": "Cention sandbox",
                "api": "/s/<workspace>/capi/",
                "views": {
                    "/errands": "newest first; ?referenceId=&deviceId=&extensionId=&state=open|ended&limit=&offset=",
                    "/errands/<id>": "one errand with its documents",
                    "/agents": "which agent is busy with what; ?busy=true|false&limit=&offset=",
                    "/arrivals": "every request that was worked on, in its order; ?since=&limit=",
                    "/errands/<id>/answer": "POST an answer, as the errand's agent would give it",
                    "/callbacks": "what was sent when errands were answered; ?limit=&offset=",
                    "/callbacks/<id>": "one callback with its document; POST sends it again",
                    "/contacts": "contact cards, newest first; ?limit=&offset=",
                    "/ratings": "Facebook ratings; PUT a list of them, POST one more",
                    "/logio": "logins and logouts; PUT a list of them, POST one more",
                    "/faults": "what is set to go wrong; PUT a list of rules, DELETE to mend all",
                },
                "counts": self._state.counts,
            }
        )

    async def _errands(self, request: web.Request) -> web.Response:
        wanted = request.query
        if (state := wanted.get("state", "open")) not in ("open", "ended"):
            raise Problem(400, "invalid_query", "state must be open or ended.")
        pair = (number(request, "deviceId"), number(request, "extensionId"))

        def found() -> Iterator[Errand]:
            for errand in self._state.errands():
                its = errand.pair or (None, None)
                if (
                    ("state" not in wanted or errand.state == state)
                    and ("referenceId" not in wanted or errand.reference_id == wanted["referenceId"])
                    and all(asked is None or asked == has for asked, has in zip(pair, its, strict=True))
                ):
                    yield errand

        shown, following = page(request, found(), most=100)
        return json_response(
            {"errands": [errand_view(errand) for errand in shown], "next": following, "counts": self._state.counts}
        )

    async def _errand(self, request: web.Request) -> web.Response:
        errand = self._state.errand(int(request.match_info["id"]))
        if errand is None:
            raise Problem(404, "not_found", "There is no errand with this id.")
        return json_response(
            {
                **errand_view(errand),
                "attributes": errand.told,
                "endAttributes": errand.told_at_end,
            }
        )

    async def _reset(self, _request: web.Request) -> web.Response:
        self._forget()
        return web.Response(status=204)

    async def _agents(self, request: web.Request) -> web.Response:
        busy = {"true": True, "false": False, None: None}.get(request.query.get("busy"), "?")
        if busy == "?":
            raise Problem(400, "invalid_query", "busy must be true or false.")
        agents = (one for one in reversed(self._state.agents()) if busy is None or bool(one[1].busy_with) == busy)
        shown, following = page(request, agents, most=1000)
        return json_response({"agents": [self._agent(*one) for one in shown], "next": following})

    def _agent(self, pair: Pair, agent: Agent) -> dict[str, Any]:
        errands = [errand for i in reversed(agent.busy_with) if (errand := self._state.errand(i)) is not None]
        return {
            "deviceId": pair[0],
            "extensionId": pair[1],
            "busy": bool(errands),
            "errands": [
                {"id": str(e.errand_id), "referenceId": e.reference_id, "destNumber": e.dest_number} for e in errands
            ],
            "outboundEnds": agent.outbound_ends,
            "updatedAt": rfc3339(agent.updated_at),
        }

    async def _arrivals(self, request: web.Request) -> web.Response:
        since = number(request, "since") or 0
        arrivals = self._state.arrivals(since, limit(request, 1000))
        return json_response(
            {
                "arrivals": [_arrival(arrival) for arrival in arrivals],
                "next": arrivals[-1].sequence if arrivals else since,
                "total": self._state.counts["arrivals"],
            }
        )

    async def _get_faults(self, _request: web.Request) -> web.Response:
        return json_response({"faults": self._faults.view()})

    async def _put_faults(self, request: web.Request) -> web.Response:
        try:
            self._faults.replace_json(await request.read())
        except ValidationError as error:
            raise Problem(
                422,
                "invalid_faults",
                "A JSON list of fault rules is wanted; nothing was changed.",
                errors=problem_errors(error),
            ) from None
        except ValueError as error:
            raise Problem(422, "invalid_faults", f"{error}; nothing was changed.") from None
        return json_response({"faults": self._faults.view()})

    async def _delete_faults(self, _request: web.Request) -> web.Response:
        self._faults.clear()
        return web.Response(status=204)


def errand_view(errand: Errand) -> dict[str, Any]:
    """An errand as the views show it."""
    attributes = errand.told
    data, message = attributes.get("integrationData") or {}, attributes.get("msg") or {}
    device_id, extension_id = errand.pair or (None, None)
    return {
        "id": str(errand.errand_id),
        "state": errand.state,
        "referenceId": errand.reference_id,
        "deviceId": device_id,
        "extensionId": extension_id,
        "destNumber": errand.dest_number,
        "queueName": data.get("queueName"),
        "queueNumber": data.get("queueNumber"),
        "link": errand.link,
        "from": message.get("from"),
        "name": message.get("name"),
        "subject": message.get("subject"),
        "cuid": attributes.get("cuid"),
        "messageIds": errand.message_ids,
        "createdAt": rfc3339(errand.created_at),
        "updatedAt": rfc3339(errand.updated_at),
        "endedAt": None if errand.ended_at is None else rfc3339(errand.ended_at),
        "endedBy": errand.ended_by,
        "answer": _answer(errand.answer),
    }


def _answer(given: GivenAnswer | None) -> dict[str, Any] | None:
    if given is None:
        return None
    return {
        "at": rfc3339(given.at),
        "agent": given.agent,
        "subject": given.subject,
        "text": given.text,
        "attachments": [str(number) for number in given.attachments],
        "archives": [str(number) for number in given.archives],
    }


def _arrival(arrival: Arrival) -> dict[str, Any]:
    return {
        "sequence": arrival.sequence,
        "at": rfc3339(arrival.at),
        "endpoint": arrival.endpoint,
        "message_id": arrival.message_id,
        "referenceId": arrival.reference_id,
        "deviceId": arrival.device_id,
        "extensionId": arrival.extension_id,
        "endSession": arrival.end_session,
        "dialedNumber": arrival.dialed_number,
        "errandId": None if arrival.errand_id is None else str(arrival.errand_id),
        "status": arrival.status,
        "cut": arrival.cut,
    }

"""Creating and closing errands, and ending outbound calls.

Source: Cention API, "Create Errand", "Close Errand", "End Outbound Call".
"""

from aiohttp import web

from bridge.cention.documents import END_ERRANDS, END_OBCALL, NEW_ERRANDS, EndErrand, EndObcall, NewErrand
from bridge.cention.sandbox.asked import Asked, Served, created, document
from bridge.cention.sandbox.checks import Refused, checked
from bridge.cention.sandbox.state import State


class Errands:
    """The endpoints whose token carries the claim "Create Errand"."""

    def __init__(self, state: State) -> None:
        self._state = state

    def served(self) -> list[Served]:
        """What this part serves."""
        return [
            Served("POST", f"json/{NEW_ERRANDS}", ("create_errand",), self._new_errand),
            Served("POST", f"json/{END_ERRANDS}", ("create_errand",), self._end_errand),
            Served("POST", f"json/{END_OBCALL}", ("create_errand",), self._end_obcall),
        ]

    def _new_errand(self, asked: Asked) -> web.Response:
        errand = self._state.new_errand(checked(asked.body, NewErrand), asked.body, cut=asked.cut)
        return created({"type": NEW_ERRANDS, "id": str(errand.errand_id)})

    def _end_errand(self, asked: Asked) -> web.Response:
        end = checked(asked.body, EndErrand)
        if self._state.end_errand(end, asked.body, cut=asked.cut) is None:
            raise Refused(404, ("/data/attributes/errand_id", "there is no errand with this id"))
        return document({"data": {"type": END_ERRANDS, "id": str(end.errand_id)}}, 201)

    def _end_obcall(self, asked: Asked) -> web.Response:
        self._state.end_obcall(checked(asked.body, EndObcall), cut=asked.cut)
        return web.Response(status=204)

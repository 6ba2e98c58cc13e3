"""Errand reports, Facebook ratings, and the lists of those that have changed. Source: Cention API, "Errand Report"."""

from typing import Any

from aiohttp import web

from bridge.cention.documents import DIRTY_ERRANDS, ERRAND_REPORTS, DirtyErrands
from bridge.cention.documents.ratings import DIRTY_FACEBOOK_RATINGS, FACEBOOK_RATINGS
from bridge.cention.sandbox.asked import Asked, Served, document, not_found
from bridge.cention.sandbox.checks import checked
from bridge.cention.sandbox.data import Rating
from bridge.cention.sandbox.ratings import Ratings, shown
from bridge.cention.sandbox.reports import report
from bridge.cention.sandbox.state import State

_CLAIMS = ("errand_data",)


class Reports:
    """The endpoints whose token carries the claim "Access to errand data"."""

    def __init__(self, state: State, ratings: Ratings) -> None:
        self._state, self._ratings = state, ratings

    def served(self) -> list[Served]:
        """What this part serves."""
        return [
            Served("GET", f"json/{ERRAND_REPORTS}/{{id}}", _CLAIMS, self._errand_report),
            Served("GET", f"json/{DIRTY_ERRANDS}", _CLAIMS, self._dirty_errands),
            Served("POST", f"json/{DIRTY_ERRANDS}", _CLAIMS, self._mark_dirty),
            Served("GET", f"json/{FACEBOOK_RATINGS}/{{id}}", _CLAIMS, self._rating),
            Served("GET", f"json/{DIRTY_FACEBOOK_RATINGS}", _CLAIMS, self._dirty_ratings),
        ]

    def _errand_report(self, asked: Asked) -> web.Response:
        if (found := self._state.read_report(asked.number)) is None:
            raise not_found("errand")
        errand, was_dirty = found
        fields = frozenset(filter(None, asked.text(f"fields[{ERRAND_REPORTS}]").split(",")))
        return document(report(errand, changed=was_dirty, fields=fields))

    def _dirty_errands(self, _asked: Asked) -> web.Response:
        errands = self._state.dirty() or None  # Go's empty list: null
        return document({"data": {"type": DIRTY_ERRANDS, "id": "0", "attributes": {"errands": errands}}})

    def _mark_dirty(self, asked: Asked) -> web.Response:
        self._state.mark_dirty(checked(asked.body, DirtyErrands).errands or ())
        return document({"data": {"type": DIRTY_ERRANDS, "id": "0"}}, 201)

    def _rating(self, asked: Asked) -> web.Response:
        if (found := self._ratings.read(asked.number)) is None:
            raise not_found("rating")
        return document({"data": _resource(*found)})

    def _dirty_ratings(self, _asked: Asked) -> web.Response:
        dirty = [{"type": DIRTY_FACEBOOK_RATINGS, "id": str(number)} for number in self._ratings.dirty()]
        return document({"data": dirty or None})


def _resource(rating: Rating, was_dirty: bool) -> dict[str, Any]:
    attributes = {"c3_id": rating.rating_id, "data": shown(rating, changed=was_dirty)}
    return {"type": FACEBOOK_RATINGS, "id": str(rating.rating_id), "attributes": attributes}

"""Exports: a preset is triggered, and its content answered. Source: Cention API, "Cention Export JSONAPI".

The documentation shows no answer; its shape follows the table of fields. A preset that was given content answers just
that; one without makes it of the sandbox's errands.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from bridge.cention.documents.exports import EXPORTS, TRIGGER_EXPORTS, TriggerExport
from bridge.cention.documents.jsonapi import Identifier, Relationship
from bridge.cention.sandbox.asked import Asked, Served, created, not_found
from bridge.cention.sandbox.checks import Refused, checked_resource, refusal_of
from bridge.cention.sandbox.data import Export
from bridge.cention.sandbox.records import AGENT, AREA, CHANNEL, Errand
from bridge.cention.sandbox.state import State

FIRST_CONTENT_ID = 1

_NO_FEEDBACK = {f"satisfaction_meter_answer_{level}": 0 for level in range(1, 6)}

Json = dict[str, Any]


class Exports:
    """The endpoint whose token carries the claim "Access to export API"."""

    def __init__(self, state: State, presets: tuple[Export, ...]) -> None:
        self._state = state
        self._presets = {preset.id: preset for preset in presets}
        self._next_id = FIRST_CONTENT_ID

    def served(self) -> list[Served]:
        """What this part serves."""
        return [Served("POST", f"json/{TRIGGER_EXPORTS}", ("export",), self._trigger)]

    def _trigger(self, asked: Asked) -> web.Response:
        resource = checked_resource(asked.body, TriggerExport)
        told, wanted = resource.attributes, _preset((resource.model_extra or {}).get("relationships"))
        preset = self._presets.get(str(wanted.id))
        if preset is None:
            raise not_found("export")
        content: Any = preset.content
        if content is None:
            errands = reversed(list(self._state.errands()))
            days = (told.errand_from_date, told.errand_to_date)
            content = list(_rows(errands, *days, by_end=bool(told.use_closure_date)))
        number = self._next_id
        self._next_id += 1
        return created(
            {
                "type": TRIGGER_EXPORTS,
                "id": str(number),
                "attributes": {"c3_id": number, **told.model_dump(mode="json", exclude_unset=True), "content": content},
                "relationships": {"export": {"data": {"type": EXPORTS, "id": preset.id}}},
            }
        )


def _preset(relationships: object) -> Identifier:
    """The preset that is to be exported: one identifier in the sample, a list in the table."""
    at = "/data/relationships/export"
    told = relationships.get("export") if isinstance(relationships, dict) else None
    try:
        identifiers = Relationship.model_validate_json(orjson.dumps(told)).identifiers
    except ValidationError as error:
        raise refusal_of(error, at) from None
    if len(identifiers) != 1:
        raise Refused(406, (f"{at}/data", "must be one preset"))
    return identifiers[0]


def _rows(errands: Iterator[Errand], first: date | None, last: date | None, *, by_end: bool) -> Iterator[Json]:
    """What an export tells of the errands that came (`by_end`: ended) on the days from `first` to `last`, in UTC."""
    since, until = _midnight(first), _midnight(None if last is None else last + timedelta(days=1))
    for errand in errands:
        at = errand.ended_at if by_end else errand.created_at
        if at is not None and (since is None or at >= since) and (until is None or at < until):
            yield _row(errand)


def _midnight(day: date | None) -> float | None:
    return None if day is None else datetime.combine(day, time(), UTC).timestamp() * 1000


def _row(errand: Errand) -> Json:
    told = errand.told
    message, data = told.get("msg") or {}, told.get("integrationData") or {}
    return {
        "errand_id": str(errand.errand_id),
        "from_address": message.get("from") or "",
        "to_address": errand.dest_number or "",
        "subject": message.get("subject") or "",
        "question": message.get("body") or "",
        "answer": errand.answer_told.get("body") or "",
        "errand_notes": (data.get("extraData") or {}).get("comment") or "",
        "timestamp_arrived": _time(errand.created_at),
        "timestamp_opened": _time(errand.created_at),
        "timestamp_answered": _time(errand.answered_at),
        "timestamp_closed": _time(errand.ended_at),
        "agent_id": 1,
        "agent_name": AGENT if errand.answer is None else errand.answer.agent,
        "area_id": 1,
        "area_name": AREA,
        "tag_names": "",
        "client_id": 1,
        "priority": "",
        **_NO_FEEDBACK,
        "channel": CHANNEL,
        "area_external_id": "",
    }


def _time(ms: int | None) -> str:
    return "" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")

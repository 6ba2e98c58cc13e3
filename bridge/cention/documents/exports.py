"""Exports: the request that has a preset export made, and its answer, which carries what was exported.

Dates are days, `2019/01/01` on the wire. What the answer's sample and table disagree on is read either way: `content`
is one record or many, ids are integers or texts.

Source: Cention API, "Trigger Export Generation"; notes on Cention's API, "Readings to adopt".
"""

import re
from datetime import date
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, PlainSerializer

from bridge.cention.documents.base import Attributes, Document, JsonInteger
from bridge.cention.documents.jsonapi import Linked

TRIGGER_EXPORTS = "c3_trigger_exports"
"""Endpoint and resource type. Source: Cention API, "Trigger Export Generation"."""
EXPORTS = "c3_exports"
"""Resource type of a preset export. Source: notes on Cention's API, "Readings to adopt"."""

_DAY = re.compile(r"(\d{4})/(\d{2})/(\d{2})", re.ASCII)


def _read_day(value: Any) -> Any:
    found = _DAY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    try:
        return date(*map(int, found.groups()))
    except ValueError:  # such as 2019/02/30
        return value


def _write_day(day: date | str | None) -> str | None:
    return day.isoformat().replace("-", "/") if isinstance(day, date) else day


_SLASHED = (BeforeValidator(_read_day), PlainSerializer(_write_day, when_used="json"))


class TriggerExport(Attributes):
    """POST `c3_trigger_exports`: what of the preset export is wanted.

    Source: Cention API, "Trigger Export Generation", `data.attributes`.
    """

    use_closure_date: bool | None = None
    """Whether the days are those on which errands were closed, rather than those on which they came."""
    errand_from_date: Annotated[date | None, *_SLASHED] = None
    errand_to_date: Annotated[date | None, *_SLASHED] = None


class ExportedErrand(Document):
    """One errand of an export.

    Ids and `priority` are numbers or texts, as the server likes.

    Source: Cention API, "Trigger Export Generation", `data.attributes.content`.
    """

    errand_id: JsonInteger | str | None = None
    from_address: str | None = None
    to_address: str | None = None
    subject: str | None = None
    question: str | None = None
    answer: str | None = None
    errand_notes: str | None = None
    timestamp_arrived: JsonInteger | str | None = None
    """A text of the server's own form and zone, by the table; kept as it came, like the three below."""
    timestamp_opened: JsonInteger | str | None = None
    timestamp_answered: JsonInteger | str | None = None
    timestamp_closed: JsonInteger | str | None = None
    agent_id: JsonInteger | str | None = None
    agent_name: str | None = None
    area_id: JsonInteger | str | None = None
    area_name: str | None = None
    tag_names: str | None = None
    client_id: JsonInteger | str | None = None
    priority: JsonInteger | str | None = None
    satisfaction_meter_answer_1: JsonInteger | str | None = None
    satisfaction_meter_answer_2: JsonInteger | str | None = None
    satisfaction_meter_answer_3: JsonInteger | str | None = None
    satisfaction_meter_answer_4: JsonInteger | str | None = None
    satisfaction_meter_answer_5: JsonInteger | str | None = None
    channel: str | None = None
    area_external_id: JsonInteger | str | None = None

    @property
    def errand_number(self) -> int | None:
        """`errand_id` as the integer that `c3_end_errands` and `c3_errand_reports` take; None where it is none."""
        told = str(self.errand_id)
        return int(told) if told.isascii() and told.isdigit() else None


EXPORT_COLUMNS = tuple(ExportedErrand.model_fields)
"""The documented members of a record, in the table's order."""


class ExportAttributes(Document):
    """The answer's attributes. Source: Cention API, "Trigger Export Generation", `data.attributes`."""

    c3_id: JsonInteger | None = None
    """The database id of what was made."""
    use_closure_date: bool | None = None
    errand_from_date: Annotated[date | str | None, *_SLASHED] = None
    errand_to_date: Annotated[date | str | None, *_SLASHED] = None
    content: ExportedErrand | tuple[ExportedErrand, ...] | None = None


class Export(Linked[ExportAttributes]):
    """What was exported."""

    TYPE = TRIGGER_EXPORTS

    @property
    def records(self) -> tuple[ExportedErrand, ...]:
        """The errands, none, one or many, in the server's order."""
        content = self.attributes.content if self.attributes is not None else None
        return () if content is None else (content,) if isinstance(content, ExportedErrand) else content


def export_request(export_id: int | str, attributes: TriggerExport) -> bytes:
    """The body of POST `c3_trigger_exports`.

    Args:
        export_id: the preset export's id, from Cention's own pages.
        attributes: what of it is wanted.

    Source: JSON:API 1.0, "Creating Resources", "Resource Linkage".
    """
    preset = orjson.dumps({"export": {"data": {"type": EXPORTS, "id": str(export_id)}}})
    return b'{"data":{"type":%b,"attributes":%b,"relationships":%b}}' % (
        orjson.dumps(TRIGGER_EXPORTS),
        attributes.to_json(),
        preset,
    )

"""The call event's JSON, field by field: strict pydantic models that also give its JSON Schema.

Owns types, bounds and names of the fields. What an event of one type must carry, and how numbers are read, is `wire`'s.

Docstrings and descriptions here are read by the API's users. Source: contract section 1.

Invariant: what a model accepts holds no half surrogate pair and no integer that a JSON reader could round.
"""

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

INTEGER_MAX: Final = 2**53 - 1
"""The greatest integer that every JSON reader keeps exactly (RFC 8259 section 6)."""
ID_CHARS_MAX: Final = 128
TEXT_CHARS_MAX: Final = 1024
LINK_CHARS_MAX: Final = 2048
COMMENT_CHARS_MAX: Final = 4096

EventType = Literal[
    "call.started",
    "call.answered",
    "call.held",
    "call.retrieved",
    "call.transferred",
    "call.updated",
    "call.ended",
]


def _integral(value: object) -> object:
    """1000.0 as 1000: JSON has one kind of number, and JSON Schema calls this one an integer."""
    return int(value) if type(value) is float and value.is_integer() else value


def _without_null(schema: dict[str, Any]) -> None:
    """Takes null out of a field's JSON Schema: None is what an absent field has here, and no JSON is."""
    schema.update(schema.pop("anyOf")[0])
    del schema["default"]


def _told(value: object) -> object:
    """Refuses null where the contract lets a field be absent, but not null."""
    if value is None:
        raise PydanticCustomError("null", "null")
    return value


_T = TypeVar("_T")
_NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"

# Field comes before BeforeValidator: the other way round the bounds leave the JSON Schema.
AgentKey = Annotated[int, Field(ge=0, le=INTEGER_MAX), BeforeValidator(_integral)]
Identifier = Annotated[str, Field(min_length=1, max_length=ID_CHARS_MAX, pattern=_NO_CONTROLS)]
Text = Annotated[str, Field(max_length=TEXT_CHARS_MAX)]
Order = Annotated[int, Field(ge=-INTEGER_MAX, le=INTEGER_MAX), BeforeValidator(_integral)]
OrAbsent = Annotated[_T | None, Field(json_schema_extra=_without_null), BeforeValidator(_told)]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


def _title(name: str, _field: object) -> str:
    return to_camel(name)


class WireModel(BaseModel):
    """Strict: a JSON string is never taken for a number. Unknown fields are passed over; the journal keeps them."""

    model_config = ConfigDict(strict=True, extra="ignore", alias_generator=to_camel, field_title_generator=_title)


class WirePair(WireModel):
    """An agent's key in Cention."""

    device_id: AgentKey
    extension_id: AgentKey


class WireExtraData(WireModel):
    """What is stored with the errand; an empty text is as good as none."""

    comment: Annotated[str, Field(max_length=COMMENT_CHARS_MAX)] = ""
    call_reason: Text = ""
    appointment_timestamp: Text = ""


def _conditions(schema: dict[str, Any]) -> None:
    def when(event_type: str, *required: str) -> dict[str, Any]:
        condition = {"properties": {"type": {"const": event_type}}, "required": ["type"]}
        return {"if": condition, "then": {"required": list(required)}}

    schema["allOf"] = [when("call.started", "direction", "calledNumber"), when("call.transferred", "transferredTo")]
    schema["examples"] = [EXAMPLE]


EXAMPLE: Final = {
    "eventId": "7f3c-0001",
    "type": "call.started",
    "occurredAt": "2026-11-24T10:15:30+01:00",
    "callId": "call-4711",
    "deviceId": 1000,
    "extensionId": 1001,
    "direction": "inbound",
    "calledNumber": "+46846500400",
    "callingNumber": "+46701740605",
    "queueName": "Support",
    "queueNumber": "7000",
}
"""An event as the API's document shows it; the numbers are fiction's."""


class WireEvent(WireModel):
    """One call event. An empty text counts as left out."""

    model_config = ConfigDict(json_schema_extra=_conditions)

    event_id: Identifier = Field(description="Unique per event; a retry repeats it.")
    type: EventType
    occurred_at: Timestamp = Field(description="RFC 3339 with offset: when it happened at the PBX.")
    call_id: Identifier = Field(description="The PBX's id of the call; Cention's `referenceId`.")
    device_id: AgentKey = Field(description="With `extensionId`, the agent's key in Cention.")
    extension_id: AgentKey
    direction: OrAbsent[Literal["inbound", "outbound"]] = None
    called_number: Text = Field("", description="Inbound: the number that was called. Outbound: the number dialled.")
    calling_number: Text | None = Field(None, description="Absent, null or `anonymous`: withheld.")
    calling_name: Text | None = None
    queue_name: Text = ""
    queue_number: Text = ""
    paging_number: Text = ""
    paging_name: Text = ""
    link: Annotated[str, Field(max_length=LINK_CHARS_MAX, pattern=_NO_CONTROLS)] = Field(
        "", description="Where the recording is; passed on as it is."
    )
    cuid: Text = ""
    extra_data: OrAbsent[WireExtraData] = None
    cause: Text = ""
    ended_by: Text = ""
    transferred_to: OrAbsent[WirePair] = None
    sequence: OrAbsent[Order] = Field(None, description="Order within a call, where the PBX has one.")


EVENT_FIELDS: Final = frozenset(str(field.alias) for field in WireEvent.model_fields.values())
OBJECT_FIELDS: Final = frozenset(
    f"{outer}.{field.alias}"
    for outer, model in (("extraData", WireExtraData), ("transferredTo", WirePair))
    for field in model.model_fields.values()
)
"""The fields inside an event's objects: `transferredTo.deviceId`."""

"""The intake listener as its OpenAPI document tells it. `bridge.intake.routes` serves it.

Docstrings and descriptions here are read by the API's users. Source: contract section 3.
"""

from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema

from bridge.cention.documents import MEDIA_TYPE, Callback
from bridge.intake.models import Identifier, WireEvent
from bridge.runtime.operations import (
    JSON,
    RETRY,
    Answer,
    EventFault,
    Operation,
    OrAbsent,
    ProblemDocument,
    View,
    problem,
)

EVENTS_MAX = 1000


class EventTaken(View):
    """The event is durable, or was before."""

    event_id: Identifier
    result: Literal["accepted", "duplicate"]
    spooled: OrAbsent[bool] = Field(None, description="In a batch: true if it waits on the local disk.")


class BatchEventTaken(EventTaken):
    """The event is durable, or was before. `spooled`: on this replica's disk, since the store is away."""

    spooled: OrAbsent[Literal[True]] = None


class EventRefused(View):
    """One event of a batch that was not taken."""

    event_id: str | None = Field(description="Null if it could not be read.")
    result: Literal["rejected"]
    code: Literal["invalid_event", "unreadable_json"]
    detail: str
    errors: list[EventFault]


class BatchAnswer(View):
    """One result per event, in their order."""

    results: list[Annotated[BatchEventTaken | EventRefused, Field(discriminator="result")]]


class CallbackTaken(View):
    """The callback is durable, or was before."""

    callback_id: str
    result: Literal["accepted", "duplicate"]


class EventProblem(ProblemDocument):
    """An event that was read and cannot be used."""

    event_id: OrAbsent[str] = None
    errors: list[EventFault]


Batch = Annotated[list[WireEvent], Field(max_length=EVENTS_MAX)]
Lines = Annotated[str, WithJsonSchema({"type": "string", "description": "One event a line."})]
_SPOOLED = {"Bridge-Spooled": "`true`: on this replica's disk, since the store is away; absent otherwise."}
_SPOOLED = {"Bridge-Spooled": "`true` if Redis is away, so that it waits on the local disk."}
_CHALLENGE = {"WWW-Authenticate": "`Bearer`."}

OPERATIONS = (
    Operation(
        path="/v1/events",
        name="postEvents",
        method="post",
        access="intake",
        summary="Take call events in",
        description=(
            "One event, an array, or NDJSON; the answer comes once all of it is durable. Where `intake.mapping` is"
            " set, events come in the exchange's own form instead."
        ),
        bodies={JSON: WireEvent | Batch, "application/x-ndjson": Lines},
        answers={
            200: Answer("An event with this `eventId` was accepted before; as good as 202.", EventTaken),
            202: Answer("The event is durable.", EventTaken, headers=_SPOOLED),
            207: Answer("A batch: one result per event.", BatchAnswer, headers=_SPOOLED),
            400: problem("The body cannot be read.", "unreadable_json", "broken_encoding", "broken_body"),
            401: problem(
                "The sender is not known.",
                *("unauthenticated", "bad_token", "bad_signature", "stale_signature"),
                headers=_CHALLENGE,
            ),
            403: problem("The listener has no secrets, and is asked for as another host.", "foreign_host"),
            408: problem("The body did not come in time.", "body_timeout"),
            413: problem("Over a limit; send several smaller batches.", "body_too_large", "too_many_events"),
            415: problem("Not a media type or coding known here.", "unsupported_media_type", "unsupported_encoding"),
            422: problem("The event was read and cannot be used.", "invalid_event", body=EventProblem),
            429: problem("Too many requests are being worked on.", "too_many_requests", headers=RETRY),
            503: problem(
                "Nothing of this request is promised; repeat all of it.", "store_unavailable", "draining", headers=RETRY
            ),
        },
    ),
    Operation(
        path="/v1/cention/callback",
        name="postCallback",
        method="post",
        access="callback",
        summary="Take a callback of Cention in",
        description=(
            "Cention posts it when an errand is answered; the answer comes once it is durable. It must carry one of"
            " `callback.secret` in `meta.api_secret`; where none is configured, it is let in as an event is."
        ),
        bodies={JSON: Callback, MEDIA_TYPE: Callback},
        answers={
            200: Answer("The callback is durable; `duplicate`: it came before.", CallbackTaken),
            400: problem("The body cannot be read.", "unreadable_json", "broken_encoding", "broken_body"),
            401: problem(
                "The sender is not known.",
                *("bad_secret", "unauthenticated", "bad_token", "bad_signature", "stale_signature"),
                headers={"WWW-Authenticate": "Where a secret is asked for: `Callback`; else `Bearer`."},
            ),
            403: problem("The listener has no secrets, and is asked for as another host.", "foreign_host"),
            404: problem("`callback.enabled` is false.", "not_found"),
            408: problem("The body did not come in time.", "body_timeout"),
            413: problem("Over `callback.body_bytes_max`.", "body_too_large"),
            415: problem("Not a media type or coding known here.", "unsupported_media_type", "unsupported_encoding"),
            422: problem("It is JSON, and no callback of Cention.", "invalid_callback"),
            429: problem("Too many callbacks are being read.", "too_many_requests", headers=RETRY),
            503: problem("Nothing is promised of it; repeat it.", "store_unavailable", "draining", headers=RETRY),
        },
    ),
)

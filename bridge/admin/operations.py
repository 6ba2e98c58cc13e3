"""The admin listener as its OpenAPI document tells it; `bridge.admin.routes` serves it.

Docstrings and descriptions here are read by the API's users. Source: contract section 4.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from bridge.runtime.operations import (
    RETRY,
    Answer,
    EventFault,
    Moment,
    Operation,
    OrAbsent,
    Parameter,
    QueryProblem,
    View,
    problem,
)

INTEGER_MAX = 2**53 - 1
CallId = Annotated[str, Field(min_length=1)]
AgentKey = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
Direction = Literal["inbound", "outbound"]
ShownState = Literal["started", "answered", "held", "ended"]
Step = Literal[
    "unseen", "expected", "orphaned", "started", "answered", "held", "ended", "written_off"
]  # `CallState`'s members; a test compares them


class AgentView(View):
    """The agent that a pair stands for. For a viewer, the login is masked."""

    login: str = Field(description="The login name in Cention.")
    logged_in: bool | None = Field(description="Null: not known.")
    since: Moment | None = Field(description="Since when; null: not known.")


class CallView(View):
    """A call at one agent. For a viewer, numbers are masked."""

    call_id: str
    device_id: AgentKey
    extension_id: AgentKey
    agent: OrAbsent[AgentView] = Field(None, description="Where `presence.agents` names the pair.")
    direction: Direction | None
    state: ShownState
    called_number: str | None
    calling_number: str | None = Field(description="Null: withheld, or not told.")
    queue_name: str | None
    queue_number: str | None
    errand_id: str | None = Field(description="Cention's id of the errand, once it has told it.")
    started_at: Moment | None
    updated_at: Moment


class CallList(View):
    """A page of calls, newest first."""

    calls: list[CallView]
    next: str | None = Field(description="The cursor of the next page; null on the last.")


class _Entry(View):
    at: Moment
    device_id: AgentKey
    extension_id: AgentKey


class EventEntry(_Entry):
    """An event that came; or one of the bridge's own, `bridge.…`."""

    kind: Literal["event"]
    event_id: str
    type: str
    occurred_at: Moment
    event: OrAbsent[Any] = Field(None, description="As it came; for a viewer, masked.")


class DecisionEntry(_Entry):
    """What was made of it."""

    kind: Literal["decision"]
    event_id: str
    from_: Step = Field(alias="from")
    to: Step
    effects: OrAbsent[list[str]] = Field(None, description="The deliveries it led to.")
    notes: OrAbsent[list[str]] = Field(None, description="What was passed over, in words.")


class AttemptEntry(_Entry):
    """An attempt at Cention."""

    kind: Literal["attempt"]
    delivery: str
    effect: str
    reason: str
    attempt: Annotated[int, Field(ge=1)]


class AnswerEntry(_Entry):
    """What came of the attempt."""

    kind: Literal["answer"]
    delivery: str
    attempt: Annotated[int, Field(ge=1)]
    outcome: str
    took_ms: Annotated[int, Field(ge=0)]
    then: str = Field(description="What follows: `delivered`, `retry`, `parked`, …")
    status: OrAbsent[int] = Field(None, description="Cention's HTTP status.")
    errand_id: OrAbsent[str] = None
    contact_card: OrAbsent[Literal["upserted", "rejected", "failed", "refused", "skipped"]] = Field(
        None, description="What became of the contact card before the errand, with `contacts.upsert`."
    )
    answer: OrAbsent[str] = Field(None, description="Cention's words, or what went wrong.")
    wait_ms: OrAbsent[int] = Field(None, description="How long the next attempt waits.")


class FileView(View):
    """A file of an answer; what is personal is masked for a viewer."""

    type: str = Field(description="`c3_response_attachments`, or `c3_area_archives` for an image in the answer's text.")
    id: str
    name: OrAbsent[str] = Field(None, description="Once it is stored: what the sender called it.")
    content_type: OrAbsent[str] = None
    size: OrAbsent[int] = Field(None, description="In bytes.")
    path: OrAbsent[str] = Field(None, description="Where it is stored, below `callback.dir`.")


class _Answered(View):
    event: int | None = Field(description="1: an errand was answered. Null: none is told.")
    errand_id: str | None
    service: str | None = Field(description="The channel's name.")
    subject: str | None
    to: list[str] = Field(description="Whom the answer went to.")
    file_count: Annotated[int, Field(ge=0)] = Field(description="Attachments and embedded images.")


class CallbackEntry(_Entry, _Answered):
    """A callback of Cention about the call's errand. For a viewer, subject, recipients and files' names are masked."""

    kind: Literal["callback"]
    callback_id: str
    files: list[FileView] = Field(description="Those that are stored, with `callback.fetch_attachments`.")


class _Task(View):
    state: Literal["waiting", "parked", "delivered"]
    attempts: Annotated[int, Field(ge=0)]
    reason: OrAbsent[str] = Field(None, description="Why it is not done yet, or no longer tried.")


class CallbackFileView(FileView):
    """A file, and what became of fetching it."""

    state: OrAbsent[Literal["waiting", "parked", "delivered"]] = None
    attempts: OrAbsent[Annotated[int, Field(ge=0)]] = None
    reason: OrAbsent[str] = None


class CallbackView(_Answered):
    """A callback of Cention. For a viewer, subject, recipients and names of files are masked."""

    callback_id: str
    received_at: Moment
    call_id: str | None = Field(description="The call that the errand came from; null where it is not known.")
    device_id: AgentKey | None
    extension_id: AgentKey | None
    files: list[CallbackFileView] = Field(description="Those that are fetched, with `callback.fetch_attachments`.")
    forward: _Task | None = Field(description="Null where it is not forwarded, or that is no longer known.")


class CallbackList(View):
    """A page of callbacks, newest first."""

    callbacks: list[CallbackView]
    next: str | None


class CallbackDocument(CallbackView):
    """A callback by itself."""

    document: OrAbsent[dict[str, Any]] = Field(
        None, description="Cention's document without the secret; for operators alone."
    )


class CallHistory(CallView):
    """A call at its latest agent, and all that happened to it at every agent, oldest first."""

    timeline: list[
        Annotated[EventEntry | DecisionEntry | AttemptEntry | AnswerEntry | CallbackEntry, Field(discriminator="kind")]
    ]


class RejectionView(View):
    """An event, or a whole body, that was refused."""

    id: str
    at: Moment
    event_id: str | None
    code: str
    detail: str
    errors: list[EventFault]
    event: Any = Field(description="As it came, cut when too long; for a viewer, masked.")


class RejectionList(View):
    """A page of rejections, newest first."""

    rejections: list[RejectionView]
    next: str | None


class Alive(View):
    """The process runs and its loop turns."""

    status: Literal["alive"]


class ReadinessView(View):
    """Whether the service takes events; each condition is true where it holds."""

    status: Literal["ready", "not ready"]
    conditions: dict[str, bool]


_LIMIT = Parameter("limit", Annotated[int, Field(ge=1, le=1000)], "How many at most; 100 without it.")
_READS = {
    401: problem(
        "Send one of `admin.viewer_tokens` or `admin.operator_tokens`.",
        *("unauthenticated", "bad_token"),
        headers={"WWW-Authenticate": "`Bearer`, with the realm."},
    ),
    403: problem("The listener has no tokens, and is asked for as another host.", "foreign_host"),
    503: problem("Redis does not answer.", "store_unavailable", headers=RETRY),
}
_BAD_QUERY = problem("A parameter is unknown or wrong; `errors` has all of them.", "bad_query", body=QueryProblem)

OPERATIONS = (
    Operation(
        path="/livez",
        name="getLiveness",
        access="open",
        summary="Is the process alive?",
        answers={200: Answer("It is.", Alive)},
    ),
    Operation(
        path="/readyz",
        name="getReadiness",
        access="open",
        summary="Does it take events?",
        answers={200: Answer("It does.", ReadinessView), 503: Answer("It does not.", ReadinessView)},
    ),
    Operation(
        path="/metrics",
        name="getMetrics",
        access="open",
        summary="Metrics, as Prometheus's text format",
        answers={200: Answer("The metrics.", media="text/plain")},
    ),
    Operation(
        path="/openapi.json",
        name="getDocument",
        access="viewer",
        summary="This document",
        answers={200: Answer("OpenAPI 3.1.", dict[str, Any]), 401: _READS[401], 403: _READS[403]},
    ),
    Operation(
        path="/v1/calls",
        name="listCalls",
        access="viewer",
        summary="Active calls, newest first",
        parameters=(
            Parameter("deviceId", AgentKey, "Calls of this device alone."),
            Parameter("extensionId", AgentKey, "Calls of this extension alone."),
            Parameter("direction", Direction, "Calls of this direction alone."),
            Parameter("state", ShownState, "Calls in this state alone."),
            _LIMIT,
            Parameter("cursor", str, "`next` of the page before."),
        ),
        answers={200: Answer("A page of calls.", CallList), 400: _BAD_QUERY, **_READS},
    ),
    Operation(
        path="/v1/calls/{deviceId}/{extensionId}",
        name="getPair",
        access="viewer",
        summary="An agent's active calls, newest first",
        parameters=(
            Parameter("deviceId", AgentKey, "The agent's device.", "path"),
            Parameter("extensionId", AgentKey, "The agent's extension.", "path"),
        ),
        answers={
            200: Answer("The calls.", CallList),
            404: problem("The agent has no active call, or these are no ids.", "no_active_call", "not_found"),
            **_READS,
        },
    ),
    Operation(
        path="/v1/calls/{callId}",
        name="getCall",
        access="viewer",
        summary="One call with its timeline",
        description="Active, or ended within `calls.ended_retention_s`.",
        parameters=(
            Parameter("callId", Annotated[str, Field(min_length=1)], "The exchange's id of the call.", "path"),
        ),
        answers={
            200: Answer("The call.", CallHistory),
            404: problem("No event of this call came, or it ended too long ago.", "unknown_call", "not_found"),
            **_READS,
        },
    ),
    Operation(
        path="/v1/rejections",
        name="listRejections",
        access="viewer",
        summary="Events that were refused, newest first",
        parameters=(_LIMIT, Parameter("cursor", str, "`next` of the page before.")),
        answers={200: Answer("A page of rejections.", RejectionList), 400: _BAD_QUERY, **_READS},
    ),
    Operation(
        path="/v1/callbacks",
        name="listCallbacks",
        access="viewer",
        summary="Cention's callbacks, newest first",
        parameters=(_LIMIT, Parameter("cursor", str, "`next` of the page before.")),
        answers={200: Answer("A page of callbacks.", CallbackList), 400: _BAD_QUERY, **_READS},
    ),
    Operation(
        path="/v1/callbacks/{callbackId}",
        name="getCallback",
        access="viewer",
        summary="One callback, for operators with Cention's document",
        parameters=(
            Parameter("callbackId", Annotated[str, Field(min_length=1)], "The bridge's id of the callback.", "path"),
        ),
        answers={
            200: Answer("The callback.", CallbackDocument),
            404: problem("No such callback came, or it is no longer kept.", "unknown_callback", "not_found"),
            **_READS,
        },
    ),
)

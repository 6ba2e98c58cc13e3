"""How a listener describes what it serves: operations as data, from which `bridge.openapi` makes the document.

Owns the words of a description and the JSON of a problem. Knows no operation. Not needed to serve: nothing that runs
before the first `GET /openapi.json` imports this.

Invariant: what is told here is OpenAPI 3.1's own vocabulary, and every body is described by the type that validates or
renders it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

JSON = "application/json"


def _never_null(schema: dict[str, Any]) -> None:
    schema.update(schema.pop("anyOf")[0])
    schema.pop("default", None)


_T = TypeVar("_T")
OrAbsent = Annotated[_T | None, Field(default=None, json_schema_extra=_never_null)]
"""A member that is left out where there is nothing to tell, and never null."""
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time as RFC 3339 has it, UTC."""


class View(BaseModel):
    """What an answer holds: snake_case here, camelCase in JSON."""

    model_config = ConfigDict(alias_generator=to_camel, field_title_generator=lambda name, _: to_camel(name))


class ProblemDocument(View):
    """An error, as RFC 9457 lays it out. Look at `status` and `code`; `detail` is for people."""

    type: str = Field(description="`urn:aventa-bridge:problem:` and the code.")
    title: str
    status: int
    code: str = Field(description="Stable; further ones may be added.")
    detail: str = Field(description="What is wrong and how to mend it.")


class EventFault(View):
    """One thing wrong with an event."""

    pointer: str = Field(description="Where, as a JSON Pointer; empty for the whole event.")
    code: str
    detail: str


class QueryFault(View):
    """One thing wrong with a query string."""

    parameter: str
    detail: str


class QueryProblem(ProblemDocument):
    """A query that cannot be answered, with all that is wrong with it."""

    errors: list[QueryFault]


@dataclass(frozen=True)
class Parameter:
    """A query or path parameter; `schema` is the type of its value."""

    name: str
    schema: Any
    description: str
    where: Literal["query", "path"] = "query"


@dataclass(frozen=True)
class Answer:
    """What one status means.

    Attributes:
        body: the type of the answer's JSON; None where it is not JSON.
        media: its media type.
        codes: of a problem, what `code` may be.
        headers: those that tell the caller something, and what.
    """

    description: str
    body: Any = None
    media: str = JSON
    codes: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


RETRY = {"Retry-After": "Seconds to wait."}


def problem(
    description: str,
    *codes: str,
    body: type[ProblemDocument] = ProblemDocument,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """An error, with what its `code` may be."""
    return Answer(description, body, "application/problem+json", codes, headers or {})


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Attributes:
        access: who may: everybody, who holds one of the intake's secrets, Cention, a viewer, or an operator.
        bodies: the type of the request's body by media type; empty where it has none.
    """

    path: str
    name: str
    summary: str
    answers: Mapping[int, Answer]
    access: Literal["open", "intake", "callback", "viewer", "operator"]
    method: Literal["get", "post"] = "get"
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    bodies: Mapping[str, Any] = field(default_factory=dict)


OF_EVERY_LISTENER = {
    400: problem(
        "Not HTTP as RFC 9112 has it, or its head is over a limit; the connection is closed.",
        "malformed_request",
        "unsupported_transfer_coding",
    ),
    417: problem("An `Expect` other than `100-continue`; the connection is closed.", "unsupported_expectation"),
    500: problem("A fault of the bridge; its log says more.", "internal_error"),
    503: problem("Every connection is at work.", "too_many_connections", headers=RETRY),
}
"""What may be answered before any operation is asked, or when one fails."""

"""The OpenAPI 3.1 document of both listeners, made from their operations and the pydantic models behind them.

Knows the listeners by their `operations` alone. Made once, when it is first asked for: a service that is never asked
does not pay for it.

Source: contract section 4, `GET /openapi.json`; OpenAPI Specification 3.1.0.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from bridge import __version__
from bridge.admin import operations as admin
from bridge.intake import operations as intake
from bridge.runtime.operations import OF_EVERY_LISTENER, Answer, Operation

_Schemas = dict[int, dict[str, Any]]
"""The schema of each type in use, by the type's identity: annotations cannot all be hashed."""

_SECURITY: Final[Mapping[str, list[dict[str, list[str]]]]] = {
    # An empty requirement: without configured secrets the listener is on loopback only, and open.
    "open": [],
    "intake": [{"intakeToken": []}, {"webhookId": [], "webhookTimestamp": [], "webhookSignature": []}, {}],
    # The secret stands in the body, for which OpenAPI has no scheme; without one, as for events.
    "callback": [{}, {"intakeToken": []}, {"webhookId": [], "webhookTimestamp": [], "webhookSignature": []}],
    "viewer": [{"viewerToken": []}, {"operatorToken": []}, {}],
    "operator": [{"operatorToken": []}, {}],
}
_SCHEMES: Final = {
    "intakeToken": {"type": "http", "scheme": "bearer", "description": "One of `intake.tokens`."},
    "webhookId": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-id",
        "description": "Standard Webhooks: an id of the message.",
    },
    "webhookTimestamp": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-timestamp",
        "description": "Now, in seconds since 1970-01-01T00:00:00Z; at most 300 s off.",
    },
    "webhookSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "`v1,` and the base64 of HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}`.",
    },
    "viewerToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "One of `admin.viewer_tokens`: reads, with numbers masked.",
    },
    "operatorToken": {"type": "http", "scheme": "bearer", "description": "One of `admin.operator_tokens`: everything."},
}
_LISTENERS: Final = (
    ("intake", intake.OPERATIONS, "http://127.0.0.1:8080", "Where call events come in."),
    ("admin", admin.OPERATIONS, "http://127.0.0.1:8081", "Probes, metrics, and the view of calls."),
)


@cache
def document_json() -> bytes:
    """The document as JSON."""
    return orjson.dumps(document())


def document() -> dict[str, Any]:
    """The document."""
    schemas, components = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for listener, operations, address, _ in _LISTENERS:
        server = {
            "url": "{listener}",
            "description": f"The {listener} listener.",
            "variables": {"listener": {"default": address, "description": f"`{listener}.host` and `{listener}.port`."}},
        }
        for operation in operations:
            path = paths.setdefault(operation.path, {"servers": [server]})
            path[operation.method] = _operation(operation, listener, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Aventa bridge",
            "summary": "Call events of an Aventa telephone exchange in, errands of the Cention Contact Center out.",
            "description": "Two listeners: events come in at one, people and monitoring look at the other.",
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": listener, "description": description} for listener, _, _, description in _LISTENERS],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }


def _operation(operation: Operation, listener: str, schemas: _Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [listener],
        "security": _SECURITY[operation.access],
        "responses": {
            str(status): _answer(answers, schemas) for status, answers in sorted(_answers(operation).items())
        },
    }
    if operation.description:
        found["description"] = operation.description
    if operation.parameters:
        found["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.where,
                "required": parameter.where == "path",
                "description": parameter.description,
                "schema": schemas[id(parameter.schema)],
            }
            for parameter in operation.parameters
        ]
    if operation.bodies:
        content = {media: {"schema": schemas[id(body)]} for media, body in operation.bodies.items()}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _answers(operation: Operation) -> dict[int, list[Answer]]:
    """All that a status can mean: what the operation says, then what any request of its listener can meet."""
    found = {status: [answer] for status, answer in operation.answers.items()}
    for status, answer in OF_EVERY_LISTENER.items():
        found.setdefault(status, []).append(answer)
    return found


def _answer(answers: list[Answer], schemas: _Schemas) -> dict[str, Any]:
    content: dict[str, dict[str, Any]] = {}
    for media in dict.fromkeys(answer.media for answer in answers):
        alternatives = [_body(answer, schemas) for answer in answers if answer.media == media]
        content[media] = {"schema": alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}}
    # Not "required": where one status has several meanings, only some of them may have the header.
    headers = {
        name: {"description": description, "schema": {"type": "string"}}
        for answer in answers
        for name, description in answer.headers.items()
    }
    told: dict[str, Any] = {"description": " Or: ".join(answer.description for answer in answers), "content": content}
    return told | ({"headers": headers} if headers else {})


def _body(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    if answer.body is None:
        return {"type": "string"}
    schema = schemas[id(answer.body)]
    return {**schema, "properties": {"code": {"enum": list(answer.codes)}}} if answer.codes else schema


def _types() -> Iterator[tuple[Any, JsonSchemaMode]]:
    for _, operations, _, _ in _LISTENERS:
        for operation in operations:
            for parameter in operation.parameters:
                yield parameter.schema, "validation"
            for body in operation.bodies.values():
                yield body, "validation"
            for answers in _answers(operation).values():
                for answer in answers:
                    if answer.body is not None:
                        yield answer.body, "serialization"


def _schemas() -> tuple[_Schemas, dict[str, Any]]:
    """The schema of every type in use, and the components they refer to."""
    types = {id(annotation): (annotation, mode) for annotation, mode in _types()}
    made, rest = TypeAdapter.json_schemas(
        [(key, mode, TypeAdapter(annotation)) for key, (annotation, mode) in types.items()],
        ref_template="#/components/schemas/{model}",
    )
    return {key: schema for (key, _), schema in made.items()}, rest.get("$defs", {})

"""What the sandbox refuses, and with which errors document. Pure.

As Cention does (notes on its API, "How the server behaves"): 406 for an unreadable body or a member of the wrong JSON
type; the resource's `type` is not looked at; 401 without a token that it knows, 403 for one without the claim.

Stricter than its documentation, to find our mistakes early: 415 for a content type with a parameter, 406 for an
`Accept` whose every JSON:API entry has one, 403 for a resource with an id (all three by JSON:API 1.0); and 406 for an
empty mandatory text, an `integrationName` other than `aventa`, a `destNumber` that is no MSISDN, an attachment
that is not base64, and a `watemplate` without the user in `answer`.
"""

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from bridge.cention.documents import MEDIA_TYPE, Document, EndObcall, NewErrand, Resource, faults_of, read_document
from bridge.cention.sandbox.faults import MATCHED

D = TypeVar("D", bound=Document)

_MSISDN = re.compile(r"[1-9][0-9]{0,14}")


class Refused(Exception):
    """A request that is answered with an errors document.

    Attributes:
        status: the HTTP status.
        errors: each fault's JSON Pointer into the request ("" for the whole) and what is wrong there.
    """

    def __init__(self, status: int, *errors: tuple[str, str]) -> None:
        super().__init__(f"{status}")
        self.status, self.errors = status, errors

    def document(self) -> dict[str, Any]:
        """The errors document. Source: JSON:API 1.0, "Error Objects"."""
        title = HTTPStatus(self.status).phrase
        return {
            "errors": [
                {
                    "status": str(self.status),
                    "title": title,
                    "detail": detail,
                    **({"source": {"pointer": pointer}} if pointer else {}),
                }
                for pointer, detail in self.errors
            ]
        }


def check_claim(claims: frozenset[str] | None, wanted: Sequence[str]) -> None:
    """Refuses a token that carries none of the claims `wanted`; None carries all.

    Raises:
        Refused: 403.
    """
    if claims is not None and claims.isdisjoint(wanted):
        raise Refused(403, ("", f"the token does not carry the claim {' or '.join(wanted)}"))


def check_negotiation(content_type: str | None, accept: list[str]) -> None:
    """Refuses what JSON:API 1.0, "Content Negotiation", "Server Responsibilities" refuses.

    Args:
        content_type: the header's value, "" where there is none; None: the request carries no document.
        accept: every value of every Accept header.

    Raises:
        Refused: 415 or 406.
    """
    if content_type is not None and content_type.strip().lower() != MEDIA_TYPE:
        raise Refused(415, ("", f"Content-Type must be exactly {MEDIA_TYPE}, without a parameter"))
    ours = [entry.strip().lower() for line in accept for entry in line.split(",") if MEDIA_TYPE in entry.lower()]
    if ours and MEDIA_TYPE not in ours:
        raise Refused(406, ("", f"Accept must hold {MEDIA_TYPE} once without a parameter"))


def checked(body: bytes, model: type[D]) -> D:
    """The attributes in `body`.

    Raises:
        Refused: 406 or 403, with every fault of the document.
    """
    return checked_resource(body, model).attributes


def checked_resource(body: bytes, model: type[D]) -> Resource[D]:
    """The resource in `body`, whose attributes are a `model`.

    Raises:
        Refused: as `checked`.
    """
    try:
        resource = read_document(body, model).data
    except ValidationError as error:
        raise refusal_of(error) from None
    if resource.id is not None:
        raise Refused(403, ("/data/id", "the server gives ids: leave it out"))
    if faults := list(_faults(resource.attributes)):
        raise Refused(406, *faults)
    return resource


def refusal_of(error: ValidationError, at: str = "") -> Refused:
    """The refusal of what stands at the JSON Pointer `at` and is not what a model wants: 406, with every fault."""
    return Refused(406, *((at + pointer, wanted) for pointer, wanted in faults_of(error)))


def facts_of(body: bytes) -> dict[str, Any]:
    """The members of `MATCHED` in `body`, as far as it can be read; for choosing a fault, not for the work."""
    try:
        attributes = orjson.loads(body)["data"]["attributes"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return {}
    if not isinstance(attributes, dict):
        return {}
    parts = [attributes, attributes.get("msg"), attributes.get("integrationData")]
    return {name: part[name] for part in parts if isinstance(part, dict) for name in MATCHED if name in part}


def _faults(attributes: Document) -> Iterator[tuple[str, str]]:
    match attributes:
        case NewErrand():
            yield from _new_errand(attributes)
        case EndObcall():
            yield from _integration(attributes.integration_name, "/data/attributes")


def _new_errand(new: NewErrand) -> Iterator[tuple[str, str]]:
    for index, attachment in enumerate((new.msg.attachments if new.msg is not None else None) or ()):
        try:
            attachment.decoded()
        except ValueError:
            yield f"/data/attributes/msg/attachments/{index}/content", "must be base64"
    if new.watemplate is not None and not (new.answer and new.answer.user_type and new.answer.user_id):
        yield "/data/attributes/answer", "a template needs an answer with user_type and user_id"
    if (data := new.integration_data) is not None:
        at = "/data/attributes/integrationData"
        yield from _integration(data.integration_name, at)
        if not _MSISDN.fullmatch(data.dest_number):
            yield f"{at}/destNumber", "must be an MSISDN: 1 to 15 digits, country code first"
        for name, value in (("queueName", data.queue_name), ("queueNumber", data.queue_number)):
            if not value:
                yield f"{at}/{name}", "is mandatory and must not be empty"


def _integration(name: str, at: str) -> Iterator[tuple[str, str]]:
    if name != "aventa":
        yield f"{at}/integrationName", "only the aventa integration is supported"

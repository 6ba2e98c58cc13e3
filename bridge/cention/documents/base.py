"""What every document of Cention's API shares: the JSON:API envelope, and the rules of reading and writing.

Invariants, for every model here and below:
- JSON types are strict: Cention's server is written in Go, where `"1000"`, `1000.0` and `true` are no integers, and
  answers 406 to each.
- A member that is absent stays absent. In what is sent, None means "not told" and is left out: no member of a request
  is documented as nullable.
- A member that no model names is kept, null or not, and written back: a document goes through its model and comes back
  an equal JSON value.
- An error's text never repeats a value, since values are people's names and numbers.

Source: JSON:API 1.0, "Document Structure"; Cention API, "Create Errand".
"""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Generic, ParamSpec, TypeVar, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

MEDIA_TYPE = "application/vnd.api+json"
"""Sent as it stands: a parameter such as charset earns 415. Source: JSON:API 1.0, "Content Negotiation"."""

JsonInteger = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""A JSON integer that the server's 64-bit integers can hold."""


class Document(BaseModel):
    """The base of whatever stands in a document."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="allow",
        populate_by_name=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    def to_json(self) -> bytes:
        """The document as JSON, UTF-8, without the members that were never set."""
        return self.model_dump_json(exclude_unset=True, by_alias=True).encode()


class Attributes(Document):
    """The base of what is sent: a declared member that is None counts as never set."""

    def model_post_init(self, _context: Any, /) -> None:
        # `exclude_none` at serialisation would be shorter, but it also drops a null among the unknown members.
        self.model_fields_set.difference_update([name for name, value in self.__dict__.items() if value is None])


A = TypeVar("A", bound=Document)
P = ParamSpec("P")


def unchecked(model: Callable[P, A]) -> Callable[P, A]:
    """Stands in for `model(...)` where what is filled in has the right types: gives a dict of what is sent of it.

    Typed as the model, so that mypy checks what is filled in, and that one fits into another; but all that can be done
    with what it gives is `orjson.dumps`. An errand takes a third of the time so that its models take.
    """
    assert isinstance(model, type), "a model is a class"
    assert issubclass(model, Attributes), "what is not None is sent"
    wire = {name: field.alias or name for name, field in model.model_fields.items()}

    def made(*_: P.args, **told: P.kwargs) -> dict[str, object]:
        return {wire[name]: value for name, value in told.items() if value is not None}

    return cast(Callable[P, A], made)


class Resource(Document, Generic[A]):
    """A resource object.

    Attributes:
        type: the resource's type.
        id: never sent on a create: the server then checks `type`, and ids are its own to give.
        attributes: the endpoint's document.
    """

    type: str
    id: str | None = None
    attributes: A


class Envelope(Document, Generic[A]):
    """The top of a document that carries one resource."""

    data: Resource[A]


class Found(Document, Generic[A]):
    """A resource object in an answer: what a create must have may be missing here.

    Attributes:
        id: a JSON string, by JSON:API; a number is taken too.
        attributes: None where the answer says no more than that the resource is there.
    """

    type: str | None = None
    id: str | int | None = None
    attributes: A | None = None


class Answered(Document, Generic[A]):
    """The top of an answer that carries one resource, or null for none."""

    data: Found[A] | None = None


def request_body(resource_type: str, attributes: Document | bytes) -> bytes:
    """The body of a POST: `attributes`, or its JSON, as the one resource of type `resource_type`, without an id.

    Source: JSON:API 1.0, "Creating Resources".
    """
    json = attributes if isinstance(attributes, bytes) else attributes.to_json()
    return b'{"data":{"type":%b,"attributes":%b}}' % (orjson.dumps(resource_type), json)


def read_document(body: bytes, attributes: type[A]) -> Envelope[A]:
    """The document in `body`, whose resource's attributes are an `attributes`.

    Raises:
        pydantic.ValidationError: `body` is no JSON, a mandatory member is missing, or one has the wrong JSON type.
    """
    return _envelope(attributes).model_validate_json(body)


def read_answer(body: bytes, attributes: type[A]) -> Answered[A]:
    """The document in `body`, an answer, whose resource's attributes are an `attributes` if it has any.

    Raises:
        pydantic.ValidationError: `body` is no JSON object, or a member that is there has the wrong JSON type.
    """
    return _answered(attributes).model_validate_json(body)


def faults_of(error: ValidationError) -> list[tuple[str, str]]:
    """What is wrong, without any value: where, as a JSON Pointer ("" for the whole), and what belongs there."""
    return [
        ("".join(f"/{step}" for step in each["loc"]), _said(each["type"], each["msg"]))
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def fault_lines(error: ValidationError) -> list[str]:
    """`faults_of` for people, a line each."""
    return [f"{pointer[1:]}: {wanted}" if pointer else wanted for pointer, wanted in faults_of(error)]


def _said(kind: str, message: str) -> str:
    # A list is a tuple in our models, and in nobody's JSON.
    words = {"tuple_type": "Input should be a valid list", "missing": "is missing", "extra_forbidden": "is not known"}
    return words.get(kind) or message.removeprefix("Value error, ")


@cache  # pydantic keeps a parametrised class only as long as somebody holds it, and building one takes a millisecond
def _envelope(attributes: type[A]) -> type[Envelope[A]]:
    return Envelope[attributes]  # type: ignore[valid-type] # a class at run time, where mypy wants one it can see


@cache
def _answered(attributes: type[A]) -> type[Answered[A]]:
    return Answered[attributes]  # type: ignore[valid-type] # as in `_envelope`

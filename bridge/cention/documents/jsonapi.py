"""Reading JSON:API documents of linked resources: one small layer below every part of the API that has them.

    body -> One or Many (the document) -> Linked (a resource) -> `related("questions", Question)`

A subclass of `Linked` says what a resource of one type carries. A resource knows the document that it was read in, so
its relationships lead to whatever is there: in `data` or `included`, in whichever order. They are followed when asked
for and not before, so resources may lead to each other in circles. What only sends, or reads one resource that leads
nowhere, needs no more than `base`.

Invariants:
- A document comes back equal: members that no model names are kept, null or not, and one that is absent stays absent.
- What JSON:API lets be missing may be missing or null here: lists, relationships and their data, links, attributes.
- A link is never followed, only shown: see `link`.
- Where a resource was read is no part of what it is: equal resources of different documents are equal.

Source: JSON:API 1.0, "Document Structure"; notes on Cention's API. docs/adr/0018-jsonapi-layer.md tells why it is ours.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Annotated, Any, ClassVar, Generic, TypeVar, Union

from pydantic import Discriminator, JsonValue, PrivateAttr, Tag

from bridge.cention.documents.base import Document, Found

Key = tuple[str, str]
"""A resource's type and id: what identifies it within a document."""

_OTHER = ""  # the tag of what no class was named for


class Identifier(Document):
    """What points at a resource.

    Attributes:
        id: a JSON string, by JSON:API; a number is taken too, and means the same.

    Source: JSON:API 1.0, "Resource Identifier Objects".
    """

    type: str
    id: str | int

    @property
    def key(self) -> Key:
        """What it identifies."""
        return self.type, str(self.id)


class Relationship(Document):
    """Where a resource leads by one name.

    Attributes:
        data: one identifier, several, or None: for none, or where the document does not tell.

    Source: JSON:API 1.0, "Relationships".
    """

    data: Identifier | tuple[Identifier, ...] | None = None
    links: dict[str, JsonValue] | None = None

    @property
    def identifiers(self) -> tuple[Identifier, ...]:
        """What it leads to, none, one or many, in the server's order."""
        return () if self.data is None else (self.data,) if isinstance(self.data, Identifier) else self.data


class ErrorObject(Document):
    """One thing that is wrong, in an errors document. Nothing in it is relied on.

    Attributes:
        status: the HTTP status as a JSON string; Cention's framework sometimes puts words there, others a number.

    Source: JSON:API 1.0, "Error Objects".
    """

    title: JsonValue = None
    detail: JsonValue = None
    status: JsonValue = None
    code: JsonValue = None
    source: JsonValue = None


class Whereabouts:
    """The resources of the document that a resource was read in.

    All are equal, so that a comparison of two resources compares what they say, and does not go round in circles.
    """

    __slots__ = ("_resources",)
    __hash__ = None  # type: ignore[assignment] # as for any class whose instances are equal without being the same

    def __init__(self, resources: Mapping[Key, "Linked[Any]"] | None = None) -> None:
        self._resources = resources or {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Whereabouts)

    def get(self, key: Key) -> "Linked[Any] | None":
        """The resource with this type and id, or None where the document does not carry it."""
        return self._resources.get(key)


A = TypeVar("A", bound=Document)
L = TypeVar("L", bound="Linked[Any]")
Kind = type[L]
"""A class of resources. Where one is asked for inside of a class whose member is called `type`, the word is taken."""


class Linked(Found[A]):
    """A resource object that may lead to others.

    Attributes:
        TYPE: the type of the resources that a subclass is for.

    Source: JSON:API 1.0, "Resource Objects".
    """

    TYPE: ClassVar[str] = _OTHER

    relationships: dict[str, Relationship | None] | None = None
    links: dict[str, JsonValue] | None = None

    _whereabouts: Whereabouts = PrivateAttr(default_factory=Whereabouts)

    @property
    def key(self) -> Key | None:
        """Its type and id; None where one is missing, so that nothing can lead here."""
        return None if self.type is None or self.id is None else (self.type, str(self.id))

    def identifiers(self, name: str) -> tuple[Identifier, ...]:
        """What the relationship `name` leads to, whether the document carries it or not."""
        relationship = (self.relationships or {}).get(name)
        return () if relationship is None else relationship.identifiers

    def related(self, name: str, kind: Kind[L]) -> tuple[L, ...]:
        """Those of the relationship `name` that are a `kind` and that the document carries, in the server's order."""
        found = (self._whereabouts.get(identifier.key) for identifier in self.identifiers(name))
        return tuple(resource for resource in found if isinstance(resource, kind))

    def reachable(self, kind: Kind[L]) -> tuple[L, ...]:
        """Every `kind` that relationships lead to from here, directly or by others: each once, the nearest first."""
        seen, waiting = {self.key}, deque[Linked[Any]]([self])
        found: list[L] = []
        while waiting:
            resource = waiting.popleft()
            for name in resource.relationships or ():
                for other in resource.related(name, Linked):
                    if other.key not in seen:
                        seen.add(other.key)
                        waiting.append(other)
                        if isinstance(other, kind):
                            found.append(other)
        return tuple(found)

    def link(self, name: str = "self") -> str | None:
        """The URL of the link `name`; to be shown, not followed: a document may name any host."""
        return href((self.links or {}).get(name))


def href(link: JsonValue) -> str | None:
    """The URL of a link, which is a string or an object with `href`; None where it is neither.

    Source: JSON:API 1.0, "Links".
    """
    url = link.get("href") if isinstance(link, dict) else link
    return url if isinstance(url, str) else None


I = TypeVar("I", bound="Linked[Any]")  # noqa: E741 # a type's name, where there is no mistaking it for a number


class Top(Document, Generic[I]):
    """What stands at the top of any document that is read.

    Attributes:
        included: resources that `data` leads to, in no order.
        errors: None in a document that carries what was asked for.
        meta: whatever the server likes to add.
    """

    included: tuple[I, ...] | None = None
    errors: tuple[ErrorObject, ...] | None = None
    links: dict[str, JsonValue] | None = None
    meta: JsonValue = None

    def model_post_init(self, _context: Any, /) -> None:
        resources: dict[Key, Linked[Any]] = {}
        for resource in self:
            if resource.key is not None:
                resources.setdefault(resource.key, resource)
        whereabouts = Whereabouts(resources)
        for resource in self:
            resource._whereabouts = whereabouts

    def __iter__(self) -> Iterator[Linked[Any]]:  # type: ignore[override] # pydantic's goes over members
        """Every resource of the document, those of `data` first."""
        return chain(self.resources, self.included or ())

    @property
    def resources(self) -> tuple[Linked[Any], ...]:
        """Those of `data`."""
        return ()


class One(Top[I], Generic[L, I]):
    """A document that carries one resource, or null for none."""

    data: L | None = None

    @property
    def resources(self) -> tuple[L, ...]:
        """The one of `data`, if any."""
        return () if self.data is None else (self.data,)


class Many(Top[I], Generic[L, I]):
    """A document that carries a list of resources, or null for an empty one."""

    data: tuple[L, ...] | None = None

    @property
    def resources(self) -> tuple[L, ...]:
        """Those of `data`, in the server's order."""
        return self.data or ()


def read_one(body: bytes, kind: type[L], among: Iterable[type[Linked[Any]]] = ()) -> One[L, Linked[Any]]:
    """The document in `body`, whose `data` is one `kind`.

    Args:
        body: JSON, UTF-8.
        kind: what `data` is read as, whatever type it says it has.
        among: what resources in `included` are read as, each by its `TYPE`; others are a plain `Linked`.

    Raises:
        pydantic.ValidationError: `body` is no JSON:API document with one resource.
    """
    return _one(kind, frozenset(among)).model_validate_json(body)


def read_many(body: bytes, kind: type[L], among: Iterable[type[Linked[Any]]] = ()) -> Many[L, Linked[Any]]:
    """The document in `body`, whose `data` is a list of `kind`: as `read_one`.

    Raises:
        pydantic.ValidationError: `body` is no JSON:API document with a list of resources.
    """
    return _many(kind, frozenset(among)).model_validate_json(body)


Kinds = frozenset[type[Linked[Any]]]

_ONE: Any = One  # given their parameters at run time, which a type checker cannot follow
_MANY: Any = Many


@cache  # as in `base`
def _one(kind: type[L], among: Kinds) -> type[One[L, Linked[Any]]]:
    made: type[One[L, Linked[Any]]] = _ONE[kind, _any_of(among)]
    return made


@cache
def _many(kind: type[L], among: Kinds) -> type[Many[L, Linked[Any]]]:
    made: type[Many[L, Linked[Any]]] = _MANY[kind, _any_of(among)]
    return made


@cache
def _any_of(among: Kinds) -> Any:
    """The type of a resource that is read by what its `type` says."""
    by_type = {kind.TYPE: kind for kind in sorted(among, key=lambda kind: kind.TYPE)}

    def tag(value: Any) -> str:
        named = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
        return named if isinstance(named, str) and named in by_type else _OTHER

    if not by_type:
        return Linked[Document]
    kinds = [*by_type.items(), (_OTHER, Linked[Document])]
    tagged = tuple(Annotated[kind, Tag(name)] for name, kind in kinds)
    return Annotated[Union[tagged], Discriminator(tag)]  # noqa: UP007 # made at run time

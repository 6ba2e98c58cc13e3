"""What JSON:API 1.0 demands of a document, as a check written from the specification: faults, each with its place.

Knows no document of Cention's. The rules are the specification's MUSTs about a document's structure; what it says about
servers, URLs and processing is not here. Each rule names its section of "Document Structure", or the section itself.

Source: JSON:API 1.0, https://jsonapi.org/format/1.0/.
"""

from collections.abc import Iterator
from typing import Any

Fault = str
"""A JSON Pointer, and what is wrong there."""

_TOP = frozenset(["data", "errors", "meta", "jsonapi", "links", "included"])
_RESOURCE = frozenset(["id", "type", "attributes", "relationships", "links", "meta"])
_IDENTIFIER = frozenset(["id", "type", "meta"])
_RELATIONSHIP = frozenset(["links", "data", "meta"])
_LINK = frozenset(["href", "meta"])
_ERROR = frozenset(["id", "links", "status", "code", "title", "detail", "source", "meta"])
_PAGES = frozenset(["first", "last", "prev", "next"])

_RESERVED = frozenset("+,.[]!\"#$%&'()*/:;<=>?@\\^`{|}~\x7f") | frozenset(map(chr, range(0x20)))
_INNER_ONLY = frozenset("-_ ")


def faults(document: Any, *, creating: bool = False) -> list[Fault]:
    """Everything that JSON:API 1.0 forbids in `document`; empty where it is valid.

    Args:
        document: as `json.loads` gives it.
        creating: whether a client sends it to have a resource created: its `data` is one resource, which may lack `id`.
    """
    return list(_document(document, creating))


def _document(document: Any, creating: bool) -> Iterator[Fault]:
    if not isinstance(document, dict):  # "Top Level": a JSON object MUST be at the root
        yield "/: is no object"
        return
    yield from _only(document, _TOP, "")
    if not document.keys() & {"data", "errors", "meta"}:
        yield "/: has none of data, errors, meta"
    if "data" in document and "errors" in document:
        yield "/: has both data and errors"
    if "included" in document and "data" not in document:
        yield "/included: must not be where data is not"
    if "data" in document:
        yield from _data(document["data"], creating)
    elif creating:  # "Creating Resources": MUST include a single resource object as primary data
        yield "/data: must be one resource"
    if "errors" in document:
        yield from _errors(document["errors"])
    if "jsonapi" in document:
        yield from _jsonapi(document["jsonapi"])
    yield from _links(document, "")
    yield from _meta(document, "")
    if "included" in document and "data" in document:
        yield from _included(document)
    yield from _names(document, "")


def _data(data: Any, creating: bool) -> Iterator[Fault]:
    if isinstance(data, dict):
        yield from _resource(data, "/data", creating=creating)
    elif creating:
        yield "/data: must be one resource"
    elif isinstance(data, list):
        for place, resource in enumerate(data):
            yield from _resource(resource, f"/data/{place}")
    elif data is not None:
        yield "/data: is no resource, no list of them, and not null"


def _resource(resource: Any, at: str, *, creating: bool = False) -> Iterator[Fault]:
    """ "Resource Objects"."""
    if not isinstance(resource, dict):
        yield f"{at}: is no object"
        return
    yield from _only(resource, _RESOURCE, at)
    yield from _identity(resource, at, id_optional=creating)
    attributes, relationships = resource.get("attributes", {}), resource.get("relationships", {})
    if not isinstance(attributes, dict):
        yield f"{at}/attributes: is no object"
    else:
        yield from _fields(attributes, f"{at}/attributes")
        for name, value in attributes.items():
            yield from _attribute(value, f"{at}/attributes/{_pointed(name)}")
    if not isinstance(relationships, dict):
        yield f"{at}/relationships: is no object"
    else:
        yield from _fields(relationships, f"{at}/relationships")
        for name, value in relationships.items():
            yield from _relationship(value, f"{at}/relationships/{_pointed(name)}")
    if isinstance(attributes, dict) and isinstance(relationships, dict):
        for name in sorted(attributes.keys() & relationships.keys()):  # "Fields": a common namespace
            yield f"{at}: {name} is both an attribute and a relationship"
    yield from _links(resource, at)
    yield from _meta(resource, at)


def _identity(resource: dict[str, Any], at: str, *, id_optional: bool = False) -> Iterator[Fault]:
    """ "Identification": the values of the id and type members MUST be strings."""
    for name in ("type", "id"):
        if name not in resource:
            if not (name == "id" and id_optional):
                yield f"{at}/{name}: is missing"
        elif not isinstance(resource[name], str):
            yield f"{at}/{name}: is no string"
    if isinstance(kind := resource.get("type"), str) and not _is_name(kind):
        yield f"{at}/type: is no member name"


def _fields(fields: dict[str, Any], at: str) -> Iterator[Fault]:
    """ "Fields": a resource can not have an attribute or relationship named type or id."""
    for name in ("type", "id"):
        if name in fields:
            yield f"{at}/{name}: must not be a field's name"


def _attribute(value: Any, at: str) -> Iterator[Fault]:
    """ "Attributes": an object that constitutes or is contained in one must reserve relationships and links."""
    if isinstance(value, dict):
        for name in ("relationships", "links"):
            if name in value:
                yield f"{at}/{name}: must not stand within an attribute"
        for name, inner in value.items():
            yield from _attribute(inner, f"{at}/{_pointed(name)}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _attribute(inner, f"{at}/{place}")


def _relationship(relationship: Any, at: str) -> Iterator[Fault]:
    """ "Relationships", "Resource Linkage"."""
    if not isinstance(relationship, dict):
        yield f"{at}: is no object"
        return
    yield from _only(relationship, _RELATIONSHIP, at)
    if not relationship.keys() & _RELATIONSHIP:
        yield f"{at}: has none of links, data, meta"
    if "links" in relationship:
        yield from _links(relationship, at)
        links = relationship["links"]
        if isinstance(links, dict) and not links.keys() & {"self", "related"}:
            yield f"{at}/links: has neither self nor related"
    match relationship.get("data"):
        case None:
            pass
        case dict() as identifier:
            yield from _identifier(identifier, f"{at}/data")
        case list() as identifiers:
            for place, identifier in enumerate(identifiers):
                yield from _identifier(identifier, f"{at}/data/{place}")
        case _:
            yield f"{at}/data: is no identifier, no list of them, and not null"
    yield from _meta(relationship, at)


def _identifier(identifier: Any, at: str) -> Iterator[Fault]:
    """ "Resource Identifier Objects"."""
    if not isinstance(identifier, dict):
        yield f"{at}: is no object"
        return
    yield from _only(identifier, _IDENTIFIER, at)
    yield from _identity(identifier, at)
    yield from _meta(identifier, at)


def _links(holder: dict[str, Any], at: str) -> Iterator[Fault]:
    """ "Links": each a string, or an object with href; null for a page that is not there ("Pagination")."""
    if "links" not in holder:
        return
    links = holder["links"]
    if not isinstance(links, dict):
        yield f"{at}/links: is no object"
        return
    for name, link in links.items():
        place = f"{at}/links/{_pointed(name)}"
        if isinstance(link, dict):
            yield from _only(link, _LINK, place)
            if not isinstance(link.get("href"), str):
                yield f"{place}/href: is no string"
            yield from _meta(link, place)
        elif not (isinstance(link, str) or (link is None and name in _PAGES)):
            yield f"{place}: is no URL and no link object"


def _meta(holder: dict[str, Any], at: str) -> Iterator[Fault]:
    """ "Meta Information": the value of each meta member MUST be an object."""
    if "meta" in holder and not isinstance(holder["meta"], dict):
        yield f"{at}/meta: is no object"


def _jsonapi(told: Any) -> Iterator[Fault]:
    """ "JSON API Object"."""
    if not isinstance(told, dict):
        yield "/jsonapi: is no object"
        return
    yield from _only(told, frozenset(["version", "meta"]), "/jsonapi")
    if not isinstance(told.get("version", ""), str):
        yield "/jsonapi/version: is no string"
    yield from _meta(told, "/jsonapi")


def _errors(errors: Any) -> Iterator[Fault]:
    """ "Error Objects"."""
    if not isinstance(errors, list):
        yield "/errors: is no list"
        return
    for place, error in enumerate(errors):
        at = f"/errors/{place}"
        if not isinstance(error, dict):
            yield f"{at}: is no object"
            continue
        yield from _only(error, _ERROR, at)
        for name in ("status", "code", "title", "detail"):
            if not isinstance(error.get(name, ""), str):
                yield f"{at}/{name}: is no string"
        if not isinstance(error.get("source", {}), dict):
            yield f"{at}/source: is no object"
        yield from _links(error, at)
        yield from _meta(error, at)


def _included(document: dict[str, Any]) -> Iterator[Fault]:
    """ "Compound Documents": each resource once, and each reachable from primary data ("full linkage")."""
    included = document["included"]
    if not isinstance(included, list):
        yield "/included: is no list"
        return
    for place, resource in enumerate(included):
        yield from _resource(resource, f"/included/{place}")
    primary = document["data"] if isinstance(document["data"], list) else [document["data"]]
    seen: set[tuple[str, str]] = set()
    for place, resource in enumerate([*primary, *included]):
        if (key := _key(resource)) is not None:
            if key in seen:
                yield f"{_place_of(place, len(primary))}: is there more than once"
            seen.add(key)
    by_key = {key: resource for resource in included if (key := _key(resource)) is not None}
    reached: set[tuple[str, str]] = set()
    waiting = [*primary]
    while waiting:
        for key in _leads_to(waiting.pop()):
            if key in by_key and key not in reached:
                reached.add(key)
                waiting.append(by_key[key])
    for place, resource in enumerate(included):
        if (key := _key(resource)) is not None and key not in reached:
            yield f"/included/{place}: nothing leads to it"


def _place_of(place: int, primary: int) -> str:
    return f"/data/{place}" if place < primary else f"/included/{place - primary}"


def _key(resource: Any) -> tuple[str, str] | None:
    if not isinstance(resource, dict):
        return None
    kind, number = resource.get("type"), resource.get("id")
    return (kind, number) if isinstance(kind, str) and isinstance(number, str) else None


def _leads_to(resource: Any) -> Iterator[tuple[str, str]]:
    relationships = resource.get("relationships") if isinstance(resource, dict) else None
    for relationship in relationships.values() if isinstance(relationships, dict) else ():
        data = relationship.get("data") if isinstance(relationship, dict) else None
        for identifier in data if isinstance(data, list) else [data]:
            if (key := _key(identifier)) is not None:
                yield key


def _only(found: dict[str, Any], allowed: frozenset[str], at: str) -> Iterator[Fault]:
    """ "Document Structure": objects defined there MUST NOT contain any additional members."""
    for name in found:
        if name not in allowed:
            yield f"{at}/{_pointed(name)}: is no member of its object"


def _names(value: Any, at: str) -> Iterator[Fault]:
    """ "Member Names", everywhere."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if not _is_name(name):
                yield f"{at}/{_pointed(name)}: is no member name"
            yield from _names(inner, f"{at}/{_pointed(name)}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _names(inner, f"{at}/{place}")


def _is_name(name: str) -> bool:
    return bool(name) and not _RESERVED & set(name) and name[0] not in _INNER_ONLY and name[-1] not in _INNER_ONLY


def _pointed(name: str) -> str:
    """RFC 6901 section 3."""
    return name.replace("~", "~0").replace("/", "~1")

"""A request that passed the checks, what serves it, and the answer's form: what the parts of the sandbox share.

Knows no part. Invariant: whatever a part answers is a whole JSON:API document, or nothing, or not JSON:API by its own
word (`Served.json_api`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson
from aiohttp import hdrs, web

from bridge.cention.documents import MEDIA_TYPE
from bridge.cention.sandbox.checks import Refused

CLAIMS = ("create_errand", "errand_data", "contacts", "library", "export", "attachment", "logio")
"""What a token may be good for, by the names of `cention.tokens`. Source: Cention API, each part's first lines."""

_BOOLEANS = {**dict.fromkeys(("1", "t", "true"), True), **dict.fromkeys(("0", "f", "false", ""), False)}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that passed the checks.

    Attributes:
        body: of a POST.
        id: what stands for `{id}` in the path, or "".
        query: the parameters, the first of each name.
        cut: whether a fault rule will cut the answer off.
    """

    body: bytes = b""
    id: str = ""
    query: Mapping[str, str] | None = None
    cut: bool = False

    @property
    def number(self) -> int:
        """The id as a database id; -1, which nothing has, where it is none."""
        return int(self.id) if self.id.isascii() and self.id.isdigit() and len(self.id) <= 18 else -1

    def text(self, name: str) -> str:
        """The query's parameter `name`, or ""."""
        return (self.query or {}).get(name, "")

    def flag(self, name: str) -> bool:
        """The query's parameter `name` as a boolean; false where it is absent.

        Raises:
            Refused: 400, it is neither.
        """
        value = _BOOLEANS.get(self.text(name).lower())
        if value is None:
            raise Refused(400, ("", f"{name} must be true or false"))
        return value


Work = Callable[[Asked], web.Response]


@dataclass(frozen=True, slots=True)
class Served:
    """One endpoint with one method.

    Attributes:
        method: `GET` or `POST`.
        path: below `/s/<workspace>/capi/`, with `{id}` where an id stands.
        claims: of which the token must carry one.
        work: what is done, in one step without awaiting.
        json_api: whether request and answer are JSON:API's.
    """

    method: str
    path: str
    claims: tuple[str, ...]
    work: Work
    json_api: bool = True

    @property
    def endpoint(self) -> str:
        """The name that fault rules know it by, such as `c3_libraries`."""
        return self.path.split("/")[1]


def document(content: object, status: int = 200) -> web.Response:
    """A JSON:API document as an answer."""
    return web.Response(body=orjson.dumps(content), status=status, headers={hdrs.CONTENT_TYPE: MEDIA_TYPE})


def created(resource: Mapping[str, object]) -> web.Response:
    """The answer to a create: 201, with the malformed `Location` that the real server sends.

    Two slashes where one is meant, and no host: nobody should follow it.
    """
    response = document({"data": resource}, 201)
    response.headers[hdrs.LOCATION] = f"//capi/json//{resource['type']}/{resource['id']}"
    return response


def not_found(what: str) -> Refused:
    """The refusal of an id that nothing here has."""
    return Refused(404, ("", f"there is no {what} with this id"))

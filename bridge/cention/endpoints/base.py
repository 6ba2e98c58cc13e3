"""What the parts of the client share: where an endpoint is, and how a document that was asked for is read.

Invariant: the text of a failure says where a document is not as documented, and never what stood there, since values
are people's names and numbers.
"""

from typing import TypeVar

from pydantic import ValidationError

from bridge.cention.answer import Answer
from bridge.cention.documents import Document, read_answer
from bridge.cention.outcome import Failure, Fetched, Rejected
from bridge.cention.transport import Transport

D = TypeVar("D", bound=Document)


class Endpoint:
    """The base of each part of the client."""

    base_url: str
    """`http(s)://<host>/s/<workspace>`."""
    _transport: Transport

    def _url(self, endpoint: str) -> str:
        return f"{self.base_url}/capi/json/{endpoint}"

    async def _read(self, url: str, token: str, attributes: type[D]) -> Fetched[D | None] | Failure:
        """GETs the one resource at `url`; None where the answer carries no attributes."""
        answer = await self._transport.get(url, token)
        if not isinstance(answer, Answer):
            return answer
        try:
            data = read_answer(answer.body, attributes).data
        except ValidationError as error:
            return not_as_documented(answer.status, error)
        return Fetched(None if data is None else data.attributes, answer.status)


def not_as_documented(status: int, error: ValidationError) -> Rejected:
    """The failure of an answer that is no document of the kind that was asked for."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = "/".join(map(str, first["loc"])) or "the document"
    return Rejected(status, f"not the document that is documented: {place}: {first['msg']}")

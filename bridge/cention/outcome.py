"""What became of one attempt at Cention, as a value: the client returns one and raises none.

| what happened | outcome |
|---|---|
| 2xx, even when its body is cut off or unreadable: the status line says that the work is done | `Delivered` |
| 401, 403 | `Unauthorised` |
| 400, 404, 406, 409, 415, 422, any other 4xx; a 2xx that carries an errors document and no data | `Rejected` |
| 408, 425, 429, 5xx | `TryLater`, with Retry-After where the server sent one |
| 1xx, 3xx, beyond 599; a 2xx that is a web page | `TryLater`: something between us and Cention answered |
| refused, unresolved, TLS failed, timed out: before a byte of the request was written | `TryLater` |
| reset, disconnected, timed out, or no HTTP in the answer, after writing began | `Unknown` |

What is read (GET) comes back as `Fetched` with its document, or as one of the failures above. There, a body that is cut
off is `Unknown`, since a document that is not whole is none; one that is whole and is not what is documented, or is
longer than is read, is `Rejected`.

A redirect is a fault of configuration, or of a proxy: it is never followed, and it must not park what a mended setting
would deliver. Pure; what to do about an outcome is `bridge.delivery`'s to decide.

Every `reason` is one line of at most 300 characters that never repeats what was sent (see `words`), so it may be
logged and shown. Source: notes on Cention's API, "How the server behaves"; RFC 9110 section 15; RFC 6585 section 4.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar


@dataclass(frozen=True, slots=True)
class Delivered:
    """Cention took it.

    Attributes:
        status: the HTTP status, 2xx.
        errand_id: the new errand's id, from a create alone, and only where the answer could be read.
        found: whether an earlier attempt had been carried out, and this one found that and sent nothing.
    """

    status: int
    errand_id: str | None = None
    found: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Cention will not take it, however often it is asked.

    Attributes:
        status: the HTTP status, or None where there was nothing fit to be sent.
    """

    status: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class TryLater:
    """Nothing was done; the same again may succeed.

    Attributes:
        status: the HTTP status, or None where no answer came.
        retry_after_s: seconds that the server asks to wait, at least 0; None where it asks for nothing.
    """

    reason: str
    status: int | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request was written, wholly or in part, and the answer was lost: it may have been done."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unauthorised:
    """The token is not accepted: nothing that carries it can be delivered."""

    status: int
    reason: str


Failure = Rejected | TryLater | Unknown | Unauthorised
"""What became of an attempt that did not come to its end."""

Outcome = Delivered | Failure
"""What became of an attempt to have something done."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fetched(Generic[T]):
    """Cention answered what was asked.

    Attributes:
        value: what it says.
        status: the HTTP status, 2xx.
    """

    value: T
    status: int = 200

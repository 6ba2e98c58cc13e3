"""What Cention posts to us when something happens to an errand: the callback document, and which files it speaks of.

Reading alone; who receives callbacks, checks the secret and fetches the files is not known here.

Invariants:
- Whatever the event, a callback that is a JSON:API document is read: event ids beyond 1 are not documented, and an
  attribute that is not as documented must not lose the rest. `answered_errand` alone insists on the documented types.
- A link is never followed, and never needed: in the documentation's sample it names another host and lacks the
  workspace. What is fetched is told by type and id, and an id that is no number is none.
- The secret shows in no repr; `to_json` writes it, `without_secret` is the callback fit to be kept or passed on.

Source: Cention API, "Cention Callback API".
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Self

from pydantic import JsonValue, PlainSerializer, SecretStr

from bridge.cention.documents.attachments import AREA_ARCHIVES, RESPONSE_ATTACHMENTS
from bridge.cention.documents.base import Document, JsonInteger
from bridge.cention.documents.jsonapi import Key, Linked, One

CALLBACK_ANSWER_ERRANDS = "c3_callback_answer_errands"
"""Resource type of a callback. Source: Cention API, "Cention Callback API"."""
ANSWER_ERRANDS = "c3_answer_errands"
"""Resource type of the answered errand. Source: Cention API, "Cention Callback API", `included`."""

EVENT_ANSWER_ERRAND: Final = 1
"""The one event that is documented. Source: Cention API, "Cention Callback API", `event`."""

_ID = re.compile(r"[0-9]{1,19}")  # a 64-bit database id; anything else could leave the endpoint's path

_RevealedSecret = Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value, return_type=str, when_used="json")]


class AnswerRecipient(Document):
    """Whom an answer was sent to.

    Source: Cention API, "Cention Callback API", `answer.response.to`.
    """

    c3_id: JsonInteger | None = None
    email_address: str | None = None
    name: str | None = None


class AnswerResponse(Document):
    """What was answered. `body` and `html_body` are text in the sample, and an object in the table: either is read.

    Source: Cention API, "Cention Callback API", `answer.response`.
    """

    c3_id: JsonInteger | None = None
    subject: str | None = None
    body: str | dict[str, JsonValue] | None = None
    html_body: str | dict[str, JsonValue] | None = None
    """Refers to its embedded images and attachments by `cid:`, see `CallbackFile.content_id`."""
    to: tuple[AnswerRecipient, ...] | None = None


class AgentAnswer(Document):
    """Source: Cention API, "Cention Callback API", `answer`."""

    c3_id: JsonInteger | None = None
    response: AnswerResponse | None = None


class AnswerService(Document):
    """The channel that the errand came by.

    Source: Cention API, "Cention Callback API", `service`.
    """

    c3_id: JsonInteger | None = None
    name: str | None = None
    type: JsonInteger | None = None


class AnsweredErrand(Document):
    """The attributes of a `c3_answer_errands`.

    Source: Cention API, "Cention Callback API", `included`.
    """

    c3_id: JsonInteger | None = None
    """The errand's database id."""
    answer: AgentAnswer | None = None
    service: AnswerService | None = None

    @property
    def response(self) -> AnswerResponse:
        """What was answered; all None where the errand has none."""
        response = self.answer.response if self.answer is not None else None
        return AnswerResponse() if response is None else response


class CallbackMeta(Document):
    """Source: Cention API, "Cention Callback API", `meta`."""

    api_secret: _RevealedSecret | None = None
    """What stands in the callback setting's field "Secret Key"; absent where that is empty."""


@dataclass(frozen=True, slots=True)
class CallbackFile:
    """A file that a callback speaks of, and that is to be fetched by type and id.

    Attributes:
        type: `c3_response_attachments` or `c3_area_archives`.
        id: the file's database id, digits alone.
    """

    type: str
    id: int

    @property
    def embedded(self) -> bool:
        """Whether it is an image inside the answer's HTML."""
        return self.type == AREA_ARCHIVES

    @property
    def content_id(self) -> str:
        """What the answer's HTML calls it after `cid:`. Source: Cention API, "Cention Callback API", the sample."""
        return str(self.id) if self.embedded else f"attachment_{self.id}"

    def url(self, base_url: str) -> str:
        """Where it is fetched.

        Args:
            base_url: the configured `https://<host>/s/<workspace>`, without a closing slash.
        """
        return f"{base_url}/capi/json/{self.type}/{self.id}"


class Callback(One[Linked[Document], Linked[Document]]):
    """The document that Cention posts.

    Attributes:
        data: what happened, and by its relationships to which errand.
        included: the errand, and the files of the answer.

    Source: Cention API, "Cention Callback API".
    """

    data: Linked[Document]
    meta: CallbackMeta | None = None  # type: ignore[assignment] # elsewhere anything may stand in it

    @property
    def event(self) -> int | None:
        """What happened: `EVENT_ANSWER_ERRAND`, or an id that is not documented; None where it tells none."""
        event = _members(self.data).get("event")
        return event if isinstance(event, int) and not isinstance(event, bool) else None

    @property
    def secret(self) -> SecretStr | None:
        """What the sender takes for our secret; None where it sent none."""
        return None if self.meta is None else self.meta.api_secret

    @property
    def errand_id(self) -> int | None:
        """The id of the errand that it is about; None where it tells none."""
        told = [each.id for each in self.data.identifiers("errand") if each.type == ANSWER_ERRANDS]
        numbers = (_number(each) for each in (*told, *(errand.id for errand in self._errands())))
        return next((number for number in numbers if number is not None), None)

    def answered_errand(self) -> AnsweredErrand | None:
        """The answered errand; None where the callback includes none.

        Raises:
            pydantic.ValidationError: a member of it has another JSON type than is documented.
        """
        for errand in self._errands():
            if _number(errand.id) == self.errand_id:
                attributes = b"{}" if errand.attributes is None else errand.attributes.to_json()
                return AnsweredErrand.model_validate_json(attributes)
        return None

    def files(self) -> tuple[CallbackFile, ...]:
        """What is to be fetched: the errand's attachments, its embedded images, then whatever else is included.

        Each once; whether a file is included, and whether with links, makes no difference. An id that is no number is
        left out: Cention has no such file, and it could lead elsewhere.
        """
        return tuple(dict.fromkeys(self._files()))

    def without_secret(self) -> Self:
        """The callback as it came, but for the secret."""
        if self.meta is None:
            return self
        kept = self.meta.model_copy(update={"api_secret": None})
        kept.model_fields_set.discard("api_secret")
        return self.model_copy(update={"meta": kept})

    def _errands(self) -> tuple[Linked[Document], ...]:
        return tuple(resource for resource in self.included or () if resource.type == ANSWER_ERRANDS)

    def _files(self) -> Iterator[CallbackFile]:
        for name in ("attachments", "embedded_archives"):
            for resource in (self.data, *self._errands()):
                yield from _files_of(each.key for each in resource.identifiers(name))
        yield from _files_of(resource.key for resource in self.included or () if resource.key is not None)


def read_callback(body: bytes) -> Callback:
    """The callback in `body`.

    Raises:
        pydantic.ValidationError: `body` is no JSON:API document with a resource in `data`.
    """
    return Callback.model_validate_json(body)


def _members(resource: Linked[Document]) -> dict[str, JsonValue]:
    return {} if resource.attributes is None else resource.attributes.model_extra or {}


def _files_of(keys: Iterable[Key]) -> Iterator[CallbackFile]:
    for kind, text in keys:
        number = _number(text)
        if kind in (RESPONSE_ATTACHMENTS, AREA_ARCHIVES) and number is not None:
            yield CallbackFile(kind, number)


def _number(text: str | int | None) -> int | None:
    return int(text) if text is not None and _ID.fullmatch(str(text)) else None

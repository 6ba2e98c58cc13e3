"""What an agent would do in Cention: answers an errand, with files, which closes it and has the callback sent.

Owns the answer's form: what `POST /errands/<id>/answer` takes. Not Cention's API.
"""

import html
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from bridge.cention.sandbox.callbacks import Callback, Callbacks
from bridge.cention.sandbox.files import Files, NewFile
from bridge.cention.sandbox.given import Base64, Given
from bridge.cention.sandbox.records import AGENT, Errand, GivenAnswer
from bridge.cention.sandbox.state import State
from bridge.runtime.clock import now_ms

FIRST_ANSWER_ID = 1189
"""As in the documentation's sample of a callback."""
FIRST_RESPONSE_ID = 3304
"""As in the documentation's sample of a callback."""

_Line = Annotated[str, Field(max_length=1000)]
_Text = Annotated[str, Field(max_length=2**20)]


class AttachedFile(Given):
    """A file of an answer."""

    name: _Line
    content_type: _Line = "application/octet-stream"
    content: Base64

    def new(self) -> NewFile:
        return NewFile(self.name, self.content_type, self.content)


class AnswerGiven(Given):
    """An agent's answer; each member may be left out."""

    text: _Text = "Answered in the sandbox."
    html: _Text | None = None
    """By default the text as HTML. Either way, the images are put behind it."""
    subject: _Line | None = None
    """By default the errand's."""
    agent: _Line = AGENT
    attachments: Annotated[tuple[AttachedFile, ...], Field(max_length=100)] = ()
    images: Annotated[tuple[AttachedFile, ...], Field(max_length=100)] = ()
    """Embedded in the HTML, and served at `c3_area_archives`."""


class AlreadyAnswered(Exception):
    """The errand has its answer."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answered errand, and its callback: None where there is nowhere to send one."""

    errand: Errand
    callback: Callback | None


class Answering:
    """Answers errands."""

    def __init__(self, state: State, files: Files, callbacks: Callbacks) -> None:
        self._state, self._files, self._callbacks = state, files, callbacks
        self._answers = 0

    async def answer(self, errand_id: int, answer: AnswerGiven) -> Answered | None:
        """Answers an errand and sends its callback; None where there is no errand with this id.

        Raises:
            AlreadyAnswered: nothing was done.
        """
        errand = self._state.errand(errand_id)
        if errand is None:
            return None
        if errand.answer is not None:
            raise AlreadyAnswered
        message = errand.told.get("msg") or {}
        attachments = tuple(self._files.add_attachment(file.new()) for file in answer.attachments)
        archives = tuple(self._files.add_archive(file.new()) for file in answer.images)
        body = f"<div>{html.escape(answer.text)}</div>" if answer.html is None else answer.html
        given = GivenAnswer(
            answer_id=FIRST_ANSWER_ID + self._answers,
            response_id=FIRST_RESPONSE_ID + self._answers,
            at=now_ms(),
            agent=answer.agent,
            subject=(message.get("subject") or "") if answer.subject is None else answer.subject,
            text=answer.text,
            html=body + "".join(f'<img src="cid:{number}"/>' for number in archives),
            attachments=attachments,
            archives=archives,
        )
        self._answers += 1
        self._state.answer(errand_id, given)
        recipient = (message.get("from") or "", message.get("name") or "")
        return Answered(errand, await self._callbacks.tell(errand, given, recipient))

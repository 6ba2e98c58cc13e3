"""What the sandbox's state is made of: an errand, the answer that its agent gave, an agent, an arrival. Data alone."""

from dataclasses import dataclass, field
from typing import Any

import orjson

Pair = tuple[int, int]
"""`deviceId` and `extensionId`: the agent's key in Cention."""

# What the documents that create errands do not tell is the same for every errand here.
AGENT = "Sandbox Agent"
AREA = "sandbox-area"
CHANNEL = "Voice"


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What an agent answered to an errand. `at` is in milliseconds since the epoch.

    Attributes:
        answer_id: counts up.
        response_id: counts up, apart from the answers.
        attachments: ids of the files at `c3_response_attachments`.
        archives: ids of the images at `c3_area_archives` that are embedded in `html`.
    """

    answer_id: int
    response_id: int
    at: int
    agent: str
    subject: str
    text: str
    html: str
    attachments: tuple[int, ...] = ()
    archives: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        return len(self.subject) + len(self.text) + len(self.html)


@dataclass(slots=True)
class Errand:
    """An errand. Times are milliseconds since the epoch.

    Attributes:
        document: the JSON:API document that created it.
        end_document: the last one with `endSession` true, or the one that closed it.
        message_ids: of every `c3_new_errands` that reached it, oldest first.
        ended_by: the endpoint that ended it, `answer` where its agent's answer did, or None while it is open.
        answer: what its agent answered in the sandbox.
    """

    errand_id: int
    created_at: int
    updated_at: int
    document: bytes
    pair: Pair | None = None
    reference_id: str | None = None
    dest_number: str | None = None
    link: str | None = None
    message_ids: list[str] = field(default_factory=list)
    ended_at: int | None = None
    ended_by: str | None = None
    end_document: bytes | None = None
    answer: GivenAnswer | None = None

    @property
    def state(self) -> str:
        """`open` or `ended`."""
        return "open" if self.ended_at is None else "ended"

    @property
    def told(self) -> dict[str, Any]:
        """The attributes of the document that created it."""
        return _attributes(self.document)

    @property
    def told_at_end(self) -> dict[str, Any] | None:
        """Those of `end_document`, if there is one."""
        return None if self.end_document is None else _attributes(self.end_document)

    @property
    def answer_told(self) -> dict[str, Any]:
        """`subject` and `body` of its answer, whoever gave it; empty where it has none."""
        if self.answer is not None:
            return {"subject": self.answer.subject, "body": self.answer.text}
        told = self.told
        # With a template, `answer` tells no more than who sends it.
        at_once = None if told.get("watemplate") else told.get("answer")
        return at_once or (self.told_at_end or {}).get("answer") or {}

    @property
    def answered_at(self) -> int | None:
        """When it was answered; None where it wasn't."""
        if self.answer is not None:
            return self.answer.at
        return self.ended_at if self.answer_told else None

    @property
    def size(self) -> int:
        return len(self.document) + len(self.end_document or b"") + (0 if self.answer is None else self.answer.size)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that passed every check and was worked on.

    Attributes:
        sequence: 1 and up, in the order in which the work was done.
        at: milliseconds since the epoch.
        errand_id: the errand that it made or touched, if any.
        status: what was answered, or would have been.
        cut: whether the sandbox had been told to cut the answer off.
    """

    sequence: int
    at: int
    endpoint: str
    status: int
    cut: bool
    message_id: str | None = None
    reference_id: str | None = None
    device_id: int | None = None
    extension_id: int | None = None
    end_session: bool | None = None
    dialed_number: str | None = None
    errand_id: int | None = None


@dataclass(slots=True)
class Agent:
    """One pair (`deviceId`, `extensionId`): the open errands it is busy with, oldest first."""

    busy_with: list[int] = field(default_factory=list)
    outbound_ends: int = 0
    updated_at: int = 0


def _attributes(document: bytes) -> dict[str, Any]:
    attributes: dict[str, Any] = orjson.loads(document)["data"]["attributes"]
    return attributes

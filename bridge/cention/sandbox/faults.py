"""Misbehaviour on demand: rules that say which requests go wrong, and how. Pure but for its own dice.

The first rule that applies to a request decides. Rules are replaced as a whole, so what is set is what was last put.
"""

import random
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, field_validator, model_validator

from bridge.cention.documents import (
    AREA_ARCHIVES,
    CONTACT_CARDS,
    DIRTY_ERRANDS,
    DIRTY_FACEBOOK_RATINGS,
    END_ERRANDS,
    END_OBCALL,
    ERRAND_REPORTS,
    EXTERNAL_LIBRARIES,
    FACEBOOK_RATINGS,
    LIBRARIES,
    LIBRARY_ATTACHMENTS,
    LIBRARY_CATEGORIES,
    LIBRARY_QUESTIONS,
    LOGIO,
    NEW_ERRANDS,
    RESPONSE_ATTACHMENTS,
    TRIGGER_EXPORTS,
)

ENDPOINTS = (
    NEW_ERRANDS,
    END_ERRANDS,
    END_OBCALL,
    ERRAND_REPORTS,
    DIRTY_ERRANDS,
    FACEBOOK_RATINGS,
    DIRTY_FACEBOOK_RATINGS,
    CONTACT_CARDS,
    LIBRARIES,
    EXTERNAL_LIBRARIES,
    LIBRARY_CATEGORIES,
    LIBRARY_QUESTIONS,
    LIBRARY_ATTACHMENTS,
    AREA_ARCHIVES,
    RESPONSE_ATTACHMENTS,
    TRIGGER_EXPORTS,
    LOGIO,
)
"""What a rule may be for; that all of these are served, and no other, a test holds."""
MATCHED = (
    "id",
    "message_id",
    "referenceId",
    "deviceId",
    "extensionId",
    "endSession",
    "destNumber",
    "queueName",
    "queueNumber",
    "errand_id",
    "dialedNumber",
)
"""What a rule may look at, by its name in the document; `id` is a text, of the path."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_OURS = frozenset(["content-length", "transfer-encoding", "content-type", "connection"])


class FaultRule(BaseModel):
    """One way to misbehave. JSON member names are the same as the attributes'."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    endpoint: str = "*"
    """Such as `c3_new_errands`; `*` is every endpoint."""
    method: Literal["GET", "POST"] | None = None
    """Only requests with this method; None: with any."""
    match: dict[str, JsonValue] | None = None
    """Members of the document (see `MATCHED`), or the path's `id`, that must have just these values."""
    status: int | None = Field(default=None, ge=200, le=599)
    """Answer this instead of doing the work."""
    headers: dict[str, str] | None = None
    """Headers of that answer, such as Retry-After."""
    body: str | None = None
    """Body of that answer; by default an errors document from 400 up, and nothing below."""
    content_type: str | None = None
    """Content-Type of that answer; JSON:API's by default."""
    delay_s: float = Field(default=0.0, ge=0, le=86_400, allow_inf_nan=False)
    """Seconds between the request's arrival and whatever follows."""
    answer_delay_s: float = Field(default=0.0, ge=0, le=86_400, allow_inf_nan=False)
    """Seconds between the work and its answer."""
    reset: Literal["before", "after", "midway"] | None = None
    """Break the connection: before the work; after it, with no answer; or after it, in the middle of the answer's body
    (of an answer without one, nothing is sent)."""
    times: int | None = Field(default=None, ge=1)
    """How often the rule applies before it is spent; None: without end."""
    probability: float = Field(default=1.0, ge=0, le=1)
    """How likely it applies to a request that it matches."""
    seed: int | None = None
    """Makes the dice of `probability` fall the same way in every run."""

    @field_validator("endpoint")
    @classmethod
    def _endpoint_known(cls, value: str) -> str:
        if value != "*" and value not in ENDPOINTS:
            raise ValueError(f"must be '*' or one of {', '.join(ENDPOINTS)}")
        return value

    @field_validator("match")
    @classmethod
    def _match_known(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        if unknown := [name for name in value or {} if name not in MATCHED]:
            raise ValueError(f"can't look at {', '.join(unknown)}, only at {', '.join(MATCHED)}")
        return value

    @field_validator("headers")
    @classmethod
    def _headers_sendable(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name, text in (value or {}).items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(text) or name.lower() in _OURS:
                raise ValueError(f"can't send the header {name!r}; content_type has a member of its own")
        return value

    @field_validator("content_type")
    @classmethod
    def _content_type_sendable(cls, value: str | None) -> str | None:
        if value is not None and not _HEADER_VALUE.fullmatch(value):
            raise ValueError("holds a control character")
        return value

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.status is None and (self.headers or self.body is not None or self.content_type is not None):
            raise ValueError("headers, body and content_type belong to a status")
        if self.status is not None and self.reset is not None:
            raise ValueError("status and reset exclude each other: a broken connection carries no answer")
        if self.status is not None and self.answer_delay_s:
            raise ValueError("status and answer_delay_s exclude each other: no work is done")
        if self.status is None and self.reset is None and self.delay_s == self.answer_delay_s == 0:
            raise ValueError("nothing would go wrong: give a status, a reset, a delay_s or an answer_delay_s")
        return self


_RULES = TypeAdapter(list[FaultRule])
RULES_MAX = 1000


class _Active:
    __slots__ = ("_dice", "hits", "rule")

    def __init__(self, rule: FaultRule) -> None:
        self.rule, self.hits = rule, 0
        self._dice = random.Random(rule.seed)  # noqa: S311 - it chooses which request fails, and guards nothing

    @property
    def remaining(self) -> int | None:
        return None if self.rule.times is None else self.rule.times - self.hits

    def applies(self, endpoint: str, method: str, facts: Mapping[str, Any]) -> bool:
        rule = self.rule
        return (
            rule.endpoint in ("*", endpoint)
            and rule.method in (None, method)
            and self.remaining != 0
            and all(_same(facts.get(name), value) for name, value in (rule.match or {}).items())
            and (rule.probability >= 1 or self._dice.random() < rule.probability)
        )


def _same(told: Any, wanted: Any) -> bool:
    return type(told) is type(wanted) and bool(told == wanted)  # in Python 1 == True; in JSON it does not


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self._active: list[_Active] = []

    def replace(self, rules: Iterable[FaultRule | Mapping[str, Any]]) -> None:
        """Puts `rules` in place of all others.

        Raises:
            pydantic.ValidationError: one of them can't be used; nothing is replaced then.
        """
        self._active = [_Active(rule) for rule in _RULES.validate_python(list(rules))]

    def replace_json(self, body: bytes) -> None:
        """As `replace`, from a JSON list.

        Raises:
            pydantic.ValidationError: as `replace`.
            ValueError: more than `RULES_MAX` rules.
        """
        rules = _RULES.validate_json(body)
        if len(rules) > RULES_MAX:
            raise ValueError(f"at most {RULES_MAX} rules at a time")
        self._active = [_Active(rule) for rule in rules]

    def clear(self) -> None:
        self._active = []

    def next_for(self, endpoint: str, facts: Mapping[str, Any], method: str = "POST") -> FaultRule | None:
        """The rule that decides about a request, and counts it; None where all goes well.

        Args:
            endpoint: such as `c3_new_errands`.
            facts: the members of `MATCHED` that the request's document has.
            method: `GET` or `POST`.
        """
        for active in self._active:
            if active.applies(endpoint, method, facts):
                active.hits += 1
                return active.rule
        return None

    def view(self) -> list[dict[str, Any]]:
        """Each rule as it was given, how often it has applied, and how often it still will (null: without end)."""
        return [
            {**a.rule.model_dump(exclude_unset=True), "hits": a.hits, "remaining": a.remaining} for a in self._active
        ]

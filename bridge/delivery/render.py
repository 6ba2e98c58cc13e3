"""Effects as Cention's documents: where a call's facts go, and what Cention gets where a fact is missing.

Rendered at each attempt, not at commit, so that a corrected template or queue default reaches what still waits.
Source: Cention API, "integrationData" and "End Outbound Call"; contract section 2.
"""

import re
from collections.abc import Mapping
from string import Template

import orjson

from bridge.calls.effects import Effect
from bridge.calls.events import Direction, Facts
from bridge.cention.documents import (
    Answer,
    EndErrand,
    EndObcall,
    ExtraData,
    IntegrationData,
    Message,
    NewErrand,
    unchecked,
)
from bridge.runtime.clock import rfc3339

INTEGRATION = "aventa"
WITHHELD = "anonymous"
"""What `msg.from` says of a caller who withheld the number: the word that SIP uses for it (RFC 3323 section 4.1)."""

_new_errand, _message = unchecked(NewErrand), unchecked(Message)
_integration_data, _extra_data = unchecked(IntegrationData), unchecked(ExtraData)
_ERRAND_ID = re.compile(r"[0-9]{1,18}")  # what surely fits the 64-bit integer that it is sent as


class CannotRender(Exception):
    """The effect lacks what its document must have; the text says what."""


class Text:
    """A template over an effect's words, taken apart once: `string.Template` does it anew at each use, for 4 µs."""

    def __init__(self, template: str) -> None:
        self._parts: list[tuple[str, str, str]] = []
        """What stands before each name, the name, and the name as it is written; "" in the last, which has none."""
        text, end = "", 0
        for found in Template.pattern.finditer(template):
            text += template[end : found.start()]
            end = found.end()
            if name := found["named"] or found["braced"]:
                self._parts.append((text, name, found[0]))
                text = ""
            else:
                text += "$" if found["escaped"] else found[0]
        self._parts.append((text + template[end:], "", ""))

    def filled(self, words: Mapping[str, str]) -> str:
        """The text; a name that there is no word for stays as it is written."""
        return "".join([text + words.get(name, written) for text, name, written in self._parts])


class Renderer:
    """Renders effects under one set of `calls.default_queue_*`, `calls.close_user_*` and `errand.*`."""

    def __init__(
        self, *, subject: str, body: str, queue_name: str, queue_number: str, close_user: tuple[str, str]
    ) -> None:
        self._subject, self._body = Text(subject), Text(body)
        self._queue_name, self._queue_number = queue_name, queue_number
        self._close_user = close_user

    def new_errand(self, effect: Effect, *, end_session: bool) -> bytes:
        """The document of POST `c3_new_errands`, a `NewErrand` in JSON.

        Raises:
            CannotRender: the called number is no MSISDN.
        """
        facts, pair = effect.facts, effect.pair
        if facts.dest_number is None:
            raise CannotRender("destNumber is missing: no event of this call gave a calledNumber that is an MSISDN")
        words = self._words(effect)
        number, name = outside_party(facts)
        document = _new_errand(
            msg=_message(
                message_id=effect.effect_id,
                name=name or "",
                sender=number or WITHHELD,
                subject=self._subject.filled(words),
                body=self._body.filled(words),
            ),
            integration_data=_integration_data(
                integration_name=INTEGRATION,
                reference_id=effect.call_id,
                device_id=pair.device_id,
                extension_id=pair.extension_id,
                link=facts.link,
                end_session=end_session,
                dest_number=facts.dest_number,
                paging_number=facts.paging_number,
                paging_name=facts.paging_name,
                queue_name=words["queueName"],
                queue_number=words["queueNumber"],
                extra_data=_extra(facts),
            ),
            cuid=facts.cuid,
        )
        return orjson.dumps(document)

    def end_errand(self, effect: Effect, errand_id: str | None) -> EndErrand:
        """The document of POST `c3_end_errands`.

        Raises:
            CannotRender: Cention never gave the errand's id, or one that is no number.
        """
        if errand_id is None or not _ERRAND_ID.fullmatch(errand_id):
            raise CannotRender("errand_id is missing: Cention has not told the id of the errand that is to be closed")
        user_type, user_id = self._close_user
        subject = self._subject.filled(self._words(effect))
        answer = Answer(user_type=user_type, user_id=user_id, subject=subject, body="", html_body="")
        return EndErrand(errand_id=int(errand_id), answer=answer)

    def end_obcall(self, effect: Effect) -> EndObcall:
        """The document of POST `c3_end_obcall`; `dialedNumber` is as dialled and may be missing."""
        return EndObcall(
            integration_name=INTEGRATION,
            dialed_number=effect.facts.called_number,
            device_id=effect.pair.device_id,
            extension_id=effect.pair.extension_id,
        )

    def _words(self, effect: Effect) -> dict[str, str]:
        """What the templates of `errand.subject` and `errand.body` may name."""
        facts = effect.facts
        return {
            "callId": effect.call_id,
            "direction": facts.direction or "",
            "calledNumber": facts.dest_number or facts.called_number or "",
            "callingNumber": facts.calling_number or WITHHELD,
            "callingName": facts.calling_name or "",
            "queueName": facts.queue_name or self._queue_name,
            "queueNumber": facts.queue_number or self._queue_number,
            "pagingNumber": facts.paging_number or "",
            "pagingName": facts.paging_name or "",
            "deviceId": str(effect.pair.device_id),
            "extensionId": str(effect.pair.extension_id),
            "startedAt": rfc3339(effect.started_at or effect.at),
            "comment": facts.comment or "",
            "callReason": facts.call_reason or "",
            "reference": effect.effect_id,
        }


def outside_party(facts: Facts) -> tuple[str | None, str | None]:
    """Number and name of the party outside the contact centre, whose contact card the errand belongs to.

    Of an outbound call that is the called party: with the calling one, every outbound errand would land on the card
    of the centre's own number (docs/adr/0008-who-the-errand-is-from.md).
    """
    if facts.direction is Direction.OUTBOUND:
        return facts.dest_number, None
    return facts.calling_number, facts.calling_name


def _extra(facts: Facts) -> ExtraData | None:
    told = (facts.comment, facts.call_reason, facts.appointment_timestamp)
    if told == (None, None, None):
        return None
    return _extra_data(comment=told[0], call_reason=told[1], appointment_timestamp=told[2])

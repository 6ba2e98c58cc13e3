"""From an HTTP answer to an `Outcome`: the table in `bridge.cention.outcome`, as code. Pure but for the clock."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bridge.cention.documents import created_errand_id
from bridge.cention.outcome import Delivered, Failure, Outcome, Rejected, TryLater, Unauthorised
from bridge.cention.words import has_errors, reason_of, server_words
from bridge.runtime.clock import now

_TRY_LATER = frozenset([408, 425, 429])
_UNAUTHORISED = frozenset([401, 403])


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as far as it came.

    Attributes:
        headers: by case-insensitive name.
        body: no more than was asked for; what had come when the connection broke, if it did.
        whole: whether the body came to its end.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    whole: bool = False

    @property
    def content_type(self) -> str:
        """The media type in lower case, with its parameters."""
        return self.headers.get("Content-Type", "").strip().lower()


def outcome_of(answer: Answer, *, sent: bytes, token: str, creates: bool) -> Outcome:
    """What `answer` means.

    Args:
        answer: what the server said.
        sent: the request's body, to keep its values out of the reason.
        token: the request's bearer token, likewise.
        creates: whether the answer carries the id of a new errand.
    """
    if (failure := failure_of(answer, sent=sent, token=token)) is not None:
        return failure
    return Delivered(answer.status, created_errand_id(answer.body) if creates else None)


def failure_of(answer: Answer, *, sent: bytes, token: str) -> Failure | None:
    """What `answer` means where it is no document that was asked for; None where it may be one.

    Args:
        answer: what the server said.
        sent: as for `outcome_of`; b"" where the request had no body.
        token: as for `outcome_of`.
    """
    status = answer.status
    # Before the server's words are read, which takes longer than all else here: most answers are this one.
    if 200 <= status < 300 and not answer.content_type.startswith("text/html") and not has_errors(answer.body):
        return None
    reason = reason_of(server_words(status, answer.content_type, answer.body), sent, token)
    if 200 <= status < 300:
        if answer.content_type.startswith("text/html"):
            # Cention answers JSON or nothing; a page is a login or maintenance page of something in between. Taking it
            # for a delivery would lose the call without a trace, asking again costs at worst a repeated message_id.
            return TryLater(f"a web page answered, not Cention's API: {reason}", status)
        return Rejected(status, reason)
    if status in _UNAUTHORISED:
        return Unauthorised(status, reason)
    if 300 <= status < 400:
        # Where to is left out: a login page's address may carry what was sent.
        return TryLater(
            f"redirected, which is never followed ({reason}): is cention.base_url the API's own address?", status
        )
    if 400 <= status < 500 and status not in _TRY_LATER:
        return Rejected(status, reason)
    return TryLater(reason, status, retry_after_s(answer.headers))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks to wait, at least 0; None where there is none or it can't be read.

    A date is seen from the answer's own Date, where it has one: the server's clock wrote both, and ours may be an hour
    behind it.

    Args:
        headers: the answer's, by case-insensitive name.

    Source: RFC 9110 sections 10.2.3 (a number of seconds, or an HTTP date) and 6.6.1 (Date).
    """
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return float(text)
    until, told = _http_date(text), _http_date(headers.get("Date", ""))
    return None if until is None else max(0.0, (until - (told or now())).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)  # "-0000": a time in UTC whose place is not told

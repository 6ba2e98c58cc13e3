"""Telephone numbers: what an exchange wrote -> MSISDN, caller, or the number as dialled; withheld; masked.

Owns how numbers are written (URIs, display names, separators, words for withheld), and the three forms that Cention
wants: an MSISDN for `destNumber`, the number as dialled for `dialedNumber`, and the caller for `msg.from`. What digits
mean is `numbering`'s. Must not know events, JSON or settings.

Invariants: an MSISDN is 1 to 15 digits that do not begin with 0, and reads as itself, with the same region and with
none. A country code that was written is never replaced: a number either keeps it or is refused. What is raised is
`NumberFault` alone, and its words never repeat the number.

`docs/numbers.md` tells the rules to people, `docs/adr/0006-numbers.md` why they are so.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from bridge.calls.numbering import REGIONS, NumberFault, msisdn_of_digits

__all__ = ["REGIONS", "NumberFault", "is_withheld", "mask", "mask_name", "read_caller", "read_dialled", "to_msisdn"]

DIALLED_CHARS_MAX: Final = 32
_TEXT_CHARS_MAX: Final = 512
_CACHED: Final = 8192


def to_msisdn(text: str, default_region: str | None) -> str:
    """The number as MSISDN: digits only, country code first, 1 to 15 of them.

    Takes an MSISDN, `+`, `00` or the region's own international prefix, separators, `tel:` and `sip:` URIs, and
    national numbers when `default_region` (one of `REGIONS`) is given.

    Raises:
        NumberFault: it is none of these.

    Source: contract section 1, "destNumber"; ITU-T E.164 section 6; RFC 3966 section 3; RFC 3261 section 19.1.
    """
    return _answer(_msisdn_of, text, default_region)


def read_caller(text: str, default_region: str | None) -> str:
    """The caller: an MSISDN where there is one, else bare digits as they came, else the SIP address `user@host`.

    Digits that make no MSISDN are kept because a caller chooses what his line sends: no call is refused for them.

    Raises:
        NumberFault: it is no number and no SIP address, claims a country code (`+`) that it has not, or is withheld.

    Source: contract section 1, "callingNumber"; Cention API, "msg.from".
    """
    return _answer(_caller_of, text, default_region)


def read_dialled(text: str) -> str:
    """The number as dialled: digits, `*`, `#` and a leading `+`, 1 to 32 characters; separators and URI taken off.

    Raises:
        NumberFault: it holds anything else.

    Source: Cention API, "dialedNumber" (sample `01211112222`).
    """
    return _answer(_dialled_of, text, None)


def is_withheld(text: str | None) -> bool:
    """Whether the caller is not told: nothing, or a word for it, also as the user of a `tel:` or `sip:` URI.

    Source: contract section 1, "callingNumber"; RFC 3323 section 4.1 (`anonymous.invalid`).
    """
    if not text:
        return True
    if text[0] in "+0123456789":
        return False
    try:
        return not text.strip() or _unwrap(text).is_withheld
    except NumberFault:
        return False


def mask(number: str) -> str:
    """`number` with all but its last three digits as stars; all stars when it is short or an address."""
    tail = number[-3:]
    if len(number) <= 4 or not (tail.isdigit() and tail.isascii()) or "@" in number:
        return "*" * len(number)
    return "*" * (len(number) - 3) + tail


def mask_name(name: str) -> str:
    """The first letter of `name` and three stars; nothing when there is no name."""
    return name[:1] + "***" if name else ""


class _Outcome(NamedTuple):
    """A number or a refusal. `lru_cache` keeps no exceptions, and a kept exception would hold its frames."""

    number: str | None
    code: str = ""
    detail: str = ""


_Read = Callable[[str, str | None], str]


def _remembered(read: _Read) -> Callable[[str, str | None], _Outcome]:
    @lru_cache(maxsize=_CACHED)
    def outcome(text: str, region: str | None) -> _Outcome:
        try:
            return _Outcome(read(text, region))
        except NumberFault as fault:
            return _Outcome(None, fault.code, fault.detail)

    return outcome


def _answer(outcome_of: Callable[[str, str | None], _Outcome], text: str, region: str | None) -> str:
    if len(text) > _TEXT_CHARS_MAX:  # before the cache, which would keep it
        raise NumberFault("not_a_number")
    outcome = outcome_of(text, region)
    if outcome.number is None:
        raise NumberFault(outcome.code, outcome.detail)
    return outcome.number


_WITHHELD: Final = frozenset(["anonymous", "withheld", "private", "restricted", "unknown", "unavailable"])


class _Written(NamedTuple):
    """A number out of its wrapping: `subscriber` as written, its `phone-context`, and the SIP host."""

    subscriber: str
    context: str = ""
    host: str = ""

    @property
    def is_withheld(self) -> bool:
        return self.subscriber.strip().casefold() in _WITHHELD or self.host == "anonymous.invalid"


def _unwrap(text: str) -> _Written:
    """Takes off a display name with its angle brackets, the scheme, parameters, password, host, port and %-escapes.

    Every parameter but `phone-context` is dropped, `ext` too: it names a phone behind the number, and E.164 has no
    place for it.
    """
    text = text.strip()
    if "<" in text:
        text, closed, _ = text[text.rfind("<") + 1 :].partition(">")
        if not closed:
            raise NumberFault("not_a_number")
        text = text.strip()
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if not colon or scheme not in ("tel", "sip", "sips"):
        return _Written(text)
    host = ""
    if scheme != "tel":
        rest, at, place = rest.partition("@")
        if not at:  # A host alone. Its digits (an IPv4 address) must not become a number.
            raise NumberFault("not_a_number")
        rest = rest.partition(":")[0]
        host = _HOST_END.split(place, maxsplit=1)[0].lower()
    subscriber, *parameters = rest.split(";")
    context = ""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.lower() == "phone-context":
            context = unquote(value)
    return _Written(unquote(subscriber), context, host)


# The end of a host: its port, parameters or headers; the colons inside [an IPv6 address] are not a port's.
_HOST_END: Final = re.compile(r":(?=\d*(?:[;?]|$))|[;?]")
_HOST: Final = re.compile(r"[\w.-]{1,253}|\[[0-9a-f:.]{2,45}\]")
_USER: Final = re.compile(r"[^\s\x00-\x20\x7f-\x9f\ud800-\udfff<>\"@]{1,64}")
_PLAIN: Final = re.compile(r"\+?[0-9]+")
_SYMBOLS: Final = re.compile(r"\+?[0-9*#]+")
# Also what people paste: typographic dashes, and the invisible marks that contact cards put around numbers.
_SEPARATORS: Final = frozenset(
    "-./()\t\u00ad\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"
    "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)


def _symbols(text: str) -> str:
    """Digits, `*`, `#` and a leading `+`, with separators taken out and digits of other scripts as ASCII."""
    if _PLAIN.fullmatch(text):
        return text
    kept: list[str] = []
    for char in text:
        if char.isascii():
            if char.isdigit() or char in "+*#":
                kept.append(char)
                continue
        elif (digit := unicodedata.decimal(char, None)) is not None:
            kept.append(str(digit))
            continue
        elif char == "\uff0b":  # the plus that belongs to full-width digits
            kept.append("+")
            continue
        if char not in _SEPARATORS and unicodedata.category(char) != "Zs":
            raise NumberFault("not_a_number")
    symbols = "".join(kept)
    if not _SYMBOLS.fullmatch(symbols) or symbols.strip("+*#") == "":
        raise NumberFault("not_a_number")
    return symbols


def _written(text: str) -> _Written:
    written = _unwrap(text)
    if written.is_withheld:
        raise NumberFault("withheld")
    return written


def _dialled(text: str, _region: str | None) -> str:
    symbols = _symbols(_written(text).subscriber)
    if len(symbols) > DIALLED_CHARS_MAX:
        raise NumberFault("too_long", f"A dialled number has at most {DIALLED_CHARS_MAX} characters.")
    return symbols


def _caller(text: str, region: str | None) -> str:
    written = _written(text)
    try:
        symbols = _symbols(written.subscriber)
    except NumberFault:
        if not _HOST.fullmatch(written.host) or not _USER.fullmatch(written.subscriber):
            raise
        return f"{written.subscriber}@{written.host}"
    try:
        return _msisdn_of_written(written, region)
    except NumberFault:
        if symbols.isdigit() and len(symbols) <= DIALLED_CHARS_MAX:
            return symbols
        raise


def _msisdn(text: str, region: str | None) -> str:
    return _msisdn_of_written(_written(text), region)


def _msisdn_of_written(written: _Written, region: str | None) -> str:
    try:
        return _msisdn_of_subscriber(written.subscriber, written.context, region)
    except NumberFault:
        # The trunk zero in brackets is a habit also where the country has none: +47 (0) ...
        if "(0)" not in written.subscriber:
            raise
        return _msisdn_of_subscriber(written.subscriber.replace("(0)", "", 1), written.context, region)


def _msisdn_of_subscriber(subscriber: str, context: str, region: str | None) -> str:
    symbols = _symbols(subscriber)
    if context.startswith("+") and not symbols.startswith("+"):
        symbols = _symbols(context) + symbols
    if "*" in symbols or "#" in symbols:
        raise NumberFault("service_code")
    return msisdn_of_digits(symbols, region)


_msisdn_of: Final = _remembered(_msisdn)
_caller_of: Final = _remembered(_caller)
_dialled_of: Final = _remembered(_dialled)

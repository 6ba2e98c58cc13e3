"""Numbering plans: digits -> the MSISDN that they are, or the reason why they are none.

Owns what digits mean: country codes, trunk and international prefixes, short numbers, and the order in which a run of
digits is read when it could be two numbers. Must not know how numbers are wrapped (URIs, separators): `numbers` does.
The only user of the `phonenumbers` library.

Invariants: see `bridge.calls.numbers`.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import phonenumbers
from phonenumbers import NumberParseException, PhoneMetadata, PhoneNumber, ValidationResult

MSISDN_DIGITS_MAX: Final = 15
REGIONS: Final[frozenset[str]] = frozenset(phonenumbers.SUPPORTED_REGIONS)
"""What `default_region` may be: two-letter codes such as `SE`."""

# Extensions and short codes (112, 1177, 90510, 118118) have up to six digits, and so has hardly any whole number.
_SHORT_DIGITS_MAX: Final = 6

_DETAILS: Final = {
    "withheld": "This says that the number is withheld; a telephone number is needed here.",
    "not_a_number": "This is no telephone number: send its digits with the country code, a tel: or a sip: URI. "
    "Letters are not turned into digits.",
    "service_code": "Service codes with * or # are no part of a number; send the number alone.",
    "short_number": "A short code or an extension has no MSISDN; send a whole number with its country code.",
    "national_number": "A national number can be read only when `numbers.default_region` is set; "
    "set it, or send the number with its country code.",
    "unknown_country_code": "The number begins with a country code that no country has.",
    "not_possible": "No number of its country has this length or form; send the whole number with its country code.",
    "too_long": "A number has at most 15 digits, its country code included.",
    "ambiguous": "Without a plus, these digits are another number, of `numbers.default_region`; "
    "as an MSISDN they would be mistaken for it.",
}


class NumberFault(ValueError):
    """A number that cannot be used.

    Attributes:
        code: stable, snake_case: one of those in `docs/numbers.md`.
        detail: what is wrong and how to mend it; never repeats the number.
    """

    def __init__(self, code: str, detail: str | None = None) -> None:
        self.code = code
        self.detail = _DETAILS[code] if detail is None else detail
        super().__init__(self.detail)


def msisdn_of_digits(symbols: str, region: str | None) -> str:
    """The MSISDN of ASCII digits with or without a leading `+`; the second reading of it gives it again.

    Raises:
        NumberFault: there is none.

    Source: ITU-T E.164 section 6; contract section 1, "destNumber".
    """
    msisdn = _international(symbols[1:]).msisdn if symbols.startswith("+") else _bare(symbols, region)
    if region is not None and not _writes_trunk(region) and _bare(msisdn, region) != msisdn:
        raise NumberFault("ambiguous")
    return msisdn


class _Reading(NamedTuple):
    msisdn: str
    number: PhoneNumber

    @property
    def is_valid(self) -> bool:
        """Whether the plan that this release of `phonenumbers` knows has such a number; plans age."""
        return phonenumbers.is_valid_number(self.number)


def _parsed(digits: str) -> PhoneNumber:
    """`digits` behind a plus, with no region: a region would let them become another country's number."""
    if len(digits) > MSISDN_DIGITS_MAX + 2:  # a trunk prefix of two, which may go
        raise NumberFault("too_long")
    try:
        return phonenumbers.parse("+" + digits, None)
    except NumberParseException as error:
        if len(digits) <= _SHORT_DIGITS_MAX:
            raise NumberFault("short_number") from None
        known = error.error_type != NumberParseException.INVALID_COUNTRY_CODE
        raise NumberFault("not_possible" if known else "unknown_country_code") from None


def _checked(number: PhoneNumber) -> _Reading:
    national = phonenumbers.national_significant_number(number)
    # Not from `number.national_number`, an int: Italian numbers begin with a zero.
    msisdn = f"{number.country_code}{national}"
    length = phonenumbers.is_possible_number_with_reason(number)
    is_short = len(national) <= _SHORT_DIGITS_MAX
    if len(msisdn) > MSISDN_DIGITS_MAX:
        raise NumberFault("too_long")
    if len(msisdn) <= _SHORT_DIGITS_MAX or (is_short and length == ValidationResult.TOO_SHORT):
        raise NumberFault("short_number")
    # `is_possible_number` lets pass what is dialled inside a town only. Canada's 310 numbers look so, but are whole.
    is_whole = length == ValidationResult.IS_POSSIBLE_LOCAL_ONLY and phonenumbers.is_valid_number(number)
    if length != ValidationResult.IS_POSSIBLE and not is_whole:
        raise NumberFault("not_possible")
    if is_short and phonenumbers.is_valid_short_number(number) and not phonenumbers.is_valid_number(number):
        raise NumberFault("short_number")
    return _Reading(msisdn, number)


def _international(digits: str) -> _Reading:
    """A number with its country code: its own digits, but for a trunk prefix (0, Hungary 06) behind the code.

    `phonenumbers` also takes off carrier codes and adds area codes where a plan has them; that would make an MSISDN
    another number, so it is refused here.
    """
    number = _parsed(digits)
    reading = _checked(number)
    if reading.msisdn == digits:
        return reading
    code = str(number.country_code)
    written, national = digits.removeprefix(code), reading.msisdn.removeprefix(code)
    if written.removesuffix(national) not in ("0", "06") or _international(reading.msisdn).msisdn != reading.msisdn:
        raise NumberFault("not_possible")
    return reading


def _national(digits: str, region: str) -> _Reading:
    """A number of `region` without its country code; a plan's own rewriting (Argentina's 15) is meant here."""
    code = phonenumbers.country_code_for_region(region)
    reading = _checked(_parsed(f"{code}{digits}"))
    if _international(reading.msisdn).msisdn != reading.msisdn:
        raise NumberFault("not_possible")
    return reading


def _tried(read: Callable[..., _Reading], *arguments: str) -> _Reading | None:
    try:
        return read(*arguments)
    except NumberFault:
        return None


def _bare(digits: str, region: str | None) -> str:
    """Digits with no plus: an international prefix, a trunk prefix, or neither."""
    if digits.startswith("0"):
        return _prefixed(digits, region)
    if len(digits) <= _SHORT_DIGITS_MAX:
        home = _tried(_national, digits, region) if region is not None and _has_six_digits(region) else None
        if home is None or not home.is_valid:
            raise NumberFault("short_number")
        return home.msisdn
    if region is None:
        return _international(digits).msisdn
    abroad = _tried(_international, digits)
    if _writes_trunk(region):
        # Here a national number shows itself by its trunk prefix, so that digits without one are an MSISDN if they
        # can be. Behind the own country code stands an MSISDN that is broken, or a short code: never a national number.
        if abroad is not None:
            return abroad.msisdn
        own_code = digits.startswith(str(phonenumbers.country_code_for_region(region)))
        home = None if own_code else _tried(_national, digits, region)
        if home is not None and home.is_valid:
            return home.msisdn
    else:
        # Here national numbers are written just like this, and what can be an MSISDN by its length alone is often
        # one of them; so the plans decide, and the MSISDN wins where both have it.
        if abroad is not None and abroad.is_valid:
            return abroad.msisdn
        home = _tried(_national, digits, region)
        if home is not None and (abroad is None or home.is_valid):
            return home.msisdn
        if abroad is not None:
            return abroad.msisdn
    return _international(digits).msisdn  # raises: the reason why it is no MSISDN is the one to tell


def _prefixed(digits: str, region: str | None) -> str:
    """Digits that begin with 0: never an MSISDN. The region's own international prefix, 00, or a trunk prefix."""
    abroad = _tried(_international, digits[2:]) if digits.startswith("00") else None
    if abroad is not None and abroad.is_valid:
        return abroad.msisdn
    if region is not None and (prefix := _metadata(region).international_prefix) is not None:
        idd = re.match(prefix, digits)
        if idd is not None and (dialled := _tried(_international, digits[idd.end() :])) is not None:
            return dialled.msisdn
    if digits.startswith("00"):
        return _international(digits[2:]).msisdn
    if region is None:
        raise NumberFault("short_number" if len(digits) <= _SHORT_DIGITS_MAX else "national_number")
    if len(digits) <= _SHORT_DIGITS_MAX:
        short = _tried(_national, digits, region)
        if short is None or not short.is_valid:
            raise NumberFault("short_number")
        return short.msisdn
    home = _national(digits, region)
    # A zero that stayed is part of the number (Italy), or was never a trunk prefix there (North America).
    if home.number.italian_leading_zero and not home.is_valid:
        raise NumberFault("not_possible")
    return home.msisdn


def _metadata(region: str) -> PhoneMetadata:
    metadata = PhoneMetadata.metadata_for_region(region)
    if metadata is None:
        raise NumberFault("national_number")
    return metadata


def _writes_trunk(region: str) -> bool:
    """Whether national numbers are written with a trunk prefix. North America's 1 is its country code again."""
    return _metadata(region).national_prefix not in (None, "1")


def _has_six_digits(region: str) -> bool:
    """Whether whole numbers of `region` have six digits (Andorra, Faroe Islands), as extensions have elsewhere."""
    fixed_line = _metadata(region).fixed_line
    return fixed_line is not None and tuple(fixed_line.possible_length) == (_SHORT_DIGITS_MAX,)

"""Telephone numbers, for any text and for every region's example numbers."""

import re
from collections.abc import Callable

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from bridge.calls.numbers import REGIONS, NumberFault, is_withheld, mask, read_caller, read_dialled, to_msisdn


def examples() -> list[tuple[str, str, str]]:
    """Region, country code and national number of every example number that the library has.

    Without Iran's 9601: as an MSISDN it has six digits, as an extension may have.
    """
    found: dict[tuple[str, str], str] = {}
    for region in sorted(REGIONS):
        for kind in PhoneNumberType.values():
            number = phonenumbers.example_number_for_type(region, kind)
            if number is not None:
                national = phonenumbers.national_significant_number(number)
                found[str(number.country_code), national] = region
    for code in phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS:
        number = phonenumbers.example_number_for_non_geo_entity(code)
        assert number is not None
        found[str(code), phonenumbers.national_significant_number(number)] = "001"
    return [(region, code, national) for (code, national), region in found.items() if len(code + national) > 6]


EXAMPLES = examples()


MSISDN = re.compile(r"[1-9][0-9]{0,14}")

# Regions that read bare digits in different ways: with trunk zero, without trunk, with zeros that stay, North America,
# another international prefix, rewriting, six digits, a trunk that is no zero.
regions = st.sampled_from(
    [None, "SE", "DE", "NO", "DK", "IT", "US", "GB", "AU", "SG", "AR", "BR", "MX", "FO", "HU", "RU"]
)
any_region = st.none() | st.sampled_from(sorted(REGIONS))

digits = st.text("0123456789", min_size=1, max_size=20)
symbols = st.text("0123456789+-./() ;=@*#\uff11\u0663", max_size=30)
country_codes = st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE))
abroad = st.builds("{}{}".format, country_codes, digits) | st.builds(
    # An example number with other last digits: of a length that its country has, and in its plan or not.
    lambda number, tail: f"{number[1]}{number[2]}"[: -len(tail)] + tail,
    st.sampled_from(EXAMPLES),
    st.text("0123456789", min_size=1, max_size=8),
)
written = st.one_of(
    st.text(max_size=60),
    symbols,
    digits,
    abroad,
    st.builds("+{}".format, abroad),
    st.builds("00{}".format, abroad),
    st.builds("{}(0){}".format, country_codes, digits),
    st.builds("tel:{};phone-context={}".format, symbols, symbols),
    st.builds("sip:{}@{}".format, symbols, st.text(max_size=20)),
    st.builds('"{}" <sip:{}@{}>'.format, st.text(max_size=10), symbols, st.text(max_size=10)),
)


@given(written, regions)
@example("+40000000", "NO")
@example("+4600701740605", None)
@example("494000", "DE")
@example("+39 1234567", "IT")
def test_an_accepted_number_is_digits_and_reads_as_itself(text: str, region: str | None) -> None:
    try:
        msisdn = to_msisdn(text, region)
    except NumberFault:
        return
    assert MSISDN.fullmatch(msisdn)
    assert to_msisdn(msisdn, region) == msisdn
    assert to_msisdn(msisdn, None) == msisdn
    assert to_msisdn("+" + msisdn, region) == msisdn
    assert to_msisdn("00" + msisdn, None) == msisdn
    assert read_caller(text, region) == msisdn
    assert read_dialled(text)


@given(written | st.text(), any_region)
def test_whatever_comes_nothing_but_a_number_fault_is_raised(text: str, region: str | None) -> None:
    readers: list[Callable[[], str]] = [
        lambda: to_msisdn(text, region),
        lambda: read_caller(text, region),
        lambda: read_dialled(text),
    ]
    for read in readers:
        try:
            read().encode()
        except NumberFault:
            continue
    is_withheld(text)
    assert len(mask(text)) == len(text)


@given(abroad, regions)
def test_a_written_country_code_is_never_replaced(number: str, region: str | None) -> None:
    try:
        msisdn = to_msisdn("+" + number, region)
    except NumberFault:
        return
    code = next(number[:length] for length in (1, 2, 3) if int(number[:length]) in _COUNTRY_CODES)
    assert msisdn.startswith(code)
    assert number.removeprefix(code).removesuffix(msisdn.removeprefix(code)) in ("", "0", "06")


@given(abroad, st.sampled_from(["SE", "DE", "GB", "FR", "FI", "AU", "RU"]))
def test_an_msisdn_stays_one_where_national_numbers_have_a_trunk_prefix(number: str, region: str) -> None:
    try:
        msisdn = to_msisdn(number, None)
    except NumberFault:
        return
    assert to_msisdn(number, region) == msisdn


_COUNTRY_CODES = frozenset(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)

WRAPPINGS: dict[str, Callable[[str, str], str]] = {
    "plus": lambda code, national: f"+{code}{national}",
    "00": lambda code, national: f"00{code}{national}",
    "bare": lambda code, national: f"{code}{national}",
    "separators": lambda code, national: f"+{code} {national[:3]}-{national[3:]}",
    "brackets": lambda code, national: f"(+{code}) ({national[:2]}) {national[2:4]}.{national[4:]}",
    "tel": lambda code, national: f"tel:+{code}-{national};ext=5",
    "tel with context": lambda code, national: f"tel:{national};phone-context=+{code}",
    "sip": lambda code, national: f'"Doris" <sip:+{code}{national}@pbx.example:5060;user=phone>',
    "sip without plus": lambda code, national: f"sip:{code}{national}@pbx.example",
    "sip escaped": lambda code, national: f"sip:%2b{code}{national}@pbx.example",
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_example_numbers_of_every_region_come_through(wrapping: str) -> None:
    assert len(EXAMPLES) > 1000
    for _, code, national in EXAMPLES:
        text = WRAPPINGS[wrapping](code, national)
        assert to_msisdn(text, None) == code + national, text
        assert to_msisdn(text, "SE") == code + national, text


def test_the_example_numbers_of_every_region_come_through_as_written_at_home() -> None:
    for region, code, national in EXAMPLES:
        if region == "001":
            continue
        number = phonenumbers.parse(f"+{code}{national}", None)
        text = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
        short = len(re.sub(r"\D", "", text)) <= 6 or re.search("[A-Za-z]", text)
        if short or not text.startswith(("0", "(0")):
            continue
        assert to_msisdn(text, region) == code + national, (region, text)

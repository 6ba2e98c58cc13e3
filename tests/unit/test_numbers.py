"""Telephone numbers, case by case: every surprise that is known of, and every form that may come in."""

import re
from inspect import getmembers, isfunction
from pathlib import Path

import pytest

from bridge.calls import numbering, numbers
from bridge.calls.numbers import NumberFault, is_withheld, mask, mask_name, read_caller, read_dialled, to_msisdn

CELL = "46701740605"
FIXED = "46846500400"

ACCEPTED = {
    "an MSISDN": (CELL, None, CELL),
    "an MSISDN where a region is set": (CELL, "SE", CELL),
    "an MSISDN that a region's parse would put its own code before": ("468465004", "SE", "468465004"),
    "an MSISDN of another country where a region is set": ("60374571234", "SE", "60374571234"),
    "a plus": ("+46701740605", None, CELL),
    "00": ("0046701740605", None, CELL),
    "00 where the region dials another prefix": ("0046701740605", "SG", CELL),
    "the region's own international prefix": ("01146701740605", "US", CELL),
    "an international prefix that begins with 00": ("00146701740605", "HK", CELL),
    "Australia's 0011, not the US behind 00": ("0011 64 21 123 456", "AU", "6421123456"),
    "possible as both, in no plan: the MSISDN": ("4709005474", "IT", "4709005474"),
    "separators": ("+46 70-174.06/05", None, CELL),
    "brackets": ("+46(70)1740605", None, CELL),
    "the trunk zero in brackets": ("+46 (0)70-174 06 05", None, CELL),
    "the trunk zero in brackets of an MSISDN": ("46(0)701740605", None, CELL),
    "the trunk zero without brackets": ("+460701740605", None, CELL),
    "a zero in brackets where there is no trunk": ("+47 (0) 22 33 44 55", None, "4722334455"),
    "spaces around": ("  +46701740605\n", None, CELL),
    "typographic dash and no-break space": ("+46\u00a070\u20131740605", None, CELL),
    "the marks that contact cards put around": ("\u202a+46701740605\u202c", None, CELL),
    "full-width digits": ("\uff0b\uff14\uff16\uff17\uff10\uff11\uff17\uff14\uff10\uff16\uff10\uff15", None, CELL),
    "Arabic digits": ("\u0664\u0666\u0667\u0660\u0661\u0667\u0664\u0660\u0666\u0660\u0665", None, CELL),
    "a national number": ("0701740605", "SE", CELL),
    "a national number with separators": ("08-465 004 00", "SE", FIXED),
    "a national number without its trunk zero": ("701740605", "SE", CELL),
    "a national number of a country without trunk": ("22334455", "NO", "4722334455"),
    "a national number that has a possible length for Romania": ("40000000", "NO", "4740000000"),
    "a national number of the US": ("(415) 555-2671", "US", "14155552671"),
    "a national number of the US with its 1": ("1-415-555-2671", "US", "14155552671"),
    "a national number of six digits": ("211234", "FO", "298211234"),
    "a national number of five digits with a zero that stays": ("02000", "NO", "4702000"),
    "Argentina's 15, which becomes a 9": ("0343 15 555 1212", "AR", "5493435551212"),
    "an Italian zero after a plus": ("+39 06 12345678", None, "390612345678"),
    "an Italian zero in an MSISDN": ("390612345678", "SE", "390612345678"),
    "an Italian zero in a national number": ("06 12345678", "IT", "390612345678"),
    "an Italian zero in brackets": ("+39 (0)6 12345678", None, "390612345678"),
    "possible, though the plan has no such number": ("+46 8 465 00", None, "46846500"),
    "freephone of no country": ("+800 1234 5678", None, "80012345678"),
    "satellite": ("+882 13 123456789", None, "88213123456789"),
    "tel:": ("tel:+46-70-174-06-05", None, CELL),
    "tel: with an extension, dropped": ("TEL:+46701740605;ext=12", None, CELL),
    "tel: with other parameters": ("tel:+46701740605;isub=1;phone-context=x", None, CELL),
    "tel: with a country as context": ("tel:0701740605;phone-context=+46", None, CELL),
    "tel: with a prefix as context": ("tel:1234;Phone-Context=+1-914-555", None, "19145551234"),
    "tel: with a domain as context": ("tel:0701740605;phone-context=pbx.example", "SE", CELL),
    "tel: without plus": ("tel:46701740605", None, CELL),
    "sip:": ("sip:+46701740605@pbx.example", None, CELL),
    "sip: with everything": ("sip:+46-70-1740605:pw@[2001:db8::1]:5060;user=phone?a=b@c", None, CELL),
    "sip: with parameters of the user": ("sip:0701740605;phone-context=+46@pbx;user=phone", None, CELL),
    "sip: with an escaped plus": ("sips:%2B46701740605@pbx", None, CELL),
    "sip: with a display name": ('"Doe, <Doris>" <sip:+46701740605@pbx>;tag=a1', None, CELL),
    "angle brackets alone": ("<tel:+46701740605>", None, CELL),
    "sip: with a national number": ("sip:0701740605@pbx", "SE", CELL),
}


@pytest.mark.parametrize(("text", "region", "msisdn"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted_as_msisdn(text: str, region: str | None, msisdn: str) -> None:
    assert to_msisdn(text, region) == msisdn
    assert to_msisdn(msisdn, region) == msisdn
    assert to_msisdn(msisdn, None) == msisdn


REFUSED = {
    "an extension": ("1000", None, "short_number"),
    "an extension, which the region's parse takes": ("1000", "SE", "short_number"),
    "an extension of six digits, possible behind 46": ("246810", "SE", "short_number"),
    "an extension of six digits that is a possible German MSISDN": ("494000", None, "short_number"),
    "an extension, possible in Norway": ("12345", "NO", "short_number"),
    "an extension, possible behind a plus": ("+494000", None, "short_number"),
    "an extension with a leading zero, possible in Germany at six digits": ("012345", "DE", "short_number"),
    "digits of no plan, which are only possible in Sweden": ("343971231", "SE", "not_possible"),
    "an extension with a leading zero, possible in Germany": ("01234", "DE", "short_number"),
    "an extension in a SIP address": ("sip:1000@pbx", "SE", "short_number"),
    "an extension with a country as context": ("tel:1000;phone-context=+46", None, "short_number"),
    "emergency": ("112", "SE", "short_number"),
    "emergency behind a plus": ("+46112", None, "short_number"),
    "health line": ("1177", "SE", "short_number"),
    "health line as MSISDN": ("461177", None, "short_number"),
    "premium short code": ("90510", "SE", "short_number"),
    "premium short code as MSISDN, not Lund's 046-90510": ("4690510", "SE", "short_number"),
    "directory enquiries": ("118118", "SE", "short_number"),
    "directory enquiries behind a plus": ("+46118118", None, "short_number"),
    "directory enquiries as MSISDN, not Lund's 046-118118": ("46118118", "SE", "short_number"),
    "a lone zero": ("0", "SE", "short_number"),
    "a national number and no region": ("0701740605", None, "national_number"),
    "a trunk zero where there is none": ("0701740605", "US", "not_possible"),
    "two trunk zeros": ("+4600701740605", None, "not_possible"),
    "a trunk prefix that is no zero": ("+1 1 415 555 2671", None, "not_possible"),
    "a country's own rewriting behind a plus": ("+54 343 15 555 1212", None, "not_possible"),
    "a number that is dialled in its town only": ("+1 5552671", None, "not_possible"),
    "too long for its country": ("+467017406051234", None, "not_possible"),
    "16 digits": ("4670174060512345", None, "too_long"),
    "17 digits, which the library parses": ("+49123456789012345", None, "too_long"),
    "very many digits": ("4" * 500, "SE", "too_long"),
    "a country that is not": ("+999123456789", None, "unknown_country_code"),
    "a country that is not, without plus": ("999123456789", None, "unknown_country_code"),
    "digits that a second reading would make Norwegian": ("+40000000", "NO", "ambiguous"),
    "vanity letters": ("1-800-FLOWERS", "US", "not_a_number"),
    "vanity letters behind a plus": ("+1800FLOWERS", None, "not_a_number"),
    "an extension in words": ("+46701740605 x12", None, "not_a_number"),
    "superscript digits": ("+\u2074\u2076701740605", None, "not_a_number"),
    "two pluses": ("++46701740605", None, "not_a_number"),
    "a plus inside": ("46+701740605", None, "not_a_number"),
    "a NUL": ("+46701740605\x00", None, "not_a_number"),
    "a line end inside": ("+4670\n1740605", None, "not_a_number"),
    "half a surrogate pair": ("+46701740605\ud800", None, "not_a_number"),
    "nothing": ("", "SE", "not_a_number"),
    "separators alone": ("(-)", "SE", "not_a_number"),
    "a plus alone": ("+", "SE", "not_a_number"),
    "a SIP address": ("sip:alice@pbx", "SE", "not_a_number"),
    "a SIP host alone, an IPv4 address": ("sip:46.70.174.60", "SE", "not_a_number"),
    "a bracket that stays open": ("<tel:+46701740605", None, "not_a_number"),
    "a context that is none": ("tel:0701740605;phone-context=+x", None, "not_a_number"),
    "another scheme": ("http://46701740605", None, "not_a_number"),
    "a very long text": ("x" * 100_000, None, "not_a_number"),
    "a prefix that hides the caller": ("*31#0701740605", "SE", "service_code"),
    "a prefix in a SIP address": ("sip:%2331%230701740605@pbx", "SE", "service_code"),
    "a code in a context": ("tel:0701740605;phone-context=+4*6", None, "service_code"),
    "withheld": ("Anonymous", None, "withheld"),
    "withheld in a SIP address": ('"Anonymous" <sip:anonymous@anonymous.invalid>', None, "withheld"),
}


@pytest.mark.parametrize(("text", "region", "code"), REFUSED.values(), ids=REFUSED)
def test_refused_as_msisdn(text: str, region: str | None, code: str) -> None:
    for _ in range(2):  # the second time out of the cache
        with pytest.raises(NumberFault) as caught:
            to_msisdn(text, region)
        assert caught.value.code == code
        assert caught.value.detail == str(caught.value) != ""


def test_a_refusal_does_not_repeat_the_number() -> None:
    for text, region, _ in REFUSED.values():
        with pytest.raises(NumberFault) as caught:
            to_msisdn(text, region)
        assert len(text) < 4 or text not in caught.value.detail
        assert caught.value.__context__ is None
    assert "46701740" not in str(numbering._DETAILS)


def test_the_cache_is_bounded_and_keeps_refusals_too() -> None:
    cache = numbers._msisdn_of
    assert cache.cache_info().maxsize == numbers._CACHED  # type: ignore[attr-defined]  # an lru_cache behind its Callable
    hits = cache.cache_info().hits  # type: ignore[attr-defined]  # as above
    for _ in range(3):
        with pytest.raises(NumberFault):
            to_msisdn("3105", "SE")
    assert cache.cache_info().hits == hits + 2  # type: ignore[attr-defined]  # as above


CALLERS = {
    "an MSISDN": ("+46 70 174 06 05", None, CELL),
    "a national number": ("0701740605", "SE", CELL),
    "an extension": ("1000", "SE", "1000"),
    "an extension in a SIP address": ("sip:1000@pbx", None, "1000"),
    "a short code with separators": ("90 510", "SE", "90510"),
    "a national number and no region, as it came": ("070-174 06 05", None, "0701740605"),
    "digits of no plan, as they came": ("99912345678", None, "99912345678"),
    "a SIP address": ("sip:alice@Example.com:5060;transport=tcp?x=y", None, "alice@example.com"),
    "a SIP address with a display name": ("Alice <sips:alice@example.com>;tag=1", "SE", "alice@example.com"),
    "a SIP address on IPv6": ("sip:alice@[2001:DB8::1]:5060", None, "alice@[2001:db8::1]"),
    "a SIP address with an escape": ("sip:al%2Eice@pbx", None, "al.ice@pbx"),
}


@pytest.mark.parametrize(("text", "region", "caller"), CALLERS.values(), ids=CALLERS)
def test_callers(text: str, region: str | None, caller: str) -> None:
    assert read_caller(text, region) == caller


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("hello", "not_a_number"),
        ("alice@example.com", "not_a_number"),
        ("sip:alice@", "not_a_number"),
        ("sip:@pbx", "not_a_number"),
        ("sip:al ice@pbx", "not_a_number"),
        ("sip:a%00b@pbx", "not_a_number"),
        ("sip:alice@pb\tx", "not_a_number"),
        ("sip:" + "a" * 65 + "@pbx", "not_a_number"),
        ("tel:alice", "not_a_number"),
        ("+999123456789", "unknown_country_code"),
        ("*31#0701740605", "service_code"),
        ("1" * 33, "too_long"),
        ("anonymous", "withheld"),
    ],
)
def test_no_callers(text: str, code: str) -> None:
    with pytest.raises(NumberFault) as caught:
        read_caller(text, "SE")
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "dialled"),
    [
        ("01211112222", "01211112222"),
        ("+46 (0)70-174 06 05", "+460701740605"),
        ("1000", "1000"),
        ("112", "112"),
        ("*31#0701740605", "*31#0701740605"),
        ("tel:1000;phone-context=+46", "1000"),
        ("sip:*31%230701740605@pbx:5060", "*31#0701740605"),
        ("\uff11\uff11\uff12", "112"),
        ("1" * 32, "1" * 32),
    ],
)
def test_dialled(text: str, dialled: str) -> None:
    assert read_dialled(text) == dialled
    assert read_dialled(dialled) == dialled


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("1" * 33, "too_long"),
        ("+" + "1" * 32, "too_long"),
        ("0800-FLOWERS", "not_a_number"),
        ("07+01", "not_a_number"),
        ("+", "not_a_number"),
        ("*#", "not_a_number"),
        ("", "not_a_number"),
        ("withheld", "withheld"),
    ],
)
def test_not_dialled(text: str, code: str) -> None:
    with pytest.raises(NumberFault) as caught:
        read_dialled(text)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "  ", "anonymous", "Anonymous", "WITHHELD", "private", "Restricted", "unknown", " Unavailable "),
        *("sip:anonymous@pbx", '"Anonymous" <sip:anonymous@anonymous.invalid>', "sip:x1@anonymous.invalid:5060"),
        *("tel:anonymous", "<sip:Anonymous@pbx>"),
    ],
)
def test_withheld(text: str | None) -> None:
    assert is_withheld(text)


@pytest.mark.parametrize(
    "text",
    ["+46701740605", "1000", "Anonymous Ltd", "sip:alice@pbx", "sip:x", '"Anonymous" <sip:1000@pbx>', "<private"],
)
def test_not_withheld(text: str) -> None:
    assert not is_withheld(text)


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        (CELL, "********605"),
        ("+46701740605", "*********605"),
        ("90510", "**510"),
        ("1000", "****"),
        ("112", "***"),
        ("", ""),
        ("alice@10.0.0.123", "*" * 16),
        ("alice", "*****"),
        ("*31#07#", "*******"),
    ],
)
def test_mask(number: str, masked: str) -> None:
    assert mask(number) == masked


@pytest.mark.parametrize(
    ("name", "masked"), [("Doris Doe", "D***"), ("\u00c5sa", "\u00c5***"), ("D", "D***"), ("", "")]
)
def test_mask_name(name: str, masked: str) -> None:
    assert mask_name(name) == masked


def test_every_public_function_says_where_its_rule_comes_from() -> None:
    for name, function in getmembers(numbers, isfunction):
        if name in numbers.__all__ and not name.startswith("mask"):
            assert "Source:" in (function.__doc__ or ""), name


DOC = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text()


def test_the_documented_examples() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (none|none or `SE`|`[A-Z]{2}`) \| `(\w+)` \|$", DOC, re.MULTILINE)
    assert len(rows) > 15
    for text, regions, outcome in rows:
        for region in re.findall(r"none|[A-Z]{2}", regions):
            default_region = None if region == "none" else region
            try:
                read = to_msisdn(text, default_region)
            except NumberFault as fault:
                read = fault.code
            assert read == outcome, (text, region)


def test_every_code_is_documented() -> None:
    for code in numbering._DETAILS:
        assert f"| `{code}` |" in DOC, code

"""Bearer tokens and Standard Webhooks signatures, cross-checked against the reference library."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict
from standardwebhooks import Webhook

from bridge.intake.auth import Authenticator
from bridge.runtime.clock import now_ms
from bridge.runtime.web import Problem

NOW = 1_790_000_000
SECRET = "whsec_" + base64.b64encode(b"a key of twenty-four byt").decode()
OTHER = "whsec_" + base64.b64encode(b"another key of 24 bytes!").decode()
BODY = '{"eventId": "e-1", "callingName": "Åsa"}'.encode()


def signed(body: bytes = BODY, *, secret: str = SECRET, at: int = NOW, message_id: str = "msg_1") -> CIMultiDict[str]:
    """Headers that the reference library made."""
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(at, UTC), body.decode())
    return CIMultiDict({"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature})


def bearer(value: str) -> CIMultiDict[str]:
    return CIMultiDict({"Authorization": value})


def gate(*secrets: str, tokens: tuple[str, ...] = ()) -> Authenticator:
    return Authenticator(tokens, secrets, now_s=lambda: NOW)


def refused(authenticator: Authenticator, headers: CIMultiDict[str], body: bytes = BODY) -> Problem:
    with pytest.raises(Problem) as caught:
        authenticator.check(headers, body)
    assert caught.value.status == 401
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    return caught.value


def test_with_nothing_configured_everything_passes() -> None:
    authenticator = gate()
    assert authenticator.open
    assert authenticator.check_headers(CIMultiDict())
    authenticator.check(bearer("Bearer whatever"), b"")


def test_every_configured_token_passes_before_the_body_is_known() -> None:
    authenticator = gate(tokens=("old", "new"))
    assert not authenticator.open
    for value in ("Bearer old", "Bearer new", "bearer new", "BEARER  new "):
        assert authenticator.check_headers(bearer(value))


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (CIMultiDict(), "unauthenticated"),
        (bearer("Basic bmV3Og=="), "unauthenticated"),
        (bearer("Bearer"), "unauthenticated"),
        (bearer("new"), "unauthenticated"),
        (bearer("Bearer wrong"), "bad_token"),
        (bearer("Bearer NEW"), "bad_token"),
        (bearer("Bearer new, new"), "bad_token"),
        (bearer("Bearer n\udce9w"), "bad_token"),  # how aiohttp gives a byte that is not UTF-8
    ],
)
def test_what_is_no_configured_token_is_refused(headers: CIMultiDict[str], code: str) -> None:
    assert refused(gate(tokens=("old", "new")), headers).code == code


def test_a_signature_needs_the_body_and_passes_with_each_secret() -> None:
    authenticator = gate(OTHER, SECRET, tokens=("old",))
    for secret in (OTHER, SECRET):
        headers = signed(secret=secret)
        assert not authenticator.check_headers(headers)
        authenticator.check(headers, BODY)


def test_a_signature_passes_beside_a_token_that_does_not() -> None:
    headers = signed()
    headers["Authorization"] = "Bearer of some proxy"
    gate(SECRET, tokens=("old",)).check(headers, BODY)


def test_a_signature_of_ours_passes_the_reference_library() -> None:
    """Both ways: what this scheme signs, the library verifies; so the two agree on the signed content."""
    at = now_ms() // 1000
    content = b"msg_1." + str(at).encode() + b"." + BODY
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signature = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signature}
    Webhook(SECRET).verify(BODY, headers)
    Authenticator((), [SECRET], now_s=lambda: at).check(CIMultiDict(headers), BODY)


def test_the_signature_covers_the_raw_bytes() -> None:
    raw = b'{ "a":1,\r\n "b": "\xff" }'  # not UTF-8, not as any serialiser would write it
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    content = f"msg_1.{NOW}.".encode() + raw
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    headers = CIMultiDict(
        {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": f"v1,{signature}"}
    )
    gate(SECRET).check(headers, raw)
    assert refused(gate(SECRET), headers, raw.replace(b"\r\n", b"\n")).code == "bad_signature"


def test_one_fitting_signature_among_several_is_enough() -> None:
    headers = signed()
    good = headers["webhook-signature"]
    headers["webhook-signature"] = f"v1a,AAAA v1,AAAA {good} v2,{good.partition(',')[2]}"
    gate(SECRET).check(headers, BODY)


@pytest.mark.parametrize(
    "signature",
    ["v1,AAAA", "AAAA", "v1", ",", " ", "v1,", "v2,{good}", "{good}", "v1, {good}", "v1,{good}x", "v1,\udce9"],
)
def test_what_is_no_fitting_signature_is_refused(signature: str) -> None:
    headers = signed()
    good = headers["webhook-signature"].partition(",")[2]
    headers["webhook-signature"] = signature.replace("{good}", good)
    assert refused(gate(SECRET), headers).code == "bad_signature"


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body", "secret"])
def test_every_signed_part_is_covered(changed: str) -> None:
    headers, body = signed(secret=OTHER if changed == "secret" else SECRET), BODY
    if changed == "body":
        body += b" "
    elif changed != "secret":
        headers[changed] = {"webhook-id": "msg_2", "webhook-timestamp": str(NOW + 1)}[changed]
    assert refused(gate(SECRET), headers, body).code == "bad_signature"


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp"])
def test_a_missing_header_is_named(missing: str) -> None:
    headers = signed()
    del headers[missing]
    problem = refused(gate(SECRET), headers)
    assert problem.code == "bad_signature"
    assert missing in problem.detail


@pytest.mark.parametrize("timestamp", ["soon", "1.5", "-1", "١٢٣", "1e9", " 1790000000", "9" * 40])
def test_a_timestamp_must_be_unix_seconds(timestamp: str) -> None:
    headers = signed()
    headers["webhook-timestamp"] = timestamp
    assert refused(gate(SECRET), headers).code == "bad_signature"


@pytest.mark.parametrize("offset_s", [-300, 300])
def test_a_timestamp_may_be_five_minutes_off(offset_s: int) -> None:
    gate(SECRET).check(signed(at=NOW + offset_s), BODY)


@pytest.mark.parametrize(("offset_s", "words"), [(-301, "301 s behind"), (301, "301 s ahead")])
def test_further_off_is_stale_and_refused_before_the_body_is_read(offset_s: int, words: str) -> None:
    headers = signed(at=NOW + offset_s)
    with pytest.raises(Problem) as caught:
        gate(SECRET).check_headers(headers)
    assert caught.value.code == "stale_signature"
    assert words in caught.value.detail


def test_a_signature_is_no_use_where_only_tokens_are_configured() -> None:
    assert refused(gate(tokens=("old",)), signed()).code == "unauthenticated"


def test_the_detail_names_the_ways_in_use_and_never_a_secret() -> None:
    both = refused(gate(SECRET, tokens=("old-token",)), CIMultiDict()).detail
    assert "Bearer" in both
    assert "Standard Webhooks" in both
    assert "Standard Webhooks" not in refused(gate(tokens=("old-token",)), CIMultiDict()).detail
    assert "Bearer" not in refused(gate(SECRET), CIMultiDict()).detail
    assert SECRET not in both
    assert "old-token" not in both


@pytest.mark.parametrize("secret", ["whsec_", "", "whsec_not base64!", "whsec_å", "whsec_A"])
def test_a_malformed_secret_is_refused_by_its_place(secret: str) -> None:
    with pytest.raises(ValueError, match="webhook secret 1 ") as caught:
        gate(SECRET, secret)
    assert secret.removeprefix("whsec_") in ("", "A") or secret not in str(caught.value)


def test_a_secret_may_come_without_prefix_or_padding() -> None:
    padded = "whsec_" + base64.b64encode(b"twenty-five bytes of key!").decode()
    for secret in (padded, padded.rstrip("="), padded.removeprefix("whsec_")):
        gate(secret).check(signed(secret=padded), BODY)

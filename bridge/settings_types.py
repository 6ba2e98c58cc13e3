"""The types that settings are made of: each says in a sentence what is wrong with a value and how to mend it.

Must not know which keys use them, nor other keys: rules between keys are `bridge.settings`'s. A check raises ValueError
whose text starts where "<path>: " ends and never quotes the value, since any text may be a secret in the wrong place.
Libraries that few settings need (`jmespath`, `phonenumbers`) are imported by the check that needs them.
"""

import base64
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from string import Template
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, SecretStr

from bridge.calls.events import Pair
from bridge.settings_sources import suggestion

TEN_YEARS_S = 315_360_000
"""Bounds every duration, so that milliseconds since the epoch plus a duration stay exact in Lua's doubles."""

SENTENCES = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false, without quotes",
    "finite_number": "must be a finite number",
    "string_type": "must be text; in TOML, write it in quotes",
    "tuple_type": "must be a list",
    "mapping_type": "must be a table",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must hold at least one value",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "path_type": "must be a path, in quotes",
}
"""pydantic's error types in words that help to mend a setting; what stands in braces is the error's own."""

TEMPLATE_FIELDS = (
    "callId",
    "direction",
    "calledNumber",
    "callingNumber",
    "callingName",
    "queueName",
    "queueNumber",
    "pagingNumber",
    "pagingName",
    "deviceId",
    "extensionId",
    "startedAt",
    "comment",
    "callReason",
    "reference",
)
"""What `errand.subject` and `errand.body` may name: facts of the call, none of one event, since a retry must not change
the text; `reference` is the `message_id`. Source: contract section 1."""

MAPPING_FIELDS = (
    "eventId",
    "type",
    "occurredAt",
    "callId",
    "deviceId",
    "extensionId",
    "direction",
    "calledNumber",
    "callingNumber",
    "callingName",
    "queueName",
    "queueNumber",
    "pagingNumber",
    "pagingName",
    "link",
    "cuid",
    "extraData",
    "extraData.comment",
    "extraData.callReason",
    "extraData.appointmentTimestamp",
    "cause",
    "endedBy",
    "transferredTo",
    "transferredTo.deviceId",
    "transferredTo.extensionId",
    "sequence",
)
"""What `intake.mapping` and `feed.mapping` may fill: every field of the event; an object whole or by
its members. Source: contract section 1."""


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_every_address(host: str) -> bool:
    """Whether `host` stands for all of this machine's addresses, as `0.0.0.0` does."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _host(host: str) -> str:
    try:
        ip_address(host)
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", host):
            raise ValueError("must be a host name or an IP address alone; the port has a key of its own") from None
    return host


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d{1,12})\s*(B|KiB|MiB|GiB)?\s*", value, re.IGNORECASE)
    if not match:
        raise ValueError('must be a number of bytes, or a text such as "512 KiB" or "1 MiB"')
    return int(match[1]) * {"": 1, "b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3}[(match[2] or "").lower()]


def _key_prefix(prefix: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,32}", prefix):
        raise ValueError("must be 1 to 32 of a-z, 0-9 and -")
    return prefix


def _path(value: Any) -> Any:
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError("must be a path")
    return value


def _password(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value():
        raise ValueError("must not be empty")
    return secret


def _token(secret: SecretStr) -> SecretStr:
    token = secret.get_secret_value()
    if not token.strip():
        raise ValueError("must not be empty")
    # Sent or compared as one word of an Authorization header: anything else there never matches, or breaks the header.
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ValueError("must be one word of printable ASCII, without spaces or line breaks")
    return secret


def _webhook_secret(secret: SecretStr) -> SecretStr:
    # Source: Standard Webhooks, "Signature scheme": base64, 24 to 64 bytes, prefixed `whsec_`.
    try:
        key = base64.b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ValueError("must be `whsec_` and base64") from None
    if not 24 <= len(key) <= 64:
        raise ValueError(f"must be `whsec_` and the base64 of 24 to 64 bytes, not of {len(key)}")
    return secret


def _region(region: str) -> str:
    from phonenumbers import SUPPORTED_REGIONS  # 15 ms, for the few that set a region

    if region.upper() not in SUPPORTED_REGIONS:
        raise ValueError('must be a region in two letters (ISO 3166-1 alpha-2), such as "SE"')
    return region.upper()


def _web_url(url: str, schemes: Mapping[str, bool], sent: str = "the token") -> str:
    """Checks a URL of a server that is sent secrets; `schemes` says of each scheme whether it is encrypted."""
    names = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"is not a URL; it must start with {names}") from None
    if parts.scheme not in schemes or not host or re.search(r"\s", url):
        raise ValueError(f"must be a URL that starts with {names} and a host, without spaces")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password; a token has a key of its own")
    if parts.fragment:
        raise ValueError("must not have a fragment (`#…`)")
    if not schemes[parts.scheme] and not is_loopback(host):
        raise ValueError(f"must be encrypted: with {parts.scheme}:// {sent} would cross the network in clear text")
    return url


def _cention_url(url: str) -> str:
    url = _web_url(url, {"https": True, "http": False}).rstrip("/")
    if not re.fullmatch(r"[a-z]+://[^/?]+(/[^/?]+)*/s/[^/?]+", url):
        raise ValueError("must end with the workspace, /s/<workspace>, and nothing behind it")
    return url


def _forward_url(url: str) -> str:
    return _web_url(url, {"https": True, "http": False}, "what is forwarded")


def one_or_more(value: Any) -> Any:
    """A single text as the list that holds it, for a key that seldom has more than one value."""
    return [value] if isinstance(value, str | SecretStr) else value


def _feed_url(url: str) -> str:
    return _web_url(url, {"https": True, "wss": True, "http": False, "ws": False})


class RedisUrl(str):
    """The address of Redis: whole text for the client that connects; repr, str() and format() hide the password.

    A str and not a SecretStr, so that it can be compared and handed to a client as it is. JSON encoders see the whole
    text: log `shown`.
    """

    __slots__ = ()

    @property
    def shown(self) -> str:
        """The address without user, password and query, all of which may hold a password."""
        return re.sub(r"\?.*", "?***", re.sub(r"(?<=://).*@", "***@", self.get_secret_value()))

    def get_secret_value(self) -> str:
        """The whole text as a plain str, by the name that pydantic's secrets have for it."""
        return str.__str__(self)

    def __repr__(self) -> str:
        return f"RedisUrl({self.shown!r})"

    def __str__(self) -> str:
        return self.shown

    def __format__(self, spec: str) -> str:
        return format(self.shown, spec)


_USER = r"(?:[^@/?#\s:]*:[^@/?#\s]*@)?"
_NODE = r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::\d{1,5})?"
_REDIS_URL = re.compile(
    rf"""embedded
    | unix://{_USER}/[^?\#\s]+ (?:\?db=\d+)?
    | rediss?://{_USER}{_NODE} (?:/\d*)?
    | rediss?\+sentinel://{_USER}{_NODE}(?:,{_NODE})* /[\w.-]+ (?:/\d+)?
    | rediss?\+cluster://{_USER}{_NODE}(?:,{_NODE})* /?
    """,
    re.VERBOSE | re.ASCII,
)


def _redis_url(value: Any) -> RedisUrl:
    if not isinstance(value, str):
        raise ValueError("must be text; in TOML, write it in quotes")
    # On a RedisUrl too the pattern sees the whole text.
    if not _REDIS_URL.fullmatch(value):
        raise ValueError(
            'must be "embedded", or like unix:///path, redis://host:port/0, rediss://host:port/0, '
            "redis+sentinel://host:port,host:port/service/0 or redis+cluster://host:port,host:port; "
            "a login is written user:password@, and in it %40 for @ and %2F for /"
        )
    nodes = value.partition("://")[2].partition("/")[0].rpartition("@")[2]
    if any(int(port) > 65_535 for port in re.findall(r":(\d+)(?=,|$)", nodes)):
        raise ValueError("must have ports of 65535 at most")
    for address in re.findall(r"\[(.*?)\]", nodes):
        try:
            ip_address(address)
        except ValueError:
            raise ValueError("must have an IPv6 address in each pair of brackets") from None
    return RedisUrl(value)


def _template(text: str) -> str:
    faults = []
    for match in Template.pattern.finditer(text):
        name = match["named"] or match["braced"]
        if match["escaped"] is not None or name in TEMPLATE_FIELDS:
            continue
        at = match.start()
        place = f"line {text.count(chr(10), 0, at) + 1}, column {at - text.rfind(chr(10), 0, at)}"
        faults.append(
            f"${{{name}}} ({place}) is not a field of the call{suggestion(name, TEMPLATE_FIELDS)}"
            if name
            else f"the $ at {place} names nothing; write ${{field}}, or $$ for a dollar sign"
        )
    if faults:
        raise ValueError("; ".join(faults))
    return text


def _event_field(name: str) -> str:
    if name not in MAPPING_FIELDS:
        raise ValueError(f"is not a field of the event{suggestion(name, MAPPING_FIELDS)}")
    return name


def _expression(text: str) -> str:
    import jmespath  # for those whose PBX speaks its own JSON

    try:
        jmespath.compile(text)
    except (ValueError, RecursionError) as error:
        # JMESPath's own errors are ValueErrors, and so is what Python says to an index of 5000 digits.
        position = getattr(error, "lex_position", getattr(error, "lexer_position", None))
        where = "" if position is None else f"; look near character {position + 1}"
        raise ValueError(f"is not a JMESPath expression{where}") from None
    return text


def _flat(value: Any) -> Any:
    """`transferredTo.deviceId` written without quotes is a table in a table to TOML; here both are one name."""
    if not isinstance(value, dict):
        return value
    flat = {}
    for name, inner in value.items():
        flat.update(
            {f"{name}.{key}": item for key, item in inner.items()} if isinstance(inner, dict) else {name: inner}
        )
    return flat


def _pair(value: Any) -> Any:
    if isinstance(value, Pair):
        return value
    if isinstance(value, dict):
        raise ValueError("must be one agent's pair; a login with a dot in it stands in quotes")
    if not isinstance(value, str) or not re.fullmatch("[0-9]{1,16}/[0-9]{1,16}", value):
        raise ValueError('must be the pair of the agent, "deviceId/extensionId", such as "1000/1001"')
    pair = Pair.parse(value.replace("/", ":"))
    if max(pair) > 2**53 - 1:
        raise ValueError("must be two integers of at most 2^53-1")
    return pair


def _one_login_a_pair(agents: Mapping[str, Pair]) -> Mapping[str, Pair]:
    if len(set(agents.values())) != len(agents):
        raise ValueError("must not give one pair to two logins: the pair is the agent")
    return agents


def _mapped_once(mapping: Mapping[str, str]) -> Mapping[str, str]:
    for name in mapping:
        outer, _, inner = name.partition(".")
        if inner and outer in mapping:
            raise ValueError(f"must not have {outer} both whole and by its members; keep one of the two")
    return mapping


Text = Annotated[str, AfterValidator(_text)]
Host = Annotated[str, AfterValidator(_host)]
Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
Bytes = Annotated[int, Field(strict=True, ge=256, le=256 * 1024**2), BeforeValidator(_bytes)]
SpoolBytes = Annotated[int, Field(strict=True, ge=1024**2, le=1024**4), BeforeValidator(_bytes)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=TEN_YEARS_S, allow_inf_nan=False)]
WholeSeconds = Annotated[int, Field(strict=True, ge=1, le=TEN_YEARS_S)]
KeyPrefix = Annotated[str, AfterValidator(_key_prefix)]
DirectoryPath = Annotated[Path, BeforeValidator(_path)]
FilePath = Annotated[Path, BeforeValidator(_path)]
Password = Annotated[SecretStr, AfterValidator(_password)]
Token = Annotated[SecretStr, AfterValidator(_token)]
WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]
Region = Annotated[str, AfterValidator(_region)]
CentionUrl = Annotated[str, AfterValidator(_cention_url)]
FeedUrl = Annotated[str, AfterValidator(_feed_url)]
ForwardUrl = Annotated[str, AfterValidator(_forward_url)]
Redis = Annotated[RedisUrl, PlainValidator(_redis_url), PlainSerializer(lambda url: url.shown, when_used="json")]
ErrandTemplate = Annotated[str, AfterValidator(_template)]
AgentPairs = Annotated[
    Mapping[Text, Annotated[Pair, PlainValidator(_pair)]],
    AfterValidator(_one_login_a_pair),
]
EventMapping = Annotated[
    Mapping[Annotated[str, AfterValidator(_event_field)], Annotated[str, AfterValidator(_expression)]],
    BeforeValidator(_flat),
    AfterValidator(_mapped_once),
]

"""The settings: what may be set, within which bounds, and `load`, which says everything that is wrong at once.

Owns every key, its default, and the rules between keys. Must not know who uses a setting, nor where a value came from
(`bridge.settings_sources` does). `config.toml` at the top of the repository says what each key means.

Invariants: settings never change once loaded. A secret shows in no fault, repr or str. Only `load` checks the rules
between keys; a `Settings` built by hand has been checked key by key.

Source: contract section 6.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StrictInt, ValidationError

from bridge.calls.events import Direction
from bridge.settings_sources import Catalogue, Key, Kind, SettingFault, Sources, gather, suggestion, with_files
from bridge.settings_types import (
    MAPPING_FIELDS,
    SENTENCES,
    TEMPLATE_FIELDS,
    TEN_YEARS_S,
    Bytes,
    CentionUrl,
    DirectoryPath,
    ErrandTemplate,
    EventMapping,
    FeedUrl,
    Host,
    KeyPrefix,
    Port,
    Redis,
    RedisUrl,
    Region,
    Seconds,
    Text,
    Token,
    WebhookSecret,
    WholeSeconds,
    is_every_address,
    is_loopback,
)

__all__ = [
    "MAPPING_FIELDS",
    "TEMPLATE_FIELDS",
    "Claim",
    "RedisUrl",
    "SettingFault",
    "Settings",
    "SettingsError",
    "load",
]

Claim = Literal["create_errand", "errand_data", "contacts", "library", "export", "attachment", "logio"]
"""What a Cention token may do. Source: Cention API, each endpoint's "JSON Web Token (JWT) with … claim"."""


class SettingsError(Exception):
    """The settings cannot be used; str() lists every fault, one a line.

    Attributes:
        faults: all that is wrong, in every source.
    """

    def __init__(self, faults: tuple[SettingFault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


class _Table(BaseModel):
    # validate_default is off: the defaults are proven by a test, not at every start.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class IntakeSettings(_Table):
    host: Host = "127.0.0.1"
    port: Port = 8080
    tokens: tuple[Token, ...] = ()
    webhook_secrets: tuple[WebhookSecret, ...] = ()
    body_bytes_max: Bytes = 1024**2
    events_max: StrictInt = Field(1000, ge=1, le=1000)
    clock_ahead_s_max: WholeSeconds = 86_400
    clock_behind_s_max: WholeSeconds = TEN_YEARS_S
    mapping: EventMapping = {}


class AdminSettings(_Table):
    host: Host = "127.0.0.1"
    port: Port = 8081
    viewer_tokens: tuple[Token, ...] = ()
    operator_tokens: tuple[Token, ...] = ()


class RedisSettings(_Table):
    url: Redis = RedisUrl("embedded")
    data_dir: DirectoryPath = Path("data/redis")
    fsync: Literal["always", "everysec", "no"] = "always"
    key_prefix: KeyPrefix = "aventa"
    timeout_s: Seconds = 5.0
    rejections_max: StrictInt = Field(10_000, ge=1, le=1_000_000)
    rejections_age_s_max: WholeSeconds = 604_800


class RouteSettings(_Table):
    """The token that creates the errands of one queue."""

    queue: Text
    token: Token


class CentionSettings(_Table):
    base_url: CentionUrl | None = None
    token: Token | None = None
    tokens: Mapping[Claim, Token] = {}
    routes: tuple[RouteSettings, ...] = ()
    obcall_type: Literal["c3_end_errands", "c3_end_obcall"] = "c3_end_errands"


class CallsSettings(_Table):
    open_errand_for: tuple[Direction, ...] = (Direction.INBOUND, Direction.OUTBOUND)
    inbound_end: Literal["end_session", "close_errand", "nothing"] = "end_session"
    default_queue_name: Text = "outbound"
    default_queue_number: Text = "0"
    orphan_grace_s: Seconds = 30.0
    age_s_max: Seconds = 14_400.0
    ended_retention_s: WholeSeconds = 86_400
    # Longer than a sender's retry span (Standard Webhooks' example schedule ends after a little over a day): a mark
    # that is gone before the last retry lets that retry open the errand a second time.
    duplicate_retention_s: StrictInt = Field(259_200, ge=3600, le=TEN_YEARS_S)
    close_user_type: Text = "cention"
    close_user_id: str = ""
    timeline_entries_max: StrictInt = Field(500, ge=1, le=10_000)


class NumbersSettings(_Table):
    default_region: Region | None = None


class ErrandSettings(_Table):
    subject: ErrandTemplate = "Call from ${callingNumber} to ${calledNumber}"
    body: ErrandTemplate = (
        "Direction: ${direction}\n"
        "From: ${callingNumber} ${callingName}\n"
        "To: ${calledNumber}\n"
        "Queue: ${queueName} (${queueNumber})\n"
        "Started: ${startedAt}\n"
        "Call: ${callId}\n"
    )


class DeliverySettings(_Table):
    schedule_s: tuple[Seconds, ...] = Field((1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0), min_length=1)
    age_s_max: Seconds = 86_400.0
    concurrency: StrictInt = Field(32, ge=1, le=1000)
    attempt_timeout_s: Seconds = 10.0
    lease_s: Seconds = 15.0
    poll_s: Seconds = 0.5
    drain_s: Seconds = 10.0


class FeedSettings(_Table):
    kind: Literal["none", "websocket", "sse", "ndjson"] = "none"
    url: FeedUrl | None = None
    token: Token | None = None
    mapping: EventMapping = {}


class LogSettings(_Table):
    level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        BeforeValidator(lambda level: level.lower() if isinstance(level, str) else level),
    ] = "info"
    style: Literal["json", "console"] = "json"


class Settings(_Table):
    """All settings, by section. Durations are in seconds."""

    intake: IntakeSettings = IntakeSettings()
    admin: AdminSettings = AdminSettings()
    redis: RedisSettings = RedisSettings()
    cention: CentionSettings = CentionSettings()
    calls: CallsSettings = CallsSettings()
    numbers: NumbersSettings = NumbersSettings()
    errand: ErrandSettings = ErrandSettings()
    delivery: DeliverySettings = DeliverySettings()
    feed: FeedSettings = FeedSettings()
    log: LogSettings = LogSettings()


def load(file: Path | None = None, *, environ: Mapping[str, str], sandbox: bool = False) -> Settings:
    """Reads and checks the settings.

    Args:
        file: the TOML file; None for `./config.toml` where there is one, else the defaults alone.
        environ: the environment, whose `BRIDGE_<SECTION>__<KEY>` beat the file.
        sandbox: whether a sandbox takes the place of Cention, so that no address or token is needed.

    Raises:
        SettingsError: something is wrong; it holds every fault of every source.

    Source: contract section 6.
    """
    sources = gather(file, environ, _catalogue())
    settings = Settings.model_validate({name: _section(name, model, sources) for name, model in _models().items()})
    # A rule has nothing to say where a key it reads has a fault of its own: its value is not what was meant.
    doubtful = {_key(path) for path in sources.unknown} | {_key(fault.path) for fault in sources.faults}
    for path, detail, *others in _clashes(settings, sandbox=sandbox):
        if doubtful.isdisjoint([path, *others]):
            sources.fault(path, detail)
    if sources.faults:
        raise SettingsError(tuple(sources.faults))
    return settings


def _clashes(s: Settings, *, sandbox: bool) -> Iterator[tuple[str, ...]]:
    """The rules between keys: for each broken one, the key at fault, what to do, and the other keys that it reads."""
    if not is_loopback(s.intake.host) and not (s.intake.tokens or s.intake.webhook_secrets):
        yield (
            "intake.host",
            "with neither tokens nor webhook_secrets, the intake starts on loopback only; give one of them",
            *("intake.tokens", "intake.webhook_secrets"),
        )
    if not is_loopback(s.admin.host) and not (s.admin.viewer_tokens or s.admin.operator_tokens):
        yield (
            "admin.host",
            "with neither viewer_tokens nor operator_tokens, the admin listener starts on loopback only; give one",
            *("admin.viewer_tokens", "admin.operator_tokens"),
        )
    if {t.get_secret_value() for t in s.admin.viewer_tokens} & {t.get_secret_value() for t in s.admin.operator_tokens}:
        yield (
            "admin.viewer_tokens",
            "a token is both a viewer's and an operator's; make them differ",
            "admin.operator_tokens",
        )
    if s.admin.port == s.intake.port != 0 and _share_an_address(s.admin.host, s.intake.host):
        yield (
            "admin.port",
            "is the intake's port too; give each listener its own",
            "intake.port",
            "admin.host",
            "intake.host",
        )
    if not sandbox and s.cention.base_url is None:
        yield "cention.base_url", "is missing; set it to https://<host>/s/<workspace>, or run with --sandbox"
    if not sandbox and s.cention.token is None and "create_errand" not in s.cention.tokens:
        yield (
            "cention.token",
            "is missing; errands need it, or cention.tokens.create_errand, or run with --sandbox",
            "cention.tokens",
        )
    queues = [route.queue for route in s.cention.routes]
    for place, queue in enumerate(queues):
        if (first := queues.index(queue)) != place:
            yield f"cention.routes[{place}].queue", f"is routed already by cention.routes[{first}]; keep one of them"
    if s.calls.inbound_end == "close_errand" and not s.calls.close_user_id.strip():
        yield (
            "calls.close_user_id",
            'is missing; with calls.inbound_end "close_errand", Cention asks which user closes an errand',
            "calls.inbound_end",
        )
    if any(earlier > later for earlier, later in pairwise(s.delivery.schedule_s)):
        yield "delivery.schedule_s", "must ascend: no wait may be shorter than the one before it"
    if s.delivery.lease_s < s.delivery.attempt_timeout_s + 1:
        yield (
            "delivery.lease_s",
            "must exceed delivery.attempt_timeout_s by at least 1 second, or a lane is taken over in mid-attempt",
            "delivery.attempt_timeout_s",
        )
    if s.feed.kind != "none":
        schemes = ("wss://", "ws://") if s.feed.kind == "websocket" else ("https://", "http://")
        if s.feed.url is None:
            yield "feed.url", "is missing; a feed needs one", "feed.kind"
        elif not s.feed.url.startswith(schemes):
            yield "feed.url", f'must start with {" or ".join(schemes)} for feed.kind "{s.feed.kind}"', "feed.kind"


def _share_an_address(one: str, other: str) -> bool:
    """Whether two listeners on one port would meet: the same host, or one that stands for every address."""
    hosts = {"127.0.0.1" if host.lower() == "localhost" else host.lower() for host in (one, other)}
    return len(hosts) == 1 or any(is_every_address(host) for host in hosts)


def _key(path: str) -> str:
    """`section.key` of a path below it: `cention.tokens` of `cention.tokens.create_errand_file`."""
    section, _, rest = path.partition(".")
    return f"{section}.{re.split(r'[.[]', rest)[0].removesuffix('_file')}"


def _section(name: str, model: type[BaseModel], sources: Sources) -> BaseModel:
    """The section's settings; where a key is at fault, it is told and the rest goes on with the key's default."""
    table = sources.tree[name]
    try:
        return model.model_validate(table)
    except ValidationError as invalid:
        # The input never leaves pydantic: it may be a secret, or hold one.
        errors = invalid.errors(include_url=False, include_input=False)
    for error in errors:
        path = name + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"] if p != "[key]")
        if path not in sources.unknown:
            sources.fault(path, _sentence(model, error["type"], error["loc"], error.get("ctx", {}), error["msg"]))
    faulty = {error["loc"][0] for error in errors}
    return model.model_validate({key: value for key, value in table.items() if key not in faulty})


def _sentence(
    model: type[BaseModel], kind: str, loc: tuple[int | str, ...], context: Mapping[str, Any], fallback: str
) -> str:
    """What pydantic found, in the words of someone who has to mend it."""
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        owner = model if len(loc) == 1 else RouteSettings
        known = with_files(owner.model_fields, _secrets(owner))
        return f"is not a setting{suggestion(str(loc[-1]), known)}"
    if loc[-1] == "[key]" and kind == "literal_error":
        return f"is not a key of this table; its keys are {context['expected']}"
    return SENTENCES[kind].format_map(context) if kind in SENTENCES else fallback


@cache
def _models() -> Mapping[str, type[BaseModel]]:
    return {name: type(field.default) for name, field in Settings.model_fields.items()}


@cache
def _catalogue() -> Catalogue:
    """What the sources have to know of each key, read off the models."""
    return {
        section: {name: _described(field.annotation) for name, field in model.model_fields.items()}
        for section, model in _models().items()
    }


def _described(annotation: Any) -> Key:
    parts = list(_parts(annotation))
    origin = get_origin(annotation)
    kind: Kind = "text"
    names: tuple[str, ...] = ()
    if origin is tuple:
        kind = "list"
    elif origin is Mapping:
        kind = "table"
        names = get_args(Claim) if SecretStr in parts else MAPPING_FIELDS
    elif int in parts or float in parts:
        kind = "number"
    return Key(
        kind,
        secret=SecretStr in parts or RedisUrl in parts,
        optional=type(None) in parts,
        names=names,
        item_secrets=_secrets(RouteSettings) if RouteSettings in parts else (),
    )


def _secrets(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(name for name, field in model.model_fields.items() if _described(field.annotation).secret)


def _parts(annotation: Any) -> Iterator[Any]:
    """Every type that an annotation is made of."""
    if args := get_args(annotation):
        for part in args:
            yield from _parts(part)
    else:
        yield annotation

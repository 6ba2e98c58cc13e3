"""The sections of the settings: every key there is, its type and its default.

Must not know where a value comes from, nor the rules between keys (`bridge.settings` has both). `config.toml` at the
top of the repository says what each key means.

Invariant: settings never change once made, and a secret shows in no repr or str.
Source: contract section 6.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt

from bridge.calls.events import Direction
from bridge.settings_types import (
    TEN_YEARS_S,
    AgentPairs,
    Bytes,
    CentionUrl,
    DirectoryPath,
    ErrandTemplate,
    EventMapping,
    FeedUrl,
    FilePath,
    ForwardUrl,
    Host,
    KeyPrefix,
    Password,
    Port,
    Redis,
    RedisUrl,
    Region,
    Seconds,
    SpoolBytes,
    Text,
    Token,
    WebhookSecret,
    WholeSeconds,
    one_or_more,
)

Claim = Literal["create_errand", "errand_data", "contacts", "library", "export", "attachment", "logio"]
"""What a Cention token may do. Source: Cention API, each endpoint's "JSON Web Token (JWT) with … claim"."""


class Table(BaseModel):
    # validate_default is off: the defaults are proven by a test, not at every start.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class IntakeSettings(Table):
    host: Host = "127.0.0.1"
    port: Port = 8080
    reuse_port: StrictBool = False
    tokens: tuple[Token, ...] = ()
    webhook_secrets: tuple[WebhookSecret, ...] = ()
    body_bytes_max: Bytes = 1024**2
    events_max: StrictInt = Field(1000, ge=1, le=1000)
    clock_ahead_s_max: WholeSeconds = 86_400
    clock_behind_s_max: WholeSeconds = TEN_YEARS_S
    mapping: EventMapping = {}


class AdminSettings(Table):
    host: Host = "127.0.0.1"
    port: Port = 8081
    viewer_tokens: tuple[Token, ...] = ()
    operator_tokens: tuple[Token, ...] = ()


class RedisSettings(Table):
    url: Redis = RedisUrl("embedded")
    data_dir: DirectoryPath = Path("data/redis")
    fsync: Literal["always", "everysec", "no"] = "always"
    key_prefix: KeyPrefix = "aventa"
    timeout_s: Seconds = 5.0
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    sentinel_user: Text | None = None
    sentinel_password: Password | None = None
    wait_replicas: StrictInt = Field(0, ge=0, le=100)
    wait_timeout_ms: StrictInt = Field(500, ge=1, le=60_000)
    wait_aof: StrictBool = False
    rejections_max: StrictInt = Field(10_000, ge=1, le=1_000_000)
    rejections_age_s_max: WholeSeconds = 604_800


class SpoolSettings(Table):
    enabled: StrictBool = True
    dir: DirectoryPath = Path("data/spool")
    bytes_max: SpoolBytes = 256 * 1024**2
    age_s_max: WholeSeconds = 86_400


class RouteSettings(Table):
    """The token that creates the errands of one queue."""

    queue: Text
    token: Token


class CentionSettings(Table):
    base_url: CentionUrl | None = None
    token: Token | None = None
    tokens: Mapping[Claim, Token] = {}
    routes: tuple[RouteSettings, ...] = ()
    obcall_type: Literal["c3_end_errands", "c3_end_obcall"] = "c3_end_errands"


class CallsSettings(Table):
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


class NumbersSettings(Table):
    default_region: Region | None = None


class ErrandSettings(Table):
    subject: ErrandTemplate = "Call from ${callingNumber} to ${calledNumber}"
    body: ErrandTemplate = (
        "Direction: ${direction}\n"
        "From: ${callingNumber} ${callingName}\n"
        "To: ${calledNumber}\n"
        "Queue: ${queueName} (${queueNumber})\n"
        "Started: ${startedAt}\n"
        "Call: ${callId}\n"
        "Reference: ${reference}\n"
    )


class DeliverySettings(Table):
    schedule_s: tuple[Seconds, ...] = Field((1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0), min_length=1)
    age_s_max: Seconds = 86_400.0
    concurrency: StrictInt = Field(32, ge=1, le=1000)
    attempt_timeout_s: Seconds = 10.0
    lease_s: Seconds = 15.0
    poll_s: Seconds = 0.5
    drain_s: Seconds = 10.0
    unknown_outcome: Literal["retry", "lookup", "park"] = "retry"
    lookup_reports_max: StrictInt = Field(20, ge=1, le=1000)
    breaker_failures: StrictInt = Field(10, ge=1, le=10_000)
    breaker_open_s: Seconds = 5.0
    rate_per_s: float = Field(0.0, strict=True, ge=0, le=100_000, allow_inf_nan=False)


class ContactsSettings(Table):
    upsert: StrictBool = False
    timeout_s: Seconds = 2.0
    cuid_label: Text | None = None


class PresenceSettings(Table):
    every_s: Seconds = 60.0
    agents: AgentPairs = {}


class ReconcileSettings(Table):
    every_s: float = Field(0.0, strict=True, ge=0, le=TEN_YEARS_S, allow_inf_nan=False)
    grace_s: Seconds = 900.0
    reports_max: StrictInt = Field(100, ge=1, le=10_000)
    repair: StrictBool = False


class CallbackSettings(Table):
    enabled: StrictBool = True
    secret: Annotated[tuple[Password, ...], BeforeValidator(one_or_more)] = ()
    body_bytes_max: Bytes = 1024**2
    kept_max: StrictInt = Field(10_000, ge=16, le=1_000_000)
    age_s_max: WholeSeconds = 604_800
    fetch_attachments: StrictBool = False
    dir: DirectoryPath = Path("data/callbacks")
    file_bytes_max: Bytes = 25 * 1024**2
    dir_bytes_max: SpoolBytes = 1024**3
    forward_url: ForwardUrl | None = None
    forward_secret: Annotated[tuple[WebhookSecret, ...], BeforeValidator(one_or_more)] = ()


class FeedSettings(Table):
    kind: Literal["none", "websocket", "sse", "ndjson"] = "none"
    url: FeedUrl | None = None
    token: Token | None = None
    mapping: EventMapping = {}


class LogSettings(Table):
    level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        BeforeValidator(lambda level: level.lower() if isinstance(level, str) else level),
    ] = "info"
    style: Literal["json", "console"] = "json"


class Settings(Table):
    """All settings, by section. Durations are in seconds."""

    intake: IntakeSettings = IntakeSettings()
    admin: AdminSettings = AdminSettings()
    redis: RedisSettings = RedisSettings()
    spool: SpoolSettings = SpoolSettings()
    cention: CentionSettings = CentionSettings()
    calls: CallsSettings = CallsSettings()
    numbers: NumbersSettings = NumbersSettings()
    errand: ErrandSettings = ErrandSettings()
    delivery: DeliverySettings = DeliverySettings()
    contacts: ContactsSettings = ContactsSettings()
    presence: PresenceSettings = PresenceSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    callback: CallbackSettings = CallbackSettings()
    feed: FeedSettings = FeedSettings()
    log: LogSettings = LogSettings()

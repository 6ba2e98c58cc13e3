"""The settings: the rules between keys, and `load`, which says everything that is wrong at once.

Every key with its default is in `bridge.settings_sections`. Must not know who uses a setting, nor where a value came
from (`bridge.settings_sources` does). `config.toml` at the top of the repository says what each key means.

Invariants: settings never change once loaded. A secret shows in no fault, repr or str. Only `load` checks the rules
between keys; a `Settings` built by hand has been checked key by key.

Source: contract section 6.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, SecretStr, ValidationError

from bridge.calls.events import Pair
from bridge.settings_sections import Claim, RedisSettings, RouteSettings, Settings
from bridge.settings_sources import Catalogue, Key, Kind, SettingFault, Sources, gather, suggestion, with_files
from bridge.settings_types import (
    MAPPING_FIELDS,
    SENTENCES,
    TEMPLATE_FIELDS,
    RedisUrl,
    is_every_address,
    is_loopback,
    one_or_more,
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

LOOKUP_LEAST_S = 2.0
"""What a lease must leave beside an attempt for the look-up before it; one more second is for settling."""


class SettingsError(Exception):
    """The settings cannot be used; str() lists every fault, one a line.

    Attributes:
        faults: all that is wrong, in every source.
    """

    def __init__(self, faults: tuple[SettingFault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


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


def secrets(values: Iterable[SecretStr]) -> list[str]:
    """What `values` hide."""
    return [value.get_secret_value() for value in values]


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
    yield from _redis_clashes(s.redis)
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
    looks_up = s.delivery.unknown_outcome == "lookup"
    card_s = s.contacts.timeout_s if s.contacts.upsert else 0.0
    if s.delivery.lease_s < s.delivery.attempt_timeout_s + 1:
        yield (
            "delivery.lease_s",
            "must exceed delivery.attempt_timeout_s by at least 1 second, or a lane is taken over in mid-attempt",
            "delivery.attempt_timeout_s",
        )
    elif looks_up and s.delivery.lease_s < s.delivery.attempt_timeout_s + LOOKUP_LEAST_S + 1:
        yield (
            "delivery.lease_s",
            f"must exceed delivery.attempt_timeout_s by at least {LOOKUP_LEAST_S + 1:g} seconds; with"
            ' delivery.unknown_outcome "lookup", a look-up comes before the attempt',
            *("delivery.attempt_timeout_s", "delivery.unknown_outcome"),
        )
    elif card_s and s.delivery.lease_s < s.delivery.attempt_timeout_s + card_s + looks_up * LOOKUP_LEAST_S + 1:
        yield (
            "delivery.lease_s",
            "must exceed delivery.attempt_timeout_s and contacts.timeout_s together by at least"
            f" {looks_up * LOOKUP_LEAST_S + 1:g} seconds; with contacts.upsert, a contact card comes before the errand",
            *("delivery.attempt_timeout_s", "delivery.unknown_outcome", "contacts.timeout_s", "contacts.upsert"),
        )
    if looks_up and not any("reference" in Template(t).get_identifiers() for t in (s.errand.subject, s.errand.body)):
        yield (
            "errand.body",
            'must hold ${reference}, or errand.subject must; with delivery.unknown_outcome "lookup", an errand is'
            " found by it",
            *("errand.subject", "delivery.unknown_outcome"),
        )
    if not sandbox and s.cention.token is None:
        yield from _tokens_that_are_missing(s)
    yield from _reconcile_clashes(s)
    yield from _callback_clashes(s)
    if s.feed.kind != "none":
        schemes = ("wss://", "ws://") if s.feed.kind == "websocket" else ("https://", "http://")
        if s.feed.url is None:
            yield "feed.url", "is missing; a feed needs one", "feed.kind"
        elif not s.feed.url.startswith(schemes):
            yield "feed.url", f'must start with {" or ".join(schemes)} for feed.kind "{s.feed.kind}"', "feed.kind"


def _tokens_that_are_missing(s: Settings) -> Iterator[tuple[str, ...]]:
    """What is switched on and has no token for its claim, where no `cention.token` stands in."""
    needs = {
        "delivery.unknown_outcome": (s.delivery.unknown_outcome == "lookup", "errand_data", '"lookup"'),
        "contacts.upsert": (s.contacts.upsert, "contacts", "true"),
        "presence.agents": (bool(s.presence.agents), "logio", "set"),
        "reconcile.every_s": (s.reconcile.every_s > 0, "errand_data", "above 0"),
        "callback.fetch_attachments": (s.callback.fetch_attachments, "attachment", "true"),
    }
    told: set[str] = set(s.cention.tokens)
    for key, (on, claim, value) in needs.items():
        if on and claim not in told:
            told.add(claim)  # told once, whatever else needs it
            detail = f"is missing; with {key} {value}, Cention is asked with it, or with cention.token"
            yield f"cention.tokens.{claim}", detail, "cention.token", key


def _reconcile_clashes(s: Settings) -> Iterator[tuple[str, ...]]:
    if s.reconcile.every_s > 0 and s.reconcile.grace_s >= s.calls.ended_retention_s:
        yield (
            "reconcile.grace_s",
            "must be less than calls.ended_retention_s, or ended calls are forgotten before they are compared",
            *("calls.ended_retention_s", "reconcile.every_s"),
        )
    if s.reconcile.repair and s.calls.inbound_end != "close_errand" and not s.calls.close_user_id.strip():
        yield (
            "calls.close_user_id",
            "is missing; with reconcile.repair true, Cention asks which user closes an errand",
            *("reconcile.repair", "calls.inbound_end"),
        )


def _callback_clashes(s: Settings) -> Iterator[tuple[str, ...]]:
    if s.callback.forward_url is not None and not s.callback.forward_secret:
        yield (
            "callback.forward_secret",
            "is missing; callbacks are signed with it before they are forwarded",
            "callback.forward_url",
        )
    leads_on = s.callback.forward_url is not None or s.callback.fetch_attachments
    if leads_on and s.callback.age_s_max < s.delivery.age_s_max:
        yield (
            "callback.age_s_max",
            "must be at least delivery.age_s_max, or a callback is forgotten while its forwarding or its files wait",
            *("delivery.age_s_max", "callback.forward_url", "callback.fetch_attachments"),
        )


def _redis_clashes(redis: RedisSettings) -> Iterator[tuple[str, ...]]:
    scheme = redis.url.get_secret_value().partition("://")[0]
    # What was written is meant: a bridge that quietly spoke without TLS, or waited for nobody, would do harm.
    needs = {
        "ca_file": (redis.ca_file, "rediss", "TLS", "rediss://"),
        "cert_file": (redis.cert_file, "rediss", "TLS", "rediss://"),
        "key_file": (redis.key_file, "rediss", "TLS", "rediss://"),
        "sentinel_user": (redis.sentinel_user, "sentinel", "sentinels", "redis+sentinel://"),
        "sentinel_password": (redis.sentinel_password, "sentinel", "sentinels", "redis+sentinel://"),
    }
    for key, (value, word, what, form) in needs.items():
        if value is not None and word not in scheme:
            yield f"redis.{key}", f"is for {what}; redis.url does not start with {form}", "redis.url"
    if (redis.cert_file is None) != (redis.key_file is None):
        missing = "cert_file" if redis.cert_file is None else "key_file"
        yield (
            f"redis.{missing}",
            "is missing; a certificate and its key go together",
            "redis.cert_file",
            "redis.key_file",
        )
    if redis.sentinel_user is not None and redis.sentinel_password is None:
        yield "redis.sentinel_password", "is missing; a user has one", "redis.sentinel_user"
    if scheme == "embedded" and redis.wait_replicas:
        yield "redis.wait_replicas", "must be 0 with an embedded Redis, which has no replicas", "redis.url"
    if scheme == "embedded" and redis.wait_aof:
        yield "redis.wait_aof", 'must be false with an embedded Redis, whose fsync is "always" by default', "redis.url"
    if (redis.wait_replicas or redis.wait_aof) and redis.wait_timeout_ms >= redis.timeout_s * 1000:
        yield (
            "redis.wait_timeout_ms",
            "must be less than redis.timeout_s, or an answer is given up before the replicas are",
            *("redis.timeout_s", "redis.wait_replicas", "redis.wait_aof"),
        )


def _share_an_address(one: str, other: str) -> bool:
    """Whether two listeners on one port would meet: the same host, or one that stands for every address."""
    hosts = {"127.0.0.1" if host.lower() == "localhost" else host.lower() for host in (one, other)}
    return len(hosts) == 1 or any(is_every_address(host) for host in hosts)


def _key(path: str) -> str:
    """`section.key` of a path below it: `cention.tokens` of `cention.tokens.create_errand_file`."""
    section, _, rest = path.partition(".")
    name = re.split(r"[.[]", rest)[0]
    known = _models()[section].model_fields if section in _models() else {}
    return f"{section}.{name if name in known else name.removesuffix('_file')}"


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
        section: {
            name: replace(_described(field.annotation), lone=BeforeValidator(one_or_more) in field.metadata)
            for name, field in model.model_fields.items()
        }
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
        # Logins are the operator's own words, so a table of them has no keys to know.
        names = get_args(Claim) if SecretStr in parts else () if Pair in parts else MAPPING_FIELDS
    elif {int, float, bool} & set(parts):
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

"""From the settings to the parts of the service that take more than their values as they stand. Holds no state."""

import random
from collections.abc import Callable, Mapping
from typing import get_args

from bridge.calls.state import InboundEnd, Policy
from bridge.cention.client import CentionClient
from bridge.delivery.breaker import Breaker, State
from bridge.delivery.contacts import ContactCards
from bridge.delivery.lookup import Lookup
from bridge.delivery.places import LINE, Places
from bridge.delivery.rate import Rate
from bridge.delivery.render import Renderer
from bridge.delivery.tokens import Tokens
from bridge.intake.wire import Translator
from bridge.pipeline import Pipeline
from bridge.presence import Presence
from bridge.reconcile import Reconciler, Reconciling
from bridge.runtime.clock import monotonic, now_ms
from bridge.runtime.logs import get_logger
from bridge.runtime.metrics import Metrics
from bridge.settings import Claim, Settings
from bridge.store.calls import Retention
from bridge.store.connection import Connection
from bridge.store.reads import Reads
from bridge.store.turns import Turns

log = get_logger(__name__)

SANDBOX_TOKEN = "sandbox"  # noqa: S105 (opens nothing but the sandbox that this process starts itself)


def cention_tokens(settings: Settings, *, sandboxed: bool) -> tuple[str, dict[str, str], dict[str, str]]:
    """The default Create Errand token, those of single queues, and that of each claim."""
    cention = settings.cention

    def token(claim: Claim) -> str:
        found = cention.tokens.get(claim) or cention.token
        return found.get_secret_value() if found is not None else SANDBOX_TOKEN if sandboxed else ""

    routes = {route.queue: route.token.get_secret_value() for route in cention.routes}
    return token("create_errand"), routes, {claim: token(claim) for claim in get_args(Claim)}


def breaker(settings: Settings, name: str, metrics: Metrics | None) -> Breaker:
    """A breaker as the settings say, named in the log by what it stands before; `metrics` where they show it."""

    def changed(was: State, state: State, reason: str) -> None:
        if metrics is not None:
            metrics.breaker_open.set(state is not State.CLOSED)
            metrics.breaker_opened.inc(int(state is State.OPEN))
        # A probe that fails is no news: that the other side is down was said when the breaker opened.
        write = log.error if (was, state) == (State.CLOSED, State.OPEN) else log.info
        write(f"{name} breaker {state.value}", reason=reason)

    return Breaker(
        failures=settings.delivery.breaker_failures,
        open_s=settings.delivery.breaker_open_s,
        clock=monotonic,
        chance=random.Random().random,  # noqa: S311 (jitter, not a secret)
        changed=changed,
    )


def places(settings: Settings, connection: Connection) -> Places:
    """The worker's places, with a line before them where that harms nobody."""
    delivery = settings.delivery
    # With a rate, what waits in the line would leave all at once. Should the process be killed, nobody knows that it
    # was not tried: it would be left to an operator where doubt parks. And of a cluster one node may be away: its lanes
    # would be tried from the line, and hold the places of all others while they cannot be written down.
    harms = delivery.rate_per_s or delivery.unknown_outcome == "park"
    return Places(delivery.concurrency, line=0 if harms else LINE, spread=lambda: connection.spread)


def card_s(settings: Settings) -> float:
    """Seconds that a lease must leave for contact cards, beside the attempt's own."""
    return settings.contacts.timeout_s if settings.contacts.upsert else 0.0


def lookup(settings: Settings, client: CentionClient, tokens: Tokens, rate: Rate, metrics: Metrics) -> Lookup | None:
    """What looks for errands whose create may have been carried out, if that is wanted."""
    delivery = settings.delivery
    if delivery.unknown_outcome != "lookup":
        return None
    return Lookup(
        client,
        lambda: tokens.claim("errand_data"),
        reports_max=delivery.lookup_reports_max,
        time_s=delivery.lease_s - delivery.attempt_timeout_s - card_s(settings) - 1,
        results=metrics.lookups,
        asked=rate.owe,
    )


def contact_cards(
    settings: Settings, client: CentionClient, tokens: Tokens, rate: Rate, metrics: Metrics
) -> ContactCards | None:
    """What makes contact cards before errands, if that is wanted."""
    if not settings.contacts.upsert:
        return None
    return ContactCards(
        client,
        lambda: tokens.claim("contacts"),
        timeout_s=settings.contacts.timeout_s,
        region=settings.numbers.default_region,
        cuid_label=settings.contacts.cuid_label,
        results=metrics.contact_cards,
        asked=rate.owe,
    )


def presence(
    settings: Settings, client: CentionClient, tokens: Tokens, rate: Rate, metrics: Metrics
) -> Presence | None:
    """What knows who is logged in, if any agent is named."""
    if not settings.presence.agents:
        return None
    return Presence(
        client,
        lambda: tokens.claim("logio"),
        settings.presence.agents,
        metrics,
        every_s=settings.presence.every_s,
        asked=rate.owe,
    )


def reconciler(
    settings: Settings,
    client: CentionClient,
    reads: Reads,
    pipeline: Pipeline,
    token: Callable[[], str],
    rate: Rate,
    metrics: Metrics,
) -> Reconciler:
    """What compares calls with their errands."""
    return Reconciler(
        client,
        reads,
        pipeline,
        token=token,
        inbound_end=InboundEnd(settings.calls.inbound_end),
        grace_ms=round(settings.reconcile.grace_s * 1000),
        rate=rate,
        metrics=metrics,
    )


def reconciling(settings: Settings, reconciler: Reconciler, turns: Turns, metrics: Metrics) -> Reconciling:
    """What lets one replica compare in each turn."""
    return Reconciling(
        reconciler,
        turns,
        metrics,
        every_s=settings.reconcile.every_s,
        reports_max=settings.reconcile.reports_max,
        repair=settings.reconcile.repair,
    )


def policy(settings: Settings) -> Policy:
    return Policy(frozenset(settings.calls.open_errand_for), InboundEnd(settings.calls.inbound_end))


def retention(settings: Settings) -> Retention:
    calls = settings.calls
    return Retention(
        seen_ms=round(calls.duplicate_retention_s * 1000),
        ended_ms=round(calls.ended_retention_s * 1000),
        age_ms=round(calls.age_s_max * 1000),
        grace_ms=round(calls.orphan_grace_s * 1000),
        timeline_entries=calls.timeline_entries_max,
        # As long as its call or a callback of it can be looked up, whichever is longer.
        errand_ms=round(max(calls.age_s_max + calls.ended_retention_s, settings.callback.age_s_max) * 1000)
        * settings.callback.enabled,
    )


def renderer(settings: Settings) -> Renderer:
    return Renderer(
        subject=settings.errand.subject,
        body=settings.errand.body,
        queue_name=settings.calls.default_queue_name,
        queue_number=settings.calls.default_queue_number,
        close_user=(settings.calls.close_user_type, settings.calls.close_user_id),
    )


def translator(settings: Settings, mapping: Mapping[str, str]) -> Translator:
    return Translator(
        default_region=settings.numbers.default_region,
        opens=frozenset(settings.calls.open_errand_for),
        clock_ahead_s_max=settings.intake.clock_ahead_s_max,
        clock_behind_s_max=settings.intake.clock_behind_s_max,
        now_ms=now_ms,
        mapping=mapping,
    )

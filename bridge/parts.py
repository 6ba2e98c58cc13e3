"""From the settings to the parts of the service that take more than their values as they stand. Holds no state."""

import random
from collections.abc import Mapping, Sequence

from pydantic import SecretStr

from bridge.calls.state import InboundEnd, Policy
from bridge.delivery.breaker import Breaker, State
from bridge.delivery.render import Renderer
from bridge.intake.wire import Translator
from bridge.runtime.clock import monotonic, now_ms
from bridge.runtime.logs import get_logger
from bridge.runtime.metrics import Metrics
from bridge.settings import Claim, Settings
from bridge.store.calls import Retention

log = get_logger(__name__)

SANDBOX_TOKEN = "sandbox"  # noqa: S105 (opens nothing but the sandbox that this process starts itself)


def secrets(values: Sequence[SecretStr]) -> list[str]:
    return [value.get_secret_value() for value in values]


def cention_tokens(settings: Settings, *, sandboxed: bool) -> tuple[str, dict[str, str], str]:
    """The default Create Errand token, those of single queues, and the one for errand data."""
    cention = settings.cention

    def token(claim: Claim) -> str:
        found = cention.tokens.get(claim) or cention.token
        return found.get_secret_value() if found is not None else SANDBOX_TOKEN if sandboxed else ""

    routes = {route.queue: route.token.get_secret_value() for route in cention.routes}
    return token("create_errand"), routes, token("errand_data")


def breaker(settings: Settings, metrics: Metrics) -> Breaker:
    def changed(was: State, state: State, reason: str) -> None:
        metrics.breaker_open.set(state is not State.CLOSED)
        if state is State.OPEN:
            metrics.breaker_opened.inc()
        # A probe that fails is no news: that Cention is down was said when the breaker opened.
        write = log.error if (was, state) == (State.CLOSED, State.OPEN) else log.info
        write("cention breaker " + state.value, reason=reason)

    return Breaker(
        failures=settings.delivery.breaker_failures,
        open_s=settings.delivery.breaker_open_s,
        clock=monotonic,
        chance=random.Random().random,  # noqa: S311 (jitter, not a secret)
        changed=changed,
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

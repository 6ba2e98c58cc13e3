"""Every metric on one page. Labels are few and never personal: results, kinds, outcomes.

Names follow Prometheus's conventions: base units, `_total` for counters.
"""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)


@dataclass(frozen=True, slots=True)
class DeliveryMetrics:
    """What a worker counts, where it is not the one of agents' lanes."""

    attempts: Counter
    attempt_seconds: Histogram
    delivery_seconds: Histogram
    held: Counter


class Metrics:
    """One service's metrics, in a registry of their own, so that two services in one process do not mix."""

    def __init__(self, version: str) -> None:
        self.registry = registry = CollectorRegistry()
        info = Gauge("bridge_build_info", "1; the version is the label.", ["version"], registry=registry)
        info.labels(version).set(1)
        self.events = Counter(
            "bridge_events", "Events by what became of them: accepted, duplicate, rejected.", ["result"],
            registry=registry,
        )  # fmt: skip
        self.accept_seconds = Histogram(
            "bridge_accept_seconds", "From an event's arrival to its being durable.", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.attempts = Counter(
            "bridge_delivery_attempts", "Attempts at Cention by effect and outcome.", ["kind", "outcome"],
            registry=registry,
        )  # fmt: skip
        self.attempt_seconds = Histogram(
            "bridge_delivery_attempt_seconds", "How long one attempt took.", buckets=_SECONDS, registry=registry
        )
        self.delivery_seconds = Histogram(
            "bridge_delivery_seconds", "From an effect's commit to Cention's answer to it.", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.trying = Gauge("bridge_delivery_attempts_under_way", "Attempts at Cention being made.", registry=registry)
        self.in_line = Gauge(
            "bridge_deliveries_in_line",
            "Deliveries leased here that wait for a place to be tried in.",
            registry=registry,
        )
        self.paced = Gauge(
            "bridge_events_paced", "Events that wait, for a second at most, since this process is at its limit.",
            registry=registry,
        )  # fmt: skip
        self.expired = Counter("bridge_calls_expired", "Calls swept, and orphans written off.", registry=registry)
        self.waiting = Gauge("bridge_deliveries_waiting", "Deliveries not yet made.", registry=registry)
        self.parked = Gauge("bridge_deliveries_parked", "Deliveries that wait for an operator.", registry=registry)
        self.oldest_seconds = Gauge(
            "bridge_delivery_oldest_seconds", "Age of the oldest delivery not yet made; 0: none.", registry=registry
        )
        self.active_calls = Gauge("bridge_calls_active", "Calls that an agent is on.", registry=registry)
        self.tokens_refused = Gauge(
            "bridge_cention_tokens_refused", "Tokens that Cention refuses: their lanes stand still.", registry=registry
        )
        self.breaker_open = Gauge(
            "bridge_cention_breaker_open", "1 while attempts at Cention stop, because it is down.", registry=registry
        )
        self.breaker_opened = Counter("bridge_cention_breaker_opened", "Times that it opened.", registry=registry)
        self.held = Counter(
            "bridge_deliveries_held", "Lanes put back without an attempt: breaker, token, pause.", ["what"],
            registry=registry,
        )  # fmt: skip
        self.lookups = Counter(
            "bridge_errand_lookups", "Errands looked for after a lost answer, by result.", ["result"], registry=registry
        )
        self.contact_cards = Counter(
            "bridge_contact_cards", "Contact cards before errands, by what became of them.", ["result"],
            registry=registry,
        )  # fmt: skip
        self.logged_out_calls = Counter(
            "bridge_calls_agent_logged_out", "Calls that began at an agent who is logged out of Cention.",
            registry=registry,
        )  # fmt: skip
        self.presence_known = Gauge(
            "bridge_presence_known", "1 while it is known who is logged in to Cention; 0 too where nobody asks.",
            registry=registry,
        )  # fmt: skip
        self.reconciled = Counter(
            "bridge_reconcile_reports", "Errand reports compared with calls, by result.", ["result"], registry=registry
        )
        self.reconcile_repairs = Counter(
            "bridge_reconcile_repairs", "Calls and errands that reconciliation mended.", registry=registry
        )
        self.reconcile_found = Gauge(
            "bridge_reconcile_found", "What the last whole round of reconciliation found.", ["what"], registry=registry
        )
        self.reloads = Counter(
            "bridge_secret_reloads", "Secrets re-read, by result: unchanged, changed, failed.", ["result"],
            registry=registry,
        )  # fmt: skip
        self.spool_events = Gauge("bridge_spool_events", "Events that wait in the spool.", registry=registry)
        self.spool_bytes = Gauge("bridge_spool_bytes", "Bytes of the spool's files.", registry=registry)
        self.spool_oldest_seconds = Gauge(
            "bridge_spool_oldest_seconds", "How long the spool's oldest event has waited; 0: none.", registry=registry
        )
        self.spool_usable = Gauge(
            "bridge_spool_usable", "1 while the spool would take events, as far as known.", registry=registry
        )
        self.spooled = Counter("bridge_spooled", "Events put into the spool, refused ones included.", registry=registry)
        self.spool_torn = Counter(
            "bridge_spool_torn", "Stretches of the spool's files that hold nothing readable.", registry=registry
        )
        self.callbacks = Counter(
            "bridge_callbacks", "Callbacks taken, by event (answer_errand, other) and result.", ["event", "result"],
            registry=registry,
        )  # fmt: skip
        self.callbacks_refused = Counter(
            "bridge_callbacks_refused", "Callbacks refused, by the code that Cention was told.", ["code"],
            registry=registry,
        )  # fmt: skip
        self.callback_attempts = Counter(
            "bridge_callback_attempts", "Attempts at what callbacks lead to, by kind and outcome.", ["kind", "outcome"],
            registry=registry,
        )  # fmt: skip
        self.callback_attempt_seconds = Histogram(
            "bridge_callback_attempt_seconds", "How long one of these took.", buckets=_SECONDS, registry=registry
        )
        self.callback_seconds = Histogram(
            "bridge_callback_seconds", "From a callback's commit until what it led to was done.", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.callback_held = Counter(
            "bridge_callback_held", "Lanes of callbacks put back without an attempt: breaker, token, pause.", ["what"],
            registry=registry,
        )  # fmt: skip
        self.callback_waiting = Gauge(
            "bridge_callback_waiting", "What callbacks led to and is not done yet.", registry=registry
        )
        self.callback_parked = Gauge(
            "bridge_callback_parked", "What callbacks led to and is no longer tried.", registry=registry
        )
        self.callback_oldest_seconds = Gauge(
            "bridge_callback_oldest_seconds", "Age of the oldest that is not done yet; 0: none.", registry=registry
        )
        self.callback_tokens_refused = Gauge(
            "bridge_callback_tokens_refused", "1 while Cention refuses the token for files.", registry=registry
        )
        self.callback_files_bytes = Gauge(
            "bridge_callback_files_bytes", "Bytes of the files that were fetched, as far as known.", registry=registry
        )
        self.redis_available = Gauge("bridge_redis_available", "1 while Redis answers.", registry=registry)
        # Made here, so that a result that has not occurred yet is a 0 and not missing.
        for result in ("accepted", "duplicate", "rejected"):
            self.events.labels(result)
        for what in ("breaker", "token", "pause"):
            self.held.labels(what)
            self.callback_held.labels(what)
        for event in ("answer_errand", "other"):
            for result in ("accepted", "duplicate"):
                self.callbacks.labels(event, result)
        for result in ("found", "absent", "unavailable", "refused"):
            self.lookups.labels(result)
        for result in ("upserted", "rejected", "failed", "refused", "skipped"):
            self.contact_cards.labels(result)
        for result in ("agrees", "errand_open", "call_active", "unread"):
            self.reconciled.labels(result)
        for what in ("errand_open", "call_active"):
            self.reconcile_found.labels(what)
        for result in ("unchanged", "changed", "failed"):
            self.reloads.labels(result)

    def of_callbacks(self) -> DeliveryMetrics:
        """What the worker of callbacks counts."""
        return DeliveryMetrics(
            self.callback_attempts, self.callback_attempt_seconds, self.callback_seconds, self.callback_held
        )

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

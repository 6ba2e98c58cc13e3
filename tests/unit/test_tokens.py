"""Tokens: which queue has which, which of them rest, and what a change does."""

from prometheus_client import CollectorRegistry, Gauge

from bridge.calls.events import Facts
from bridge.cention.outcome import Delivered, Rejected, TryLater, Unauthorised, Unknown
from bridge.delivery.breaker import ASKED_S_MAX
from bridge.delivery.tokens import PROBE_S, Tokens


class World:
    """Tokens on a clock of the test's own, and what they told."""

    def __init__(self) -> None:
        self.now, self.asked = 1000.0, 0
        self.registry = CollectorRegistry()
        self.tokens = Tokens(
            "usual",
            {"Support": "support", "7": "seven"},
            Gauge("refused", "Refused tokens.", registry=self.registry),
            claims={"errand_data": "data"},
            on_refused=self.ask,
            clock=lambda: self.now,
        )

    def ask(self) -> None:
        self.asked += 1

    @property
    def refused(self) -> float | None:
        return self.registry.get_sample_value("refused")

    def rests(self, token: str) -> tuple[str, float] | None:
        rest = self.tokens.rest(token)
        return None if rest is None else (rest.what, round(rest.wait_s, 3))


def test_a_queue_has_its_token_by_name_then_by_number() -> None:
    of = World().tokens.of
    assert of(Facts(queue_name="Support", queue_number="7")) == "support"
    assert of(Facts(queue_name="Sales", queue_number="7")) == "seven"
    assert of(Facts(queue_name="Sales")) == of(Facts()) == "usual"


def test_a_refused_token_rests_alone_and_one_delivery_probes_it() -> None:
    world = World()
    world.tokens.note("support", Unauthorised(401, "no"))
    assert (world.rests("support"), world.rests("usual")) == (("token", PROBE_S), None)
    assert (world.refused, world.asked) == (1, 1)
    world.now += PROBE_S
    assert world.rests("support") is None, "the probe"
    assert world.rests("support") == ("token", PROBE_S), "the others wait for it"
    world.tokens.note("support", Unauthorised(403, "no"))
    world.now += PROBE_S
    assert world.rests("support") is None
    world.tokens.note("support", Rejected(406, "bad document, good token"))
    assert (world.rests("support"), world.refused, world.asked) == (None, 0, 2)


def test_what_does_not_prove_a_token_does_not_end_its_rest() -> None:
    world = World()
    world.tokens.note("usual", Unauthorised(401, "no"))
    for outcome in (TryLater("busy", 503), Unknown("reset")):
        world.tokens.note("usual", outcome)
    assert world.rests("usual") == ("token", PROBE_S)


def test_a_new_token_does_not_rest() -> None:
    world = World()
    world.tokens.note("usual", Unauthorised(401, "no"))
    world.tokens.note("support", Unauthorised(401, "no"))
    assert world.tokens.replace("new", {"Support": "support", "7": "seven"}, {"errand_data": "data"})
    assert (world.tokens.of(Facts()), world.rests("new")) == ("new", None)
    assert world.rests("support") == ("token", PROBE_S), "one that stayed rests on"
    assert world.refused == 1
    assert not world.tokens.replace("new", {"Support": "support", "7": "seven"}, {"errand_data": "data"})
    assert world.tokens.replace("new", {}, {"errand_data": "other"})
    assert (world.tokens.claim("errand_data"), world.refused) == ("other", 0)


def test_a_late_refusal_of_a_token_that_was_changed_is_no_news() -> None:
    world = World()
    world.tokens.replace("new", {}, {"errand_data": "data"})
    world.tokens.note("usual", Unauthorised(401, "no"))
    assert (world.refused, world.asked, world.rests("new")) == (0, 0, None)


def test_too_many_requests_pauses_the_token_for_as_long_as_was_asked() -> None:
    world = World()
    world.tokens.note("usual", TryLater("slow down", 429, retry_after_s=20))
    assert (world.rests("usual"), world.rests("support")) == (("pause", 20), None)
    world.now += 20
    assert world.rests("usual") is None
    world.tokens.note("usual", TryLater("slow down", 429, retry_after_s=86_400))
    assert world.rests("usual") == ("pause", ASKED_S_MAX)


def test_nothing_else_pauses_a_token() -> None:
    world = World()
    for outcome in (TryLater("x", 429), TryLater("x", 503, retry_after_s=20), Delivered(201), Unknown("x")):
        world.tokens.note("usual", outcome)
    assert world.rests("usual") is None

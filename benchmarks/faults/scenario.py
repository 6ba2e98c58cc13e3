"""What a scenario is, what it is played with, and what it comes to. Values alone: the playing is `world`'s."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.faults.history import Findings
from bridge.settings import Settings

if TYPE_CHECKING:
    from benchmarks.faults.world import World

LEASE_S, ATTEMPT_S = 2.0, 1.0
SETTINGS: Mapping[str, object] = {
    "delivery__attempt_timeout_s": ATTEMPT_S,
    "delivery__lease_s": LEASE_S,
    "delivery__schedule_s": [0.1, 0.2, 0.5],
    "delivery__poll_s": 0.1,
    "delivery__drain_s": 5,
    "delivery__breaker_open_s": 0.5,
    "calls__orphan_grace_s": 600,
    "intake__port": 0,
    "admin__port": 0,
    "cention__token": "token-of-the-checker",
}
"""What every bridge of a run is set to, unless its scenario says otherwise: short, so that faults outlast leases."""
PATIENCE_S = 30.0
"""How long a run that is not quiet yet may go without anything moving before it is called stuck."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. `calls` and `kills` None: each scenario's own number."""

    seed: int = 1
    calls: int | None = None
    kills: int | None = None
    keep: bool = False


@dataclass(frozen=True)
class Scenario:
    """A thing that goes wrong.

    Attributes:
        name: by what happens.
        about: one sentence for the table of contents.
        play: does it, while calls are played.
        bridges: how many are there from the start.
        calls: how many stories are played at least.
        agents: how many pairs are in them.
        settings: what differs from `SETTINGS`; None takes one away. `{world}` is the run's own directory.
        files: files that are there from the start, by their name in that directory.
        tokens: the bearer tokens that Cention takes; None for any.
        pile: how many deliveries pile up (`calls` of the options says so too, for a scenario that has a pile).
        sticks: whether an exchange sends all its events to one bridge (there are as many exchanges as bridges).
        may_park: whether Cention is told to refuse what the stories tell it.
        kinds: which kinds of story; None for all.
        patience_s: as `PATIENCE_S`.
        slowest_s_max: seconds within which every message must have arrived; None: it is only shown how long it took.
    """

    name: str
    about: str
    play: Callable[["World"], Awaitable[None]]
    bridges: int = 2
    calls: int = 60
    agents: int = 24
    settings: Mapping[str, object] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    tokens: frozenset[str] | None = None
    pile: int = 0
    sticks: bool = False
    may_park: bool = False
    kinds: Sequence[str] | None = None
    patience_s: float = PATIENCE_S
    slowest_s_max: float | None = None


@dataclass(frozen=True)
class Claim:
    """What a scenario promises beyond the comparison, and whether it held."""

    text: str
    held: bool


@dataclass
class Result:
    """What a scenario came to. `error` says why it could not be played to its end."""

    scenario: Scenario
    seed: int
    sent: int = 0
    accepted: int = 0
    repeated: int = 0
    spooled: int = 0
    bridge_kills: int = 0
    redis_kills: int = 0
    cut: int = 0
    duration_s: float = 0.0
    findings: Findings | None = None
    claims: list[Claim] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    error: str | None = None
    redis_version: str = ""

    @property
    def passed(self) -> bool:
        return self.error is None and not self.broken

    @property
    def broken(self) -> list[str]:
        """Every promise that did not hold."""
        found = [] if self.findings is None else self.findings.faults
        return found + [f"claim: {claim.text}" for claim in self.claims if not claim.held]


def known(settings: Mapping[str, object]) -> Mapping[str, object]:
    """Those of `settings` that this version of the bridge has, so that a scenario may name what another one has."""
    fields = Settings.model_fields
    return {
        name: value
        for name, value in settings.items()
        if value is not None
        and (section := fields.get(name.partition("__")[0])) is not None
        and name.partition("__")[2].removesuffix("_file") in getattr(section.annotation, "model_fields", {})
    }

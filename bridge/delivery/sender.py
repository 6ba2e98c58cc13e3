"""What a worker needs of whoever makes its attempts: asked before each, told nothing after."""

from typing import Protocol

from bridge.calls.effects import Effect
from bridge.cention.outcome import Outcome
from bridge.delivery.tokens import Rest


class Sender(Protocol):
    """What makes the attempts: a `Dispatcher`, or another for lanes of its own."""

    @property
    def resting(self) -> bool:
        """Whether nothing can be tried now, whatever it is."""

    def admit(self, effect: Effect) -> Rest | None:
        """Why `effect` cannot be tried now; None: it can, and `send` follows at once."""

    async def send(self, effect: Effect, *, in_doubt: bool = False) -> Outcome:
        """Makes one attempt; `in_doubt`: an earlier one may have been carried out."""

    def noted(self, effect: Effect) -> dict[str, object]:
        """What an attempt's timeline entry has to say beside the outcome."""

"""Secrets that change while the service runs: re-read now and then, and at once when Cention refuses a token.

Knows when to read again, and what to do with a fault: log it and keep what is in force. What is done with new settings
is its caller's; of these, only the secrets may be taken up, everything else needs a restart.
"""

import asyncio
from collections.abc import Callable

from bridge.runtime.logs import get_logger
from bridge.runtime.metrics import Metrics
from bridge.settings import Settings, SettingsError

log = get_logger(__name__)

EVERY_S = 30.0
URGENT_S = 5.0
"""Instead, while Cention refuses a token: somebody is probably about to change it."""
_AT_ONCE_S = 1.0  # between two readings that were asked for: refusals come in swarms


class Rotation:
    """Re-reads the settings.

    Args:
        reload: reads the settings as at the start; may block.
        apply: takes their secrets up and says whether any was new.
        metrics: counts.
        every_s: seconds between two readings.
        urgent: whether to read every `URGENT_S` seconds instead.
    """

    def __init__(
        self,
        reload: Callable[[], Settings],
        apply: Callable[[Settings], bool],
        metrics: Metrics,
        *,
        every_s: float = EVERY_S,
        urgent: Callable[[], bool] = lambda: False,
    ) -> None:
        self._reload, self._apply, self._metrics = reload, apply, metrics
        self._every_s, self._urgent = every_s, urgent
        self._asked = asyncio.Event()

    def hurry(self) -> None:
        """Asks for a reading at once."""
        self._asked.set()

    async def run(self) -> None:
        """Reads again and again, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(min(self._every_s, URGENT_S) if self._urgent() else self._every_s):
                    await self._asked.wait()
            except TimeoutError:
                pass
            self._asked.clear()
            try:
                await self._read()
            except Exception:
                log.exception("reading secrets failed inside the bridge")  # and must not end the service
                self._metrics.reloads.labels("failed").inc()
            await asyncio.sleep(min(_AT_ONCE_S, self._every_s))

    async def _read(self) -> None:
        try:
            settings = await asyncio.to_thread(self._reload)  # files, and libraries that check them
        except SettingsError as error:
            log.error(
                "secrets cannot be re-read: those in force are kept", faults=[str(fault) for fault in error.faults]
            )
            self._metrics.reloads.labels("failed").inc()
            return
        changed = self._apply(settings)
        self._metrics.reloads.labels("changed" if changed else "unchanged").inc()
        if changed:
            log.info("secrets changed, and are in force")

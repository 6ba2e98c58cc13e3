"""The event loop that the service runs on, and the garbage collector beside it.

Measured in docs/adr/0020-speed.md: uvloop saves 6 % of the CPU time, the collector's thresholds 5 % and most of the
longest pauses.
"""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextlib import suppress

_THRESHOLDS = (20_000, 20, 50)
"""Far above the interpreter's own: requests leave hardly any circles, and each look for them stops everything."""


def run(main: Coroutine[None, None, None]) -> None:
    """Runs `main` on uvloop, or on asyncio's own loop where there is no uvloop."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):
        from uvloop import new_event_loop as factory
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


def started() -> None:
    """Says that what is in memory now stays there: the collector passes over it from here on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)

"""The signals that end the service, from its first moment on. Imports next to nothing: it comes before all else."""

import signal
from collections.abc import Callable
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def ending() -> list[signal.Signals]:
    """SIGTERM, SIGINT, and SIGHUP (its terminal has closed), unless `nohup` has the latter ignored."""
    return [each for each in _ENDING if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN]


def on_ending(act: Callable[[], None]) -> None:
    """Has `act` called at each of these signals, until an event loop takes them over.

    A process that is the first of its container would not even be ended by a signal that it has no handler for.
    Source: pid_namespaces(7).
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        act()

    for number in ending():
        signal.signal(number, handle)

"""The log in memory: what a test says, and everything that libraries say, line by line."""

import contextlib
import io
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.runtime import logs


class Lines:
    """What has been logged since the capture began."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def __iter__(self) -> Iterator[str]:
        return iter(self.text.splitlines())


@contextmanager
def captured(level: str = "debug", style: logs.LogFormat = "json") -> Iterator[Lines]:
    """Logs into memory; afterwards as the tests' conftest has it."""
    lines = Lines()
    with contextlib.redirect_stderr(lines.stream):
        logs.configure(level, style)
    try:
        yield lines
    finally:
        logs.configure("warning", "console")

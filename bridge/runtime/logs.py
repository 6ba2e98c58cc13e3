"""The only owner of loggers: structured lines, JSON by default, with telephone numbers and tokens masked.

Code logs identifiers (call, event, delivery, pair), never numbers, names or `cuid`. The mask below is the second
line of defence, for what a library's exception text brings along.
"""

import logging
import os
import re
import select
import sys
from collections.abc import Callable, Mapping, MutableMapping
from threading import Lock
from typing import Any, Literal, TextIO, cast

import orjson
import structlog

from bridge.runtime.clock import monotonic

LogFormat = Literal["json", "console"]

# A plus or 00 with digits, or `tel:`/`sip:` with a user part: what a number looks like in a foreign exception text.
# Bare digit runs are not masked: they are ids (calls, events, errands) far more often.
_NUMBER = re.compile(r"(?<![\w.-])(?:\+|00)\d[\d ()./-]{5,}\d|(?:tel|sips?):[^\s\"'>,;]+")
_BEARER = re.compile(r"(?i)(bearer\s+)[\w.~+/=-]+|whsec_[\w+/=]+")
_PERSONAL = frozenset(
    ["calling_number", "called_number", "dest_number", "calling_name", "cuid", "number", "name_of_caller", "token"]
)
_PATIENCE_S = 0.1
_PATIENCE_SHARE = 0.01
"""How long a reader that is only slower than many lines at once may hold up all, and for which part of the time."""
_OURS = frozenset(["timestamp", "level", "_record", "_from_structlog"])


def scrub(text: str) -> str:
    """`text` with what looks like a telephone number, a bearer token or a webhook secret replaced by `***`."""
    return _BEARER.sub(lambda m: (m.group(1) or "") + "***", _NUMBER.sub("***", text))


def _shown(value: Any) -> Any:
    """`value` as what a JSON line can hold, scrubbed all the way down. Never raises: the line's news would be lost."""
    match value:
        case str():
            return scrub(value.encode("utf-8", "backslashreplace").decode())
        case None | bool() | float():
            return value
        case int():
            return value if abs(value) < 2**63 else str(value)
        case Mapping():
            return {_shown(str(key)): "***" if key in _PERSONAL else _shown(part) for key, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_shown(part) for part in value]
        case _:
            return _shown(str(value))


def _scrub_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if key in _PERSONAL:
            event[key] = "***"
        elif key not in _OURS:
            event[key] = _shown(value)
    return event


def _without_input(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Names a fault that aiohttp found in a request's bytes, and no more: its text quotes them, tokens and all."""
    found = event.get("exc_info")
    error = found[1] if isinstance(found, tuple) else found
    if type(error).__module__ == "aiohttp.http_exceptions":
        del event["exc_info"]
        event["error"] = type(error).__name__
    return event


class _Lines:
    """Writes lines to a descriptor, as far as it takes them. Never raises, and holds up nothing.

    Who reads the log may end or stand still, and its disk may be full; what is logged goes on. Lines that find no room
    are lost, and once there is room again, a line tells how many. One that was begun is kept, so that only whole lines
    are lost, and never more than one is kept.

    A pipe is said to have room only where `PIPE_BUF` bytes fit in: so no piece of a line blocks, unless another process
    writes to the same pipe and was quicker. O_NONBLOCK would belong to whoever shares the descriptor, too.
    Source: pipe(7), poll(2).

    Args:
        stream: whose descriptor it is; nothing is left in its own buffer.
        told: the line that tells how many were lost.
    """

    def __init__(self, stream: TextIO, told: Callable[[int], str]) -> None:
        self._to, self._encoding, self._told = stream.fileno(), stream.encoding, told
        self._poll = select.poll()
        self._poll.register(self._to, select.POLLOUT)
        self._lock = Lock()  # threads log, too
        self._kept, self._lost = b"", 0
        self._patience_s, self._waited_at = _PATIENCE_S, monotonic()

    def write(self, text: str) -> None:
        with self._lock:
            if not self._written():
                self._lost += 1
                return
            told, self._lost = self._told(self._lost) if self._lost else "", 0
            self._kept = (told + text).encode(self._encoding, "backslashreplace")
            self._written()

    def flush(self) -> None:
        """There is nothing to do: what could be written is."""

    def _written(self) -> bool:
        """Writes what is kept; whether that is all of it."""
        try:
            while self._kept:
                if not (self._takes(0) or self._takes_soon()):
                    return False
                self._kept = self._kept[os.write(self._to, self._kept[: select.PIPE_BUF]) :]
        except OSError:
            return False
        return True

    def _takes(self, wait_ms: int) -> bool:
        return any(state & select.POLLOUT for _, state in self._poll.poll(wait_ms))

    def _takes_soon(self) -> bool:
        """Waits a moment for a reader that is only slower than many lines at once."""
        began = monotonic()
        self._patience_s = min(_PATIENCE_S, self._patience_s + (began - self._waited_at) * _PATIENCE_SHARE)
        takes = self._takes(int(self._patience_s * 1000))
        self._waited_at = monotonic()
        self._patience_s = max(0.0, self._patience_s - (self._waited_at - began))
        return takes


def configure(level: str = "info", style: LogFormat = "json") -> None:
    """Sets the process's logging up once. `level` is a standard level name; lines go to standard error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    render: list[Any] = (
        [structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event).decode())]
        if style == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    # format_exc_info comes before the scrubbing, so that a traceback's text is scrubbed too.
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_input,
        structlog.processors.format_exc_info,
        _scrub_event,
    ]

    def lost(count: int) -> str:
        line: Any = {"event": "log lines are lost: they were not read, or could not be written", "lines": count}
        for processor in (*shared, *render):
            line = processor(None, "warning", line)
        return f"{line}\n"

    try:
        lines = cast(TextIO, _Lines(sys.stderr, lost))
    except (OSError, ValueError):
        lines = sys.stderr  # in memory
    structlog.configure(
        processors=shared + render,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(lines),
        cache_logger_on_first_use=False,
    )
    # Libraries log through the standard library: the same lines, the same mask, warnings and up.
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render], foreign_pre_chain=shared
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger bound to the module's name."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(source=name))

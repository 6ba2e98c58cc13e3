"""The only owner of loggers: structured lines, JSON by default, with telephone numbers and tokens masked.

Code logs identifiers (call, event, delivery, pair), never numbers, names or `cuid`. The mask below is the second
line of defence, for what a library's exception text brings along.
"""

import atexit
import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Literal, TextIO, cast

import orjson
import structlog

LogFormat = Literal["json", "console"]

# A plus or 00 with digits, or `tel:`/`sip:` with a user part: what a number looks like in a foreign exception text.
# Bare digit runs are not masked: they are ids (calls, events, errands) far more often.
_NUMBER = re.compile(r"(?<![\w.-])(?:\+|00)\d[\d ()./-]{5,}\d|(?:tel|sips?):[^\s\"'>,;]+")
_BEARER = re.compile(r"(?i)(bearer\s+)[\w.~+/=-]+|whsec_[\w+/=]+")
_PERSONAL = frozenset(
    ["calling_number", "called_number", "dest_number", "calling_name", "cuid", "number", "name_of_caller", "token"]
)
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


class _Lenient:
    """A stream that never raises. Who reads the log may end, and its disk may be full; what is logged goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the latter where it is closed
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def _leave(stream: TextIO) -> None:
    """Lets go of what could not be written: left in the stream, it would make the interpreter end with a failure."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def configure(level: str = "info", style: LogFormat = "json") -> None:
    """Sets the process's logging up once. `level` is a standard level name; lines go to standard error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    lines = _Lenient(sys.stderr)
    atexit.unregister(_leave)
    atexit.register(_leave, sys.stderr)
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
    structlog.configure(
        processors=shared + render,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, lines)),
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

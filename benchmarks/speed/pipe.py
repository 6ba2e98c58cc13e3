"""How the parent of a run speaks to its processes: one JSON value a line, on standard input and output.

A process that is spoken to so ends when its input does: none outlives a parent, however that one ends.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import orjson

LINE_BYTES_MAX = 2**28


async def commands() -> AsyncIterator[dict[str, Any]]:
    """What the parent says, until it says no more."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield orjson.loads(line)


def answer(value: object) -> None:
    """Tells the parent. Blocks until all is written."""
    sys.stdout.buffer.write(orjson.dumps(value) + b"\n")
    sys.stdout.buffer.flush()


def quick_loop() -> Any:
    """A loop factory for load and sink: uvloop's where it is installed, since these are not what is measured."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop

"""`aventa-bridge replay`: sends a recorded NDJSON file of events to a bridge, each line byte for byte, in its order.

Owns the reading: lines, blank ones, unreadable ones, and how far the file has been read. `bridge.cli.sender` sends.
"""

import asyncio
import codecs
import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

import click

from bridge.cli.terminal import (
    Gauge,
    give_up_option,
    refused,
    rows,
    summary,
    token_option,
    told,
    until_signal,
    url_option,
)

LINE_BYTES_MAX = 16 * 1024 * 1024
"""A longer line is not kept in memory, but reported as unreadable. No bridge takes an event of that size."""
_CHUNK_BYTES = 256 * 1024
UNREADABLE_KEPT = 1000


class Line(NamedTuple):
    """One line of the file; `text` is None where it was too long to keep. `end` is the offset behind it, in bytes."""

    number: int
    text: bytes | None
    end: int


@click.command()
@click.argument("file", type=click.File("rb"))
@url_option
@token_option
@click.option(
    "--batch", type=click.IntRange(1, 1000), default=500, show_default=True, help="Events in one request (NDJSON)."
)
@give_up_option
def replay(file: BinaryIO, url: str, token: str | None, batch: int, give_up_s: float) -> None:
    """Send a recorded NDJSON file of events to a bridge; FILE may be - for standard input.

    Safe to repeat: an event that the bridge has already taken is a duplicate and changes nothing. Blank lines are
    skipped. Lines that can't be read, and events that the bridge rejects, are listed at the end with their numbers;
    the others go through.

    The exit code is 1 if there were any such lines, or if not everything was sent.
    """
    raise SystemExit(0 if asyncio.run(_replay(file, url, token, batch, give_up_s)) else 1)


async def _replay(file: BinaryIO, url: str, token: str | None, batch: int, give_up_s: float) -> bool:
    from bridge.cli.sender import Sender, SenderFailed

    status = os.fstat(file.fileno())
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    reached, unreadable = 0, Unreadable()

    def show() -> None:
        gauge.show(reached, told(sender.counts, sender.trouble))

    async def send_all() -> None:
        nonlocal reached
        # From a pipe, what has come so far is sent before waiting for more; a file fills its batches.
        async with aclosing(lines(file.fileno(), before_waiting=sender.flush if size is None else None)) as every:
            async for line in every:
                reached = line.end
                if line.text is None:
                    unreadable.note(line, f"longer than {LINE_BYTES_MAX // 1024 // 1024} MiB")
                elif text := line.text.strip():
                    event = parsed(text)
                    if isinstance(event, dict):
                        await sender.send(event, raw=text, label=line.number)
                    else:
                        unreadable.note(line, "not JSON" if event is None else "not a JSON object")
        await sender.finish()
        show()

    async def work() -> None:
        try:
            await send_all()
        except SenderFailed as failure:
            click.echo(f"replay: {failure}", err=True)

    with Gauge("replay", size, "bytes") as gauge:
        # Events sent alone go one by one too: a recording's order is kept even between pairs.
        async with Sender(url, token=token, batch=batch, concurrency=1, give_up_s=give_up_s, on_change=show) as sender:
            whole = await until_signal(work()) and sender.failure is None
            await sender.stop()
    faults = [refused(refusal) for refusal in sender.refusals] + unreadable.texts
    faults += [f"rejected: {more} more"] if (more := sender.counts.rejected - len(sender.refusals)) else []
    faults += [f"unreadable: {more} more"] if (more := unreadable.count - len(unreadable.texts)) else []
    if not whole:
        faults.append("replay: stopped early; run it again, and what was taken now is a duplicate then")
    if faults:
        click.echo("\n".join(faults), err=True)
    summary("Replayed events", [*rows(sender.counts), ("unreadable lines", str(unreadable.count))])
    return whole and not sender.counts.rejected and not unreadable.count


@dataclass(slots=True)
class Unreadable:
    """The lines that are not events, the first `UNREADABLE_KEPT` of them by number."""

    count: int = 0
    texts: list[str] = field(default_factory=list)

    def note(self, line: Line, why: str) -> None:
        self.count += 1
        if len(self.texts) < UNREADABLE_KEPT:
            self.texts.append(f"unreadable: line {line.number}: {why}")


def parsed(text: bytes) -> object:
    """What a line says; None where it is not JSON."""
    import orjson

    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return False if value is None else value  # `null` is JSON, though no event


async def lines(fd: int, before_waiting: Callable[[], Awaitable[None]] | None = None) -> AsyncGenerator[Line, None]:
    """The lines of a file or pipe, without their line breaks; calls `before_waiting` when it has to read on."""
    number = end = 0
    text, dropped = bytearray(), 0  # of the line under way: what is kept, and how many bytes were let go
    while chunk := await _read(fd):
        pieces = chunk.split(b"\n")
        for place, piece in enumerate(pieces):
            if dropped or len(text) + len(piece) > LINE_BYTES_MAX:
                dropped += len(text) + len(piece)
                text.clear()
            else:
                text += piece
            if place < len(pieces) - 1:
                number += 1
                end += len(text) + dropped + 1
                yield Line(number, None if dropped else _without_mark(text, number), end)
                text.clear()
                dropped = 0
        if before_waiting:
            await before_waiting()
    if text or dropped:
        yield Line(number + 1, None if dropped else _without_mark(text, number + 1), end + len(text) + dropped)


def _without_mark(text: bytearray, number: int) -> bytes:
    """Some editors put a byte order mark at the top of a file."""
    return bytes(text.removeprefix(codecs.BOM_UTF8) if number == 1 else text)


async def _read(fd: int) -> bytes:
    # Not in a thread: one that waits for a terminal or a pipe could not be ended by Ctrl-C.
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(fd, ready.set)
    except PermissionError:  # a regular file: always ready, and epoll won't have it
        return os.read(fd, _CHUNK_BYTES)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
    return os.read(fd, _CHUNK_BYTES)

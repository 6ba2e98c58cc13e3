"""`aventa-bridge simulate`: plays made-up Aventa calls at a bridge, at a rate.

Owns the playing: what is due when is sent when it is due. The calls come from `bridge.cli.stories`, the sending is
`bridge.cli.sender`'s.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, BinaryIO

import click

from bridge.cli.stories import Due, agents, agents_for, interleave, stories
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
from bridge.runtime.clock import monotonic, now

if TYPE_CHECKING:  # aiohttp takes longer to import than all of `--help`
    from bridge.cli.sender import Sender

DEFAULT_SEED = 42
"""Of this one, the first fifty calls already have every kind of story among them."""
REFUSALS_SHOWN = 10
BATCH_WAIT_S = 0.2
"""Once so much time is in a batch, it leaves, full or not."""


async def play(stream: Iterable[Due], sender: "Sender", sent: Callable[[Due], None] | None = None) -> None:
    """Sends each event of `stream` when it is due, counted from now, and returns when all have been answered.

    A bridge that falls behind is waited for; nothing is left out. `sent` hears of each event just before.

    Raises:
        SenderFailed: the bridge stayed away, or wants nothing from us.
    """
    began, flushed_at_s = monotonic(), 0.0
    for due in stream:
        # One that is late already fills its batch: that is how a run catches up.
        if due.due_s > monotonic() - began and due.due_s - flushed_at_s > BATCH_WAIT_S:
            await sender.flush()
            flushed_at_s = due.due_s
        wait_s = due.due_s - (monotonic() - began)
        if wait_s > 0:
            await sender.pause(wait_s)
        if sent:
            sent(due)
        await sender.send(due.event)
    await sender.finish()


@click.command()
@url_option
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True, help="Calls a second.")
@click.option("--calls", type=click.IntRange(0), default=50, show_default=True, help="How many calls; 0 goes on.")
@click.option("--seed", type=int, default=DEFAULT_SEED, show_default=True, help="The same seed tells the same stories.")
@token_option
@click.option(
    "--speed",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="How much faster than in life a call goes.",
)
@click.option(
    "--batch", type=click.IntRange(1, 1000), default=1, show_default=True, help="Events in one request (NDJSON)."
)
@click.option("--agents", "staff", type=click.IntRange(1), help="How many agents take calls [default: enough].")
@give_up_option
@click.option("--record", type=click.File("wb"), help="Also write the events to this file, for `replay`.")
def simulate(
    url: str,
    rate: float,
    calls: int,
    seed: int,
    token: str | None,
    speed: float,
    batch: int,
    staff: int | None,
    give_up_s: float,
    record: BinaryIO | None,
) -> None:
    """Play Aventa call stories at a bridge.

    Calls from queues and to outside, held and transferred ones, abandoned ones, withheld callers, and what a network
    does to events: duplicates, another order, a start that got lost. People are made up, numbers are from the ranges
    for fiction.

    Ctrl-C ends it. The exit code is 1 if the bridge rejected an event or stayed unreachable.
    """
    start = now()
    told_stories = stories(
        seed, calls=calls, start=start, pairs=agents(staff or agents_for(rate, speed)), rate=rate, speed=speed
    )
    clean = asyncio.run(_simulate(interleave(told_stories), url, calls, seed, token, batch, give_up_s, record))
    raise SystemExit(0 if clean else 1)


async def _simulate(
    stream: Iterable[Due],
    url: str,
    calls: int,
    seed: int,
    token: str | None,
    batch: int,
    give_up_s: float,
    record: BinaryIO | None,
) -> bool:
    import orjson

    from bridge.cli.sender import Sender, SenderFailed

    played, began = 0, monotonic()

    def sent(due: Due) -> None:
        nonlocal played
        played += due.last
        if record:
            record.write(orjson.dumps(due.event, option=orjson.OPT_APPEND_NEWLINE))

    def show() -> None:
        gauge.show(played, told(sender.counts, sender.trouble))

    async def work() -> None:
        try:
            await play(stream, sender, sent)
        except SenderFailed as failure:
            click.echo(f"simulate: {failure}", err=True)

    with Gauge("simulate", calls or None, "calls") as gauge:
        async with Sender(url, token=token, batch=batch, give_up_s=give_up_s, on_change=show) as sender:
            whole = await until_signal(work())
            await sender.stop()
            show()
    counts = sender.counts
    summary(
        "Simulated calls" + ("" if whole else ", stopped early"),
        [
            ("calls played", str(played)),
            ("seed", str(seed)),
            *rows(counts),
            ("events a second", f"{counts.answered / max(monotonic() - began, 0.001):.1f}"),
        ],
    )
    for refusal in sender.refusals[:REFUSALS_SHOWN]:
        click.echo(refused(refusal), err=True)
    return not (sender.failure or counts.rejected or counts.unanswered)

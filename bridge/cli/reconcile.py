"""`aventa-bridge reconcile`: compares calls with their errands in Cention once, beside the running bridges.

Owns the options and how findings look; `bridge.reconcile` compares. Findings go to standard output, progress and faults
to standard error. Holds no personal data: ids alone.
"""

import asyncio
import base64
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.settings import load_or_exit

if TYPE_CHECKING:
    from bridge.reconcile import Comparison, Place
    from bridge.settings import Settings

_PUT_BACK_S = 30.0


def _place(_context: click.Context, _option: click.Parameter, value: str | None) -> "Place | None":
    """Reads a cursor."""
    if value is None:
        return None
    import orjson

    from bridge.reconcile import PARTS

    try:
        part, at, name = orjson.loads(base64.urlsafe_b64decode(value.encode()))
    except (ValueError, TypeError):
        part = None
    if part not in PARTS or type(at) is not int or not isinstance(name, str):
        raise click.BadParameter("must be the `next` of an earlier run")
    return part, (at, name)


@click.command()
@click.option(
    "--config", type=click.Path(path_type=Path), help="Settings file; without it, ./config.toml if there is one."
)
@click.option("--repair", is_flag=True, help="Close errands of ended calls, and end calls whose errand is closed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--limit", type=click.IntRange(1), help="Errand reports read at most; without it, reconcile.reports_max.")
@click.option("--after", callback=_place, metavar="CURSOR", help="Go on where an earlier run stopped: its `next`.")
def reconcile(config: Path | None, repair: bool, as_json: bool, limit: int | None, after: "Place | None") -> None:
    """Compare calls with their errands in Cention.

    Reports errands of ended calls that Cention still shows open, and active calls whose errand is closed. Nothing is
    changed without --repair. What is repaired is written down for the running bridges, which tell Cention of it in
    the order of each agent's messages.

    Exit code 0 when the comparison went through, whatever it found; 1 when it stopped early.
    """
    settings = load_or_exit(config)
    if repair and not settings.calls.close_user_id.strip():
        click.echo("calls.close_user_id: is missing; with --repair, Cention asks which user closes an errand", err=True)
        sys.exit(2)
    from bridge.runtime import logs

    logs.configure("error", "console")
    sys.exit(asyncio.run(_reconcile(settings, repair, as_json, limit or settings.reconcile.reports_max, after)))


async def _reconcile(settings: "Settings", repair: bool, as_json: bool, limit: int, after: "Place | None") -> int:
    from bridge import parts
    from bridge.cention.client import CentionClient
    from bridge.cli.terminal import Gauge, until_signal
    from bridge.connect import connect
    from bridge.delivery.rate import Rate
    from bridge.pipeline import Pipeline
    from bridge.reconcile import BEGINNING, Comparison
    from bridge.runtime.clock import monotonic
    from bridge.runtime.metrics import Metrics
    from bridge.store.calls import CallStore
    from bridge.store.embedded import running_url
    from bridge.store.errors import StoreUnavailable
    from bridge.store.keys import Keys
    from bridge.store.outbox import Outbox
    from bridge.store.reads import Reads

    url = running_url(settings.redis.data_dir) if settings.redis.url == "embedded" else None
    if url is None and settings.redis.url == "embedded":
        where = settings.redis.data_dir
        click.echo(f"reconcile: no embedded Redis is found on {where}; start the bridge first", err=True)
        return 1
    _, _, claims = parts.cention_tokens(settings, sandboxed=False)
    done = Comparison(next=after or BEGINNING)
    async with AsyncExitStack() as stack:
        connection = connect(settings.redis, url=url)
        stack.push_async_callback(connection.close)
        keys, retention = Keys(settings.redis.key_prefix), parts.retention(settings)
        outbox = Outbox(connection, keys, retention, lease_ms=round(settings.delivery.lease_s * 1000))
        client = await stack.enter_async_context(
            CentionClient(str(settings.cention.base_url), attempt_timeout_s=settings.delivery.attempt_timeout_s)
        )
        reconciler = parts.reconciler(
            settings,
            client,
            Reads(connection, keys),
            # Nobody to wake here: the running bridges look for what is due by themselves.
            Pipeline(CallStore(connection, keys, retention), outbox, parts.policy(settings), lambda shard: None),
            lambda: claims["errand_data"],
            Rate(settings.delivery.rate_per_s, monotonic),
            Metrics(""),
        )

        async def work() -> None:
            try:
                await reconciler.compare(done, reports_max=limit, repair=repair, on_read=show)
            except StoreUnavailable as error:
                done.trouble = f"redis: {error.reason}"

        with Gauge("reconcile", limit, "calls") as gauge:

            def show() -> None:
                gauge.show(done.read, f"{len(done.findings)} found")

            if not await until_signal(work()):
                done.trouble = "stopped"
        marked = await reconciler.drain(_PUT_BACK_S)
    print_comparison(done, as_json=as_json)
    if done.trouble is not None:
        click.echo(f"reconcile: stopped early: {done.trouble}", err=True)
    if not marked:
        click.echo("reconcile: Cention's list of changed errands lacks some that were read; see above", err=True)
    return 0 if done.trouble is None and marked else 1


def print_comparison(done: "Comparison", *, as_json: bool) -> None:
    """Prints what was found: a table for people, or JSON."""
    import orjson

    from bridge.cli.cention.output import print_json, table
    from bridge.runtime.clock import rfc3339

    found: list[dict[str, Any]] = [
        {
            "what": finding.what.value,
            "callId": finding.call.call_id,
            "deviceId": finding.call.pair.device_id,
            "extensionId": finding.call.pair.extension_id,
            "direction": finding.call.facts.direction,
            "errandId": str(finding.errand_id),
            "updatedAt": rfc3339(finding.call.updated_at),
            "repaired": finding.repaired,
        }
        for finding in done.findings
    ]
    following = None
    if done.next is not None:
        part, position = done.next
        following = base64.urlsafe_b64encode(orjson.dumps([part, *position])).decode()
    if as_json:
        told = {"findings": found, "read": done.read, "unread": done.unread, "next": following}
        print_json(told)
        return
    if found:
        rows = (
            (
                each["what"],
                each["callId"],
                f"{each['deviceId']}/{each['extensionId']}",
                each["errandId"],
                f"{each['updatedAt'][:19]}Z",
                each["repaired"],
            )
            for each in found
        )
        table(("what", "call", "agent", "errand", "updated", "repaired"), rows)
    unread = f", {done.unread} of them without an answer to use" if done.unread else ""
    click.echo(f"{done.read} {'errand' if done.read == 1 else 'errands'} read{unread}; {len(found)} found")
    if following is not None:
        click.echo(f"there is more: --after {following}")

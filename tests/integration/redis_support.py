"""Shared by the tests of Redis's shapes and refusals: a connection, a bridge on a Redis, and the documented rights.

Not a test itself.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bridge import app
from bridge.store.connection import Connection, Login, Tls
from tests.e2e.support import eventually, settings, told

ROOT = Path(__file__).parents[2]
PAIR = (1000, 1001)


@asynccontextmanager
async def connected(
    url: str, *, tls: Tls | None = None, sentinel: Login | None = None, timeout_s: float = 2
) -> AsyncIterator[Connection]:
    connection = Connection(url, timeout_s=timeout_s, tls=tls, sentinel=sentinel)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def service(tmp_path: Path, url: str, **more: object) -> AsyncIterator[tuple[app.Service, aiohttp.ClientSession]]:
    """A bridge on `url`, with a sandbox, and without a spool unless `more` says so."""
    given = settings(tmp_path, url, **{"spool__enabled": False, "redis__timeout_s": 1, **more})
    async with app.running(given, sandbox_port=0) as it, aiohttp.ClientSession() as http:
        yield it, http


async def status(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as response:
        return response.status


async def until_ready(it: app.Service, http: aiohttp.ClientSession, *, ready: bool = True) -> None:
    async def is_so() -> bool:
        return (await status(http, f"{it.admin_url}/readyz") == 200) is ready

    await eventually(is_so, f"readiness is {ready}")


async def delivered(it: app.Service, number: int) -> list[str]:
    assert it.sandbox is not None
    sandbox = it.sandbox
    await eventually(lambda: len(told(sandbox)) >= number, f"{number} messages")
    return told(sandbox)


def documented_users(name: str) -> str:
    """The ACL file in docs/redis.md that has the user, as it stands there."""
    page = (ROOT / "docs" / "redis.md").read_text("utf-8")
    (lines,) = re.findall(rf"^```\n((?:.*\n)?user {name} (?:.*\n)+?)```$", page, re.MULTILINE)
    return str(lines)


def documented_acl(name: str) -> list[str]:
    """The rules of a user in docs/redis.md."""
    (line,) = re.findall(rf"^user {name} (.*)$", documented_users(name), re.MULTILINE)
    return list(line.split())

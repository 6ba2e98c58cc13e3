"""Shared by the tests of the running service: its two listeners as a client sees them.

Not a test itself.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from bridge import app
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import eventually, post, settings, told


class Api:
    """The two listeners as a client sees them."""

    def __init__(self, service: app.Service, http: aiohttp.ClientSession) -> None:
        self.service, self.http = service, http

    async def get(self, path: str, status: int = 200, *, token: str | None = None) -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = URL(self.service.admin_url + path, encoded=True)
        async with self.http.get(url, headers=headers) as response:
            assert response.status == status, (path, response.status, await response.text())
            expected = "application/json" if status == 200 else "application/problem+json"
            assert response.content_type == expected or path in ("/readyz", "/metrics")
            if path == "/metrics":
                return await response.text()
            assert response.headers["Cache-Control"] == "no-store" or path == "/openapi.json"
            body = await response.json(content_type=None)
            if status >= 400 and path != "/readyz":
                assert body["status"] == status
                assert body["type"] == f"urn:aventa-bridge:problem:{body['code']}"
            return body

    async def post(self, *events: dict[str, Any]) -> int:
        return await post(self.http, self.service.intake_url, *events)

    async def delivered(self, number: int) -> None:
        """Waits until Cention has been told so many things, and the bridge has written them down."""
        sandbox = self.service.sandbox
        assert sandbox is not None
        await eventually(lambda: len(told(sandbox)) >= number, f"{number} deliveries")


@asynccontextmanager
async def running(tmp_path: Path, redis: EmbeddedRedis, **more: object) -> AsyncIterator[Api]:
    async with (
        app.running(settings(tmp_path, redis.url, **more), sandbox_port=0) as service,
        aiohttp.ClientSession() as http,
    ):
        yield Api(service, http)

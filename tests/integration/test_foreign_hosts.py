"""A listener without secrets answers to this machine's own names alone: no web page can pass itself off as one."""

from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from bridge.app import running
from bridge.runtime.web import Problem, require_local_name
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import inbound, settings

GUARDED = {"intake__tokens": ["in"], "admin__viewer_tokens": ["see"]}


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "LOCALHOST:8080", "localhost.", "bridge.localhost:1", "127.0.0.1", "127.8.9.1:80", "[::1]:1"],
)
def test_a_name_of_this_machine_passes(host: str) -> None:
    require_local_name({"Host": host})


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "evil-localhost", "127.0.0.1@evil.example",
     "::1", "[::1", "0.0.0.0", "10.0.0.1", "localhost:80:80", "127.0.0.1\udcff", "１２７.0.0.1", "localhost\n"],
)  # fmt: skip
def test_any_other_is_refused(host: str) -> None:
    with pytest.raises(Problem) as refused:
        require_local_name({"Host": host})
    assert (refused.value.status, refused.value.code) == (403, "foreign_host")


@pytest.mark.parametrize("guarded", [False, True])
async def test_both_listeners_ask_for_it_where_nothing_guards_them(
    redis: EmbeddedRedis, tmp_path: Path, guarded: bool
) -> None:
    refused = 200 if guarded else 403
    async with (
        running(settings(tmp_path, redis.url, **(GUARDED if guarded else {})), sandbox_port=0) as service,
        aiohttp.ClientSession() as http,
    ):

        async def ask(method: str, url: str, token: str, headers: Mapping[str, str]) -> int:
            told = {**headers, "Authorization": f"Bearer {token}"}
            body = inbound("in-1", (1, 1)) if method == "POST" else None
            async with http.request(method, url, headers=told, json=body) as response:
                return response.status

        assert await ask("POST", f"{service.intake_url}/v1/events", "in", {}) == 202
        assert await ask("POST", f"{service.intake_url}/v1/events", "in", {"Host": "evil.example"}) == refused
        for path in ("/v1/calls", "/v1/calls/in-1", "/v1/rejections", "/openapi.json"):
            assert await ask("GET", service.admin_url + path, "see", {}) == 200
            assert await ask("GET", service.admin_url + path, "see", {"Host": "evil.example"}) == refused
        for path in ("/livez", "/readyz", "/metrics"):
            assert await ask("GET", service.admin_url + path, "", {"Host": "evil.example"}) == 200

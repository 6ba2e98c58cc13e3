"""A service whose tokens are refused, and changed while it runs: Cention's, and those of its own listeners."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from bridge import app
from bridge.cention.sandbox import Sandbox
from bridge.settings import Settings, load
from bridge.store.embedded import EmbeddedRedis
from tests.e2e.support import environment, eventually, inbound, post, told
from tests.integration.ill_support import FAST, PAIRS, Service, ci, metric


@pytest.mark.parametrize("status", [401, ci(403)])
async def test_a_refused_token_stops_its_lanes_alone_until_its_file_changes(
    status: int, redis: EmbeddedRedis, tmp_path: Path
) -> None:
    sandbox = Sandbox(tokens={"new": ["create_errand"], "other": ["create_errand"], "powerless": ["logio"]})
    file = tmp_path / "token"
    file.write_text("old" if status == 401 else "powerless")
    env = environment(
        redis.url,
        **FAST,
        cention__base_url=await sandbox.start(),
        cention__token_file=str(file),
        cention__routes=[{"queue": "Other", "token": "other"}],
    )
    (tmp_path / "empty.toml").touch()

    def read() -> Settings:
        return load(tmp_path / "empty.toml", environ=env)

    async with app.running(read(), reload=read, reload_every_s=0.2) as service, aiohttp.ClientSession() as http:
        assert await post(http, service.intake_url, inbound("c-1", PAIRS[1])) == 202
        assert await post(http, service.intake_url, inbound("c-2", PAIRS[2], queueName="Other", queueNumber="1")) == 202
        await eventually(lambda: told(sandbox) == ["1000/2 open c-2"], "the other token's lane")
        assert service.metrics.registry.get_sample_value("bridge_cention_tokens_refused") == 1
        file.write_text("")  # half a change: the tokens in force are kept
        await eventually(lambda: _reloads(service, "failed") > 0, "a reading that fails")
        file.write_text("new\n")
        await eventually(lambda: len(told(sandbox)) == 2, "the lane goes on")
        assert service.metrics.registry.get_sample_value("bridge_cention_tokens_refused") == 0
        assert await metric(service, "bridge_deliveries_parked") == 0
    await sandbox.stop()


def _reloads(service: Service, result: str) -> float:
    return service.metrics.registry.get_sample_value("bridge_secret_reloads_total", {"result": result}) or 0.0


def _more_failed(service: Service, before: float) -> bool:
    return _reloads(service, "failed") > before


async def test_intake_and_admin_tokens_are_changed_without_a_restart(redis: EmbeddedRedis, tmp_path: Path) -> None:
    senders, viewers = tmp_path / "senders", tmp_path / "viewers"
    senders.write_text("first\n")
    viewers.write_text("looker\n")
    env = environment(redis.url, intake__tokens_file=str(senders), admin__viewer_tokens_file=str(viewers))
    (tmp_path / "empty.toml").touch()

    def read() -> Settings:
        return load(tmp_path / "empty.toml", environ=env, sandbox=True)

    async with (
        app.running(read(), sandbox_port=0, reload=read, reload_every_s=0.1) as service,
        aiohttp.ClientSession() as http,
    ):

        def status(url: str, token: str) -> Callable[[], Awaitable[int]]:
            async def ask() -> int:
                headers = {"Authorization": f"Bearer {token}"}
                method, body = ("POST", inbound("c-1", PAIRS[1])) if "events" in url else ("GET", None)
                async with http.request(method, url, json=body, headers=headers) as response:
                    return response.status

            return ask

        events, listed = f"{service.intake_url}/v1/events", f"{service.admin_url}/v1/calls"
        for url, file, old, new in ((events, senders, "first", "second"), (listed, viewers, "looker", "watcher")):
            assert await status(url, old)() < 300
            assert await status(url, new)() == 401
            file.write_text(f"{old}\n{new}\n")
            await _until(status(url, new), lambda code: code < 300)
            assert await status(url, old)() < 300
            file.write_text(f"{new}\n")
            await _until(status(url, old), lambda code: code == 401)
            file.write_text("\n")
            failed = _reloads(service, "failed")
            await eventually(partial(_more_failed, service, failed), "a faulty file")
            assert await status(url, old)() == 401, "an empty file opens nothing"
            file.write_text(f"{new}\n")


async def _until(ask: Callable[[], Awaitable[int]], fits: Callable[[int], bool]) -> None:
    async def check() -> bool:
        return fits(await ask())

    await eventually(check, "the new tokens")

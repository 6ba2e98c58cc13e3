"""The Dockerfile and its build context, as far as they can be checked without an engine to build with."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer

ROOT = Path(__file__).resolve().parents[2]
Instruction = tuple[str, str]


def stages() -> list[list[Instruction]]:
    """The Dockerfile's instructions, (name, arguments), by stage; what precedes the first FROM comes first."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "deploy/Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    found: list[list[Instruction]] = [[]]
    for line in filter(str.strip, lines):
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, arguments.strip()))
    return found


def final(name: str) -> str:
    """The arguments of the last `name` in the final stage: the one that counts."""
    return [arguments for instruction, arguments in stages()[-1] if instruction == name][-1]


def test_the_base_is_an_argument_with_a_pinned_default() -> None:
    before, *built = stages()
    [(name, default)] = before
    assert name == "ARG"
    assert re.fullmatch(r"BASE=python:3\.\d+-slim", default)
    assert [stage[0] for stage in built] == [("FROM", "${BASE} AS build"), ("FROM", "${BASE} AS final")]


def test_it_runs_as_the_numeric_user_that_the_pods_run_as() -> None:
    user, group = (int(part) for part in final("USER").split(":"))
    [deployment] = yaml.safe_load_all((ROOT / "deploy/kustomize/base/deployment.yaml").read_text())
    context = deployment["spec"]["template"]["spec"]["securityContext"]
    assert user > 0
    assert (user, group) == (context["runAsUser"], context["runAsGroup"])
    # Whatever comes after USER runs as that user; nothing before it may be the entry point's.
    assert [name for name, _ in stages()[-1]].count("USER") == 1


def test_it_runs_the_service_and_can_be_drained() -> None:
    assert json.loads(final("ENTRYPOINT")) == ["aventa-bridge"]
    assert json.loads(final("CMD")) == ["run"]
    assert final("STOPSIGNAL") == "SIGTERM"


def test_the_final_stage_installs_nothing() -> None:
    # What is built is copied in: no compiler, no pip and no source come along.
    text = " ".join(arguments for _, arguments in stages()[-1])
    assert not re.search(r"\b(pip|apt|apt-get|apk|gcc)\b", text)
    assert [arguments for name, arguments in stages()[-1] if name == "COPY"] == ["--from=build /opt/venv /opt/venv"]
    assert "PYTHONDONTWRITEBYTECODE" not in text


def test_no_secret_is_baked_in() -> None:
    for stage in stages():
        for name, arguments in stage:
            if name in ("ARG", "ENV"):
                assert not re.search(r"token|secret|password|BRIDGE_", arguments, re.IGNORECASE)


def test_the_context_is_what_the_image_is_made_of() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    # First everything, then what is let in: a new file with secrets stays out without anybody thinking of it.
    assert ignored[0] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied: set[str] = set()
    for name, arguments in stages()[1]:
        if name == "COPY":
            *sources, _target = arguments.split()
            copied.update(sources)
    assert copied == let_in
    assert [source for source in copied if not (ROOT / source).exists()] == []


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
async def test_the_health_check_tells_live_from_dead(aiohttp_server: AiohttpServer, status: int, healthy: bool) -> None:
    async def livez(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/livez", livez)
    server = await aiohttp_server(app)
    assert (await _health_check(server.port) == 0) is healthy


async def test_the_health_check_tells_when_nobody_listens(unused_tcp_port: int) -> None:
    assert await _health_check(unused_tcp_port) != 0


async def _health_check(port: int | None) -> int | None:
    """Runs the HEALTHCHECK's command, with this Python, against `port`; returns its exit code."""
    # JSON within the shell-free form: the engine unescapes it as JSON does.
    python, *arguments = json.loads(final("HEALTHCHECK").partition("CMD ")[2])
    assert python == "python"
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env={"BRIDGE_ADMIN__PORT": str(port)}, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(60):
        return await process.wait()

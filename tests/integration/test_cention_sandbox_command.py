"""`aventa-bridge sandbox` as a process of its own."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

COMMAND = [sys.executable, "-m", "bridge", "sandbox"]


@contextmanager
def sandbox(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The process, and what it has printed by the time it serves."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    try:
        printed = []
        for line in process.stdout:
            printed.append(line.rstrip("\n"))
            if "curl" in line:
                break
        yield process, printed
    finally:
        process.kill()
        process.communicate()


def post_as_printed(printed: list[str], token: str = "anything") -> int:
    words = shlex.split(printed[-1])
    headers = dict(word.split(": ") for flag, word in pairwise(words) if flag == "-H")
    headers["Authorization"] = f"Bearer {token}"
    url = next(word for word in words if word.startswith("http"))
    body = words[words.index("-d") + 1].encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def view(printed: list[str], name: str) -> object:
    url = next(line.split()[1] for line in printed if line.strip().startswith(name))
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_it_prints_works_and_a_signal_ends_it_well(number: signal.Signals) -> None:
    with sandbox() as (process, printed):
        assert any("/s/demo" in line for line in printed if "base URL" in line)
        assert post_as_printed(printed) == 201
        errands = view(printed, "errands")
        assert isinstance(errands, dict)
        assert errands["errands"][0]["referenceId"] == "by-hand-1"
        for name in ("agents", "arrivals", "faults"):
            view(printed, name)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("by", ["option", "environment"])
def test_tokens(by: str) -> None:
    options = ["--token", "one", "--token", "two"] if by == "option" else []
    environment = {} if by == "option" else {"AVENTA_SANDBOX_TOKENS": "one two"}
    with sandbox(*options, **environment) as (_, printed):
        assert [post_as_printed(printed, token) for token in ("one", "two", "three")] == [201, 201, 401]
        assert "two" not in "\n".join(printed)


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "in use" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_usage_is_2() -> None:
    done = subprocess.run([*COMMAND, "--port", "70000"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2


def test_it_warns_when_everybody_can_reach_it() -> None:
    with sandbox("--host", "0.0.0.0") as (_, printed):  # loopback is part of it; nothing else is asked
        assert any("open to everyone" in line for line in printed)

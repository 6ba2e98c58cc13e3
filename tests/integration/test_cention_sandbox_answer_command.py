"""`aventa-bridge sandbox answer`, and what `sandbox` takes to be told of data, claims and callbacks, as processes."""

import base64
import http.server
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cention_sandbox_command import COMMAND, post_as_printed, sandbox

Received = list[tuple[str, Any]]


@pytest.fixture
def receiver() -> Iterator[tuple[str, Received]]:
    """Takes callbacks: its address, and what came there."""
    received: Received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(202)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/cention/callback", received
    server.shutdown()
    server.server_close()


def answer(printed: list[str], *arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    told = ["--url", url or view_url(printed)]
    return subprocess.run([*COMMAND, "answer", *told, *arguments], capture_output=True, text=True, timeout=60)


def view_url(printed: list[str]) -> str:
    (base_url,) = [line.split()[-1] for line in printed if line.strip().startswith("base URL")]
    return base_url.partition("/s/")[0]


def fetch(printed: list[str], path: str, token: str = "any") -> Any:
    request = urllib.request.Request(f"{view_url(printed)}{path}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def test_an_errand_is_answered_from_a_shell_and_the_callback_sent(
    receiver: tuple[str, Received], tmp_path: Path
) -> None:
    url, received = receiver
    (tmp_path / "list.txt").write_text("åäö")
    (tmp_path / "map.png").write_bytes(b"\x89PNG")
    options = ["--callback-url", url]
    with sandbox(*options, AVENTA_SANDBOX_CALLBACK_SECRET="123456") as (_, printed):
        assert post_as_printed(printed) == 201
        files = ["--attach", str(tmp_path / "list.txt"), "--image", str(tmp_path / "map.png")]
        done = answer(printed, "511055", "--text", "We called back.", *files)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "Errand 511055 is answered. Callback 76 was answered with status 202.\n"
        ((path, document),) = received
        assert (path, document["meta"]) == ("/v1/cention/callback", {"api_secret": "123456"})
        file = fetch(printed, "/s/demo/capi/json/c3_response_attachments/788")["data"]["attributes"]["attachment"]
        assert (file["name"], file["content_type"]) == ("list.txt", "text/plain")
        assert base64.b64decode(file["content"]).decode() == "åäö"
        again = answer(printed, "511055")
        assert (again.returncode, again.stdout) == (1, "")
        assert "The errand has its answer" in again.stderr
        assert "123456" not in "\n".join(printed)


def test_the_answer_as_json_and_without_a_callback() -> None:
    with sandbox() as (_, printed):
        post_as_printed(printed)
        post_as_printed(printed)
        told = json.loads(answer(printed, "511055", "--json", "--agent", "Eva Ek", "--subject", "Re").stdout)
        assert (told["errand"]["answer"]["agent"], told["errand"]["answer"]["subject"]) == ("Eva Ek", "Re")
        assert told["callback"] is None
        assert "No callback was sent" in answer(printed, "511056").stdout
        assert "no errand with this id" in answer(printed, "1").stderr
        assert "no errand with this id" in answer(printed, "1", url=f"{view_url(printed)}/s/demo").stderr


def test_a_callback_that_nobody_takes_is_told_and_ends_with_1() -> None:
    with sandbox("--callback-url", "http://127.0.0.1:9/nobody") as (_, printed):
        post_as_printed(printed)
        done = answer(printed, "511055")
    assert done.returncode == 1
    assert "Errand 511055 is answered. Callback 76 could not be sent: Connection refused" in done.stdout


def test_a_sandbox_that_is_not_there_is_told() -> None:
    done = subprocess.run(
        [*COMMAND, "answer", "1", "--url", "http://127.0.0.1:9"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "can't reach a sandbox at http://127.0.0.1:9: Connection refused (127.0.0.1:9)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("answer",),
        ("answer", "first"),
        ("answer", "1", "--attach", "/nothing/there"),
        ("anwser", "1"),
        ("--token", "t:libary"),
        ("--token", ":library"),
        ("--data", "/nothing/there"),
        ("--callback-url", "here"),
    ],
)
def test_bad_usage_is_2(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_tokens_with_claims() -> None:
    options = ["--token", "reads:library,export", "--token", "reads:logio", "--token", "all"]
    with sandbox(*options) as (_, printed):
        assert [post_as_printed(printed, token) for token in ("reads", "all", "reads:library")] == [403, 201, 401]
        assert fetch(printed, "/s/demo/capi/json/c3_libraries", "reads")["data"]
        assert fetch(printed, "/s/demo/capi/custom/logio?format=json", "reads") == []


def test_data_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"library": {"libraries": [{"id": 77, "name": "Mine"}]}}))
    with sandbox("--data", str(file)) as (_, printed):
        assert [one["id"] for one in fetch(printed, "/s/demo/capi/json/c3_libraries")["data"]] == ["77"]


def test_data_that_can_not_be_used_is_told_with_every_fault(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"exports": [{}], "logio": 1}))
    done = subprocess.run([*COMMAND, "--data", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "exports/0/id: is missing" in done.stderr
    assert "logio: " in done.stderr


def test_help_names_the_subcommand() -> None:
    done = subprocess.run([sys.executable, "-m", "bridge", "sandbox", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "answer" in done.stdout

"""`aventa-bridge cention …` when something is wrong: settings, tokens, documents, Cention; and as a process."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bridge.cli import main
from bridge.cli.cention.call import CLAIM_NAMES
from tests.e2e.support import eventually
from tests.integration.shell_support import TOKENS, Shell, shell

SECRET = "a-token-that-must-not-be-shown"
NEW = ["errand", "new", "--subject", "Call", "--name", "Åsa Öberg"]


@pytest.fixture
def cention(tmp_path: Path) -> Iterator[Shell]:
    with shell(tmp_path) as made:
        yield made


def commands(group: click.Group = main, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below `cention`."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx) if path else ["cention"]:
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_a_command_says_what_it_does(cention: Shell, path: tuple[str, ...]) -> None:
    told = cention.run(*path[1:], "--help").stdout
    assert path[-1] in told
    _, command = next(each for each in commands() if each[0] == path)
    assert command.help
    assert not {"--token", "--password"} & {name for param in command.params for name in param.opts}


@pytest.mark.parametrize(
    ("claim", "arguments"),
    {
        "create_errand": NEW,
        "errand_data": ["dirty", "list"],
        "contacts": ["contact", "card", "--email", "a@example.com"],
        "library": ["library", "list"],
        "export": ["export", "trigger", "316"],
        "attachment": ["files", "response", "1"],
        "logio": ["logio"],
    }.items(),
)
def test_a_token_that_is_missing_unknown_or_lacks_the_claim(cention: Shell, claim: str, arguments: list[str]) -> None:
    cention.tokens = {}
    missing = cention.run(*arguments, code=2).stderr
    assert missing.startswith(f"cention.tokens.{claim}: is missing")
    assert f'"{CLAIM_NAMES[claim]}"' in missing
    for token, status in ((SECRET, 401), (TOKENS["logio" if claim != "logio" else "export"], 403)):
        refused = cention.run(*arguments, code=1, BRIDGE_CENTION__TOKEN=token)
        assert f"HTTP {status}" in refused.stderr
        assert "that of cention.token," in refused.stderr
        assert f'the claim "{CLAIM_NAMES[claim]}"' in refused.stderr
        assert cention.base_url in refused.stderr
        assert SECRET not in refused.output
        assert refused.stdout == ""


def test_where_the_token_and_the_address_come_from(cention: Shell, tmp_path: Path) -> None:
    cention.tokens = {}
    (tmp_path / "token").write_text(TOKENS["library"] + "\n")
    options = ["--token-file", "token", "--base-url", cention.base_url + "/"]
    cention.run("library", "list", *options, BRIDGE_CENTION__BASE_URL="http://127.0.0.1:1/s/other")
    queue = f'[[cention.routes]]\nqueue = "Växel"\ntoken = "{TOKENS["create_errand"]}"\n'
    (tmp_path / "bridge.toml").write_text(f'[cention]\nbase_url = "{cention.base_url}"\n{queue}')
    cention.run(*NEW, "--config", "bridge.toml", "--route", "Växel")
    assert "--route" in cention.run(*NEW, "--config", "bridge.toml", "--route", "Other", code=2).stderr
    assert "one of --token-file and --route" in cention.run(*NEW, *options, "--route", "Växel", code=2).stderr


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff\xfe", b"x" * 70_000])
def test_a_token_file_that_cannot_be_used(cention: Shell, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    told = cention.run("library", "list", "--token-file", "token", code=2).stderr
    assert "--token-file" in told
    assert "token" in told


def test_an_address_that_is_missing_or_none(cention: Shell) -> None:
    for base_url in ("https://api.example.com", "ftp://x/s/demo", "https://api.example.com/s/demo/capi/json"):
        told = cention.run("library", "list", "--base-url", base_url, code=2).stderr
        assert "--base-url" in told
        assert "https://api.example.com/s/demo" in told
    process = subprocess.run(
        [sys.executable, "-m", "bridge", "cention", "library", "list"],
        env={name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert process.stderr.startswith("cention.base_url: is missing")
    assert "docs/configuration.md" in cention.run("library", "list", code=2, BRIDGE_CENTION__TOKENN="x").stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "told"),
    [
        (["errand", "new"], None, "give options that make a document, or --json-file"),
        (["errand", "new", "--subject", "a", "--json-file", "-"], "{}", "leave out the other options"),
        (["errand", "new", "--device-id", "1"], None, "--extension-id: is missing; --dest-number: is missing"),
        (["errand", "new", "--device-id", "1.0"], None, "must be an integer"),
        (["errand", "new", "--extradata", "{"], None, "must be JSON"),
        (["errand", "new", "--wa-params", '{"a": 1}'], None, "--wa-params: Input should be a valid list"),
        (["errand", "new", "--json-file", "-"], "{", "standard input: is no JSON: line 1"),
        (["errand", "new", "--json-file", "-"], "[]", "standard input: the document"),
        (["errand", "new", "--json-file", "-"], '{"data": {"type": "c3_libraries"}}', "type must be c3_new_errands"),
        (["errand", "new", "--json-file", "-"], '{"msg": {"subject": 70174}}', "msg/subject"),
        (["errand", "new", "--attach", "absent.txt"], None, "absent.txt"),
        (["errand", "end"], None, "--json-file"),
        (["errand", "end", "--answer-body", "x"], None, "the errand's ID"),
        (["obcall", "end", "--device-id", "1"], None, "--extension-id: is missing"),
        (["dirty", "mark"], None, "ID"),
        (["library", "show", "../1"], None, "an id is a number"),
        (["library", "questions", "--in", "all"], None, "--phrase"),
        (["library", "questions", "--library", "3", "--toplist"], None, "--library"),
        (["errand", "report", "1", "--fields", "a b"], None, "sla"),
        (["files", "library", "1", "--output", "a", "--without-content"], None, "needs the content"),
        (["files", "library", "1", "--output", "absent/a"], None, "no directory absent"),
        (["export", "trigger", "1", "--for-spreadsheets"], None, "--output FILE.csv"),
    ],
)
def test_bad_usage_is_told_without_the_values(
    cention: Shell, arguments: list[str], stdin: str | None, told: str
) -> None:
    refused = cention.run(*arguments, code=2, stdin=stdin)
    assert told in refused.stderr
    assert "70174" not in refused.stderr
    assert refused.stdout == ""
    assert cention.sandbox.arrivals == []


def test_what_cention_refuses_is_told_with_its_place(cention: Shell) -> None:
    call = ["--device-id", "1", "--extension-id", "2", "--queue-name", "q", "--queue-number", "1"]
    refused = cention.run("errand", "new", *call, "--dest-number", "0701740605", code=1).stderr
    assert "integrationData/destNumber: must be an MSISDN" in refused
    assert "0701740605" not in refused


def test_what_becomes_of_a_request_that_fails(cention: Shell) -> None:
    cention.sandbox.set_faults([{"endpoint": "c3_new_errands", "reset": "after"}])
    lost = cention.run(*NEW, code=1)
    assert "the answer was lost" in lost.stderr
    assert "It may have been done: look before you send it again." in lost.stderr
    assert "Åsa" not in lost.output
    cention.sandbox.set_faults([{"endpoint": "c3_libraries", "reset": "after"}])
    assert "Nothing was changed: ask again." in cention.run("library", "list", code=1).stderr
    cention.sandbox.set_faults([{"endpoint": "c3_errand_reports", "reset": "after"}])
    assert "cention dirty mark" in cention.run("errand", "report", "511055", code=1).stderr
    cention.sandbox.set_faults([{"status": 503, "headers": {"Retry-After": "7"}}])
    later = cention.run(*NEW, code=1).stderr
    assert "nothing was done" in later
    assert "after 7 s" in later
    cention.sandbox.set_faults([])
    assert "HTTP 404" in cention.run("library", "show", "99", code=1).stderr
    cention.sandbox.set_faults([{"endpoint": "c3_libraries", "status": 200, "body": "[1]"}])
    assert "answer cannot be used (HTTP 200)" in cention.run("library", "list", code=1).stderr
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/s/demo"
        down = cention.run(*NEW, "--base-url", address, code=1).stderr
    assert down.startswith(f"{address}: nothing was done")


def test_a_timeout_of_its_own(cention: Shell) -> None:
    cention.sandbox.set_faults([{"endpoint": "c3_libraries", "delay_s": 600}])
    assert "within 0.2 s" in cention.run("library", "list", "--timeout", "0.2", code=1).stderr


async def test_ctrl_c_says_that_it_may_have_been_done(tmp_path: Path) -> None:
    with shell(tmp_path) as cention:
        cention.sandbox.set_faults([{"endpoint": "c3_new_errands", "delay_s": 600}])
        process = cention.process(*NEW)

        async def is_asked() -> bool:
            return bool(cention.sandbox.faults[0]["hits"])

        await eventually(is_asked, "the request")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "stopped before Cention answered. It may have been done" in errors
        assert "Traceback" not in errors


def test_a_process_reads_standard_input_and_writes_standard_output(cention: Shell) -> None:
    process = cention.process("errand", "new", "--json-file", "-", "--json")
    printed, errors = process.communicate(json.dumps({"msg": {"subject": "Piped"}}), timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(printed)["errandId"] == "511055"
    process = cention.process("files", "library", "2020", "--output", "-")
    assert process.communicate(timeout=60) == ("Name:\nOld time:\nNew time:\n", "")


def test_a_report_that_nobody_is_left_to_read_counts_as_changed_again(cention: Shell) -> None:
    cention.run(*NEW)
    process = cention.process("dirty", "walk", "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert cention.json("dirty", "list") == [511055]
    process.stderr.close()
    assert process.stdin is not None
    process.stdin.close()


def test_help_loads_none_of_the_commands() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from bridge.cli import main;"
        "assert CliRunner().invoke(main, ['cention', '--help']).exit_code == 0;"
        "assert CliRunner().invoke(main, ['cention', 'library', '--help']).exit_code == 0;"
        "print({'aiohttp', 'pydantic', 'rich', 'bridge.settings'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

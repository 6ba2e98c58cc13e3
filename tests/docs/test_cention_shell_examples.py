"""The examples of docs/cention-cli.md, run in a shell against a sandbox: each prints what the page says."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bridge.cention.sandbox.answering import AnswerGiven, AttachedFile
from bridge.cention.sandbox.data import example
from bridge.cli import main
from tests.integration.cention_support import ERRAND, cention
from tests.integration.shell_support import TOKENS, Shell, shell

PAGE = Path(__file__).parents[2] / "docs" / "cention-cli.md"
EXAMPLES = {
    match[1]: (match[2], match[3])
    for match in re.finditer(
        r"^### `([a-z -]+)`\n(?:(?!^#)[^\n]*\n)*?^```sh\n(.*?)^```\n```text\n(.*?)^```\n",
        PAGE.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Shell]:
    """A sandbox with its example data, and one errand that was answered with a file."""
    (tmp_path / "work").mkdir()
    with shell(tmp_path / "work", example()) as made:

        async def prepare() -> None:
            async with cention(made.base_url) as client:
                await client.new_errand(ERRAND, TOKENS["create_errand"])
            file = AttachedFile(name="svar.txt", content_type="text/plain", content="V2VsY29tZSBiYWNrLgo=")
            await made.sandbox.answer(511055, AnswerGiven(text="Welcome back.", attachments=(file,)))

        made.columns = 80
        made.wait_for(prepare())
        yield made


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A search path on which `aventa-bridge` is this checkout's."""
    command = tmp_path / "bin" / "aventa-bridge"
    command.parent.mkdir()
    root = Path(__file__).parents[2]
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{root}" exec "{sys.executable}" -m bridge "$@"\n')
    command.chmod(0o700)
    return f"{command.parent}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.skipif(shutil.which("bash") is None, reason="the examples are for bash")
@pytest.mark.parametrize("heading", EXAMPLES)
def test_an_example_prints_what_the_page_says(heading: str, here: Shell, path: str) -> None:
    code, prints = EXAMPLES[heading]
    assert f"aventa-bridge cention {heading} " in code.replace("\n", " ")
    done = subprocess.run(
        ["bash", "-e", "-c", code],
        env={**os.environ, **here.env, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == (prints, 0), done.stderr


def test_every_command_has_an_example_and_every_example_a_command() -> None:
    def commands(group: click.Group, at: str = "") -> Iterator[str]:
        for name in group.list_commands(click.Context(group)):
            command = group.get_command(click.Context(group), name)
            yield from commands(command, f"{at}{name} ") if isinstance(command, click.Group) else [f"{at}{name}"]

    group = main.get_command(click.Context(main), "cention")
    assert isinstance(group, click.Group)
    assert sorted(commands(group)) == sorted(EXAMPLES)
    assert sorted(EXAMPLES) == sorted(re.findall(r"^### `(.+)`$", PAGE.read_text("utf-8"), re.MULTILINE))

"""The examples of docs/cention-client.md, run over real HTTP against a sandbox: each prints what the page says."""

import ast
import asyncio
import contextlib
import inspect
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple, get_args

import pytest

from bridge.cention.client import CentionClient
from bridge.cention.outcome import Delivered, Failure, Fetched
from bridge.cention.sandbox import Sandbox
from bridge.cention.sandbox.answering import AnswerGiven, AttachedFile
from bridge.settings import Claim
from tests.integration.cention_support import ERRAND

PAGE = Path(__file__).parents[2] / "docs" / "cention-client.md"
BASE_URL = "https://api.example.com/s/demo"
TOKENS: dict[str, str] = {claim: f"token-for-{claim}" for claim in get_args(Claim)}


class Example(NamedTuple):
    """A block of code, and what it is said to print."""

    code: str
    prints: str


def sections() -> dict[str, list[Example]]:
    """The page's examples by the heading that they stand below; "" for those before the first."""
    found: dict[str, list[Example]] = {}
    heading = ""
    block = r"^```python\n(?P<code>.*?)^```\n(?:```text\n(?P<prints>.*?)^```\n)?"
    for match in re.finditer(rf"^#+ (?P<heading>[^\n]+)\n|{block}", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        if match["heading"]:
            heading = match["heading"].strip("`")
        else:
            found.setdefault(heading, []).append(Example(match["code"], match["prints"] or ""))
    return found


SECTIONS = sections()
SHARED = SECTIONS.pop("Examples")
PROGRAM = SECTIONS.pop("The Cention client")


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    """A sandbox with its example data, and one errand that was answered with a file."""
    sandbox = Sandbox(tokens={token: [claim] for claim, token in TOKENS.items()}, seed=1)
    url = await sandbox.start()
    async with CentionClient(url, attempt_timeout_s=20) as cention:
        assert await cention.new_errand(ERRAND, TOKENS["create_errand"]) == Delivered(201, "511055")
    file = AttachedFile(name="svar.txt", content_type="text/plain", content="V2VsY29tZSBiYWNrLg==")
    await sandbox.answer(511055, AnswerGiven(text="Welcome back.", attachments=(file,)))
    yield url
    await sandbox.stop()


def code_of(example: Example) -> CodeType:
    code: CodeType = compile(example.code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


async def run(example: Example, names: dict[str, Any]) -> str:
    """What `example` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        waiting = eval(code_of(example), names)
        if inspect.isawaitable(waiting):
            await waiting
    return printed.getvalue()


@pytest.mark.parametrize("heading", SECTIONS)
async def test_an_example_prints_what_the_page_says(heading: str, base_url: str) -> None:
    async with CentionClient(base_url, attempt_timeout_s=20) as cention:
        names: dict[str, Any] = {"cention": cention, "tokens": TOKENS}
        for example in SHARED:
            assert await run(example, names) == ""
        for example in SECTIONS[heading]:
            assert await run(example, names) == example.prints
            assert example.prints, "an example shows what comes of it"


async def test_the_whole_program_prints_what_the_page_says(base_url: str) -> None:
    (program,) = PROGRAM
    assert BASE_URL in program.code
    code = program.code.replace(BASE_URL, base_url).replace("the library's token", TOKENS["library"])
    printed = await asyncio.to_thread(in_its_own_loop, code)
    assert printed == program.prints


def in_its_own_loop(code: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(PAGE), "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def methods() -> set[str]:
    """Every method of the client that is there to be called."""
    members = inspect.getmembers(CentionClient, inspect.isfunction)
    return {name for name, _ in members if not name.startswith("_")}


def called(code: str) -> set[str]:
    """The methods of `cention` that `code` calls."""
    tree = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    return {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "cention"
    }


@pytest.mark.parametrize("method", sorted(methods()))
def test_every_method_has_a_section_with_an_example_of_its_own(method: str) -> None:
    assert method in SECTIONS
    assert method in set().union(*(called(example.code) for example in SECTIONS[method]))


def test_every_claim_and_every_value_is_explained() -> None:
    page = PAGE.read_text("utf-8")
    assert all(f"| `{claim}` |" in page for claim in TOKENS)
    assert all(f"| `{kind.__name__}` |" in page for kind in (Delivered, Fetched, *get_args(Failure)))

"""Shared by the tests of `aventa-bridge cention`: a sandbox that serves beside the test, and commands against it.

Not a test itself. Commands run in the test's own process, over real HTTP, but for `process`.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

from click.testing import CliRunner, Result

from bridge.cention.sandbox import Data, Sandbox
from bridge.cli import main
from bridge.settings import Claim

TOKENS: dict[str, str] = {claim: f"token-for-{claim}" for claim in get_args(Claim)}
COMMAND = [sys.executable, "-m", "bridge", "cention"]

T = TypeVar("T")


class Shell:
    """Commands against one sandbox, with a token for each claim that carries that claim alone."""

    def __init__(self, sandbox: Sandbox, base_url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.sandbox, self.base_url, self._loop = sandbox, base_url, loop
        self.tokens: Mapping[str, str] = TOKENS
        self.columns = 100

    @property
    def env(self) -> dict[str, str]:
        """What tells a command where Cention is, and the tokens."""
        tokens = {f"BRIDGE_CENTION__TOKENS__{claim.upper()}": token for claim, token in self.tokens.items()}
        return {"BRIDGE_CENTION__BASE_URL": self.base_url, "COLUMNS": str(self.columns), **tokens}

    def run(self, *arguments: str, code: int = 0, stdin: bytes | str | None = None, **env: str) -> Result:
        """What the command prints; it must end with `code`."""
        runner = CliRunner(env={**self.env, **env})
        result = runner.invoke(main, ["cention", *arguments], input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        for token in TOKENS.values():
            assert token not in result.output
        return result

    def json(self, *arguments: str, stdin: bytes | str | None = None) -> Any:
        """What the command prints with `--json`."""
        return json.loads(self.run(*arguments, "--json", stdin=stdin).stdout)

    def process(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        """The command as a process of its own."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env={**os.environ, **self.env, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, work: Awaitable[T]) -> T:
        """Has the sandbox's loop do `work`."""

        async def done() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(60)


@contextmanager
def shell(directory: Path, data: Data | None = None) -> Iterator[Shell]:
    """A sandbox in a thread of its own, and commands that are run in `directory`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    sandbox = Sandbox(tokens={token: [claim] for claim, token in TOKENS.items()}, data=data, seed=1)
    before = Path.cwd()
    os.chdir(directory)
    try:
        made = Shell(sandbox, asyncio.run_coroutine_threadsafe(sandbox.start(), loop).result(60), loop)
        yield made
    finally:
        os.chdir(before)
        asyncio.run_coroutine_threadsafe(sandbox.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

"""What every command of `aventa-bridge cention` does around its call: options, the token, Ctrl-C, and failures.

Invariants: a token comes from the settings or a file, never from an argument, and is never shown. Nothing is logged of
what is sent or read. A failure says what became of the request, where, and what can be done.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from bridge.cli.settings import load_or_exit

if TYPE_CHECKING:
    from bridge.cention.client import CentionClient
    from bridge.cention.outcome import Delivered, Failure, Fetched, Outcome
    from bridge.settings import Claim, Settings

TIMEOUT_S = 30.0
TOKEN_BYTES_MAX = 65_536
CLAIM_NAMES: Final[dict[str, str]] = {
    "create_errand": "Create Errand",
    "errand_data": "Access to errand data",
    "contacts": "Access and create customer contacts",
    "library": "Access to library",
    "export": "Access to export API",
    "attachment": "get attachment",
    "logio": "Access to logio API",
}
"""What Cention's own pages call each claim of the settings."""
ASK_AGAIN = "Nothing was changed: ask again."
MAY_BE_DONE = "It may have been done: look before you send it again."

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usable:
    """A token, and where it is from.

    Attributes:
        source: the setting or the option, for people.
    """

    token: str
    source: str

    def __repr__(self) -> str:
        return f"Usable(source={self.source!r})"


class Failed(Exception):
    """The call did not come to its end.

    Attributes:
        failure: what became of it.
    """

    def __init__(self, failure: "Failure") -> None:
        super().__init__(type(failure).__name__)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Call:
    """What a command works with.

    Attributes:
        cention: the client, open.
        token: what the command's endpoint is asked with.
        as_json: whether JSON is wanted in place of a table.
        timeout_s: seconds that the call may take.
    """

    cention: "CentionClient"
    token: str
    as_json: bool
    timeout_s: float

    def value(self, read: "Fetched[T] | Failure") -> T:
        """What was read.

        Raises:
            Failed: it was not.
        """
        from bridge.cention.outcome import Fetched

        if isinstance(read, Fetched):
            return read.value
        raise Failed(read)

    def done(self, outcome: "Outcome") -> "Delivered":
        """What was done.

        Raises:
            Failed: it was not, or nobody knows.
        """
        from bridge.cention.outcome import Delivered

        if isinstance(outcome, Delivered):
            return outcome
        raise Failed(outcome)


def connected(
    *claims: "Claim", timeout_s: float = TIMEOUT_S, lost: str = ASK_AGAIN
) -> Callable[[Callable[..., Awaitable[int | None]]], Callable[..., None]]:
    """Makes a command of an async function, which is given a `Call` and the command's own arguments.

    What the function returns is the exit code; None is 0.

    Args:
        claims: of which the token has to carry one; the first that has a token of its own is taken.
        timeout_s: the default of `--timeout`.
        lost: what to do where the answer is lost.
    """

    def decorate(function: Callable[..., Awaitable[int | None]]) -> Callable[..., None]:
        @wraps(function)
        def run(
            config: Path | None,
            base_url: str | None,
            token_file: Path | None,
            timeout_s: float,
            as_json: bool,
            **arguments: Any,
        ) -> None:
            settings = load_or_exit(config, sandbox=True)
            where = _where(settings, base_url)
            usable = _token(settings, claims, token_file, arguments.pop("route", None))
            from bridge.runtime import logs

            logs.configure("critical", "console")

            async def work(call: Call) -> int:
                return await function(call, **arguments) or 0

            sys.exit(asyncio.run(_run(settings, where, usable, claims, timeout_s, as_json, lost, work)))

        made: Callable[..., None] = run
        for option in reversed(_options(timeout_s, errands="create_errand" in claims)):
            made = option(made)
        return made

    return decorate


def _options(timeout_s: float, *, errands: bool) -> list[Callable[..., Any]]:
    options = [
        click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table."),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            help="Settings file; without it, ./config.toml if there is one.",
        ),
        click.option("--base-url", metavar="URL", help="In place of cention.base_url: https://<host>/s/<workspace>."),
        click.option(
            "--token-file",
            type=click.Path(path_type=Path),
            help="File that holds the token, in place of those of the settings.",
        ),
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(0, min_open=True),
            default=timeout_s,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait for Cention.",
        ),
    ]
    route = click.option("--route", metavar="QUEUE", help="Use the token of this queue in cention.routes.")
    return [*options, route] if errands else options


def _where(settings: "Settings", base_url: str | None) -> str:
    from bridge.cention.client import checked_base_url

    if base_url is not None:
        try:
            return checked_base_url(base_url)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--base-url") from None
    if settings.cention.base_url is None:
        _bad_settings("cention.base_url: is missing; set it to https://<host>/s/<workspace>, or give --base-url")
    return str(settings.cention.base_url)


def _token(settings: "Settings", claims: tuple["Claim", ...], file: Path | None, route: str | None) -> Usable:
    if file is not None and route is not None:
        raise click.UsageError("give one of --token-file and --route.")
    if file is not None:
        return Usable(_token_in(file), f"--token-file {file}")
    cention = settings.cention
    if route is not None:
        for place, each in enumerate(cention.routes):
            if each.queue == route:
                return Usable(each.token.get_secret_value(), f"cention.routes[{place}].token")
        _bad_settings("cention.routes: has no queue of the name that --route gives")
    for claim in claims:
        if claim in cention.tokens:
            return Usable(cention.tokens[claim].get_secret_value(), f"cention.tokens.{claim}")
    if cention.token is None:
        _bad_settings(
            f"cention.tokens.{claims[0]}: is missing; set it, or cention.token, to a token with the claim"
            f' "{CLAIM_NAMES[claims[0]]}", or give --token-file'
        )
    return Usable(cention.token.get_secret_value(), "cention.token")


def _token_in(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            text = opened.read(TOKEN_BYTES_MAX + 1).decode("ascii").strip()
    except OSError as error:
        raise click.BadParameter(f"cannot read {file}: {error.strerror}.", param_hint="--token-file") from None
    except UnicodeDecodeError:
        text = ""
    if not text or len(text.split()) != 1 or len(text) > TOKEN_BYTES_MAX:
        raise click.BadParameter(f"{file} must hold one token and nothing else.", param_hint="--token-file")
    return text


def _bad_settings(fault: str) -> NoReturn:
    click.echo(fault, err=True)
    sys.exit(2)


async def _run(
    settings: "Settings",
    where: str,
    usable: Usable,
    claims: tuple["Claim", ...],
    timeout_s: float,
    as_json: bool,
    lost: str,
    work: Callable[[Call], Awaitable[int]],
) -> int:
    from bridge.cention.client import CentionClient
    from bridge.cli.terminal import until_signal

    code = 0

    async def watched() -> None:
        nonlocal code
        try:
            code = await work(call)
        except Failed as failed:
            click.echo(f"{where}: {explained(failed.failure, usable, claims, lost)}", err=True)
            code = 1

    async with CentionClient(where, attempt_timeout_s=timeout_s, obcall_type=settings.cention.obcall_type) as cention:
        call = Call(cention, usable.token, as_json, timeout_s)
        if not await until_signal(watched()):
            click.echo(f"{where}: stopped before Cention answered. {lost}", err=True)
            return 1
    return code


def explained(failure: "Failure", usable: Usable, claims: tuple["Claim", ...], lost: str) -> str:
    """What became of a call, and what can be done, in a sentence or two without anything that was sent."""
    from bridge.cention.outcome import Rejected, TryLater, Unauthorised, Unknown

    reason = failure.reason.rstrip(".")
    match failure:
        case Unauthorised(status):
            names = " or ".join(f'"{CLAIM_NAMES[claim]}"' for claim in claims)
            bound = ", and be bound to a channel and an area" if "create_errand" in claims else ""
            return (
                f"Cention refuses the token (HTTP {status}: {reason}). It is that of {usable.source}, and must carry"
                f" the claim {names}{bound}."
            )
        case Unknown():
            return f"the answer was lost ({reason}). {lost}"
        case TryLater(retry_after_s=asked):
            after = "later" if asked is None else f"after {asked:g} s, as Cention asks for"
            return f"nothing was done ({reason}). The same again may succeed {after}."
        case Rejected(None):
            return f"nothing was sent: {reason}."
        case Rejected(status) if status is not None and 200 <= status < 300:
            return f"Cention's answer cannot be used (HTTP {status}): {reason}."
        case _:
            return f"Cention refuses this (HTTP {getattr(failure, 'status', None)}): {reason}."

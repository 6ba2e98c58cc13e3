"""`aventa-bridge sandbox`: the Cention sandbox alone, until it is interrupted; and `answer`, an agent's hand in one.

Holds no logic of Cention's.
"""

import asyncio
import base64
import ipaddress
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import click

from bridge.cention.documents import MEDIA_TYPE, NEW_ERRANDS
from bridge.cention.documents.sources import content_type_of
from bridge.cention.sandbox import Sandbox
from bridge.cention.sandbox.asked import CLAIMS
from bridge.cention.sandbox.data import Data, load
from bridge.cention.words import trouble_of
from bridge.cli.ports import SANDBOX_PORT

FILES_BYTES_MAX = 20 * 2**20
"""Of all the files of one answer; as base64 they stay below what the sandbox takes."""
_ANSWER_TIMEOUT_S = 60.0  # the sandbox gives its callback 10 s, and files may be large

_ERRAND = {
    "data": {
        "type": NEW_ERRANDS,
        "attributes": {
            "msg": {"message_id": "by-hand-1", "from": "46701740605", "subject": "Posted by hand"},
            "integrationData": {
                "integrationName": "aventa",
                "referenceId": "by-hand-1",
                "deviceId": 1000,
                "extensionId": 1000,
                "destNumber": "46846500400",
                "queueName": "Support",
                "queueNumber": "1",
                "endSession": False,
            },
        },
    }
}


def _tokens(_ctx: click.Context, _param: click.Parameter, told: tuple[str, ...]) -> dict[str, set[str]]:
    """Each `TOKEN`, or `TOKEN:claim,claim`, with its claims; those of a token that is told twice are joined.

    A colon can't be part of a bearer token (RFC 6750 section 2.1).
    """
    tokens: dict[str, set[str]] = {}
    for one in told:
        token, colon, names = one.partition(":")
        claims = names.split(",") if colon else CLAIMS
        if not token or not set(claims) <= set(CLAIMS):
            # The value isn't repeated: it is a secret.
            raise click.BadParameter(f"write TOKEN, or TOKEN:CLAIM,CLAIM with claims of {', '.join(CLAIMS)}.")
        tokens.setdefault(token, set()).update(claims)
    return tokens


@click.group(invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=SANDBOX_PORT, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option(
    "--token",
    "tokens",
    multiple=True,
    metavar="TOKEN[:CLAIM,...]",
    callback=_tokens,
    envvar="AVENTA_SANDBOX_TOKENS",
    show_envvar=True,
    help="Bearer token to accept, with every claim or those told; repeat for several (in the variable: with spaces"
    " between). Without: any.",
)
@click.option(
    "--data",
    "data_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with the library, exports, ratings and logins to serve. Without: a small example.",
)
@click.option("--callback-url", help="Where callbacks go when an errand is answered. Without: none is sent.")
@click.option(
    "--callback-secret",
    default="",
    envvar="AVENTA_SANDBOX_CALLBACK_SECRET",
    show_envvar=True,
    help="Sent with each callback.",
)
@click.pass_context
def sandbox(
    ctx: click.Context,
    host: str,
    port: int,
    tokens: dict[str, set[str]],
    data_file: Path | None,
    callback_url: str | None,
    callback_secret: str,
) -> None:
    """Run a Cention sandbox: the documented API with errands in memory, and faults on demand.

    Stop it with Ctrl-C. docs/sandbox.md tells what it does and how to make it misbehave.
    """
    if ctx.invoked_subcommand is not None:
        return
    if callback_url is not None and not callback_url.startswith(("http://", "https://")):
        raise click.BadParameter("must begin with http:// or https://.", param_hint="--callback-url")
    server = Sandbox(
        tokens=tokens or None,
        data=None if data_file is None else _data(data_file),
        callback_url=callback_url,
        callback_secret=callback_secret,
    )
    try:
        asyncio.run(_run(server, host, port, guarded=bool(tokens)))
    except OSError as error:
        raise click.ClickException(
            f"can't listen on {host} port {port}: {trouble_of(error)}."
            " Choose another --port (0 takes a free one) or --host."
        ) from None


@sandbox.command()
@click.argument("errand_id", metavar="ID", type=click.IntRange(min=1))
@click.option(
    "--url",
    default=f"http://127.0.0.1:{SANDBOX_PORT}",
    show_default=True,
    help="Where the sandbox is; its base URL will do.",
)
@click.option("--text", help="The answer as plain text.")
@click.option("--html", help="The answer as HTML; by default made of the text.")
@click.option("--subject", help="The answer's subject; by default the errand's.")
@click.option("--agent", help="The name of the agent who answers.")
@click.option(
    "--attach",
    "attachments",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File to attach; repeat for several.",
)
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Image to embed in the HTML; repeat for several.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the sandbox's answer as JSON.")
def answer(
    errand_id: int,
    url: str,
    attachments: tuple[Path, ...],
    images: tuple[Path, ...],
    as_json: bool,
    **texts: str | None,
) -> None:
    """Answer the errand ID in a running sandbox, as its agent would; the sandbox then sends its callback."""
    given: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    if sum(path.stat().st_size for path in (*attachments, *images)) > FILES_BYTES_MAX:
        raise click.UsageError(f"the files have more than {FILES_BYTES_MAX >> 20} MiB together.")
    given["attachments"] = [_file(path) for path in attachments]
    given["images"] = [_file(path) for path in images]
    status, told = asyncio.run(_post(f"{url.partition('/s/')[0].rstrip('/')}/errands/{errand_id}/answer", given))
    if status != 200:
        raise click.ClickException(f"the errand was not answered: {told.get('detail') or f'HTTP status {status}'}")
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        click.echo(f"Errand {errand_id} is answered. {_words(told['callback'])}")
    if told["callback"] is not None and told["callback"]["error"] is not None:
        raise SystemExit(1)


def _words(callback: dict[str, Any] | None) -> str:
    if callback is None:
        return "No callback was sent: the sandbox has no --callback-url."
    if callback["error"] is not None:
        return f"Callback {callback['id']} could not be sent: {callback['error']}"
    return f"Callback {callback['id']} was answered with status {callback['status']}."


def _file(path: Path) -> dict[str, str]:
    content = base64.b64encode(path.read_bytes()).decode()
    return {"name": path.name, "content_type": content_type_of(path.name), "content": content}


async def _post(url: str, document: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_TIMEOUT_S)) as http,
            http.post(url, json=document, allow_redirects=False) as response,
        ):
            told = json.loads(await response.read())
            return response.status, told if isinstance(told, dict) else {}
    except TimeoutError:
        reason = f"no answer within {_ANSWER_TIMEOUT_S:g} s"
    except json.JSONDecodeError:
        reason = "what answers there is no sandbox"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        reason = trouble_of(error)
    raise click.ClickException(f"can't reach a sandbox at {url.partition('/errands/')[0]}: {reason}")


def _data(path: Path) -> Data:
    try:
        return load(path)
    except OSError as error:
        raise click.ClickException(f"can't read {error.filename}: {error.strerror}") from None
    except ValueError as error:
        faults = "".join(f"\n  {line}" for line in str(error).splitlines())
        raise click.BadParameter(f"{path} can't be used:{faults}", param_hint="--data") from None


async def _run(server: Sandbox, host: str, port: int, *, guarded: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    base_url = await server.start(host, port)
    try:
        click.echo(_greeting(base_url, host, guarded))
        await stop.wait()
    finally:
        await server.stop()


def _greeting(base_url: str, host: str, guarded: bool) -> str:
    view = base_url.partition("/s/")[0]
    # A token is never shown again: the terminal may be a recorded one.
    token = "<one of your tokens>" if guarded else "anything"
    lines = [
        "Cention sandbox is serving. Ctrl-C ends it.",
        "",
        f"  base URL   {base_url}",
        f'  settings   cention.base_url = "{base_url}", cention.token = {"one of yours" if guarded else "any text"}',
        f"  page       {view}/   (its errands, for people)",
        f"  errands    {view}/errands",
        f"  agents     {view}/agents",
        f"  arrivals   {view}/arrivals",
        f"  faults     {view}/faults   (PUT rules here to make it misbehave)",
        "",
        "Create an errand by hand:",
        f"  curl -X POST {base_url}/capi/json/{NEW_ERRANDS} -H 'Authorization: Bearer {token}'"
        f" -H 'Content-Type: {MEDIA_TYPE}' -d '{json.dumps(_ERRAND, separators=(',', ':'))}'",
    ]
    if not guarded and not _is_loopback(host):
        lines.insert(1, "It is open to everyone who can reach this address: --token narrows that for its API alone.")
    return "\n".join(lines)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

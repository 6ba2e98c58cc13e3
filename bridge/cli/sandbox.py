"""`aventa-bridge sandbox`: the Cention sandbox alone, until it is interrupted."""

import asyncio
import ipaddress
import json
import signal

import click

from bridge.cention.documents import MEDIA_TYPE, NEW_ERRANDS
from bridge.cention.sandbox import Sandbox

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


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8082, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--token",
    "tokens",
    multiple=True,
    envvar="AVENTA_SANDBOX_TOKENS",
    show_envvar=True,
    help="Bearer token to accept; repeat for several (in the variable: with spaces between). Without: any.",
)
def sandbox(host: str, port: int, tokens: tuple[str, ...]) -> None:
    """Run a Cention sandbox: the documented API with errands in memory, and faults on demand.

    Stop it with Ctrl-C. docs/sandbox.md tells what it does and how to make it misbehave.
    """
    try:
        asyncio.run(_run(host, port, tokens))
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(
            f"can't listen on {host} port {port}: {reason}. Choose another --port (0 takes a free one) or --host."
        ) from None


async def _run(host: str, port: int, tokens: tuple[str, ...]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = Sandbox(tokens=frozenset(tokens) or None)
    base_url = await server.start(host, port)
    try:
        click.echo(_greeting(base_url, host, bool(tokens)))
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

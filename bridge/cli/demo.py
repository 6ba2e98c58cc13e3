"""`aventa-bridge demo`: the whole job on this machine, ended by Ctrl-C.

Starts the service with an embedded Redis of its own and the Cention sandbox, plays made-up calls at its intake over
HTTP, and shows both sides: each event that is sent, and each request that Cention gets because of it.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.ports import SANDBOX_PORT, free_or_any

if TYPE_CHECKING:
    from bridge.app import Service
    from bridge.cention.sandbox.state import Arrival
    from bridge.cli.stories import Due

LOOK_EVERY_S = 0.1
LOOK_BACK = 1000
PORTS = {"intake": 8080, "admin": 8081, "sandbox": SANDBOX_PORT}


@click.command()
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True, help="Calls a second.")
@click.option("--calls", type=click.IntRange(0), default=0, help="How many calls; 0 goes on until Ctrl-C.")
@click.option("--seed", type=int, default=42, show_default=True, help="The same seed tells the same stories.")
@click.option(
    "--speed", type=click.FloatRange(0, min_open=True), default=4.0, show_default=True,
    help="How much faster than in life a call goes.",
)  # fmt: skip
def demo(rate: float, calls: int, seed: int, speed: float) -> None:
    """See calls become errands: embedded Redis, a Cention sandbox and made-up Aventa calls, on this machine alone.

    Nothing is kept: the demo's data goes with it. Ctrl-C ends it.
    """
    from bridge.runtime import logs
    from bridge.store.embedded import EmbeddedRedisError

    logs.configure("warning", "console")
    try:
        asyncio.run(_demo(rate, calls, seed, speed))
    except (EmbeddedRedisError, OSError) as error:
        click.echo(f"cannot start: {error}", err=True)
        sys.exit(1)


async def _demo(rate: float, calls: int, seed: int, speed: float) -> None:
    from bridge import app
    from bridge.runtime.tasks import Tasks
    from bridge.settings import load

    ports = {name: free_or_any(port) for name, port in PORTS.items()}
    with tempfile.TemporaryDirectory(prefix="aventa-demo-") as directory:
        environ = {
            "BRIDGE_REDIS__DATA_DIR": directory,
            "BRIDGE_SPOOL__DIR": f"{directory}/spool",
            "BRIDGE_INTAKE__PORT": str(ports["intake"]),
            "BRIDGE_ADMIN__PORT": str(ports["admin"]),
        }
        # An empty file, and not ./config.toml: the demo is the same wherever it is started.
        nothing = Path(directory) / "demo.toml"
        nothing.touch()
        settings = load(nothing, environ=environ, sandbox=True)
        stop = asyncio.Event()
        app.on_signals(stop.set)
        async with app.running(settings, sandbox_port=ports["sandbox"], stop=stop) as service:
            click.echo(_welcome(service))
            tasks = Tasks("demo")
            playing = tasks.start(_play(service, rate, calls, seed, speed), "play")
            tasks.start(_show_arrivals(service), "show")
            stopped = tasks.start(stop.wait(), "stop")
            try:
                await asyncio.wait([playing, stopped], return_when=asyncio.FIRST_COMPLETED)
                if playing.done():
                    await playing  # a failure to play is a failure of the demo
                    click.echo("All calls have been played. Ctrl-C ends the demo.")
                    await stopped
            finally:
                await tasks.drain(0)
            click.echo("Draining: deliveries under way are finished.")
    click.echo("Ended.")


def _welcome(service: "Service") -> str:
    return f"""\
The Aventa bridge is at work. Made-up calls come in; Cention (a sandbox) gets their errands.

  intake    {service.intake_url}/v1/events
  calls     {service.admin_url}/v1/calls            which call is active on which deviceId/extensionId
  one call  {service.admin_url}/v1/calls/<callId>   what happened to it
  Cention   {service.sandbox_url}/                    the errands, as a page; answer one there
  health    {service.admin_url}/readyz   {service.admin_url}/metrics

Post an event by hand, and look at its call:

  curl -i {service.intake_url}/v1/events -H 'Content-Type: application/json' -d '{{"eventId": "by-hand-1",
    "type": "call.started", "occurredAt": "'$(date -u +%FT%TZ)'", "callId": "my-call", "deviceId": 7, "extensionId": 7,
    "direction": "inbound", "calledNumber": "+46 8 465 004 00", "callingNumber": "+46 70 174 06 05"}}'
  curl {service.admin_url}/v1/calls/my-call

Below, > is an event from Aventa, < a request to Cention because of it. Ctrl-C ends the demo.
"""


async def _play(service: "Service", rate: float, calls: int, seed: int, speed: float) -> None:
    from bridge.cli.sender import Sender
    from bridge.cli.simulate import play
    from bridge.cli.stories import agents, agents_for, interleave, stories
    from bridge.runtime.clock import now

    staff = agents(agents_for(rate, speed))
    told = stories(seed, calls=calls, start=now(), pairs=staff, rate=rate, speed=speed)
    async with Sender(service.intake_url) as sender:
        await play(interleave(told), sender, _show_event)


def _show_event(due: "Due") -> None:
    event: Any = due.event
    where = f"{event['deviceId']}/{event['extensionId']}"
    to = event.get("transferredTo")
    more = f" to {to['deviceId']}/{to['extensionId']}" if to else ""
    _line(">", where, str(event["type"]).removeprefix("call.") + more, event["callId"], event.get("queueName") or "")


async def _show_arrivals(service: "Service") -> None:
    assert service.sandbox is not None, "the demo starts the sandbox"
    shown = 0
    while True:
        for arrival in service.sandbox.arrivals[-LOOK_BACK:]:
            if arrival.sequence > shown:
                shown = arrival.sequence
                _line(
                    "<", f"{arrival.device_id}/{arrival.extension_id}", _words(arrival), arrival.reference_id or "", ""
                )
        await asyncio.sleep(LOOK_EVERY_S)


def _words(arrival: "Arrival") -> str:
    from bridge.cention.documents import CONTACT_CARDS, END_OBCALL

    if arrival.endpoint == END_OBCALL:
        return "outbound call ended"
    if arrival.endpoint == CONTACT_CARDS:
        return "contact card"
    if arrival.end_session:
        return f"session ended, errand {arrival.errand_id}"
    return f"new errand {arrival.errand_id}"


def _line(side: str, where: str, what: str, call_id: str, more: str) -> None:
    from bridge.runtime.clock import now

    colour = "cyan" if side == ">" else "green"
    text = f"{now():%H:%M:%S} {side} {where:<10} {what:<32} {call_id} {more}".rstrip()
    click.echo(click.style(text, fg=colour))

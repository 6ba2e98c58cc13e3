"""`aventa-bridge run`: the service."""

import os
import sys
from pathlib import Path

import click

from bridge.cli.ports import SANDBOX_PORT, free_or_any
from bridge.runtime.signals import on_ending


@click.command()
@click.option(
    "--config", type=click.Path(path_type=Path), help="Settings file; without it, ./config.toml if there is one."
)
@click.option("--sandbox", is_flag=True, help="Start a Cention sandbox in place of cention.base_url.")
@click.option(
    "--sandbox-port",
    type=click.IntRange(0, 65535),
    help=f"The sandbox's port; without it {SANDBOX_PORT}, or any free one where that is taken.",
)
def run(config: Path | None, sandbox: bool, sandbox_port: int | None) -> None:
    """Run the bridge until SIGTERM, SIGHUP or Ctrl-C, which drain it: nothing accepted is lost.

    Settings come from the file, from BRIDGE_<SECTION>__<KEY> in the environment, and from secret files
    (BRIDGE_<SECTION>__<KEY>_FILE).
    """
    on_ending(_end)
    # Only here, so that a signal finds somebody, and `--help` and a faulty setting answer at once.
    from bridge.cli.settings import load_or_exit

    settings = load_or_exit(config, sandbox=sandbox)
    from bridge import app
    from bridge.runtime import logs, loop
    from bridge.settings import load
    from bridge.store.embedded import EmbeddedRedisError

    logs.configure(settings.log.level, settings.log.style)
    if sandbox_port is None:
        sandbox_port = free_or_any(SANDBOX_PORT)
    try:
        loop.run(
            app.run(
                settings,
                sandbox_port=sandbox_port if sandbox else None,
                reload=lambda: load(config, environ=os.environ, sandbox=sandbox),
            )
        )
    except (EmbeddedRedisError, OSError) as error:
        click.echo(f"cannot start: {error}", err=True)
        sys.exit(1)


def _end() -> None:
    """Ends a start of which nothing is there yet.

    Not by an exception: amid an import it may be caught, or leave the interpreter's import lock taken.
    """
    try:
        click.echo("ended while starting", err=True)
    finally:
        os._exit(0)

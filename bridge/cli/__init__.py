"""The `aventa-bridge` command: a table of subcommands, each loaded only when it is called, so that `--help` is quick.

Holds no logic. Exit codes (contract section 5): 0 done, 1 failed, 2 bad usage or settings.
"""

import click

from bridge import __version__
from bridge.cli.lazy import LazyGroup

COMMANDS = {
    "run": ("bridge.cli.run:run", "Run the bridge."),
    "demo": ("bridge.cli.demo:demo", "See the whole job on this machine: Redis, Cention sandbox, simulated calls."),
    "check": ("bridge.cli.check:check", "Check settings, Redis, Cention and the feed, one line each."),
    "simulate": ("bridge.cli.simulate:simulate", "Play Aventa call stories at a bridge."),
    "replay": ("bridge.cli.replay:replay", "Send a recorded NDJSON file of events to a bridge."),
    "reconcile": ("bridge.cli.reconcile:reconcile", "Compare calls with their errands in Cention."),
    "sandbox": ("bridge.cli.sandbox:sandbox", "Run the Cention sandbox alone."),
    "cention": ("bridge.cli.cention:cention", "Every endpoint of Cention from a shell."),
}
"""Name -> where it is, and its line in `--help`: kept here so that listing the commands imports none of them."""


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="aventa-bridge")
def main() -> None:
    """Connect an Aventa telephone exchange to the Cention Contact Center.

    New here? `aventa-bridge demo` shows the whole job on this machine; `aventa-bridge run --sandbox` is the service
    with a Cention sandbox in place of the real one.
    """

"""Settings for a command, or every fault on standard error and exit 2."""

import os
import sys
from pathlib import Path

import click

from bridge.settings import Settings, SettingsError, load


def load_or_exit(config: Path | None, *, sandbox: bool = False) -> Settings:
    """The settings from `config` and the environment; ends the process with 2 where they are faulty."""
    try:
        return load(config, environ=os.environ, sandbox=sandbox)
    except SettingsError as error:
        for fault in error.faults:
            click.echo(f"{fault.path}: {fault.detail}", err=True)
        noun = "fault" if len(error.faults) == 1 else "faults"
        click.echo(f"{len(error.faults)} {noun} in the settings; docs/configuration.md explains every key.", err=True)
        sys.exit(2)

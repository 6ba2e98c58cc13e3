"""Settings for a command, or every fault on standard error and exit 2."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from bridge.settings import SettingFault, Settings, SettingsError, load


def load_or_exit(config: Path | None, *, sandbox: bool = False) -> Settings:
    """The settings from `config` and the environment; ends the process with 2 where they are faulty."""
    try:
        settings = load(config, environ=os.environ, sandbox=sandbox)
        faults = list(_mapping_faults(settings))
    except SettingsError as error:
        faults = list(error.faults)
    if not faults:
        return settings
    for fault in faults:
        click.echo(f"{fault.path}: {fault.detail}", err=True)
    noun = "fault" if len(faults) == 1 else "faults"
    click.echo(f"{len(faults)} {noun} in the settings; docs/configuration.md explains every key.", err=True)
    sys.exit(2)


def _mapping_faults(settings: Settings) -> Iterator[SettingFault]:
    """What only the mapping itself finds: a JMESPath function that does not exist, or takes other arguments."""
    mappings = {"intake.mapping": settings.intake.mapping, "feed.mapping": settings.feed.mapping}
    if not any(mappings.values()):
        return
    from bridge.intake.mapping import EventMapping, MappingFault

    for path, mapping in mappings.items():
        try:
            EventMapping(mapping)
        except MappingFault as fault:
            yield from (SettingFault(f"{path}.{name}", detail) for name, detail in fault.faults.items())

"""Loading settings from texts, and looking at their faults."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.settings import Settings, SettingsError, load


def load_text(directory: Path, toml: str = "", *, sandbox: bool = True, **environ: str) -> Settings:
    """Settings of a TOML text, put into a file in `directory`, and an environment."""
    file = directory / "bridge.toml"
    file.write_text(toml, "utf-8")
    return load(file, environ=environ, sandbox=sandbox)


def faults_of(call: Callable[[], Settings]) -> dict[str, str]:
    """Path -> detail of every fault; a path that is told twice fails, and so does a str() that leaves one out."""
    with pytest.raises(SettingsError) as caught:
        call()
    faults = caught.value.faults
    assert len({fault.path for fault in faults}) == len(faults), faults
    assert str(caught.value).splitlines() == [f"{fault.path}: {fault.detail}" for fault in faults]
    return {fault.path: fault.detail for fault in faults}

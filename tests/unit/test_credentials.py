"""No secret is there by default: not in the settings, not in the files that set the bridge up, not in its code."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import BaseModel, SecretStr

from bridge.settings import RedisUrl, Settings

ROOT = Path(__file__).parents[2]
SECRET_KEY = re.compile(r"token|secret|password", re.IGNORECASE)


def _secrets(value: object) -> Iterator[SecretStr | RedisUrl]:
    if isinstance(value, SecretStr | RedisUrl):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, dict):
        yield from (found for inner in value.values() for found in _secrets(inner))
    elif isinstance(value, tuple | list):
        yield from (found for inner in value for found in _secrets(inner))


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name)
    else:
        yield name, value


def test_the_settings_defaults_hold_none() -> None:
    assert [found.get_secret_value() for found in _secrets(Settings())] == ["embedded"]


def test_the_files_that_set_it_up_hold_none() -> None:
    files = [ROOT / "config.toml", *(ROOT / "deploy").rglob("*.toml")]
    assert len(files) > 2
    for file in files:
        told = tomllib.loads(file.read_text())
        assert [(name, value) for name, value in _leaves(told) if SECRET_KEY.search(name) and value] == [], file
        urls = [value for _, value in _leaves(told) if isinstance(value, str) and "://" in value]
        assert [url for url in urls if "@" in url] == [], file


def test_the_manifests_hold_none() -> None:
    for file in (ROOT / "deploy").rglob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            assert document.get("kind") != "Secret", file
            for name, value in _leaves(document):
                # A variable that holds a secret is given as a file's path.
                if (
                    name == "name"
                    and isinstance(value, str)
                    and value.startswith("BRIDGE_")
                    and SECRET_KEY.search(value)
                ):
                    assert str(value).endswith("_FILE"), file


def test_the_code_holds_none_that_opens_anything() -> None:
    """ruff's rules for hardcoded passwords are on; this is the list of what is exempt from them."""
    exempt = {
        name
        for file in (ROOT / "bridge").rglob("*.py")
        for name in re.findall(r"^ *(\w+)\b.*# noqa: S10[567]", file.read_text(), re.MULTILINE)
    }
    assert exempt <= {"SANDBOX_TOKEN", "_SECRET_PREFIX", "PASS_ON"}

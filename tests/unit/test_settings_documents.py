"""config.toml and the guide to configuration say what the settings are, all of it and nothing else."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from bridge.settings import MAPPING_FIELDS, TEMPLATE_FIELDS, Claim, Settings, load

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config.toml"
GUIDE = ROOT / "docs" / "configuration.md"


def keys_of(tree: Mapping[str, Any]) -> set[str]:
    """`section.key` of everything in a document of settings, and the keys of its tables."""
    keys = set()
    for section, table in tree.items():
        for key, value in table.items():
            keys.add(f"{section}.{key}")
            inner = value[0] if key == "routes" else value
            if isinstance(inner, dict) and key not in ("mapping", "agents"):
                keys |= {f"{section}.{key}.{name}" for name in inner}
    return keys


def every_key() -> set[str]:
    keys = {
        f"{section}.{key}"
        for section in Settings.model_fields
        for key in type(getattr(Settings(), section)).model_fields
    }
    return (
        keys
        | {f"cention.tokens.{claim}" for claim in get_args(Claim)}
        | {"cention.routes.queue", "cention.routes.token"}
    )


def uncommented() -> str:
    """config.toml with its examples in force: `#` directly before a key or a table's head."""
    return re.sub(r"^#(?=[\w.]+ = |\[)", "", CONFIG.read_text("utf-8"), flags=re.MULTILINE)


def test_config_toml_says_the_defaults() -> None:
    assert load(CONFIG, environ={}, sandbox=True) == Settings()
    assert Settings.model_validate(Settings().model_dump()) == Settings()


def test_config_toml_lists_every_key_and_no_other() -> None:
    assert keys_of(tomllib.loads(uncommented())) == every_key()


def test_config_toml_states_a_default_wherever_there_is_one() -> None:
    stated = {path for path in keys_of(tomllib.loads(CONFIG.read_text("utf-8"))) if path.count(".") == 1}
    none = {
        f"{section}.{key}"
        for section, table in Settings().model_dump().items()
        for key, value in table.items()
        if value is None
    }
    assert every_key() - stated - none == {path for path in every_key() if path.count(".") == 2} | {"cention.routes"}


def test_the_examples_of_config_toml_are_good(tmp_path: Path) -> None:
    file = tmp_path / "examples.toml"
    text = uncommented().replace("eyJ…", "eyJhbGciOi").replace('"…"', '"feed"')
    text = text.replace("forward_secret = []", f'forward_secret = "whsec_{"A" * 32}"')  # the forward_url needs one
    # Some examples are for a Redis with TLS and sentinels.
    file.write_text(text.replace('url = "embedded"', 'url = "rediss+sentinel://host/name"'), "utf-8")
    s = load(file, environ={}, sandbox=False)
    assert s.cention.routes[0].queue == "support"
    assert set(s.cention.tokens) == set(get_args(Claim))


@pytest.mark.parametrize("field", [*MAPPING_FIELDS, *TEMPLATE_FIELDS])
def test_config_toml_names_every_field(field: str) -> None:
    assert re.search(rf"\b{re.escape(field)}\b", CONFIG.read_text("utf-8"))


def test_the_guide_names_no_key_that_is_not_there() -> None:
    text = GUIDE.read_text("utf-8")
    keys = every_key()

    def key(path: str) -> str:
        return path if path in keys else path.removesuffix("_file")

    sections = "|".join(Settings.model_fields)
    named = {key(path) for path in re.findall(rf"`((?:{sections})\.[a-z_.]+[a-z])`", text)}
    variables = {
        key(name.removeprefix("BRIDGE_").lower().replace("__", "."))
        for name in re.findall(r"BRIDGE_[A-Z]+__[A-Z_]+[A-Z]", text)
        if not name.startswith("BRIDGE_INTAKE__MAPPING__")
    }
    assert named
    assert variables
    assert (named | variables) <= keys


def test_the_guides_example_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GUIDE.read_text("utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (shell,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("secrets").mkdir()
    Path("config.toml").write_text(toml, "utf-8")
    for name in re.findall(r"secrets/([\w-]+)", text):
        Path("secrets", name).write_text("redis://redis.example" if name == "redis" else "a-token")
    environ = dict(re.findall(r"export (\w+)='?(.*?)'?\n", shell))
    assert load(environ=environ).intake.tokens == (SecretStr("first"), SecretStr("second"))

"""Secrets in the settings: from files, and never shown."""

import base64
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from bridge.settings import RedisUrl, Settings, SettingsError, load
from tests.unit.settings_support import faults_of, load_text

WEBHOOK = "whsec_" + base64.b64encode(b"k" * 32).decode()

Load = Callable[..., Settings]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    return partial(load_text, tmp_path)


def reveal(secrets: tuple[SecretStr, ...]) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]


def test_every_secret_can_be_read_from_a_file(loaded: Load, tmp_path: Path) -> None:
    def secret(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        return json.dumps(str(tmp_path / name))

    lines, url = "one\n\n  two  \n", "rediss://u:p@host/0\n"
    s = loaded(
        f"""
        [intake]
        tokens_file = {secret("lines", lines)}
        webhook_secrets_file = {secret("hooks", WEBHOOK)}
        [admin]
        viewer_tokens_file = {secret("json", '["three", "four"]')}
        operator_tokens = ["beaten"]
        [redis]
        url_file = {secret("redis", url)}
        [cention]
        token_file = "/nowhere/it/is/beaten"
        tokens.logio_file = {secret("logio", "five")}
        [[cention.routes]]
        queue = "sales"
        token_file = {secret("route", "six")}
        [feed]
        token_file = {secret("feed", "seven")}
        """,
        BRIDGE_CENTION__TOKEN="eight",
        BRIDGE_ADMIN__OPERATOR_TOKENS_FILE=json.loads(secret("operators", "nine")),
        BRIDGE_CENTION__TOKENS__EXPORT_FILE=json.loads(secret("export", "ten")),
    )
    assert reveal(s.intake.tokens) == ["one", "two"]
    assert reveal(s.intake.webhook_secrets) == [WEBHOOK]
    assert (reveal(s.admin.viewer_tokens), reveal(s.admin.operator_tokens)) == (["three", "four"], ["nine"])
    assert s.redis.url == "rediss://u:p@host/0"
    assert s.cention.token == SecretStr("eight")
    assert s.cention.tokens == {"logio": SecretStr("five"), "export": SecretStr("ten")}
    assert s.cention.routes[0].token == SecretStr("six")
    assert s.feed.token == SecretStr("seven")


def test_a_secret_file_that_cannot_be_used_is_one_fault(loaded: Load, tmp_path: Path) -> None:
    for name, content in {"empty": b" \n", "bytes": b"\xff", "json": b'["a", b]'}.items():
        (tmp_path / name).write_bytes(content)
    faults = faults_of(
        lambda: loaded(
            f"""
            [intake]
            host = "0.0.0.0"
            tokens_file = "{tmp_path}/nowhere"
            [admin]
            viewer_tokens_file = "{tmp_path}/json"
            operator_tokens_file = 7
            [redis]
            url_file = "{tmp_path}/bytes"
            [cention]
            base_url = "https://cention.example/s/acme"
            [[cention.routes]]
            queue = "sales"
            token_file = "{tmp_path}/empty"
            """,
            sandbox=False,
            BRIDGE_CENTION__TOKEN_FILE=str(tmp_path),
            BRIDGE_FEED__TOKEN_FILE="nul\0byte",
            BRIDGE_INTAKE__WEBHOOK_SECRETS_FILE="",
        )
    )
    # Not told besides: that 0.0.0.0 lacks tokens, that the route and Cention lack one.
    assert set(faults) == {
        "intake.tokens_file",
        "intake.webhook_secrets_file",
        "admin.viewer_tokens_file",
        "admin.operator_tokens_file",
        "redis.url_file",
        "cention.token_file",
        "cention.routes[0].token_file",
        "feed.token_file",
    }
    assert faults["cention.token_file"].endswith("(set by BRIDGE_CENTION__TOKEN_FILE)")
    assert str(tmp_path) not in str(faults)


def test_a_value_and_a_file_of_one_key_are_a_fault(loaded: Load) -> None:
    both = '[cention]\ntoken = "t"\ntoken_file = "f"\n[[cention.routes]]\nqueue = "q"\ntoken = "t"\ntoken_file = "f"'
    assert set(faults_of(lambda: loaded(both))) == {"cention.token_file", "cention.routes[0].token_file"}
    environ = {"BRIDGE_FEED__TOKEN": "t", "BRIDGE_FEED__TOKEN_FILE": "f"}
    faults = faults_of(lambda: loaded('feed.token = "beaten"', **environ))
    assert list(faults) == ["feed.token_file"]
    assert "not both" in faults["feed.token_file"]


def test_a_fault_in_a_secret_file_says_so(loaded: Load, tmp_path: Path) -> None:
    (tmp_path / "two").write_text("first\nsecond word\n")
    faults = faults_of(lambda: loaded(f'intake.tokens_file = "{tmp_path}/two"'))
    assert list(faults) == ["intake.tokens[1]"]
    assert faults["intake.tokens[1]"].endswith("(read from the file that `tokens_file` names)")


SECRET_PLACES: list[tuple[str, Callable[[str], dict[str, Any]]]] = [
    ("intake.tokens", lambda secret: {"intake": {"tokens": [secret, 1]}}),
    ("intake.webhook_secrets", lambda secret: {"intake": {"webhook_secrets": [secret]}}),
    ("admin.viewer_tokens", lambda secret: {"admin": {"viewer_tokens": secret}}),
    ("admin.operator_tokens", lambda secret: {"admin": {"operator_tokens": [secret], "viewer_tokens": [secret]}}),
    ("redis.url", lambda secret: {"redis": {"url": f"redis://user:{secret}@host:port/?password={secret}"}}),
    ("redis.url", lambda secret: {"redis": {"url": f"redis://user:{secret}@host/0?password={secret}"}}),
    ("cention.base_url", lambda secret: {"cention": {"base_url": f"https://user:{secret}@host/s/acme"}}),
    ("cention.token", lambda secret: {"cention": {"token": [secret]}}),
    ("cention.token", lambda secret: {"cention": {"token": secret, "token_file": secret}}),
    ("cention.token", lambda secret: {"cention": {"token_file": secret}}),
    ("cention.tokens", lambda secret: {"cention": {"tokens": {"logio": secret, "x": secret}}}),
    ("cention.tokens", lambda secret: {"cention": {"tokens": secret}}),
    ("cention.routes", lambda secret: {"cention": {"routes": [{"token": secret}, {"quue": secret, "token": secret}]}}),
    ("cention.routes", lambda secret: {"cention": {"routes": secret}}),
    ("feed.token", lambda secret: {"feed": {"token": secret, "kind": secret}}),
    ("callback.secret", lambda secret: {"callback": {"secret": secret, "forward_secret": secret}}),
    ("callback.secret", lambda secret: {"callback": {"secret": [secret, 7], "forward_secret": [secret]}}),
    ("callback.forward_url", lambda secret: {"callback": {"forward_url": f"https://user:{secret}@host/hook"}}),
]


def shown_by(call: Callable[[], Settings]) -> Iterator[str]:
    """All that the outcome of `call` shows of itself."""
    try:
        settings = call()
    except SettingsError as error:
        seen: BaseException | None = error
        while seen is not None:
            yield f"{seen} {seen!r} {getattr(seen, 'faults', '')}"
            seen = seen.__cause__ or seen.__context__
    else:
        yield from (str(settings), repr(settings), settings.model_dump_json(), str(settings.model_dump()))
        yield from (f"{settings.redis.url} {settings.redis.url!r} {settings.redis.url:>9}", str(settings.redis.url))


@given(
    place=st.sampled_from(SECRET_PLACES),
    secret=st.text("0123456789abcdefghijk%:/@ \n\"'[{", min_size=2).map(lambda text: f"s3cr3t{text}s3cr3t"),
    as_variable=st.booleans(),
)
def test_no_secret_is_ever_shown(
    place: tuple[str, Callable[[str], dict[str, Any]]],
    secret: str,
    as_variable: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path, tree = place
    environ: dict[str, str] = {}
    file = tmp_path_factory.getbasetemp() / "secrets.toml"
    file.write_text("")
    for section, table in tree(secret).items():
        for key, value in table.items():
            if as_variable:
                text = value if isinstance(value, str) else json.dumps(value)
                environ[f"BRIDGE_{section}__{key}".upper()] = text.replace("\0", "")
            else:
                file.write_text(file.read_text() + f"{section}.{key} = {as_toml(value)}\n")
    for text in shown_by(lambda: load(file, environ=environ, sandbox=True)):
        assert "s3cr3t" not in text, path


def as_toml(value: Any) -> str:
    """A value as an inline TOML value."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(as_toml(item) for item in value) + "]"
    return json.dumps(value)


def test_a_good_redis_url_shows_where_it_leads_and_no_more() -> None:
    url = RedisUrl("rediss://user:secret@redis.example:6379/0?password=secret")
    assert str(url) == url.shown == f"{url}" == "rediss://***@redis.example:6379/0?***"
    assert repr(url) == "RedisUrl('rediss://***@redis.example:6379/0?***')"
    assert str(RedisUrl("embedded")) == "embedded" == RedisUrl("embedded")

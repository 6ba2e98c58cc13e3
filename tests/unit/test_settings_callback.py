"""The settings of callbacks: secrets that may stand alone, and the rules between their keys."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.settings import Settings
from tests.unit.settings_support import faults_of, load_text

SIGNING, OTHER = f"whsec_{'A' * 32}", f"whsec_{'B' * 32}"
FORWARDING = f'callback.forward_url = "https://crm.example/hook"\ncallback.forward_secret = "{SIGNING}"\n'

Load = Callable[..., Settings]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    return partial(load_text, tmp_path)


def secrets(settings: Settings) -> list[str]:
    return [secret.get_secret_value() for secret in settings.callback.secret]


@pytest.mark.parametrize(
    ("toml", "environ", "expected"),
    [
        ("", {}, []),
        ('callback.secret = "one"', {}, ["one"]),
        ('callback.secret = ["one", "two"]', {}, ["one", "two"]),
        ('callback.secret = "one with spaces, and Ä"', {}, ["one with spaces, and Ä"]),
        ("", {"BRIDGE_CALLBACK__SECRET": "one"}, ["one"]),
        ("", {"BRIDGE_CALLBACK__SECRET": "123456"}, ["123456"]),
        ("", {"BRIDGE_CALLBACK__SECRET": '["one", "two"]'}, ["one", "two"]),
        ('callback.secret = "beaten"', {"BRIDGE_CALLBACK__SECRET": "one"}, ["one"]),
    ],
)
def test_a_secret_may_stand_alone(loaded: Load, toml: str, environ: dict[str, str], expected: list[str]) -> None:
    assert secrets(loaded(toml, **environ)) == expected


def test_secrets_come_from_files(loaded: Load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("one\ntwo\n")
    (tmp_path / "signing").write_text(json.dumps([SIGNING, OTHER]))
    toml = f'callback.secret_file = "{tmp_path}/secret"\ncallback.forward_url = "http://127.0.0.1:9/hook"'
    settings = loaded(toml, BRIDGE_CALLBACK__FORWARD_SECRET_FILE=str(tmp_path / "signing"))
    assert secrets(settings) == ["one", "two"]
    assert [secret.get_secret_value() for secret in settings.callback.forward_secret] == [SIGNING, OTHER]
    assert "one" not in str(settings.callback)
    assert SIGNING not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("toml", "environ", "paths"),
    [
        ('callback.secret = ""', {}, ["callback.secret[0]"]),
        ("callback.secret = 7", {}, ["callback.secret"]),
        ("", {"BRIDGE_CALLBACK__SECRET": ""}, ["callback.secret[0]"]),
        ("", {"BRIDGE_CALLBACK__SECRET": '["one"'}, ["callback.secret"]),
        (f'callback.forward_secret = "{SIGNING[:-8]}"', {}, ["callback.forward_secret[0]"]),
        ('callback.forward_url = "https://crm.example/hook"', {}, ["callback.forward_secret"]),
        (FORWARDING.replace("https", "http"), {}, ["callback.forward_url"]),
        (FORWARDING.replace("crm", "user:pass@crm"), {}, ["callback.forward_url"]),
        (FORWARDING.replace("https://crm.example/hook", "ftp://x"), {}, ["callback.forward_url"]),
        (f"{FORWARDING}callback.age_s_max = 3600", {}, ["callback.age_s_max"]),
        ("callback.fetch_attachments = true\ndelivery.age_s_max = 1e6", {}, ["callback.age_s_max"]),
        ("callback.kept_max = 15", {}, ["callback.kept_max"]),
        ('callback.dir = " "', {}, ["callback.dir"]),
    ],
)
def test_what_cannot_be_meant_is_said(loaded: Load, toml: str, environ: dict[str, str], paths: list[str]) -> None:
    assert list(faults_of(lambda: loaded(toml, **environ))) == paths


@pytest.mark.parametrize("toml", [FORWARDING, "callback.age_s_max = 3600", f'callback.forward_secret = "{SIGNING}"'])
def test_what_can_be_meant_is_taken(loaded: Load, toml: str) -> None:
    assert loaded(toml)


def test_files_need_a_token(loaded: Load) -> None:
    cention: dict[str, Any] = {
        "BRIDGE_CENTION__BASE_URL": "https://cention.example/s/acme",
        "BRIDGE_CENTION__TOKENS__CREATE_ERRAND": "t",
    }
    faults = faults_of(lambda: loaded("callback.fetch_attachments = true", sandbox=False, **cention))
    assert list(faults) == ["cention.tokens.attachment"]
    for token in ("BRIDGE_CENTION__TOKENS__ATTACHMENT", "BRIDGE_CENTION__TOKEN"):
        assert loaded("callback.fetch_attachments = true", sandbox=False, **cention, **{token: "t"})

"""The settings: their sources, what beats what, and that every fault of all of them is told at once."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from bridge.settings import Settings, load
from tests.unit.settings_support import faults_of, load_text

Load = Callable[..., Settings]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    return partial(load_text, tmp_path)


def reveal(secrets: tuple[SecretStr, ...]) -> list[str]:
    return [secret.get_secret_value() for secret in secrets]


def test_without_a_file_the_defaults_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environ={}, sandbox=True) == Settings()


def test_config_toml_of_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text("intake.port = 1234")
    assert load(environ={}, sandbox=True).intake.port == 1234


def test_a_named_file_that_is_missing_is_the_only_fault(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.toml"
    assert list(faults_of(lambda: load(missing, environ={}))) == [str(missing)]


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"[intake]\nport = \n", "line 2"), (b"[intake]\nhost = '\xff'", "UTF-8"), (b"a=" + b"[" * 9999, "TOML")],
    ids=["syntax", "encoding", "nesting"],
)
def test_an_unreadable_file_is_told_beside_the_environment(tmp_path: Path, content: bytes, word: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    faults = faults_of(lambda: load(file, environ={"BRIDGE_ADMIN__PORT": "99999", "BRIDGE_INTAKE__HOST": "0.0.0.0"}))
    # Not told: that cention.base_url is missing, or tokens for 0.0.0.0. The file may well have had them.
    assert list(faults) == [str(file), "admin.port"]
    assert word in faults[str(file)]


def test_a_directory_as_the_file_is_a_fault(tmp_path: Path) -> None:
    assert "cannot be read" in faults_of(lambda: load(tmp_path, environ={}))[str(tmp_path)]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "bom.toml"
    file.write_bytes(b"\xef\xbb\xbfintake.port = 9")
    assert load(file, environ={}, sandbox=True).intake.port == 9


def test_unknown_sections_and_keys_are_told_with_the_nearest_name(loaded: Load) -> None:
    toml = """
    port = 1
    feed = "none"
    [intak]
    [intake]
    prot = 1
    token_file = "x"
    [[cention.routes]]
    quue = "q"
    queue = "q"
    token = "t"
    [cention.tokens]
    creat_errand = "t"
    """
    faults = faults_of(lambda: loaded(toml))
    assert faults == {
        "port": "is not a section of the settings",
        "feed": "must be a table: write its keys below one line `[feed]`",
        "intak": "is not a section of the settings; did you mean `intake`?",
        "intake.prot": "is not a setting; did you mean `port`?",
        "intake.token_file": "is not a setting; did you mean `tokens_file`?",
        "cention.routes[0].quue": "is not a setting; did you mean `queue`?",
        "cention.tokens.creat_errand": faults["cention.tokens.creat_errand"],
    }
    assert "'create_errand'" in faults["cention.tokens.creat_errand"]


def test_the_environment_beats_the_file_key_by_key(loaded: Load) -> None:
    s = loaded(
        '[intake]\nport = 1\nbody_bytes_max = "1 KiB"\n[cention.tokens]\nlogio = "from-file"\nexport = "from-file"',
        BRIDGE_INTAKE__PORT="2",
        BRIDGE_INTAKE__TOKENS='["a", "b"]',
        BRIDGE_CENTION__TOKENS__LOGIO="from-environment",
        BRIDGE_CENTION__ROUTES='[{"queue": "sales", "token": "r"}]',
        BRIDGE_NUMBERS__DEFAULT_REGION="se",
        BRIDGE_REDIS__TIMEOUT_S="2.5",
        BRIDGE_REDIS__DATA_DIR="/var/lib/bridge",
        BRIDGE_LOG__LEVEL="DEBUG",
    )
    assert (s.intake.port, s.intake.body_bytes_max, reveal(s.intake.tokens)) == (2, 1024, ["a", "b"])
    assert {claim: token.get_secret_value() for claim, token in s.cention.tokens.items()} == {
        "logio": "from-environment",
        "export": "from-file",
    }
    assert [(route.queue, route.token.get_secret_value()) for route in s.cention.routes] == [("sales", "r")]
    assert (s.numbers.default_region, s.redis.timeout_s, s.log.level) == ("SE", 2.5, "debug")
    assert s.redis.data_dir == Path("/var/lib/bridge")


def test_a_whole_table_replaces_the_files_and_single_keys_lie_on_top(loaded: Load) -> None:
    s = loaded(
        '[intake.mapping]\ncallId = "file"\nlink = "file"',
        BRIDGE_INTAKE__MAPPING='{"callId": "whole", "cuid": "whole"}',
        BRIDGE_INTAKE__MAPPING__CUID="single",
        BRIDGE_INTAKE__MAPPING__TRANSFERREDTO__DEVICEID="single",
    )
    assert s.intake.mapping == {"callId": "whole", "cuid": "single", "transferredTo.deviceId": "single"}


def test_an_empty_variable_means_none_where_none_is_possible(loaded: Load) -> None:
    s = loaded('numbers.default_region = "SE"', BRIDGE_NUMBERS__DEFAULT_REGION="", BRIDGE_FEED__URL="")
    assert (s.numbers.default_region, s.feed.url) == (None, None)
    empty = {"BRIDGE_CENTION__TOKEN": "", "BRIDGE_INTAKE__PORT": "", "BRIDGE_INTAKE__TOKENS": ""}
    assert set(faults_of(lambda: loaded(**empty))) == {"cention.token", "intake.port", "intake.tokens"}


def test_variables_of_other_people_are_ignored(loaded: Load) -> None:
    others = {
        "BRIDGE_PORT": "tcp://10.0.0.1:8080",
        "BRIDGE_SERVICE_HOST": "10.0.0.1",
        "BRIDGE_PORT_8080_TCP_ADDR": "10.0.0.1",
        "MY_BRIDGE_INTAKE__PORT": "1",
        "BRIDGEHEAD__PORT": "1",
        "bridge_intake__port": "1",
    }
    assert loaded(**others) == Settings()


@pytest.mark.parametrize(
    ("name", "path", "near"),
    [
        ("BRIDGE_INTAKE__PROT", "intake.prot", "BRIDGE_INTAKE__PORT"),
        ("BRIDGE_INTAK__PORT", "intak.port", "BRIDGE_INTAKE__PORT"),
        ("BRIDGE__INTAKE__PORT", "intake.port", "BRIDGE_INTAKE__PORT"),
        ("BRIDGE_INTAKE__port", "intake.port", "BRIDGE_INTAKE__PORT"),
        ("BRIDGE_INTAKE__PORT_FILE", "intake.port_file", "BRIDGE_INTAKE__PORT"),
        ("BRIDGE_INTAKE__PORT__X", "intake.port.x", "BRIDGE_INTAKE__PORT"),
        (
            "BRIDGE_CENTION__TOKENS__CREAT_ERRAND",
            "cention.tokens.creat_errand",
            "BRIDGE_CENTION__TOKENS__CREATE_ERRAND",
        ),
    ],
)
def test_an_unknown_variable_is_a_fault_with_the_nearest_name(loaded: Load, name: str, path: str, near: str) -> None:
    assert faults_of(lambda: loaded(**{name: "1"})) == {path: f"{name} is not a setting; did you mean `{near}`?"}


def test_a_fault_names_the_variable_it_came_from(loaded: Load) -> None:
    faults = faults_of(
        lambda: loaded(
            BRIDGE_INTAKE__PORT="http",
            BRIDGE_INTAKE__TOKENS="plain",
            BRIDGE_CENTION__ROUTES='[{"queue": "", "token": "t"}]',
        )
    )
    assert faults["intake.port"] == "must be a whole number (set by BRIDGE_INTAKE__PORT)"
    assert faults["intake.tokens"].endswith("(set by BRIDGE_INTAKE__TOKENS)")
    assert faults["cention.routes[0].queue"] == "must not be empty (set by BRIDGE_CENTION__ROUTES)"


def test_a_table_in_the_place_of_a_value_and_the_other_way_round(loaded: Load) -> None:
    faults = faults_of(
        lambda: loaded('[intake.port]\nx = 1\n[cention]\ntokens = "t"', BRIDGE_CENTION__TOKENS__LOGIO="t", sandbox=True)
    )
    assert set(faults) == {"intake.port", "cention.tokens"}


def test_ten_faults_of_three_sources_are_all_told(loaded: Load, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    faults = faults_of(
        lambda: loaded(
            f"""
            [intake]
            port = 70000
            hots = "x"
            tokens_file = "{tmp_path}/nowhere"
            [redis]
            url = "redis:/typo"
            [cention]
            token_file = "{tmp_path}/empty"
            [errand]
            subject = "$nobody"
            [shop]
            """,
            sandbox=False,
            BRIDGE_DELIVERY__SCHEDULE_S="1, 2",
            BRIDGE_DELIVERY__LEASE_S="3",
            BRIDGE_ADMIN__PORTS="1",
            BRIDGE_ADMIN__HOST="0.0.0.0",
        )
    )
    assert set(faults) == {
        *("intake.port", "intake.hots", "redis.url", "errand.subject", "shop"),
        *("intake.tokens_file", "cention.token_file"),
        *("delivery.schedule_s", "delivery.lease_s", "admin.ports", "admin.host"),
        "cention.base_url",
    }


ROOT = Path(__file__).parents[2]


def test_what_few_settings_need_is_not_imported() -> None:
    code = (
        "import sys, bridge.settings; bridge.settings.load(environ={}, sandbox=True); "
        "print([name for name in ('phonenumbers', 'jmespath', 'aiohttp', 'redis', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"

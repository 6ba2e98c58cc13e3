"""The settings one by one: what is refused, with one fault at its path, and what is taken."""

import base64
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from redis.asyncio import Redis

from bridge.settings import Settings, load
from tests.unit.settings_support import faults_of, load_text

WEBHOOK = "whsec_" + base64.b64encode(b"k" * 32).decode()

Load = Callable[..., Settings]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    return partial(load_text, tmp_path)


BAD_ALONE: list[tuple[str, str]] = [
    ("intake.host = ''", "intake.host"),
    ("intake.host = '127.0.0.1:80'", "intake.host"),
    ("intake.host = 'a b'", "intake.host"),
    ("intake.port = -1", "intake.port"),
    ("intake.port = 65536", "intake.port"),
    ("intake.port = '80'", "intake.port"),
    ("intake.port = true", "intake.port"),
    ("intake.port = 80.0", "intake.port"),
    ("intake.tokens = 'one'", "intake.tokens"),
    ("intake.tokens = ['']", "intake.tokens[0]"),
    ("intake.tokens = ['ok', ' ']", "intake.tokens[1]"),
    ('intake.tokens = ["one\\n"]', "intake.tokens[0]"),
    ("intake.tokens = [1]", "intake.tokens[0]"),
    ("intake.webhook_secrets = ['whsec_?']", "intake.webhook_secrets[0]"),
    ("intake.webhook_secrets = ['whsec_c2hvcnQ=']", "intake.webhook_secrets[0]"),
    (f"intake.webhook_secrets = ['{base64.b64encode(b'k' * 65).decode()}']", "intake.webhook_secrets[0]"),
    ("intake.body_bytes_max = '1 GB'", "intake.body_bytes_max"),
    ("intake.body_bytes_max = 1", "intake.body_bytes_max"),
    ("intake.body_bytes_max = true", "intake.body_bytes_max"),
    ("intake.events_max = 1001", "intake.events_max"),
    ("intake.clock_ahead_s_max = 1.5", "intake.clock_ahead_s_max"),
    ("intake.mapping.callid = 'a'", "intake.mapping.callid"),
    ("intake.mapping.callId = 'a.'", "intake.mapping.callId"),
    ("intake.mapping.callId = '#'", "intake.mapping.callId"),
    ("intake.mapping.callId = ''", "intake.mapping.callId"),
    ("intake.mapping.transferredTo.deviceId = '['", "intake.mapping.transferredTo.deviceId"),
    ("intake.mapping = {transferredTo = 'a', 'transferredTo.deviceId' = 'b'}", "intake.mapping"),
    ("redis.url = 'localhost:6379'", "redis.url"),
    ("redis.url = 'http://localhost'", "redis.url"),
    ("redis.url = 'redis://'", "redis.url"),
    ("redis.url = 'redis://user:pa/ss@host'", "redis.url"),
    ("redis.url = 'unix://relative'", "redis.url"),
    ("redis.url = 'redis+sentinel://a:1,b:2'", "redis.url"),
    ("redis.url = 'redis+cluster://a:1/0'", "redis.url"),
    ("redis.url = 'Embedded'", "redis.url"),
    ("redis.url = 'redis://password@host'", "redis.url"),
    ("redis.url = 'redis://host:65536'", "redis.url"),
    ("redis.url = 'redis+cluster://[1:2],b'", "redis.url"),
    ("redis.url = 'redis://host?ssl_cert_reqs=none'", "redis.url"),
    ("redis.ca_file = ''", "redis.ca_file"),
    ("redis.sentinel_password = ''", "redis.sentinel_password"),
    ("redis.wait_replicas = -1", "redis.wait_replicas"),
    ("redis.wait_aof = 1", "redis.wait_aof"),
    ("redis.url = 7", "redis.url"),
    ("redis.data_dir = ''", "redis.data_dir"),
    ("redis.data_dir = 7", "redis.data_dir"),
    ("redis.fsync = 'never'", "redis.fsync"),
    ("redis.key_prefix = 'a:b'", "redis.key_prefix"),
    ("redis.key_prefix = ''", "redis.key_prefix"),
    ("redis.timeout_s = 0", "redis.timeout_s"),
    ("redis.timeout_s = inf", "redis.timeout_s"),
    ("redis.timeout_s = nan", "redis.timeout_s"),
    ("redis.timeout_s = true", "redis.timeout_s"),
    ("cention.base_url = 'cention.example/s/acme'", "cention.base_url"),
    ("cention.base_url = 'https://cention.example'", "cention.base_url"),
    ("cention.base_url = 'https://cention.example/s/'", "cention.base_url"),
    ("cention.base_url = 'https://cention.example/s/acme/more'", "cention.base_url"),
    ("cention.base_url = 'https://cention.example/s/acme?a=b'", "cention.base_url"),
    ("cention.base_url = 'https://u:p@cention.example/s/acme'", "cention.base_url"),
    ("cention.base_url = 'https://cention.example:http/s/acme'", "cention.base_url"),
    ("cention.base_url = 'https://[::1/s/acme'", "cention.base_url"),
    ("cention.base_url = 'http://cention.example/s/acme'", "cention.base_url"),
    ("cention.base_url = 'http://127.0.0.1.example/s/acme'", "cention.base_url"),
    ("cention.base_url = 'wss://cention.example/s/acme'", "cention.base_url"),
    ("cention.tokens.logio = ''", "cention.tokens.logio"),
    ("cention.routes = [{queue = 'q'}]", "cention.routes[0].token"),
    ("cention.routes = [{token = 't'}]", "cention.routes[0].queue"),
    ("cention.routes = ['q']", "cention.routes[0]"),
    ("cention.obcall_type = 'x'", "cention.obcall_type"),
    ("calls.open_errand_for = ['sideways']", "calls.open_errand_for[0]"),
    ("calls.inbound_end = 'x'", "calls.inbound_end"),
    ("calls.default_queue_number = 0", "calls.default_queue_number"),
    ("calls.duplicate_retention_s = 3599", "calls.duplicate_retention_s"),
    ("numbers.default_region = 'Sweden'", "numbers.default_region"),
    ("numbers.default_region = 'XX'", "numbers.default_region"),
    ("errand.subject = '${caller}'", "errand.subject"),
    ("errand.body = 'for 5 $'", "errand.body"),
    ("delivery.schedule_s = []", "delivery.schedule_s"),
    ("delivery.schedule_s = [1, 0]", "delivery.schedule_s[1]"),
    ("delivery.concurrency = 1001", "delivery.concurrency"),
    ("feed.kind = 'smoke'", "feed.kind"),
    ("feed = {kind = 'websocket', url = 'ws://pbx.example'}", "feed.url"),
    ("feed.mapping = ['callId']", "feed.mapping"),
    ("log.level = 'loud'", "log.level"),
    ("log.level = 1", "log.level"),
    ("log = {style = 'xml'}", "log.style"),
]

BAD_TOGETHER: list[tuple[str, str]] = [
    ("cention.routes = [{queue = 'q', token = 't'}, {queue = 'q', token = 'u'}]", "cention.routes[1].queue"),
    ("calls.inbound_end = 'close_errand'", "calls.close_user_id"),
    ("delivery.schedule_s = [2, 1]", "delivery.schedule_s"),
    ("delivery.lease_s = 10.9", "delivery.lease_s"),
    ("delivery.attempt_timeout_s = 14.5", "delivery.lease_s"),
    ("feed.kind = 'sse'", "feed.url"),
    ("feed = {kind = 'sse', url = 'wss://pbx.example'}", "feed.url"),
    ("feed = {kind = 'websocket', url = 'https://pbx.example'}", "feed.url"),
    ("redis = {url = 'redis://host', ca_file = 'ca.pem'}", "redis.ca_file"),
    ("redis = {url = 'rediss://host', cert_file = 'c.pem'}", "redis.key_file"),
    ("redis = {url = 'rediss+cluster://host', key_file = 'k.pem'}", "redis.cert_file"),
    ("redis = {url = 'redis://host', sentinel_password = 'x'}", "redis.sentinel_password"),
    ("redis = {url = 'redis+sentinel://host/name', sentinel_user = 'x'}", "redis.sentinel_password"),
    ("redis.wait_replicas = 1", "redis.wait_replicas"),
    ("redis.wait_aof = true", "redis.wait_aof"),
    ("redis = {url = 'redis://host', wait_replicas = 1, wait_timeout_ms = 5000}", "redis.wait_timeout_ms"),
    ("intake.host = '0.0.0.0'", "intake.host"),
    ("intake.host = 'bridge.example'", "intake.host"),
    ("admin.host = '::'", "admin.host"),
    ("admin = {viewer_tokens = ['a', 'b'], operator_tokens = ['b']}", "admin.viewer_tokens"),
    ("admin.port = 8080", "admin.port"),
    ("admin = {host = 'localhost', port = 8080}", "admin.port"),
    ("admin = {host = '0.0.0.0', port = 8080, viewer_tokens = ['t']}", "admin.port"),
]


@pytest.mark.parametrize(("toml", "path"), BAD_ALONE + BAD_TOGETHER)
def test_a_bad_value_is_one_fault_at_its_path(loaded: Load, toml: str, path: str) -> None:
    faults = faults_of(lambda: loaded(toml))
    assert list(faults) == [path]
    assert re.match(r"(must|is|with|a token|the \$|\$)", faults[path]), faults


@pytest.mark.parametrize("expression", ["a[" + "9" * 5000 + "]", "(" * 5000], ids=["huge index", "deep nesting"])
def test_an_expression_that_breaks_its_parser_is_a_fault(loaded: Load, expression: str) -> None:
    assert list(faults_of(lambda: loaded(f"feed.mapping.callId = '{expression}'"))) == ["feed.mapping.callId"]


@pytest.mark.parametrize(
    "toml",
    [
        "intake.port = 0\nadmin.port = 0",
        "intake = {host = '::1', port = 8081}",
        "intake = {host = '0.0.0.0', tokens = ['t']}",
        f"intake = {{host = '0.0.0.0', webhook_secrets = ['{WEBHOOK}', '{WEBHOOK[6:]}']}}",
        "admin = {host = 'bridge.example', operator_tokens = ['t']}",
        "intake.body_bytes_max = '512kib'",
        "intake.mapping = {callId = 'a.b[0]', extraData.comment = \"join(', ', notes)\", transferredTo = 'to'}",
        "redis.url = 'unix:///run/redis.sock?db=1'",
        "redis.url = 'redis://localhost'",
        "redis.url = 'redis://:p%40ss@[::1]:6379/0'",
        "redis.url = 'redis+sentinel://u:p@a:26379,b:26379/main/0'",
        "redis.url = 'redis+cluster://a:7000,b:7000'",
        "redis = {url = 'rediss+cluster://[::1]:7000,b/', ca_file = 'ca', cert_file = 'c', key_file = 'k'}",
        "redis = {url = 'rediss+sentinel://a/main', sentinel_user = 'u', sentinel_password = 'p', wait_aof = true}",
        "redis = {url = 'redis://:p:w@a', wait_replicas = 2, wait_timeout_ms = 4999}",
        "cention.base_url = 'http://localhost:8090/s/demo/'",
        "cention.base_url = 'https://host.example/below/s/acme'",
        "calls = {inbound_end = 'close_errand', close_user_id = '1234'}",
        "calls.open_errand_for = []",
        "errand.subject = '$callId ${queueName} $$5'",
        "delivery.schedule_s = [1, 1, 2.5]",
        "feed = {kind = 'websocket', url = 'wss://pbx.example/events?all=1'}",
        "feed = {kind = 'ndjson', url = 'http://127.0.0.1:9/'}",
        "log.level = 'WARNING'",
    ],
)
def test_a_good_value_is_no_fault(loaded: Load, toml: str) -> None:
    assert isinstance(loaded(toml), Settings)


def test_values_are_brought_into_one_form(loaded: Load) -> None:
    s = loaded("cention.base_url = 'https://c.example/s/acme/'\nintake.body_bytes_max = '2 MiB'\ncalls.age_s_max = 5")
    assert (s.cention.base_url, s.intake.body_bytes_max) == ("https://c.example/s/acme", 2 * 1024**2)
    assert isinstance(s.calls.age_s_max, float)


def test_cention_is_required_without_a_sandbox(loaded: Load) -> None:
    assert list(faults_of(lambda: loaded(sandbox=False))) == ["cention.base_url", "cention.token"]
    url = "cention.base_url = 'https://c.example/s/acme'\n"
    loaded(f"{url}cention.token = 't'", sandbox=False)
    loaded(f"{url}cention.tokens.create_errand = 't'", sandbox=False)
    assert list(faults_of(lambda: loaded(f"{url}cention.tokens.logio = 't'", sandbox=False))) == ["cention.token"]


def test_a_templates_faults_are_all_told_with_their_places(loaded: Load) -> None:
    detail = faults_of(lambda: loaded('errand.body = "Hi $calledNumer\\nfor $ 5 and ${queue\\n${xyzzy}"'))[
        "errand.body"
    ]
    assert detail.split("; ") == [
        "${calledNumer} (line 1, column 4) is not a field of the call",
        "did you mean `calledNumber`?",
        "the $ at line 2, column 5 names nothing",
        "write ${field}, or $$ for a dollar sign",
        "the $ at line 2, column 13 names nothing",
        "write ${field}, or $$ for a dollar sign",
        "${xyzzy} (line 3, column 1) is not a field of the call",
    ]


def test_settings_never_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().intake.port = 1  # type: ignore[misc]  # what is tested


async def test_a_redis_client_takes_the_url_whole(loaded: Load) -> None:
    url = loaded("redis.url = 'redis://bridge:p%40ss@redis.example:6380/2'").redis.url
    client = Redis.from_url(url)
    given = client.connection_pool.connection_kwargs
    await client.aclose()
    assert (given["host"], given["port"], given["username"], given["password"], given["db"]) == (
        *("redis.example", 6380, "bridge", "p@ss"),
        2,
    )


# One fault for each key, so that any choice of them must come out as exactly that choice.
APART = list({path.split("[")[0]: (toml, path) for toml, path in BAD_ALONE if " = {" not in toml}.values())


@given(chosen=st.lists(st.sampled_from(APART), min_size=1, unique=True))
def test_any_choice_of_faults_is_told_whole(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[tuple[str, str]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "apart.toml"
    file.write_text("\n".join(toml for toml, _ in chosen))
    assert set(faults_of(lambda: load(file, environ={}, sandbox=True))) == {path for _, path in chosen}

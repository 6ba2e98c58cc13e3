"""The settings of contact cards, presence and reconciliation: what is off by default, and what does not go together."""

from pathlib import Path

import pytest

from bridge.calls.events import Pair
from bridge.settings import Settings
from tests.unit.settings_support import faults_of, load_text

OURS = '[cention]\nbase_url = "https://cention.example/s/acme"\n'


def test_all_of_it_is_off_by_default(tmp_path: Path) -> None:
    s = load_text(tmp_path)
    assert (s.contacts.upsert, s.presence.agents, s.reconcile.every_s, s.reconcile.repair) == (False, {}, 0, False)


def test_agents_are_pairs_by_login(tmp_path: Path) -> None:
    told = '[presence.agents]\nanna = "1000/1001"\n"bo.dahl" = "9007199254740991/0"\n'
    assert load_text(tmp_path, told).presence.agents == {"anna": Pair(1000, 1001), "bo.dahl": Pair(2**53 - 1, 0)}
    from_environment = load_text(tmp_path, told, BRIDGE_PRESENCE__AGENTS='{"Anna Ek": "1/2"}')
    assert from_environment.presence.agents == {"Anna Ek": Pair(1, 2)}


@pytest.mark.parametrize(
    ("told", "path", "words"),
    [
        ('anna = "1000"', "presence.agents.anna", '"deviceId/extensionId"'),
        ("anna = 1000", "presence.agents.anna", '"deviceId/extensionId"'),
        ('anna = "1000/x"', "presence.agents.anna", '"deviceId/extensionId"'),
        ('anna = "9007199254740992/1"', "presence.agents.anna", "2^53-1"),
        ('bo.dahl = "1/2"', "presence.agents.bo", "in quotes"),
        ('anna = "1/2"\nbo = "1/2"', "presence.agents", "two logins"),
    ],
)
def test_an_agent_that_cannot_be_is_a_fault(told: str, path: str, words: str, tmp_path: Path) -> None:
    faults = faults_of(lambda: load_text(tmp_path, f"[presence.agents]\n{told}\n"))
    assert list(faults) == [path]
    assert words in faults[path]


@pytest.mark.parametrize(
    ("told", "claim"),
    [
        ("[contacts]\nupsert = true", "contacts"),
        ('[presence.agents]\nanna = "1/2"', "logio"),
        ("[reconcile]\nevery_s = 300.0", "errand_data"),
        ('[reconcile]\nevery_s = 300.0\n[delivery]\nlease_s = 20.0\nunknown_outcome = "lookup"', "errand_data"),
    ],
)
def test_what_is_switched_on_needs_its_token(told: str, claim: str, tmp_path: Path) -> None:
    def load(tokens: str, *, sandbox: bool = False) -> Settings:
        return load_text(tmp_path, f"{OURS}{tokens}\n{told}\n", sandbox=sandbox)

    alone = '[cention.tokens]\ncreate_errand = "a"\n'
    assert list(faults_of(lambda: load(alone))) == [f"cention.tokens.{claim}"]
    load(f'{alone}{claim} = "b"')
    load('token = "a"')
    load("", sandbox=True)


def test_a_lease_has_room_for_the_card(tmp_path: Path) -> None:
    def lease(lease_s: float, more: str = "") -> str:
        times = f"attempt_timeout_s = 10.0\nlease_s = {lease_s}\n{more}"
        return f"[contacts]\nupsert = true\ntimeout_s = 3.0\n[delivery]\n{times}\n"

    load_text(tmp_path, lease(14.0))
    faults = faults_of(lambda: load_text(tmp_path, lease(13.9)))
    assert list(faults) == ["delivery.lease_s"]
    assert "contacts.timeout_s together by at least 1 seconds" in faults["delivery.lease_s"]
    lookup = 'unknown_outcome = "lookup"'
    load_text(tmp_path, lease(16.0, lookup))
    assert "at least 3 seconds" in faults_of(lambda: load_text(tmp_path, lease(15.9, lookup)))["delivery.lease_s"]
    load_text(tmp_path, lease(11.0).replace("upsert = true", "upsert = false"))


def test_what_is_compared_is_still_kept(tmp_path: Path) -> None:
    told = "[calls]\nended_retention_s = 600\n[reconcile]\ngrace_s = 600.0\n"
    load_text(tmp_path, told)
    assert list(faults_of(lambda: load_text(tmp_path, f"{told}every_s = 60.0\n"))) == ["reconcile.grace_s"]


def test_mending_needs_to_know_who_closes_errands(tmp_path: Path) -> None:
    told = "[reconcile]\nrepair = true\n"
    assert list(faults_of(lambda: load_text(tmp_path, told))) == ["calls.close_user_id"]
    both = f'{told}[calls]\ninbound_end = "close_errand"\n'
    assert list(faults_of(lambda: load_text(tmp_path, both))) == ["calls.close_user_id"]
    load_text(tmp_path, f'{told}[calls]\nclose_user_id = "7"\n')

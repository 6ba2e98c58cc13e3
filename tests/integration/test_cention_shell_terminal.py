"""How `aventa-bridge cention …` looks: in terminals of any width, and with texts that mean harm."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.cli.cention.output import plain
from tests.integration.shell_support import Shell, shell


@pytest.fixture
def cention(tmp_path: Path) -> Iterator[Shell]:
    with shell(tmp_path) as made:
        yield made


def made(cention: Shell, *options: str) -> str:
    """A new errand's id."""
    return str(cention.json("errand", "new", "--subject", "Call", "--from", "46701740605", *options)["errandId"])


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_table_fits_its_terminal_and_ids_stay_whole(cention: Shell, columns: int) -> None:
    errand_id = made(cention)
    cention.columns = columns
    for arguments in (["export", "trigger", "316"], ["dirty", "list"], ["errand", "report", errand_id]):
        table = cention.run(*arguments).stdout
        assert max(map(len, table.splitlines())) <= columns, table
        if columns > 20 or arguments[0] == "dirty":
            assert errand_id in table


def test_what_others_wrote_cannot_steer_the_terminal(cention: Shell) -> None:
    subject = "a\x1b]0;title\x07b\x9bc\u202ed"
    errand_id = made(cention, "--subject", subject)
    for arguments in (
        ["errand", "report", errand_id],
        ["export", "trigger", "316"],
        ["errand", "report", errand_id, "--json"],
    ):
        printed = cention.run(*arguments).stdout
        assert not set("\x1b\x07\x9b\u202e") & set(printed)
    assert cention.json("errand", "report", errand_id)["basic"]["data"]["subject"] == subject
    assert plain("a\r\nb\x00\n") == "a\nb\ufffd"


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_a_long_label_is_folded_and_not_cut(cention: Shell, columns: int) -> None:
    cention.columns = columns
    label = "".join(chr(ord("a") + place % 26) for place in range(100))
    table = cention.run("contact", "card", "--voice", "+46701740605", "--custom", f"{label}=3").stdout
    folded = [line.strip("│").split("│")[0].strip() for line in table.splitlines() if line.startswith("│")]
    assert label in "".join(folded)
    assert max(map(len, table.splitlines())) <= columns

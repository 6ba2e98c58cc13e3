"""`aventa-bridge cention …` against a sandbox over HTTP: each command, its JSON, its tables, its files."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.cention.sandbox.answering import AnswerGiven, AttachedFile
from bridge.cli.cention.output import appearing
from tests.integration.cention_support import SAMPLES, sample
from tests.integration.sandbox_support import data
from tests.integration.shell_support import Shell, shell

CALL = ["--reference-id", "c-1", "--device-id", "1000", "--extension-id", "1001", "--dest-number", "46846500400",
        "--queue-name", "Support", "--queue-number", "7"]  # fmt: skip
CLOSING = ["--answer-user-type", "cention", "--answer-user-id", "1234"]


@pytest.fixture
def cention(tmp_path: Path) -> Iterator[Shell]:
    with shell(tmp_path) as made:
        yield made


def made(cention: Shell, *options: str) -> str:
    """A new errand's id."""
    errand_id = cention.json("errand", "new", "--subject", "Call", "--from", "46701740605", *options)["errandId"]
    assert isinstance(errand_id, str)
    return errand_id


def sent(cention: Shell, errand_id: str) -> Any:
    """The attributes that made an errand."""
    errand = cention.sandbox.errand(errand_id)
    assert errand is not None
    return json.loads(errand.document)["data"]["attributes"]


def test_every_option_of_a_new_errand_reaches_cention(cention: Shell, tmp_path: Path) -> None:
    (tmp_path / "form.txt").write_text("Name:\n")
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.7")
    errand_id = made(
        cention,
        *("--message-id", "m-1", "--name", "Åsa Öberg", "--body", "Hi", "--html-body", "<b>Hi</b>"),
        *(
            "--attach",
            "form.txt",
            "--attach",
            "letter.pdf",
            *CALL,
            "--link",
            "https://pbx.example/1",
            "--no-end-session",
        ),
        *("--paging-number", "1", "--paging-name", "GP", "--comment", "c", "--call-reason", "r"),
        *("--appointment-timestamp", "1593047865", "--cuid", "K-1", "--extradata", '{"zones": ["A", null]}'),
        *(*CLOSING, "--answer-subject", "Re", "--answer-body", "Yes", "--answer-html-body", "<i>Yes</i>"),
        *("--wa-elementname", "e", "--wa-namespace", "n", "--wa-params", '[{"default": "$10"}]'),
    )
    assert sent(cention, errand_id) == {
        "msg": {
            "message_id": "m-1",
            "name": "Åsa Öberg",
            "from": "46701740605",
            "subject": "Call",
            "body": "Hi",
            "html_body": "<b>Hi</b>",
            "attachments": [
                {"content_type": "text/plain", "name": "form.txt", "content": "TmFtZToK"},
                {"content_type": "application/pdf", "name": "letter.pdf", "content": "JVBERi0xLjc="},
            ],
        },
        "answer": {
            "subject": "Re",
            "body": "Yes",
            "html_body": "<i>Yes</i>",
            "user_type": "cention",
            "user_id": "1234",
        },
        "watemplate": {"elementname": "e", "namespace": "n", "params": [{"default": "$10"}]},
        "extradata": {"zones": ["A", None]},
        "integrationData": {
            "integrationName": "aventa",
            "referenceId": "c-1",
            "deviceId": 1000,
            "extensionId": 1001,
            "link": "https://pbx.example/1",
            "endSession": False,
            "destNumber": "46846500400",
            "pagingNumber": "1",
            "pagingName": "GP",
            "queueName": "Support",
            "queueNumber": "7",
            "extraData": {"comment": "c", "callReason": "r", "appointmentTimestamp": "1593047865"},
        },
        "cuid": "K-1",
    }


@pytest.mark.parametrize("whole", [True, False])
def test_a_document_from_a_file_is_sent_as_it_is(cention: Shell, tmp_path: Path, whole: bool) -> None:
    document = sample("new_errand")
    document["data"]["attributes"]["fromTheFuture"] = None
    text = json.dumps(document if whole else document["data"]["attributes"])
    by_stdin = cention.json("errand", "new", "--json-file", "-", stdin=text)["errandId"]
    (tmp_path / "errand.json").write_text(text)
    by_file = cention.json("errand", "new", "--json-file", "errand.json")["errandId"]
    for errand_id in (by_stdin, by_file):
        assert sent(cention, errand_id) == document["data"]["attributes"]


def test_errands_and_outbound_calls_are_ended(cention: Shell) -> None:
    assert cention.run("errand", "new", *CALL).stdout == "Errand 511055 is made.\n"
    assert "closed" in cention.run("errand", "end", "511055", *CLOSING, "--answer-body", "Done").stdout
    errand = cention.sandbox.errand(511055)
    assert errand is not None
    assert json.loads(errand.end_document or b"")["data"]["attributes"] == {
        "errand_id": 511055,
        "answer": {"user_type": "cention", "user_id": "1234", "body": "Done"},
    }
    body = json.dumps({"errand_id": int(made(cention))})
    assert cention.json("errand", "end", "--json-file", "-", stdin=body)["outcome"] == "delivered"
    told = ["--dialed-number", "0701740605", "--device-id", "1000", "--extension-id", "1001"]
    assert cention.run("obcall", "end", *told).stdout == "The call is ended.\n"
    assert cention.json("obcall", "end", "--json-file", "-", stdin=json.dumps(sample("end_obcall")))["status"] == 204


def test_reports_and_the_dirty_list(cention: Shell, tmp_path: Path) -> None:
    first, second = made(cention, "--name", "Åsa Öberg"), made(cention)
    assert cention.json("dirty", "list") == [int(first), int(second)]
    assert cention.json("errand", "report", first)["basic"]["data"]["fromName"] == "Åsa Öberg"
    assert list(cention.json("errand", "report", first, "--fields", "sla,changed")) == ["changed", "sla"]
    table = cention.run("errand", "report", first).stdout
    assert all(f" {text} " in table for text in ("Åsa Öberg", "46701740605", "Call", "Sandbox Agent"))
    assert cention.json("dirty", "list") == [int(second)]
    assert "2 errands count" in cention.run("dirty", "mark", first, second).stdout
    assert first in cention.run("dirty", "list").stdout
    lines = cention.run("dirty", "walk", "--json", "--limit", "1").stdout.splitlines()
    assert [json.loads(line)["errandId"] for line in lines] == [int(second)]
    assert cention.json("dirty", "list") == [int(first)]
    walked = cention.run("dirty", "walk", "--output", "reports")
    assert walked.stdout == f"{first}  open    Call\n"
    assert "1 read, 0 skipped, 0 not kept" in walked.stderr
    kept = tmp_path / "reports" / f"{first}.json"
    assert json.loads(kept.read_bytes())["c3_id"] == int(first)
    assert kept.stat().st_mode & 0o777 == 0o600
    assert cention.run("dirty", "list").stdout == "There are none.\n"


def test_what_a_walk_cannot_keep_counts_as_changed_again(cention: Shell, tmp_path: Path) -> None:
    errand_id = made(cention)
    (tmp_path / "reports").mkdir()
    kept = tmp_path / "reports" / f"{errand_id}.json"
    kept.write_text("mine")
    walked = cention.run("dirty", "walk", "--output", "reports", code=1)
    assert "is there already" in walked.stderr
    assert kept.read_text() == "mine"
    assert cention.json("dirty", "list") == [int(errand_id)]
    cention.run("dirty", "walk", "--output", "reports", "--force")
    assert json.loads(kept.read_bytes())["c3_id"] == int(errand_id)


def test_a_walk_that_breaks_off_tells_what_to_mark(cention: Shell) -> None:
    errand_id = made(cention)
    rules: list[dict[str, Any]] = [{"endpoint": "c3_errand_reports", "reset": "after"}]
    cention.sandbox.set_faults([*rules, {"endpoint": "c3_dirty_errand_list", "method": "POST", "status": 406}])
    told = cention.run("dirty", "walk", code=1).stderr
    assert f"aventa-bridge cention dirty mark {errand_id}\n" in told
    assert "the answer was lost" in told


def test_ratings(cention: Shell) -> None:
    assert cention.json("ratings", "list") == ["3", "4"]
    assert "Quick to answer" in cention.run("ratings", "show", "3").stdout
    assert cention.json("ratings", "show", "4")["data"]["reviewerName"] == "Folke Öberg"
    assert cention.run("ratings", "list").stdout == "There are none.\n"


def test_a_contact_card(cention: Shell) -> None:
    channels = {"email": "a@example.com", "facebook": "1@facebook.com", "vk": "vk-1", "line": "line-1"}
    options = [word for channel, value in channels.items() for word in (f"--{channel}", value)]
    custom = ["--voice", "+46701740605", "--voice", "+46701740606", "--custom", "floor=3=b"]
    card = cention.json("contact", "card", "--name", "Åsa Öberg", *options, *custom)
    assert card["contacts"] == {
        "name": "Åsa Öberg",
        **{channel: [value] for channel, value in channels.items()},
        "voice": ["+46701740605", "+46701740606"],
        "custom": [{"label": "floor", "value": "3=b"}],
    }
    table = cention.run("contact", "card", "--json-file", "-", stdin=json.dumps({"contacts": card["contacts"]})).stdout
    assert f" {card['c3_id']} " in table
    assert "+46701740605, +46701740606" in table
    refused = cention.run("contact", "card", "--voice", "46701740605", code=1)
    assert "nothing was sent: contacts/voice/0" in refused.stderr
    assert "46701740605" not in refused.output
    assert "LABEL=VALUE" in cention.run("contact", "card", "--custom", "x", code=2).stderr


def test_logio(cention: Shell, tmp_path: Path) -> None:
    cention.sandbox.log("sysadmin", "Logout", 1654108462)
    cention.sandbox.log("åsa\x1b[2J", "Login", 1654108529)
    since = ["--from", "1654108000", "--to", "2022-06-02T00:00:00+02:00"]
    for travelling in ("csv", "json"):
        records = cention.json("logio", *since, "--format", travelling)
        assert [(each["name"], each["timestamp"], each["action"]) for each in records] == [
            ("sysadmin", 1654108462, "Logout"),
            ("åsa\x1b[2J", 1654108529, "Login"),
        ]
    printed = cention.run("logio", *since).stdout
    assert printed == "2022-06-01T18:34:22Z  Logout  sysadmin\n2022-06-01T18:35:29Z  Login   åsa\ufffd[2J\n"
    assert "sysadmin" not in cention.run("logio", *since, "--name", "joe").stdout
    assert cention.json("logio") == []
    assert cention.run("logio", *since, "--output", "logio.csv").stdout == "2 records are in logio.csv.\n"
    assert (tmp_path / "logio.csv").read_text().splitlines()[0] == "1,sysadmin,1654108462,Logout"
    cention.run("logio", *since, "--output", "logio.json")
    assert len(json.loads((tmp_path / "logio.json").read_bytes())) == 2
    assert (tmp_path / "logio.json").stat().st_mode & 0o777 == 0o600
    assert "after --to" in cention.run("logio", "--from", "2", "--to", "1", code=2).stderr
    assert "seconds since the epoch" in cention.run("logio", "--from", "2019-04-01", code=2).stderr


def test_logio_that_breaks_off_is_no_list_and_no_file(cention: Shell, tmp_path: Path) -> None:
    for second in range(1000):
        cention.sandbox.log("sysadmin", "Login", 1554108000 + second)
    cention.sandbox.set_faults([{"endpoint": "logio", "reset": "midway"}])
    broken = cention.run("logio", "--from", "1554108000", "--json", code=1)
    assert "the answer was lost" in broken.stderr
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken.stdout or "[")
    cention.run("logio", "--from", "1554108000", "--output", "logio.csv", code=1)
    assert list(tmp_path.iterdir()) == []


def test_the_library(cention: Shell) -> None:
    libraries = cention.json("library", "list")
    assert [(each["id"], each["attributes"]["name"]) for each in libraries["data"]] == [("3", "Växel")]
    assert {each["type"] for each in libraries["included"]} >= {"c3_library_questions", "c3_library_categories"}
    assert cention.json("library", "list", "--external")["data"][0]["type"] == "c3_external_libraries"
    assert cention.json("library", "show", "4")["data"]["attributes"]["external"] is False
    assert cention.json("library", "show", "3", "--external")["data"]["type"] == "c3_external_libraries"
    assert [each["id"] for each in cention.json("library", "categories")["data"]] == ["2", "3"]
    assert cention.json("library", "category", "2")["data"]["attributes"]["name"] == "Hälsningar"
    assert cention.json("library", "question", "4")["data"]["attributes"]["subject"] == "Rebooking"

    def found(*options: str) -> set[str]:
        return {each["id"] for each in cention.json("library", "questions", *options)["data"]}

    assert found() == {"2", "4", "5"}
    assert found("--library", "4") == {"4", "5"}
    assert found("--toplist") == {"2", "5"}
    assert found("--phrase", "appointment", "--in", "question") == {"4"}
    assert found("--phrase", "appointment", "--in", "answer") == set()
    assert "base64" in cention.json("library", "question", "2", "--data-url")["data"]["attributes"]["answer"]
    for arguments, texts in {
        ("list",): ("Växel", "yes"),
        ("show", "3"): ("Mottagning", "Öppettider och tider", "When are you open?", "Rebooking"),
        ("category", "3"): ("Öppettider och tider", "Mottagning"),
        ("questions",): ("Greeting", "2020"),
        ("question", "4"): ("Call us, or use the attached form.", "2020 rebooking.txt"),
    }.items():
        table = cention.run("library", *arguments).stdout
        assert all(text in table for text in texts), table


def test_files_are_listed_and_kept(cention: Shell, tmp_path: Path) -> None:
    errand_id = made(cention)
    file = AttachedFile(name="../../svar.txt", content_type="text/plain", content="V2VsY29tZQ==")
    cention.wait_for(cention.sandbox.answer(errand_id, AnswerGiven(text="Yes", attachments=(file,))))
    assert "../../svar.txt" in cention.run("files", "response", "788").stdout
    assert cention.json("files", "response", "788")["data"]["attributes"]["attachment"]["content"] == "V2VsY29tZQ=="
    kept = cention.json("files", "response", "788", "--output", "answers/")
    assert kept == [{"id": "788", "file": "answers/svar.txt", "bytes": 7}]
    assert (tmp_path / "answers" / "svar.txt").read_text() == "Welcome"
    assert (tmp_path / "answers" / "svar.txt").stat().st_mode & 0o777 == 0o600
    assert cention.run("files", "response", "788", "--output", "-").stdout == "Welcome"
    assert "26" in cention.run("files", "library", "2020").stdout
    assert "26" not in cention.run("files", "library", "2020", "--without-content").stdout
    cention.run("files", "archive", "11", "--output", "hours.png")
    assert (tmp_path / "hours.png").read_bytes().startswith(b"\x89PNG")
    cention.tokens = {claim: token for claim, token in cention.tokens.items() if claim != "attachment"}
    cention.run("files", "archive", "11", "--output", "hours-2.png")  # with the library's
    assert cention.json("files", "of-question", "4", "--output", "of-4")[0]["file"] == "of-4/rebooking.txt"
    assert (tmp_path / "of-4" / "rebooking.txt").read_text() == "Name:\nOld time:\nNew time:\n"
    assert cention.json("files", "images-of-question", "2", "--without-content")["data"][0]["id"] == "11"
    assert cention.run("files", "of-question", "4").stdout.count("rebooking.txt") == 1


def test_nothing_is_written_over_unless_that_is_asked(cention: Shell, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("rebooking.txt", "a.json", "a.csv", "a.png"):
        (mine / name).write_text("mine")
    commands = (
        (["files", "of-question", "4"], "mine", 1),
        (["files", "library", "2020"], "mine", 1),
        (["files", "archive", "11"], "mine/a.png", 2),
        (["export", "trigger", "316"], "mine/a.csv", 2),
        (["logio"], "mine/a.json", 2),
    )
    for arguments, output, code in commands:
        told = cention.run(*arguments, "--output", output, code=code).stderr
        assert "is there already" in told
        assert "--force" in told
    assert {each.read_text() for each in mine.iterdir()} == {"mine"}
    for arguments, output, _ in commands:
        cention.run(*arguments, "--output", output, "--force")
    assert b"mine" not in {each.read_bytes() for each in mine.iterdir()}
    assert len(list(mine.iterdir())) == 4


def test_a_file_that_came_meanwhile_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"

    def write_while_another_does() -> None:
        with appearing(target, force=False) as made:
            made.write_text("ours")
            target.write_text("theirs")

    with pytest.raises(FileExistsError):
        write_while_another_does()
    assert target.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_files_that_are_called_alike_are_all_kept(tmp_path: Path) -> None:
    names = ["a.txt", "A.txt", "dir/a.txt"]
    files = [{"id": 1 + place, "name": name, "text": name} for place, name in enumerate(names)]
    library = {"questions": [{"id": 1, "attachments": [1, 2, 3]}], "attachments": files}
    with shell(tmp_path, data(library=library)) as cention:
        cention.run("files", "of-question", "1", "--output", "kept")
        kept = {path.read_text() for path in (tmp_path / "kept").iterdir()}
        assert kept == set(names)


def test_an_export(cention: Shell, tmp_path: Path) -> None:
    first = made(cention, *CLOSING, "--answer-body", "=1+1")
    made(cention)
    document = cention.json("export", "trigger", "316", "--from", "2019-01-01", "--to", "2100/01/01", "--by", "closure")
    assert [each["errand_id"] for each in document["data"]["attributes"]["content"]] == [first]
    assert document["data"]["attributes"]["use_closure_date"] is True
    assert document["data"]["attributes"]["errand_from_date"] == "2019/01/01"
    table = cention.run("export", "trigger", "316").stdout
    assert first in table
    assert "46701740605" in table
    assert cention.json("export", "trigger", "316", "--output", "a.json") == {"records": 2, "file": "a.json"}
    assert len(json.loads((tmp_path / "a.json").read_bytes())) == 2
    cention.run("export", "trigger", "316", "--output", "a.csv", "--for-spreadsheets")
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [row["answer"] for row in csv.DictReader(file)] == ["'=1+1", ""]
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o600
    assert (
        "after --to"
        in cention.run("export", "trigger", "316", "--from", "2020-01-02", "--to", "2020-01-01", code=2).stderr
    )
    assert "2019-01-31" in cention.run("export", "trigger", "316", "--from", "2019-02-30", code=2).stderr
    assert ".csv or .json" in cention.run("export", "trigger", "316", "--output", "a.xls", code=2).stderr


def test_a_callback_is_shown_without_its_secret(cention: Shell) -> None:
    file = str(SAMPLES / "callback_answer_errand.request.json")
    table = cention.run("callback", "show", file).stdout
    assert all(text in table for text in ("2256", "cention files response 788", "cention files archive 12"))
    whole = cention.json("callback", "show", "-", stdin=Path(file).read_bytes())
    assert whole["data"]["attributes"] == {"event": 1}
    assert "123456" not in table
    assert "123456" not in json.dumps(whole)
    assert "no callback" in cention.run("callback", "show", "-", stdin="{}", code=1).stderr


def test_content_that_is_none_is_told(cention: Shell, tmp_path: Path) -> None:
    body = {"data": {"id": "1", "type": "c3_response_attachments", "attributes": {"attachment": {"content": "§"}}}}
    cention.sandbox.set_faults([{"endpoint": "c3_response_attachments", "status": 200, "body": json.dumps(body)}])
    assert "no base64" in cention.run("files", "response", "1", "--output", "a.txt", code=1).stderr
    assert list(tmp_path.iterdir()) == []

"""Exports: the request, the answer in each of its documented forms, and the files that are made of it."""

import csv
import io
import json
import os
import stat
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.cention.documents import (
    EXPORT_COLUMNS,
    Export,
    ExportedErrand,
    TriggerExport,
    export_request,
    read_document,
    read_one,
)
from bridge.cention.export_files import export_columns, save_export, write_csv, write_json

SAMPLE = (Path(__file__).parent.parent / "fixtures" / "cention" / "trigger_export.request.json").read_bytes()
RECORD = {
    "errand_id": "511055",
    "from_address": "46701740605",
    "to_address": "46846500400",
    "subject": '=HYPERLINK("http://x"; "Hej")',
    "question": 'One,\ntwo; "three"',
    "answer": "Åäö",
    "errand_notes": "",
    "timestamp_arrived": "2019-01-01 10:00:00",
    "timestamp_opened": "2019-01-01 10:01:00",
    "timestamp_answered": None,
    "timestamp_closed": "",
    "agent_id": 2,
    "agent_name": "System Administrator",
    "area_id": 1,
    "area_name": "test-services-area",
    "tag_names": "a, b",
    "client_id": 279,
    "priority": "",
    "satisfaction_meter_answer_1": 0,
    "satisfaction_meter_answer_2": 0,
    "satisfaction_meter_answer_3": 0,
    "satisfaction_meter_answer_4": 0,
    "satisfaction_meter_answer_5": 1,
    "channel": "Voice",
    "area_external_id": "x-1",
}


def answer(content: Any, **attributes: Any) -> Any:
    return {
        "data": {
            "type": "c3_trigger_exports",
            "id": "9",
            "attributes": {"c3_id": 9, **attributes, "content": content},
            "relationships": {"export": {"data": {"type": "c3_exports", "id": "316"}}},
        }
    }


def read(document: Any) -> Export:
    found = read_one(json.dumps(document).encode(), Export)
    assert json.loads(found.to_json()) == document
    assert found.data is not None
    return found.data


def record(**members: Any) -> ExportedErrand:
    return ExportedErrand.model_validate_json(json.dumps({**RECORD, **members}))


def test_the_request_is_what_the_sample_shows() -> None:
    wanted = TriggerExport(use_closure_date=True, errand_from_date=date(2019, 1, 1), errand_to_date=date(2019, 1, 30))
    assert json.loads(export_request(316, wanted)) == json.loads(SAMPLE)
    assert json.loads(export_request("316", wanted)) == json.loads(SAMPLE)
    attributes = read_document(SAMPLE, TriggerExport).data.attributes
    assert attributes == wanted


def test_what_is_not_told_is_not_sent() -> None:
    assert json.loads(export_request(316, TriggerExport(errand_from_date=None)))["data"]["attributes"] == {}
    assert TriggerExport(errand_from_date=date(987, 6, 5)).to_json() == b'{"errand_from_date":"0987/06/05"}'


@pytest.mark.parametrize("day", ["2019-01-01", "2019/1/1", "2019/02/30", "", 20190101, True])
def test_a_request_holds_days_alone(day: Any) -> None:
    with pytest.raises(ValidationError):
        TriggerExport.model_validate_json(json.dumps({"errand_from_date": day}))
    with pytest.raises(ValidationError):
        TriggerExport(errand_from_date=datetime(2019, 1, 1))  # noqa: DTZ001 # what somebody might try


def test_content_is_one_record_or_many_or_none() -> None:
    assert [one.errand_id for one in read(answer([RECORD, {**RECORD, "errand_id": 7}])).records] == ["511055", 7]
    assert [one.errand_id for one in read(answer(RECORD)).records] == ["511055"]
    assert read(answer([])).records == ()
    assert read(answer(None)).records == ()
    assert read({"data": {"type": "c3_trigger_exports", "id": "9"}}).records == ()


def test_the_answer_repeats_the_period_in_any_form() -> None:
    attributes = read(answer(None, errand_from_date="2019/01/01", errand_to_date="2019-01-30")).attributes
    assert attributes is not None
    assert (attributes.errand_from_date, attributes.errand_to_date) == (date(2019, 1, 1), "2019-01-30")
    attributes = read(answer(None, errand_from_date=None, errand_to_date="2019/02/30")).attributes
    assert attributes is not None
    assert (attributes.errand_from_date, attributes.errand_to_date) == (None, "2019/02/30")


@pytest.mark.parametrize(
    ("told", "number"), [(511055, 511055), ("511055", 511055), ("a-1", None), (None, None), ("", None)]
)
def test_an_errands_id_is_a_number_or_a_text(told: Any, number: int | None) -> None:
    assert read(answer([{"errand_id": told}])).records[0].errand_number == number


def test_ids_are_read_as_numbers_and_as_texts() -> None:
    for name in ("agent_id", "area_id", "client_id", "area_external_id", "priority", "satisfaction_meter_answer_3"):
        for value in (7, "7", None):
            assert getattr(read(answer([{name: value}])).records[0], name) == value


def test_a_record_that_is_none_is_refused_without_its_values() -> None:
    for content in ([{"question": ["46701740605"]}], [["46701740605"]], "46701740605", [{"agent_id": 1.5}]):
        with pytest.raises(ValidationError) as caught:
            read_one(json.dumps(answer(content)).encode(), Export)
        assert "46701740605" not in str(caught.value)


def test_the_columns_are_the_tables() -> None:
    assert tuple(RECORD) == EXPORT_COLUMNS
    assert export_columns([record(), record(zeta=1), record(alpha=2, zeta=3)]) == (*RECORD, "zeta", "alpha")


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_holds_every_member() -> None:
    file, told = io.StringIO(newline=""), list[int]()
    written = write_csv((record(extra=[1, {"a": None}]), record(errand_id=7)), file, on_written=told.append)
    assert (written, told) == (2, [1, 2])
    first, second = rows(file.getvalue())
    assert first == {
        **{name: "" if value is None else str(value) for name, value in RECORD.items()},
        "extra": '[1,{"a":null}]',
    }
    assert (second["errand_id"], second["extra"]) == ("7", "")


def test_csv_takes_one_record_at_a_time() -> None:
    file = io.StringIO(newline="")
    lengths = []

    def made() -> Iterator[ExportedErrand]:
        for number in range(3):
            lengths.append(len(file.getvalue()))
            yield record(errand_id=number, extra="not known beforehand")

    assert write_csv(made(), file) == 3
    assert lengths == sorted(set(lengths)), "each was written before the next was taken"
    assert tuple(rows(file.getvalue())[0]) == EXPORT_COLUMNS
    narrow = io.StringIO(newline="")
    write_csv(made(), narrow, columns=["extra", "errand_id", "nothing"])
    assert narrow.getvalue().splitlines()[:2] == ["extra,errand_id,nothing", "not known beforehand,0,"]


def test_csv_for_spreadsheets_runs_no_formula() -> None:
    file = io.StringIO(newline="")
    write_csv([record(answer="-1+1", question="a=b", agent_name="@sum", area_name="\t=1")], file, for_spreadsheets=True)
    (row,) = rows(file.getvalue())
    assert row["subject"] == "'" + str(RECORD["subject"])
    assert (row["answer"], row["question"], row["agent_name"], row["area_name"]) == ("'-1+1", "a=b", "'@sum", "'\t=1")


def test_json_is_what_came() -> None:
    records = [record(extra={"deep": [None]}), record(errand_id=7)]
    file, told = io.StringIO(), list[int]()
    assert write_json(iter(records), file, on_written=told.append) == 2
    assert json.loads(file.getvalue()) == [{**RECORD, "extra": {"deep": [None]}}, {**RECORD, "errand_id": 7}]
    assert (told, len(file.getvalue().splitlines())) == ([1, 2], 4)
    empty = io.StringIO()
    assert write_json([], empty) == 0
    assert json.loads(empty.getvalue()) == []


@pytest.mark.parametrize("name", ["errands.csv", "errands.JSON"])
def test_a_file_is_its_owners_and_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("before")
    before = os.umask(0)
    try:
        assert save_export([record()], path) == 1
    finally:
        os.umask(before)
    raw = path.read_bytes().decode()
    assert raw.count("Åäö") == 1
    found = rows(raw) if name.endswith("csv") else json.loads(raw)
    assert found[0]["question"] == RECORD["question"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "errands.csv"
    path.write_text("before")

    def breaks() -> Iterator[ExportedErrand]:
        yield record()
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        save_export(breaks(), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_a_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends with \.csv or \.json"):
        save_export([record()], tmp_path / "errands.xlsx")
    assert save_export([record()], tmp_path / "errands", "json") == 1
    assert json.loads((tmp_path / "errands").read_bytes()) == [RECORD]

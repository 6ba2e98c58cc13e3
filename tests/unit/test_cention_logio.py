"""Logio's records, wherever the answer is cut into pieces, and what is no record."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cention.documents import (
    CsvRecords,
    CutOff,
    JsonRecords,
    LogioRecord,
    NotRecords,
    latest_by_name,
    record_reader,
)

CSV = b"""1,sysadmin,1554108462,Logout
2,tester1,1554108529,Logout
3,sysadmin,1554108536,Login
4,sysadmin,1554108578,Logout
5,tester1,1554108586,Login
"""
JSON = b"""[{"id":1,"name":"sysadmin","timestamp":1554108462,"action":"Logout"},
{"id":2,"name":"tester1","timestamp":1554108529,"action":"Logout"},
{"id":3,"name":"sysadmin","timestamp":1554108536,"action":"Login"},
{"id":4,"name":"sysadmin","timestamp":1554108578,"action":"Logout"},
{"id":5,"name":"tester1","timestamp":1554108586,"action":"Login"}]"""
RECORDS = [
    LogioRecord(id=1, name="sysadmin", timestamp=1554108462, action="Logout"),
    LogioRecord(id=2, name="tester1", timestamp=1554108529, action="Logout"),
    LogioRecord(id=3, name="sysadmin", timestamp=1554108536, action="Login"),
    LogioRecord(id=4, name="sysadmin", timestamp=1554108578, action="Logout"),
    LogioRecord(id=5, name="tester1", timestamp=1554108586, action="Login"),
]


def pieces(raw: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(raw), size):
        yield raw[at : at + size]


def read(reader: Any, raw: bytes, size: int = 7) -> list[LogioRecord]:
    records = []
    for piece in pieces(raw, size):
        records += reader.feed(piece)
    return [*records, *reader.end()]


@pytest.mark.parametrize("size", [1, 2, 3, 50, 10_000])
def test_the_samples_are_read_in_any_pieces(size: int) -> None:
    assert read(CsvRecords(), CSV, size) == RECORDS
    assert read(CsvRecords(), CSV.rstrip(), size) == RECORDS, "the last line may lack its end"
    assert read(CsvRecords(), CSV.replace(b"\n", b"\r\n"), size) == RECORDS
    assert read(JsonRecords(), JSON, size) == RECORDS
    assert read(JsonRecords(), JSON.replace(b"\n", b""), size) == RECORDS
    assert read(JsonRecords(), json.dumps(json.loads(JSON), indent=2).encode() + b"\n ", size) == RECORDS


def test_a_record_is_given_as_soon_as_it_is_whole() -> None:
    reader = record_reader("json")
    assert list(reader.feed(JSON[:70])) == RECORDS[:1]
    reader = record_reader("csv")
    assert list(reader.feed(CSV[:30])) == RECORDS[:1]


def test_times_are_aware_and_actions_told() -> None:
    assert RECORDS[0].at == datetime(2019, 4, 1, 8, 47, 42, tzinfo=UTC)
    assert [record.logged_in for record in RECORDS[:3]] == [False, False, True]
    assert LogioRecord(id=1, name="a", timestamp=0, action="Pause").logged_in is None
    assert LogioRecord(id=1, name="a", timestamp=253402300799, action="login").at.year == 9999


@given(
    st.lists(st.tuples(st.text(st.characters(blacklist_categories=["Cs", "Cc"])), st.integers(0, 2**37)), max_size=5),
    st.integers(1, 40),
)
def test_any_name_comes_through_json(told: list[tuple[str, int]], size: int) -> None:
    records = [
        LogioRecord(id=number, name=name, timestamp=at, action="Login") for number, (name, at) in enumerate(told)
    ]
    raw = b"[" + b",".join(record.to_json() for record in records) + b"]"
    assert read(JsonRecords(), raw, size) == records
    escaped = json.dumps([record.model_dump() for record in records]).encode()
    assert read(JsonRecords(), escaped, size) == records


def test_names_in_csv() -> None:
    raw = '1,Åsa Öberg,0,Login\n2,"a ""b"", c",0,Login\n3,d, e,0,Login\n4,,0,Login\n'.encode()
    assert [record.name for record in read(CsvRecords(), raw, 1)] == ["Åsa Öberg", 'a "b", c', "d, e", ""]


@pytest.mark.parametrize("raw", [b"", b"\n", b"  \r\n\n"])
def test_no_lines_are_no_records(raw: bytes) -> None:
    assert read(CsvRecords(), raw) == []


@pytest.mark.parametrize("raw", [b"[]", b" [ ] \n", b"null", b"null\n"])
def test_an_empty_list_is_no_records(raw: bytes) -> None:
    assert read(JsonRecords(), raw, 1) == []


def test_unknown_members_are_kept() -> None:
    raw = JSON.replace(b'"id":1,', b'"id":1,"more":{"deep":[null,"}]"]},')
    (first, *others) = read(JsonRecords(), raw, 3)
    assert json.loads(first.to_json()) == json.loads(raw)[0]
    assert others == RECORDS[1:]


def test_json_that_is_cut_off_is_never_taken_for_whole() -> None:
    for cut in range(1, len(JSON)):
        reader = JsonRecords()
        records = list(reader.feed(JSON[:cut]))
        assert records == RECORDS[: len(records)]
        with pytest.raises(CutOff):
            list(reader.end())


def test_csv_that_is_cut_off_gives_no_half_record() -> None:
    for cut in range(1, len(CSV)):
        reader = CsvRecords()
        records = list(reader.feed(CSV[:cut]))
        try:
            records += reader.end()
        except CutOff:
            assert not CSV[:cut].endswith((b"\n", b"Login", b"Logout"))
        assert records == RECORDS[: len(records)]


def fails(reader: Any, raw: bytes, size: int) -> str:
    with pytest.raises(NotRecords) as caught:
        read(reader, raw, size)
    assert not isinstance(caught.value, CutOff)
    return str(caught.value)


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"errors": []}', "not a list of records"),
        (b"nix!", "not a list of records"),
        (b"<html>", "not a list of records"),
        (b"7", "not a list of records"),
        (b"[7]", "something else than a record follows record 0"),
        (b"[[]]", "something else than a record follows record 0"),
        (JSON[:-1] + b",]", "something else than a record follows record 5"),
        (JSON + b"]", "something else than a record follows record 5"),
        (JSON + JSON, "something else than a record follows record 5"),
        (JSON.replace(b"},\n", b"}\n", 1), "something else than a record follows record 1"),
        (JSON.replace(b'"id":2', b'"id":"2"'), "record 2: id: "),
        (JSON.replace(b'"name":"tester1",', b"", 1), "record 2: name: "),
        (JSON.replace(b"1554108529", b"1e400"), "record 2: timestamp: "),
        (JSON.replace(b"1554108529", b"-1"), "record 2: timestamp: "),
        (JSON.replace(b"1554108529", b"253402300800"), "record 2: timestamp: "),
        (JSON.replace(b"1554108529", b"true"), "record 2: timestamp: "),
        (JSON.replace(b"tester1", b"\xff", 1), "is no UTF-8"),
        (b"[{" + b" " * 70_000, "record 1 is longer than"),
        (b'[{"a":' + b"[" * 60_000, "record 1 is no record"),
        (b'[{"a":' * 20_000, "record 1 is no record"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_json_that_is_no_records(raw: bytes, said: str, size: int) -> None:
    if size == 1 and len(raw) > 10_000:
        size = 1000
    assert said in fails(JsonRecords(), raw, size)


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"id,name,timestamp,action\n", "line 1 is no id, name, timestamp and action"),
        (CSV + b"6,tester1,1554108586\n", "line 6 is no id"),
        (CSV + b"6,tester1,x,Login\n", "line 6 is no id"),
        (CSV + b"x,tester1,1,Login", "line 6 is no id"),
        (CSV + b"6,tester1,-1,Login\n", "line 6: timestamp: "),
        (CSV + b"6,tester1,253402300800,Login\n", "line 6: timestamp: "),
        (CSV + b"6,\xff,1,Login\n", "line 6 is no id"),
        (b'{"errors":[]}\n', "line 1 is no id"),
        (b'{"errors":[]}', "line 1 is no id"),
        (CSV + b"Nobody is here", "line 6 is no id"),
        (b"1" * 5000 + b",a,1,Login\n", "line 1 is no id"),
        (b"1,a" + b"a" * 70_000, "line 1 is longer than"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_csv_that_is_no_records(raw: bytes, said: str, size: int) -> None:
    if size == 1 and len(raw) > 10_000:
        size = 1000
    assert said in fails(CsvRecords(), raw, size)


def test_a_fault_repeats_no_name() -> None:
    for reader, raw in (
        (CsvRecords(), b"1,secret.name,x,Login\n"),
        (JsonRecords(), b'[{"id":1,"name":["secret.name"],"timestamp":1,"action":"Login"}]'),
    ):
        assert "secret.name" not in fails(reader, raw, 10_000)


def test_what_is_held_does_not_grow_with_the_answer() -> None:
    csv_reader, json_reader = CsvRecords(), JsonRecords()
    list(json_reader.feed(b"["))
    for number in range(20_000):
        (record,) = csv_reader.feed(b"%d,tester1,1554108586,Login\n" % number)
        list(json_reader.feed(b"," if number else b""))
        assert list(json_reader.feed(record.to_json())) == [record]
    assert len(csv_reader._rest) < 100
    assert len(json_reader._text) < 100


def test_the_latest_of_each_agent() -> None:
    assert (
        latest_by_name(RECORDS) == latest_by_name(reversed(RECORDS)) == {"sysadmin": RECORDS[3], "tester1": RECORDS[4]}
    )
    same = [
        LogioRecord(id=2, name="a", timestamp=5, action="Login"),
        LogioRecord(id=1, name="a", timestamp=5, action="Logout"),
    ]
    assert latest_by_name(same)["a"].logged_in is True
    assert latest_by_name(()) == {}

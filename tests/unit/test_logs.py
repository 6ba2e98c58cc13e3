"""Log lines: one object each, whatever is logged, with numbers, tokens and secrets masked wherever they stand."""

import contextlib
import fcntl
import logging
import os
import termios
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from bridge.runtime import logs
from bridge.runtime.logs import get_logger, scrub
from tests.fakes.logs import captured


def logged(level: str = "debug", /, **values: Any) -> dict[str, Any]:
    with captured(level) as lines:
        get_logger("test").warning("happened", **values)
    (line,) = lines
    result: dict[str, Any] = orjson.loads(line)
    return result


@pytest.mark.parametrize(
    "text",
    [
        "+46701740605",
        "+46 (0)70-174 06 05",
        "0046701740605",
        "<tel:0701740605>",
        "tel:+46701740605;ext=1",
        "sip:0701740605@pbx.example",
        "SIPS:anna.berg@pbx.example".lower(),
        "number=+46701740605,",
        '{"calledNumber":"+46701740605"}',
    ],
)
def test_what_looks_like_a_number_is_masked(text: str) -> None:
    shown = scrub(f"cannot dial {text} now")
    assert "***" in shown
    assert "1740605" not in shown.replace(" ", "").replace("-", "")
    assert "anna" not in shown
    assert shown.startswith("cannot dial ")
    assert shown.endswith(" now")


@pytest.mark.parametrize(
    "text",
    [
        "call 4711 of event 8f14e45f-ceea-467a-9b33-0c1d2e3f4a5b",
        "av-0011223344556677aabbccdd-open_errand-0",
        "errand 511055",
        "2026-11-24T10:00:00.250+01:00",
        "10.0.0.1:8080",
        "pair 1000:1001",
        "a wait of 0.001 s",
        "line 3, column 12",
    ],
)
def test_ids_and_times_stay(text: str) -> None:
    assert scrub(text) == text


@pytest.mark.parametrize(
    "text", ["Authorization: Bearer abc.DEF-1_2~3+4/5==", "bearer abc.DEF-1_2", "whsec_bXktc2VjcmV0LWtleQ=="]
)
def test_tokens_and_webhook_secrets_are_masked(text: str) -> None:
    shown = scrub(text)
    assert shown.endswith("***")
    assert "abc" not in shown
    assert "bXkt" not in shown


def test_a_line_is_one_json_object_with_what_was_bound() -> None:
    line = logged(call="c-1", count=3)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "happened", "level": "warning", "source": "test", "call": "c-1", "count": 3}


@pytest.mark.parametrize(
    "value",
    [
        "to +46701740605",
        ["to +46701740605"],
        ("x", ["to +46701740605"]),
        {"reason": {"text": "to +46701740605"}},
        ValueError("to +46701740605"),
        {"+46701740605": 1},
        b"to +46701740605",
        frozenset(["+46701740605"]),
    ],
)
def test_a_number_is_masked_however_deep_it_lies(value: object) -> None:
    assert "701740605" not in orjson.dumps(logged(reason=value)).decode()


@pytest.mark.parametrize(
    "name", ["calling_number", "called_number", "dest_number", "calling_name", "cuid", "number", "token"]
)
def test_a_personal_key_is_masked_whatever_it_holds(name: str) -> None:
    assert logged(**{name: "46701740605"})[name] == "***"
    assert logged(inner={name: ["Åsa"]})["inner"] == {name: "***"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("half a pair \ud800", None),
        (2**80, str(2**80)),
        ({1: 2}, {"1": 2}),
        ({"\ud800": 2}, None),
        (b"\xff", None),
        ({"a"}, None),
        (object(), None),
    ],
)
def test_nothing_that_is_logged_raises(value: object, shown: object) -> None:
    line = logged(value=value)
    assert line["event"] == "happened"
    assert shown is None or line["value"] == shown


def test_a_traceback_is_in_the_line_and_scrubbed() -> None:
    with captured() as lines:
        try:
            raise ValueError("no route to +46701740605")
        except ValueError:
            get_logger("test").exception("failed")
    (line,) = lines
    traceback = orjson.loads(line)["exception"]
    assert traceback.startswith("Traceback")
    assert traceback.endswith("ValueError: no route to ***")


def test_a_librarys_lines_get_the_same_mask() -> None:
    with captured() as lines:
        library = logging.getLogger("some.library")
        library.warning("refused %s with %s", "+46701740605", "Bearer abc")
        try:
            raise OSError("tel:0701740605")
        except OSError:
            library.exception("failed")
        library.info("chatter is left out")
    first, second = map(orjson.loads, lines)
    assert (first["event"], first["level"]) == ("refused *** with Bearer ***", "warning")
    assert second["exception"].endswith("OSError: ***")


def test_the_level_is_a_floor_and_the_console_style_masks_too() -> None:
    with captured("warning", "console") as lines:
        get_logger("test").info("not shown")
        get_logger("test").warning("shown", reason="to +46701740605", calling_number="46701740605")
    assert "not shown" not in lines.text
    assert "shown" in lines.text
    assert "701740605" not in lines.text


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(KeyError):
        logs.configure("loud")


# Who reads the log, or does not


@contextlib.contextmanager
def logging_to(fd: int, style: logs.LogFormat = "json") -> Iterator[None]:
    """Logs to a descriptor, which is closed then; afterwards as the tests' conftest has it."""
    with os.fdopen(fd, "w") as stream, contextlib.redirect_stderr(stream):
        logs.configure("debug", style)
        yield
    logs.configure("warning", "console")


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_log_that_cannot_be_written_raises_nothing(style: logs.LogFormat) -> None:
    with logging_to(os.open("/dev/full", os.O_WRONLY), style):
        for number in range(1000):
            get_logger("test").warning("happened", count=number)
            logging.getLogger("library").warning("happened too")


def test_a_log_that_nobody_reads_holds_up_nothing_and_then_tells_what_was_lost() -> None:
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    with os.fdopen(reads, "rb") as reader, logging_to(writes):
        for number in range(2000):
            get_logger("test").warning("happened", count=number, more="x" * (number % 7) * 1000)
        held = reader.read()
        for number in range(2000, 2010):
            get_logger("test").warning("happened", count=number)
        held += reader.read()
    lines = [orjson.loads(line) for line in held.splitlines()]  # each whole, though one was cut short by the full pipe
    (at,) = (at for at, line in enumerate(lines) if "count" not in line)
    told = lines.pop(at)
    assert [line["count"] for line in lines] == [*range(at), *range(2000, 2010)]
    assert (told["level"], told["lines"]) == ("warning", 2000 - at)
    assert told["event"].startswith("log lines are lost")


def test_a_reader_that_is_only_slower_than_many_lines_at_once_has_them_all() -> None:
    reads, writes = os.pipe()

    def read_once_it_is_full() -> bytes:
        held = array("i", [0])
        while held[0] < 60_000:
            fcntl.ioctl(reads, termios.FIONREAD, held)
        with os.fdopen(reads, "rb") as reader:
            return reader.read()

    with ThreadPoolExecutor(1) as threads:
        read = threads.submit(read_once_it_is_full)
        with logging_to(writes):
            for number in range(600):
                get_logger("test").warning("happened", count=number)
        assert [orjson.loads(line)["count"] for line in read.result().splitlines()] == [*range(600)]

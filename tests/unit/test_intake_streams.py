"""Lines and Server-Sent Events, however the stream was cut into chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.intake.streams import EXCERPT_BYTES_MAX, Item, LineSplitter, Overlong, SseParser

SSE = (
    b"\xef\xbb\xbf: hello\r\n\r\n"
    b"id: 1\rdata: first\r\r"
    b"event: call\ndata:second\ndata:  line\nid\n\n"
    b"retry: 1500\nretry: soon\ndata\n\n"
    b"data: third\r\nid: 3\r\nfoo: bar\r\n\r\n"
    b"id: 4\n\n"
    b"id: 5\x00\ndata: fifth\n\n"
    b"data: never ended\nid: 9\n"
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(st.lists(st.integers(0, 10_000), max_size=8))
def test_sse_events_do_not_depend_on_the_chunks(places: list[int]) -> None:
    parser = SseParser(1000)
    events = [event for chunk in cut(SSE, places) for event in parser.feed(chunk)]
    assert events == [(b"", b"first"), (b"call", b"second\n line"), (b"", b"third"), (b"", b"fifth")]
    assert parser.last_event_id == "4"  # of the last event that was ended; an id with NUL is none
    assert parser.retry_ms == 1500


def test_an_empty_id_resets_it_and_a_new_connection_keeps_it() -> None:
    parser = SseParser(1000)
    parser.feed(b"id: 7\ndata: a\n\nid: 8\ndata: unfinished")
    parser.connected()
    assert parser.last_event_id == "7"
    assert parser.feed(b"data: b\n\n") == [(b"", b"b")]
    assert parser.last_event_id == "7"
    parser.feed(b"id:\n\n")
    assert parser.last_event_id == ""


@pytest.mark.parametrize("data", [b"data: " + b"x" * 101, b"data: " + b"x" * 60 + b"\ndata: " + b"x" * 41])
def test_an_sse_event_over_the_limit_is_overlong_and_the_next_one_is_read(data: bytes) -> None:
    parser = SseParser(100)
    [(_, first), second] = parser.feed(data + b"\ndata: more\n\ndata: next\n\n")
    assert isinstance(first, Overlong)
    assert second == (b"", b"next")


def test_an_sse_event_of_exactly_the_limit_and_long_comments_are_fine() -> None:
    parser = SseParser(100)
    stream = b": " + b"c" * 500 + b"\ndata: " + b"x" * 60 + b"\ndata: " + b"y" * 39 + b"\n\n"
    assert parser.feed(stream) == [(b"", b"x" * 60 + b"\n" + b"y" * 39)]


@given(st.binary(max_size=60).map(lambda raw: raw.translate(bytes(b"ab\r\n"[i % 4] for i in range(256)))), st.data())
def test_lines_do_not_depend_on_the_chunks(data: bytes, draw: st.DataObject) -> None:
    places = draw.draw(st.lists(st.integers(0, 60), max_size=6))
    for universal in (True, False):
        splitter = LineSplitter(1000, universal=universal)
        lines: list[Item] = [line for chunk in cut(data, places) for line in splitter.feed(chunk)]
        lines += [rest] if (rest := splitter.rest()) is not None else []
        # bytes.splitlines knows the same ends, and forgets an empty last line as `rest` does.
        expected = data.splitlines() if universal else data.split(b"\n")
        assert lines == (expected[:-1] if not universal and expected[-1] == b"" else expected)


def test_a_line_over_the_limit_leaves_an_excerpt_and_no_memory() -> None:
    splitter = LineSplitter(100_000, universal=False)
    assert splitter.feed(b"a" * 100_000 + b"\nb") == [b"a" * 100_000]
    for _ in range(100):
        assert splitter.feed(b"b" * 100_000) == []
        assert len(splitter._held) <= 200_000
    assert splitter.feed(b"b\nnext\n") == [Overlong(b"b" * EXCERPT_BYTES_MAX), b"next"]
    assert splitter.rest() is None

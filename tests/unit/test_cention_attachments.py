"""Attachments from paths, bytes and streams, and the rest of what a new errand may carry."""

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest

from bridge.cention.documents import (
    NEW_ERRANDS,
    Answer,
    Attachment,
    ExtraData,
    FileTooLarge,
    IntegrationData,
    Message,
    NewErrand,
    WhatsAppTemplate,
    request_body,
)

SAMPLES = Path(__file__).parent.parent / "fixtures" / "cention"
TEXT = b"Apple Pen Pineapple Pen"
SAMPLE = Attachment(content_type="text/plain", name="tst1.txt", content="QXBwbGUgUGVuIFBpbmVhcHBsZSBQZW4=")


class Slow:
    """A stream that gives what it likes, one piece after the other."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces, self.asked = list(pieces), list[int]()

    def read(self, size: int) -> Any:
        self.asked.append(size)
        return self.pieces.pop(0) if self.pieces else b""


class SlowAsync(Slow):
    async def read(self, size: int) -> Any:
        await asyncio.sleep(0)
        return super().read(size)


class Endless:
    taken = 0

    def read(self, size: int) -> bytes:
        self.taken += size
        return b"x" * size


class EndlessAsync(Endless):
    async def read(self, size: int) -> bytes:  # type: ignore[override] # as one whose `read` is awaited
        return super().read(size)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tst1.txt"
    file.write_bytes(TEXT)
    return file


async def both(source: Any, again: Any = None, **told: Any) -> Attachment:
    """The attachment that `source` makes; `load` makes the same of `again`."""
    made = Attachment.of(source, **told)
    assert await Attachment.load(source if again is None else again, **told) == made
    return made


async def test_a_path_tells_all(path: Path) -> None:
    assert await both(path) == SAMPLE
    assert await both(str(path)) == SAMPLE
    assert (await both(path, name="other.pdf")).content_type == "application/pdf"
    assert (await both(path, content_type="text/markdown")).content_type == "text/markdown"


async def test_bytes_need_a_name() -> None:
    for held in (TEXT, bytearray(TEXT), memoryview(TEXT)):
        assert await both(held, name="tst1.txt") == SAMPLE
        with pytest.raises(TypeError, match="name"):
            Attachment.of(held)
        with pytest.raises(TypeError, match="name"):
            await Attachment.load(held)
    assert (await both(b"", name="empty")).content == ""


async def test_streams_are_read_to_their_end_and_left_open(path: Path) -> None:
    with path.open("rb") as first, path.open("rb") as second:
        assert await both(first, second) == SAMPLE
        assert not first.closed
        assert not second.closed
    assert await both(io.BytesIO(TEXT), io.BytesIO(TEXT), name="tst1.txt") == SAMPLE
    assert await both(Slow(TEXT[:1], TEXT[1:]), Slow(TEXT[:5], TEXT[5:]), name="tst1.txt") == SAMPLE
    with pytest.raises(TypeError, match="name"):
        Attachment.of(io.BytesIO(TEXT))


async def test_asynchronous_streams_are_awaited(path: Path) -> None:
    assert await Attachment.load(SlowAsync(TEXT[:1], TEXT[1:]), name="tst1.txt") == SAMPLE
    stream = asyncio.StreamReader()
    stream.feed_data(TEXT)
    stream.feed_eof()
    assert await Attachment.load(stream, name="tst1.txt") == SAMPLE
    with pytest.raises(TypeError, match="asynchronous"):
        Attachment.of(stream, name="tst1.txt")  # type: ignore[arg-type] # what is refused here


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.png", "image/png"),
        ("a.TXT", "text/plain"),
        ("a.tar.gz", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
        ("mp3", "application/octet-stream"),
        ("call.wav", None),
    ],
)
def test_the_type_is_what_the_name_says(name: str, kind: str | None) -> None:
    told = Attachment.of(b"", name=name).content_type
    assert told == kind if kind is not None else str(told).startswith("audio/")


async def test_what_is_too_large_is_given_up(path: Path) -> None:
    assert (await both(path, bytes_max=len(TEXT))) == SAMPLE
    for source in (path, TEXT, io.BytesIO(TEXT), Slow(TEXT)):
        with pytest.raises(FileTooLarge, match="larger than 22 bytes"):
            Attachment.of(source, name="a", bytes_max=22)
    for asynchronous in (path, TEXT, io.BytesIO(TEXT), SlowAsync(TEXT)):
        with pytest.raises(FileTooLarge, match="larger than 22 bytes"):
            await Attachment.load(asynchronous, name="a", bytes_max=22)


async def test_a_stream_without_end_is_not_read_without_end() -> None:
    for endless in (Endless(), EndlessAsync()):
        with pytest.raises(FileTooLarge):
            await Attachment.load(endless, name="a", bytes_max=1_000_000)
        assert endless.taken == 1_000_001


async def test_streams_that_are_none() -> None:
    for piece, error in (("text", TypeError), (None, BlockingIOError)):
        with pytest.raises(error):
            Attachment.of(Slow(b"a", piece), name="a")
        with pytest.raises(error):
            await Attachment.load(SlowAsync(b"a", piece), name="a")
    with pytest.raises(TypeError):
        Attachment.of(io.StringIO("text"), name="a")  # type: ignore[arg-type] # what is refused here


async def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Attachment.of(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        await Attachment.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        Attachment.of(tmp_path)


async def test_content_is_base64_in_one_line() -> None:
    raw = bytes(range(256)) * 1000
    made = await both(raw, name="a.bin")
    assert made.content is not None
    assert base64.b64decode(made.content, validate=True) == raw == made.decoded()
    assert Attachment(name="a").decoded() == b""
    with pytest.raises(ValueError, match=r".+"):
        Attachment(content="no base64!").decoded()


def test_an_errand_is_sent_as_the_sample_shows() -> None:
    errand = NewErrand(
        msg=Message(
            message_id="msgid_1485096554",
            name="David Liew",
            sender="david.liew@test.se",
            subject="Creating test errand via API",
            body="Test message body at Sun, 22 Jan 2017 22:49:14 +0800",
            html_body="",
            attachments=(
                Attachment.of(TEXT, name="tst1.txt"),
                Attachment.of(io.BytesIO(b"Orange Juice!"), name="tst2.txt"),
            ),
        ),
        extradata={"message_id": "msgid_1485096554", "case_number": 21345, "zone": "A"},
        integration_data=IntegrationData(
            integration_name="aventa",
            reference_id="1",
            device_id=1000,
            extension_id=1000,
            link="https:www.google.com",
            end_session=False,
            dest_number="60374571234",
            paging_number="12345",
            paging_name="GP office",
            queue_name="EHS",
            queue_number="123",
            extra_data=ExtraData(
                comment="internal comment",
                call_reason="reschedule appointment",
                appointment_timestamp="1593047865",
            ),
        ),
        cuid="5462-13-6485",
    )
    assert json.loads(request_body(NEW_ERRANDS, errand)) == json.loads(
        (SAMPLES / "new_errand.request.json").read_bytes()
    )


def test_a_closed_errand_and_a_template_are_sent_as_documented() -> None:
    answer = Answer(user_type="cention", user_id="17", subject="Re", body="Done", html_body="<p>Done</p>")
    assert json.loads(NewErrand(answer=answer).to_json()) == {
        "answer": {"user_type": "cention", "user_id": "17", "subject": "Re", "body": "Done", "html_body": "<p>Done</p>"}
    }
    template = WhatsAppTemplate(elementname="order", namespace="ns", params=({"default": "$10", "order": "1234"},))
    assert json.loads(NewErrand(answer=Answer(user_type="CENTION", user_id="17"), watemplate=template).to_json()) == {
        "answer": {"user_type": "CENTION", "user_id": "17"},
        "watemplate": {
            "elementname": "order",
            "namespace": "ns",
            "params": [{"default": "$10", "order": "1234"}],
        },
    }


@pytest.mark.parametrize("extradata", ["text", 7, 1.5, True, [], [None, {"a": None}], {"a": {"b": [1]}}])
def test_extradata_is_any_json(extradata: Any) -> None:
    assert json.loads(NewErrand(extradata=extradata).to_json()) == {"extradata": extradata}

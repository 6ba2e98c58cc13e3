"""How a spool's file is laid out: a head with the read position, then one frame a record. Pure: bytes in, bytes out.

    head   32 bytes   b"AVSPOOL1", position (8), CRC-32 of the position (4), zeros
    frame  20 bytes   MAGIC (4), CRC-32 of all that follows (4), length of the payload (4), time in ms (8)
           payload    UTF-8 text

Integers are little-endian. A frame that does not check is passed over up to the next one that does: `MAGIC` begins with
bytes that UTF-8 never has, so it cannot stand inside a payload, and damage costs the records it touches and no other.
Source: docs/adr/0014-spool.md.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

HEAD_BYTES = 32
MAGIC = b"\xf5\xfaS1"
_HEAD = struct.Struct("<8sQI")
_HEAD_MAGIC = b"AVSPOOL1"
_FRAME = struct.Struct("<4sIIQ")
_CHECKED = struct.Struct("<IQ")
FRAME_BYTES = _FRAME.size


@dataclass(frozen=True, slots=True)
class Frame:
    """A record as it lies in the file.

    Attributes:
        offset, end: where it begins, and where what follows it does.
        at: when it was written, ms since the epoch.
    """

    offset: int
    end: int
    at: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes that hold no record that checks.

    Attributes:
        torn: it is the file's end and looks like a write that was cut short, so that nobody was promised anything.
    """

    offset: int
    end: int
    torn: bool


def head(position: int) -> bytes:
    """A file's head; `position` is the offset of the first record that is still to be read."""
    raw = position.to_bytes(8, "little")
    return _HEAD.pack(_HEAD_MAGIC, position, crc32(raw)).ljust(HEAD_BYTES, b"\0")


def position_of(data: bytes) -> int:
    """The position in a file's head; its first record's where the head does not check: replaying is safe."""
    if len(data) >= HEAD_BYTES:
        magic, position, check = _HEAD.unpack_from(data)
        intact = magic == _HEAD_MAGIC and check == crc32(position.to_bytes(8, "little"))
        if intact and HEAD_BYTES <= position <= len(data):
            return int(position)
    return HEAD_BYTES


def frame(at: int, payload: bytes) -> bytes:
    """One record as it is written."""
    checked = _CHECKED.pack(len(payload), at)
    return MAGIC + crc32(payload, crc32(checked)).to_bytes(4, "little") + checked + payload


def frame_at(data: bytes, offset: int) -> Frame | None:
    """The record at `offset`, or None where there is none that checks."""
    if len(data) - offset < FRAME_BYTES or not data.startswith(MAGIC, offset):
        return None
    _, check, length, at = _FRAME.unpack_from(data, offset)
    begin = offset + FRAME_BYTES
    end = begin + length
    if end > len(data):
        return None
    payload = data[begin:end]
    return Frame(offset, end, at, payload) if crc32(payload, crc32(_CHECKED.pack(length, at))) == check else None


def scan(data: bytes, offset: int) -> Iterator[Frame | Gap]:
    """Every record from `offset` on, and what lies between them."""
    while offset < len(data):
        found = frame_at(data, offset)
        if found is None:
            end = data.find(MAGIC, offset + 1)
            while end != -1 and frame_at(data, end) is None:
                end = data.find(MAGIC, end + 1)
            if end == -1:
                yield Gap(offset, len(data), torn=_cut_short(data, offset))
                return
            yield Gap(offset, end, torn=False)
            offset = end
        else:
            yield found
            offset = found.end


def _cut_short(data: bytes, offset: int) -> bool:
    """Whether what begins at `offset` is a frame whose end is missing, or room that was never filled."""
    rest = data[offset : offset + FRAME_BYTES]
    if len(rest) < FRAME_BYTES:
        return rest.startswith(MAGIC[: len(rest)]) or not data[offset:].strip(b"\0")
    magic, _, length, _ = _FRAME.unpack(rest)
    return (magic == MAGIC and offset + FRAME_BYTES + length > len(data)) or not data[offset:].strip(b"\0")

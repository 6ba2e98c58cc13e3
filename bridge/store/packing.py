"""Stored JSON, packed: what a call leaves behind is small, much alike, and there is a lot of it.

Deflate with a dictionary of what such JSON holds anyway: a call's first timeline entry shrinks to a fifth, in 3 µs,
since each packing starts as a copy of a compressor that has read the dictionary already (docs/adr/0020-speed.md).

The dictionary is part of the data: another one gets a mark of its own, and this one stays readable.
"""

import zlib

_MARK = b"\x01"
_DICTIONARY = (
    b'"resume":"pass_to":["sequence":"link_told":"https://","cause":"ended_by":"paging_number":"paging_name":"cuid":'
    b'"comment":"call_reason":"appointment_timestamp":"calling_name":"called_number":"+46","dest_number":"46",'
    b'"queue_name":"queue_number":"1"},"started":17955,"updated":17955,"told":1,"errand":true}'
    b'{"state":"held"{"state":"answered","facts":{"direction":"outbound"{"state":"started","facts":{"direction":"inbound",'
    b'"called_number":"46","dest_number":"46","calling_number":"46'
    b'"then":"retry","waitMs":"status":503,"answer":"outcome":"try_later","found":true,"then":"parked","notes":["'
    b'"held","retrieved","answered","ended","transferredTo": {"pagingNumber\\":\\"link\\":\\"https://\\"cuid\\":\\"'
    b'\\"extraData\\":{\\"comment\\":\\"callReason\\":\\"appointmentTimestamp\\":\\"cause\\":\\"normal\\",\\"endedBy\\":'
    b'\\"sequence\\":"effects":["end_outbound_call-0"],"event":"{\\"callingName\\": \\"'
    b'"reason":"event","attempt":1,"tookMs":1,"outcome":"delivered","then":"delivered","status":204}'
    b'{"at":1795511934601,"delivery":"av-end_session-1","effect":"end_session","reason":"event","attempt":1'
    b'"-open_errand-0","effect":"open_errand","reason":"event","attempt":1,"tookMs":12,"outcome":"delivered",'
    b'"then":"delivered","status":201,"errandId":"51'
    b'"type":"call.ended","occurredAt":17955,"type":"call.answered","type":"call.held","type":"call.retrieved","type":"call.up'
    b'dated","from":"answered","to":"ended","effects":["av--end_session-1"],'
    b'{"at":1795511941076,"eventId":"","type":"call.started","occurredAt":1795511934593,'
    b'"from":"unseen","to":"started","effects":["av--open_errand-0"],"event":"{\\"eventId\\": \\"\\", \\"type\\": '
    b'\\"call.started\\", \\"occurredAt\\": \\"2026-11-24T09:18:54.593102+00:00\\", '
    b'\\"callId\\": \\"\\", \\"deviceId\\": '
    b', \\"extensionId\\": , \\"direction\\": \\"outbound\\", \\"inbound\\", \\"calledNumber\\": \\"+46\\", '
    b'\\"callingNumber\\": \\"+46\\", \\"queueName\\": \\"\\", \\"queueNumber\\": \\"1\\"}"}'
)
# Small windows: what is packed is short, and the copy that each packing makes is as large as they are.
_PACKER = zlib.compressobj(3, zlib.DEFLATED, -12, 3, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
_UNPACKER = zlib.decompressobj(-12, _DICTIONARY)


def pack(raw: bytes) -> bytes:
    """`raw`, packed."""
    packer = _PACKER.copy()
    return _MARK + packer.compress(raw) + packer.flush()


def as_read(data: bytes) -> str:
    """`data` as the connection returns it: what is no text in it stands there as lone surrogates (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


def as_stored(text: str) -> bytes:
    """What `as_read` made `text` of."""
    return text.encode("utf-8", "surrogateescape")


def unpack(packed: str) -> bytes:
    """What was packed.

    Args:
        packed: as the connection returns it.

    Raises:
        ValueError: it was not packed here.
    """
    data = as_stored(packed)
    if data[:1] != _MARK:
        raise ValueError("packed by another version")
    unpacker = _UNPACKER.copy()
    try:
        raw = unpacker.decompress(data[1:])
    except zlib.error as error:
        raise ValueError(f"packed data is broken: {error}") from None
    if not unpacker.eof:
        raise ValueError("packed data is cut off")
    return raw

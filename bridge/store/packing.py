"""Stored JSON, packed: what a call leaves behind is small, much alike, and there is a lot of it.

Zstandard with a dictionary of what such JSON holds anyway, made from calls that the simulator told
(`python -m benchmarks.dictionary`): a value shrinks to a fifth in a microsecond (docs/adr/0020-speed.md).

The dictionary is part of the data: another one gets a mark of its own, and this one stays readable.
"""

from importlib.resources import files

import zstandard as zstd

LEVEL = 3
_MARK = b"\x02"


class Packer:
    """Packs and unpacks with one dictionary.

    Args:
        dictionary: as Zstandard trains it.
    """

    def __init__(self, dictionary: bytes) -> None:
        known = zstd.ZstdCompressionDict(dictionary)
        # What a frame says of itself beside its length is the same in all: it is left out.
        parameters = zstd.ZstdCompressionParameters.from_level(
            LEVEL, format=zstd.FORMAT_ZSTD1_MAGICLESS, write_content_size=1, write_checksum=0, write_dict_id=0
        )
        known.precompute_compress(compression_params=parameters)
        self._compress = zstd.ZstdCompressor(dict_data=known, compression_params=parameters).compress
        self._decompress = zstd.ZstdDecompressor(dict_data=known, format=zstd.FORMAT_ZSTD1_MAGICLESS).decompress

    def pack(self, raw: bytes) -> bytes:
        """`raw`, packed."""
        return _MARK + self._compress(raw)

    def unpack(self, packed: str) -> bytes:
        """What was packed.

        Args:
            packed: as the connection returns it.

        Raises:
            ValueError: it was not packed here.
        """
        data = as_stored(packed)
        if data[:1] != _MARK:
            raise ValueError("packed by another version")
        try:
            return self._decompress(data[1:])
        except (zstd.ZstdError, MemoryError) as error:  # a length that is broken may be any
            raise ValueError(f"packed data is broken: {error}") from None


def as_read(data: bytes) -> str:
    """`data` as the connection returns it: what is no text in it stands there as lone surrogates (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


def as_stored(text: str) -> bytes:
    """What `as_read` made `text` of."""
    return text.encode("utf-8", "surrogateescape")


_PACKER = Packer((files("bridge.store") / "packing.zdict").read_bytes())
pack, unpack = _PACKER.pack, _PACKER.unpack

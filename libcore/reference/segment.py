"""The check of a segment's seal (include/libcore/segment.h) in plain Python."""

from __future__ import annotations

from libcore.errors import CorruptionError
from libcore.reference.hashing import xxh64

MAGIC = b"HRSEG1\r\n"
TAIL_BYTES = 20  # footer size, checksum, magic


def check(data: memoryview) -> tuple[int, int]:
    """(offset, size) of the footer. Raises CorruptionError that says which part is wrong."""
    size = len(data)
    if size < len(MAGIC) + TAIL_BYTES:
        raise CorruptionError(f"segment: expected at least {len(MAGIC) + TAIL_BYTES} bytes, found {size}")
    if data[:8] != MAGIC:
        raise CorruptionError("segment: the first 8 bytes are not those of a segment")
    if data[-8:] != MAGIC:
        raise CorruptionError("segment: the last 8 bytes are not those of a segment; it was cut")
    footer_size = int.from_bytes(data[size - 20 : size - 16], "little")
    if footer_size > size - TAIL_BYTES - len(MAGIC):
        raise CorruptionError(f"segment: a footer of {footer_size} bytes does not fit {size}")
    expected, found = int.from_bytes(data[size - 16 : size - 8], "little"), xxh64(data[: size - 16])
    if expected != found:
        raise CorruptionError(f"segment: expected checksum {expected:016x}, found {found:016x}")
    return size - TAIL_BYTES - footer_size, footer_size

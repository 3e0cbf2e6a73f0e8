"""The __unset bitmap as columns: read one column's bits, and lay bits out anew when columns go.

Bit i of a row, lowest bit of the first byte first, says that the row has no value for column i (libcore/change.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc


def bits(unset: pa.Array, index: int) -> pa.BooleanArray:
    """Whether each row lacks column `index`."""
    width, byte = unset.type.byte_width, _bytes(unset)
    if width > 1:
        byte = byte.take(pa.array(range(index // 8, len(unset) * width, width), pa.int64()))
    return pc.not_equal(pc.bit_wise_and(byte, pa.scalar(1 << (index % 8), pa.uint8())), pa.scalar(0, pa.uint8()))


def any_bit(unset: pa.Array) -> bool:
    """Whether any row lacks anything."""
    return bool(pc.any(pc.not_equal(_bytes(unset), pa.scalar(0, pa.uint8()))).as_py())


def kept(unset: pa.Array, indexes: Sequence[int]) -> pa.Array:
    """The bitmap of a table that keeps only these columns, in this order."""
    return laid([bits(unset, index) for index in indexes], len(unset))


def laid(masks: Sequence[pa.BooleanArray | None], rows: int) -> pa.Array:
    """The bitmap of a table with a mask a column; None: every row has that column."""
    columns = []
    for start in range(0, len(masks), 8):
        byte: pa.Array = pa.repeat(pa.scalar(0, pa.uint8()), rows)
        for shift, mask in enumerate(masks[start : start + 8]):
            if mask is not None:
                byte = pc.bit_wise_or(byte, pc.multiply(mask.cast(pa.uint8()), pa.scalar(1 << shift, pa.uint8())))
        columns.append(pa.Array.from_buffers(pa.binary(1), rows, [None, byte.buffers()[1]]).cast(pa.binary()))
    return pc.binary_join_element_wise(*columns, b"").cast(pa.binary(len(columns)))


def _bytes(unset: pa.Array) -> pa.Array:
    """The bitmap's bytes, one after the other, as uint8."""
    width = unset.type.byte_width
    return pa.Array.from_buffers(
        pa.uint8(), len(unset) * width, [None, unset.buffers()[1]], offset=unset.offset * width
    )

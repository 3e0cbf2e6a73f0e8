"""A 128-bit digest of each row, and of a table whatever the order of its rows; it counts the rows, too.

The canonical bytes stand in include/libcore/digest.h; golden vectors in tests/golden/digest.json hold them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.change import OP, POSITION, SOURCE_TS, UNSET
from libcore.errors import ConfigurationError, CorruptionError
from libcore.hashing import xxh64

_CONTROL = (OP, POSITION, SOURCE_TS, UNSET)
_MODULUS = 1 << 128


@dataclass(frozen=True, slots=True)
class TableDigest:
    """What a table's rows come to, in any order: how many there are, and the sum of their digests modulo 2^128.

    Two of equal columns add up (parts of one table) and subtract (rows that go). A sum, because XOR would let any pair
    of equal rows vanish; with the count, because a sum alone would not tell 2^128 copies from none.
    """

    rows: int = 0
    total: int = 0

    def __add__(self, other: TableDigest) -> TableDigest:
        """Both tables' rows."""
        return TableDigest(self.rows + other.rows, (self.total + other.total) % _MODULUS)

    def __sub__(self, other: TableDigest) -> TableDigest:
        """These rows without the other's."""
        return TableDigest(self.rows - other.rows, (self.total - other.total) % _MODULUS)

    def __str__(self) -> str:
        """The count, and the sum as 32 hexadecimal digits: "3:00000000000000000000000000000000"."""
        return f"{self.rows}:{self.total:032x}"

    @classmethod
    def parse(cls, text: str) -> TableDigest:
        """The inverse of str. Raises CorruptionError."""
        rows, _, total = text.partition(":")
        if not rows.removeprefix("-").isdigit() or len(total) != 32 or total.strip("0123456789abcdef"):
            raise CorruptionError(f"expected a table digest ROWS:32 hexadecimal digits, found {text[:80]!r}")
        return cls(int(rows), int(total, 16))


def digest_rows(record: pa.RecordBatch, names: Sequence[str] | None = None) -> pa.FixedSizeBinaryArray:
    """The digest of each row: equal where names and values are, whatever the columns' order and width of their type.

    Args:
        record: any columns that libcore carries. With __unset, its bit i stands for column i of the record.
        names: the columns that count; default: all but the control columns.
    Returns: fixed_size_binary(16), one a row, no NULL.
    Raises: ConfigurationError for a column that is not there or twice, TypeError for a type that libcore does not
        carry, CapacityError for a row of 2^31 bytes, MemoryError.
    """
    digests = pa.allocate_buffer(16 * record.num_rows)
    _digest(record, names, digests)
    return pa.Array.from_buffers(pa.binary(16), record.num_rows, [None, digests], null_count=0)


def digest_table(record: pa.RecordBatch, names: Sequence[str] | None = None) -> TableDigest:
    """The digest of all rows together, whatever their order; the rest as for digest_rows."""
    return _digest(record, names, None)


def chosen(record: pa.RecordBatch, names: Sequence[str] | None) -> list[int]:
    """Indexes of the wanted columns, by the bytes of their names. Raises ConfigurationError."""
    found = record.schema.names
    wanted = [name for name in found if name not in _CONTROL] if names is None else list(names)
    for name in wanted:
        if found.count(name) != 1 or wanted.count(name) != 1:
            raise ConfigurationError(f"digest: expected each column once, one of {found}, found {name!r}")
        if record.schema.field(name).type == pa.uint64():  # elsewhere a word of a hash, which C reads as int64
            raise TypeError(f"digest: {name}: libcore carries no uint64 values")
    return [found.index(name) for name in sorted(wanted, key=str.encode)]


def seed_of(record: pa.RecordBatch, indexes: Sequence[int]) -> int:
    """XXH64 of the names, each with its size in front."""
    encoded = [record.schema.names[index].encode() for index in indexes]
    return xxh64(b"".join(len(name).to_bytes(4, "little") + name for name in encoded))


def _digest(record: pa.RecordBatch, names: Sequence[str] | None, digests: pa.Buffer | None) -> TableDigest:
    indexes = chosen(record, names)
    seed, unset = seed_of(record, indexes), record.schema.get_field_index(UNSET)
    if IMPLEMENTATION != "c":
        from libcore.reference import digest as reference

        made = reference.digest_rows(record, indexes, unset, seed)
        if digests is not None and made:
            memoryview(digests).cast("B")[:] = b"".join(made)
        return TableDigest(len(made), sum(int.from_bytes(digest, "little") for digest in made) % _MODULUS)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    wanted = ffi.new("lc_digest_column[]", [_column(record.schema.field(index), index) for index in indexes] or 1)
    columns, total, error = arrow_c.layouts(record.schema), ffi.new("uint64_t[2]"), ffi.new("lc_error *")
    out = ffi.NULL if digests is None else ffi.cast("uint8_t *", digests.address)
    with arrow_c.exported(record) as array:
        code = lib.lc_digest_rows(
            array, columns, record.num_columns, wanted, len(indexes), unset, seed, out, total, error
        )
    arrow_c.check(code, error)
    return TableDigest(record.num_rows, total[0] | total[1] << 64)


def _column(field: pa.Field, index: int) -> tuple[int, int, int]:
    if pa.types.is_time64(field.type):
        return (index, 1 if field.type.unit == "ns" else 1000, 0)
    if pa.types.is_timestamp(field.type):
        return (index, 10**9 if field.type.unit == "ns" else 10**6, int(field.type.tz is not None))
    return (index, 0, 0)

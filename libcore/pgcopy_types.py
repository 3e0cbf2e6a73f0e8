"""The words of PostgreSQL binary COPY: kinds, reasons, results, and what an error says; for face and reference."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

from libcore.schema import ColumnType

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"


class Kind(enum.IntEnum):
    """How a column is written; the table stands in include/libcore/pgcopy.h."""

    BOOL = 1
    CHAR = 2
    INT = 3
    FLOAT = 4
    DATE = 5
    TIME_US = 6
    TIME_NS = 7
    STAMP_US = 8
    STAMP_NS = 9
    DECIMAL = 10
    NUMERIC = 11
    UUID = 12
    TEXT = 13
    BYTES = 14


class Reason(enum.IntEnum):
    """Why a row was left out."""

    NUL = 1
    BAD_UUID = 2
    BAD_NUMBER = 3
    PRECISION = 4
    RANGE = 5


_EXPECTED = {
    Reason.NUL: "text without 0 bytes",
    Reason.BAD_UUID: "a uuid",
    Reason.BAD_NUMBER: "[-]digits[.digits], NaN or [-]Infinity",
    Reason.PRECISION: "whole microseconds",
    Reason.RANGE: "a value in PostgreSQL's range",
}
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class CopyError:
    """A row that is not in the buffer.

    Args:
        row: 0-based row in the batch.
        column: 0-based column, the first bad one of the row.
        reason: why.
        text: one sentence with column, expected and found.
    """

    row: int
    column: int
    reason: Reason
    text: str


@dataclass(frozen=True)
class Encoded:
    """What encode made.

    Args:
        buffer: the bytes for COPY ... (FORMAT binary).
        rows: tuples in it.
        errors: rows left out, in order, one entry each.
    """

    buffer: pa.Buffer
    rows: int
    errors: list[CopyError]


@lru_cache(maxsize=1024)
def kinds(schema: pa.Schema, types: tuple[ColumnType | None, ...]) -> tuple[Kind, ...]:
    """The kind of each column. Raises TypeError for an Arrow type that PostgreSQL gets no binary form of."""
    return tuple(_kind(field.type, column_type) for field, column_type in zip(schema, types, strict=True))


def _kind(data_type: pa.DataType, column_type: ColumnType | None) -> Kind:
    types = pa.types
    if types.is_string(data_type):
        name = "" if column_type is None else column_type.name
        return {"numeric": Kind.NUMERIC, "uuid": Kind.UUID}.get(name, Kind.TEXT)
    if types.is_time64(data_type) or types.is_timestamp(data_type):
        if data_type.unit in ("us", "ns"):
            return Kind[f"{'TIME' if types.is_time64(data_type) else 'STAMP'}_{data_type.unit.upper()}"]
    elif types.is_decimal128(data_type) or types.is_decimal256(data_type):
        return Kind.DECIMAL
    elif types.is_binary(data_type) or types.is_fixed_size_binary(data_type):
        return Kind.BYTES
    simple = {
        "bool": Kind.BOOL,
        "int8": Kind.CHAR,
        "int16": Kind.INT,
        "int32": Kind.INT,
        "int64": Kind.INT,
        "float": Kind.FLOAT,
        "double": Kind.FLOAT,
        "date32[day]": Kind.DATE,
    }
    if str(data_type) not in simple:
        raise TypeError(f"PostgreSQL COPY: libcore writes no {data_type}")
    return simple[str(data_type)]


def errors_of(record: pa.RecordBatch, found: Sequence[tuple[int, int, int]]) -> list[CopyError]:
    """CopyErrors with their sentences from (row, column, reason) triples."""
    return [
        CopyError(row, column, Reason(reason), _text(record, row, column, Reason(reason)))
        for row, column, reason in found
    ]


def _text(record: pa.RecordBatch, row: int, column: int, reason: Reason) -> str:
    values = record.column(column).slice(row, 1)
    if pa.types.is_string(values.type):
        value = values[0].as_py()
        if reason == Reason.NUL:
            shown = f"one at character {value.index(chr(0))}"
        else:
            shown = repr(value[:_SHOWN_CHARACTERS]) + ("..." if len(value) > _SHOWN_CHARACTERS else "")
    else:
        # The stored integer: Python's own dates end at the year 9999.
        stored = values.view(pa.int32() if pa.types.is_date32(values.type) else pa.int64())[0].as_py()
        shown = f"{values.type} {stored}"
    return f"column {record.schema.names[column]!r}: expected {_EXPECTED[reason]}, found {shown}"

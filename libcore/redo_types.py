"""The words of parsing Oracle's redo statements: the plan of a table, and what comes back; for C face and reference."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from libcore.change import OP, UNSET, unset_bytes
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table


class Form(enum.IntEnum):
    """What a column's type alone does not say of its values; see include/libcore/redo.h."""

    PLAIN = 0
    LITERAL = 1
    NUMERIC = 2
    INTERVAL = 3
    INTERVAL_US = 4
    ZONED = 5


class RedoCode(enum.IntEnum):
    """Why a statement gave no row."""

    SYNTAX = 1
    UTF8 = 2
    DUPLICATE = 4
    TYPE = 5
    RANGE = 6
    SCALE = 7
    SURROGATE = 8
    KEY = 9
    BEFORE = 11
    COLUMN = 32
    STATEMENT = 33
    EMPTY = 34
    ZONE = 35


NAME_BYTES_MAX = 512
"""Bytes of a column's name; Oracle's own bound is 128."""

_FORMS = {
    "numeric": Form.NUMERIC,
    "interval": Form.INTERVAL,
    "interval_us": Form.INTERVAL_US,
    "timestamptz": Form.ZONED,
}


@dataclass(frozen=True)
class RedoColumn:
    """A table's column as Oracle's statements write it.

    Args:
        column: the column as the table has it.
        name: its name in Oracle, case as in the dictionary; empty: the same name.
        literal: a string column that takes every literal as it is written, functions and all.
        empty_is_unset: EMPTY_CLOB() and EMPTY_BLOB() are no value, for the value follows in LOB rows.
    """

    column: Column
    name: str = ""
    literal: bool = False
    empty_is_unset: bool = False

    @property
    def form(self) -> Form:
        """How its values are read."""
        return Form.LITERAL if self.literal else _FORMS.get(self.column.type.name, Form.PLAIN)

    @property
    def oracle_name(self) -> str:
        """Its name in the statements."""
        return self.name or self.column.name


@dataclass(frozen=True)
class RedoPlan:
    """How the statements of one Oracle table become rows.

    Args:
        table: the table of the rows.
        columns: one entry per table column, in the same order.
        relaxed: read a statement that is not well formed again, as one whose apostrophes were not doubled.
        skip_unknown: pass over columns that the table lacks; else they are the error COLUMN.
        local_is_utc: the mining session's TIME_ZONE is +00:00, so that TO_TIMESTAMP_ITZ without an offset is UTC.
        creates: inserts of a table with a key are Op.INSERT instead of Op.UPSERT.
        images: every update gives its old and its new row, and old rows are whole; for audits, not for targets.
    """

    table: Table
    columns: tuple[RedoColumn, ...]
    relaxed: bool = False
    skip_unknown: bool = False
    local_is_utc: bool = False
    creates: bool = False
    images: bool = False

    @classmethod
    def of(
        cls,
        table: Table,
        *,
        relaxed: bool = False,
        skip_unknown: bool = False,
        local_is_utc: bool = False,
        creates: bool = False,
    ) -> RedoPlan:
        """The plan of a table whose columns are named as in Oracle, each read by its type."""
        columns = tuple(RedoColumn(column) for column in table.columns)
        return cls(table, columns, relaxed, skip_unknown, local_is_utc, creates)

    @cached_property
    def schema(self) -> pa.Schema:
        """The table's columns, __op and __unset."""
        fields = [pa.field(column.name, column.type.arrow) for column in self.table.columns]
        fields.append(pa.field(OP, pa.int8(), nullable=False))
        fields.append(pa.field(UNSET, pa.binary(unset_bytes(self.table)), nullable=False))
        return pa.schema(fields)

    def check(self) -> None:
        """Raise ConfigurationError unless the columns are the table's, one for one, with names of their own of 1 to 512
        bytes, literal only where they are strings."""
        table = self.table.name
        if tuple(column.column for column in self.columns) != self.table.columns or not self.columns:
            raise ConfigurationError(f"table {table}: the plan's columns are not those of the table, in their order")
        names = [column.oracle_name for column in self.columns]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigurationError(f"table {table}: two columns are named {min(twice)!r} in Oracle")
        if wrong := [name for name in names if not 1 <= len(name.encode()) <= NAME_BYTES_MAX]:
            raise ConfigurationError(f"table {table}: expected names of 1..{NAME_BYTES_MAX} bytes, found {wrong[0]!r}")
        for column in self.columns:
            if column.literal and column.column.type.name != "string":
                found = f"{column.oracle_name} is {column.column.type}"
                raise ConfigurationError(f"table {table}: a literal column must be a string, but {found}")


@dataclass(frozen=True)
class RedoError:
    """A statement that gave no row.

    Args:
        row: 0-based input row of its first piece.
        byte_position: 0-based byte in the statement, its pieces joined.
        code: why.
        text: one sentence for a person.
    """

    row: int
    byte_position: int
    code: RedoCode
    text: str


@dataclass(frozen=True)
class Redo:
    """What one call parsed.

    Args:
        record: the table's columns, __op, and __unset only where a bit is set.
        rows: int32, the input row of the first piece of each row's statement: take SCN, transaction and time by it.
        before: whether a row is the one behind `where`: a delete's, or an update's old one.
        unavailable: whether the statement sets a column to a value that it does not say (Unsupported Type, binary
            JSON); the column is unset, and only the database has the value.
        errors: statements that gave no row, in order, one each.
        consumed: input rows done; those behind are the pieces of a statement whose last piece is not there.
    """

    record: pa.RecordBatch
    rows: pa.Int32Array
    before: pa.BooleanArray
    unavailable: pa.BooleanArray
    errors: list[RedoError]
    consumed: int


_REASONS = {
    RedoCode.SYNTAX: "the statement cannot go on like this",
    RedoCode.UTF8: "not valid UTF-8",
    RedoCode.DUPLICATE: "a column stands there for the second time",
    RedoCode.TYPE: "the value is of the wrong kind",
    RedoCode.RANGE: "the value is out of range",
    RedoCode.SCALE: "the value has more fraction digits than the column keeps",
    RedoCode.SURROGATE: "a lone surrogate is no text",
    RedoCode.KEY: "a row, or what stands behind where, lacks a value of the key (supplemental logging)",
    RedoCode.BEFORE: "a table without a key needs all columns of a row (supplemental logging)",
    RedoCode.COLUMN: "the table has no such column",
    RedoCode.STATEMENT: "expected insert, update or delete",
    RedoCode.EMPTY: "expected a statement, found NULL",
    RedoCode.ZONE: "the time needs an offset like +01:00, or must not have one",
}
_SHOWN_BYTES = 40


def describe(code: RedoCode, position: int, statement: bytes, column: RedoColumn | None) -> str:
    """One sentence for a person: where, what was expected, the bytes found."""
    where = "" if column is None else f"column {column.oracle_name} ({column.column.type}): "
    if code in (RedoCode.KEY, RedoCode.BEFORE, RedoCode.EMPTY):
        return f"{where}{_REASONS[code]}"
    found = statement[position : position + _SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return f"{where}{_REASONS[code]}; found {found!r} at byte {position} of {len(statement)}"


def checked_input(statements: pa.RecordBatch) -> pa.RecordBatch:
    """Statements as binary and, where there is a second column, csf as int8. Raises ValueError for other columns."""
    if statements.num_columns not in (1, 2):
        raise ValueError(f"expected the columns statement and perhaps csf, found {statements.schema.names}")
    arrays = [statements.column(0).cast(pa.binary())]
    if statements.num_columns == 2:
        arrays.append(statements.column(1).cast(pa.int8()))
    return pa.RecordBatch.from_arrays(arrays, names=["statement", "csf"][: len(arrays)])


def joined(statements: pa.RecordBatch, row: int) -> bytes:
    """The statement whose first piece is in that row, NULL pieces left out; for messages."""
    pieces = []
    for index in range(row, statements.num_rows):
        pieces.append(statements.column(0)[index].as_py() or b"")
        if statements.num_columns == 1 or not statements.column(1)[index].as_py():
            break
    return b"".join(pieces)

"""What a table is: named columns with exact types, a key, and a fingerprint that tells two shapes apart.

The type's text is the same in pipeline files, error messages and metadata:

    int16 int32 int64 float32 float64 bool string bytes
    decimal(p,s)      1 <= p <= 76, 0 <= s <= p; decimal128 up to 38 digits, decimal256 above
    numeric           unbounded decimal as canonical text ("-1.50", "NaN"); for columns without a precision
    date time timestamp timestamptz    days; microseconds of the day; microseconds since 1970 (wall clock / UTC)
    time_ns timestamp_ns               nanoseconds, where the source keeps more than microseconds
    uuid json xml interval timetz bits text forms, checked by the target
    interval_us       microseconds, one year = 365.25 days (Debezium's numeric intervals)
    array(T)          a PostgreSQL array literal as text, one dimension
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

import pyarrow as pa

from libcore.errors import ConfigurationError

_PLAIN: dict[str, pa.DataType] = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.utf8(),
    "bytes": pa.binary(),
    "numeric": pa.utf8(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "time_ns": pa.time64("ns"),
    "timestamp": pa.timestamp("us"),
    "timestamp_ns": pa.timestamp("ns"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "uuid": pa.utf8(),
    "json": pa.utf8(),
    "xml": pa.utf8(),
    "interval": pa.utf8(),
    "interval_us": pa.int64(),
    "timetz": pa.utf8(),
    "bits": pa.utf8(),
}
_DECIMAL = re.compile(r"decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_ARRAY = re.compile(r"array\(\s*(.+?)\s*\)")


@dataclass(frozen=True, slots=True)
class ColumnType:
    """One exact type. `name` is the plain name, "decimal" or "array"."""

    name: str
    precision: int = 0
    scale: int = 0
    item: ColumnType | None = None

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type that carries it."""
        if self.name == "decimal":
            return (
                pa.decimal128(self.precision, self.scale)
                if self.precision <= 38
                else pa.decimal256(self.precision, self.scale)
            )
        return pa.utf8() if self.name == "array" else _PLAIN[self.name]

    def __str__(self) -> str:
        if self.name == "decimal":
            return f"decimal({self.precision},{self.scale})"
        return f"array({self.item})" if self.name == "array" else self.name


@lru_cache(maxsize=4096)
def parse_type(text: str) -> ColumnType:
    """Read a type's text. Raises ConfigurationError that lists the known names."""
    text = text.strip()
    if text in _PLAIN:
        return ColumnType(text)
    if match := _DECIMAL.fullmatch(text):
        precision, scale = int(match[1]), int(match[2])
        if not (1 <= precision <= 76 and 0 <= scale <= precision):
            raise ConfigurationError(f"type {text}: expected decimal(p,s) with 1 <= p <= 76 and 0 <= s <= p")
        return ColumnType("decimal", precision, scale)
    if match := _ARRAY.fullmatch(text):
        item = parse_type(match[1])
        if item.name == "array":
            raise ConfigurationError(f"type {text}: expected an array of one dimension")
        return ColumnType("array", item=item)
    raise ConfigurationError(f"type {text!r}: expected one of {', '.join(_PLAIN)}, decimal(p,s), array(type)")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; `nullable` is False only where the source says NOT NULL."""

    name: str
    type: ColumnType
    nullable: bool = True


@dataclass(frozen=True)
class Table:
    """A table's name ("schema.table" or a topic), columns in order, and key (empty: a keyless table)."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ConfigurationError(f"table {self.name}: a column name appears twice in {names}")
        if missing := [name for name in self.key if name not in names]:
            raise ConfigurationError(f"table {self.name}: key column {missing[0]!r} is not among the columns {names}")

    @cached_property
    def key_indexes(self) -> tuple[int, ...]:
        """Positions of the key columns, in key order; all columns for a keyless table."""
        names = [column.name for column in self.columns]
        return tuple(names.index(name) for name in self.key) if self.key else tuple(range(len(names)))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over name, columns, types, nullability and key; stable across versions and machines."""
        text = "\n".join([self.name, *(f"{c.name}\t{c.type}\t{c.nullable}" for c in self.columns), "\t".join(self.key)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def column(self, name: str) -> Column:
        """The column of that name. Raises ConfigurationError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise ConfigurationError(f"table {self.name}: no column {name!r}; it has {[c.name for c in self.columns]}")

"""SQLite's declared types as exact types, and stored values into them: what does not fit is told, never changed.

SQLite lets any column hold any class of value. A value passes where its class is one that its type takes and its
content fits exactly; a REAL counts as the shortest decimal text that stands for it (19.99, not 19.989999771118164).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from libcore.decimal import from_text
from libcore.schema import Column, ColumnType, parse_type

Converter = Callable[[list[Any]], pa.Array]
"""Values of allowed classes -> the array. Raises an error of `UNFIT` where one does not fit."""

UNFIT = (ValueError, TypeError, OverflowError, pa.ArrowInvalid, pa.ArrowTypeError)
CLASSES = {int: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB", type(None): "NULL"}
_SIZED = re.compile(r"\s*([a-z_ 0-9]*?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*", re.I)
_NAMES = {
    "tinyint": "int16", "smallint": "int16", "int2": "int16", "uuid": "uuid", "guid": "uuid",
    "uniqueidentifier": "uuid", "json": "json", "jsonb": "json", "xml": "xml", "boolean": "bool", "bool": "bool",
    "date": "date", "time": "time", "datetime": "timestamp", "datetime2": "timestamp", "timestamp": "timestamp",
    "timestamptz": "timestamptz", "timestamp with time zone": "timestamptz", "datetimeoffset": "timestamptz",
    "float4": "float64", "any": "string", "": "string",
}  # fmt: skip
_DECIMALS = ("decimal", "numeric", "number", "dec", "money")
_UNIT_US = {"us": 1, "ms": 1000}


def exact_type(declared: str) -> tuple[ColumnType, str | None]:
    """(the exact type, what is surprising about it or None) of a column's declared type."""
    match = _SIZED.fullmatch(declared)
    name = (match[1] if match else declared).strip().lower()
    if name in _NAMES:
        note = None if name not in ("any", "") else "no declared type: read as text, other values are dead letters"
        return parse_type(_NAMES[name]), note
    if name in _DECIMALS:
        if match is None or match[2] is None:
            return parse_type("numeric"), None
        precision, scale = int(match[2]), int(match[3] or 0)
        if 1 <= precision <= 76 and scale <= precision:
            note = "SQLite keeps decimals as REAL: exact up to 15 digits" if precision > 15 else None
            return parse_type(f"decimal({precision},{scale})"), note
        return parse_type("numeric"), f"{declared}: no exact decimal of this size: read as numeric"
    # SQLite's own rules of affinity, in its order
    if "int" in name:
        return parse_type("int64"), None
    if any(part in name for part in ("char", "clob", "text", "string")):
        return parse_type("string"), None
    if "blob" in name or "binary" in name or name == "bytea":
        return parse_type("bytes"), None
    if any(part in name for part in ("real", "floa", "doub")):
        return parse_type("float64"), None
    return parse_type("string"), f"declared type {declared!r} is not known: read as text, other values are dead letters"


def convert(values: Sequence[Any], column: Column, unit: str | None = None) -> tuple[pa.Array, dict[int, str]]:
    """(the values in the column's type, why by row where one does not fit); such a row's value is NULL.

    Args:
        values: as sqlite3 gives them: int, float, str, bytes, None.
        unit: what an INTEGER in a timestamp column counts since 1970: us, ms; None: an INTEGER is none.
    """
    found = list(values)
    bad: dict[int, str] = {}
    array = _converted(found, 0, column, _converter(column.type, unit), _classes(column.type, unit), bad)
    if not column.nullable:
        bad |= {
            row: f"column {column.name}: expected a value, found NULL" for row, one in enumerate(found) if one is None
        }
    return array, bad


def _converted(
    values: list[Any], first: int, column: Column, converter: Converter, classes: set[type], bad: dict[int, str]
) -> pa.Array:
    """All at once where all fit, else by halves down to the rows that do not."""
    try:
        if set(map(type, values)) <= classes:
            return converter(values)
    except UNFIT:
        pass_on = True  # some value does not fit: the halves tell which
        assert pass_on
    if len(values) == 1:
        bad[first] = f"column {column.name}: expected {column.type}, found {shown(values[0])}"
        return pa.nulls(1, column.type.arrow)
    half = len(values) // 2
    return pa.concat_arrays(
        [
            _converted(values[:half], first, column, converter, classes, bad),
            _converted(values[half:], first + half, column, converter, classes, bad),
        ]
    )


def shown(value: Any) -> str:
    """A stored value for a message: its class, and the beginning of its content."""
    text = value.hex() if isinstance(value, bytes) else repr(value)
    return f"{CLASSES[type(value)]} {text if len(text) <= 60 else text[:57] + '...'}"


def row_text(names: Sequence[str], row: Sequence[Any]) -> str:
    """A row as JSON text: a BLOB as {"blob": hex digits}."""
    values = [{"blob": value.hex()} if isinstance(value, bytes) else value for value in row]
    return json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=True)


def _classes(kind: ColumnType, unit: str | None) -> set[type]:
    none = type(None)
    if kind.name in ("int16", "int32", "int64", "bool", "interval_us"):
        return {int, none}
    if kind.name in ("float32", "float64"):
        return {float, int, none}
    if kind.name in ("decimal", "numeric"):
        return {int, float, str, none}
    if kind.name == "bytes":
        return {bytes, none}
    return {int, none} if unit is not None else {str, none}


def _converter(kind: ColumnType, unit: str | None) -> Converter:
    arrow = kind.arrow
    if kind.name == "bool":
        return _booleans
    if kind.name == "decimal":
        return lambda values: _decimals(values, kind.precision, kind.scale)
    if kind.name == "numeric":
        return _numerics
    if kind.name == "float32":
        return _singles
    if kind.name in ("date", "time", "time_ns", "timestamp", "timestamp_ns", "timestamptz"):
        if unit is not None:
            return lambda values: _counted(values, arrow, unit)
        return lambda values: _clocks(values, arrow)
    return lambda values: pa.array(values, arrow)


def _booleans(values: list[Any]) -> pa.Array:
    if not set(values) <= {0, 1, None}:
        raise ValueError("0 or 1")
    return pa.array([None if value is None else value == 1 for value in values], pa.bool_())


def _singles(values: list[Any]) -> pa.Array:
    doubles = pa.array(values, pa.float64())
    singles = doubles.cast(pa.float32(), safe=False)
    if not singles.cast(pa.float64()).equals(doubles):
        raise ValueError("a single")
    return singles


def _texts(values: list[Any]) -> pa.Array:
    """Numbers as the shortest text that reads back as them."""
    return pa.array([value if value is None or type(value) is str else repr(value) for value in values], pa.utf8())


def _decimals(values: list[Any], precision: int, scale: int) -> pa.Array:
    array, bad = from_text(_texts(values), precision, scale)
    if bad:
        raise ValueError("a decimal")
    return array


def _numerics(values: list[Any]) -> pa.Array:
    from decimal import Decimal, InvalidOperation

    texts: list[str | None] = []
    for value in values:
        if value is None:
            texts.append(None)
            continue
        try:
            number = Decimal(value if type(value) is str else repr(value))
        except InvalidOperation as error:
            raise ValueError("a number") from error
        if not number.is_finite() or abs(number.adjusted()) > 20_000:
            raise ValueError("a finite number")
        text = format(number, "f")
        texts.append(text.removeprefix("-") if number == 0 else text)
    return pa.array(texts, pa.utf8())


def _clocks(values: list[Any], arrow: pa.DataType) -> pa.Array:
    return pa.array(values, pa.utf8()).cast(arrow)


def _counted(values: list[Any], arrow: pa.DataType, unit: str) -> pa.Array:
    if unit == "ns":
        return pa.array(values, pa.int64()).cast(pa.timestamp("ns", tz=getattr(arrow, "tz", None))).cast(arrow)
    factor = _UNIT_US[unit]
    return pa.array([None if value is None else value * factor for value in values], pa.int64()).cast(arrow)

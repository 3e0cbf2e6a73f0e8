"""SQL Server's types as exact types: how each is asked for, and the driver's values as Arrow columns.

What the driver would round or guess at is asked for as text: datetime2(7), which it cuts to microseconds, time,
datetimeoffset, money. A type of which no exact form is known is refused by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.sqlserver.sql import Selected
from libcore.decimal import from_text, to_text
from libcore.schema import Column, ColumnType, parse_type

_STRING = parse_type("string")
_STAMP = "CONVERT({}, ?, 121)"


@dataclass(frozen=True)
class Reading:
    """How a column of the source is read.

    Args:
        type: the exact type that holds every value of it.
        fetched: the type of what the driver brings, before it is made a `type`.
        selected: the column in statements.
        large: unchanged values are left out of an update's row in the change table.
        note: what is surprising about it. refused: why it cannot be read; "" where it can.
    """

    name: str
    type: ColumnType
    fetched: ColumnType
    selected: Selected
    large: bool = False
    note: str = ""
    refused: str = ""


_INTEGERS = {"tinyint": "int16", "smallint": "int16", "int": "int32", "bigint": "int64"}
_LARGE = frozenset({"text", "ntext", "image", "xml"})
# type -> (how it is asked for, exact type, type of a parameter)
_TEXT_FORMS = {
    "uniqueidentifier": ("CONVERT(char(36), {})", "uuid", "CONVERT(uniqueidentifier, ?)"),
    "xml": ("CONVERT(nvarchar(max), {})", "xml", "?"),
    "json": ("CONVERT(nvarchar(max), {})", "json", "?"),
    "hierarchyid": ("CONVERT(nvarchar(4000), {})", "string", "CONVERT(hierarchyid, ?)"),
}
_BYTES_FORMS = {
    "rowversion": "CONVERT(binary(8), {})",
    "timestamp": "CONVERT(binary(8), {})",
    "geometry": "CONVERT(varbinary(max), {})",
    "geography": "CONVERT(varbinary(max), {})",
}


def reading(name: str, kind: str, max_length: int, precision: int, scale: int) -> Reading:
    """How a column is read; the arguments are those of sys.columns and the system's type under an alias."""
    if kind in _INTEGERS:
        return _plain(name, _INTEGERS[kind], kind)
    if kind in ("bit", "real", "float", "date"):
        held_in = {"bit": "bool", "real": "float32", "float": "float64", "date": "date"}[kind]
        return _plain(name, held_in, kind, 23 if kind == "date" else 0)
    if kind in ("decimal", "numeric"):
        return _plain(name, f"decimal({precision},{scale})", f"decimal({precision},{scale})")
    if kind in ("money", "smallmoney"):
        digits = 19 if kind == "money" else 10
        form, exact = f"CONVERT(decimal({digits},4), {{}})", parse_type(f"decimal({digits},4)")
        return Reading(name, exact, exact, Selected(name, form, f"CONVERT({kind}, CONVERT(decimal({digits},4), ?))"))
    if kind in ("char", "varchar", "nchar", "nvarchar", "text", "ntext", "binary", "varbinary", "image"):
        return _lengthy(name, kind, max_length)
    if kind in ("datetime", "smalldatetime", "datetime2", "time", "datetimeoffset"):
        return _moment(name, kind, scale)
    if kind in _TEXT_FORMS:
        form, exact_name, parameter = _TEXT_FORMS[kind]
        return Reading(name, parse_type(exact_name), _STRING, Selected(name, form, parameter), kind in ("xml", "json"))
    if kind in _BYTES_FORMS:
        exact = parse_type("bytes")
        note = f"{kind}: carried as the bytes that SQL Server keeps" if kind.startswith("geo") else ""
        selected = Selected(name, _BYTES_FORMS[kind], "CONVERT(binary(8), ?)")
        return Reading(name, exact, exact, selected, kind.startswith("geo"), note)
    refused = f"type {kind} has no exact form: leave the column out of the table's `columns`"
    return Reading(name, _STRING, _STRING, Selected(name), note=f"{refused}, or it is refused", refused=refused)


def _plain(name: str, exact: str, kind: str, style: int = 0) -> Reading:
    kind_of = parse_type(exact)
    return Reading(name, kind_of, kind_of, Selected(name, "{}", f"CONVERT({kind}, ?{f', {style}' if style else ''})"))


def _lengthy(name: str, kind: str, max_length: int) -> Reading:
    exact = parse_type("bytes" if kind in ("binary", "varbinary", "image") else "string")
    if kind in _LARGE:
        return Reading(name, exact, exact, Selected(name), large=True)
    length = "max" if max_length < 0 else str(max_length // (2 if kind.startswith("n") else 1))
    selected = Selected(name, "{}", f"CONVERT({kind}({length}), ?)")
    return Reading(name, exact, exact, selected, large=max_length < 0)


def _moment(name: str, kind: str, scale: int) -> Reading:
    if kind in ("datetime", "smalldatetime") or (kind == "datetime2" and scale <= 6):
        exact = parse_type("timestamp")
        declared = kind if kind != "datetime2" else f"datetime2({scale})"
        return Reading(name, exact, exact, Selected(name, "{}", _STAMP.format(declared)))
    declared = f"{kind}({scale})"
    note = ""
    if kind == "time":
        exact, width = parse_type("time" if scale <= 6 else "time_ns"), 16
    elif kind == "datetime2":
        exact, width = _STRING, 27
        note = (
            "datetime2(7): text, as no other type holds 100 ns from year 1 to 9999; declare timestamp_ns or timestamp"
        )
    else:
        exact, width = (parse_type("timestamptz"), 34) if scale <= 6 else (_STRING, 34)
        note = "the instant is kept, not the offset; declare string for both"
        if scale > 6:
            note = "datetimeoffset(7): text, as no other type holds 100 ns and the offset; declare timestamptz"
    form = f"CONVERT(varchar({width}), {{}}, 121)"
    return Reading(name, exact, _STRING, Selected(name, form, _STAMP.format(declared)), note=note)


# -- the driver's values as columns

UNFIT = (ValueError, TypeError, OverflowError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)
_INTS = ("int16", "int32", "int64")
_STAMPS = ("timestamp", "timestamp_ns")
_CLOCKS = (*_STAMPS, "timestamptz", "time", "time_ns")
_ALLOWED: dict[str, tuple[str, ...]] = {
    "int16": (*_INTS, "decimal", "numeric", "string"),
    "int32": (*_INTS, "decimal", "numeric", "string"),
    "int64": (*_INTS, "decimal", "numeric", "string"),
    "decimal": ("decimal", "numeric", "string", *_INTS),
    "float32": ("float32", "float64"),
    "date": ("date", *_STAMPS, "string"),
    "timestamp": (*_STAMPS, "date", "string"),
    "string": ("string", "json", "xml", "uuid", "date", "time", "time_ns", *_STAMPS, "timestamptz"),
}


def readable_as(one: Reading, wanted: ColumnType) -> bool:
    """Whether values of the column can be made that type, each exactly or refused."""
    return wanted in (one.type, one.fetched) or wanted.name in _ALLOWED.get(one.fetched.name, ())


def convert(values: Sequence[Any], one: Reading, column: Column) -> tuple[pa.Array, dict[int, str]]:
    """(the values in the column's type, why by row where one does not fit); such a row's value is NULL."""
    bad: dict[int, str] = {}
    return _converted(values, 0, one.fetched, column, bad), bad


def plain(value: Any) -> Any:
    """A key's value as the recovery store keeps it, and as a parameter of `Reading.selected` takes it."""
    if isinstance(value, datetime):
        # a datetime is read from at most three digits
        return value.isoformat(" ", "microseconds" if value.microsecond % 1000 else "milliseconds")
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _converted(values: Sequence[Any], first: int, fetched: ColumnType, column: Column, bad: dict[int, str]) -> pa.Array:
    """All at once where all fit, else by halves down to the rows that do not."""
    try:
        return _cast(pa.array(values, fetched.arrow), fetched, column.type)
    except UNFIT as error:
        if len(values) == 1:
            text = repr(values[0])
            found = text if len(text) <= 80 else text[:77] + "..."
            bad[first] = f"column {column.name}: expected {column.type}, found {found} ({error})"
            return pa.nulls(1, column.type.arrow)
    half = len(values) // 2
    parts = [
        _converted(values[:half], first, fetched, column, bad),
        _converted(values[half:], first + half, fetched, column, bad),
    ]
    return pa.concat_arrays(parts)


def _cast(array: pa.Array, fetched: ColumnType, wanted: ColumnType) -> pa.Array:
    if wanted == fetched:
        return array
    if wanted.name == "uuid":
        return pc.utf8_lower(array)
    if wanted.name in ("numeric", "string") and fetched.name == "decimal":
        return to_text(array)
    if wanted.name == "decimal" and fetched.name in _INTS:
        number, bad = from_text(array.cast(pa.utf8()), wanted.precision, wanted.scale)
        if bad:
            raise ValueError(f"more than {wanted.precision - wanted.scale} digits")
        return number
    if wanted.name == "date" and fetched.name == "timestamp":
        days = array.cast(pa.date32(), safe=False)
        if not days.cast(array.type).equals(array):
            raise ValueError("a time of day")
        return days
    if fetched.name == "string" and wanted.name in _CLOCKS:
        return _clocks(array, wanted)
    return array.cast(wanted.arrow, safe=True)


def _clocks(array: pa.Array, wanted: ColumnType) -> pa.Array:
    """Texts of moments in the forms that Arrow reads; a seventh digit is dropped only where it says nothing."""
    if not wanted.name.endswith("_ns"):
        array = pc.replace_substring_regex(array, r"(\.[0-9]{6})0( |$)", r"\1\2")
    if wanted.name == "timestamptz":
        array = pc.replace_substring_regex(array, r" ([+-][0-9]{2}:[0-9]{2})$", r"\1")
    if wanted.name in ("time", "time_ns"):
        day = pc.binary_join_element_wise(pa.scalar("1970-01-01"), array, " ")
        return day.cast(pa.timestamp(wanted.arrow.unit)).cast(wanted.arrow)
    return array.cast(wanted.arrow)

"""The types of OData (Edm) as exact column types, and their texts in JSON into them: what does not fit is told.

V2 writes decimals, 64-bit integers and floats as texts, dates as /Date(ms)/ and times as PT1H2M3S; V4 writes ISO 8601,
and decimals as texts where it is asked to (IEEE754Compatible). No number ever passes through a float but Edm.Double.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from libcore.sapfmt import read_column
from libcore.sapfmt_types import Kind, SapField
from libcore.schema import Column, ColumnType, parse_type

_WIRES = {
    "Edm.String": ("text", "string"), "Edm.Guid": ("text", "uuid"), "Edm.Decimal": ("number", ""),
    "Edm.Int64": ("int", "int64"), "Edm.Int32": ("int", "int32"), "Edm.Int16": ("int", "int16"),
    "Edm.Byte": ("int", "int16"), "Edm.SByte": ("int", "int16"), "Edm.Boolean": ("bool", "bool"),
    "Edm.Double": ("float", "float64"), "Edm.Single": ("float", "float32"), "Edm.Binary": ("base64", "bytes"),
    "Edm.DateTime": ("ticks", "timestamp"), "Edm.Date": ("date", "date"), "Edm.Time": ("duration", "time"),
    "Edm.TimeOfDay": ("clock", "time"), "Edm.Duration": ("text", "string"),
}  # fmt: skip
_MICROSECONDS = 6


@dataclass(frozen=True)
class Edm:
    """How a property's values are written.

    Args:
        form: text, number, int, bool, float, base64, ticks, date, duration, clock, zoned.
        name: the Edm type, for messages.
    """

    form: str
    name: str


def exact_type(facets: Mapping[str, str], display: str, version: int) -> tuple[Edm, ColumnType | None, str]:
    """(how it is written, the exact type, what is surprising) of a property; no type: it cannot be a column.

    Args:
        facets: the attributes of the EDMX element. display: sap:display-format. version: 2 or 4.
    """
    name = facets.get("Type", "")
    precision = facets.get("Precision", "")
    if name == "Edm.Decimal":
        return Edm("number", name), *_decimal(precision, facets.get("Scale", ""))
    if name == "Edm.DateTime" and display == "Date":
        return Edm("ticks", name), parse_type("date"), ""
    if name == "Edm.DateTimeOffset":
        fine = version == 4 and precision.isdigit() and int(precision) > _MICROSECONDS
        kind = parse_type("timestamp_ns" if fine else "timestamptz")
        note = f"{precision} digits of a second: kept as UTC without a zone, in nanoseconds" if fine else ""
        return Edm("ticks" if version == 2 else "zoned", name), kind, note
    if name == "Edm.TimeOfDay" and precision.isdigit() and int(precision) > _MICROSECONDS:
        return Edm("clock", name), parse_type("time_ns"), ""
    if name not in _WIRES:
        return Edm("", name), None, f"{name or 'no type'}: not carried"
    form, kind_name = _WIRES[name]
    finer = name == "Edm.DateTime" and precision.isdigit() and int(precision) > 3
    note = "the answers are JSON, which has milliseconds here" if finer else ""
    return Edm(form, name), parse_type(kind_name), note


def _decimal(precision: str, scale: str) -> tuple[ColumnType, str]:
    if precision.isdigit() and 1 <= int(precision) <= 76:
        if scale.isdigit() and int(scale) <= int(precision):
            return parse_type(f"decimal({precision},{scale})"), ""
        if not scale:
            return parse_type(f"decimal({precision},0)"), ""
    return parse_type("numeric"), f"Edm.Decimal({precision or '?'},{scale or '?'}): read as numeric"


def convert(values: pa.Array, column: Column, edm: Edm) -> tuple[pa.Array, dict[int, str]]:
    """(the column in its exact type, why by row where a value does not fit: NULL there).

    Args:
        values: texts as JSON has them, or already of the column's type.
    """
    if values.type == column.type.arrow and column.type.name != "numeric":
        return values, {}
    form, kind = edm.form, column.type
    if kind.arrow == pa.utf8() and kind.name != "numeric":
        return values.cast(pa.utf8()), {}
    if form in _KINDS and kind.name in _KINDS[form][1]:
        return _by_libcore(values, column, _KINDS[form][0])
    if form == "ticks" and kind.name == "date":
        return _days(values, column)
    return _by_arrow(values, column, form)


_STAMPS = ("timestamp", "timestamptz", "timestamp_ns")
_KINDS: Mapping[str, tuple[Kind, tuple[str, ...]]] = {
    "number": (Kind.NUMBER, ("decimal", "numeric")),
    "int": (Kind.INT8, ("int16", "int32", "int64")),
    "float": (Kind.FLTP, ("float64",)),
    "base64": (Kind.BASE64, ("bytes",)),
    "ticks": (Kind.ODATA_DATE, _STAMPS),
    "duration": (Kind.ODATA_TIME, ("time", "time_ns")),
}


def _by_libcore(values: pa.Array, column: Column, kind: Kind) -> tuple[pa.Array, dict[int, str]]:
    array, errors = read_column(values, SapField(column.name, kind, column.type))
    bad = {error.row: error.text for error in errors}
    # blank texts are ABAP's NULL there; in JSON, NULL is null, and a blank is no number
    blank = pc.and_(pc.is_valid(values), pc.is_null(array))
    for row in pc.indices_nonzero(blank.fill_null(False)).to_pylist():
        bad.setdefault(row, _unfit(column, values[row].as_py()))
    return array, bad


def _days(values: pa.Array, column: Column) -> tuple[pa.Array, dict[int, str]]:
    """Dates that are written as the first moment of a day."""
    stamps, bad = _by_libcore(values, Column(column.name, parse_type("timestamp")), Kind.ODATA_DATE)
    days = stamps.cast(pa.date32(), safe=False)
    off = pc.not_equal(days.cast(pa.timestamp("us")), stamps)
    for row in pc.indices_nonzero(off.fill_null(False)).to_pylist():
        bad.setdefault(row, _unfit(column, values[row].as_py()))
    return days, bad


def _by_arrow(values: pa.Array, column: Column, form: str) -> tuple[pa.Array, dict[int, str]]:
    """Casts of ISO 8601 texts, booleans, singles: all at once, else by halves down to the values that do not fit."""
    try:
        return _cast(values, column.type, form), {}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        if len(values) == 1:
            return pa.nulls(1, column.type.arrow), {0: _unfit(column, values[0].as_py())}
    half = len(values) // 2
    first, bad = _by_arrow(values.slice(0, half), column, form)
    second, more = _by_arrow(values.slice(half), column, form)
    return pa.concat_arrays([first, second]), bad | {row + half: text for row, text in more.items()}


def _cast(values: pa.Array, kind: ColumnType, form: str) -> pa.Array:
    if form == "zoned":
        # Arrow reads "...Z" and "+01:00" as UTC; a text without a zone is refused
        unit = "ns" if kind.name == "timestamp_ns" else "us"
        stamps = values.cast(pa.timestamp(unit, tz="UTC"))
        return stamps.cast(kind.arrow) if kind.name in _STAMPS else values.cast(kind.arrow)
    if form == "clock":
        # Arrow has no cast from a text to a time of day, but one from a moment
        unit = "ns" if kind.name == "time_ns" else "us"
        return pc.binary_join_element_wise("1970-01-01T", values, "").cast(pa.timestamp(unit)).cast(kind.arrow)
    array = values.cast(kind.arrow)
    if kind.name == "float32" and not pc.all(pc.is_finite(array)).as_py():
        raise ValueError("a single")
    return array


def _unfit(column: Column, value: object) -> str:
    shown = repr(value)
    return f"column {column.name}: expected {column.type}, found {shown if len(shown) <= 60 else shown[:57] + '...'}"

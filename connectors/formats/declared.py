"""Columns declared in the pipeline file -> how they stand on the wire, alone or checked against a schema part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from connectors.formats.connect_schema import DECIMAL, decimal_precision, wire_column
from libcore.decode_types import Encoding, WireColumn
from libcore.errors import ConfigurationError
from libcore.schema import Column, ColumnType, parse_type

UNITS = ("us", "ms", "ns")
_OPTIONS = ("type", "nullable", "unit", "encoding", "scale", "length")
_TEXT_TYPES = ("string", "uuid", "json", "xml", "interval", "timetz")
_INT_BITS = {"int16": 16, "int32": 32, "int64": 64}

# What a type takes without an `encoding`; then by `encoding`.
_DEFAULT = {
    "int16": Encoding.INT, "int32": Encoding.INT, "int64": Encoding.INT, "interval_us": Encoding.INT,
    "float32": Encoding.FLOAT, "float64": Encoding.FLOAT, "bool": Encoding.BOOL, "string": Encoding.STRING,
    "bytes": Encoding.BASE64, "decimal": Encoding.DECIMAL_TEXT, "numeric": Encoding.NUMERIC_TEXT,
    "date": Encoding.DATE_DAYS, "time": Encoding.TIME_US, "time_ns": Encoding.TIME_NS,
    "timestamp": Encoding.TIMESTAMP_US, "timestamp_ns": Encoding.TIMESTAMP_NS,
    "timestamptz": Encoding.ZONED_TIMESTAMP, "uuid": Encoding.STRING, "json": Encoding.RAW_JSON,
    "xml": Encoding.STRING, "interval": Encoding.STRING, "timetz": Encoding.STRING, "bits": Encoding.BITS,
    "array": Encoding.ARRAY,
}  # fmt: skip
_BY_ENCODING = {
    ("decimal", "text"): Encoding.DECIMAL_TEXT, ("decimal", "base64"): Encoding.DECIMAL_BASE64,
    ("decimal", "struct"): Encoding.DECIMAL_STRUCT, ("numeric", "text"): Encoding.NUMERIC_TEXT,
    ("numeric", "struct"): Encoding.NUMERIC_STRUCT, ("date", "days"): Encoding.DATE_DAYS,
    ("date", "iso"): Encoding.ISO_DATE, ("time", "iso"): Encoding.ISO_TIME,
    ("timestamp", "iso"): Encoding.ISO_TIMESTAMP, ("timestamptz", "iso"): Encoding.ZONED_TIMESTAMP,
    ("json", "raw"): Encoding.RAW_JSON, ("json", "text"): Encoding.STRING, ("string", "raw"): Encoding.RAW_JSON,
    ("bytes", "base64"): Encoding.BASE64,
}  # fmt: skip
_BY_UNIT = {
    ("time", "ms"): Encoding.TIME_MS, ("time", "us"): Encoding.TIME_US, ("time_ns", "ns"): Encoding.TIME_NS,
    ("timestamp", "ms"): Encoding.TIMESTAMP_MS, ("timestamp", "us"): Encoding.TIMESTAMP_US,
    ("timestamp", "ns"): Encoding.TIMESTAMP_NS, ("timestamp_ns", "ns"): Encoding.TIMESTAMP_NS,
    ("timestamptz", "ms"): Encoding.TIMESTAMP_MS, ("timestamptz", "us"): Encoding.TIMESTAMP_US,
}  # fmt: skip

# Which wire encodings (of a schema part) fill a declared type as they are.
_FILLS: dict[str, frozenset[Encoding]] = {
    "bool": frozenset({Encoding.BOOL}),
    "bytes": frozenset({Encoding.BASE64, Encoding.BITS}),
    "bits": frozenset({Encoding.BITS}),
    "date": frozenset({Encoding.DATE_DAYS, Encoding.ISO_DATE}),
    "time": frozenset({Encoding.TIME_MS, Encoding.TIME_US, Encoding.ISO_TIME}),
    "time_ns": frozenset({Encoding.TIME_NS}),
    "timestamp": frozenset(
        {Encoding.TIMESTAMP_MS, Encoding.TIMESTAMP_US, Encoding.TIMESTAMP_NS, Encoding.ISO_TIMESTAMP}
    ),
    "timestamp_ns": frozenset({Encoding.TIMESTAMP_NS}),
    "timestamptz": frozenset({Encoding.TIMESTAMP_MS, Encoding.TIMESTAMP_US, Encoding.ZONED_TIMESTAMP}),
}
_AS_TEXT = frozenset(
    {Encoding.STRING, Encoding.ZONED_TIMESTAMP, Encoding.ISO_DATE, Encoding.ISO_TIME, Encoding.ISO_TIMESTAMP}
)
_EXACT_NUMBERS = frozenset({Encoding.INT, Encoding.FLOAT, Encoding.STRING, Encoding.DECIMAL_TEXT})


@dataclass(frozen=True)
class DeclaredColumn:
    """A column as the pipeline file has it.

    Args:
        name: the field's name in the message.
        type: its exact type.
        nullable: False where NULL is refused by the target.
        unit: time and timestamp: what the integer counts, "us" (default), "ms" or "ns".
        encoding: how the value is written where the type alone does not say it: "base64" (decimal in precise mode,
            with `scale`), "struct" (scale and value), "iso", "raw" (JSON text as it stands).
        scale: base64 decimals: the scale of the integer; the type's own by default.
        length: bits: how many.
    """

    name: str
    type: ColumnType
    nullable: bool = True
    unit: str | None = None
    encoding: str | None = None
    scale: int | None = None
    length: int | None = None


def declared_column(name: str, given: str | Mapping[str, Any]) -> DeclaredColumn:
    """Read a declaration: a type's text, or a table {type, nullable, unit, encoding, scale, length}.

    Raises: ConfigurationError with expected and found; also for an option that does not go with the type.
    """
    options: Mapping[str, Any] = {"type": given} if isinstance(given, str) else given
    if unknown := [option for option in options if option not in _OPTIONS]:
        raise ConfigurationError(f"column {name}: expected options of {', '.join(_OPTIONS)}, found {unknown[0]!r}")
    if not isinstance(options.get("type"), str):
        raise ConfigurationError(f"column {name}: expected a type, found {options.get('type')!r}")
    column = DeclaredColumn(
        name, parse_type(options["type"]), **{key: value for key, value in options.items() if key != "type"}
    )
    wire(column)
    return column


def wire(declared: DeclaredColumn) -> WireColumn:
    """The encoding chosen from the declaration alone. Raises ConfigurationError."""
    column, kind = Column(declared.name, declared.type, declared.nullable), declared.type.name
    if kind == "array":
        assert declared.type.item is not None
        item = wire(replace(declared, name="item", type=declared.type.item, nullable=True))
        return WireColumn(column, Encoding.ARRAY, item=item)
    encoding = _DEFAULT[kind]
    if declared.unit is not None:
        if (kind, declared.unit) not in _BY_UNIT:
            expected = [unit for known, unit in _BY_UNIT if known == kind] or ["none"]
            raise ConfigurationError(
                f"column {declared.name}: {kind} takes unit {', '.join(expected)}, found {declared.unit!r}"
            )
        encoding = _BY_UNIT[kind, declared.unit]
    elif declared.encoding is not None:
        if (kind, declared.encoding) not in _BY_ENCODING:
            expected = [name for known, name in _BY_ENCODING if known == kind] or ["none"]
            raise ConfigurationError(
                f"column {declared.name}: {kind} takes encoding {', '.join(expected)}, found {declared.encoding!r}"
            )
        encoding = _BY_ENCODING[kind, declared.encoding]
    if encoding is Encoding.BITS and not declared.length:
        raise ConfigurationError(f"column {declared.name}: expected length, the number of bits")
    wire_scale = 0
    if encoding is Encoding.DECIMAL_BASE64:
        wire_scale = declared.type.scale if declared.scale is None else declared.scale
    return WireColumn(column, encoding, wire_scale=wire_scale, bit_length=declared.length or 0)


def fitted(declared: DeclaredColumn, field: Mapping[str, Any], decimals_as_numbers: bool) -> WireColumn:
    """The encoding that fills the declared type from what the schema part announces.

    An explicit unit or encoding of the declaration wins. Raises ConfigurationError naming column, both types and why.
    """
    if declared.unit is not None or declared.encoding is not None:
        return wire(declared)
    found = wire_column(declared.name, field, decimals_as_numbers)
    column = Column(declared.name, declared.type, declared.nullable)
    if found.column.type == declared.type:
        return replace(found, column=column)
    fit = _fit(declared, found, field, decimals_as_numbers)
    if fit is None:
        raise ConfigurationError(
            f"column {declared.name}: declared {declared.type}, but the schema part has {found.column.type} "
            f"(Connect {field.get('name') or field['type']}), which does not fit into it"
        )
    return replace(fit, column=column)


def _fit(declared: DeclaredColumn, found: WireColumn, field: Mapping[str, Any], as_numbers: bool) -> WireColumn | None:
    kind, from_type, encoding = declared.type.name, found.column.type, found.encoding
    if kind in _INT_BITS or kind == "interval_us":
        fits = encoding is Encoding.INT and _INT_BITS.get(from_type.name, 64) <= _INT_BITS.get(kind, 64)
        return found if fits else None
    if kind in ("float32", "float64"):
        return found if encoding is Encoding.FLOAT and kind == "float64" else None
    if kind == "decimal":
        return _fit_decimal(declared.type, found, field)
    if kind == "numeric":
        return replace(found, encoding=Encoding.NUMERIC_TEXT) if encoding in _EXACT_NUMBERS else None
    if kind in _TEXT_TYPES:
        if encoding is Encoding.RAW_JSON:
            return found if kind in ("json", "string") else None
        return replace(found, encoding=Encoding.STRING) if encoding in _AS_TEXT else None
    if kind == "array":
        if encoding is not Encoding.ARRAY or declared.type.item is None:
            return None
        item = DeclaredColumn("item", declared.type.item)
        return replace(found, item=fitted(item, field["items"], as_numbers))
    if encoding in _FILLS[kind]:
        return replace(found, encoding=Encoding.BASE64) if kind == "bytes" else found
    return None


def _fit_decimal(wanted: ColumnType, found: WireColumn, field: Mapping[str, Any]) -> WireColumn | None:
    if found.encoding is Encoding.NUMERIC_STRUCT:
        return replace(found, encoding=Encoding.DECIMAL_STRUCT)
    if field.get("name") == DECIMAL:
        has = found.column.type
        # without a promised precision (money) only the values can tell
        digits = 0 if decimal_precision(field) is None else has.precision - has.scale
        return found if has.scale <= wanted.scale and digits <= wanted.precision - wanted.scale else None
    return replace(found, encoding=Encoding.DECIMAL_TEXT) if found.encoding in _EXACT_NUMBERS else None

"""A Connect JSON schema part -> exactly typed columns and how their values stand on the wire.

Sources: Kafka Connect's org.apache.kafka.connect.data (Decimal, Date, Time, Timestamp), Debezium's io.debezium.time and
io.debezium.data; JSON forms as JsonConverter writes them. A type that no exact column type fits is kept as JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from libcore.decode_types import Encoding, WireColumn
from libcore.errors import ConfigurationError
from libcore.schema import Column, ColumnType, parse_type

DIGITS_MAX = 76
UNKNOWN_PRECISION = 38
"""Digits given to a Decimal whose schema names none (PostgreSQL money needs 19)."""
BITS_MAX = 1 << 20
"""bit varying without a length announces 2^31-1 bits; above this bound the bytes are kept instead of the text."""

_PLAIN: dict[str, tuple[str, Encoding]] = {
    "int8": ("int16", Encoding.INT),
    "int16": ("int16", Encoding.INT),
    "int32": ("int32", Encoding.INT),
    "int64": ("int64", Encoding.INT),
    "float": ("float32", Encoding.FLOAT),
    "float32": ("float32", Encoding.FLOAT),
    "double": ("float64", Encoding.FLOAT),
    "float64": ("float64", Encoding.FLOAT),
    "boolean": ("bool", Encoding.BOOL),
    "string": ("string", Encoding.STRING),
    "bytes": ("bytes", Encoding.BASE64),
    "struct": ("json", Encoding.RAW_JSON),
    "map": ("json", Encoding.RAW_JSON),
}
_TIME, _DATA, _CONNECT = "io.debezium.time.", "io.debezium.data.", "org.apache.kafka.connect.data."
AVRO_TIMESTAMPS = "avro."
"""In front of Avro's own timestamps, which are moments, and not Connect's or Debezium's wall clocks."""
_LOGICAL: dict[str, tuple[str, Encoding]] = {
    _TIME + "Date": ("date", Encoding.DATE_DAYS),
    _TIME + "Time": ("time", Encoding.TIME_MS),
    _TIME + "MicroTime": ("time", Encoding.TIME_US),
    _TIME + "NanoTime": ("time_ns", Encoding.TIME_NS),
    _TIME + "Timestamp": ("timestamp", Encoding.TIMESTAMP_MS),
    _TIME + "MicroTimestamp": ("timestamp", Encoding.TIMESTAMP_US),
    _TIME + "NanoTimestamp": ("timestamp_ns", Encoding.TIMESTAMP_NS),
    _TIME + "ZonedTimestamp": ("timestamptz", Encoding.ZONED_TIMESTAMP),
    _TIME + "ZonedTime": ("timetz", Encoding.STRING),
    _TIME + "MicroDuration": ("interval_us", Encoding.INT),
    _TIME + "Interval": ("interval", Encoding.STRING),
    _TIME + "IsoDate": ("date", Encoding.ISO_DATE),
    _TIME + "IsoTime": ("time", Encoding.ISO_TIME),
    _TIME + "IsoTimestamp": ("timestamp", Encoding.ISO_TIMESTAMP),
    _CONNECT + "Date": ("date", Encoding.DATE_DAYS),
    _CONNECT + "Time": ("time", Encoding.TIME_MS),
    _CONNECT + "Timestamp": ("timestamp", Encoding.TIMESTAMP_MS),
    AVRO_TIMESTAMPS + "timestamp-millis": ("timestamptz", Encoding.TIMESTAMP_MS),
    AVRO_TIMESTAMPS + "timestamp-micros": ("timestamptz", Encoding.TIMESTAMP_US),
    _DATA + "VariableScaleDecimal": ("numeric", Encoding.NUMERIC_STRUCT),
    _DATA + "Json": ("json", Encoding.STRING),
    _DATA + "Xml": ("xml", Encoding.STRING),
    _DATA + "Uuid": ("uuid", Encoding.STRING),
    # [1,2,3] is the literal of pgvector's types; an array literal {1,2,3} is not
    _DATA + "DoubleVector": ("json", Encoding.RAW_JSON),
    _DATA + "FloatVector": ("json", Encoding.RAW_JSON),
}
DECIMAL = _CONNECT + "Decimal"
BITS = _DATA + "Bits"


def row_fields(schema: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]] | None:
    """The fields of the row in an envelope's schema, or None: it is not the schema of a change of a row."""
    for wanted in ("after", "before"):
        for field in (schema or {}).get("fields") or ():
            if field.get("field") == wanted and field.get("type") == "struct":
                fields: Sequence[Mapping[str, Any]] = field["fields"]
                return fields
    return None


def key_names(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The key's field names. Raises ConfigurationError where the key is not a struct."""
    if schema.get("type") != "struct":
        raise ConfigurationError(
            f"expected a key with named fields, found type {schema.get('type')}: name the key in the pipeline file"
        )
    return tuple(field["field"] for field in schema["fields"])


def wire_columns(fields: Sequence[Mapping[str, Any]], *, decimals_as_numbers: bool = False) -> tuple[WireColumn, ...]:
    """One typed column per schema field, in their order.

    Args:
        fields: the row struct's fields.
        decimals_as_numbers: Decimal comes as JSON numbers (decimal.format=NUMERIC); the schema is the same.
    Raises: ConfigurationError naming a field that no type fits.
    """
    return tuple(wire_column(str(field["field"]), field, decimals_as_numbers) for field in fields)


def wire_column(name: str, field: Mapping[str, Any], decimals_as_numbers: bool = False) -> WireColumn:
    """The typed column of one schema field. A logical name that is not known counts as its plain type."""
    nullable, logical, base = bool(field.get("optional", False)), field.get("name"), field["type"]
    if logical == DECIMAL:
        return _decimal(name, field, nullable, decimals_as_numbers)
    if logical == BITS:
        length = int((field.get("parameters") or {}).get("length", 0))
        if 0 < length <= BITS_MAX:
            return WireColumn(Column(name, parse_type("bits"), nullable), Encoding.BITS, bit_length=length)
        return _column(name, "bytes", Encoding.BASE64, nullable)
    if logical in _LOGICAL:
        return _column(name, *_LOGICAL[logical], nullable)
    if base == "array":
        item = wire_column("item", field["items"], decimals_as_numbers)
        if item.encoding in (Encoding.ARRAY, Encoding.RAW_JSON):
            return _column(name, "json", Encoding.RAW_JSON, nullable)
        return WireColumn(Column(name, ColumnType("array", item=item.column.type), nullable), Encoding.ARRAY, item=item)
    if base not in _PLAIN:
        raise ConfigurationError(f"column {name}: expected a Connect type, found {base!r}")
    return _column(name, *_PLAIN[base], nullable)


def decimal_precision(field: Mapping[str, Any]) -> int | None:
    """The digits that a Decimal's schema promises, None where it says nothing."""
    text = (field.get("parameters") or {}).get("connect.decimal.precision")
    return None if text is None else int(text)


def _decimal(name: str, field: Mapping[str, Any], nullable: bool, as_numbers: bool) -> WireColumn:
    wire_scale = int((field.get("parameters") or {}).get("scale", 0))
    scale = max(0, wire_scale)
    # A negative scale stands for zeros before the point: Oracle NUMBER(10,-2) has up to 12 digits.
    precision = decimal_precision(field)
    digits = max(UNKNOWN_PRECISION, scale) if precision is None else precision + max(0, -wire_scale)
    if scale > DIGITS_MAX:
        raise ConfigurationError(f"column {name}: expected at most {DIGITS_MAX} digits after the point, found {scale}")
    column = Column(name, ColumnType("decimal", min(max(digits, scale, 1), DIGITS_MAX), scale), nullable)
    if as_numbers:
        return WireColumn(column, Encoding.DECIMAL_TEXT)
    return WireColumn(column, Encoding.DECIMAL_BASE64, wire_scale=wire_scale)


def _column(name: str, type_text: str, encoding: Encoding, nullable: bool) -> WireColumn:
    return WireColumn(Column(name, parse_type(type_text), nullable), encoding)

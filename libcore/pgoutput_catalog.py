"""PostgreSQL's types by their numbers in the catalog: what each is in the messages, and as an exact column type."""

from __future__ import annotations

from collections.abc import Mapping

from libcore.pgoutput_types import Kind
from libcore.schema import ColumnType, parse_type

# oid, name in pg_type, oid of its array, kind, type (src/include/catalog/pg_type.dat)
_TYPES: tuple[tuple[int, str, int, Kind, str], ...] = (
    (16, "bool", 1000, Kind.BOOL, "bool"), (17, "bytea", 1001, Kind.BYTEA, "bytes"),
    (18, "char", 1002, Kind.TEXT, "string"), (19, "name", 1003, Kind.TEXT, "string"),
    (20, "int8", 1016, Kind.INT, "int64"), (21, "int2", 1005, Kind.INT, "int16"),
    (23, "int4", 1007, Kind.INT, "int32"), (25, "text", 1009, Kind.TEXT, "string"),
    (26, "oid", 1028, Kind.OID, "int64"), (114, "json", 199, Kind.TEXT, "json"), (142, "xml", 143, Kind.TEXT, "xml"),
    (700, "float4", 1021, Kind.FLOAT, "float32"), (701, "float8", 1022, Kind.FLOAT, "float64"),
    (1042, "bpchar", 1014, Kind.TEXT, "string"), (1043, "varchar", 1015, Kind.TEXT, "string"),
    (1082, "date", 1182, Kind.DATE, "date"), (1083, "time", 1183, Kind.TIME, "time"),
    (1114, "timestamp", 1115, Kind.TIMESTAMP, "timestamp"),
    (1184, "timestamptz", 1185, Kind.TIMESTAMPTZ, "timestamptz"), (1186, "interval", 1187, Kind.INTERVAL, "interval"),
    (1266, "timetz", 1270, Kind.TIMETZ, "timetz"), (1560, "bit", 1561, Kind.BITS, "bits"),
    (1562, "varbit", 1563, Kind.BITS, "bits"), (1700, "numeric", 1231, Kind.NUMERIC, "numeric"),
    (2950, "uuid", 2951, Kind.UUID, "uuid"), (3802, "jsonb", 3807, Kind.JSONB, "json"),
)  # fmt: skip
_BY_OID = {oid: (kind, parse_type(text)) for oid, _, _, kind, text in _TYPES}
_OID_OF = {name: oid for oid, name, *_ in _TYPES}
_ITEM_OF = {array: oid for oid, _, array, *_ in _TYPES}
_ANY = parse_type("string")


def source_type(type_oid: int, typmod: int, named: Mapping[int, str]) -> tuple[Kind, ColumnType]:
    """What a column is, by the number of its type.

    Args:
        typmod: the type's modifier: precision and scale of numeric; -1: none.
        named: names of pg_catalog by oid, for domains (their Y message names the base type).
    Returns: its kind and exact type; a type that is not known here is text.
    """
    type_oid = _OID_OF.get(named.get(type_oid, ""), type_oid)
    if type_oid in _ITEM_OF:
        _, item = source_type(_ITEM_OF[type_oid], typmod, {})
        return Kind.OTHER, ColumnType("array", item=item)
    kind, column_type = _BY_OID.get(type_oid, (Kind.OTHER, _ANY))
    if kind is Kind.NUMERIC and typmod >= 4:
        column_type = _decimal(typmod - 4)
    return kind, column_type


def _decimal(modifier: int) -> ColumnType:
    """numeric(p,s): a negative scale rounds in front of the point, one above p has zeros behind it."""
    precision, scale = modifier >> 16 & 0xFFFF, (modifier & 0x7FF ^ 0x400) - 0x400
    precision, scale = (precision - scale, 0) if scale < 0 else (max(precision, scale), scale)
    return ColumnType("decimal", precision, scale) if precision <= 76 else parse_type("numeric")

"""Oracle's types: the exact type of a column, how a query asks for it, and its texts made into exact values.

What the driver hands over exactly as Arrow (numbers with a precision, texts, bytes) is asked for as it stands. All else
comes as text and goes through the parser of redo statements, so that a row of the snapshot and a change of it can
never differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from connectors.oracle import sql
from libcore.errors import ConfigurationError
from libcore.redo import RedoColumn, RedoPlan, parse_redo
from libcore.schema import Column, ColumnType, Table, parse_type

_TIMESTAMP = re.compile(r"TIMESTAMP\((\d)\)(?P<zone> WITH TIME ZONE| WITH LOCAL TIME ZONE)?")
_INTERVAL = re.compile(r"INTERVAL (YEAR|DAY)\b.*")
_PLAIN = {
    "BINARY_FLOAT": "float32", "BINARY_DOUBLE": "float64", "FLOAT": "numeric", "DATE": "timestamp", "RAW": "bytes",
    "CHAR": "string", "NCHAR": "string", "VARCHAR2": "string", "NVARCHAR2": "string", "CLOB": "string",
    "NCLOB": "string", "BLOB": "bytes", "ROWID": "string", "UROWID": "string", "XMLTYPE": "xml", "JSON": "json",
    "BOOLEAN": "bool",
}  # fmt: skip
_LARGE = frozenset({"CLOB", "NCLOB", "BLOB", "XMLTYPE", "JSON"})
_DIGITS_MAX = 76


@dataclass(frozen=True)
class OracleColumn:
    """A column as the dictionary has it.

    Args:
        data_type: such as NUMBER, "TIMESTAMP(6) WITH TIME ZONE"; precision, scale: of a NUMBER, None where not given.
        length: its bytes.
        place: where it stands in a row's segment, from 1; None: nowhere.
    """

    name: str
    data_type: str
    precision: int | None
    scale: int | None
    length: int
    nullable: bool
    place: int | None

    @cached_property
    def type(self) -> ColumnType | None:
        """Its exact type; None: there is none."""
        if self.data_type == "NUMBER":
            return _number(self.precision, self.scale)
        if match := _TIMESTAMP.fullmatch(self.data_type):
            name = "timestamptz" if match["zone"] else "timestamp"
            return parse_type(name + ("_ns" if int(match[1]) > 6 and not match["zone"] else ""))
        if _INTERVAL.fullmatch(self.data_type):
            return parse_type("interval")
        name = _PLAIN.get(self.data_type, "")
        return parse_type(name) if name else None

    @property
    def note(self) -> str:
        """What a person should know of it; "" where nothing."""
        if self.type is None:
            return f"{self.data_type} has no exact type here: the column is left out"
        match = _TIMESTAMP.fullmatch(self.data_type)
        if match and match["zone"]:
            digits = "; a value with digits below a microsecond is refused" if int(match[1]) > 6 else ""
            return f"{self.data_type} is kept as an instant, without its zone{digits}"
        return ""

    @property
    def is_large(self) -> bool:
        """Whether its values are written beside the row, and statements may lack them."""
        return self.data_type in _LARGE or (self.data_type in ("VARCHAR2", "NVARCHAR2", "RAW") and self.length > 4000)

    @property
    def declared(self) -> str:
        """Its type as a CREATE TABLE has it, for columns of a key."""
        if self.data_type in ("CHAR", "VARCHAR2", "RAW"):
            unit = "" if self.data_type == "RAW" else " BYTE"
            return f"{self.data_type}({self.length}{unit})"
        if self.data_type in ("NCHAR", "NVARCHAR2"):
            return f"{self.data_type}({self.length // 2})"
        if self.data_type != "NUMBER" or self.precision is None:
            return self.data_type
        return f"NUMBER({self.precision},{self.scale or 0})"

    @property
    def key_forms(self) -> tuple[str, str] | None:
        """(how its text is asked for, how that text goes back) in a key; None: chunks cannot be ordered by it."""
        column = sql.quote(self.name)
        if self.data_type in ("NUMBER", "FLOAT"):
            return sql.NUMBER.format(column=column), sql.KEY_NUMBER
        if self.data_type in ("CHAR", "VARCHAR2", "NCHAR", "NVARCHAR2"):
            return sql.PLAIN.format(column=column), sql.KEY_PLAIN
        if self.data_type == "DATE":
            return sql.DATE.format(column=column), sql.KEY_DATE
        if self.data_type.startswith("TIMESTAMP") and "ZONE" not in self.data_type:
            return sql.TIMESTAMP.format(column=column), sql.KEY_TIMESTAMP
        return (sql.RAW.format(column=column), sql.KEY_RAW) if self.data_type == "RAW" else None


def _number(precision: int | None, scale: int | None) -> ColumnType:
    """NUMBER(p, s): the least type that holds each of its values exactly."""
    if precision is None and scale is None:
        return parse_type("numeric")
    digits, fraction = (38 if precision is None else precision), scale or 0
    if fraction < 0:
        digits, fraction = digits - fraction, 0
    digits = max(digits, fraction)
    if digits > _DIGITS_MAX:
        return parse_type("numeric")
    if fraction == 0 and digits <= 18:
        return parse_type("int16" if digits <= 4 else "int32" if digits <= 9 else "int64")
    return parse_type(f"decimal({digits},{fraction})")


@dataclass(frozen=True)
class Reading:
    """How a query brings a column.

    Args:
        expression: what it asks for.
        arrow: as which type.
        literal: (before, behind) the text in a redo statement that has the value; None: it is the value already.
    """

    expression: str
    arrow: pa.DataType
    literal: tuple[str, str] | None = None


_NUMBERS = ("int16", "int32", "int64", "decimal", "numeric", "float32", "float64", "bool", "string")
_FITTING = {
    "NUMBER": _NUMBERS, "FLOAT": _NUMBERS, "BINARY_FLOAT": ("float32", "float64"), "BINARY_DOUBLE": ("float64",),
    "DATE": ("date", "timestamp", "timestamp_ns"), "RAW": ("bytes",), "BLOB": ("bytes",), "BOOLEAN": ("bool",),
    "XMLTYPE": ("xml", "string"), "JSON": ("json", "string"), "ROWID": ("string",), "UROWID": ("string",),
}  # fmt: skip
_TEXTS = ("string", "json", "xml", "uuid", *_NUMBERS[:-1], "date", "timestamp", "timestamp_ns")


def check_fits(column: OracleColumn, wanted: ColumnType, table: str) -> None:
    """Raise ConfigurationError where no value of the column could become one of that type."""
    kind = column.data_type
    if kind.startswith("TIMESTAMP"):
        fitting: tuple[str, ...] = ("timestamptz",) if "ZONE" in kind else ("date", "timestamp", "timestamp_ns")
    elif kind.startswith("INTERVAL"):
        fitting = ("interval", "interval_us")
    else:
        fitting = _FITTING.get(kind, _TEXTS)
    if wanted.name not in fitting:
        expected = ", ".join(fitting)
        raise ConfigurationError(
            f"source.oracle: table {table}: column {column.name} is {kind}: expected {expected}, found {wanted}"
        )


def parsed_as(column: OracleColumn, wanted: Column) -> Column:
    """The column as the parser is to read it: a number that is wanted as text comes in one way of writing it."""
    if column.data_type in ("NUMBER", "FLOAT") and wanted.type.name == "string":
        return replace(wanted, type=parse_type("numeric"))
    return wanted


def reading(column: OracleColumn, wanted: ColumnType) -> Reading:
    """How the column comes for a pipeline that wants that type."""
    name, kind = sql.quote(column.name), column.data_type
    plain = sql.PLAIN.format(column=name)
    if wanted == column.type and _as_it_stands(kind, wanted):
        return Reading(plain, wanted.arrow)
    if kind in ("NUMBER", "FLOAT"):
        return Reading(sql.NUMBER.format(column=name), pa.utf8(), ("'", "'"))
    if kind == "DATE":
        return Reading(sql.DATE.format(column=name), pa.utf8(), ("TO_DATE('", "')"))
    if kind.startswith("TIMESTAMP"):
        if kind.endswith("TIME ZONE"):
            return Reading(sql.ZONED.format(column=name), pa.utf8(), ("TO_TIMESTAMP_TZ('", " +00:00')"))
        return Reading(sql.TIMESTAMP.format(column=name), pa.utf8(), ("TO_TIMESTAMP('", "')"))
    if match := _INTERVAL.fullmatch(kind):
        function = "TO_YMINTERVAL" if match[1] == "YEAR" else "TO_DSINTERVAL"
        return Reading(sql.INTERVAL.format(column=name), pa.utf8(), (f"{function}('", "')"))
    text = {"ROWID": sql.ROWID, "UROWID": sql.UROWID, "XMLTYPE": sql.XML, "JSON": sql.JSON}.get(kind, sql.PLAIN)
    if wanted.name in ("string", "xml", "json"):
        return Reading(text.format(column=name), pa.utf8())
    if kind in ("RAW", "BLOB"):
        return Reading(sql.RAW.format(column=name), pa.utf8(), ("HEXTORAW('", "')"))
    return Reading(text.format(column=name), pa.utf8(), ("'", "'"))


def _as_it_stands(kind: str, wanted: ColumnType) -> bool:
    if kind == "NUMBER":
        return wanted.name != "numeric" and not (wanted.name == "decimal" and wanted.precision > 38)
    return kind in ("BINARY_FLOAT", "BINARY_DOUBLE", "BOOLEAN", "RAW", "BLOB", "CLOB", "NCLOB") or kind.endswith(
        ("CHAR", "CHAR2")
    )


def converted(found: pa.Array, one: Reading, column: Column) -> tuple[pa.Array, dict[int, str]]:
    """The column's values, NULL where one is refused; and why, by row."""
    if one.literal is None:
        return found, {}
    before, behind = one.literal
    plan = RedoPlan(Table("t", (column,), ()), (RedoColumn(column, "C"),), local_is_utc=True)
    escaped = pc.replace_substring(found, "'", "''")
    written = pc.binary_join_element_wise(f'insert into "T"("C") values ({before}', escaped, f"{behind})", "")
    written = pc.fill_null(written, 'insert into "T"("C") values (NULL)')
    parsed = parse_redo(plan, pa.RecordBatch.from_arrays([written], names=["statement"]))
    values = parsed.record.column(0)
    if not parsed.errors:
        return values, {}
    places = pc.index_in(pa.array(range(len(found)), pa.int32()), value_set=parsed.rows)
    texts = {error.row: f"{error.text} (in {found[error.row].as_py()!r})" for error in parsed.errors}
    return values.take(places), texts

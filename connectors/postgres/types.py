"""Which PostgreSQL type carries a column, which existing types may hold it without loss, and how it is cast.

A segment's rows are copied into a staging table in base types (the ones binary COPY is fast and exact in), and from
there into the target's own types. Casts name types without their length or scale: an explicit cast to varchar(5) or
numeric(8,2) would cut or round in silence, while the assignment that follows checks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from libcore.schema import ColumnType

_STAGING = {
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float32": "real",
    "float64": "double precision",
    "bool": "boolean",
    "bytes": "bytea",
    "decimal": "numeric",
    "numeric": "numeric",
    "date": "date",
    "time": "time without time zone",
    "time_ns": "time without time zone",
    "timestamp": "timestamp without time zone",
    "timestamp_ns": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "uuid": "uuid",
    "interval_us": "bigint",
}
_MADE = {"json": "jsonb", "xml": "xml", "interval": "interval", "timetz": "time with time zone", "bits": "bit varying"}
_TEXTS = frozenset({"text", "character varying", "bpchar", "character"})
_INT_DIGITS = {"int16": 5, "int32": 10, "int64": 19}
_INTS = ("smallint", "integer", "bigint")
_DECIMAL_DIGITS = {"smallint": 4, "integer": 9, "bigint": 18}
_HELD_AS_TEXT = {
    "uuid": {"uuid"},
    "json": {"json", "jsonb"},
    "xml": {"xml"},
    "interval": {"interval"},
    "timetz": {"time with time zone"},
    "bits": {"bit", "bit varying"},
}
# A string goes into any type whose input reads it exactly; these would guess, or lose a length.
_NOT_FROM_STRING = frozenset({"bytea", "boolean", "real", "double precision", "money", "oid", "name", '"char"', *_INTS})
_ARGUMENTS = re.compile(r"\(\s*(\d+)\s*(?:,\s*(-?\d+)\s*)?\)")


@dataclass(frozen=True, slots=True)
class TargetType:
    """A type as PostgreSQL prints it: `text` with its arguments, `base` without ("numeric(8,2)", "numeric")."""

    text: str
    base: str

    @property
    def arguments(self) -> tuple[int, ...]:
        """Length, or precision and scale; empty where there are none."""
        match = _ARGUMENTS.search(self.text)
        if match is None:
            return ()
        return (int(match[1]),) if match[2] is None else (int(match[1]), int(match[2]))

    @property
    def name(self) -> str:
        """The base without quotes that only say "no length here" (PostgreSQL prints bit without a length as "bit")."""
        return "bit" if self.base == '"bit"' else self.base

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a target column can hold every value of a source column. `widened`: the type it must become first."""

    fits: bool
    widened: str = ""


_YES, _NO = Fit(True), Fit(False)


def staging_type(column: ColumnType) -> str:
    """Type of the column in the staging table; what has a text form only is staged as text."""
    return _STAGING.get(column.name, "text")


def made_type(column: ColumnType) -> str:
    """Type of a target column that is created: exact, nothing rounded or cut."""
    if column.name == "decimal":
        return f"numeric({column.precision},{column.scale})"
    if column.name == "interval_us":
        return "interval"
    if column.name == "array":
        assert column.item is not None, column
        return f"{made_type(column.item)}[]"
    return _MADE.get(column.name) or staging_type(column)


def fit(column: ColumnType, target: TargetType, *, ours: bool = False) -> Fit:
    """Whether `target` holds `column`. `ours`: the column was made by Headrace, so a varchar may become text."""
    if column.name in _INT_DIGITS:
        return _fit_integer(column, target)
    if column.name in ("decimal", "numeric"):
        return _fit_decimal(column, target)
    if column.name in ("float32", "float64"):
        fits = target.base == "double precision" or (target.base == "real" and column.name == "float32")
        return Fit(fits, "double precision" if target.base == "real" and not fits else "")
    if column.name in ("time", "time_ns", "timestamp", "timestamp_ns", "timestamptz"):
        same = target.base == staging_type(column)
        exact = not target.arguments or target.arguments[0] >= 6
        return Fit(same and exact, target.base if same and not exact else "")
    if column.name == "interval_us":
        return Fit(target.base == "bigint" or (target.base == "interval" and target.text == "interval"))
    if column.name == "string":
        return _fit_string(target, ours)
    if column.name == "array":
        assert column.item is not None, column
        if target.base.endswith("[]"):
            item = TargetType(target.text.removesuffix("[]"), target.base.removesuffix("[]"))
            return Fit(fit(column.item, item).fits)
        return Fit(target.base == "text")
    if column.name in _HELD_AS_TEXT:
        rounds = column.name in ("interval", "timetz") and target.name not in _TEXTS and target.text != target.base
        return Fit((target.name in _HELD_AS_TEXT[column.name] and not rounds) or target.name in _TEXTS)
    return Fit(target.base == staging_type(column))


def cast(expression: str, column: ColumnType, target: TargetType) -> str:
    """SQL that turns a staged value into one that can be assigned to a column of that type."""
    staged = staging_type(column)
    if column.name == "interval_us" and target.base == "interval":
        return f"({expression} * interval '1 microsecond')"
    if staged != "text" or target.name in _TEXTS:
        return expression
    if target.name == "bit":
        return f"{expression}::bit varying"  # a cast to bit would cut or fill up to its length
    return f"{expression}::{target.base}"


def _fit_integer(column: ColumnType, target: TargetType) -> Fit:
    if target.base in _INTS:
        wanted = staging_type(column)
        fits = _INTS.index(target.base) >= _INTS.index(wanted)
        return Fit(fits, "" if fits else wanted)
    if target.base != "numeric":
        return _NO
    if not target.arguments:
        return _YES
    precision, scale = _precision_scale(target)
    return Fit(precision - scale >= _INT_DIGITS[column.name] and scale >= 0)


def _fit_decimal(column: ColumnType, target: TargetType) -> Fit:
    if target.base in _DECIMAL_DIGITS:
        return Fit(column.name == "decimal" and column.scale == 0 and column.precision <= _DECIMAL_DIGITS[target.base])
    if target.base != "numeric":
        return _NO
    if not target.arguments:
        return _YES
    if column.name == "numeric":
        return Fit(False, "numeric")
    precision, scale = _precision_scale(target)
    if scale >= column.scale and precision - scale >= column.precision - column.scale:
        return _YES
    wide_scale = max(scale, column.scale)
    wide_digits = max(precision - scale, column.precision - column.scale)
    return Fit(False, f"numeric({wide_digits + wide_scale},{wide_scale})")


def _fit_string(target: TargetType, ours: bool) -> Fit:
    if target.base == "character varying" and target.arguments:
        return Fit(not ours, "text" if ours else "")
    if target.base in _NOT_FROM_STRING:
        return _NO
    lossy = target.base == "numeric" or target.base.startswith(("time", "interval"))
    return Fit(not (lossy and target.arguments))


def _precision_scale(target: TargetType) -> tuple[int, int]:
    arguments = target.arguments
    return (arguments[0], arguments[1] if len(arguments) > 1 else 0)

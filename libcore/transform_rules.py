"""Rules of a transform: how a column of the result is computed from columns of the row, checked before the first row.

    CleanRule        a text, cleaned (libcore/transform_text.py)
    ArithmeticRule   two numbers added, subtracted, multiplied or divided (libcore/transform.py)
    CurrencyRule     an amount in another currency as of a day (libcore/transform_rates.py)
    UnitRule         a quantity in another unit
    DigestRule       16 bytes for some columns of the row (libcore/digest.py)

Rules stand in order: a later one reads what an earlier one gave. A row that one of them has no result for is refused.
reference/transform_rules.py computes the same value by value.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from libcore import transform, transform_rates, transform_text
from libcore.digest import digest_rows
from libcore.errors import ConfigurationError, RowsError
from libcore.schema import ColumnType, parse_type

Columns = Mapping[str, pa.Array]
Types = Mapping[str, ColumnType]
Found = tuple[pa.Array, Iterable[tuple[int, str]]]
"""A column, and (row, sentence) of the rows without a result."""
_NUMBERS = ("int16", "int32", "int64", "decimal")


@dataclass(frozen=True)
class CleanRule:
    """The text column `of`, cleaned; a text that a check of the plan finds is refused."""

    of: str
    plan: transform_text.CleanPlan

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the row."""
        return (self.of,)

    def result_type(self, types: Types) -> ColumnType:
        """The result's type. Raises ConfigurationError where a column is not there or of another type."""
        return _typed(types, self.of, "string")

    def compute(self, columns: Columns) -> Found:
        """The result of each row."""
        found = transform_text.clean(columns[self.of], self.plan)
        return found.values, [(row, transform_text.SENTENCES[code]) for row, code in found.errors]


@dataclass(frozen=True)
class ArithmeticRule:
    """One of transform.OPERATIONS on two numbers, at least one of them a column."""

    operation: str
    operands: tuple[str | decimal.Decimal, str | decimal.Decimal]
    result: ColumnType
    rounding: str = "half_even"

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the row."""
        return tuple(one for one in self.operands if isinstance(one, str))

    def result_type(self, types: Types) -> ColumnType:
        """The result's type. Raises ConfigurationError where a column is not there or of another type."""
        if not self.reads:
            raise ConfigurationError(f"{self.operation}: expected a column among the operands, found numbers only")
        for name in self.reads:
            _typed(types, name, *_NUMBERS)
        return _exact(self.result)

    def operands_of(self, columns: Columns) -> pa.RecordBatch:
        """Both operands as decimals, a value a row."""
        rows = len(columns[self.reads[0]])
        pair = (columns[one] if isinstance(one, str) else pa.repeat(_constant(one), rows) for one in self.operands)
        return pa.RecordBatch.from_arrays([transform.as_decimal(one) for one in pair], names=["left", "right"])

    def compute(self, columns: Columns) -> Found:
        """The result of each row."""
        left, right = self.operands_of(columns).columns
        return _told(transform.arithmetic(self.operation, left, right, self.result, self.rounding))


@dataclass(frozen=True)
class CurrencyRule:
    """The amount `of` in another currency, with the rate of the greatest `valid_from` that is not after the row's day.

    Args:
        source: column of the present currency. on: date column.
        target: the wanted currency; a column's name where `target_is_column`.
        table, inverse, via: as transform_rates.rate_table takes them.
    """

    of: str
    source: str
    target: str
    on: str
    table: pa.RecordBatch = field(repr=False)
    result: ColumnType
    rounding: str = "half_even"
    target_is_column: bool = False
    inverse: bool = False
    via: str | None = None

    @cached_property
    def rates(self) -> transform_rates.RateTable:
        """The table, checked and ready. Raises ConfigurationError."""
        return transform_rates.rate_table(self.table, inverse=self.inverse, via=self.via)

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the row."""
        return (self.of, self.source, self.on, *([self.target] if self.target_is_column else ()))

    def result_type(self, types: Types) -> ColumnType:
        """The result's type. Raises ConfigurationError where a column is not there or of another type."""
        _typed(types, self.of, *_NUMBERS)
        _typed(types, self.on, "date")
        for name in self.reads[1:2] + self.reads[3:]:
            _typed(types, name, "string")
        _ = self.rates
        return _exact(self.result)

    def compute(self, columns: Columns) -> Found:
        """The result of each row."""
        target = columns[self.target] if self.target_is_column else self.target
        amount, source, day = (columns[name] for name in (self.of, self.source, self.on))
        made = transform_rates.convert_currency(amount, source, target, day, self.rates, self.result, self.rounding)
        return _told(made)


@dataclass(frozen=True)
class UnitRule:
    """The quantity `of` in another unit of the same dimension.

    Args:
        source: column of the present unit. item: column of the material, for units of its own; None: there are none.
        target: the wanted unit; a column's name where `target_is_column`.
        table: as transform_rates.unit_table takes it.
    """

    of: str
    source: str
    target: str
    table: pa.RecordBatch = field(repr=False)
    result: ColumnType
    rounding: str = "half_even"
    target_is_column: bool = False
    item: str | None = None

    @cached_property
    def units(self) -> transform_rates.UnitTable:
        """The table, checked and ready. Raises ConfigurationError."""
        return transform_rates.unit_table(self.table)

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the row."""
        item = () if self.item is None else (self.item,)
        return (self.of, self.source, *item, *([self.target] if self.target_is_column else ()))

    def result_type(self, types: Types) -> ColumnType:
        """The result's type. Raises ConfigurationError where a column is not there or of another type."""
        _typed(types, self.of, *_NUMBERS)
        for name in self.reads[1:]:
            _typed(types, name, "string")
        _ = self.units
        return _exact(self.result)

    def compute(self, columns: Columns) -> Found:
        """The result of each row."""
        target = columns[self.target] if self.target_is_column else self.target
        item = None if self.item is None else columns[self.item]
        quantity, source = columns[self.of], columns[self.source]
        return _told(
            transform_rates.convert_unit(quantity, source, target, self.units, self.result, self.rounding, item)
        )


@dataclass(frozen=True)
class DigestRule:
    """128 bits that are equal where the columns `of` have equal names and values."""

    of: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the row."""
        return self.of

    def result_type(self, types: Types) -> ColumnType:
        """The result's type. Raises ConfigurationError where a column is not there, or named twice."""
        if len(set(self.of)) != len(self.of):
            raise ConfigurationError(f"digest: expected each column once, found {list(self.of)}")
        for name in self.of:
            _typed(types, name)
        return parse_type("bytes")

    def record_of(self, columns: Columns) -> pa.RecordBatch:
        """The columns that count."""
        return pa.RecordBatch.from_arrays([columns[name] for name in self.of], names=list(self.of))

    def compute(self, columns: Columns) -> Found:
        """The result of each row."""
        return digest_rows(self.record_of(columns)).cast(pa.binary()), ()


Rule = CleanRule | ArithmeticRule | CurrencyRule | UnitRule | DigestRule


def transformed(rules: Mapping[str, Rule], rows: pa.RecordBatch) -> pa.RecordBatch:
    """The results of rules that fit the rows: one column a rule, in the rules' order.

    Raises: RowsError for the rows without a result, in a sentence that shows no value; MemoryError.
    """
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    refused: dict[int, str] = {}
    for name, rule in rules.items():
        columns[name], errors = rule.compute(columns)
        for row, sentence in errors:
            refused.setdefault(row, f"{name}: {sentence}")
    if refused:
        raise RowsError(refused)
    return pa.RecordBatch.from_arrays([columns[name] for name in rules], names=list(rules))


def _told(found: transform.Computed) -> Found:
    return found.values, [(row, transform.SENTENCES[code]) for row, code in found.errors]


def _constant(number: decimal.Decimal) -> pa.Scalar:
    """The number as a decimal of just its digits."""
    _, digits, exponent = number.as_tuple()
    scale = max(0, -int(exponent))
    precision = max(len(digits) + max(0, int(exponent)), scale, 1)
    return pa.scalar(number, pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale))


def _typed(types: Types, name: str, *kinds: str) -> ColumnType:
    """The type of a column, one of those kinds where some are named. Raises ConfigurationError."""
    if name not in types:
        raise ConfigurationError(f"expected a column of {list(types)}, found {name!r}")
    if kinds and types[name].name not in kinds:
        raise ConfigurationError(f"{name}: expected a column of type {_either(kinds)}, found {types[name]}")
    return types[name]


def _either(kinds: Sequence[str]) -> str:
    return " or ".join([", ".join(kinds[:-1]), kinds[-1]]) if len(kinds) > 1 else kinds[0]


def _exact(kind: ColumnType) -> ColumnType:
    if kind.name != "decimal":
        raise ConfigurationError(f"type: expected decimal(p,s), found {kind}")
    return kind

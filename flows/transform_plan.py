"""A `transform` step of a pipeline file made ready: its rules with their rates and units, fitted to the table."""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from flows import spec_transform as given
from flows.operators.transform import TransformPlan, plan_transform
from flows.spec_steps import TransformStep
from libcore.errors import ConfigurationError
from libcore.schema import Table, parse_type
from libcore.transform_rules import ArithmeticRule, CleanRule, CurrencyRule, DigestRule, Rule, UnitRule
from libcore.transform_text import CleanPlan

_EXACT = pa.decimal128(38, 18)
_RATES = {
    "from_currency": pa.utf8(), "to_currency": pa.utf8(), "valid_from": pa.date32(), "rate": _EXACT,
    "from_factor": pa.int64(), "to_factor": pa.int64(),
}  # fmt: skip
_UNITS = {
    "unit": pa.utf8(), "dimension": pa.utf8(), "numerator": pa.int64(), "denominator": pa.int64(), "offset": _EXACT,
    "item": pa.utf8(),
}  # fmt: skip


def compile_transform(step: TransformStep, table: Table, name: str, file: Path) -> TransformPlan:
    """The step's plan for a table. Raises ConfigurationError, also where a table of rates or units cannot be read."""
    rules = {column: _rule(column, given.rule_of(rule), file) for column, rule in step.transform.items()}
    return plan_transform(table, rules, step.drop, name)


def files_of(step: TransformStep, file: Path) -> list[Path]:
    """The tables of rates and units that the step's rules read, in the rules' order."""
    rules = map(given.rule_of, step.transform.values())
    names = [
        rule.rates if isinstance(rule, given.CurrencyRule) else rule.units
        for rule in rules
        if isinstance(rule, given.CurrencyRule | given.UnitRule)
    ]
    return [_beside(file, name) for name in names]


def _rule(column: str, rule: given.TransformRule, file: Path) -> Rule:
    if isinstance(rule, given.TrimRule):
        return CleanRule(rule.of or column, CleanPlan(trim=rule.side, blanks=rule.blanks, report_mojibake=False))
    if isinstance(rule, given.CleanRule):
        return CleanRule(rule.of or column, _clean_plan(rule))
    if isinstance(rule, given.DigestRule):
        return DigestRule(rule.of)
    result, rounding = parse_type(rule.type), rule.rounding
    if isinstance(rule, given.ArithmeticRule):
        return ArithmeticRule(rule.how, (_operand(rule.of[0]), _operand(rule.of[1])), result, rounding)
    by_column = isinstance(rule.to, given.OfColumn)
    to = rule.to.column if isinstance(rule.to, given.OfColumn) else rule.to
    if isinstance(rule, given.UnitRule):
        units = read_table(_beside(file, rule.units), _UNITS)
        return UnitRule(rule.of, rule.from_, to, units, result, rounding, by_column, rule.item)
    rates = read_table(_beside(file, rule.rates), _RATES)
    return CurrencyRule(rule.of, rule.from_, to, rule.on, rates, result, rounding, by_column, rule.inverse, rule.via)


def _clean_plan(rule: given.CleanRule) -> CleanPlan:
    refuse = rule.mojibake == "refuse"
    return CleanPlan(rule.replace, rule.control, rule.trim, rule.blanks, rule.deny, rule.code_page, refuse)


def _operand(one: str | int) -> str | decimal.Decimal:
    """A number where it is one, else a column's name."""
    number = given.number_of(one)
    return str(one) if number is None else number


def read_table(path: Path, kinds: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """The columns of a table that are known, exactly typed; an empty cell of a .csv is NULL.

    Args:
        path: .csv with the columns' names in its first line, or .parquet.
        kinds: column -> type; columns beside them are left out, and not all of them need be there.
    Raises: ConfigurationError where it cannot be read, or holds what its type does not, such as a float.
    """
    try:
        if path.suffix == ".parquet":
            found = pyarrow.parquet.read_table(path)
        else:
            options = pyarrow.csv.ConvertOptions(column_types=kinds, strings_can_be_null=True, null_values=[""])
            found = pyarrow.csv.read_csv(path, convert_options=options)
        names = [name for name in found.schema.names if name in kinds]
        if floats := [name for name in names if pa.types.is_floating(found.schema.field(name).type)]:
            raise ConfigurationError(f"{path}: {floats[0]}: expected an exact number, found a float")
        exact = found.select(names).cast(pa.schema([(name, kinds[name]) for name in names]))
    except (OSError, pa.ArrowException) as error:
        raise ConfigurationError(f"expected a table of {', '.join(kinds)}, found {path}: {error}") from error
    batches = exact.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=exact.schema)


def _beside(file: Path, name: str) -> Path:
    return (file.resolve().parent / name).resolve()

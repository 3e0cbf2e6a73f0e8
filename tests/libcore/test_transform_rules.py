"""A transform's rules: the kernels give what the plain reference gives, value by value, and refuse the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.errors import ConfigurationError, RowsError
from libcore.reference import transform_rules as reference
from libcore.schema import ColumnType, parse_type
from libcore.transform_rules import (
    ArithmeticRule,
    CleanRule,
    CurrencyRule,
    DigestRule,
    Rule,
    UnitRule,
    transformed,
)
from libcore.transform_text import CleanPlan
from tests.libcore.strategies import EXAMPLES

MONEY = parse_type("decimal(9,2)")
TYPES: dict[str, ColumnType] = {
    name: parse_type(kind)
    for name, kind in {
        "name": "string", "net": "decimal(18,4)", "quantity": "int32", "currency": "string", "unit": "string",
        "wanted": "string", "item": "string", "day": "date",
    }.items()
}  # fmt: skip
RATES = pa.RecordBatch.from_pylist(
    [
        {"from_currency": "USD", "to_currency": "EUR", "valid_from": date(2026, 1, 1), "rate": Decimal("0.9")},
        {"from_currency": "USD", "to_currency": "EUR", "valid_from": date(2026, 1, 3), "rate": Decimal("0.7")},
        {"from_currency": "JPY", "to_currency": "USD", "valid_from": date(2026, 1, 1), "rate": Decimal("0.007")},
    ],
    schema=pa.schema(
        [("from_currency", pa.utf8()), ("to_currency", pa.utf8()), ("valid_from", pa.date32()),
         ("rate", pa.decimal128(38, 18))]
    ),
)  # fmt: skip
UNITS = pa.RecordBatch.from_pylist(
    [
        {"unit": "KG", "dimension": "mass", "numerator": 1, "denominator": 1, "item": None},
        {"unit": "G", "dimension": "mass", "numerator": 1, "denominator": 1000, "item": None},
        {"unit": "PC", "dimension": "pieces", "numerator": 1, "denominator": 1, "item": None},
        {"unit": "BOX", "dimension": "pieces", "numerator": 7, "denominator": 3, "item": "M1"},
        {"unit": "DZ", "dimension": "pieces", "numerator": 12, "denominator": 1, "item": ""},
        {"unit": "K", "dimension": "temperature", "numerator": 1, "denominator": 1},
        {"unit": "C", "dimension": "temperature", "numerator": 1, "denominator": 1, "offset": Decimal("273.15")},
    ],
    schema=pa.schema(
        [("unit", pa.utf8()), ("dimension", pa.utf8()), ("numerator", pa.int64()), ("denominator", pa.int64()),
         ("item", pa.utf8()), ("offset", pa.decimal128(38, 18))]
    ),
)  # fmt: skip
ROWS = st.fixed_dictionaries(
    {
        "name": st.none() | st.text("aÄ \u00a0\u0001", max_size=4),
        "net": st.none() | st.decimals(-(10**9), 10**9, places=4),
        "quantity": st.none() | st.integers(-3, 3) | st.integers(-(2**31), 2**31 - 1),
        "currency": st.none() | st.sampled_from(["EUR", "USD", "JPY", "?"]),
        "unit": st.none() | st.sampled_from(["C", "K", "BOX", "PC", "DZ", "G", "KG"]),
        "wanted": st.none() | st.sampled_from(["C", "K", "BOX", "PC", "DZ", "G", "KG"]),
        "item": st.sampled_from([None, "", "M1", "M2"]),
        "day": st.none() | st.dates(date(2025, 12, 31), date(2026, 1, 4)),
    }
)
ROUNDINGS = st.sampled_from(["half_even", "half_up", "down"])
RULES: st.SearchStrategy[Rule] = st.one_of(
    st.builds(
        lambda **plan: CleanRule("name", CleanPlan(**plan)),
        trim=st.sampled_from(["none", "left", "right", "both"]),
        control=st.sampled_from(["keep", "remove", "space", "refuse"]),
        code_page=st.sampled_from([None, "ascii", "cp1252"]),
        deny=st.sampled_from(["", "a"]),
    ),
    st.builds(
        ArithmeticRule,
        st.sampled_from(["add", "subtract", "multiply", "divide"]),
        st.sampled_from([("net", "quantity"), ("quantity", "net"), ("net", Decimal("1.19")), (Decimal(100), "net")]),
        st.sampled_from([MONEY, parse_type("decimal(38,10)")]),
        ROUNDINGS,
    ),
    st.builds(
        lambda target, result, rounding, inverse, via: CurrencyRule(
            "net", "currency", target, "day", RATES, result, rounding, target == "wanted", inverse, via
        ),
        st.sampled_from(["EUR", "USD", "wanted"]),
        st.sampled_from([MONEY, parse_type("decimal(38,10)")]),
        ROUNDINGS,
        st.booleans(),
        st.sampled_from([None, "USD"]),
    ),
    st.builds(
        lambda target, item, rounding: UnitRule(
            "quantity", "unit", target, UNITS, MONEY, rounding, target == "wanted", item
        ),
        st.sampled_from(["K", "PC", "wanted"]),
        st.sampled_from([None, "item"]),
        ROUNDINGS,
    ),
    st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=3, unique=True).map(
        lambda names: DigestRule(tuple(names))
    ),
)


def record(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Rows of TYPES."""
    return pa.RecordBatch.from_pylist(rows, schema=pa.schema([(name, kind.arrow) for name, kind in TYPES.items()]))


def answer(
    kernel: Callable[[Mapping[str, Rule], pa.RecordBatch], pa.RecordBatch], rules: dict[str, Rule], rows: pa.RecordBatch
) -> Any:
    """What it gives, or the rows that it refuses with their sentences."""
    try:
        return kernel(rules, rows)
    except RowsError as error:
        return error.rows


@settings(max_examples=EXAMPLES)
@given(st.lists(ROWS, max_size=6), st.lists(RULES, min_size=1, max_size=4), st.integers(0, 2))
def test_rules_agree_with_the_reference(rows: list[dict[str, Any]], rules: list[Rule], skipped: int) -> None:
    """Any rules on any rows, slices, NULLs and refused rows included: the same columns, the same sentences."""
    named = {f"r{number}": rule for number, rule in enumerate(rules)}
    types = {name: rule.result_type(TYPES) for name, rule in named.items()}
    given_rows = record(rows).slice(min(skipped, len(rows)))
    found, expected = answer(transformed, named, given_rows), answer(reference.transformed, named, given_rows)
    assert found == expected
    if isinstance(found, dict):
        given_rows = given_rows.take(pa.array([row for row in range(len(given_rows)) if row not in found], pa.int64()))
        found = transformed(named, given_rows)
        assert found == reference.transformed(named, given_rows)
    assert found.schema.types == [kind.arrow for kind in types.values()]


def test_a_later_rule_reads_what_an_earlier_one_gave() -> None:
    """A currency is trimmed before it is looked up; the amount is a difference before it is converted."""
    rules: dict[str, Rule] = {
        "currency": CleanRule("currency", CleanPlan()),
        "less": ArithmeticRule("subtract", ("net", Decimal("0.50")), parse_type("decimal(18,4)")),
        "in_eur": CurrencyRule("less", "currency", "EUR", "day", RATES, MONEY),
        "kelvin": UnitRule("quantity", "unit", "K", UNITS, MONEY),
    }
    row = dict.fromkeys(TYPES) | {"net": Decimal("10.5"), "currency": " USD", "day": date(2026, 1, 2)}
    row |= {"quantity": 100, "unit": "C"}
    for kernel in (transformed, reference.transformed):
        assert kernel(rules, record([row])).to_pylist() == [
            {"currency": "USD", "less": Decimal("10.0000"), "in_eur": Decimal("9.00"), "kelvin": Decimal("373.15")}
        ]


def test_refused_rows_are_named_with_a_sentence_that_shows_no_value() -> None:
    """Of each row the first rule that refuses it."""
    rules: dict[str, Rule] = {
        "share": ArithmeticRule("divide", ("net", "quantity"), MONEY),
        "name": CleanRule("name", CleanPlan(code_page="ascii")),
    }
    rows = [dict.fromkeys(TYPES) | {"net": 1, "quantity": 1 - number, "name": "Ä"} for number in range(2)]
    with pytest.raises(RowsError) as caught:
        transformed(rules, record(rows))
    assert caught.value.rows == {
        0: "name: expected characters that the code page has, found another",
        1: "share: expected a divisor other than 0, found 0",
    }


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (CleanRule("nothing", CleanPlan()), "expected a column of"),
        (CleanRule("net", CleanPlan()), "net: expected a column of type string, found decimal(18,4)"),
        (ArithmeticRule("add", ("net", "name"), MONEY), "expected a column of type int16, int32, int64 or decimal"),
        (ArithmeticRule("add", (Decimal(1), Decimal(2)), MONEY), "expected a column among the operands"),
        (ArithmeticRule("add", ("net", "net"), parse_type("float64")), "type: expected decimal(p,s), found float64"),
        (CurrencyRule("net", "currency", "EUR", "name", RATES, MONEY), "expected a column of type date, found string"),
        (CurrencyRule("net", "currency", "EUR", "day", UNITS, MONEY), "found no from_currency"),
        (
            CurrencyRule("net", "currency", "day", "day", RATES, MONEY, "down", True),
            "day: expected a column of type str",
        ),
        (UnitRule("net", "unit", "KG", RATES, MONEY), "found no unit"),
        (DigestRule(("net", "net")), "expected each column once"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(rule: Rule, message: str) -> None:
    """Before the first row: what was expected, what was found."""
    with pytest.raises(ConfigurationError) as caught:
        rule.result_type(TYPES)
    assert message in str(caught.value)

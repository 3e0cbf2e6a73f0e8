"""Currencies as of a day and units: the rate and factor that the table says, exactly, or an error of the row."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.errors import ConfigurationError
from libcore.reference import transform_rates as reference
from libcore.reference.transform import rounded
from libcore.reference.values import plain
from libcore.schema import parse_type
from libcore.transform import TransformCode
from libcore.transform_rates import convert_currency, convert_unit, rate_table, unit_table
from tests.libcore.strategies import EXAMPLES

RESULT = parse_type("decimal(18,2)")
CODES = st.sampled_from(["EUR", "USD", "TRY", "JPY"])
DAYS = st.dates(date(1969, 12, 25), date(1970, 1, 8))
RATES = st.dictionaries(st.tuples(CODES, CODES, DAYS), st.decimals(Decimal("0.0001"), 2000, places=4), max_size=12).map(
    lambda found: [(*key, value) for key, value in found.items()]
)


def rates_of(rows: list[Any], **settings_: Any) -> Any:
    """A table of (from, to, valid_from, rate)."""
    kinds = [pa.utf8(), pa.utf8(), pa.date32(), pa.decimal128(18, 4)]
    names = ["from_currency", "to_currency", "valid_from", "rate"]
    arrays = [pa.array([row[index] for row in rows], kind) for index, kind in enumerate(kinds)]
    return rate_table(pa.RecordBatch.from_arrays(arrays, names=names), **settings_)


@settings(max_examples=EXAMPLES // 2)
@given(
    RATES,
    st.lists(
        st.tuples(st.none() | st.integers(-(10**9), 10**9), st.none() | CODES, st.none() | CODES, st.none() | DAYS)
    ),
    st.booleans(),
    st.none() | CODES,
)
def test_rates_agree_with_the_reference(rates: Any, rows: Any, inverse: bool, via: str | None) -> None:
    """Direct, inverse, over a third currency, the currency itself; before the first rate, unknown or NULL: missing."""
    table = rates_of(rates, inverse=inverse, via=via)
    exact = [(*rate[:3], Fraction(rate[3])) for rate in rates]
    kinds = (pa.int64(), pa.utf8(), pa.utf8(), pa.date32())
    amount, source, target, day = (pa.array([row[i] for row in rows], kind) for i, kind in enumerate(kinds))
    found = convert_currency(amount, source, target, day, table, RESULT)
    for row, (value, one, other, on) in enumerate(rows):
        rate, error = reference.convert(exact, one, other, on, inverse, via), dict(found.errors).get(row)
        if value is None or rate is None:
            assert error == (None if value is None else TransformCode.MISSING)
            continue
        digits = value * rate * 100
        expected = rounded(digits.numerator, digits.denominator, "half_even")
        if abs(expected) < 10**18:
            assert (plain(found.values)[row], error) == (expected, None)
        else:
            assert error == TransformCode.RANGE


def test_a_rate_is_that_of_its_day() -> None:
    """The day before, the day itself, and long after; before the first there is none."""
    table = rates_of([("EUR", "TRY", date(2026, 1, 1), Decimal(50)), ("EUR", "TRY", date(2026, 2, 1), Decimal(60))])
    days = [date(2025, 12, 31), date(2026, 1, 31), date(2026, 2, 1), date(2030, 1, 1)]
    amount = pa.array([Decimal("10.01")] * 4, pa.decimal128(10, 2))
    found = convert_currency(amount, pa.array(["EUR"] * 4), "TRY", pa.array(days), table, RESULT)
    assert found.values.to_pylist() == [None, Decimal("500.50"), Decimal("600.60"), Decimal("600.60")]
    assert found.errors == [(0, TransformCode.MISSING)]


def test_an_inverse_is_taken_only_where_the_table_says_so() -> None:
    """1 / 3 is computed with, not a rounded rate; so is the way over a third currency."""
    rows = [("EUR", "USD", date(2026, 1, 1), Decimal(3)), ("EUR", "JPY", date(2026, 1, 1), Decimal(7))]
    arguments = (pa.array([9_000_000_000]), pa.array(["USD"]), "JPY", pa.array([date(2026, 1, 1)]))
    for settings_ in ({}, {"inverse": True}, {"via": "EUR"}):
        assert convert_currency(*arguments, rates_of(rows, **settings_), RESULT).errors == [(0, TransformCode.MISSING)]
    found = convert_currency(*arguments, rates_of(rows, inverse=True, via="EUR"), RESULT)
    assert found.values.to_pylist() == [Decimal("21000000000.00")]


def test_a_rate_may_be_for_many_units() -> None:
    """100 JPY are 0.61 EUR: the factors stand beside the rate."""
    table = pa.RecordBatch.from_pydict(
        {"from_currency": ["JPY"], "to_currency": ["EUR"], "valid_from": [date(2026, 1, 1)], "rate": [Decimal("0.61")],
         "from_factor": [100], "to_factor": [1]}
    )  # fmt: skip
    day = pa.array([date(2026, 1, 1)])
    found = convert_currency(pa.array([250]), pa.array(["JPY"]), "EUR", day, rate_table(table), RESULT, "half_up")
    assert found.values.to_pylist() == [Decimal("1.53")]


UNITS = unit_table(
    pa.RecordBatch.from_pylist(
        [
            {"item": None, "unit": "KG", "dimension": "mass", "numerator": 1, "denominator": 1, "offset": None},
            {"item": None, "unit": "G", "dimension": "mass", "numerator": 1, "denominator": 1000, "offset": None},
            {"item": None, "unit": "LB", "dimension": "mass", "numerator": 45359237, "denominator": 100000000},
            {"item": None, "unit": "K", "dimension": "temperature", "numerator": 1, "denominator": 1},
            {"item": None, "unit": "C", "dimension": "temperature", "numerator": 1, "denominator": 1,
             "offset": Decimal("273.15")},
            {"item": None, "unit": "F", "dimension": "temperature", "numerator": 5, "denominator": 9,
             "offset": Decimal("255.3722222222222222222222222222222222")},
            {"item": None, "unit": "PC", "dimension": "pieces", "numerator": 1, "denominator": 1},
            {"item": "M1", "unit": "BOX", "dimension": "pieces", "numerator": 12, "denominator": 1},
            {"item": "M2", "unit": "BOX", "dimension": "pieces", "numerator": 7, "denominator": 2},
        ],
        schema=pa.schema(
            [("item", pa.utf8()), ("unit", pa.utf8()), ("dimension", pa.utf8()), ("numerator", pa.int64()),
             ("denominator", pa.int64()), ("offset", pa.decimal128(38, 34))]
        ),
    )
)  # fmt: skip


@settings(max_examples=EXAMPLES // 2)
@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(10**9), 10**9),
            *[st.none() | st.sampled_from(["KG", "G", "LB", "K", "C", "F", "PC", "BOX", "?"])] * 2,
            st.none() | st.sampled_from(["M1", "M2", "M3"]),
        )
    )
)
def test_units_agree_with_the_reference(rows: Any) -> None:
    """Factors and offsets exactly; an item's own unit before that of all; another dimension or no unit: missing."""
    names = [tuple(name.split("\x1f")) for name in UNITS.names.to_pylist()]
    known = {(item or None, unit): found for (item, unit), found in zip(names, UNITS.units, strict=True)}
    kinds = (pa.int64(), pa.utf8(), pa.utf8(), pa.utf8())
    quantity, source, target, item = (pa.array([row[i] for row in rows], kind) for i, kind in enumerate(kinds))
    found = convert_unit(quantity, source, target, UNITS, RESULT, item=item)
    for row, (value, one, other, material) in enumerate(rows):
        factors = reference.unit_factors(known, one, other, material)
        error = dict(found.errors).get(row)
        if value is None or factors is None:
            assert error == (None if value is None else TransformCode.MISSING)
        else:
            digits = (value * factors[0] + factors[1]) * 100
            assert plain(found.values)[row] == rounded(digits.numerator, digits.denominator, "half_even")


def test_units_of_everyday() -> None:
    """100 C are 373.15 K, 1 lb is 0.4536 kg, 3 boxes of one material are 36 pieces and of another 10.5."""
    four = parse_type("decimal(18,4)")
    assert convert_unit(pa.array([100]), pa.array(["C"]), "K", UNITS, four).values.to_pylist() == [Decimal("373.1500")]
    assert convert_unit(pa.array([1]), pa.array(["LB"]), "KG", UNITS, four).values.to_pylist() == [Decimal("0.4536")]
    boxes = convert_unit(pa.array([3, 3]), pa.array(["BOX"] * 2), "PC", UNITS, four, item=pa.array(["M1", "M2"]))
    assert boxes.values.to_pylist() == [Decimal("36.0000"), Decimal("10.5000")]


def test_temperatures_are_exact_where_their_offsets_are() -> None:
    """In degrees of Fahrenheit no offset is cut off: 212 F are 100 C, -40 are -40, and nothing is lost by `down`."""
    names = ("unit", "dimension", "numerator", "denominator", "offset")
    scales = [("F", "t", 1, 1, Decimal("459.67")), ("C", "t", 9, 5, Decimal("491.67")), ("K", "t", 9, 5, None)]
    units = unit_table(pa.RecordBatch.from_pylist([dict(zip(names, scale, strict=True)) for scale in scales]))
    degrees = pa.array([212, 32, -40])
    for rounding in ("half_even", "half_up", "down"):
        made = convert_unit(degrees, pa.array(["F"] * 3), "C", units, RESULT, rounding)
        assert made.values.to_pylist() == [Decimal(100), Decimal(0), Decimal(-40)]
    assert convert_unit(pa.array([-40]), pa.array(["C"]), "F", units, RESULT).values.to_pylist() == [Decimal(-40)]


def test_tables_that_contradict_themselves_are_refused() -> None:
    """Two rates for a day, a rate of 0, a NULL, a missing column, a unit twice, a factor of 0."""
    day = date(2026, 1, 1)
    for rows, message in [
        ([("EUR", "USD", day, Decimal(1)), ("EUR", "USD", day, Decimal(2))], "expected one rate, found two"),
        ([("EUR", "USD", day, Decimal(0))], "expected a rate and factors above 0"),
        ([("EUR", None, day, Decimal(1))], "expected no NULL in to_currency"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            rates_of(rows)
    with pytest.raises(ConfigurationError, match="found no rate"):
        rate_table(pa.RecordBatch.from_pydict({"from_currency": [], "to_currency": [], "valid_from": []}))
    unit = {"unit": "KG", "dimension": "mass", "numerator": 1, "denominator": 1}
    for rows, message in [([unit, unit], "found it twice"), ([{**unit, "numerator": 0}], "other than 0, found 0")]:
        with pytest.raises(ConfigurationError, match=message):
            unit_table(pa.RecordBatch.from_pylist(rows))

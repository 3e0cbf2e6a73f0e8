"""Exact arithmetic: C equals the reference equals Python's own whole numbers, to the last digit and error."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.errors import ConfigurationError
from libcore.reference import transform as reference
from libcore.reference.values import plain
from libcore.schema import parse_type
from libcore.transform import OPERATIONS, ROUNDINGS, TransformCode, affine, arithmetic, asof, asof_key
from tests.libcore.batches import build, columns
from tests.libcore.strategies import EXAMPLES

TYPES = ("decimal(5,2)", "decimal(18,4)", "decimal(38,0)", "decimal(38,38)", "decimal(76,37)", "decimal(76,0)")
kinds, roundings = st.sampled_from(TYPES).map(parse_type), st.sampled_from(ROUNDINGS)
days = st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 3)


def same(found: Any, expected: tuple[pa.Array, list[tuple[int, int]]]) -> bool:
    """Values, NULLs and errors are the reference's."""
    values, errors = expected
    return found.values.type == values.type and plain(found.values) == plain(values) and found.errors == errors


@settings(max_examples=EXAMPLES)
@given(st.data(), st.sampled_from(OPERATIONS), kinds, kinds, kinds, roundings)
def test_arithmetic_agrees_with_the_reference(
    data: st.DataObject, operation: str, left: Any, right: Any, result: Any, rounding: str
) -> None:
    """Any decimals, slices, NULLs and the types' ends included: the same digits, the same rows in error."""
    pair = [data.draw(columns(kind.arrow, 6)) for kind in (left, right)]
    record = pa.RecordBatch.from_arrays(pair, names=["l", "r"])
    found = arithmetic(operation, *pair, result, rounding)
    assert same(found, reference.arithmetic(operation, record, result, rounding))


MONEY = st.decimals(-(10**9), 10**9, places=4)


@settings(max_examples=EXAMPLES // 2)
@given(MONEY, MONEY, st.sampled_from([ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_DOWN]))
def test_results_are_those_of_the_decimal_module(a: Decimal, b: Decimal, rounding: str) -> None:
    """Python's decimal, another implementation by other people, gives the same digits."""
    name = {ROUND_HALF_EVEN: "half_even", ROUND_HALF_UP: "half_up", ROUND_DOWN: "down"}[rounding]
    left, right = (pa.array([value], pa.decimal128(18, 4)) for value in (a, b))
    with localcontext(prec=200) as context:
        expected = {"add": a + b, "subtract": a - b, "multiply": a * b}
        if b:
            # 200 digits do not always hold a quotient, but its ties: those end after a few
            expected["divide"] = a / b
        for operation, exact in expected.items():
            context.rounding = rounding
            (found,) = arithmetic(operation, left, right, parse_type("decimal(38,3)"), name).values.to_pylist()
            assert found == exact.quantize(Decimal("0.001")), operation


FACTORS = st.builds(Fraction, st.integers(-(10**9), 10**9), st.integers(1, 10**6))


@settings(max_examples=EXAMPLES // 2)
@given(st.data(), st.lists(st.tuples(FACTORS, FACTORS), min_size=1, max_size=4), kinds, roundings)
def test_factors_agree_with_the_reference(
    data: st.DataObject, factors: list[tuple[Fraction, Fraction]], result: Any, rounding: str
) -> None:
    """Each row gets its own exact factors; a row without any is in error, unless it is NULL."""
    values = data.draw(columns(pa.decimal128(18, 4), 6))
    chosen = pa.array(
        data.draw(st.lists(st.none() | st.integers(-1, len(factors) - 1), min_size=6, max_size=6)), pa.int32()
    )
    found = affine(values, chosen, factors, result, rounding)
    for row, (value, index) in enumerate(zip(plain(values), chosen.to_pylist(), strict=True)):
        error = dict(found.errors).get(row)
        if value is None:
            assert error is None
        elif index is None or index < 0:
            assert error == TransformCode.MISSING
        else:
            exact = (Fraction(value, 10**4) * factors[index][0] + factors[index][1]) * 10**result.scale
            digits = reference.rounded(exact.numerator, exact.denominator, rounding)
            if abs(digits) < 10**result.precision:
                assert plain(found.values)[row] == digits and error is None
            else:
                assert error == TransformCode.RANGE


@settings(max_examples=EXAMPLES // 2)
@given(st.lists(st.tuples(st.integers(0, 3), days)), st.lists(st.tuples(st.integers(0, 4), days)))
def test_as_of_finds_the_last_day_of_the_group(rates: list[tuple[int, int]], probes: list[tuple[int, int]]) -> None:
    """The greatest day that is not above, of the same group; of equal days the last; none: -1."""
    held = sorted(rates)
    keys = pa.array([asof_key(*rate) for rate in held], pa.int64())
    found = asof(keys, pa.array([asof_key(*probe) for probe in probes], pa.int64())).to_pylist()
    for (group, day), place in zip(probes, found, strict=True):
        fitting = [index for index, rate in enumerate(held) if rate[0] == group and rate[1] <= day]
        assert place == (fitting[-1] if fitting else -1)


def test_the_ends_of_the_types() -> None:
    """76 digits times 76 digits is computed exactly, and refused where the result's type is too small."""
    most = build(pa.decimal256(76, 0), [10**76 - 1, -(10**76) + 1, 0])
    assert arithmetic("multiply", most, most, parse_type("decimal(76,0)")).errors == [
        (0, TransformCode.RANGE),
        (1, TransformCode.RANGE),
    ]
    assert plain(arithmetic("divide", most, most, parse_type("decimal(76,75)")).values)[:2] == [10**75, 10**75]
    assert arithmetic("divide", most, most, parse_type("decimal(5,2)")).errors == [(2, TransformCode.ZERO)]
    small = build(pa.decimal256(76, 76), [1, 10**76 - 1])
    assert plain(arithmetic("divide", small, small, parse_type("decimal(76,0)")).values) == [1, 1]
    assert arithmetic("add", most, most, parse_type("decimal(76,0)")).errors[0] == (0, TransformCode.RANGE)


def test_ties_are_rounded_as_said() -> None:
    """0.5, 1.5 and their negatives: half-even 0 and 2, half-up 1 and 2, down 0 and 1; there is no -0."""
    halves = pa.array([Decimal("0.5"), Decimal("1.5"), Decimal("-0.5"), Decimal("-1.5")], pa.decimal128(5, 1))
    ones = pa.array([1, 1, 1, 1], pa.int32())
    for rounding, expected in {"half_even": [0, 2, 0, -2], "half_up": [1, 2, -1, -2], "down": [0, 1, 0, -1]}.items():
        assert plain(arithmetic("multiply", halves, ones, parse_type("decimal(5,0)"), rounding).values) == expected


def test_no_rows_and_wrong_arguments() -> None:
    """An empty batch gives an empty column; names and types that are none are refused by name."""
    nothing = pa.array([], pa.decimal128(5, 2))
    assert len(arithmetic("add", nothing, nothing, parse_type("decimal(5,2)")).values) == 0
    assert len(asof(pa.array([], pa.int64()), pa.array([], pa.int64()))) == 0
    for arguments, message in [
        (("plus", nothing, nothing, parse_type("decimal(5,2)")), "operation: expected one of add"),
        (("add", nothing, nothing, parse_type("float64")), "result: expected decimal"),
        (("add", nothing, nothing, parse_type("decimal(5,2)"), "up"), "rounding: expected one of half_even"),
        (("add", nothing, pa.array([], pa.float64()), parse_type("decimal(5,2)")), "expected a decimal or an integer"),
    ]:
        with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
            arithmetic(*arguments)
    with pytest.raises(ConfigurationError, match="at most 76 digits"):
        affine(nothing, pa.array([], pa.int32()), [(Fraction(1, 10**80 + 1), Fraction(0))], parse_type("decimal(5,2)"))

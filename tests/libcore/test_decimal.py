"""Decimals: C and reference agree, and both agree with Python's own Decimal, exactly; nothing is rounded."""

from __future__ import annotations

import decimal as python_decimal
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libcore import decimal as face
from libcore.decode_types import ErrorCode
from libcore.errors import HeadraceError
from libcore.reference import decimal as reference
from libcore.reference.values import plain
from tests.libcore.batches import build
from tests.libcore.strategies import EXAMPLES, SEEDS, mutated

WIDE = python_decimal.Context(prec=2000, Emax=10**9, Emin=-(10**9))
FACES = pytest.mark.parametrize("units", [face, reference], ids=["face", "reference"])
Units = Any

_DIGITS = st.text("0123456789", max_size=90) | st.text("0", max_size=90) | st.text("09", max_size=40)
_EXPONENTS = st.just("") | st.builds(
    lambda letter, sign, size: f"{letter}{sign}{size}",
    st.sampled_from("eE"),
    st.sampled_from(["", "+", "-"]),
    st.integers(0, 90),
)
_WORDS = st.sampled_from(
    [
        "",
        "-",
        "+",
        ".",
        "-.",
        "e5",
        "1e",
        "1e+",
        "NaN",
        "NAN",
        "Infinity",
        "-Infinity",
        "1e999999999",
        "1e-999999999",
        "1 ",
    ]
)
TEXTS = st.one_of(
    st.builds(
        lambda sign, whole, fraction, exponent: sign + whole + fraction + exponent,
        st.sampled_from(["", "-", "+"]),
        _DIGITS,
        st.just("") | _DIGITS.map(lambda digits: "." + digits),
        _EXPONENTS,
    ),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    _WORDS,
)
LAYOUTS = st.integers(1, 76).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p)))


def _expected(text: str, precision: int, scale: int) -> int | ErrorCode:
    """The unscaled integer or the error, by Python's Decimal."""
    value = _number(text)
    if value is None:
        return ErrorCode.TYPE
    if not value.is_finite():
        return ErrorCode.RANGE
    return _fit(value, precision, scale)


def _number(text: str) -> Decimal | None:
    try:
        return None if text != text.strip() else Decimal(text)
    except python_decimal.InvalidOperation:
        return None


def _fit(value: Decimal, precision: int, scale: int) -> int | ErrorCode:
    if value and value.adjusted() > 1000:
        return ErrorCode.RANGE
    if value and value.adjusted() < -1000:
        return ErrorCode.SCALE
    scaled = value.scaleb(scale, WIDE) if value else Decimal(0)
    if scaled != scaled.to_integral_value(context=WIDE):
        return ErrorCode.SCALE
    return int(scaled) if scaled.copy_abs() < 10**precision else ErrorCode.RANGE


def _answers(result: tuple[pa.Array, list[tuple[int, ErrorCode]]]) -> list[int | ErrorCode | None]:
    """Each row's unscaled integer, its error, or None for NULL."""
    array, errors = result
    array.validate(full=True)
    answers: list[int | ErrorCode | None] = plain(array)
    for row, code in errors:
        assert answers[row] is None
        answers[row] = code
    return answers


@settings(max_examples=EXAMPLES)
@given(st.lists(TEXTS | st.none(), max_size=8), LAYOUTS, st.integers(0, 3))
@example(["1e20000", "0e-99999", "-0", "9" * 76, "1" + "0" * 76], (76, 0), 0)
def test_text_is_read_as_pythons_decimal_reads_it(
    texts: list[str | None], layout: tuple[int, int], skipped: int
) -> None:
    """C and reference give the integer of Python's Decimal, or TYPE, SCALE or RANGE, also for a slice of a column."""
    values = pa.array(texts, pa.utf8())[min(skipped, len(texts)) :]
    expected = [None if text is None else _expected(text, *layout) for text in values.to_pylist()]
    assert _answers(face.from_text(values, *layout)) == expected
    assert _answers(reference.from_text(values, *layout)) == expected


@settings(max_examples=EXAMPLES)
@given(SEEDS, LAYOUTS)
def test_c_agrees_with_the_reference_on_hostile_text(seed: int, layout: tuple[int, int]) -> None:
    """Broken numbers get the same code from both."""
    r = Random(seed)
    wounded = [mutated(r, b"-0012.500e3").decode("utf-8", "replace") for _ in range(20)]
    values = pa.array(wounded, pa.utf8())
    assert _answers(face.from_text(values, *layout)) == _answers(reference.from_text(values, *layout))


@settings(max_examples=EXAMPLES)
@given(st.lists(st.binary(max_size=40) | st.none(), max_size=8), st.integers(-40, 90), LAYOUTS)
@example([b"", b"\x80", b"\xff" * 50, b"\x00" * 50 + b"\x7f", b"\x80" + b"\0" * 31], 0, (76, 0))
@example([b"\x00" * 9000, b"\x01" + b"\x00" * 9000, (10**60).to_bytes(30, "big")], 60, (1, 0))
def test_bytes_are_twos_complement(texts: list[bytes | None], wire_scale: int, layout: tuple[int, int]) -> None:
    """C and reference give int.from_bytes at the wire's scale, moved exactly to the column's, or SCALE or RANGE."""
    expected: list[int | ErrorCode | None] = []
    for data in texts:
        value = None if data is None else int.from_bytes(data, "big", signed=True)
        big = value is not None and abs(value) >= 10**1000
        expected.append(
            None
            if value is None
            else ErrorCode.RANGE
            if big
            else _fit(Decimal(value).scaleb(-wire_scale, WIDE), *layout)
        )
    values = pa.array(texts, pa.binary())
    assert _answers(face.from_bytes(values, wire_scale, *layout)) == expected
    assert _answers(reference.from_bytes(values, wire_scale, *layout)) == expected


@settings(max_examples=EXAMPLES)
@given(LAYOUTS, st.data())
def test_text_and_back(layout: tuple[int, int], data: st.DataObject) -> None:
    """Every decimal's text has exactly its scale's digits, and read again it is the same decimal."""
    precision, scale = layout
    most = 10**precision - 1
    values = data.draw(st.lists(st.none() | st.integers(-9, 9) | st.integers(-most, most), max_size=8))
    data_type = pa.decimal128(*layout) if precision <= 38 else pa.decimal256(*layout)
    array = build(data_type, values)
    texts = face.to_text(array)
    assert texts == reference.to_text(array)
    assert texts.to_pylist() == [None if v is None else f"{Decimal(v).scaleb(-scale, WIDE):.{scale}f}" for v in values]
    assert _answers(face.from_text(texts, precision, scale)) == values


@settings(max_examples=EXAMPLES)
@given(TEXTS)
@example("1e19999")
@example("1e20000")
@example("0e-19999")
@example("0e-20000")
def test_numeric_text_keeps_value_and_digits(text: str) -> None:
    """Canonical text has the value and the fraction digits of Python's Decimal, unless it passes 20,000 digits."""
    value = _number(text)
    expected: bytes | ErrorCode
    if value is None:
        expected = ErrorCode.TYPE
    elif not value.is_finite():
        expected = str(value).encode()
    else:
        fraction = max(-int(value.as_tuple().exponent), 0)
        digits = max(value.adjusted() + 1, 1) + fraction if value else 1 + fraction
        sign = b"-" if value < 0 else b""
        expected = ErrorCode.RANGE if digits > 20_000 else sign + f"{value.copy_abs():.{fraction}f}".encode()
    try:
        found: bytes | ErrorCode = reference.numeric_from_text(text.encode())
    except reference.NotExact as error:
        found = error.code
    assert found == expected


@FACES
def test_example(units: Units) -> None:
    """Money in a decimal(18,4) column: NULL and errors give NULL, each error names its row."""
    texts = ["12.5", None, "-0.0001", "1e3", "0.00005", "1" + "0" * 14, "NaN", "twelve", "7.1000000"]
    array, errors = units.from_text(pa.array(texts), 18, 4)
    assert array.type == pa.decimal128(18, 4)
    kept = [Decimal("12.5"), None, Decimal("-0.0001"), Decimal(1000), None, None, None, None, Decimal("7.1")]
    assert array.to_pylist() == kept
    assert errors == [(4, ErrorCode.SCALE), (5, ErrorCode.RANGE), (6, ErrorCode.RANGE), (7, ErrorCode.TYPE)]
    assert units.to_text(array)[0].as_py() == "12.5000"


@FACES
def test_example_of_bytes(units: Units) -> None:
    """What Connect's Decimal writes: 123.45 at scale 2 is 12345, big endian; the sign is the first bit."""
    array, errors = units.from_bytes(pa.array([b"\x30\x39", b"\xcf\xc7", b"", b"\x80\x00"], pa.binary()), 2, 5, 2)
    assert array.to_pylist() == [Decimal("123.45"), Decimal("-123.45"), Decimal("0.00"), Decimal("-327.68")]
    assert errors == []


@pytest.mark.parametrize(("precision", "scale"), [(0, 0), (77, 0), (5, 6), (5, -1)])
def test_a_layout_that_arrow_lacks_is_refused(precision: int, scale: int) -> None:
    """A precision outside 1..76 or a scale outside 0..precision is an error of the caller."""
    with pytest.raises((HeadraceError, ValueError, pa.ArrowInvalid)):
        face.from_text(pa.array(["1"]), precision, scale)


@FACES
def test_numbers_of_a_million_digits(units: Units) -> None:
    """Huge texts and integers cost no more than reading them, and are out of range."""
    huge = "9" * 1_000_000
    assert _answers(units.from_text(pa.array(["1e99999999999999999999", "0e99999999999999999999"]), 38, 2)) == [
        ErrorCode.RANGE,
        0,
    ]
    assert _answers(units.from_text(pa.array([huge, "0" * 1_000_000 + "5", "0." + huge]), 38, 2)) == [
        ErrorCode.RANGE,
        500,
        ErrorCode.SCALE,
    ]
    assert _answers(units.from_bytes(pa.array([b"\x7f" * 1_000_000], pa.binary()), 0, 38, 0)) == [ErrorCode.RANGE]

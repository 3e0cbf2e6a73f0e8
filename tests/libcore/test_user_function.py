"""A user's own C function: what it gives is used only where it keeps the contract, rule by rule."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libcore.errors import ConfigurationError, DataError, FatalError
from libcore.user_function import UserFunction
from tests.examples import TIMES
from tests.libcore.user_functions import MISBEHAVING, PALLETS, library

NUMBERS, TEXT = pa.schema([("n", pa.int64())]), pa.schema([("t", pa.utf8())])
PIECES = pa.schema([("quantity", pa.int64()), ("per_pallet", pa.int64())])
FATAL = {
    "too_few_rows": "expected 3 rows, as many as came in, found 2",
    "column_too_short": "expected column t of 3 rows, found 2",
    "wrong_type": "expected column 0 to be t u, found t l",
    "wrong_name": "expected column 0 to be t u, found u u",
    "no_name": "found NULL u",
    "no_struct": "expected a struct array (+s), found u",
    "no_columns": "expected 1 columns, found 0",
    "no_column": "expected 1 columns and 1 buffer",
    "no_release": "expected out with a release callback, found none",
    "no_schema": "expected out_schema with a release callback, found none",
    "no_offsets": "expected column t with values, found NULL",
    "no_bytes": "with the bytes that its offsets point at",
    "no_buffers": "expected column t with 3 buffers",
    "too_few_buffers": "expected column t with 3 buffers, found 2",
    "nulls_without_bitmap": "with a validity buffer for its NULLs",
    "offset_below_zero": "found 3 at offset -1",
    "struct_with_offset": "expected a struct without offset",
    "borrowed": "expected column t in memory of its own, found a buffer of the rows that came in",
}
DATA = {
    "falling_offsets": "a value that is none of its type",
    "bad_text": "a value that is none of its type",
    "error_without_text": "misbehaving.so:error_without_text gave code 7 and no error",
    "endless_error": "e" * 256,
}


@pytest.fixture(scope="module")
def misbehaving(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The library of functions that break the contract."""
    return library(MISBEHAVING, tmp_path_factory.mktemp("c"))


@pytest.fixture(scope="module")
def pallets(tmp_path_factory: pytest.TempPathFactory) -> UserFunction | None:
    """The worked example."""
    found = library(PALLETS, tmp_path_factory.mktemp("c"))
    return None if found is None else UserFunction(str(found), "pallets", PIECES, pa.schema([("pallets", pa.int64())]))


def numbers(*values: int) -> pa.RecordBatch:
    """A column of numbers."""
    return pa.RecordBatch.from_arrays([pa.array(values, pa.int64())], schema=NUMBERS)


@settings(max_examples=50 * TIMES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.none() | st.integers(0, 2**62), st.none() | st.integers(1, 2**62)), min_size=1, max_size=20)
)
def test_the_example_computes(pallets: UserFunction | None, rows: list[tuple[int | None, int | None]]) -> None:
    """Rounded up, NULL where a column is NULL, from a slice as from a whole batch."""
    expected = [None if quantity is None or fit is None else -(-quantity // fit) for quantity, fit in rows]
    columns = [pa.array([row[index] for row in rows], pa.int64()) for index in range(2)]
    record = pa.RecordBatch.from_arrays(columns, schema=PIECES)
    if pallets is not None:
        assert pallets(record).column("pallets").to_pylist() == expected
        assert pallets(record.slice(len(rows) - 1)).column("pallets").to_pylist() == expected[-1:]
    assert len(expected) == len(rows)


def test_the_example_says_what_it_expected(pallets: UserFunction | None) -> None:
    """Its error becomes a DataError with the function's own sentence."""
    record = pa.RecordBatch.from_arrays([pa.array([1, -5]), pa.array([48, 48])], schema=PIECES)
    with pytest.raises(DataError, match="expected a quantity from 0"):
        if pallets is None:
            raise DataError("expected a quantity from 0: no compiler to try it with")
        pallets(record)


def test_what_keeps_the_contract_passes(misbehaving: Path | None) -> None:
    """The function that the wrong ones are made of gives its rows, in memory that the library cannot change."""
    if misbehaving is None:
        assert TEXT.names == ["t"]
        return
    good = UserFunction(str(misbehaving), "good", NUMBERS, TEXT)
    first = good(numbers(1, 2, 3))
    good(numbers(*range(100)))
    assert first.schema == TEXT and first.column("t").to_pylist() == ["x", "x", "x"]


@pytest.mark.parametrize(("name", "kind", "message"), [
    *((name, FatalError, message) for name, message in FATAL.items()),
    *((name, DataError, message) for name, message in DATA.items()),
])  # fmt: skip
def test_what_breaks_the_contract_is_refused(
    misbehaving: Path | None, name: str, kind: type[Exception], message: str
) -> None:
    """Wrong structure is fatal, a wrong value is the rows' fault; the error names function, expected and found."""
    if misbehaving is None:
        assert message
        return
    with pytest.raises(kind) as caught:
        UserFunction(str(misbehaving), name, NUMBERS, TEXT)(numbers(1, 2, 3))
    assert message in str(caught.value)


def test_a_function_that_is_not_there_is_refused(misbehaving: Path | None, tmp_path: Path) -> None:
    """No library, a file that is none, no function of that name, a name that C cannot have."""
    (tmp_path / "text.so").write_text("no library")
    for path, name in (
        (tmp_path / "none.so", "f"),
        (tmp_path / "text.so", "f"),
        (misbehaving, "gone"),
        (misbehaving, "f()"),
    ):
        with pytest.raises(ConfigurationError, match="expected"):
            UserFunction(str(path), name, NUMBERS, TEXT)

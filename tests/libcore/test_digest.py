"""The row digest and the table digest: by value, by name, of every row, from either implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.change import UNSET
from libcore.digest import TableDigest, chosen, digest_rows, digest_table, seed_of
from libcore.errors import ConfigurationError, CorruptionError
from libcore.reference import digest as reference
from libcore.schema import Column, Table, parse_type
from tests.libcore.batches import TYPES, build, changes, columns, records
from tests.libcore.strategies import EXAMPLES

GOLDEN = Path(__file__).parent.parent / "golden" / "digest.json"


def one(kind: str, *plain: Any, name: str = "c") -> list[bytes]:
    """The digests of a column of plain values."""
    record = pa.RecordBatch.from_arrays([build(parse_type(kind).arrow, plain)], names=[name])
    return digest_rows(record).to_pylist()


def by_reference(record: pa.RecordBatch) -> list[bytes]:
    """What the reference gives for all columns but the control columns."""
    indexes = chosen(record, None)
    return reference.digest_rows(record, indexes, record.schema.get_field_index(UNSET), seed_of(record, indexes))


@settings(max_examples=EXAMPLES // 4)
@given(records())
def test_agrees_with_the_reference(record: pa.RecordBatch) -> None:
    """Any columns of any batch, sliced or not, give the reference's digests, and their sum."""
    expected = by_reference(record)
    assert digest_rows(record).to_pylist() == expected
    total = sum(int.from_bytes(digest, "little") for digest in expected) % 2**128
    assert digest_table(record) == TableDigest(record.num_rows, total)


@pytest.mark.parametrize("kind", TYPES, ids=str)
@settings(max_examples=EXAMPLES // 25)
@given(st.data())
def test_agrees_for_each_type(kind: pa.DataType, data: st.DataObject) -> None:
    """Each type that libcore carries, with NULLs and values at its ends, gives the reference's digests."""
    record = pa.RecordBatch.from_arrays([data.draw(columns(kind, 5))], names=["c"])
    assert digest_rows(record).to_pylist() == by_reference(record)


@settings(max_examples=EXAMPLES // 10)
@given(st.data())
def test_unset_values_agree_with_the_reference(data: st.DataObject) -> None:
    """Batches of changes, with __unset or without: control columns do not count, unset ones have a digest of theirs."""
    names = ["id", *(f"c{index}" for index in range(9))]
    table = Table("t", tuple(Column(name, parse_type("int64")) for name in names), ("id",))
    record = data.draw(changes(table, rows_max=5))
    assert digest_rows(record).to_pylist() == by_reference(record)


@settings(max_examples=EXAMPLES // 6)
@given(records(rows_max=12), st.randoms(use_true_random=False), st.data())
def test_the_order_of_rows_does_not_count_but_each_row_does(
    record: pa.RecordBatch, random: Any, data: st.DataObject
) -> None:
    """Rows in another order, or in two parts, come to the same; two equal ones more do not."""
    order = list(range(record.num_rows))
    random.shuffle(order)
    whole, cut = digest_table(record), data.draw(st.integers(0, record.num_rows))
    assert digest_table(record.take(pa.array(order, pa.int64()))) == whole
    head, tail = digest_table(record.slice(0, cut)), digest_table(record.slice(cut))
    assert head + tail == whole and whole - tail == head
    if record.num_rows:
        twice = digest_table(record.take(pa.array([*order, 0, 0], pa.int64())))
        assert twice.rows == whole.rows + 2 and twice.total != whole.total


def test_a_pair_that_changes_places_is_seen() -> None:
    """Two values swapped between rows, or between columns of one row, change the table's digest."""
    straight = pa.RecordBatch.from_pydict({"a": [1, 2], "b": ["x", "y"]})
    crossed = pa.RecordBatch.from_pydict({"a": [1, 2], "b": ["y", "x"]})
    assert digest_table(straight) != digest_table(crossed)
    turned = pa.RecordBatch.from_pydict({"a": ["x", "y"], "b": [1, 2]})
    assert digest_table(straight) != digest_table(turned)


def test_equal_values_have_equal_digests() -> None:
    """Width and scale of an exact number, the unit of a time and the place of a column do not count; names do."""
    assert one("int16", -3) == one("int64", -3) == one("decimal(9,0)", -3) == one("decimal(60,4)", -30000)
    assert one("decimal(18,2)", 150) == one("decimal(18,1)", 15)
    assert one("timestamp", -1) == one("timestamp_ns", -1000) and one("time", 7) == one("time_ns", 7000)
    assert one("float64", -0.0) == one("float32", 0.0)
    assert one("int64", 1) != one("int64", 1, name="d")
    there = pa.RecordBatch.from_pydict({"a": [1], "b": [2]})
    assert digest_table(there) == digest_table(there.select(["b", "a"]))
    assert digest_table(there, ["a"]) != digest_table(there)


def test_what_is_alike_but_not_equal_differs() -> None:
    """NULL, empty and zero, text and its bytes, an instant and a wall clock time, a float and an integer."""
    digests = [
        *one("string", None, b"", b"0", b"\x00"), *one("bytes", b"", b"0"), *one("int64", 0), *one("float64", 0.0),
        *one("bool", False), *one("date", 0), *one("time", 0), *one("timestamp", 0), *one("timestamptz", 0),
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)


def test_golden_digests_stay() -> None:
    """Every digest of the golden file comes out again, from C and from the reference."""
    cases = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
    assert len(cases) >= 30
    for case in cases:
        arrays = [
            build(parse_type(kind).arrow, [bytes.fromhex(value[1:]) if str(value)[:1] == "x" else value])
            for kind, value in zip(case["types"], case["values"], strict=True)
        ]
        record = pa.RecordBatch.from_arrays(arrays, names=case["names"])
        assert digest_rows(record).to_pylist() == by_reference(record) == [bytes.fromhex(case["digest"])], case


def test_a_table_digest_is_kept_as_text() -> None:
    """Its text is read back equal; another text is refused with what was expected."""
    digest = digest_table(pa.RecordBatch.from_pydict({"a": [1, 1]}))
    assert TableDigest.parse(str(digest)) == digest and str(TableDigest()) == f"0:{0:032x}"
    with pytest.raises(CorruptionError, match="expected a table digest ROWS:32 hexadecimal digits"):
        TableDigest.parse("2:zz")


def test_columns_that_do_not_fit_are_refused() -> None:
    """A column that is not there, one named twice, and a type that libcore does not carry."""
    record = pa.RecordBatch.from_pydict({"a": [1]})
    for names in (["b"], ["a", "a"]):
        with pytest.raises(ConfigurationError, match="expected each column once"):
            digest_rows(record, names)
    for column in (pa.array([[1]]), pa.array([1], pa.uint64())):
        with pytest.raises(TypeError, match="libcore carries no"):
            digest_rows(pa.RecordBatch.from_arrays([column], names=["a"]))

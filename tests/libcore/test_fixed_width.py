"""Fixed-width files: C and reference read every file alike, however it is cut, and each rule holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.delimited import LineCode, TextColumn, Trim
from libcore.errors import ConfigurationError
from libcore.fixed_width import FixedPlan, FixedReader, RecordKind, check_fixed, read_fixed
from libcore.schema import Column, parse_type
from tests.libcore.delimited_files import answer, any_fixed, by_reference, cuts, rows
from tests.libcore.strategies import EXAMPLES, LEVELS, SEEDS

FACES = [read_fixed, lambda *a, **k: by_reference(read_fixed, *a, **k)]


def column(name: str, kind: str, offset: int, length: int, **options: Any) -> TextColumn:
    return TextColumn(Column(name, parse_type(kind)), offset=offset, length=length, **options)


@settings(max_examples=EXAMPLES)
@given(SEEDS, st.booleans(), st.sampled_from([1, 3, 1 << 20]))
def test_c_agrees_with_the_reference(seed: int, final: bool, rows_max: int) -> None:
    """C gives rows of each kind, lines, errors and state of the reference, at every level of the machine."""
    plan, data = any_fixed(seed)
    expected = answer(FACES[1](plan, data, final=final, rows_max=rows_max))
    for level in LEVELS:
        assert answer(read_fixed(plan, data, final=final, rows_max=rows_max, level=level)) == expected


@settings(max_examples=EXAMPLES)
@given(SEEDS)
def test_where_a_file_is_cut_does_not_matter(seed: int) -> None:
    """A file in pieces gives the rows, errors and end of the whole."""
    plan, data = any_fixed(seed)
    whole = read_fixed(plan, data, final=True)
    reader, errors, pieces = FixedReader(plan), [], cuts(seed, data)
    found: dict[str, list[Any]] = {kind.name: [] for kind in plan.kinds}
    for number, piece in enumerate(pieces):
        read = reader.feed(piece, final=number == len(pieces) - 1)
        errors += read.errors
        for name, kind in read.kinds.items():
            found[name] += rows(kind)
    assert found == {name: rows(kind) for name, kind in whole.kinds.items()}
    assert (errors, reader.state) == (whole.errors, whole.state)
    assert reader.kept_bytes == 0


KINDS = (
    RecordKind("head", (column("day", "date", 1, 8, pattern="%Y%m%d"),), "H"),
    RecordKind(
        "item",
        (column("name", "string", 1, 5, trim=Trim.RIGHT), column("amount", "decimal(9,2)", 6, 8, implied_decimals=2)),
        "I",
    ),
)


@pytest.mark.parametrize("read", FACES, ids=["face", "reference"])
def test_kinds_of_records(read: Any) -> None:
    """Header and items go to their own rows; characters count, not bytes; what does not fit is an error of its line."""
    text = "H20240229\nIMüllé00012345\nIab      1050-\nT0002\nIab   12\nI     0000000x\nIab   00000001 zu\n"
    done = read(FixedPlan(KINDS), text.encode(), final=True)
    assert rows(done.kinds["head"]) == ["(19782, 1, 0)"]
    assert done.kinds["item"].record.to_pylist() == [
        {"name": "Müllé", "amount": Decimal("123.45")}, {"name": "ab", "amount": Decimal("-10.50")},
    ]  # fmt: skip
    assert [(e.line, e.code, e.byte_position, e.kind, e.column) for e in done.errors] == [
        (4, LineCode.KIND, 0, "", ""), (5, LineCode.FIELDS, 8, "item", ""), (6, LineCode.TYPE, 6, "item", "amount"),
        (7, LineCode.FIELDS, 14, "item", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("read", FACES, ids=["face", "reference"])
def test_blocks_padding_and_bytes(read: Any) -> None:
    """Blocks without line ends, records whose blanks were cut off, and offsets in bytes."""
    kind = RecordKind("r", (column("a", "string", 0, 3, trim=Trim.RIGHT), column("n", "int32", 3, 3)))
    done = read(FixedPlan((kind,), record_bytes=6), b"ab 001cd 002ef 0", final=True)
    assert done.kinds["r"].record.to_pylist() == [{"a": "ab", "n": 1}, {"a": "cd", "n": 2}]
    assert [(e.line, e.code) for e in done.errors] == [(3, LineCode.FIELDS)]
    done = read(FixedPlan((kind,), pad_short=True), b"ab\nabc12\n", final=True)
    assert done.kinds["r"].record.to_pylist() == [{"a": "ab", "n": None}, {"a": "abc", "n": 12}]
    latin = read(FixedPlan((kind,), encoding="cp1252"), b"\xe4\x80 007\r\n", final=True)
    assert latin.kinds["r"].record.to_pylist() == [{"a": "ä€", "n": 7}]
    by_bytes = read(FixedPlan((kind,), characters=False), "ä 007\n".encode(), final=True)
    assert by_bytes.kinds["r"].record.to_pylist() == [{"a": "ä", "n": 7}]


@pytest.mark.parametrize("read", FACES, ids=["face", "reference"])
def test_units_of_utf16(read: Any) -> None:
    """Where they are counted, a character of four bytes is two wide, at a record's end too."""
    kind = RecordKind("r", (column("a", "string", 0, 3), column("n", "int32", 3, 3)), width=8)
    wide = "\U0001f600"
    text = f"x{wide}007 \u00fc\nx{wide}007{wide}\nx{wide}007 {wide}\nab{wide}07  \nx{wide}007 \n"
    done = read(FixedPlan((kind,), ignore_rest=True, utf16_units=True), text.encode(), final=True)
    assert [row["n"] for row in done.kinds["r"].record.to_pylist()] == [7, 7, 7]
    assert [(e.line, e.code, e.byte_position, e.column) for e in done.errors] == [
        (4, LineCode.UTF8, 2, "a"), (5, LineCode.FIELDS, 9, "")]  # fmt: skip
    strict = read(FixedPlan((kind,), utf16_units=True), text.encode(), final=True)
    assert [(e.line, e.code, e.byte_position) for e in strict.errors] == [
        (3, LineCode.FIELDS, 9), (4, LineCode.UTF8, 2), (5, LineCode.FIELDS, 9)]  # fmt: skip


@pytest.mark.parametrize("read", FACES, ids=["face", "reference"])
def test_a_marker_of_a_file_with_a_byte_order_mark(read: Any) -> None:
    """Under utf-8-sig the file alone has a mark: markers and NULL words are looked for without one."""
    kind = RecordKind("r", (column("a", "string", 1, 2, null_words=("--",)),), "A")
    done = read(FixedPlan((kind,), encoding="utf-8-sig"), b"\xef\xbb\xbfAxy\nA--\n", final=True)
    assert done.kinds["r"].record.to_pylist() == [{"a": "xy"}, {"a": None}]
    assert done.errors == []


def test_unknown_kinds_may_be_passed_by() -> None:
    """With ignore_kinds a record without a marker's begin is counted, and no error; an empty file has no rows."""
    done = read_fixed(FixedPlan(KINDS, ignore_kinds=True), b"X\nH20240229\nY\n", final=True)
    assert (done.ignored, done.errors, done.kinds["head"].record.num_rows) == (2, [], 1)
    assert read_fixed(FixedPlan(KINDS), b"", final=True).kinds["item"].record.num_rows == 0


@pytest.mark.parametrize(
    "plan",
    [
        FixedPlan(()),
        FixedPlan((KINDS[0], KINDS[0])),
        FixedPlan((RecordKind("r", (column("a", "string", 0, 3),), width=2),)),
        FixedPlan(KINDS, record_bytes=10, skip_lines=1),
        FixedPlan(KINDS, encoding="utf-16-le"),
        FixedPlan((RecordKind("r", (column("a", "date", 0, 8, pattern="%d"),)),)),
    ],
)
def test_plans_that_contradict_themselves(plan: FixedPlan) -> None:
    """A plan that cannot mean what it says is refused."""
    with pytest.raises(ConfigurationError):
        check_fixed(plan)
    with pytest.raises(ConfigurationError):
        read_fixed(plan, b"x")

"""The short ways that everyday values take give what the long ways give: at and around each of their borders."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libcore import json
from libcore.decode_types import ErrorCode
from libcore.pgoutput import decode_pgoutput
from libcore.pgoutput_types import Kind, PgoutputPlan, PgoutputState, RelationPlan, Wire
from libcore.reference import pgoutput as reference
from libcore.reference import transform as plain_transform
from libcore.schema import Column, Table, parse_type
from libcore.transform import OPERATIONS, ROUNDINGS, arithmetic
from tests.libcore import pgoutput_wire as wire

_TYPES = {
    "i64": ("int64", Kind.INT), "i32": ("int32", Kind.INT), "i16": ("int16", Kind.INT), "t": ("string", Kind.TEXT),
    "money": ("decimal(18,4)", Kind.NUMERIC), "small": ("decimal(5,2)", Kind.NUMERIC),
    "many": ("decimal(38,12)", Kind.NUMERIC), "at": ("timestamp", Kind.TIMESTAMP),
}  # fmt: skip
_COLUMNS = (Column("id", parse_type("int64")), *(Column(name, parse_type(kind)) for name, (kind, _) in _TYPES.items()))
_TABLE = Table("erp.short", _COLUMNS, ("id",))
_WIRES = (Wire(Kind.INT, 0), *(Wire(kind, place) for place, (_, kind) in enumerate(_TYPES.values(), 1)))
_PLAN = PgoutputPlan((RelationPlan(1, _TABLE, _WIRES),))

_DIGITS = st.text("0123456789", min_size=0, max_size=21)
_NUMBERS = st.tuples(st.sampled_from(["", "-", "+", " "]), _DIGITS, st.sampled_from(["", ".", "/", ":", "e"]), _DIGITS)
_FIELDS = [st.integers(0, limit) for limit in (10001, 13, 32, 24, 60, 60)]
_STAMPS = st.tuples(*_FIELDS, st.sampled_from(["", ".", ".0", ".5", ".123456", ".1234567", ".12x", " BC", "+00"]))
_TEXTS = st.text(st.sampled_from("ab\0\x7fäß€😀"), max_size=40)


def _stamp(parts: tuple[int, int, int, int, int, int, str]) -> str:
    year, month, day, hour, minute, second, tail = parts
    return f"{year:04d}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}:{second:02d}{tail}"


_VALUES = (
    *[_NUMBERS.map("".join) | st.integers(-(2**64), 2**64).map(str) for _ in range(3)],
    _TEXTS,
    *[_NUMBERS.map("".join) | st.decimals(-(10**15), 10**15, places=4).map(str) for _ in range(3)],
    _STAMPS.map(_stamp),
)
_CELLS = st.one_of([st.tuples(st.just(place), value) for place, value in enumerate(_VALUES)])


@given(st.lists(_CELLS, min_size=1, max_size=8), st.booleans())
def test_a_change_is_read_as_the_reference_reads_it(cells: list[tuple[int, str]], updates: bool) -> None:
    """One value drawn from everything in a row that is good otherwise: the same rows and the same errors."""
    usual = ["1", "2", "3", "text", "1.5000", "2.50", "3", "2026-02-28 23:59:59.5"]
    rows = []
    for number, (place, value) in enumerate(cells):
        rows.append([str(number), *usual[:place], value, *usual[place + 1 :]])
    made = [wire.update(1, row) if updates else wire.insert(1, row) for row in rows]
    batch = wire.messages([wire.begin(100), *made, wire.commit(100, 101)])
    mine, truth = decode_pgoutput(_PLAN, batch), reference.decode_pgoutput(_PLAN, batch, 0, PgoutputState())
    assert [item.record for item in mine.batches] == [item.record for item in truth.batches]
    assert mine.errors == truth.errors and mine.state == truth.state


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_a_bad_byte_is_found_wherever_it_stands(bad: bytes, level: int) -> None:
    """A malformed sequence at any place of a text of any length up to some blocks, at every level of vectors."""
    for size in (0, 1, 15, 16, 17, 31, 32, 33, 47, 63, 64, 127, 128, 129, 161, 200):
        good = b'"' + b"a" * size + b'"'
        texts = [good, *(good[:at] + bad + good[at:] for at in range(1, size + 2))]
        found = json.validate(pa.array(texts, pa.binary()), level=level)
        assert found == [(0, -1), *((int(ErrorCode.UTF8), at) for at in range(1, size + 2))]


_MONEY = st.decimals(-(10**14), 10**14, places=4) | st.integers(-(2**63), 2**63).map(lambda n: Decimal(n).scaleb(-4))


@given(
    st.lists(st.tuples(_MONEY, _MONEY | st.integers(-99999, 99999).map(lambda n: Decimal(n).scaleb(-4))), min_size=1),
    st.sampled_from(OPERATIONS), st.sampled_from(ROUNDINGS),
    st.sampled_from(["decimal(18,4)", "decimal(5,2)", "decimal(38,10)", "decimal(19,0)", "decimal(20,8)"]),
)  # fmt: skip
def test_money_is_computed_as_the_reference_does(
    pairs: list[tuple[Decimal, Decimal]], operation: str, rounding: str, kind: str
) -> None:
    """Sums, differences, products and quotients around one word's borders: the same values and the same errors."""
    left, right = (pa.array(column, pa.decimal128(38, 4)) for column in zip(*pairs, strict=True))
    mine = arithmetic(operation, left, right, parse_type(kind), rounding)
    record = pa.RecordBatch.from_arrays([left, right], names=["left", "right"])
    values, errors = plain_transform.arithmetic(operation, record, parse_type(kind), rounding)
    assert mine.values.to_pylist() == values.to_pylist()
    assert [(row, int(code)) for row, code in mine.errors] == [(row, int(code)) for row, code in errors]

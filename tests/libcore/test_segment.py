"""Segments: what was written is read back in place; a changed or cut byte is corruption, never another value."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import segment
from libcore.change import UNSET, Op, arrow_schema
from libcore.errors import CorruptionError
from libcore.hashing import xxh64
from libcore.position import make
from libcore.reference import segment as reference
from libcore.reference.segment import MAGIC
from libcore.schema import Column, Table, parse_type
from tests.examples import TIMES
from tests.libcore.batches import changes, same
from tests.libcore.strategies import SEEDS, mutated

GOLDEN = Path(__file__).parent.parent / "golden" / "segment-v1.bin"
ITEMS = Table(
    "erp.items",
    (
        Column("order_id", parse_type("int64"), nullable=False),
        Column("note", parse_type("string")),
        Column("price", parse_type("decimal(18,4)")),
        Column("tags", parse_type("array(string)")),
    ),
    ("order_id",),
)
LOG = Table("erp.log", (Column("line", parse_type("string")), Column("at", parse_type("timestamptz"))))
_METADATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _items(rows: list[tuple[int, str | None]], unset: bool = False) -> pa.RecordBatch:
    schema = arrow_schema(ITEMS, with_unset=unset)
    arrays = [pa.array([row[0] for row in rows], pa.int64()), pa.array([row[1] for row in rows], pa.utf8())]
    arrays += [pa.nulls(len(rows), schema.field(2).type), pa.nulls(len(rows), pa.utf8())]
    arrays.append(pa.array([Op.UPSERT] * len(rows), pa.int8()))
    arrays.append(pa.array([make(0, 1, row[0]) for row in rows], pa.binary(32)))
    arrays.append(pa.nulls(len(rows), schema.field("__source_ts").type))
    if unset:
        arrays.append(pa.array([b"\4"] * len(rows), pa.binary(1)))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _sealed(body: bytes, footer: bytes) -> bytes:
    """A segment whose seal is right, whatever it holds."""
    data = MAGIC + body + footer + len(footer).to_bytes(4, "little")
    return data + xxh64(data).to_bytes(8, "little") + MAGIC


def _any_segment(r: Random) -> bytes:
    """A sealed file, whole or with wounds; some are sealed anew behind a wound or a footer's size that may not fit."""
    data = _sealed(r.randbytes(r.choice((0, 1, 7, 40, 100))), r.randbytes(r.randrange(60)))
    if r.random() < 0.7:
        data = mutated(r, data)
    if len(data) >= 28 and r.random() < 0.6:
        size = r.choice((data[-20:-16], r.randrange(len(data) + 2).to_bytes(4, "little"), r.randbytes(4)))
        body = data[:-20] + size
        data = body + xxh64(body).to_bytes(8, "little") + (MAGIC if r.random() < 0.8 else data[-8:])
    return data


def _verdict(check: Callable[[Any], tuple[int, int]], data: Any) -> tuple[int, int] | str:
    """Offset and size of the footer, or the sentence that says what is wrong."""
    try:
        return check(data)
    except CorruptionError as error:
        return str(error)


@settings(max_examples=200 * TIMES)
@given(SEEDS)
def test_the_seal_agrees_with_the_reference(seed: int) -> None:
    """Sound, wounded and wrongly sealed files: the same footer, or the same sentence about the same fault."""
    data = _any_segment(Random(seed))
    assert _verdict(segment.check, pa.py_buffer(data)) == _verdict(reference.check, memoryview(data))


@settings(max_examples=50 * TIMES)
@given(
    st.lists(changes(ITEMS) | changes(LOG), max_size=3),
    st.dictionaries(st.text(max_size=5), _METADATA, max_size=3),
)
def test_what_was_written_is_read(records: list[pa.RecordBatch], metadata: dict[str, Any]) -> None:
    """Any parts and any JSON metadata come back equal, in order, from either implementation of the seal."""
    parts = [(ITEMS if "order_id" in record.schema.names else LOG, record) for record in records]
    data = segment.write(parts, metadata)
    found = segment.read(data)
    assert found.metadata == metadata
    assert [table for table, _ in found.parts] == [table for table, _ in parts]
    assert all(same(a, b) for (_, a), (_, b) in zip(found.parts, parts, strict=True))
    assert found.row_count == sum(record.num_rows for record in records)
    offset, size = reference.check(memoryview(data))
    assert json.loads(data.slice(offset, size).to_pybytes())["version"] == 1


@settings(max_examples=40 * TIMES)
@given(st.data())
def test_a_changed_bit_is_corruption(data: st.DataObject) -> None:
    """One flipped bit anywhere is refused by both implementations."""
    good = bytearray(segment.write([(ITEMS, _items([(1, "a"), (2, None)]))], {"epoch": 7}))
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    good[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptionError):
        segment.read(bytes(good))
    with pytest.raises(CorruptionError):
        reference.check(memoryview(good))


@settings(max_examples=40 * TIMES)
@given(st.data())
def test_a_cut_file_is_corruption(data: st.DataObject) -> None:
    """A crash in the middle of writing leaves a file that is refused, wherever it was cut."""
    good = segment.write([(ITEMS, _items([(1, "a")]))], {}).to_pybytes()
    with pytest.raises(CorruptionError):
        segment.read(good[: data.draw(st.integers(0, len(good) - 1))])


def test_the_golden_segment_stays_readable() -> None:
    """A segment of format version 1, written once and for all, gives its tables, rows and metadata."""
    found = segment.read(GOLDEN.read_bytes())
    assert found.metadata == {"seq": 41, "truncates": [{"table": "erp.items", "after": 2}], "text": "Größe"}
    assert [table for table, _ in found.parts] == [ITEMS, LOG, ITEMS]
    first, log, last = (record for _, record in found.parts)
    assert same(first, _items([(1, "a"), (2, None)], unset=True))
    assert log.column("line").to_pylist() == ["started"]
    assert same(last, _items([(2**62, "Straße")]))
    assert found.parts[0][0].fingerprint == ITEMS.fingerprint


def test_streams_open_at_their_offset(tmp_path: Path) -> None:
    """Each range is a whole Arrow stream at a multiple of 64; rows of a mapped file point into the file."""
    path = tmp_path / "a.segment"
    path.write_bytes(
        segment.write([(ITEMS, _items([(1, "a")])), (LOG, pa.RecordBatch.from_pylist([], arrow_schema(LOG)))], {})
    )
    data = path.read_bytes()
    offset, size = reference.check(memoryview(data))
    ranges = json.loads(data[offset : offset + size])["ranges"]
    assert [part["offset"] % 64 for part in ranges] == [0, 0]
    opened = [pa.ipc.open_stream(data[part["offset"] : part["offset"] + part["length"]]).read_all() for part in ranges]
    assert [table.num_rows for table in opened] == [1, 0]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        whole = pa.py_buffer(mapped)
        column = segment.read(mapped).parts[0][1].column("order_id")
        assert whole.address <= column.buffers()[1].address < whole.address + whole.size
        del column, whole


def test_an_odd_address_is_read_too() -> None:
    """A segment at an odd place in a larger buffer reads the same, and its values stand where C may load them."""
    data = segment.write([(ITEMS, _items([(1, "a")]))], {}).to_pybytes()
    found = segment.read(pa.py_buffer(b"x" + data).slice(1))
    assert found.parts[0][1].column("order_id").buffers()[1].address % 8 == 0
    assert same(found.parts[0][1], _items([(1, "a")]))


def test_merge_keeps_every_row_in_order() -> None:
    """Two segments become one: a part a table, rows in order, those without __unset lack nothing."""
    one = segment.read(
        segment.write(
            [(ITEMS, _items([(1, "a")])), (LOG, pa.RecordBatch.from_pylist([], arrow_schema(LOG)))], {"seq": 1}
        )
    )
    two = segment.read(segment.write([(ITEMS, _items([(2, "b"), (1, "c")], unset=True))], {"seq": 2}))
    merged = segment.read(segment.merge([one, two], {"seq": 2}))
    assert merged.metadata == {"seq": 2}
    assert [table for table, _ in merged.parts] == [ITEMS, LOG]
    record = merged.parts[0][1]
    assert record.column("order_id").to_pylist() == [1, 2, 1]
    assert record.column("note").to_pylist() == ["a", "b", "c"]
    assert record.column(UNSET).to_pylist() == [b"\0", b"\4", b"\4"]
    assert segment.read(segment.merge([], {})).parts == []


@pytest.mark.parametrize(
    "footer",
    [
        b"",
        b"no json",
        b"[]",
        b"\xff",
        b'{"version":2}',
        b'{"version":1,"metadata":{},"tables":[],"ranges":[{"table":0,"offset":8,"length":1,"rows":0}]}',
        b'{"version":1,"metadata":{},"tables":[{"name":"t","columns":[],"key":["x"]}],"ranges":[]}',
        b'{"version":1,"metadata":{},"tables":[{"name":"t","columns":[["a","int99",true]],"key":[]}],"ranges":[]}',
        b'{"version":1,"metadata":{},"tables":[{"name":"t","columns":[],"key":[]}],'
        b'"ranges":[{"table":0,"offset":-8,"length":16,"rows":0}]}',
        b'{"version":1,"metadata":{},"tables":[{"name":"t","columns":[],"key":[]}],'
        b'"ranges":[{"table":0,"offset":8,"length":999,"rows":0}]}',
        b'{"version":1,"metadata":{},"tables":[{"name":"t","columns":[],"key":[]}],'
        b'"ranges":[{"table":0,"offset":8,"length":64,"rows":0}]}',
    ],
)  # fmt: skip
def test_a_wrong_footer_under_a_right_seal_is_corruption(footer: bytes) -> None:
    """Bytes that hash right but mean nothing are refused as corruption, not as some other error."""
    with pytest.raises(CorruptionError):
        segment.read(_sealed(bytes(64), footer))


@settings(max_examples=150 * TIMES)
@given(st.data())
def test_any_footer_under_a_right_seal_is_read_or_corruption(data: st.DataObject) -> None:
    """A footer with any JSON in any place, under a right seal: a segment or CorruptionError, never another error."""
    good = segment.write([(ITEMS, _items([(1, "a")]))], {}).to_pybytes()
    offset, size = reference.check(memoryview(good))
    footer = json.loads(good[offset : offset + size])
    place: Any = footer
    for _ in range(data.draw(st.integers(0, 4))):
        step = place[data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))]
        if not isinstance(step, list | dict) or not step:
            break
        place = step
    place[data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))] = data.draw(
        _METADATA
    )
    try:
        found = segment.read(_sealed(good[8:offset], json.dumps(footer).encode()))
    except CorruptionError as error:
        assert str(error).startswith("segment: ")
    else:
        assert isinstance(found, segment.Segment)


def test_metadata_must_be_json() -> None:
    """What JSON cannot hold is refused when it is written, not when it is read."""
    with pytest.raises(TypeError):
        segment.write([], {"a": b"bytes"})
    with pytest.raises(ValueError):
        segment.write([], {"a": float("nan")})

"""An immutable state or spool file: Arrow IPC streams, a JSON footer, a checksum. Bytes in, bytes out.

The layout stands in include/libcore/segment.h. The footer of format version 1:

    {"version": 1, "metadata": {...},
     "tables": [{"name": text, "columns": [[name, type, nullable], ...], "key": [name, ...]}],
     "ranges": [{"table": index, "offset": bytes, "length": bytes, "rows": count}]}

Each range is a whole Arrow IPC stream with one record batch: `pyarrow.ipc.open_stream(data[offset:offset+length])`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.change import UNSET, lacking_nothing
from libcore.errors import ConfigurationError, CorruptionError
from libcore.hashing import xxh64
from libcore.reference import segment as reference
from libcore.reference.segment import MAGIC, TAIL_BYTES
from libcore.schema import Column, Table, parse_type

FORMAT_VERSION = 1
# What reading a footer or stream raises that `write` did not make.
_NOT_OURS = (ValueError, LookupError, TypeError, AttributeError, OSError, pa.ArrowException, ConfigurationError)
_OFFSET_MAX = 10**15  # no offset in a footer has more digits
_ALIGNMENT = 64  # of streams, so that Arrow's own alignment inside them holds in the file too


@dataclass(frozen=True)
class Segment:
    """What a segment holds.

    Args:
        metadata: JSON values, as written.
        parts: (table, rows) in the order of writing; the rows lie in the segment's own memory.
    """

    metadata: dict[str, Any]
    parts: list[tuple[Table, pa.RecordBatch]]

    @property
    def row_count(self) -> int:
        """Rows of all parts."""
        return sum(record.num_rows for _, record in self.parts)


def write(parts: Sequence[tuple[Table, pa.RecordBatch]], metadata: Mapping[str, Any]) -> pa.Buffer:
    """Encode a segment.

    Args:
        parts: a table may come more than once; order is kept; no parts at all is fine.
        metadata: JSON values only (str, int, float, bool, None, lists, dicts with str keys).
    Returns: the bytes, ready to be written to a file as they are.
    Raises: TypeError for metadata that is no JSON, ValueError for NaN in it or a segment above 4 GB of footer.
    """
    tables = {table: index for index, table in enumerate(dict.fromkeys(table for table, _ in parts))}
    named = [table_as_json(table) for table in tables]

    def footer_of(places: Sequence[tuple[int, int]]) -> bytes:
        ranges = [
            {"table": tables[table], "offset": offset, "length": length, "rows": record.num_rows}
            for (table, record), (offset, length) in zip(parts, places, strict=True)
        ]
        return _footer({"version": FORMAT_VERSION, "metadata": dict(metadata), "tables": named, "ranges": ranges})

    # All bytes are written once, into memory of a size that suffices: growing and sealing copied them twice more.
    bound = len(footer_of([(_OFFSET_MAX, _OFFSET_MAX)] * len(parts))) + sum(
        _stream_bytes(record) for _, record in parts
    )
    buffer = pa.allocate_buffer(bound + len(MAGIC) + TAIL_BYTES)
    sink = pa.FixedSizeBufferWriter(buffer)
    sink.write(MAGIC)
    places = []
    for _, record in parts:
        sink.write(bytes(-sink.tell() % _ALIGNMENT))
        offset = sink.tell()
        with pa.ipc.new_stream(sink, record.schema) as writer:
            writer.write_batch(record)
        places.append((offset, sink.tell() - offset))
    footer = footer_of(places)
    sink.write(footer)
    sink.write(len(footer).to_bytes(4, "little"))
    sink.write(xxh64(buffer.slice(0, sink.tell())).to_bytes(8, "little"))
    sink.write(MAGIC)
    return buffer.slice(0, sink.tell())


def _stream_bytes(record: pa.RecordBatch) -> int:
    """At least what the record's IPC stream takes: alignment, schema, batch, the stream's end."""
    return _ALIGNMENT + record.schema.serialize().size + 64 + pa.ipc.get_record_batch_size(record)


def _footer(content: dict[str, Any]) -> bytes:
    footer = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(footer) >= 2**32:
        raise ValueError(f"segment: expected a footer below 2^32 bytes, found {len(footer)}; write less metadata")
    return footer


def read(data: Any) -> Segment:
    """Check and open a segment; rows point into `data`, nothing is copied.

    Args:
        data: bytes, pyarrow.Buffer, memoryview or mmap; kept alive by the rows.
    Raises: CorruptionError where magic, checksum, footer or a stream is not what `write` makes.
    """
    buffer = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    if buffer.address % 8:  # Arrow reads values in place; only a view into the middle of something stands like this
        buffer = pa.py_buffer(buffer.to_pybytes())
    offset, size = check(buffer)
    try:
        footer = json.loads(buffer.slice(offset, size).to_pybytes())
        version = footer["version"]
        if version != FORMAT_VERSION:
            raise CorruptionError(
                f"segment: expected format version {FORMAT_VERSION}, found {version}: another Headrace wrote it"
            )
        tables = [table_from_json(table) for table in footer["tables"]]
        parts = [(_table(tables, part), _record(buffer, offset, part)) for part in footer["ranges"]]
        return Segment(dict(footer["metadata"]), parts)
    except _NOT_OURS as error:
        raise CorruptionError(f"segment: the checksum holds, but the footer or a stream does not: {error!r}") from error


def tail_bytes(tail: bytes) -> int:
    """How many of a segment's last bytes hold its footer; `tail` is the last TAIL_BYTES of them, or more.

    Raises: CorruptionError where they are not those of a segment.
    """
    if len(tail) < TAIL_BYTES or tail[-len(MAGIC) :] != MAGIC:
        raise CorruptionError("segment: the last 8 bytes are not those of a segment; it was cut")
    return TAIL_BYTES + int.from_bytes(tail[-TAIL_BYTES:][:4], "little")


def read_metadata(tail: bytes) -> dict[str, Any]:
    """The metadata from a segment's last bytes, at least `tail_bytes` of them; its checksum is not looked at.

    Raises: CorruptionError where they are not those of a segment.
    """
    size = tail_bytes(tail)
    try:
        return dict(json.loads(tail[len(tail) - size : -TAIL_BYTES])["metadata"])
    except _NOT_OURS as error:
        raise CorruptionError(f"segment: expected a footer in its last {size} bytes, found: {error!r}") from error


def check(buffer: pa.Buffer) -> tuple[int, int]:
    """Where a segment's footer begins, and its size in bytes; streams and footer are not looked at.

    Raises: CorruptionError where magic, sizes or checksum are not what `write` makes.
    """
    if IMPLEMENTATION != "c":
        return reference.check(memoryview(buffer))
    ffi, lib = arrow_c.ffi, arrow_c.lib
    frame = ffi.new("lc_segment_frame *")
    error = ffi.new("lc_error *")
    view = ffi.from_buffer("uint8_t[]", buffer)
    arrow_c.check(lib.lc_segment_check(view, len(view), frame, error), error)
    return frame.footer_offset, frame.footer_size


def _table(tables: Sequence[Table], part: Mapping[str, int]) -> Table:
    if part["table"] < 0:
        raise ValueError(f"expected a table index from 0 on, found {part['table']}")
    return tables[part["table"]]


def _record(buffer: pa.Buffer, end: int, part: Mapping[str, int]) -> pa.RecordBatch:
    offset, length = part["offset"], part["length"]
    if not 0 <= offset <= offset + length <= end:
        raise ValueError(f"a range of {length} bytes at {offset} leaves the {end} bytes of streams")
    with pa.ipc.open_stream(buffer.slice(offset, length)) as stream:
        record = stream.read_next_batch()
    record.validate()
    if record.num_rows != part["rows"]:
        raise ValueError(f"expected {part['rows']} rows at {offset}, found {record.num_rows}")
    return record


def table_as_json(table: Table) -> dict[str, Any]:
    """A table as JSON values, as a footer has it."""
    columns = [[column.name, str(column.type), column.nullable] for column in table.columns]
    return {"name": table.name, "columns": columns, "key": list(table.key)}


def table_from_json(table: Mapping[str, Any]) -> Table:
    """A table from what `table_as_json` gave."""
    columns = tuple(Column(name, parse_type(text), bool(nullable)) for name, text, nullable in table["columns"])
    return Table(table["name"], columns, tuple(table["key"]))


def merge(segments: Sequence[Segment], metadata: Mapping[str, Any]) -> pa.Buffer:
    """One segment with the rows of several, in their order, one part a table.

    Rows are put behind each other and not compacted. A part with __unset meets one without: the latter's rows lack
    nothing. The caller says what the metadata of the whole is, since only he knows what his entries mean; a truncate
    between two segments must keep them apart.

    Raises: ValueError where parts of one table have different columns.
    """
    records: dict[Table, list[pa.RecordBatch]] = {}
    for segment in segments:
        for table, record in segment.parts:
            records.setdefault(table, []).append(record)
    return write([(table, _concatenated(table, parts)) for table, parts in records.items()], metadata)


def _concatenated(table: Table, records: list[pa.RecordBatch]) -> pa.RecordBatch:
    if any(UNSET in record.schema.names for record in records):
        records = [lacking_nothing(table, record) for record in records]
    if any(record.schema != records[0].schema for record in records):
        found = [record.schema.names for record in records]
        raise ValueError(f"table {table.name}: expected the same columns in all parts, found {found}")
    return pa.concat_batches(records)

"""Reads JSON lines: one object a line, by the C decoder of JSON rows, exact and with the place of each fault.

Each line becomes the `after` of a change, which the decoder knows. A field that a line lacks is NULL.
"""

from __future__ import annotations

from dataclasses import astuple

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.rows import Refused
from connectors.files.config import FileTable
from connectors.files.rows import FileView, Read, State
from libcore import json
from libcore.decode import decode_envelopes
from libcore.decode_types import Encoding, EnvelopePlan, ErrorCode, WireColumn
from libcore.delimited import DelimitedReader
from libcore.delimited_types import DelimitedPlan, Dialect, TextColumn, TextState
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type

_BEFORE, _BEHIND = b'{"op":"c","after":', b"}"
# A control character never stands in a line of JSON, so a line is one field.
_DELIMITER = "\x1f"
_LINE = TextColumn(Column("line", parse_type("string")))
ENCODINGS = {
    "int16": Encoding.INT, "int32": Encoding.INT, "int64": Encoding.INT, "float32": Encoding.FLOAT,
    "float64": Encoding.FLOAT, "bool": Encoding.BOOL, "string": Encoding.STRING, "bytes": Encoding.BASE64,
    "decimal": Encoding.DECIMAL_TEXT, "numeric": Encoding.NUMERIC_TEXT, "date": Encoding.ISO_DATE,
    "time": Encoding.ISO_TIME, "time_ns": Encoding.ISO_TIME, "timestamp": Encoding.ISO_TIMESTAMP,
    "timestamp_ns": Encoding.ISO_TIMESTAMP, "timestamptz": Encoding.ZONED_TIMESTAMP, "uuid": Encoding.STRING,
    "json": Encoding.RAW_JSON, "xml": Encoding.STRING, "interval": Encoding.STRING, "timetz": Encoding.STRING,
}  # fmt: skip


class JsonRows:
    """A file of JSON lines."""

    def __init__(
        self, settings: FileTable, table: Table, view: FileView, state: State | None, rows_max: int, piece_bytes: int
    ) -> None:
        self._view, self._rows_max, self._piece_bytes = view, rows_max, piece_bytes
        self._plan = envelope_plan(settings, table)
        text_state = TextState() if state is None else TextState(*state)
        dialect = Dialect(delimiter=_DELIMITER, quote=None, header=False, record_bytes_max=settings.line_bytes_max)
        self._lines = DelimitedReader(DelimitedPlan((_LINE,), dialect), text_state)
        self._at, self._again, self._final, self._doublings = text_state.offset, False, False, 0
        view.file.seek(self._at)

    def read(self) -> Read:
        """See RowReader."""
        piece = b""
        if not self._again:
            piece = self._view.file.read(max(0, min(self._piece_bytes << self._doublings, self._view.size - self._at)))
            self._at += len(piece)
            self._final = self._at >= self._view.size or not piece
        found = self._lines.feed(piece, final=self._final, rows_max=self._rows_max)
        self._doublings = self._doublings + 1 if self._lines.kept_bytes >= len(piece) > 0 else 0
        refused = [self._refused(error.line, error.byte_position, error.text, error.raw) for error in found.errors]
        self._again = found.record.num_rows >= self._rows_max
        columns, bad = self._decoded(found.record.column(0).cast(pa.binary()), found.lines)
        refused = sorted(refused + bad, key=lambda one: one.number)
        return Read(columns, refused, astuple(found.state), self._final and not self._again)

    def _decoded(self, lines: pa.Array, numbers: pa.Array) -> tuple[list[pa.Array], list[Refused]]:
        # Judged alone first: a line such as `{"id":1},"x":{}` would be well inside of a change.
        codes = json.validate(lines)
        refused = [
            self._refused(
                numbers[row].as_py(), position, f"not one JSON object: {ErrorCode(code).name}", lines[row].as_py()
            )
            for row, (code, position) in enumerate(codes)
            if code
        ]
        if refused:
            good = pa.array([code == 0 for code, _ in codes])
            lines, numbers = lines.filter(good), numbers.filter(good)
        count = len(lines)
        values = pc.binary_join_element_wise(
            pa.scalar(_BEFORE, pa.binary()), lines, pa.scalar(_BEHIND, pa.binary()), pa.scalar(b"", pa.binary())
        )
        messages = pa.RecordBatch.from_arrays(
            [
                pa.nulls(count, pa.binary()),
                values,
                pa.array(range(count), pa.int64()),
                pa.array([-1] * count, pa.int64()),
            ],
            names=["key", "value", "offset", "timestamp_ms"],
        )
        decoded = decode_envelopes(self._plan, messages)
        for error in decoded.errors:
            raw, at = lines[error.message].as_py(), error.byte_position - len(_BEFORE)
            refused.append(self._refused(numbers[error.message].as_py(), max(-1, at), error.text, raw))
        return decoded.record.columns[: len(self._plan.columns)], refused

    def _refused(self, line: int, byte_position: int, text: str, raw: bytes) -> Refused:
        where = f"{self._view.name}, line {line}, byte {byte_position} of it"
        return Refused(self._view.name, line, f"{where}: {text}", raw, None, byte_position)


def envelope_plan(settings: FileTable, table: Table) -> EnvelopePlan:
    """How a line's fields are read. Raises ConfigurationError for a type that JSON lines do not hold."""
    wires = []
    sources = {column.column.name: column.source for column in settings.text_columns(table.key)}
    for column in table.columns:
        if column.type.name not in ENCODINGS:
            raise ConfigurationError(
                f"source.files.tables.{table.name}.columns.{column.name}: expected for jsonl one of "
                f"{', '.join(ENCODINGS)}, found {column.type}"
            )
        name = sources.get(column.name) or column.name
        wires.append(WireColumn(Column(name, column.type, column.nullable), ENCODINGS[column.type.name]))
    names = {column.name: wire.column.name for column, wire in zip(table.columns, wires, strict=True)}
    renamed = Table(table.name, tuple(wire.column for wire in wires), tuple(names[name] for name in table.key))
    return EnvelopePlan(renamed, tuple(wires))

"""Reads Parquet files: exact types from the file's own schema or as declared; a value that does not fit is told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.base.rows import Refused
from connectors.files.config import FileTable
from connectors.files.rows import FileView, Read, State
from libcore.errors import ConfigurationError, FatalError
from libcore.schema import Column, ColumnType, Table, parse_type

_TYPES = {
    pa.int8(): "int16", pa.int16(): "int16", pa.int32(): "int32", pa.int64(): "int64", pa.uint8(): "int16",
    pa.uint16(): "int32", pa.uint32(): "int64", pa.uint64(): "decimal(20,0)", pa.float16(): "float32",
    pa.float32(): "float32", pa.float64(): "float64", pa.bool_(): "bool", pa.string(): "string",
    pa.large_string(): "string", pa.binary(): "bytes", pa.large_binary(): "bytes", pa.date32(): "date",
    pa.date64(): "date", pa.time32("s"): "time", pa.time32("ms"): "time", pa.time64("us"): "time",
    pa.time64("ns"): "time_ns",
}  # fmt: skip
_TEXTS = ("numeric", "uuid", "json", "xml", "interval", "timetz", "bits", "array")


def exact_type(found: pa.DataType) -> ColumnType | None:
    """The exact type that carries a Parquet column; None where there is none."""
    if pa.types.is_dictionary(found):
        return exact_type(found.value_type)
    if pa.types.is_timestamp(found):
        if found.tz is not None:
            return parse_type("timestamptz")
        return parse_type("timestamp_ns" if found.unit == "ns" else "timestamp")
    if pa.types.is_decimal(found) and 0 <= found.scale <= found.precision:
        return parse_type(f"decimal({found.precision},{found.scale})")
    if pa.types.is_fixed_size_binary(found) and not pa.types.is_decimal(found):
        return parse_type("bytes")
    name = _TYPES.get(found)
    return None if name is None else parse_type(name)


def described(name: str, settings: FileTable, path: str) -> Table:
    """The table as a Parquet file's schema has it. Raises ConfigurationError for a column without an exact type."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigurationError(
            f"source.files.tables.{name}: {path}: expected a Parquet file, found: {error}"
        ) from error
    columns = []
    for field in schema:
        kind = exact_type(field.type)
        if kind is None:
            raise ConfigurationError(
                f"source.files.tables.{name}: {path}: column {field.name} is {field.type}, which no exact type "
                "carries; declare `columns` without it"
            )
        columns.append(Column(field.name, kind, field.nullable and field.name not in settings.key))
    return Table(name, tuple(columns), settings.key)


class ParquetRows:
    """A Parquet file; its state is (row group, rows of it that are done)."""

    def __init__(
        self, settings: FileTable, table: Table, view: FileView, state: State | None, rows_max: int, piece_bytes: int
    ) -> None:
        self._settings, self._table, self._view, self._rows_max = settings, table, view, rows_max
        try:
            self._file = pq.ParquetFile(view.file)
        except (pa.ArrowInvalid, OSError) as error:
            raise FatalError(
                f"{view.name}: expected a Parquet file, found: {error}; take it away and start again"
            ) from error
        self._group, self._done = (0, 0) if state is None else (int(state[0]), int(state[1]))
        self._sources = self._source_names()
        self._before = sum(self._file.metadata.row_group(g).num_rows for g in range(self._group))
        self._batches: Iterator[pa.RecordBatch] | None = None

    def _source_names(self) -> list[str]:
        given = {} if self._settings.columns is None else self._settings.columns
        names = []
        for column in self._table.columns:
            one = given.get(column.name)
            source = column.name if one is None or isinstance(one, str) else one.source or column.name
            if source not in self._file.schema_arrow.names:
                raise FatalError(
                    f"{self._view.name}: expected a column {source!r}, found {self._file.schema_arrow.names}; "
                    "mend the file, or take it away and start again"
                )
            names.append(source)
        return names

    def read(self) -> Read:
        """See RowReader."""
        empty = [pa.array([], column.type.arrow) for column in self._table.columns]
        if self._group >= self._file.num_row_groups:
            return Read(empty, [], (self._group, 0), True)
        if self._batches is None:
            self._batches = self._opened()
        try:
            batch = next(self._batches, None)
        except (pa.ArrowInvalid, OSError) as error:
            raise FatalError(f"{self._view.name}, row group {self._group}: {error}") from error
        if batch is None:
            self._before += self._file.metadata.row_group(self._group).num_rows
            self._group, self._done, self._batches = self._group + 1, 0, None
            return Read(empty, [], (self._group, 0), self._group >= self._file.num_row_groups)
        first = self._before + self._done
        self._done += batch.num_rows
        columns, refused = self._exact(batch, first)
        return Read(columns, refused, (self._group, self._done), False)

    def _opened(self) -> Iterator[pa.RecordBatch]:
        """Batches of the row group from row `_done` on."""
        skip = self._done
        names = list(dict.fromkeys(self._sources))
        for batch in self._file.iter_batches(self._rows_max, [self._group], names):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            yield batch.slice(skip)
            skip = 0

    def _exact(self, batch: pa.RecordBatch, first: int) -> tuple[list[pa.Array], list[Refused]]:
        reasons: dict[int, str] = {}
        columns = []
        for column, source in zip(self._table.columns, self._sources, strict=True):
            values, bad = exact(batch.column(source), column)
            reasons = bad | reasons
            columns.append(values)
        if not reasons:
            return columns, []
        good = pa.array([row not in reasons for row in range(batch.num_rows)])
        refused = []
        for row in sorted(reasons):
            raw = json.dumps(batch.slice(row, 1).to_pylist()[0], default=str, ensure_ascii=False).encode()
            text = f"{self._view.name}, row {first + row}: {reasons[row]}"
            refused.append(Refused(self._view.name, first + row, text, raw))
        return [values.filter(good) for values in columns], refused


def exact(values: pa.Array, column: Column) -> tuple[pa.Array, dict[int, str]]:
    """(the values in the column's type, why by row where one has no exact form there); such a row's value is NULL."""
    wanted, found = column.type.arrow, values.type
    bad: dict[int, str] = {}
    if pa.types.is_dictionary(found):
        values = values.dictionary_decode()
        found = values.type
    text = pa.types.is_string(found) or pa.types.is_large_string(found)
    if (column.type.name in _TEXTS and not text) or (pa.types.is_floating(found) and pa.types.is_decimal(wanted)):
        # Arrow would round, or write a text of its own
        raise FatalError(f"column {column.name}: expected {column.type}, found {found}, which it does not hold exactly")
    if wanted == pa.utf8() and not text:
        raise FatalError(f"column {column.name}: expected {column.type}, found {found}")
    try:
        cast = values.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        cast, bad = _by_row(values, column)
    if not column.nullable and cast.null_count:
        missing = [row for row, null in enumerate(cast.is_null().to_pylist()) if null]
        bad = {row: f"column {column.name}: expected a value, found NULL" for row in missing} | bad
    return cast, bad


def _by_row(values: pa.Array, column: Column) -> tuple[pa.Array, dict[int, str]]:
    wanted, bad, pieces = column.type.arrow, {}, []
    for row in range(len(values)):
        one = values.slice(row, 1)
        try:
            pieces.append(one.cast(wanted))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            bad[row] = f"column {column.name}: expected {column.type}, found {one[0].as_py()!r}"
            pieces.append(pa.nulls(1, wanted))
    return pa.concat_arrays(pieces), bad

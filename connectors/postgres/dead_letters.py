"""Rows that the database does not take: kept in headrace_dead_letters with the segment that brought them.

    reason data       the row was refused; later changes of its key park behind it
    reason parked     the row waits behind a refused one of its key
    reason conflict   another row stood in its way (a unique key, a foreign key): it is tried again after the next
                      segment, and becomes a dead letter then

What waits survives a restart: it is read back from the table when a session opens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.base import durable
from connectors.postgres.ddl import LETTERS
from connectors.postgres.session import Connection, quote
from libcore.change import arrow_schema
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import CapacityError
from libcore.hashing import hash_rows
from libcore.schema import Column, Table, parse_type

_STEP = "apply"
_TABLE_METADATA = b"headrace.table"
_COLUMNS = [column.name for column in DEAD_LETTERS.columns]
_SCHEMA = pa.schema([pa.field(column.name, column.type.arrow) for column in DEAD_LETTERS.columns])


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row in conflict, as headrace_dead_letters holds it."""

    id: int
    table: Table
    record: pa.RecordBatch


@dataclass
class Letters:
    """What one attempt at a segment adds: written in its transaction, taken into the ledger after its commit."""

    flow: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0

    def add(self, table: Table, record: pa.RecordBatch, reason: str, error: str) -> None:
        """One letter for each row of `record`."""
        hashes = key_hashes(table, record)
        keys = key_texts(table, record)
        for index in range(record.num_rows):
            self.refused += 1
            self.rows.append(
                {
                    "flow": self.flow,
                    "step": _STEP,
                    "table_name": table.name,
                    "key_text": keys[index],
                    "reason": reason,
                    "error": error,
                    "byte_position": -1,
                    "raw_value": row_bytes(table, record.slice(index, 1)),
                    "failed_at": datetime.now(UTC),
                    "key_hash": hashes[index],
                }
            )

    def pass_on(self, record: pa.RecordBatch) -> None:
        """Letters that came through the flow, from the decoder or an operator."""
        names = [name for name in record.schema.names if name in _COLUMNS]
        self.rows.extend(record.select(names).to_pylist())


class Ledger:
    """The keys of one part that wait, in memory.

    Args:
        schema: where headrace_dead_letters is. count_max: refused and parked rows that one part may hold.
    """

    def __init__(self, schema: str, flow: str, part: int, count_max: int) -> None:
        self._letters = f"{quote(schema)}.{LETTERS}"
        self._flow, self._part, self._count_max = flow, part, count_max
        self._parked: dict[str, set[str]] = {}
        self._hashes: dict[str, set[int]] = {}
        self._count = 0
        self.waiting: list[Waiting] = []

    def load(self, connection: Connection) -> None:
        """Read back what waits."""
        self._parked, self._hashes, self.waiting, self._count = {}, {}, [], 0
        cursor = connection.execute(
            f"SELECT id, table_name, key_text, key_hash, reason, CASE WHEN reason = 'conflict' THEN raw_value END "
            f"FROM {self._letters} WHERE flow = %s AND part = %s AND step = %s AND resolved_at IS NULL ORDER BY id",
            (self._flow, self._part, _STEP),
        )
        for number, table, key_text, key_hash, reason, raw_value in cursor:
            if reason == "conflict":
                self.waiting.append(Waiting(number, *read_row(raw_value)))
            else:
                self._park(table, key_text, key_hash)

    def holds(self, tables: Iterable[Table]) -> bool:
        """Whether something waits that a segment with these tables has to look at."""
        return bool(self.waiting) or any(table.name in self._parked for table in tables)

    def parked_rows(self, table: Table, record: pa.RecordBatch) -> list[bool] | None:
        """For each row whether its key is parked; None where none is."""
        hashes = self._hashes.get(table.name)
        if not hashes:
            return None
        found = [number in hashes for number in key_hashes(table, record)]
        if not any(found):
            return None
        # Equal hashes are not yet equal keys.
        texts = key_texts(table, record)
        found = [hit and texts[index] in self._parked[table.name] for index, hit in enumerate(found)]
        return found if any(found) else None

    def write(self, connection: Connection, seq: int, letters: Letters, settled: Iterable[Waiting]) -> None:
        """Insert the letters and take away the conflicts that were tried again. Raises CapacityError."""
        gone = [waiting.id for waiting in settled]
        if gone:
            connection.execute(f"DELETE FROM {self._letters} WHERE id = ANY(%s)", (gone,))
        if self._count + letters.refused > self._count_max:
            raise CapacityError(
                f"flow {self._flow}, part {self._part}: {self._count + letters.refused:,} rows are refused or parked, "
                f"dead_letters_max is {self._count_max:,}; last: "
                f"{letters.rows[-1]['table_name']}: {letters.rows[-1]['error']}. Put the cause right and "
                f"resolve them in {self._letters}, or raise dead_letters_max"
            )
        names = [*_COLUMNS, "part", "seq", "key_hash"]
        places = ", ".join(["%s"] * len(names))
        with connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {self._letters} ({', '.join(map(quote, names))}) VALUES ({places})",
                [[{**row, "part": self._part, "seq": seq}.get(name) for name in names] for row in letters.rows],
            )

    def forget(self, connection: Connection, table: str) -> None:
        """A truncate: nothing of the table waits any more. In the transaction; the ledger is loaded anew after it."""
        connection.execute(
            f"UPDATE {self._letters} SET resolved_at = now() "
            f"WHERE flow = %s AND part = %s AND step = %s AND table_name = %s AND resolved_at IS NULL",
            (self._flow, self._part, _STEP, table),
        )

    def clear_column(self, connection: Connection, table: str, column: str) -> None:
        """The column was dropped at the source: rows in conflict, which are tried again, must not bring its old value
        back. In the transaction; the ledger is loaded anew after it."""
        waiting = connection.execute(
            f"SELECT id, raw_value FROM {self._letters} WHERE flow = %s AND part = %s AND step = %s "
            f"AND table_name = %s AND reason = 'conflict' AND resolved_at IS NULL",
            (self._flow, self._part, _STEP, table),
        ).fetchall()
        for number, raw_value in waiting:
            of, row = read_row(raw_value)
            names = row.schema.names
            if column not in names:
                continue
            # The value NULL, and given: a row in conflict may be one that still has to be inserted.
            columns = [pa.nulls(1, old.type) if name == column else old for name, old in zip(names, row, strict=True)]
            cleared = pa.RecordBatch.from_arrays(columns, schema=row.schema)
            connection.execute(
                f"UPDATE {self._letters} SET raw_value = %s WHERE id = %s", (row_bytes(of, cleared), number)
            )

    def committed(self, connection: Connection, letters: Letters, *, reload: bool) -> None:
        """Take over what a committed attempt wrote."""
        if reload or any(row.get("reason") == "conflict" for row in letters.rows):
            self.load(connection)
            return
        for row in letters.rows:
            if row["step"] == _STEP:
                self._park(row["table_name"], row["key_text"], row["key_hash"])

    def _park(self, table: str, key_text: str, key_hash: int) -> None:
        self._parked.setdefault(table, set()).add(key_text)
        self._hashes.setdefault(table, set()).add(key_hash)
        self._count += 1


def write_parquet(directory: Path, flow: str, part: int, seq: int, letters: Letters) -> None:
    """The letters of a segment as one file; written before the commit, and again under the same name by a retry."""
    if not letters.rows:
        return
    durable.make_directory(directory)
    rows = [{name: row.get(name) for name in _COLUMNS} for row in letters.rows]
    path = directory / f"{flow}-{part}-{seq:012d}.parquet"
    draft = path.with_suffix(".draft")
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), draft)
    durable.put(draft, path)


def key_hashes(table: Table, record: pa.RecordBatch) -> list[int]:
    """The stable hash of each row's key, as PostgreSQL's bigint has it (signed)."""
    hashes: list[int] = hash_rows(record, table.key_indexes).to_pylist()
    return [number - (1 << 64) if number >= 1 << 63 else number for number in hashes]


def key_texts(table: Table, record: pa.RecordBatch) -> list[str]:
    """Each row's key as a JSON object; for a keyless table the whole row."""
    names = [table.columns[index].name for index in table.key_indexes]
    columns = [_values(record.column(index)) for index in table.key_indexes]
    rows = zip(*columns, strict=True)
    return [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, default=_plain) for row in rows]


def row_bytes(table: Table, row: pa.RecordBatch) -> bytes:
    """One row as an Arrow IPC stream that also says its table, so that it can be read back and replayed."""
    columns = [[column.name, str(column.type), column.nullable] for column in table.columns]
    description = json.dumps({"name": table.name, "columns": columns, "key": list(table.key)})
    sink = pa.BufferOutputStream()
    schema = row.schema.with_metadata({_TABLE_METADATA: description.encode()})
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(row.columns, schema=schema))
    return sink.getvalue().to_pybytes()


def read_row(data: bytes) -> tuple[Table, pa.RecordBatch]:
    """What `row_bytes` wrote."""
    with pa.ipc.open_stream(data) as reader:
        record = reader.read_next_batch()
    description = json.loads(record.schema.metadata[_TABLE_METADATA])
    columns = tuple(Column(name, parse_type(text), nullable) for name, text, nullable in description["columns"])
    table = Table(description["name"], columns, tuple(description["key"]))
    schema = arrow_schema(table, len(record.schema) > len(columns) + 3)
    return table, pa.RecordBatch.from_arrays(record.columns, schema=schema)


def _values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except (ValueError, OverflowError):  # infinity and years beyond Python's: the number says it as well
        return column.cast(pa.int64()).to_pylist()


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)

"""The rows of a table as they are, read by several sessions in chunks of the key, in key order, as pieces of a flow.

A chunk is one binary COPY of a range of the key; its bounds are drawn from a sample of the table's pages. Chunks are
read ahead in parallel and handed out in order, so what is done of a table is one key. A table without a key is read
whole.
"""

from __future__ import annotations

import queue
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa

from connectors.base.database import TableBinding
from connectors.base.items import Item
from connectors.postgres.session import Connection, literal, quote
from connectors.postgres.source_catalog import CatalogTable, form
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.postgres.source_session import connect, failed, refused
from connectors.postgres.source_wire import wire
from libcore.errors import HeadraceError, TransientError
from libcore.pgoutput_messages import EPOCH_US
from libcore.pgoutput_types import MESSAGES
from libcore.schema import Column

PAGES_A_CHUNK = 4  # pages that a sample takes of each chunk: bounds a few percent off, whatever the key is
_ROWS_A_PAGE = 60  # of a table that was never analyzed
_PAGE_BYTES = 8192
_FIRST_OID = 10_000  # types below are known by number
_WAIT_MS = 100
_BYTES_AT_ONCE = 4 << 20

DecoderFactory = Callable[..., Any]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Chunk:
    """Rows with after < key <= until, as the key columns' texts; None: no bound on that side."""

    table: CatalogTable
    after: Key | None = None
    until: Key | None = None

    @property
    def last(self) -> bool:
        """Whether no chunk of the table follows."""
        return self.until is None


@dataclass(frozen=True)
class ChunkPart:
    """Some decoded rows of a chunk; `ended`: the chunk is complete. shapes: the decoder's text of the table, then."""

    items: list[Item]
    rows: int
    size: int
    ended: bool
    shapes: tuple[str, ...] = ()
    alone: bool = False


@dataclass(frozen=True)
class View:
    """Which moment a snapshot shows.

    Args:
        lsn: its place in the log, for positions.
        exported: the snapshot's name, where one was exported; "": each session takes its own, as of now.
    """

    lsn: int
    exported: str = ""


def bounds(connection: Connection, table: CatalogTable, chunk_rows: int, after: Key | None) -> list[Key]:
    """Keys that part the rest of the table into chunks, ascending; [] where one chunk is enough."""
    if not table.key:
        return []
    row = connection.execute(
        "SELECT sum(pg_relation_size(c.oid)) / %s, sum(CASE WHEN c.reltuples > 0 AND c.relpages > 0 "
        "THEN c.reltuples / c.relpages * pg_relation_size(c.oid) / %s ELSE %s * pg_relation_size(c.oid) / %s END) "
        "FROM pg_class c WHERE c.relkind = 'r' AND c.oid IN "
        "(SELECT relid FROM pg_partition_tree(%s) UNION SELECT %s::oid)",
        (_PAGE_BYTES, _PAGE_BYTES, _ROWS_A_PAGE, _PAGE_BYTES, table.oid, table.oid),
    ).fetchone()
    assert row is not None
    pages, rows = float(row[0] or 0), float(row[1] or 0)
    count = int(rows // chunk_rows) + 1
    if count < 2 or pages < 2 * PAGES_A_CHUNK:
        return []
    percent = min(100.0, max(100.0 * PAGES_A_CHUNK * count / pages, 0.001))
    key = ", ".join(quote(name) for name in table.key)
    texts = ", ".join(f"{quote(name)}::text" for name in table.key)
    condition = f"WHERE {_compared(table, '>', after)}" if after else ""
    found = connection.execute(
        f"SELECT {texts} FROM (SELECT {key}, row_number() OVER (ORDER BY {key}) AS n, count(*) OVER () AS all_rows "
        f"FROM {table.sql} TABLESAMPLE SYSTEM ({percent:.4f}) {condition}) s "
        f"WHERE n % greatest(all_rows / {count}, 1) = 0 AND n < all_rows ORDER BY n".encode()
    ).fetchall()
    return [tuple(row) for row in found]


def _compared(table: CatalogTable, sign: str, key: Key) -> str:
    names = ", ".join(quote(name) for name in table.key)
    values = ", ".join(
        f"{literal(text)}::{table.column(name).shown}" for name, text in zip(table.key, key, strict=True)
    )
    return f"({names}) {sign} ({values})"


def next_bound(connection: Connection, table: CatalogTable, rows: int, after: Key | None, where: str) -> Key | None:
    """The key up to which `rows` more rows go; None where fewer are left, or where there is no key."""
    if not table.key:
        return None
    conditions = [f"({condition})" for condition in (table.row_filter, where) if condition]
    if after is not None:
        conditions.append(_compared(table, ">", after))
    key = ", ".join(quote(name) for name in table.key)
    texts = ", ".join(f"s.{quote(name)}::text" for name in table.key)
    filtered = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    inner = f"SELECT {key} FROM {table.sql} {filtered}ORDER BY {key} OFFSET {rows - 1} LIMIT 1"
    row = connection.execute(f"SELECT {texts} FROM ({inner}) s".encode()).fetchone()
    return None if row is None else tuple(row)


def chunks(connection: Connection, table: CatalogTable, chunk_rows: int, after: Key | None) -> Iterator[Chunk]:
    """The rest of a table, in order."""
    for until in bounds(connection, table, chunk_rows, after):
        yield Chunk(table, after, until)
        after = until
    yield Chunk(table, after)


def copy_statement(chunk: Chunk, forms: str, where: str = "") -> str:
    """The COPY of a chunk."""
    table = chunk.table
    columns = ", ".join(
        quote(column.name) + ("::text" if one == "t" else "") for column, one in zip(table.columns, forms, strict=True)
    )
    conditions = [f"({condition})" for condition in (table.row_filter, where) if condition]
    if chunk.after is not None:
        conditions.append(_compared(table, ">", chunk.after))
    if chunk.until is not None:
        conditions.append(_compared(table, "<=", chunk.until))
    filtered = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"COPY (SELECT {columns} FROM {table.sql}{filtered}) TO STDOUT (FORMAT binary)"


def preamble(table: CatalogTable, lsn: int, commit_lsn: int, commit_us: int) -> pa.RecordBatch:
    """What a walsender would say before the rows: types, the relation, the transaction's begin."""
    payloads = []
    for column in table.columns:
        if column.type_oid >= _FIRST_OID:
            space = b"pg_catalog" if column.base else b"other"
            payloads.append(b"Y" + struct.pack(">I", column.type_oid) + space + b"\0" + column.base.encode() + b"\0")
    flagged = {c.name for c in table.columns} if table.identity == "f" else set(table.key)
    relation = [b"R", struct.pack(">I", table.oid), table.schema.encode(), b"\0", table.table.encode(), b"\0"]
    relation.append(table.identity.encode() + struct.pack(">H", len(table.columns)))
    for column in table.columns:
        relation.append(bytes([column.name in flagged]) + column.name.encode() + b"\0")
        relation.append(struct.pack(">Ii", column.type_oid, column.typmod))
    payloads.append(b"".join(relation))
    payloads.append(b"B" + struct.pack(">QqI", commit_lsn, commit_us - EPOCH_US, 0))
    lsns = pa.array([lsn] * len(payloads), pa.int64())
    return pa.RecordBatch.from_arrays([pa.array(payloads, pa.binary()), lsns], schema=MESSAGES)


class ChunkReader:
    """Reads chunks in one session.

    Args:
        decoder: makes a PgoutputDecoder. flow, slot: for its dead letters.
        commit_lsn: the rows' commit in their positions: 0 says that they are of a snapshot.
    """

    def __init__(
        self,
        config: PostgresSourceConfig,
        decoder: DecoderFactory,
        bindings: dict[str, TableBinding],
        *,
        flow: str,
        slot: str,
        view: View,
        commit_lsn: int = 0,
    ) -> None:
        self._config, self._decoder, self._bindings = config, decoder, bindings
        self._flow, self._slot, self._view, self._commit_lsn = flow, slot, view, commit_lsn
        self._connection: Connection | None = None
        self._now_us = 0

    def open(self) -> Connection:
        """Begin a transaction that shows the view. Raises TransientError, ConfigurationError."""
        self._connection = connect(self._config, f"{self._slot} snapshot")
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        try:
            self._connection.execute(begin)
            if self._view.exported:
                self._connection.execute(f"SET TRANSACTION SNAPSHOT {literal(self._view.exported)}".encode())
            row = self._connection.execute("SELECT (extract(epoch FROM now()) * 1000000)::bigint").fetchone()
        except psycopg.Error as error:
            if self._view.exported:  # gone with the session that exported it: what is left is read in another one
                raise TransientError(f"source.postgres: the slot's snapshot cannot be seen: {error}") from error
            raise failed(error, "begin a snapshot") from error
        assert row is not None
        self._now_us = row[0]
        return self._connection

    def close(self) -> None:
        """End the session."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def read(self, chunk: Chunk, rows_max: int, stopped: Callable[[], bool], where: str = "") -> Iterator[ChunkPart]:
        """The chunk's rows, at most rows_max a part. Raises TransientError, ConfigurationError, FatalError."""
        assert self._connection is not None
        table, binding = chunk.table, self._bindings[chunk.table.name]
        declared = {one.name: Column(one.name, one.type, one.nullable) for one in binding.columns or ()}
        forms = "".join(form(column, declared.get(column.name)) for column in table.columns)
        decoder = self._decoder(self._slot, {table.name: binding}, None, flow=self._flow, generation=binding.generation)
        decoder.decode(preamble(table, self._view.lsn, self._commit_lsn, self._now_us))
        libpq = self._connection.pgconn
        statement = copy_statement(chunk, forms, where)
        result = libpq.exec_(statement.encode())
        if result.status != psycopg.pq.ExecStatus.COPY_OUT:
            raise _as_ours(refused(result, statement), table)
        reader = wire(self._connection, self._config.reader)
        ended = False
        while not ended and not stopped():
            taken = reader.rows(table.oid, forms, self._view.lsn, rows_max, _BYTES_AT_ONCE, _WAIT_MS)
            ended = taken.ended
            if taken.messages is not None:
                items, consumed = decoder.decode(taken.messages)
                assert consumed == taken.messages.num_rows, (consumed, taken.messages.num_rows)
                yield ChunkPart(items, consumed, taken.messages.nbytes, False)
        while ended and (last := libpq.get_result()) is not None:
            if last.status != psycopg.pq.ExecStatus.COMMAND_OK:
                raise _as_ours(refused(last, statement), table)
        if ended:
            yield ChunkPart([], 0, 0, True, decoder.state[3])


def _as_ours(error: Exception, table: CatalogTable) -> HeadraceError:
    from libcore.errors import ConfigurationError

    if isinstance(error, HeadraceError):
        return error
    return ConfigurationError(
        f"table {table.name}: its rows cannot be read: {error}; the role needs SELECT on it "
        "(connectors/postgres/grants.md)"
    )


class _Job:
    """A chunk on its way; parts wait here, bounded in bytes, until it is its turn."""

    def __init__(self, chunk: Chunk, bytes_max: int) -> None:
        self.chunk = chunk
        self._parts: queue.Queue[ChunkPart | BaseException] = queue.Queue()
        self._bytes, self._bytes_max = 0, bytes_max
        self._room = threading.Condition()

    def put(self, part: ChunkPart | BaseException, stopped: Callable[[], bool]) -> None:
        size = part.size if isinstance(part, ChunkPart) else 0
        with self._room:
            while self._bytes and self._bytes + size > self._bytes_max and not stopped():
                self._room.wait(0.1)
            self._bytes += size
        self._parts.put(part)

    def get(self, wait_s: float) -> ChunkPart | BaseException | None:
        try:
            part = self._parts.get(timeout=wait_s)
        except queue.Empty:
            return None
        if isinstance(part, ChunkPart):
            with self._room:
                self._bytes -= part.size
                self._room.notify_all()
        return part


class Snapshot:
    """Chunks read by several sessions at a time, handed out in order.

    Args:
        make_reader: a ChunkReader, not yet open. rows_max: rows of a part.
    """

    def __init__(
        self, make_reader: Callable[[], ChunkReader], *, parallel: int, rows_max: int, queued_bytes_max: int
    ) -> None:
        self._make_reader, self._rows_max = make_reader, rows_max
        self._parallel, self._bytes_max = parallel, max(1, queued_bytes_max // (parallel + 1))
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._opened: queue.Queue[BaseException | None] = queue.Queue()

    def open(self) -> None:
        """Open the sessions; behind this call an exported snapshot is in all of them. Raises what a reader raises."""
        for number in range(self._parallel):
            thread = threading.Thread(target=self._work, name=f"snapshot {number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        for _ in self._threads:
            error = self._opened.get()
            if error is not None:
                raise error

    def parts(self, wanted: Iterator[Chunk]) -> Iterator[tuple[Chunk, ChunkPart] | None]:
        """Each chunk's parts, in order; None while the next one is being read."""
        ahead: list[_Job] = []
        source: Iterator[Chunk] | None = wanted
        while True:
            while source is not None and len(ahead) <= self._parallel:
                chunk = next(source, None)
                if chunk is None:
                    source = None
                    break
                job = _Job(chunk, self._bytes_max)
                ahead.append(job)
                self._jobs.put(job)
            if not ahead:
                return
            part = ahead[0].get(0.1)
            if part is None:
                yield None
                continue
            if isinstance(part, BaseException):
                raise part
            yield ahead[0].chunk, part
            if part.ended:
                ahead.pop(0)

    def close(self) -> None:
        """End the sessions."""
        self._stop.set()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(5.0)

    def _work(self) -> None:
        reader = self._make_reader()
        try:
            try:
                reader.open()
            except BaseException as error:
                self._opened.put(error)
                return
            self._opened.put(None)
            while not self._stop.is_set() and (job := self._jobs.get()) is not None:
                try:
                    for part in reader.read(job.chunk, self._rows_max, self._stop.is_set):
                        job.put(part, self._stop.is_set)
                except psycopg.Error as error:
                    job.put(failed(error, "read a chunk"), self._stop.is_set)
                    return
                except BaseException as error:
                    job.put(error, self._stop.is_set)
                    return
        finally:
            reader.close()

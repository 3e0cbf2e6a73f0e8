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
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pyarrow as pa

from connectors.base.columns import partial
from connectors.base.database import TableBinding
from connectors.base.items import Item
from connectors.postgres.chunks import Chunk, copy_statement
from connectors.postgres.session import Connection, literal
from connectors.postgres.source_catalog import CatalogTable, form
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.postgres.source_session import connect, failed, refused
from connectors.postgres.source_wire import wire
from libcore.change import ChangeBatch
from libcore.errors import HeadraceError, TransientError
from libcore.pgoutput_messages import EPOCH_US
from libcore.pgoutput_types import MESSAGES
from libcore.schema import Column

_FIRST_OID = 10_000  # types below are known by number
_WAIT_MS = 100
_BYTES_AT_ONCE = 4 << 20

DecoderFactory = Callable[..., Any]


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

    def read(self, chunk: Chunk, rows_max: int, stopped: Callable[[], bool]) -> Iterator[ChunkPart]:
        """The chunk's rows, at most rows_max a part. Raises TransientError, ConfigurationError, FatalError."""
        assert self._connection is not None
        table, binding = chunk.table, _relaxed(self._bindings[chunk.table.name], chunk)
        declared = {one.name: Column(one.name, one.type, one.nullable) for one in binding.columns or ()}
        forms = "".join(form(column, declared.get(column.name)) for column in table.columns)
        decoder = self._decoder(self._slot, {table.name: binding}, None, flow=self._flow, generation=binding.generation)
        decoder.decode(preamble(table, self._view.lsn, self._commit_lsn, self._now_us))
        libpq = self._connection.pgconn
        statement = copy_statement(chunk, forms)
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
                if chunk.only:
                    items = [self._partial(item, chunk) for item in items]
                yield ChunkPart(items, consumed, taken.messages.nbytes, False)
        while ended and (last := libpq.get_result()) is not None:
            if last.status != psycopg.pq.ExecStatus.COMMAND_OK:
                raise _as_ours(refused(last, statement), table)
        if ended:
            yield ChunkPart([], 0, 0, True, decoder.state[3])

    def _partial(self, item: Item, chunk: Chunk) -> Item:
        """A batch of the chunk's rows as updates of what was read, in the table's own shape."""
        binding = self._bindings[chunk.table.name]
        if not isinstance(item, ChangeBatch) or item.table.name != binding.table:
            return item
        nullable = {one.name: one.nullable for one in binding.columns or ()}
        columns = [replace(one, nullable=nullable.get(one.name, one.nullable)) for one in item.table.columns]
        read = [column.name for column in columns if chunk.reads(column.name)]
        return partial(item, replace(item.table, columns=tuple(columns)), read)


def _relaxed(binding: Any, chunk: Chunk) -> Any:
    """The binding with NULL allowed where a column is not read."""
    if not chunk.only or binding.columns is None:
        return binding
    columns = (one if chunk.reads(one.name) else replace(one, nullable=True) for one in binding.columns)
    return replace(binding, columns=tuple(columns))


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

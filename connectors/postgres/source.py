"""Read a PostgreSQL database directly: the rows that are there, then the changes of a replication slot, without a gap.

A slot is one source partition, one ordered log. Its first start makes publication and slot, reads the tables in the
snapshot that the slot exports, and follows the slot from there. A crash in the middle goes on with later snapshots:
the slot repeats every change since its begin, in order, so that older changes that meet newer rows end right.

State: see source_state.py.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import structlog
from bytewax.inputs import FixedPartitionedSource

from connectors.base.background import BackgroundPartition, Piece
from connectors.base.database import Finding, SourceContext, SourceTable
from connectors.base.items import Item
from connectors.postgres import slot as slots
from connectors.postgres import source_catalog as catalog
from connectors.postgres.session import Connection
from connectors.postgres.slot_moved import MovedRows
from connectors.postgres.slot_requests import SlotRequests
from connectors.postgres.slot_snapshot import SlotSnapshot
from connectors.postgres.slot_stream import SlotStream, Walsender
from connectors.postgres.snapshot import ChunkReader, View, chunks
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.postgres.source_session import connect, failed
from connectors.postgres.source_state import SlotState, unpacked
from connectors.postgres.source_streams import FileStreams
from libcore.errors import ConfigurationError, FatalError

_BEAT_S = 1.0
_log = structlog.get_logger()


class PostgresChanges:
    """A PostgreSQL database under one login; see connectors.base.database.ChangeSource."""

    def __init__(self, config: PostgresSourceConfig, context: SourceContext) -> None:
        default = re.sub(r"[^a-z0-9_]", "_", f"headrace_{context.flow}".lower())[:63]
        self._config = config.model_copy(
            update={"slot": config.slot or default, "publication": config.publication or default}
        )
        self._context = context
        self._connection: Connection | None = None

    def names(self) -> Collection[str]:
        """See ChangeSource.names."""
        try:
            return catalog.names(self._ask())
        except psycopg.Error as error:
            raise failed(error, "list tables") from error

    def describe(self, names: Sequence[str]) -> list[SourceTable]:
        """See ChangeSource.describe."""
        found = self._tables(names)
        return [found[name].described() for name in names]

    def source(
        self, tables: Sequence[SourceTable], bindings: Mapping[str, Any], *, until_end: bool
    ) -> FixedPartitionedSource[Item, Any]:
        """See ChangeSource.source."""
        return PostgresSource(self._config, self._context, tables, bindings, until_end=until_end)

    def rows(self, tables: Sequence[SourceTable], bindings: Mapping[str, Any]) -> Iterator[Item]:
        """See ChangeSource.rows."""
        found = self._tables([table.name for table in tables])
        reader = ChunkReader(
            self._config,
            self._decoder(),
            bound(tables, bindings),
            flow=self._context.flow,
            slot=str(self._config.slot),
            view=View(1),
        )
        connection = reader.open()
        try:
            for table in tables:
                for chunk in chunks(connection, found[table.name], 1 << 62, None):
                    for part in reader.read(chunk, self._config.batch_rows_max, threading.Event().is_set):
                        yield from part.items
        finally:
            reader.close()

    def doctor(self, tables: Sequence[SourceTable]) -> list[Finding]:
        """See ChangeSource.doctor."""
        from connectors.postgres.doctor import examine

        try:
            found = list(self._tables([table.name for table in tables]).values())
            return examine(self._ask(), self._config, found, spool_bytes=self._context.spool_bytes)
        except psycopg.Error as error:
            raise failed(error, "look over the source") from error

    def drop(self) -> list[str]:
        """Drop slot and publication; what was dropped."""
        connection, dropped = self._ask(), []
        if slots.find(connection, str(self._config.slot)) is not None:
            for _ in slots.drop(connection, str(self._config.slot)):
                continue
            dropped.append(f"slot {self._config.slot}")
        slots.drop_publication(connection, str(self._config.publication))
        return [*dropped, f"publication {self._config.publication}"]

    def close(self) -> None:
        """See ChangeSource.close."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._config, "catalog")
        return self._connection

    def _tables(self, names: Sequence[str]) -> dict[str, catalog.CatalogTable]:
        try:
            return catalog.tables(self._ask(), names, str(self._config.publication))
        except psycopg.Error as error:
            raise failed(error, "describe tables") from error

    def _decoder(self) -> Any:
        assert self._context.decoder is not None, "a source needs a decoder"
        return self._context.decoder("pgoutput")


def bound(tables: Sequence[SourceTable], bindings: Mapping[str, Any]) -> dict[str, Any]:
    """The bindings with each table's key in it: with REPLICA IDENTITY FULL the stream says nothing of it."""
    return {table.name: replace(bindings[table.name], key=table.table.key) for table in tables}


class PostgresSource(FixedPartitionedSource[Item, tuple[Any, ...]]):
    """A slot as a Bytewax source of Items; the arguments are those of ChangeSource.source."""

    def __init__(
        self,
        config: PostgresSourceConfig,
        context: SourceContext,
        tables: Sequence[SourceTable],
        bindings: Mapping[str, Any],
        *,
        until_end: bool,
    ) -> None:
        self._config, self._context, self._until_end = config, context, until_end
        self._tables, self._bindings = tuple(tables), bound(tables, bindings)

    def list_parts(self) -> list[str]:
        """The slot's name."""
        return [str(self._config.slot)]

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> BackgroundPartition:
        """A partition that goes on where `resume_state` says, or begins with a new slot."""
        config = self._config

        def open_reader(state: tuple[Any, ...]) -> SlotReader:
            return SlotReader(config, self._context, self._bindings, unpacked(state), until_end=self._until_end)

        return BackgroundPartition(
            for_part,
            open_reader,
            SlotState().packed() if resume_state is None else resume_state,
            rows_max=config.batch_rows_max,
            queued_bytes_max=config.queued_bytes_max,
            poll_s=0.0,
            beat_s=_BEAT_S if self._context.beating else 0.0,
        )


class SlotReader:
    """Reads one slot from a state on; see connectors.base.background.PieceReader."""

    def __init__(
        self,
        config: PostgresSourceConfig,
        context: SourceContext,
        bindings: Mapping[str, Any],
        state: SlotState,
        *,
        until_end: bool,
    ) -> None:
        self._config, self._context, self._bindings = config, context, dict(bindings)
        self._slot, self._publication = str(config.slot), str(config.publication)
        self._state, self._until_end = state, until_end
        self._walsender: Walsender | None = None
        self._open: list[Connection] = []
        self._streams: FileStreams | None = None
        self._confirmed = 0
        self._answered: tuple[str, ...] = ()

    def pieces(self) -> Iterator[Piece | None]:
        """See PieceReader.pieces."""
        try:
            yield from self._pieces()
        except psycopg.Error as error:
            raise failed(error, f"slot {self._slot}") from error

    def durable(self, state: tuple[Any, ...]) -> None:
        """Let the source forget what lies before it."""
        found = unpacked(state)
        if found.phase == "stream":
            self._answered = found.answered
            self._confirmed = max(self._confirmed, found.resume_lsn)
            if self._walsender is not None:
                self._walsender.confirmed = self._confirmed

    def close(self) -> None:
        """End all sessions."""
        if self._walsender is not None:
            self._walsender.close()
        for connection in self._open:
            connection.close()
        if self._streams is not None:
            self._streams.close()

    def _connect(self, purpose: str, *, walsender: bool = False) -> Connection:
        connection = connect(self._config, f"{self._slot} {purpose}", walsender=walsender)
        self._open.append(connection)
        return connection

    def _pieces(self) -> Iterator[Piece | None]:
        connection = self._connect("catalog")
        tables = catalog.tables(connection, self._bindings, self._publication)
        slots.publish(connection, self._publication, tables)
        tables = catalog.tables(connection, self._bindings, self._publication)
        made: slots.Made | None = None
        if self._state.phase == "new":
            for step in self._begin(connection):
                if isinstance(step, slots.Made):
                    made = step
                yield None
            yield Piece([], 0, self._state.packed())
        if self._state.phase == "snapshot":
            slots.usable(connection, self._slot, self._state.lsn)
            snapshot = SlotSnapshot(self._config, self._context, self._bindings, tables, self._state, made)
            yield from snapshot.pieces(lambda name: self._connect(name, walsender=True))
            self._state = snapshot.state.streaming()
            yield Piece([], 0, self._state.packed())
        yield from self._stream(connection, tables)

    def _reader(self, view: View, commit_lsn: int = 0) -> ChunkReader:
        assert self._context.decoder is not None, "a source needs a decoder"
        return ChunkReader(
            self._config,
            self._context.decoder("pgoutput"),
            self._bindings,
            flow=self._context.flow,
            slot=self._slot,
            view=view,
            commit_lsn=commit_lsn,
        )

    def _requests_of(self, tables: dict[str, catalog.CatalogTable]) -> SlotRequests:
        return SlotRequests(
            tables,
            {name: self._bindings[name].table for name in tables},
            lambda: connect(self._config, f"{self._slot} request", walsender=True),
            self._reader,
            self._context.directory,
            slot=self._slot,
            rows_max=self._config.batch_rows_max,
            answered=lambda: self._answered,
        )

    def _begin(self, connection: Connection) -> Iterator[Any]:
        """Make the slot, or take the one that is there where no rows are wanted."""
        row = connection.execute("SHOW wal_level").fetchone()
        if row is not None and row[0] != "logical":
            raise ConfigurationError(
                f"source.postgres: expected wal_level = logical, found {row[0]}; ALTER SYSTEM SET wal_level = "
                "'logical', then restart the server"
            )
        walsender = self._connect("slot", walsender=True)
        server: slots.Server | None = None
        for found in slots.identify(walsender):
            server = found
        assert server is not None
        rows_wanted = self._config.snapshot == "initial"
        there = slots.find(connection, self._slot)
        if there is not None and not rows_wanted:
            lsn = slots.usable(connection, self._slot, 0).confirmed_lsn
            self._state = SlotState("snapshot", server.system, server.timeline, lsn, tuple(self._bindings))
            self._state = self._state.streaming()
            return
        if there is not None:
            # Without a position in the recovery store it tells nothing: a first start that was killed left it.
            _log.warning("slot made anew", slot=self._slot)
            yield from slots.drop(connection, self._slot)
        made: slots.Made | None = None
        for step in slots.create(walsender, self._slot, export=rows_wanted, failover=self._config.failover):
            made = step
            yield step
        assert made is not None
        done = () if rows_wanted else tuple(self._bindings)
        self._state = SlotState("snapshot", server.system, server.timeline, made.consistent_lsn, done)
        _log.info("slot", name=self._slot, consistent_lsn=made.consistent_lsn)

    def _stream(self, connection: Connection, tables: dict[str, catalog.CatalogTable]) -> Iterator[Piece | None]:
        state = self._state
        slots.usable(connection, self._slot, state.resume_lsn)
        session = self._connect("stream", walsender=True)
        for server in slots.identify(session):
            if server is not None:
                self._state = state = self._same_server(connection, server)
        if self._config.snapshot == "never":
            self._state = state = replace(state, done=tuple(self._bindings))
        version = session.info.server_version
        options: dict[str, Any] = {}
        if self._config.streaming and self._context.directory is not None:
            self._streams = FileStreams(self._context.directory / "streams" / self._slot)
            options["streams"] = self._streams
        assert self._context.decoder is not None, "a source needs a decoder"
        generation = max((binding.generation for binding in self._bindings.values()), default=0)
        decoder = self._context.decoder("pgoutput")(
            self._slot,
            self._bindings,
            state.decoder,
            flow=self._context.flow,
            generation=generation,
            batch_rows_max=self._config.batch_rows_max,
            transactions=any(binding.transactions for binding in self._bindings.values()),
            **options,
        )
        self._walsender = walsender = Walsender(session, self._config)
        words = slots.replication_options(self._publication, version, bool(options))
        for _ in walsender.start(self._slot, state.resume_lsn, words):
            yield None
        end_mark = self._mark_end(connection, version) if self._until_end else ""
        stream = SlotStream(
            walsender,
            decoder,
            state,
            slot=self._slot,
            rows_max=self._config.batch_rows_max,
            end_mark=end_mark,
            filled=MovedRows(
                {self._bindings[name].table: table for name, table in tables.items()},
                partial(self._reader, View(1)),
            ).filled,
            requests=self._requests_of(tables),
        )
        yield from stream.pieces()

    def _same_server(self, connection: Connection, server: slots.Server) -> SlotState:
        state = self._state
        if state.system != server.system:
            raise FatalError(
                f"source.postgres: expected the cluster with system identifier {state.system}, found "
                f"{server.system}: the dsn leads to another server; `headrace source drop FILE` begins anew there"
            )
        if state.timeline == server.timeline:
            return state
        row = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint").fetchone()
        if row is not None and row[0] < state.resume_lsn:
            raise FatalError(
                f"source.postgres: timeline {server.timeline} follows {state.timeline}, but ends before what this flow "
                "has read: the promoted standby lacks changes that the target has; `headrace source drop FILE` takes "
                "a new snapshot"
            )
        _log.warning("another server took over", former=state.timeline, timeline=server.timeline, slot=self._slot)
        return replace(state, timeline=server.timeline)

    def _mark_end(self, connection: Connection, version: int) -> str:
        """A message in the log behind all that is committed now; the end is where it comes."""
        mark = str(uuid.uuid4())
        if version >= 170000:
            connection.execute("SELECT pg_logical_emit_message(false, 'headrace', %s, true)", (mark,))
        else:  # its commit flushes the log
            connection.execute("SET synchronous_commit = on")
            connection.execute("SELECT pg_logical_emit_message(true, 'headrace', %s)", (mark,))
        return mark

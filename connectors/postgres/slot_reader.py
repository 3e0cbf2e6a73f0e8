"""One slot from a state on: made, its tables read, its changes followed, confirmed once they are durable."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import structlog

from connectors.base.background import Piece
from connectors.base.database import SourceContext
from connectors.base.guardian import Pace, hours
from connectors.postgres import slot as slots
from connectors.postgres import slot_peek, slot_timeline
from connectors.postgres import source_catalog as catalog
from connectors.postgres.session import Connection
from connectors.postgres.slot_guard import SlotGuard, forget_dropped, refuse_dropped
from connectors.postgres.slot_moved import MovedRows
from connectors.postgres.slot_requests import SlotRequests
from connectors.postgres.slot_snapshot import SlotSnapshot
from connectors.postgres.slot_stream import SlotStream, Walsender
from connectors.postgres.snapshot import ChunkReader, View
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.postgres.source_login import Logins
from connectors.postgres.source_session import LoginRefused, QueryTooLong, connect, failed
from connectors.postgres.source_state import LEFT, SlotState, unpacked
from connectors.postgres.source_streams import FileStreams
from libcore.errors import ConfigurationError

_DURABLE_S = 0.02  # how often it is looked whether a state is durable
_log = structlog.get_logger()


class SlotReader:
    """Reads one slot from a state on; see connectors.base.background.PieceReader."""

    def __init__(
        self,
        config: PostgresSourceConfig,
        context: SourceContext,
        bindings: Mapping[str, Any],
        state: SlotState,
        pace: Pace,
        logins: Logins,
        *,
        until_end: bool,
        others: frozenset[str] = frozenset(),
    ) -> None:
        self._config, self._context, self._bindings, self._others = config, context, dict(bindings), others
        self._slot, self._publication = str(config.slot), str(config.publication)
        self._state, self._pace, self._logins, self._until_end = state, pace, logins, until_end
        self._guard = SlotGuard(config, context.directory, context.partition(self._slot))
        self._walsender: Walsender | slot_peek.Peeks | None = None
        self._exporter: Connection | None = None  # it shows the slot's snapshot while it is open
        self._open: list[Connection] = []
        self._streams: FileStreams | None = None
        self._confirmed = 0
        self._answered: tuple[str, ...] = ()
        self._durable_done: tuple[str, ...] = ()

    def pieces(self) -> Iterator[Piece | None]:
        """See PieceReader.pieces."""
        try:
            yield from self._pieces()
        except LoginRefused as error:
            raise self._logins.meaning(error) from error
        except QueryTooLong:
            self._pace.too_long()
            raise
        except psycopg.Error as error:
            raise failed(error, f"slot {self._slot}") from error

    def durable(self, state: tuple[Any, ...]) -> None:
        """Let the source forget what lies before it."""
        found = unpacked(state)
        self._durable_done = found.done
        if found.phase == "stream":
            self._answered = found.answered
            self._confirmed = max(self._confirmed, found.resume_lsn)
            if self._walsender is not None:
                self._walsender.confirmed = self._confirmed

    def close(self) -> None:
        """End all sessions."""
        self._guard.close()
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

    def _leave_snapshot(self) -> None:
        if self._exporter is not None:
            self._exporter.close()

    def _pieces(self) -> Iterator[Piece | None]:
        connection = self._connect("catalog")
        tables = catalog.tables(connection, self._bindings, self._publication)
        yield from self._away(connection, tables)
        slots.publish(connection, self._publication, tables)
        tables = catalog.tables(connection, self._bindings, self._publication)
        if self._config.read_by == "functions":
            self._refuse_by_functions(tables)
        made: slots.Made | None = None
        if self._state.phase != "new":
            refuse_dropped(connection, self._context.directory, self._slot)
        else:
            if self._config.snapshot == "initial":
                yield from hours(self._pace)  # a slot keeps log from its begin on
            for step in self._begin(connection):
                if isinstance(step, slots.Made) and step.snapshot:
                    made = step
                yield None
            forget_dropped(self._context.directory, self._slot)
            yield Piece([], 0, self._state.packed())
        self._guard.start()
        if self._state.phase == "snapshot":
            session = self._ask("identify")
            self._state = slot_timeline.same_server((yield from self._identify(session)), self._state)
            session.close()
            slots.usable(connection, self._slot, self._state.lsn)
            snapshot = SlotSnapshot(
                self._config,
                self._context,
                self._bindings,
                tables,
                self._state,
                made,
                self._pace,
                self._leave_snapshot,
            )
            yield from snapshot.pieces(lambda name: self._connect(name, walsender=True))
            self._leave_snapshot()
            self._state = snapshot.state.streaming()
            yield Piece([], 0, self._state.packed())
        yield from self._stream(connection, tables)

    def _away(self, connection: Connection, tables: dict[str, catalog.CatalogTable]) -> Iterator[Piece | None]:
        """Mark tables whose changes the slot does not bring: the file left them out, or the publication lost them,
        as it does where somebody drops a table and makes it anew."""
        if self._state.phase == "new" or self._config.snapshot == "never":
            return
        unpublished = {table.name for table in slots.lacking(connection, self._publication, tables)}
        state = self._state.left(tables, unpublished)
        if state != self._state:
            self._state = state
            yield Piece([], 0, state.packed())
        # once the publication has them again, nothing would tell a later start that they were away
        while any(LEFT + name in state.done and LEFT + name not in self._durable_done for name in unpublished):
            time.sleep(_DURABLE_S)
            yield None

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

    def _requests_of(self, connection: Connection, tables: dict[str, catalog.CatalogTable]) -> SlotRequests:
        return SlotRequests(
            self._config,
            connection,
            tables,
            self._bindings,
            None
            if self._config.read_by == "functions"
            else partial(connect, self._config, f"{self._slot} request", walsender=True),
            self._reader,
            self._context.directory,
            answered=lambda: self._answered,
            others=self._others,
            pace=self._pace,
        )

    def _identify(self, connection: Connection) -> Generator[None, None, slot_timeline.Server]:
        """Which server a session is with; the first answer shows that the source lets this flow in."""
        if self._config.read_by == "functions":
            server = slot_peek.identify(connection)
        else:
            server = yield from slot_timeline.identify(connection)
        self._logins.taken()
        return server

    def _ask(self, purpose: str) -> Connection:
        """A session of the kind that changes come over."""
        return self._connect(purpose, walsender=self._config.read_by == "stream")

    def _refuse_by_functions(self, tables: dict[str, catalog.CatalogTable]) -> None:
        """What needs a snapshot whose place in the log is known, which only a walsender gives."""
        keyless = [name for name in tables if not self._bindings[name].key]
        if self._config.snapshot == "initial" and keyless:
            raise ConfigurationError(
                f'source.postgres: read_by = "functions" reads tables with a key; {keyless[0]} has none'
            )

    def _begin(self, connection: Connection) -> Iterator[Any]:
        """Make the slot, or take the one that is there where no rows are wanted."""
        row = connection.execute("SHOW wal_level").fetchone()
        if row is not None and row[0] != "logical":
            raise ConfigurationError(
                f"source.postgres: expected wal_level = logical, found {row[0]}; ALTER SYSTEM SET wal_level = "
                "'logical', then restart the server"
            )
        session = self._ask("identify")
        server = yield from self._identify(session)
        session.close()
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
        if self._config.read_by == "functions":
            made = slot_peek.create(connection, self._slot, failover=self._config.failover)
        else:
            walsender = self._exporter = self._connect("slot", walsender=True)
            for step in slots.create(walsender, self._slot, export=rows_wanted, failover=self._config.failover):
                made = step
                yield step
        assert made is not None
        done = () if rows_wanted else tuple(self._bindings)
        self._state = SlotState("snapshot", server.system, server.timeline, made.consistent_lsn, done)
        _log.info("slot", name=self._slot, consistent_lsn=made.consistent_lsn)

    def _stream(self, connection: Connection, tables: dict[str, catalog.CatalogTable]) -> Iterator[Piece | None]:
        slots.usable(connection, self._slot, self._state.resume_lsn)
        # the session that streams says itself of which server it is: another one may have taken over a moment ago
        session = self._ask("stream")
        self._state = slot_timeline.same_server((yield from self._identify(session)), self._state)
        if self._config.snapshot == "never":
            self._state = replace(self._state, done=tuple(self._bindings))
        state = self._state
        version = connection.info.server_version
        options: dict[str, Any] = {}
        functions = self._config.read_by == "functions"
        if self._config.streaming and not functions and self._context.directory is not None:
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
        walsender: Walsender | slot_peek.Peeks
        if functions:
            walsender = slot_peek.Peeks(session, self._config.batch_rows_max)
            words = slot_peek.function_options(self._publication, version)
        else:
            walsender = Walsender(session, self._config)
            words = slots.replication_options(self._publication, version, bool(options))
        self._walsender = walsender
        for _ in walsender.start(self._slot, state.resume_lsn, words):
            yield None
        end_mark = slots.mark_end(connection, version) if self._until_end else ""
        stream = SlotStream(
            walsender,
            decoder,
            state,
            tables={name: self._bindings[name].table for name in tables},
            slot=self._slot,
            partition=self._context.partition(self._slot),
            rows_max=self._config.batch_rows_max,
            end_mark=end_mark,
            moved=MovedRows(
                {self._bindings[name].table: name for name in tables},
                self._publication,
                partial(self._reader, View(1)),
                connection,
            ),
            requests=self._requests_of(connection, tables),
        )
        yield from stream.pieces()

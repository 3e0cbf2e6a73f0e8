"""One database from a state on: its rows as of an SCN, then what LogMiner finds behind, transaction by transaction."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from connectors.base.background import Piece
from connectors.base.database import SourceContext
from connectors.base.guardian import Pace
from connectors.oracle import catalog, sql
from connectors.oracle.asked import AskedRows
from connectors.oracle.catalog import WantedTable, wanted_table
from connectors.oracle.config import OracleConfig
from connectors.oracle.session import Session, judged
from connectors.oracle.shapes import present
from connectors.oracle.snapshot import Snapshot, starting_point
from connectors.oracle.state import State, unpacked
from connectors.oracle.stream import Stream
from libcore.errors import ConfigurationError, FatalError
from libcore.schema import Table

_log = structlog.get_logger()


class OracleReader:
    """Reads one database; see connectors.base.background.PieceReader.

    Args:
        tables: what the pipeline wants, by name. bindings: what its file says of them.
        state: where to go on. until_end: end behind what is there at the start.
    """

    def __init__(
        self,
        config: OracleConfig,
        context: SourceContext,
        tables: Mapping[str, Table],
        bindings: Mapping[str, Any],
        state: tuple[Any, ...],
        pace: Pace,
        *,
        until_end: bool,
    ) -> None:
        self._config, self._context, self._pace, self._until_end = config, context, pace, until_end
        self._wanted, self._bindings, self._state = dict(tables), bindings, unpacked(state).following(tables)
        self._answered: tuple[str, ...] = ()
        self._open: list[Session] = []
        self._stream: Stream | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def pieces(self) -> Iterator[Piece | None]:
        """See PieceReader.pieces."""
        with judged():
            yield from self._pieces()

    def _pieces(self) -> Iterator[Piece | None]:
        session = self._session(self._config.pdb, self._config.guardian.query_seconds_max)
        tables = self._described(session)
        if self._state.phase == "new":
            self._state = self._begun(session)
            yield Piece([], 0, self._state.packed())
        self._refuse_another(session)
        self._refuse_other_tables(tables)
        self._state = self._state.shaped({name: wanted.table for name, wanted in tables.items()})
        if self._state.phase == "snapshot":
            snapshot = self._snapshot(session, tables, self._state)
            yield from snapshot.pieces()
            self._state = replace(snapshot.state, phase="stream")
            yield Piece([], 0, self._state.packed())
        flow, directory = self._context.flow, self._context.directory
        asked = AskedRows(session, self._config, tables, directory, self._pace, flow)
        self._stream = Stream(
            self._config,
            tables,
            self._bindings,
            self._state,
            catalog=session,
            mining=self._session("", 0.0),
            directory=self._directory(),
            flow=flow,
            snapshot=lambda known, state: self._snapshot(session, known, state),
            asked=lambda known, state, scn: asked.next(state, known, scn, self._answered),
            until_end=self._until_end,
        )
        yield from self._stream.pieces()

    def durable(self, state: tuple[Any, ...]) -> None:
        """See PieceReader.durable. Redo is kept by the database's own rules, so it is not told."""
        self._answered = unpacked(state).answered

    def close(self) -> None:
        """See PieceReader.close."""
        if self._stream is not None:
            self._stream.close()
        for session in self._open:
            session.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _session(self, pdb: str, query_seconds_max: float) -> Session:
        session = Session(self._config, pdb=pdb, query_seconds_max=query_seconds_max)
        self._open.append(session)
        return session

    def _directory(self) -> Path:
        if self._context.directory is not None:
            return self._context.directory / "oracle" / (self._context.name or "transactions")
        self._scratch = tempfile.TemporaryDirectory(prefix="headrace-oracle-")
        return Path(self._scratch.name)

    def _described(self, session: Session) -> dict[str, WantedTable]:
        found = catalog.describe_all(session, list(self._wanted), self._config.default_schema)
        described = {}
        for name, table in self._wanted.items():
            binding = self._bindings[name]
            described[name] = wanted_table(present(table, found[name], binding), found[name], binding)
        return described

    def _snapshot(self, session: Session, tables: Mapping[str, WantedTable], state: State) -> Snapshot:
        return Snapshot(session, self._config, tables, state, self._pace, flow=self._context.flow)

    def _begun(self, session: Session) -> State:
        """Where the first snapshot stands."""
        database, resetlogs, _, mode, supplemental, _ = session.one(sql.DATABASE)
        if mode != "ARCHIVELOG":
            raise ConfigurationError(
                f"source.oracle: expected a database in ARCHIVELOG mode, found {mode}: redo is lost when a log is "
                "written over; STARTUP MOUNT; ALTER DATABASE ARCHIVELOG; ALTER DATABASE OPEN"
            )
        if supplemental == "NO":
            raise ConfigurationError(
                "source.oracle: expected supplemental logging, found none; ALTER DATABASE ADD SUPPLEMENTAL LOG DATA"
            )
        begin, scn = starting_point(session)
        _log.info("oracle", scn=scn, mined_from_scn=begin)
        return State("snapshot", (int(database), int(resetlogs)), scn, begin)

    def _refuse_other_tables(self, tables: Mapping[str, WantedTable]) -> None:
        """The rest of a large transaction is told by numbers of its rows, which other tables shift.

        Behind a table less, rows would be lost; behind one more, some come again, which only a key makes harmless.
        """
        xid, _, *counted = self._state.part or (b"", 0)
        former = set(counted[0]) if counted else set(tables)
        if former <= set(tables) and (former == set(tables) or all(tables[name].table.key for name in former)):
            return
        raise ConfigurationError(
            f"source.oracle: transaction {xid.hex()} is given out in part: expected the tables "
            f"{', '.join(sorted(former))}, found {', '.join(sorted(tables))}; run with the former ones until it is "
            "over, then change them"
        )

    def _refuse_another(self, session: Session) -> None:
        database, resetlogs, *_ = session.one(sql.DATABASE)
        found = (int(database), int(resetlogs))
        if found != self._state.database:
            raise FatalError(
                f"source.oracle: expected the database (DBID, RESETLOGS_CHANGE#) {self._state.database}, found "
                f"{found}: it is another one, or it was opened with RESETLOGS; begin anew with an empty state directory"
            )

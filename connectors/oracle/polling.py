"""Followers that ask the tables themselves, where LogMiner is not allowed: what both of them keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from connectors.base.background import Piece
from connectors.base.database import SourceContext
from connectors.base.guardian import Pace
from connectors.base.items import Item
from connectors.oracle import catalog
from connectors.oracle.asked import AskedRows
from connectors.oracle.catalog import WantedTable, wanted_table
from connectors.oracle.config import OracleConfig
from connectors.oracle.session import Session, judged
from connectors.oracle.snapshot import Snapshot
from connectors.oracle.state import State, unpacked
from libcore.change import ChangeBatch
from libcore.errors import ConfigurationError
from libcore.schema import Table


class PollingReader(ABC):
    """Reads the tables as they are, then again and again what changed; see connectors.base.background.PieceReader.

    Positions count the rows that were brought, as these ways know no SCN. The arguments are those of OracleReader.
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
        self.config, self.flow, self._pace, self._until_end = config, context.flow, pace, until_end
        self._directory = context.directory
        self._answered: tuple[str, ...] = ()
        self._wanted, self._bindings = dict(tables), bindings
        self.state: State = unpacked(state)
        self.session: Session = Session(config, pdb=config.pdb, query_seconds_max=config.guardian.query_seconds_max)
        self.tables: dict[str, WantedTable] = {}

    def pieces(self) -> Iterator[Piece | None]:
        """See PieceReader.pieces."""
        with judged():
            yield from self._pieces()

    def durable(self, state: tuple[Any, ...]) -> None:
        """See PieceReader.durable."""
        self._answered = unpacked(state).answered

    def close(self) -> None:
        """See PieceReader.close."""
        self.session.close()

    @abstractmethod
    def begin(self) -> None:
        """Before the snapshot: what changes from here on must come. Raises ConfigurationError."""

    @abstractmethod
    def changed(self, wanted: WantedTable) -> Iterator[Piece]:
        """What changed in a table since it was asked the last time."""

    def again(self, asked: AskedRows) -> Iterator[Piece]:
        """The next rows that a person asked for."""
        for state, piece in asked.next(self.state, self.tables, self.state.rows + 1, self._answered):
            self.state = state
            yield piece

    def piece(self, items: list[Item], rows: int) -> Piece:
        """Rows as a piece; the state counts them."""
        self.state = replace(self.state, rows=self.state.rows + rows)
        size = sum(item.record.nbytes for item in items if isinstance(item, ChangeBatch))
        return Piece(items, min(rows, self.config.batch_rows_max), self.state.packed(), size)

    def _pieces(self) -> Iterator[Piece | None]:
        found = catalog.describe_all(self.session, list(self._wanted), self.config.default_schema)
        for name, table in self._wanted.items():
            if not table.key:
                raise ConfigurationError(
                    f'source.oracle.mode: "{self.config.mode}": expected a key for table {name}, found none: give it '
                    "one by `key`"
                )
            self.tables[name] = wanted_table(table, found[name], self._bindings[name])
        self.begin()
        snapshot = Snapshot(
            self.session, self.config, self.tables, replace(self.state, phase="snapshot"), self._pace, flow=self.flow
        )
        yield from snapshot.pieces()
        self.state = replace(snapshot.state, phase="stream")
        asked = AskedRows(self.session, self.config, self.tables, self._directory, self._pace, self.flow)
        while True:
            count = 0
            for piece in self.again(asked):
                count += 1
                yield piece
            for wanted in self.tables.values():
                for piece in self.changed(wanted):
                    count += piece.rows
                    yield piece
            if not count and self._until_end:
                return
            if not count:
                yield None


def arrow_fields(wanted: WantedTable) -> list[tuple[str, pa.DataType]]:
    """The columns C0, C1, ... of a query by the table's readings."""
    return [(f"C{index}", one.arrow) for index, one in enumerate(wanted.readings)]

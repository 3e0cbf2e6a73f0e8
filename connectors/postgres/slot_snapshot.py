"""The rows that are there at a slot's begin, as pieces of a flow; goes on behind a crash.

The first attempt reads all tables in the snapshot that the slot exported, so rows and changes never overlap. A later
one reads what is left in snapshots of its own: a table with a key converges, as every change since the slot's begin
comes again, in order. A table without a key is read in a snapshot whose place in the log is known (that of a temporary
slot), and the changes up to there are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from connectors.base.background import Piece, snapshot_share
from connectors.base.database import SourceContext
from connectors.base.guardian import Pace, hours, spent
from connectors.base.items import Truncate
from connectors.postgres import slot as slots
from connectors.postgres.chunks import Chunk, chunks
from connectors.postgres.session import Connection
from connectors.postgres.snapshot import ChunkReader, Snapshot, View
from connectors.postgres.source_catalog import CatalogTable
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.postgres.source_state import LEFT, SlotState

OpenWalsender = Callable[[str], Connection]


class _OutOfHours(Exception):
    """Rows may be read no more, for now."""


class SlotSnapshot:
    """Reads the tables that a state lacks.

    Args:
        made: the slot that was made by this very reader, whose snapshot can still be seen; None behind a crash.
        pace: when and how fast rows may be read.
        leave: gives up the session that shows the slot's snapshot, which must not stay open for hours.
    """

    def __init__(
        self,
        config: PostgresSourceConfig,
        context: SourceContext,
        bindings: Mapping[str, Any],
        tables: Mapping[str, CatalogTable],
        state: SlotState,
        made: slots.Made | None,
        pace: Pace,
        leave: Callable[[], None],
    ) -> None:
        self._config, self._context, self._bindings = config, context, dict(bindings)
        self._tables, self._made = tables, made
        self._pace, self._leave = pace, leave
        self.state = state

    def pieces(self, open_walsender: OpenWalsender) -> Iterator[Piece | None]:
        """Pieces up to the last row of the last table; where the hours end in between, the rest comes later."""
        while True:
            yield from hours(self._pace)
            try:
                yield from self._attempt(open_walsender)
                return
            except _OutOfHours:
                self._made = None
                self._leave()

    def _attempt(self, open_walsender: OpenWalsender) -> Iterator[Piece | None]:
        # one that was away for a while is read beside the stream
        done = {name.removeprefix(LEFT) for name in self.state.done}
        left = [table for name, table in sorted(self._tables.items()) if name not in done]
        if self._made is not None:
            yield from self._read(left, View(self.state.lsn, self._made.snapshot), self._config.parallel)
            return
        keyless = [table for table in left if not self._bindings[table.name].key]
        keyless.sort(key=lambda table: table.name != self.state.table)  # a begun one before its name is forgotten
        for number, table in enumerate(keyless):
            yield from self._read_again(table, open_walsender(f"again {number}"))
        keyed = [table for table in left if table not in keyless]
        yield from self._read(keyed, View(self.state.lsn), self._config.parallel)

    def _read_again(self, table: CatalogTable, walsender: Connection) -> Iterator[Piece | None]:
        made: slots.Made | None = None
        name = f"{str(self._config.slot)[:40]}_{walsender.info.backend_pid}_again"
        for step in slots.create(walsender, name, export=True, failover=False, temporary=True):
            made = step
            yield None
        assert made is not None
        starts = {**dict(self.state.starts), self._bindings[table.name].table: made.consistent_lsn}
        self.state = replace(self.state, starts=tuple(sorted(starts.items())))
        if self.state.table == table.name:
            identity = f"{self._config.slot}:{made.consistent_lsn}:{table.name}:again"
            yield Piece([Truncate(self._bindings[table.name].table, identity)], 0, self.state.packed(), alone=True)
        yield from self._read([table], View(made.consistent_lsn, made.snapshot), 1)
        walsender.close()

    def _read(self, tables: list[CatalogTable], view: View, parallel: int) -> Iterator[Piece | None]:
        if not tables:
            return
        assert self._context.decoder is not None, "a source needs a decoder"
        make_reader = partial(
            ChunkReader,
            self._config,
            self._context.decoder("pgoutput"),
            self._bindings,
            flow=self._context.flow,
            slot=str(self._config.slot),
            view=view,
        )
        planner = make_reader()
        snapshot = Snapshot(
            make_reader,
            parallel=parallel,
            rows_max=self._config.batch_rows_max,
            queued_bytes_max=self._config.queued_bytes_max,
        )
        try:
            connection = planner.open()
            snapshot.open()
            self.state = self.state.seen(view.lsn if view.exported else slots.reached(connection))
            yield from self._parts(snapshot, self._wanted(connection, tables))
        finally:
            snapshot.close()
            planner.close()

    def _wanted(self, connection: Connection, tables: list[CatalogTable]) -> Iterator[Chunk]:
        begun, after = self.state.table, self.state.after
        size = self._pace.fewer(self._config.chunk_rows)
        for table in tables:
            yield from chunks(connection, table, size, after if table.name == begun else None)

    def _parts(self, snapshot: Snapshot, wanted: Iterator[Chunk]) -> Iterator[Piece | None]:
        for found in snapshot.parts(wanted):
            if found is None:
                yield None
                continue
            chunk, part = found
            name = chunk.table.name
            if self.state.table != name:
                self.state = replace(self.state, table=name, after=None)
            if part.ended and chunk.last:
                self.state = self.state.complete(name, part.shapes)
            elif part.ended:
                self.state = replace(self.state, after=chunk.until)
            share = snapshot_share(part.rows, part.size, self._config.batch_rows_max)
            yield Piece(part.items, share, self.state.packed(), part.size)
            yield from spent(self._pace, part.rows)
            if part.ended and not self._pace.allowed and len(self.state.done) < len(self._tables):
                raise _OutOfHours

"""The rows that are there, as of one SCN, in chunks in the order of each table's key; goes on behind a crash.

Every chunk is read as of the SCN that the state tells, so rows and changes never overlap. Where undo does not reach
back so far any more, the rest is read as of a newer SCN: a table with a key converges, for every change since the first
SCN comes again, in order; a table without one is emptied and read anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import structlog

from connectors.base.background import Piece
from connectors.base.guardian import Pace
from connectors.base.items import Item, Truncate
from connectors.base.rows import change_batch, refused_rows
from connectors.oracle import sql
from connectors.oracle.catalog import WantedTable
from connectors.oracle.config import OracleConfig
from connectors.oracle.rows import Rows, chunk_of
from connectors.oracle.session import QUERY_TOO_LONG, SNAPSHOT_GONE, Refused, Session, judged
from connectors.oracle.state import State
from libcore.change import ChangeBatch, Op
from libcore.errors import TransientError

_WAIT_S = 0.1
_log = structlog.get_logger()


class Snapshot:
    """Reads the tables that a state lacks; used by one thread.

    Args:
        state: phase "snapshot", or "stream" where single tables are read beside the stream. Without an SCN rows are
            read as they are, for a follower that brings every change since the begin again.
    """

    def __init__(
        self,
        session: Session,
        config: OracleConfig,
        tables: Mapping[str, WantedTable],
        state: State,
        pace: Pace,
        *,
        flow: str,
    ) -> None:
        self._session, self._config, self._tables = session, config, tables
        self._pace, self._flow = pace, flow
        self.state = state

    def pieces(self) -> Iterator[Piece | None]:
        """Pieces up to the last row of the last table."""
        yield from self._emptied()
        for name in [self.state.table, *self._tables]:
            if name in self._tables and name not in self.state.done:
                yield from self._table(self._tables[name])

    def _emptied(self) -> Iterator[Piece]:
        """Tables that are read anew lose their rows at the target first."""
        for name in [one for one in self.state.again if one in self._tables]:
            again = tuple(one for one in self.state.again if one != name)
            done = tuple(one for one in self.state.done if one != name)
            table, after = (self.state.table, self.state.after) if self.state.table != name else ("", None)
            self.state = replace(self.state, again=again, done=done, table=table, after=after)
            yield self._truncate(name)

    def _truncate(self, name: str) -> Piece:
        self.state = replace(self.state, rows=self.state.rows + 1)
        identity = f"{self.state.database[0]}:{name}:{self.state.rows}"
        return Piece([Truncate(name, identity)], 1, self.state.packed(), alone=True)

    def _table(self, wanted: WantedTable) -> Iterator[Piece | None]:
        name = wanted.table.name
        if self.state.table != name:
            self.state = replace(self.state, table=name, after=None, read_scn=0)
            if self.state.phase == "stream":
                self._newer_scn(floor=True)
        while True:
            while not self._pace.allowed:
                time.sleep(_WAIT_S)
                yield None
            try:
                count = 0
                for piece in self._chunk(wanted):
                    count += piece.rows
                    yield piece
                    yield from self._waits(piece.rows)
                if not count:
                    break
            except Refused as error:
                yield from self._refused(error, wanted)
        self.state = replace(self.state, done=(*self.state.done, name), table="", after=None, read_scn=0)
        yield Piece([], 0, self.state.packed())

    def _chunk(self, wanted: WantedTable) -> Iterator[Piece]:
        size = self._pace.fewer(self._config.chunk_rows)
        scn = self.state.read_scn or self.state.scn or None
        found = chunk_of(self._session, self._config, wanted, self.state.after, size, scn=scn)
        for rows in found:
            self.state = replace(self.state, after=rows.last, rows=self.state.rows + rows.count)
            yield self._piece(wanted, rows)

    def _piece(self, wanted: WantedTable, rows: Rows) -> Piece:
        later = self.state.phase == "stream"
        commit = self.state.read_scn if later else 0
        # INSERT without a commit tells a row of the first snapshot, which no watermark heeds
        op = Op.INSERT if wanted.table.key and not later else Op.UPSERT
        items = row_items(wanted, rows, op, commit=commit, first=self.state.rows - rows.count, flow=self._flow)
        size = sum(item.record.nbytes for item in items if isinstance(item, ChangeBatch))
        return Piece(items, rows.count, self.state.packed(), size)

    def _waits(self, rows: int) -> Iterator[None]:
        self._pace.read(rows)
        while (wait_s := self._pace.wait_s) > 0:
            time.sleep(min(_WAIT_S, wait_s))
            yield None

    def _refused(self, error: Refused, wanted: WantedTable) -> Iterator[Piece]:
        """What to do about a query that the database gave up."""
        if error.code in QUERY_TOO_LONG:
            self._pace.too_long()
            raise TransientError(str(error)) from error
        if error.code not in SNAPSHOT_GONE or not self.state.scn:
            with judged():
                raise error
        name = wanted.table.name
        _log.warning("undo does not reach back to the snapshot: it goes on as of now", table=name, error=str(error))
        self._newer_scn(floor=not wanted.table.key)
        if not wanted.table.key:
            self.state = replace(self.state, after=None)
            yield self._truncate(name)

    def _newer_scn(self, *, floor: bool) -> None:
        """The open table is read as of now; `floor`: from its first row on, so that older commits are passed over."""
        begin, scn = starting_point(self._session)
        self.state = replace(self.state, read_scn=scn, resume_scn=min(self.state.resume_scn, begin))
        if floor:
            floors = {**dict(self.state.floors), self.state.table: scn}
            self.state = replace(self.state, floors=tuple(sorted(floors.items())))


def starting_point(session: Session) -> tuple[int, int]:
    """(above which SCN all transactions began that are open at the other SCN, as of which rows are to be read)."""
    before = int(session.one(sql.CURRENT_SCN)[0])
    oldest = session.one(sql.OLDEST_OPEN)[0]
    # one that is not in the answer began behind `before`
    begin = min(before, before if oldest is None else int(oldest)) - 1
    return begin, int(session.one(sql.CURRENT_SCN)[0])


def row_items(wanted: WantedTable, rows: Rows, op: Op, *, commit: int, first: int, flow: str) -> list[Item]:
    """Rows of a table as items: a batch, and dead letters of those that are refused."""
    items: list[Item] = []
    if rows.columns and len(rows.columns[0]):
        items.append(
            change_batch(wanted.table, rows.columns, op, generation=wanted.generation, commit=commit, first=first)
        )
    if rows.refused:
        items.append(
            refused_rows(
                rows.refused,
                flow=flow,
                table=wanted.table.name,
                generation=wanted.generation,
                commit=commit,
                first=first,
            )
        )
    return items

"""The rows of tables as they are, a chunk of the key a turn, beside the changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from connectors.base.background import Piece
from connectors.base.guardian import Pace
from connectors.sqlserver import sql
from connectors.sqlserver.batches import snapshot_batch
from connectors.sqlserver.catalog import Wanted
from connectors.sqlserver.config import SqlServerConfig
from connectors.sqlserver.session import Row, Session
from connectors.sqlserver.state import Read, State
from connectors.sqlserver.types import plain
from libcore.change import Op


class Chunks:
    """Reads what is asked for by a state's reads.

    Args:
        wanted: tables by name. pace: when and how fast rows may be read.
        flow: the pipeline's name, for dead letters.
    """

    def __init__(
        self, session: Session, config: SqlServerConfig, wanted: Mapping[str, Wanted], pace: Pace, flow: str
    ) -> None:
        self._session, self._config, self._wanted, self._pace, self._flow = session, config, wanted, pace, flow

    def next(self, state: State, commit: int) -> Iterator[tuple[State, Piece]]:
        """The next chunk of the first table that is being read, where it may be read now, and the state behind it.

        Args:
            commit: commit part of the rows' positions, but for those of a first snapshot, which have none.
        """
        read = next((one for one in state.reads if one.after is not None and one.table in self._wanted), None)
        if read is None or not self._pace.allowed or self._pace.wait_s > 0:
            return
        pieces = self._in_order if self._wanted[read.table].order else self._whole
        for found, piece in pieces(state, read, commit):
            self._pace.read(piece.rows)
            yield found, piece

    @property
    def _rows_max(self) -> int:
        return max(1, min(self._config.chunk_rows, self._config.batch_rows_max) // self._pace.divisor)

    def _in_order(self, state: State, read: Read, commit: int) -> Iterator[tuple[State, Piece]]:
        wanted, count = self._wanted[read.table], self._rows_max
        listed = [*wanted.readings, *(one for one in wanted.order if one not in wanted.readings)]
        statement = sql.chunk(
            read.table,
            [one.selected for one in listed],
            [one.selected for one in wanted.order],
            count,
            behind=bool(read.after),
        )
        large = [index for index, one in enumerate(listed) if one.large]
        rows, ended = self._session.rows(statement, sql.behind_key(read.after or ()), count, large)
        after: tuple[Any, ...] | None = None
        if not (ended and len(rows) < count):
            after = tuple(plain(rows[-1][listed.index(one)]) for one in wanted.order)
        yield self._piece(replace(state, rows=state.rows + len(rows)), read, rows, after, commit)

    def _whole(self, state: State, read: Read, commit: int) -> Iterator[tuple[State, Piece]]:
        """A table without a unique key, in one query: a crash begins it anew."""
        wanted = self._wanted[read.table]
        large = [index for index, one in enumerate(wanted.readings) if one.large]
        cursor = self._session.open(sql.chunk(read.table, [one.selected for one in wanted.readings]), (), large)
        try:
            while not cursor.ended:
                rows = cursor.next(self._rows_max)
                state = replace(state, rows=state.rows + len(rows))
                state, piece = self._piece(state, read, rows, None if cursor.ended else (), commit)
                yield state, piece
        finally:
            cursor.close()

    def _piece(
        self, state: State, read: Read, rows: Sequence[Row], after: tuple[Any, ...] | None, commit: int
    ) -> tuple[State, Piece]:
        state = state.with_read(replace(read, after=after))
        if not rows:
            return state, Piece([], 0, state.packed())
        wanted = self._wanted[read.table]
        columns = list(zip(*rows, strict=True))[: len(wanted.readings)]
        first_time = read.how == "first"
        made = snapshot_batch(
            wanted,
            columns,
            Op.INSERT if first_time else Op.UPSERT,
            commit=0 if first_time else commit,
            first=state.rows - len(rows),
            flow=self._flow,
        )
        return state, Piece(made.items, len(rows), state.packed(), made.size)

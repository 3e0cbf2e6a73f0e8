"""The rows of tables as they are, a chunk of the key a turn, beside the changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from connectors.base.background import Piece
from connectors.base.columns import updates
from connectors.base.guardian import Pace
from connectors.base.requests import Request, Requests, behind, without
from connectors.sqlserver import sql
from connectors.sqlserver.batches import snapshot_batch
from connectors.sqlserver.catalog import Wanted
from connectors.sqlserver.config import SqlServerConfig
from connectors.sqlserver.session import QueryTooLong, Row, Session
from connectors.sqlserver.state import State
from connectors.sqlserver.types import plain
from libcore.change import Op
from libcore.errors import HeadraceError, TransientError

_Key = tuple[Any, ...] | None
"""() before the first row, None behind the last."""


class Chunks:
    """Reads what is asked for by a state's reads, then what its requests ask for.

    Args:
        wanted: tables by name. pace: when and how fast rows may be read.
        flow: the pipeline's name, for dead letters.
        asked: what refuses requests and counts their rows.
    """

    def __init__(
        self,
        session: Session,
        config: SqlServerConfig,
        wanted: Mapping[str, Wanted],
        pace: Pace,
        flow: str,
        asked: Requests,
    ) -> None:
        self._session, self._config, self._wanted, self._pace, self._flow = session, config, wanted, pace, flow
        self._asked = asked

    def next(self, state: State, commit: int) -> Iterator[tuple[State, Piece]]:
        """The next chunk of the first table that is being read, where it may be read now, and the state behind it.

        Args:
            commit: commit part of the rows' positions, but for those of a first snapshot, which have none.
        """
        if not self._pace.allowed or self._pace.wait_s > 0:
            return
        read = next((one for one in state.reads if one.after is not None and one.table in self._wanted), None)
        if read is not None:
            op, commit = (Op.INSERT, 0) if read.how == "first" else (Op.UPSERT, commit)
            wanted = self._wanted[read.table]
            for rows, after in self._rows(wanted, read.after):
                state = replace(state.with_read(replace(read, after=after)), rows=state.rows + len(rows))
                yield state, self._piece(state, wanted, rows, op, commit)
        elif known := [one for one in state.requests if state.read(one[1]) is not None]:
            yield from self._again(state, known[0], commit)

    def _again(self, state: State, request: Request, commit: int) -> Iterator[tuple[State, Piece]]:
        _, table, where, after, columns, _ = request
        whole = self._wanted[table]
        try:
            wanted = whole.part(columns)
            self._asked.begin_table(request, lambda: self._count(table))
            for rows, until in self._rows(wanted, after or (), where):
                requests, answered = behind(state.requests, state.answered, request, until, len(rows))
                state = replace(state, requests=requests, answered=answered, rows=state.rows + len(rows))
                self._asked.read(request, len(rows))
                piece = self._piece(state, wanted, rows, Op.UPSERT, commit)
                yield state, updates(piece, whole.table) if columns else piece
        except HeadraceError as error:
            # a condition that makes the query slow is refused, too: it would be so for ever
            if isinstance(error, TransientError) and not (where and isinstance(error, QueryTooLong)):
                raise
            self._asked.refuse(request, str(error))
            state = replace(state, requests=without(state.requests, request))
            yield state, Piece([], 0, state.packed())

    def _count(self, table: str) -> int | None:
        """About how many rows it has; None where this login is not told."""
        found = self._session.value(sql.TABLE_ROWS, sql.full_name(table))
        return None if found is None else int(found)

    @property
    def _rows_max(self) -> int:
        return self._pace.most(min(self._config.chunk_rows, self._config.batch_rows_max))

    def _rows(self, wanted: Wanted, after: _Key, where: str = "") -> Iterator[tuple[Sequence[Row], _Key]]:
        """Rows from behind a key, and up to where; a table without a unique key comes whole."""
        return self._in_order(wanted, after, where) if wanted.order else self._whole(wanted, where)

    def _in_order(self, wanted: Wanted, after: _Key, where: str) -> Iterator[tuple[Sequence[Row], _Key]]:
        count = self._rows_max
        listed = [*wanted.readings, *(one for one in wanted.order if one not in wanted.readings)]
        statement = sql.chunk(
            wanted.name,
            [one.selected for one in listed],
            [one.selected for one in wanted.order],
            count,
            behind=bool(after),
            where=where,
        )
        large = [index for index, one in enumerate(listed) if one.large]
        rows, ended = self._session.rows(statement, sql.behind_key(after or ()), count, large)
        until: _Key = None
        if not (ended and len(rows) < count):
            until = tuple(plain(rows[-1][listed.index(one)]) for one in wanted.order)
        yield rows, until

    def _whole(self, wanted: Wanted, where: str) -> Iterator[tuple[Sequence[Row], _Key]]:
        """In one query: a crash begins it anew."""
        large = [index for index, one in enumerate(wanted.readings) if one.large]
        statement = sql.chunk(wanted.name, [one.selected for one in wanted.readings], where=where)
        cursor = self._session.open(statement, (), large)
        try:
            while not cursor.ended:
                rows = cursor.next(self._rows_max)
                yield rows, None if cursor.ended else ()
        finally:
            cursor.close()

    def _piece(self, state: State, wanted: Wanted, rows: Sequence[Row], op: Op, commit: int) -> Piece:
        """Rows that the state, which stands behind them, has counted already."""
        self._pace.read(len(rows))
        if not rows:
            return Piece([], 0, state.packed())
        columns = list(zip(*rows, strict=True))[: len(wanted.readings)]
        first = state.rows - len(rows)
        made = snapshot_batch(wanted, columns, op, commit=commit, first=first, flow=self._flow)
        return Piece(made.items, len(rows), state.packed(), made.size)

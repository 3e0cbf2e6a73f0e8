"""Several change tables read side by side, in one commit order, a bounded number of rows at a time.

Each table is read ahead by one query of its own index. What is handed out goes up to a place that all of them have
reached, between two transactions where that is possible.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from connectors.sqlserver import sql
from connectors.sqlserver.catalog import Instance, Wanted
from connectors.sqlserver.session import LARGE_BYTES, Row, Session
from connectors.sqlserver.sql import Selected
from connectors.sqlserver.state import Place, border, is_border, lsn_behind


@dataclass(frozen=True)
class Step:
    """Rows of each table up to a place; `place` lies behind all of them."""

    rows: Mapping[str, list[Row]]
    place: Place


def _place(row: Row) -> Place:
    return (row[0], row[1] or 0, row[2])


class ChangeTable:
    """The rows of one change table from a place to an LSN, read ahead.

    Args:
        begin: behind which place. end: the last LSN wanted. count: rows of one query.
    """

    def __init__(
        self, session: Session, wanted: Wanted, instance: Instance, begin: Place, end: bytes, count: int
    ) -> None:
        self._session, self._count, self._bytes = session, count, LARGE_BYTES
        self.wanted, self.instance = wanted, instance
        captured = [one for one in wanted.readings if one.name in instance.ordinals]
        self._columns: list[Selected] = [one.selected for one in captured]
        self._large = [len(sql.CHANGE_COLUMNS) + index for index, one in enumerate(captured) if one.large]
        self._rows: list[Row] = []
        self._end = end
        self._legs = self._legs_behind(begin)

    @property
    def ended(self) -> bool:
        """Whether nothing is behind the rows that are read ahead."""
        return not self._legs

    @property
    def last(self) -> Place:
        """The place of the last row that is read ahead."""
        return _place(self._rows[-1])

    def count(self, place: Place) -> int:
        """How many rows that are read ahead lie up to the place."""
        return bisect_right(self._rows, place, key=_place)

    def middle(self, count: int) -> Place:
        """The place of the row in the middle of the first `count`."""
        return _place(self._rows[(count - 1) // 2])

    def take(self, place: Place) -> list[Row]:
        """The rows up to the place."""
        count = self.count(place)
        taken, self._rows = self._rows[:count], self._rows[count:]
        return taken

    def fill(self) -> None:
        """Read ahead where nothing is, or a few rows of a transaction whose end is not seen."""
        while self._legs and (not self._rows or self._is_short()):
            where, values = self._legs[0]
            statement = sql.changes(self.instance.name, self._columns, self._count, where)
            rows, ended = self._session.rows(statement, values, self._count, self._large, self._bytes)
            if ended and len(rows) < self._count:
                self._legs = self._legs[1:]
                self._rows += rows
                continue
            # rows of the last place may be cut in two: they come again with what is behind them
            whole = bisect_right(rows, _before(_place(rows[-1])), key=_place)
            if whole:
                self._rows += rows[:whole]
                self._legs = self._legs_behind(self.last)
            else:
                self._count, self._bytes = self._count * 2, self._bytes * 2

    def _is_short(self) -> bool:
        return len(self._rows) < self._count and self._rows[0][0] == self._rows[-1][0]

    def _legs_behind(self, place: Place) -> list[tuple[str, Sequence[object]]]:
        lsn, command, sequence = place
        rest: tuple[str, Sequence[object]] = (sql.AFTER_LSN, [lsn, self._end])
        if is_border(place):
            return [rest] if lsn < self._end else []
        legs: list[tuple[str, Sequence[object]]] = [
            (sql.AFTER_SEQUENCE, [lsn, command, sequence]),
            (sql.AFTER_COMMAND, [lsn, command]),
        ]
        return [*legs, rest] if lsn < self._end else legs


def _before(place: Place) -> Place:
    """The greatest place before all rows of that place."""
    lsn, command, sequence = place
    number = int.from_bytes(sequence, "big")
    return (lsn, command, (number - 1).to_bytes(len(sequence), "big")) if number else (lsn, command - 1, b"\xff" * 10)


def steps(tables: Sequence[ChangeTable], end: bytes, rows_max: int) -> Iterator[Step]:
    """All rows of the tables up to an LSN, at most `rows_max` a step, but for a place that has more by itself."""
    while True:
        for table in tables:
            table.fill()
        place = _reached(tables, end, rows_max)
        taken = {table.wanted.name: rows for table in tables if (rows := table.take(place))}
        yield Step(taken, place)
        if place == border(end):
            return


def _reached(tables: Sequence[ChangeTable], end: bytes, rows_max: int) -> Place:
    place = min((table.last for table in tables if not table.ended), default=border(end))
    while sum(counts := [table.count(place) for table in tables]) > rows_max:
        longest = counts.index(max(counts))
        smaller = tables[longest].middle(counts[longest])
        if smaller == place:
            break
        place = smaller
    before = border(lsn_behind(place[0], -1))
    return before if not is_border(place) and any(table.count(before) for table in tables) else place

"""Follows a database by its change tables: rows of all tables in commit order, and tables read anew where they must be.

A table is read anew, in chunks beside the changes: at first; emptied, where the cleanup job removed changes that were
not read yet, or the pipeline did without the table for a while; filled, where a newer capture instance has columns that
the older one had not. Every change behind the reading's begin follows, in order, so older changes that meet newer rows
end right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from connectors.base.background import Piece
from connectors.base.database import SourceContext
from connectors.base.guardian import Pace
from connectors.base.items import Item, Truncate
from connectors.sqlserver import catalog, sql
from connectors.sqlserver.batches import change_items
from connectors.sqlserver.catalog import Instance, Wanted
from connectors.sqlserver.config import SqlServerConfig
from connectors.sqlserver.instances import InstanceKeeper
from connectors.sqlserver.merge import ChangeTable, Step, steps
from connectors.sqlserver.state import AWAY, NOTHING, Read, border, is_border, lsn_behind, unpacked
from connectors.sqlserver.turns import TurnReader
from libcore.errors import ConfigurationError, FatalError, TransientError

_QUERY_ROWS_MIN = 1000
_log = structlog.get_logger()


class ChangeTablesReader(TurnReader[bytes]):
    """One database's change tables as pieces; its end is an LSN."""

    def __init__(
        self,
        config: SqlServerConfig,
        context: SourceContext,
        wanted: dict[str, Wanted],
        state: tuple[Any, ...],
        pace: Pace,
        *,
        until_end: bool,
    ) -> None:
        super().__init__(config, context, wanted, state, pace, until_end=until_end)
        # the place is one for all tables: it passes the changes of those that the pipeline does without
        reads = (one if one.table in wanted else replace(one, after=None, how=AWAY) for one in self._state.reads)
        self._state = replace(self._state, reads=tuple(reads))
        self._keeper = InstanceKeeper(config, wanted)
        self._awaited: set[str] = set()

    def durable(self, state: tuple[Any, ...]) -> None:
        """See PieceReader."""
        super().durable(state)
        self._keeper.durable(unpacked(state, self._config.mode))

    def _newest(self) -> bytes:
        """The newest captured LSN; nothing captured yet is before all that comes."""
        return self._session.value(sql.MAX_LSN) or NOTHING

    def _is_behind(self, end: bytes) -> bool:
        reads = [self._state.read(name) for name in self._wanted]
        place = self._state.place
        is_read = not self._state.requests and all(one and one.after is None for one in reads)
        return is_read and place is not None and place >= border(end)

    @property
    def _lsn(self) -> bytes:
        """Up to there all transactions are read whole."""
        assert self._state.place is not None
        lsn = self._state.place[0]
        return lsn if is_border(self._state.place) else lsn_behind(lsn, -1)

    def _turn(self) -> Iterator[Piece]:
        newest = self._newest()  # before the tables are looked at: what was committed up to there has these columns
        if self._state.place is None:
            self._state = replace(self._state, place=border(newest))
        found = self._keeper.look(self._session)
        used: dict[str, Instance] = {}
        for name in list(self._wanted):
            yield from self._prepared(name, found, used)
        yield from self._changes(used, found, newest)
        commit = int.from_bytes(self._lsn, "big") + 1
        for state, piece in self._chunks.next(self._state, commit):
            self._state = state
            yield piece

    # -- which instance, and what is read anew

    def _prepared(
        self, name: str, found: Mapping[str, Sequence[Instance]], used: dict[str, Instance]
    ) -> Iterator[Piece]:
        """Choose the table's instance; ask for its rows where changes are not enough."""
        if not found.get(name):
            raise ConfigurationError(
                f"source.sqlserver: table {name}: expected a capture instance, found none: {catalog.enable_table(name)}"
            )
        self._wanted[name].check(found[name][-1])
        there = [one for one in found[name] if one.min_lsn > NOTHING]
        read = self._state.read(name)
        if not there:  # the capture job has not come to it yet, or its role keeps this login out
            if read is not None and read.how != AWAY:  # the position must not pass changes that nobody shows
                instance = found[name][0]
                raise TransientError(
                    f"source.sqlserver: table {name}: capture instance {instance.name} shows no first LSN any more, "
                    f"so no changes: does the capture job run, is the login in its role {instance.role}?"
                )
            self._waits_for(found[name][0])
            return
        if read is None:
            yield self._begin(name, there, "first")
        elif read.how == AWAY:
            yield self._begin(name, there, "emptied")
        elif (covering := _covering(there, self._position(read))) is not None:
            yield from self._filled(name, read, covering)
        else:
            _log.warning(
                "changes were cleaned up before they were read: the table is read anew",
                table=name, read=self._position(read).hex(), kept_from=there[-1].min_lsn.hex(),
            )  # fmt: skip
            yield self._begin(name, there, "emptied")
        read = self._state.read(name)
        assert read is not None
        covering = _covering(there, self._position(read))
        assert covering is not None, (name, read.since)
        used[name] = covering

    def _waits_for(self, instance: Instance) -> None:
        if instance.name not in self._awaited:
            self._awaited.add(instance.name)
            _log.warning(
                "a capture instance shows no first LSN yet: does the capture job run, is the login in its role?",
                table=instance.table, instance=instance.name, role=instance.role,
            )  # fmt: skip

    def _position(self, read: Read) -> bytes:
        return max(self._lsn, read.since)

    def _begin(self, name: str, there: Sequence[Instance], how: str) -> Piece:
        """The table's rows are wanted; changes before now are in them."""
        since = max(self._newest(), lsn_behind(there[0].min_lsn, -1))
        instance = _covering(there, since) or there[0]
        read = Read(name, since, self._captured(name, instance), (), how)
        self._state = replace(self._state.with_read(read), rows=self._state.rows + 1)
        items: list[Item] = []
        if how == "emptied":
            items.append(Truncate(name, f"sqlserver:{name}:{since.hex()}:{self._state.rows}"))
        return Piece(items, len(items), self._state.packed(), alone=bool(items))

    def _captured(self, name: str, instance: Instance) -> tuple[str, ...]:
        return tuple(column.name for column in self._wanted[name].table.columns if column.name in instance.ordinals)

    def _filled(self, name: str, read: Read, instance: Instance) -> Iterator[Piece]:
        """Columns that this instance has and former ones had not are taken on, and filled in from the rows."""
        wanted = self._wanted[name]
        known = {column.name for column in wanted.table.columns}
        if new := [column for column in instance.ordinals if column not in known]:
            if wanted.on_new_column == "refuse":
                raise FatalError(
                    f"source.sqlserver: table {name}: on_new_column refuses column {new[0]}; set it to add or ignore"
                )
            if wanted.on_new_column == "add":
                described = catalog.describe(self._session, name)
                new = [column for column in new if column in described.readings]
                self._wanted[name] = wanted.gained(described, new)
        captured = self._captured(name, instance)
        if missing := [column for column in captured if column not in read.columns]:
            _log.info("a table's rows are read again for its new columns", table=name, columns=missing)
            self._state = self._state.with_read(replace(read, columns=captured, after=(), how="filled"))
            yield Piece([], 0, self._state.packed())
        elif read.columns != captured:  # the table lost one; should it come again, it is another one
            self._state = self._state.with_read(replace(read, columns=captured))

    # -- changes

    def _changes(
        self, used: Mapping[str, Instance], found: Mapping[str, Sequence[Instance]], newest: bytes
    ) -> Iterator[Piece]:
        assert self._state.place is not None
        begin = self._state.place
        if NOTHING < newest < self._lsn:
            raise FatalError(
                f"source.sqlserver: expected changes up to {self._lsn.hex()}, found {newest.hex()} as the newest: the "
                "database was restored, or is another one; begin with a new state directory"
            )
        if newest <= begin[0] and is_border(begin):
            return
        for name, instance in used.items():
            later = [one.min_lsn for one in found[name] if one.min_lsn > instance.min_lsn]
            # the newer instance has all columns from its begin on
            newest = min([newest, *(lsn_behind(lsn, -1) for lsn in later if lsn > lsn_behind(self._lsn))])
        commits = self._session.ask(sql.COMMITS.format(count=self._config.transactions_max), self._lsn, newest)
        end = max(commits[-1][0] if len(commits) == self._config.transactions_max else newest, begin[0])
        times = self._keeper.utc(self._session, commits)
        count = max(_QUERY_ROWS_MIN, self._config.batch_rows_max // max(1, len(used))) // self._pace.divisor + 1
        tables = []
        for name, instance in used.items():
            read = self._state.read(name)
            assert read is not None
            since = max(begin, border(read.since))
            tables.append(ChangeTable(self._session, self._wanted[name], instance, since, end, count))
        for step in steps(tables, end, self._config.batch_rows_max):
            # a step without rows may be one whose rows are gone
            if not self._keeper.kept(self._session, used, self._state, self._lsn):
                return  # the next turn finds out what is missing
            yield self._piece(step, used, times)

    def _piece(self, step: Step, used: Mapping[str, Instance], times: Mapping[bytes, int]) -> Piece:
        items: list[Item] = []
        size = count = newest = 0
        for name, rows in step.rows.items():
            first = self._state.rows + count
            made = change_items(self._wanted[name], used[name].ordinals, rows, times, first=first, flow=self._flow)
            items += made.items
            size, count = size + made.size, count + len(rows)
            newest = max(newest, times.get(rows[-1][0], 0))
        self._state = replace(self._state, place=step.place, rows=self._state.rows + count)
        return Piece(items, min(count, self._config.batch_rows_max), self._state.packed(), size, at=newest / 1e6)


def _covering(there: Sequence[Instance], lsn: bytes) -> Instance | None:
    """The newest instance that has every change behind that LSN."""
    return next((one for one in reversed(there) if one.min_lsn <= lsn_behind(lsn)), None)

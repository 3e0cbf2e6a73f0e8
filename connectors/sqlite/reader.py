"""Reads one SQLite database: a snapshot in chunks in one read transaction, then appended rows or the triggers' log.

State: (1, done, open, log, signature, rows, follows, requests, answered): `done` holds (table, fingerprint, last rowid)
of tables whose snapshot is read, `open` is (table, fingerprint, behind which row) of the one that is being read, `log`
is the number behind which the triggers' log goes on, `signature` tells whether the file was written since the snapshot
began, `rows` counts, `follows` says that the first snapshot is over: what is read again then stands behind the changes
so far. The last two are what a person asked for (asked.py); states of older versions end before them.

A crash ends the read transaction. Where a log follows, the rest of the snapshot is read as the database is then: the
log brings every change since the beginning again, so the end is the same. Where none follows, the rest of it goes on
only if the file was not written since; else the target's tables are emptied and the snapshot begins anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from connectors.base.background import Piece
from connectors.base.columns import updates
from connectors.base.guardian import Pace, hours, spent
from connectors.base.items import Truncate
from connectors.sqlite.asked import AskedRows
from connectors.sqlite.chunks import Row, WantedTable, chunks, deletes, fetched, piece
from connectors.sqlite.config import SqliteConfig
from connectors.sqlite.database import connect, describe, errors, install_log, log_end, log_name, quote, schema_version
from libcore.change import Op
from libcore.errors import ConfigurationError, FatalError, TransientError
from libcore.schema import Table

STATE_VERSION = 1
FIRST: tuple[Any, ...] = (STATE_VERSION, (), None, None, None, 0, False, (), ())
_FIELDS_MIN = 7
_LOG_ROWS = 4000
AWAY = ""  # in a fingerprint's place: the pipeline does without the table by now, and knows nothing of its changes
_KEYS_A_QUERY = 400
_log = structlog.get_logger()


class SqliteReader:
    """One database's tables as pieces; see PieceReader.

    Args:
        path: the file. config: how it is followed, bounds.
        wanted: the tables by name; a table that gains a column is replaced there, for the readers that follow.
        state: where to go on.
        flow: the pipeline's name, for dead letters and the log.
        until_end: end behind what is there at the start.
        pace: when and how fast the snapshot may be read.
        directory: where requests to read tables again are; None: nobody can ask.
    """

    def __init__(
        self,
        path: Path,
        config: SqliteConfig,
        wanted: dict[str, WantedTable],
        state: tuple[Any, ...],
        *,
        flow: str,
        until_end: bool,
        pace: Pace,
        directory: Path | None = None,
    ) -> None:
        if not _FIELDS_MIN <= len(state) <= len(FIRST) or state[0] != STATE_VERSION:
            raise ConfigurationError(
                f"source.sqlite: expected recovery state of version {STATE_VERSION}, found {state[:1]}: "
                "it was written by another version of headrace"
            )
        self._path, self._config, self._wanted = path, config, wanted
        self._flow, self._until_end, self._pace = flow, until_end, pace
        _, done, self._open, self._log_seq, self._signature, self._rows, self._follows, *asked = _whole(state)
        self._done: dict[str, tuple[str, int | None]] = {name: (mark, rowid) for name, mark, rowid in done}
        self._rows_max = min(config.chunk_rows, config.batch_rows_max)
        self._durable: tuple[Any, ...] | None = None
        self._cleaned = 0
        self._file = _identity(path)
        self._answered: tuple[str, ...] = ()
        self._connection = connect(path, config)
        self._asked = AskedRows(self._connection, wanted, self._rows_max, directory, pace, *asked)

    @property
    def _state(self) -> tuple[Any, ...]:
        done = tuple((name, mark, rowid) for name, (mark, rowid) in self._done.items())
        asked = (self._asked.requests, self._asked.answered)
        return (STATE_VERSION, done, self._open, self._log_seq, self._signature, self._rows, self._follows, *asked)

    def pieces(self) -> Iterator[Piece | None]:
        """See PieceReader."""
        with errors(self._path):
            if self._config.follow == "triggers":
                self._prepare_log()
            yield from self._snapshot()
            yield from self._stay() if self._config.follow == "nothing" else self._follow()

    def durable(self, state: tuple[Any, ...]) -> None:
        """See PieceReader."""
        self._durable, self._answered = state, _whole(state)[-1]

    def close(self) -> None:
        """See PieceReader."""
        self._connection.close()

    def _prepare_log(self) -> None:
        tables = [wanted.table for wanted in self._wanted.values()]
        begun = [*self._done, *(() if self._open is None else self._open[:1])]
        with closing(connect(self._path, self._config, write=True)) as connection:
            install_log(connection, self._flow, tables, begun, self._log_seq)
        if self._log_seq is None:
            # a snapshot that begins later has all that is in the log by now; what was read before was not logged
            self._log_seq = 0 if begun else self._log_end()

    def _log_end(self) -> int:
        return log_end(self._connection, log_name(self._flow))

    # -- the snapshot

    def _snapshot(self) -> Iterator[Piece | None]:
        """All rows of all tables that are not done, in one read transaction."""
        fingerprints = {name: wanted.table.fingerprint for name, wanted in self._wanted.items()}
        begun = {name: mark for name, (mark, _) in self._done.items()}
        begun |= {} if self._open is None else {self._open[0]: self._open[1]}
        # of those that are not wanted the log's entries are passed, and an open one's rest; a rowid waits for them
        passed = begun if self._config.follow == "triggers" else () if self._open is None else self._open[:1]
        now = dict.fromkeys(passed, AWAY) | fingerprints
        yield from self._anew([name for name, mark in begun.items() if now.get(name, mark) != mark])
        if all(name in self._done for name in self._wanted):
            return
        yield from hours(self._pace)
        # taken first: what is written between the two makes a later start begin anew, which is always right
        signature = _signature(self._path)
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT count(*) FROM main.sqlite_schema").fetchone()  # the transaction begins here
        try:
            yield from self._restarted(signature)
            for name in [name for name in self._wanted if name not in self._done]:
                yield from self._table(name)
        finally:
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")
        self._signature, self._follows = None, True
        yield Piece([], 0, self._state)

    def _restarted(self, signature: tuple[Any, ...]) -> Iterator[Piece]:
        """What a snapshot that was broken off needs: nothing, or empty tables and a new beginning."""
        former, self._signature = self._signature, signature
        if former is None:
            return
        if self._config.follow != "triggers" and signature != former:
            begun = [*self._done, *([self._open[0]] if self._open is not None else [])]
            _log.warning("the database was written since the snapshot began: it begins anew", tables=begun)
            yield from self._anew(begun, emptied=True)
        elif self._open is not None and not self._wanted[self._open[0]].found.stable_rowid:
            # VACUUM may have moved its rows, and a table's own key may be another's now: read again from its beginning
            yield from self._anew([self._open[0]])

    def _anew(self, names: list[str], *, emptied: bool = False) -> Iterator[Piece]:
        """Tables that are read again, those that are not wanted when they return.

        Without a key, where they were away, and all where `emptied`, they lose their rows first.
        """
        for name in names:
            mark, _ = self._done.pop(name, (None, None))
            self._open = None if self._open is not None and self._open[0] == name else self._open
            if name not in self._wanted:
                self._done[name] = (AWAY, None)
            elif emptied or mark == AWAY or not self._wanted[name].table.key:
                self._rows += 1
                yield Piece([Truncate(name, f"{self._path.name}:{name}:{self._rows}")], 1, self._state, alone=True)

    def _table(self, name: str) -> Iterator[Piece | None]:
        wanted = self._wanted[name]
        mark = wanted.table.fingerprint
        begin: Row | None = self._open[2] if self._open is not None and self._open[0] == name else None
        last = begin
        # INSERT without a commit tells a row of a snapshot, too, which no watermark heeds
        op = Op.INSERT if wanted.table.key and not self._follows else Op.UPSERT
        commit = max(1, self._log_seq or 0) if self._follows else 0
        for rows, last in chunks(self._connection, wanted, begin, self._rows_max):
            first, self._rows = self._rows, self._rows + len(rows)
            self._open = (name, mark, last)
            yield piece(wanted, rows, op, commit=commit, first=first, flow=self._flow, state=self._state)
            yield from spent(self._pace, len(rows))
        rowid = None
        if wanted.found.rowid is not None:
            rowid = int(last[0]) if last is not None else 0
        self._done[name], self._open = (mark, rowid), None
        yield Piece([], 0, self._state)

    # -- what comes later

    def _stay(self) -> Iterator[Piece | None]:
        """Nothing but what is asked for."""
        while True:
            self._check_place()
            if (one := self._again()) is not None:
                yield one
            elif self._until_end:
                return
            else:
                yield None

    def _again(self) -> Piece | None:
        """The next rows that a person asked for; None where there are none now."""
        ends = {name: rowid or 0 for name, (_, rowid) in self._done.items()} if self._config.follow == "rowid" else {}
        found = self._asked.next(self._answered, ends)
        if found is None:
            return None
        part, whole, rows = found
        first, self._rows = self._rows, self._rows + len(rows)
        commit = max(1, self._log_seq or 0)
        one = piece(part, rows, Op.UPSERT, commit=commit, first=first, flow=self._flow, state=self._state)
        return one if whole is None else updates(one, whole)

    def _follow(self) -> Iterator[Piece | None]:
        version, schema = -1, schema_version(self._connection)
        end = self._log_end() if self._until_end and self._config.follow == "triggers" else None
        while True:
            self._check_place()
            if (found := schema_version(self._connection)) != schema:
                schema = found
                yield from self._changed_shapes()
            if (asked := self._again()) is not None:
                yield asked
            now = self._connection.execute("PRAGMA main.data_version").fetchone()[0]
            count = 0
            if now != version:
                for one in self._news():
                    count += 1
                    yield one
                version = now if not count else -1
            self._clean()
            if self._until_end and asked is None and (end is None or self._log_seq >= end):
                return
            if not count and asked is None:
                yield None

    def _check_place(self) -> None:
        """An open file that another one has replaced is never written again. Raises TransientError."""
        if _identity(self._path) != self._file:
            raise TransientError(f"source.sqlite: {self._path}: expected the file that was opened, found another")

    def _news(self) -> Iterator[Piece | None]:
        if self._config.follow == "rowid":
            return self._appended()
        return self._logged()

    def _appended(self) -> Iterator[Piece]:
        """Rows with greater rowids than were read, table by table."""
        for name, wanted in self._wanted.items():
            mark, rowid = self._done[name]
            for rows, last in chunks(self._connection, wanted, (rowid,), self._rows_max):
                first, self._rows = self._rows, self._rows + len(rows)
                self._done[name] = (mark, int(last[0]))
                op = Op.INSERT if wanted.table.key else Op.UPSERT
                yield piece(wanted, rows, op, commit=1, first=first, flow=self._flow, state=self._state)

    def _logged(self) -> Iterator[Piece | None]:
        """The rows that the log names, as they are now; those that are gone as deletes. One read transaction."""
        connection = self._connection
        connection.execute("BEGIN")
        try:
            entries = connection.execute(
                f"SELECT seq, name, key FROM main.{quote(log_name(self._flow))} WHERE seq > ? ORDER BY seq LIMIT ?",
                [self._log_seq, _LOG_ROWS],
            ).fetchall()
            unseen = next((place for place, (_, name, key) in enumerate(entries) if not key), len(entries))
            if unseen:
                yield from self._named(entries[:unseen])
        finally:
            connection.execute("COMMIT")
        if entries and not unseen:
            # nobody knows what was written to this table: see install_log
            self._log_seq, name, _ = entries[0]
            _log.warning("the triggers or the log of a table were lost: it is emptied and read again", table=name)
            yield from self._anew([name], emptied=True)
            yield from self._snapshot()

    def _named(self, entries: list[Row]) -> Iterator[Piece]:
        keys: dict[str, dict[str, None]] = {}
        for _, name, key in entries:
            keys.setdefault(name, {})[key] = None
        commit, held = int(entries[-1][0]), Piece([], 0, self._state)
        for name, literals in keys.items():
            for one in self._present(self._wanted[name], list(literals), commit) if name in self._wanted else ():
                yield held
                held = one
        # the log goes on behind these entries only with the last piece
        self._log_seq = commit
        yield replace(held, state=self._state)

    def _present(self, wanted: WantedTable, literals: list[str], commit: int) -> Iterator[Piece]:
        table = wanted.table
        places = [f"k{index}" for index in range(len(table.key))]
        # by the column's own collation, which an index serves, and bit by bit
        same = " AND ".join(
            f"t.{quote(name)} = {place} AND t.{quote(name)} COLLATE BINARY = {place}"
            for name, place in zip(table.key, places, strict=True)
        )
        columns = ", ".join(f"t.{quote(column.name)}" for column in table.columns)
        step = min(_KEYS_A_QUERY, self._rows_max)
        for start in range(0, len(literals), step):
            some = literals[start : start + step]
            values = ", ".join(f"({literal})" for literal in some)  # written by quote() in the trigger: literals only
            for gone in (False, True):
                picked = ", ".join(places) if gone else columns
                join = "LEFT JOIN" if gone else "JOIN"
                text = (
                    f"WITH k({', '.join(places)}) AS (VALUES {values}) SELECT {picked} FROM k {join} "
                    f"main.{quote(table.name)} t ON {same}"
                )
                text += f" WHERE t.{quote(table.key[0])} IS NULL" if gone else ""
                yield from self._found(wanted, text, gone, commit)

    def _found(self, wanted: WantedTable, text: str, gone: bool, commit: int) -> Iterator[Piece]:
        offset = 0
        while rows := fetched(self._connection, f"{text} LIMIT -1 OFFSET ?", [offset]):
            first, self._rows = self._rows, self._rows + len(rows)
            offset += len(rows)
            if gone:
                one = deletes(wanted, rows, commit=commit, first=first, state=self._state)
            else:
                one = piece(wanted, rows, Op.UPSERT, commit=commit, first=first, flow=self._flow, state=self._state)
            if one is not None:
                yield one

    def _clean(self) -> None:
        """Remove what the recovery store is past from the log, where the database is free."""
        state, self._durable = self._durable, None
        if state is None or self._config.follow != "triggers" or not state[3] or state[3] <= self._cleaned:
            return
        try:
            with closing(
                connect(self._path, self._config.model_copy(update={"busy_timeout_s": 0.05}), write=True)
            ) as log:
                log.execute(f"DELETE FROM {quote(log_name(self._flow))} WHERE seq <= ?", [state[3]])
            self._cleaned = state[3]
        except sqlite3.OperationalError as error:
            _log.debug("the log is cleaned later", error=str(error))

    def _changed_shapes(self) -> Iterator[Piece | None]:
        """A table that gained columns is read again with them; one that lost what is read of it stops the flow."""
        for name, wanted in self._wanted.items():
            try:
                now = describe(self._connection, name)
            except ConfigurationError as error:
                raise FatalError(f"source.sqlite: table {name}: expected it to stay, found it dropped") from error
            before = {column.name: column for column in wanted.found.source.table.columns}
            there = {column.name: column for column in now.source.table.columns}
            for column in wanted.table.columns:
                if there.get(column.name) != before.get(column.name):
                    raise FatalError(
                        f"source.sqlite: table {name}: expected column {column.name} as it was, found it "
                        f"{'changed' if column.name in there else 'dropped'}; start again to read the table anew"
                    )
            new = [column for column in there.values() if column.name not in before]
            if new and wanted.on_new_column == "refuse":
                raise FatalError(
                    f"source.sqlite: table {name}: on_new_column refuses column {new[0].name}; set it to add or ignore"
                )
            if new and wanted.on_new_column == "add":
                table = Table(name, (*wanted.table.columns, *new), wanted.table.key)
                self._wanted[name] = replace(wanted, table=table, found=now)
                _log.info("a table is read again with new columns", table=name, columns=[column.name for column in new])
        if self._config.follow == "triggers":
            self._prepare_log()  # of a table that was made anew they are gone
        yield from self._snapshot()


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file stands there; None: none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _whole(state: tuple[Any, ...]) -> tuple[Any, ...]:
    """A state with the fields that it has now."""
    return (*state, *FIRST[len(state) :])


def _signature(path: Path) -> tuple[Any, ...]:
    """Changes whenever the database is written: size and time of its file and of its write-ahead log."""
    found: list[int] = []
    for file in (path, path.with_name(path.name + "-wal")):
        if file.exists():
            stat = file.stat()
            found += [stat.st_size, stat.st_mtime_ns] if stat.st_size else []
    return tuple(found)

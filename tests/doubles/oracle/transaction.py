"""A transaction of the double: changes with their redo, savepoints, commit and rollback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tests.doubles.oracle import lob_rows, redo_text, store
from tests.doubles.oracle.log import Record
from tests.doubles.oracle.redo_text import named
from tests.doubles.oracle.types import LOBS, OracleColumn, Stored

if TYPE_CHECKING:
    from tests.doubles.oracle.database import OracleDatabase

Values = dict[str, Stored]
Rows = dict[str, Values]
_NO_SEQUENCE = b"\xff\xff\xff\xff"
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@dataclass
class Table:
    """A table as the double has it.

    Args:
        name: "OWNER.NAME".
        key: its primary key, () where it has none.
        number: its object number.
        whole: the old row is logged whole, not its key and what changes alone.
        version: how many shapes it has had.
    """

    name: str
    columns: list[OracleColumn]
    key: tuple[str, ...]
    number: int
    whole: bool = True
    version: int = 1
    next_row: int = 1
    log: str = ""  # where a trigger writes the keys of changed rows

    def column(self, name: str) -> OracleColumn:
        """One of its columns."""
        return next(column for column in self.columns if column.name == name)

    def stored_key(self, key: tuple[object, ...]) -> tuple[Stored, ...]:
        """A key as it is kept."""
        return tuple(self.column(name).stored(value) for name, value in zip(self.key, key, strict=True))

    def new_row_id(self) -> str:
        """The ROW_ID of one more row: object, file, block and number in 64 digits."""
        number, self.next_row = self.next_row, self.next_row + 1

        def digits(value: int, count: int) -> str:
            return "".join(_DIGITS[value >> 6 * place & 63] for place in reversed(range(count)))

        return digits(self.number, 6) + "AAE" + digits(number // 100 + 1, 6) + digits(number % 100, 3)


@dataclass
class _Undo:
    """How a change is taken back: what was there before, and the place of its redo."""

    table: str
    row_id: str
    before: Values | None
    place: int


@dataclass
class Transaction:
    """One transaction of one instance. Not used once it has ended."""

    database: OracleDatabase
    id: int
    thread: int
    changed: dict[tuple[str, str], Values | None] = field(default_factory=dict)
    _undo: list[_Undo] = field(default_factory=list)
    _begun: bool = False
    step: int = 1  # between the SCNs of its records; 0: perhaps the same
    unsupported: bool = False  # LogMiner cannot tell the statements of its changes
    short: bool = False  # rows that take others back show the XID without its sequence
    basic: bool = False  # LOBs are written in front of their row's statement, which does not name them

    @property
    def xid(self) -> bytes:
        """Undo segment, slot and sequence: no two open transactions share the first two."""
        segment, slot = self.thread * 16 + self.id % 8, self.id // 8 % 32
        return segment.to_bytes(2, "little") + slot.to_bytes(2, "little") + self.id.to_bytes(4, "little")

    def row(self, table: str, row_id: str) -> Values | None:
        """A row as the transaction sees it."""
        if (table, row_id) in self.changed:
            return self.changed[table, row_id]
        return self.database.rows[table].get(row_id)

    # -- changes

    def insert(self, table: str, values: Mapping[str, object]) -> str:
        """Insert a row; its ROW_ID."""
        made = self.database.tables[table]
        row = {column.name: column.stored(values.get(column.name)) for column in made.columns}
        row_id = made.new_row_id()
        basic = self._basic(made, row)
        place = self._record(made, 1, "INSERT", redo_text.insert(table, made.columns, row, basic=basic), row_id)
        self._keep(table, row_id, None, row, place)
        self._lobs(made, row, row, basic=basic)
        return row_id

    def update(self, table: str, row_id: str, values: Mapping[str, object], *, bare: bool = False) -> None:
        """Update some columns of a row.

        Args:
            bare: where only values outside of the row change, their rows come without an update in front of them.
        """
        made, before = self.database.tables[table], self.row(table, row_id)
        assert before is not None, "the row is not there"
        changed = {name: made.column(name).stored(value) for name, value in values.items()}
        after = before | changed
        logged = before if made.whole else {n: v for n, v in before.items() if n in made.key or n in changed}
        # a LOB alone has no statement that it could stand in front of: its locator tells the row
        basic = any(not _is_lob(made.column(n), v) for n, v in changed.items()) and self._basic(made, changed)
        if basic:
            changed = {name: value for name, value in changed.items() if not _is_lob(made.column(name), value)}
        outside = [name for name, value in changed.items() if made.column(name).outside(value)]
        place = 0
        if changed and (len(outside) < len(changed) or not (bare or any(made.column(n).extended for n in outside))):
            text = redo_text.update(table, made.columns, logged, changed)
            place = self._record(made, 3, "UPDATE", text, row_id)
        self._keep(table, row_id, before, after, place)
        self._lobs(made, changed, after, basic=basic)

    def delete(self, table: str, row_id: str) -> None:
        """Delete a row."""
        made, before = self.database.tables[table], self.row(table, row_id)
        assert before is not None, "the row is not there"
        logged = before if made.whole else {n: v for n, v in before.items() if n in made.key}
        place = self._record(made, 2, "DELETE", redo_text.delete(table, made.columns, logged), row_id)
        self._keep(table, row_id, before, None, place)

    def edit(self, table: str, row_id: str, column: str, how: str, text: str) -> None:
        """Edit a CLOB in its place; no statement tells of it, nor that it is undone."""
        made, before = self.database.tables[table], self.row(table, row_id)
        assert before is not None, "the row is not there"
        kept = before[column]
        assert isinstance(kept, str)
        rows, value = lob_rows.of_edit(made, made.column(column), self._key(made, before), how, kept, text)
        for row in rows:
            self._append(row)
        self._keep(table, row_id, before, {**before, column: value}, 0)

    def _key(self, table: Table, row: Values) -> Values:
        return {name: row[name] for name in table.key or [c.name for c in table.columns]}

    def _basic(self, table: Table, changed: Values) -> bool:
        """Write LOBs in front of the statement, where it is so; whether it is."""
        lobs = [c for c in table.columns if self.basic and _is_lob(c, changed.get(c.name))]
        for column in lobs:
            for row in lob_rows.writes(table, column, changed[column.name], 0):  # type: ignore[arg-type]
                self._append(row)
        return bool(lobs)

    def _lobs(self, table: Table, changed: Values, row: Values, *, basic: bool) -> None:
        """Rows that bring the values outside of the row, behind the statement that has them empty or not at all."""
        for column in table.columns:
            kept = changed.get(column.name)
            if column.outside(kept) and not (basic and _is_lob(column, kept)):
                assert isinstance(kept, str | bytes)
                for one in lob_rows.of_value(table, column, self._key(table, row), kept):
                    self._append(one)

    def noise(self, record: Record) -> None:
        """A record that changes no row here: internal ones, those of temporary tables, of other containers."""
        self._append(record)

    def missing(self) -> None:
        """LogMiner's word of a gap in the redo; of no transaction's."""
        self.database.log.append(self.thread, 0, bytes(8), Record(34, "MISSING_SCN", info="missing SCN range"))

    def ddl(self, table: Table, text: str) -> int:
        """The DDL itself; its SCN."""
        info = "USER DDL (PlSql=0 RecDep=0)"
        record = Record(5, "DDL", f"{text};", table.name, table.number, table.version, info=info)
        return self._append(record)[0]

    # -- savepoints and ends

    def savepoint(self) -> int:
        """A mark for `rollback_to`."""
        return len(self._undo)

    def rollback_to(self, mark: int) -> None:
        """Take back what was done since, newest first: each change gets a record of its own."""
        while len(self._undo) > mark:
            undo = self._undo.pop()
            if not undo.place:  # nothing but what lies outside of the row: nothing tells that it is undone
                self.changed[undo.table, undo.row_id] = undo.before
                continue
            table, now = self.database.tables[undo.table], self.row(undo.table, undo.row_id)
            if now is None:
                code, operation = 1, "INSERT"
                text = redo_text.insert(undo.table, table.columns, undo.before or {})
            elif undo.before is None:
                code, operation = 2, "DELETE"
                text = f"delete from {named(undo.table)} where ROWID = '{undo.row_id}'"
            else:
                code, operation = 3, "UPDATE"
                sets = ", ".join(f'"{c.name}" = {redo_text.value(c, undo.before[c.name])}' for c in table.columns)
                text = f"update {named(undo.table)} set {sets} where ROWID = '{undo.row_id}'"
            place = self._record(table, code, operation, text, undo.row_id, rollback=True)
            for first in (undo.place, place):  # with all pieces of the statement
                self.database.connection.execute(
                    "UPDATE redo SET undone = 1 WHERE place >= :first AND thread = :thread "
                    "AND rs_id = (SELECT rs_id FROM redo WHERE place = :first)",
                    {"first": first, "thread": self.thread},
                )
            self.changed[undo.table, undo.row_id] = undo.before

    def commit(self, *, same: bool = False) -> int:
        """Commit; the SCN, 0 where nothing was done.

        Args:
            same: the SCN of another's commit, where that was the last thing before; two instances can do so.
        """
        if not self._begun:
            return 0
        with self.database.lock:
            connection = self.database.connection
            connection.execute("BEGIN IMMEDIATE")
            self.step = int(not (same and self.database.committed_last))
            scn, place = self._append(Record(7, "COMMIT", "commit"))
            connection.execute(
                "UPDATE txn SET ended = 1, commit_scn = ?, commit_place = ? WHERE id = ?", [scn, place, self.id]
            )
            for (table, row_id), after in self.changed.items():
                self._version(table, row_id, after, scn)
            connection.execute("COMMIT")
            self._release()
            if self.changed:
                self.database.history.append(scn)
        return scn

    def rollback(self) -> None:
        """Roll everything back: the changes with records of their own, then the end."""
        if self._begun:
            self.rollback_to(0)
            self._append(Record(36, "ROLLBACK", "rollback"))
            self.database.connection.execute("UPDATE txn SET ended = 1 WHERE id = ?", [self.id])
        self._release()

    def _release(self) -> None:
        for held, owner in list(self.database.held.items()):
            if owner == self.id:
                del self.database.held[held]

    def _version(self, table: str, row_id: str, after: Values | None, scn: int) -> None:
        rows, connection = self.database.rows[table], self.database.connection
        if row_id in rows:
            connection.execute(
                f'UPDATE "{table}" SET "$to" = ? WHERE "$row" = ? AND "$to" = ?', [scn, row_id, store.FOREVER]
            )
            del rows[row_id]
        if after is not None:
            rows[row_id] = dict(after)
            names = "".join(f', "{name}"' for name in after)
            connection.execute(
                f'INSERT INTO "{table}" ("$row", "$from", "$to"{names}) VALUES (?, ?, ?{", ?" * len(after)})',
                [row_id, scn, store.FOREVER, *after.values()],
            )

    # -- records

    def _keep(self, table: str, row_id: str, before: Values | None, after: Values | None, place: int) -> None:
        self._undo.append(_Undo(table, row_id, before, place))
        self.changed[table, row_id] = after
        self.database.held[table, row_id] = self.id
        made = self.database.tables[table]
        if made.log:
            keys = {tuple(row[name] for name in made.key) for row in (before, after) if row is not None}
            for key in sorted(keys, key=repr):
                # numbers are given at the change, not at the commit
                entry = {f"K{index}": value for index, value in enumerate(key)}
                self.insert(made.log, entry | {"SEQ": self.database.tables[made.log].next_row})

    def _record(self, table: Table, code: int, operation: str, sql: str, row_id: str, *, rollback: bool = False) -> int:
        record = Record(code, operation, sql, table.name, table.number, table.version, rollback=rollback)
        if row_id:
            record = replace(record, row_id=row_id)
        if self.unsupported and row_id and not rollback:
            record = replace(record, sql="Unsupported", status=2, info="Unsupported column")
        return self._append(record)[1]

    def _append(self, record: Record) -> tuple[int, int]:
        with self.database.lock, store.atomic(self.database.connection):
            if not self._begun:
                self._begun = True
                self.database.connection.execute(
                    "INSERT INTO txn (id, xid, thread) VALUES (?, ?, ?)", [self.id, self.xid, self.thread]
                )
                start = Record(6, "START", "set transaction read write")
                scn, _ = self.database.log.append(self.thread, self.id, self.xid, start, step=self.step)
                self.database.connection.execute("UPDATE txn SET start_scn = ? WHERE id = ?", [scn, self.id])
            shown = self.xid[:4] + _NO_SEQUENCE if record.rollback and self.short else self.xid
            self.database.committed_last = record.code == 7
            return self.database.log.append(self.thread, self.id, shown, record, step=self.step)


def _is_lob(column: OracleColumn, value: Stored) -> bool:
    return column.kind in LOBS and column.outside(value)

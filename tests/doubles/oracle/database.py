"""The database behind the double, as its users see it: tables, DDL, transactions of two instances, logs; and the truth.

One writer (a test) has it open and knows all committed rows; the connector's sessions see the same file through
tests/doubles/oracle/driver.py, from any process.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.doubles.oracle import store
from tests.doubles.oracle.log import Record, RedoLog
from tests.doubles.oracle.redo_text import named
from tests.doubles.oracle.transaction import Rows, Table, Transaction
from tests.doubles.oracle.types import OracleColumn, Stored
from tests.doubles.oracle.views import VIEWS

OWNER = "C##HEADRACE"  # the schema of the connector's login


class OracleDatabase:
    """A database with its writer.

    Args:
        path: its file, the dsn of connections.
        threads: instances (RAC); each writes redo of its own.
        positional: rows that were written before a DDL are mined without names behind it, as LogMiner does with the
            online catalog.
        pdb: the pluggable database that its tables are in; sessions begin in the root. "": it has no containers.
    """

    def __init__(self, path: Path, *, threads: int = 1, positional: bool = False, pdb: str = "") -> None:
        store.make(path, threads)
        self.path, self.threads = path, threads
        self.connection: sqlite3.Connection = store.connect(path)
        for name, text in VIEWS.items():
            self.connection.execute(f'CREATE VIEW "{name}" AS {text}')
        self.setting("positional", int(positional))
        if pdb:
            self.setting("pdb", pdb)
        self.lock = threading.RLock()
        self.log = RedoLog(self.connection)
        self.tables: dict[str, Table] = {}
        self.rows: dict[str, Rows] = {}  # committed, by ROW_ID
        self.history: list[int] = []  # SCNs of commits that changed something
        self.held: dict[tuple[str, str], int] = {}  # rows that an open transaction holds
        self.committed_last = False  # whether the last record is a commit
        self._next_id = 1

    def close(self) -> None:
        """Leave the file to others."""
        self.connection.close()

    def setting(self, name: str, value: object) -> None:
        """Something that sessions ask: log_mode, supplemental, committed_undo, revoked <privilege>."""
        self.connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", [name, value])

    def fail(self, pattern: str, code: int, *, skip: int = 0, count: int = 1) -> None:
        """The next statement with `pattern` in it fails with ORA-`code`, `count` times, after `skip` that do not."""
        self.connection.execute(
            "INSERT INTO fault (pattern, code, skip, count) VALUES (?, ?, ?, ?)", [pattern, code, skip, count]
        )

    # -- tables

    def create_table(
        self, name: str, columns: Sequence[tuple[str, str]], key: Sequence[str] = (), *, logging: str | None = "ALL"
    ) -> Table:
        """A table "OWNER.NAME". `logging`: its supplemental log group, ALL or PRIMARY KEY; None: it has none."""
        made = [OracleColumn(column, kind, column not in key) for column, kind in columns]
        with self.lock:
            table = Table(name, made, tuple(key), 70_000 + len(self.tables), whole=logging == "ALL")
            self.tables[name], self.rows[name] = table, {}
            group = {"ALL": "ALL COLUMN LOGGING", "PRIMARY KEY": "PRIMARY KEY LOGGING"}.get(logging or "")
            self.connection.execute(
                "INSERT INTO tab VALUES (?, ?, ?, 1, ?, ?)", [*name.split(".", 1), table.number, 0, group]
            )
            kept = "".join(f', "{column.name}" {column.affinity}' for column in made)
            self.connection.execute(f'CREATE TABLE "{name}" ("$row" TEXT, "$from" INTEGER, "$to" INTEGER{kept})')
            self.connection.execute(f'CREATE INDEX "{name}$row" ON "{name}" ("$row", "$to")')
            for column in made:
                self._describe(table, column)
            listed = ", ".join(f'"{column}" {kind}' for column, kind in columns)
            self._ddl(table, f"CREATE TABLE {named(name)} ({listed})")
        return table

    def keep_log(self, name: str) -> None:
        """What a person runs once for mode trigger_log: a log, and the trigger that writes keys into it."""
        table = self.tables[name]
        keys = [(f"K{index}", table.column(column).type) for index, column in enumerate(table.key)]
        log = f"{OWNER}.HEADRACE$L{table.number}"
        self.create_table(log, [("SEQ", "NUMBER(18)"), *keys], logging=None)
        table.log = log

    def gather_statistics(self, name: str) -> None:
        """DBMS_STATS.GATHER_TABLE_STATS: until then, and behind every change, the dictionary's count is an old one."""
        with self.lock:
            self.setting(f"rows {name}", len(self.rows[name]))

    def add_column(self, name: str, column: str, kind: str, default: object = None) -> None:
        """ALTER TABLE ... ADD, with a default for the rows that are there."""
        with self.lock:
            table, made = self.tables[name], OracleColumn(column, kind)
            told = "" if default is None else f" DEFAULT {default}"
            value = made.stored(default)
            table.columns.append(made)
            table.version += 1
            for row in self.rows[name].values():
                row[column] = value
            there = self.connection.execute("SELECT name FROM pragma_table_info(?)", [name]).fetchall()
            if (column,) not in there:  # one that was dropped is still there
                self.connection.execute(f'ALTER TABLE "{name}" ADD COLUMN "{column}" {made.affinity}')
            self.connection.execute(f'UPDATE "{name}" SET "{column}" = ? WHERE "$to" = ?', [value, store.FOREVER])
            self._describe(table, made)
            self._ddl(table, f'ALTER TABLE {named(name)} ADD "{column}" {kind}{told}', changes=False)

    def drop_column(self, name: str, column: str) -> None:
        """ALTER TABLE ... DROP COLUMN."""
        with self.lock:
            table = self.tables[name]
            table.columns = [one for one in table.columns if one.name != column]
            table.version += 1
            for row in self.rows[name].values():
                del row[column]
            self.connection.execute("DELETE FROM col WHERE owner || '.' || tab = ? AND name = ?", [name, column])
            self._ddl(table, f'ALTER TABLE {named(name)} DROP COLUMN "{column}"')

    def truncate(self, name: str) -> None:
        """TRUNCATE TABLE: DDL, without a row of redo for the rows."""
        with self.lock:
            self.rows[name].clear()
            scn = self._ddl(self.tables[name], f"TRUNCATE TABLE {named(name)}")
            self.connection.execute(f'UPDATE "{name}" SET "$to" = ? WHERE "$to" = ?', [scn, store.FOREVER])

    def rename_column(self, name: str, column: str, to: str) -> None:
        """ALTER TABLE ... RENAME COLUMN: DDL, without a row of redo for the values."""
        with self.lock:
            table, old = self.tables[name], self.tables[name].column(column)
            made = OracleColumn(to, old.type)
            table.columns = [made if one is old else one for one in table.columns]
            table.version += 1
            for row in self.rows[name].values():
                row[to] = row.pop(column)
            self.connection.execute(f'ALTER TABLE "{name}" RENAME COLUMN "{column}" TO "{to}"')
            self.connection.execute(
                "UPDATE col SET name = ? WHERE owner || '.' || tab = ? AND name = ?", [to, name, column]
            )
            self._ddl(table, f'ALTER TABLE {named(name)} RENAME COLUMN "{column}" TO "{to}"')

    def drop_partition(self, name: str, rows: Sequence[tuple[object, ...]], told: str = "DROP PARTITION P1") -> None:
        """ALTER TABLE ... of a partition that holds the rows of some keys, which go without a row of redo."""
        with self.lock:
            table, places = self.tables[name], self.places(name)
            gone = [places[table.stored_key(key)] for key in rows]
            for place in gone:
                del self.rows[name][place]
            scn = self._ddl(table, f"ALTER TABLE {named(name)} {told}")
            self.connection.executemany(
                f'UPDATE "{name}" SET "$to" = ? WHERE "$to" = ? AND "$row" = ?',
                [(scn, store.FOREVER, place) for place in gone],
            )

    def replace_table(self, name: str, statements: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
        """Another table stands under the name: DDL alone tells it, no row of redo its rows."""
        with self.lock:
            table, gone = self.tables[name], list(self.rows[name])
            self.rows[name].clear()
            for statement in statements:
                scn = self._ddl(table, statement)
            table.number += 5_000
            self.connection.execute("UPDATE tab SET object = ? WHERE owner || '.' || name = ?", [table.number, name])
            self.connection.executemany(
                f'UPDATE "{name}" SET "$to" = ? WHERE "$to" = ? AND "$row" = ?',
                [(scn, store.FOREVER, place) for place in gone],
            )
            for values in rows:
                row, place = {one.name: one.stored(values.get(one.name)) for one in table.columns}, table.new_row_id()
                self.rows[name][place] = row
                listed = ", ".join(f'"{column}"' for column in row)
                self.connection.execute(
                    f'INSERT INTO "{name}" ("$row", "$from", "$to", {listed}) VALUES (?, ?, ?{", ?" * len(row)})',
                    [place, scn, store.FOREVER, *row.values()],
                )

    def _describe(self, table: Table, column: OracleColumn) -> None:
        place = table.key.index(column.name) + 1 if column.name in table.key else None
        number = column.kind in ("NUMBER", "FLOAT")
        (last,) = self.connection.execute(
            "SELECT coalesce(max(place), 0) FROM col WHERE owner || '.' || tab = ?", [table.name]
        ).fetchone()
        length = 22 if number else (column.precision or 7)
        self.connection.execute(
            "INSERT INTO col VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                *table.name.split(".", 1), column.name, column.type, column.data_type, length,
                column.precision if number else None, column.scale, "Y" if column.nullable else "N", last + 1, place,
                column.precision if "CHAR" in column.kind else 0,
            ],
        )  # fmt: skip

    def _ddl(self, table: Table, text: str, *, changes: bool = True) -> int:
        """DDL is a transaction of its own, among internal rows of the dictionary's tables."""
        transaction = self.begin()
        internal = "INTERNAL DDL (PlSql=0 RecDep=1)"
        transaction.noise(Record(5, "DDL", f"/* internal */ {text}", table.name, info=internal))
        transaction.noise(Record(0, "INTERNAL"))
        scn = transaction.ddl(table, text)
        transaction.commit()
        self.connection.execute(
            "UPDATE tab SET version = ?, ddl_scn = CASE WHEN ? THEN ? ELSE ddl_scn END WHERE owner || '.' || name = ?",
            [table.version, changes, scn, table.name],
        )
        return scn

    # -- transactions

    def begin(self, thread: int = 1) -> Transaction:
        """A transaction in one of the instances; its first change gives it an XID."""
        with self.lock:
            self._next_id += 1
            return Transaction(self, self._next_id, thread)

    def write(
        self, name: str, upserts: Sequence[Mapping[str, object]] = (), deleted: Sequence[tuple[object, ...]] = ()
    ) -> None:
        """Upserts and deletes by key, committed together."""
        with self.lock:
            transaction, table = self.begin(), self.tables[name]
            places = self.places(name)
            for key in deleted:
                if (place := places.pop(table.stored_key(key), None)) is not None:
                    transaction.delete(name, place)
            for values in upserts:
                key = table.stored_key(tuple(values[column] for column in table.key))
                if key in places:
                    rest = {column: value for column, value in values.items() if column not in table.key}
                    transaction.update(name, places[key], rest)
                else:
                    places[key] = transaction.insert(name, values)
            transaction.commit()

    def places(self, name: str) -> dict[tuple[Stored, ...], str]:
        """ROW_IDs of the committed rows by their keys."""
        key = self.tables[name].key
        return {tuple(row[column] for column in key): place for place, row in self.rows[name].items()}

    # -- what the truth is

    def truth(self, name: str) -> list[dict[str, Stored]]:
        """The committed rows, values as tests/doubles/oracle/types.py keeps them."""
        with self.lock:
            return [dict(row) for row in self.rows[name].values()]

    def truth_at(self, name: str, scn: int) -> list[tuple[Stored, ...]]:
        """The rows as they were behind an SCN, in the columns of now."""
        columns = ", ".join(f'"{column.name}"' for column in self.tables[name].columns)
        return self.connection.execute(
            f'SELECT {columns} FROM "{name}" WHERE "$from" <= ? AND "$to" > ?', [scn, scn]
        ).fetchall()

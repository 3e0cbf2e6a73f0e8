"""The SAP system behind the fake: dictionary and rows in a SQLite file, and a writer of changes and their documents.

Values are kept as ABAP has them: no NULL, no blanks behind a text, dates as YYYYMMDD, amounts as if with two decimals.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.doubles.sap_rfc import standard
from tests.doubles.sap_rfc.standard import Field

SETTINGS: dict[str, Any] = {
    "user": "HEADRACE", "passwd": "secret", "client": "100", "et_data": True, "get_sorted": True, "wide": True,
    "denied_tables": [], "denied_functions": [], "not_remote": [], "hang": [], "deaf": False, "faults": [],
    "clock_seconds": 0, "shuffled": False, "message_types": {}, "frozen": {},
}  # fmt: skip
"""What a test sets: what the release can do, what the user may not, what hangs, what fails next, the clock."""


class System:
    """One system; any number of processes."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=20, check_same_thread=False)
        self._db.execute("PRAGMA synchronous = OFF")
        self._fields: dict[str, tuple[Field, ...]] = {}

    @classmethod
    def create(cls, path: Path, **settings: Any) -> System:
        """A new system with SAP's own tables."""
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE sys_setting (name TEXT PRIMARY KEY, value TEXT)")
            db.execute(
                "CREATE TABLE sys_field (tabname TEXT, position INT, field TEXT, PRIMARY KEY (tabname, position))"
            )
            db.execute("CREATE TABLE sys_call (name TEXT PRIMARY KEY, count INT)")
            db.execute("CREATE TABLE sys_number (last INT)")
            db.execute("INSERT INTO sys_number VALUES (0)")
        system = cls(path)
        system.set(**SETTINGS | settings)
        for name, fields in standard.TABLES.items():
            system._make(name, fields)
        for name, fields in standard.TABLES.items():
            system._list(name, fields)
        system.write({"T000": [{"MANDT": "100"}], "TCURX": [
            {"CURRKEY": key, "CURRDEC": decimals} for key, decimals in standard.CURRENCIES.items()
        ], "TFDIR": [{"FUNCNAME": name, "FMODE": "R"} for name in standard.REMOTE]}, documents=False)  # fmt: skip
        return system

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # -- what a test sets and asks

    @property
    def settings(self) -> dict[str, Any]:
        """As they are now."""
        return {name: json.loads(value) for name, value in self._db.execute("SELECT name, value FROM sys_setting")}

    def set(self, **settings: Any) -> None:
        """Change settings."""
        pairs = [(name, json.dumps(value)) for name, value in settings.items()]
        self._db.executemany("INSERT OR REPLACE INTO sys_setting VALUES (?, ?)", pairs)

    def count(self, function: str) -> None:
        """One more call of a function."""
        self._db.execute(
            "INSERT INTO sys_call VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET count = count + 1", [function]
        )

    @property
    def calls(self) -> dict[str, int]:
        """How often each function was called."""
        return dict(self._db.execute("SELECT name, count FROM sys_call").fetchall())

    def next_fault(self, function: str) -> tuple[str, str] | None:
        """The fault that the next call of a function has, and take it away."""
        faults = self.settings["faults"]
        for index, (name, kind, key) in enumerate(faults):
            if name == function:
                self.set(faults=faults[:index] + faults[index + 1 :])
                return kind, key
        return None

    @property
    def clock(self) -> datetime:
        """The system's time."""
        now = datetime.fromtimestamp(time.time(), UTC).replace(tzinfo=None)
        return now + timedelta(seconds=self.settings["clock_seconds"])

    # -- the dictionary

    def add_table(self, name: str, fields: Sequence[Field], object_class: str = "") -> None:
        """A table; `object_class`: changes of its rows write documents of that class."""
        self._make(name, fields)
        if object_class:
            self.write({"TCDOB": [{"OBJECT": object_class, "TABNAME": name}]}, documents=False)
        self._list(name, fields)

    def _make(self, name: str, fields: Sequence[Field]) -> None:
        rows = [(name, position, json.dumps(one.as_list())) for position, one in enumerate(fields)]
        self._db.executemany("INSERT INTO sys_field VALUES (?, ?, ?)", rows)
        key = ", ".join(f'"{one.name}"' for one in fields if one.key)
        columns = ", ".join(f'"{one.name}" {one.affinity}' for one in fields)
        self._db.execute(f'CREATE TABLE "t {name}" ({columns}{f", PRIMARY KEY ({key})" if key else ""})')

    def _list(self, name: str, fields: Sequence[Field]) -> None:
        dd03l = [{"TABNAME": name, "AS4LOCAL": "A", **one.dfies(at)} for at, one in enumerate(fields, 1)]
        dd03l.append({"TABNAME": name, "AS4LOCAL": "A", "FIELDNAME": ".INCLUDE", "POSITION": "0000"})
        self.write({"DD03L": dd03l}, documents=False)
        self.write({"DD02L": [{"TABNAME": name, "AS4LOCAL": "A", "TABCLASS": "TRANSP"}]}, documents=False)

    def add_field(self, name: str, field: Field) -> None:
        """A table gains a field, initial in all rows."""
        position = len(self.fields(name))
        self._db.execute("INSERT INTO sys_field VALUES (?, ?, ?)", [name, position, json.dumps(field.as_list())])
        initial = field.internal(None)
        self._db.execute(f'ALTER TABLE "t {name}" ADD COLUMN "{field.name}" {field.affinity} DEFAULT \'{initial}\'')
        self._fields.clear()

    def fields(self, name: str) -> tuple[Field, ...]:
        """A table's fields; () where it is not there."""
        if name not in self._fields:
            rows = self._db.execute(
                "SELECT field FROM sys_field WHERE tabname = ? ORDER BY position", [name]
            ).fetchall()
            self._fields[name] = tuple(Field(*json.loads(row[0])) for row in rows)
        return self._fields[name]

    # -- rows

    def freeze(self, name: str, columns: Sequence[str], delimiter: str) -> None:
        """Make the rows' texts now: what a measure reads is not made while it reads. Later writes are not in them."""
        fields = [next(one for one in self.fields(name) if one.name == column) for column in columns]
        key = [one for one in self.fields(name) if one.key]
        picked = ", ".join(f'"{one.name}"' for one in [*key, *fields])
        rows = self.select(f'SELECT {picked} FROM "t {name}" ORDER BY rowid')
        cells = [
            [one.rendered(cell, text=bool(delimiter)) for one, cell in zip(fields, row[len(key) :], strict=True)]
            for row in rows
        ]
        lines = (delimiter.join(cell.rstrip(" ") if delimiter else cell for cell in row) for row in cells)
        named = ", ".join(f'"{one.name}"' for one in key)
        self._db.execute(f'CREATE TABLE "f {name}" ({named}, line TEXT, PRIMARY KEY ({named}))')
        values = [(*row[: len(key)], line) for row, line in zip(rows, lines, strict=True)]
        with self._transaction():
            self._db.executemany(f'INSERT INTO "f {name}" VALUES ({", ".join("?" * (len(key) + 1))})', values)
        self.set(frozen={name: [delimiter, *columns]})

    def select(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """A query over the tables, which are called "t NAME"."""
        return self._db.execute(text, values).fetchall()

    def write(
        self,
        rows: Mapping[str, Sequence[Mapping[str, Any]]],
        deleted: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        *,
        documents: bool = True,
    ) -> None:
        """Upserts by key and deletes, and what tells of them, in one transaction."""
        client = self.settings["client"] if documents else "100"
        with self._transaction():
            for name, some in (deleted or {}).items():
                for row in some:
                    self._delete(name, {"MANDT": client, **row})
                    if documents:
                        self._tell(name, {"MANDT": client, **row}, "D")
            for name, some in rows.items():
                for row in some:
                    known = self._upsert(name, {"MANDT": client, **row})
                    if documents:
                        self._tell(name, {"MANDT": client, **row}, "U" if known else "I")

    @contextmanager
    def _transaction(self) -> Any:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _upsert(self, name: str, row: Mapping[str, Any]) -> bool:
        fields = self.fields(name)
        values = [one.internal(row.get(one.name)) for one in fields]
        key = [one for one in fields if one.key]
        where = " AND ".join(f'"{one.name}" = ?' for one in key)
        wanted = [one.internal(row[one.name]) for one in key]
        known = bool(key) and bool(self._db.execute(f'SELECT 1 FROM "t {name}" WHERE {where}', wanted).fetchall())
        self._db.execute(f'INSERT OR REPLACE INTO "t {name}" VALUES ({", ".join("?" * len(fields))})', values)
        return known

    def _delete(self, name: str, row: Mapping[str, Any]) -> None:
        key = [one for one in self.fields(name) if one.key]
        where = " AND ".join(f'"{one.name}" = ?' for one in key)
        self._db.execute(f'DELETE FROM "t {name}" WHERE {where}', [one.internal(row[one.name]) for one in key])

    def _tell(self, name: str, row: Mapping[str, Any], indicator: str) -> None:
        """A change document, and a change pointer for each message type that wants the table's."""
        classes = self._db.execute('SELECT "OBJECT" FROM "t TCDOB" WHERE "TABNAME" = ?', [name]).fetchall()
        types = [one for one, tables in self.settings["message_types"].items() if name in tables]
        if not classes and not types:
            return
        key = [one for one in self.fields(name) if one.key]
        table_key = "".join(str(one.internal(row[one.name])).ljust(one.length) for one in key)
        self._db.execute("UPDATE sys_number SET last = last + 1")
        number = f"{self._db.execute('SELECT last FROM sys_number').fetchone()[0]:010d}"
        now, client = self.clock, row["MANDT"]
        identity = str(next(one.internal(row[one.name]) for one in key if one.datatype != "CLNT"))
        for (object_class,) in classes:
            head = {"MANDANT": client, "OBJECTCLAS": object_class, "OBJECTID": identity, "CHANGENR": number}
            self._upsert("CDHDR", {**head, "UDATE": f"{now:%Y%m%d}", "UTIME": f"{now:%H%M%S}", "CHANGE_IND": indicator})
            item = {"TABNAME": name, "TABKEY": table_key.rstrip(" "), "FNAME": "KEY", "CHNGIND": indicator}
            self._upsert("CDPOS", {**head, **item})
        for message_type in types:
            pointer = {"MESTYPE": message_type, "CPIDENT": number, "PROCESS": "", "TABNAME": name, "FLDNAME": "KEY"}
            self._upsert("BDCP2", {**pointer, "MANDT": client, "TABKEY": table_key.rstrip(" "), "CDCHGID": indicator})

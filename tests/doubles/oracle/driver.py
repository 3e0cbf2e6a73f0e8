"""python-oracledb's connections and cursors over the double's file; tests/doubles/oracle/shim calls this `oracledb`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.doubles.oracle import bulk, frames, store
from tests.doubles.oracle.errors import DEAD, InterfaceError, failure
from tests.doubles.oracle.mining import LogMiner
from tests.doubles.oracle.translate import Translated, outputs, translate
from tests.doubles.oracle.types import OracleColumn
from tests.doubles.oracle.views import TYPES

_ALL = (1 << 31) - 1
_TEXTS = ("TO_CHAR(", "RAWTOHEX(", "ROWIDTOCHAR(", "XMLSERIALIZE(", "JSON_SERIALIZE(", "CAST(", "SYS_CONTEXT(")


class Defaults:
    """The driver's module-wide settings."""

    fetch_lobs = True
    fetch_decimals = False
    arraysize = 100
    prefetchrows = 2


defaults = Defaults()


def connect(dsn: str | None = None, *, user: str | None = None, password: str | None = None, **_: object) -> Connection:
    """Log in; the dsn is the path of the double's file. Raises DatabaseError: ORA-12514 where there is none."""
    if dsn is None or not Path(dsn).is_file():
        raise failure(12514, str(dsn))
    return Connection(Path(dsn), user or "")


class Connection:
    """A session."""

    def __init__(self, path: Path, user: str) -> None:
        self.path, self.username, self.dsn = path, user, str(path)
        self.version, self.thin, self.autocommit, self.call_timeout = "19.22.0.0.0", True, False, 0
        self.stmtcachesize, self.module, self.action = 20, "", ""
        self._sqlite: sqlite3.Connection | None = store.connect(path)
        self._fails("CONNECT")
        found = self.sqlite.execute("SELECT value FROM setting WHERE name = 'pdb'").fetchone()
        self.pdb: str | None = None if found is None else str(found[0])
        self.container = "ORCL" if found is None else "CDB$ROOT"
        self.sqlite.create_function("SYS_CONTEXT", 2, self._context)
        self.miner = LogMiner(self.sqlite)
        self._bulk = bulk.opened(path)

    @property
    def sqlite(self) -> sqlite3.Connection:
        """The file. Raises DatabaseError: the session is dead."""
        if self._sqlite is None:
            raise failure(3114)
        return self._sqlite

    def cursor(self, scrollable: bool = False) -> Cursor:
        """A cursor."""
        return Cursor(self)

    def fetch_df_batches(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        size: int | None = None,
        *,
        fetch_decimals: bool | None = None,
        requested_schema: Any = None,
    ) -> Iterator[pa.Table]:
        """Frames of `size` rows; an empty one where there is no row."""
        wanted = None if requested_schema is None else pa.schema(requested_schema)
        if self._bulk is not None and "V$LOGMNR_CONTENTS" in statement:
            self.miner.check()
            yield from self._bulk.frames(parameters or {}, size or defaults.arraysize, wanted)
            return
        cursor = self.cursor()
        cursor.execute(statement, parameters)
        decimals = defaults.fetch_decimals if fetch_decimals is None else fetch_decimals
        count = 0
        while rows := cursor.raw(size or defaults.arraysize):
            count += len(rows)
            yield frames.frame(rows, cursor.names, cursor.kinds, decimals=decimals, wanted=wanted)
        if not count:
            yield frames.frame([], cursor.names, cursor.kinds, decimals=decimals, wanted=wanted)

    def fetch_df_all(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        arraysize: int | None = None,
        *,
        fetch_decimals: bool | None = None,
        requested_schema: Any = None,
    ) -> pa.Table:
        """All rows in one frame."""
        given = {"fetch_decimals": fetch_decimals, "requested_schema": requested_schema}
        return pa.concat_tables(list(self.fetch_df_batches(statement, parameters, arraysize, **given)))

    def commit(self) -> None:
        """Nothing waits for it: each statement of a connector's own is committed by itself."""
        self._fails("COMMIT")

    def rollback(self) -> None:
        """See commit."""

    def ping(self) -> None:
        """Raises DatabaseError: the session is dead."""
        self._fails("PING")

    def is_healthy(self) -> bool:
        """Whether the session lives."""
        return self._sqlite is not None

    def cancel(self) -> None:
        """Nothing runs for long."""

    def close(self) -> None:
        """Log out."""
        if self._sqlite is not None:
            self._sqlite.close()
            self._sqlite = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fails(self, text: str) -> None:
        """Raise what a test wants to happen at such a statement."""
        connection = self.sqlite
        waiting = connection.execute("SELECT id, pattern, code, skip, count FROM fault WHERE count > 0").fetchall()
        for number, pattern, code, skip, _ in waiting:
            if pattern.upper() not in text.upper():
                continue
            changed = "skip = skip - 1" if skip else "count = count - 1"
            connection.execute(f"UPDATE fault SET {changed} WHERE id = ?", [number])
            if not skip:
                if code in DEAD:
                    self.close()
                raise failure(code, "put in by the test")

    failing = _fails

    def enter(self, container: str) -> None:
        """ALTER SESSION SET CONTAINER. Raises DatabaseError: there is none of that name."""
        if self.pdb is None or container not in (self.pdb, "CDB$ROOT"):
            raise failure(65011 if self.pdb is not None else 65090, container)
        self.container = container

    @property
    def sees_tables(self) -> bool:
        """Whether the session is where the tables are."""
        return self.pdb in (None, self.container)

    def _context(self, space: str, name: str) -> str | None:
        own = {"SESSION_USER": "C##HEADRACE", "CON_NAME": self.container, "CURRENT_SCHEMA": "C##HEADRACE"}
        return own.get(name.upper())


class Cursor:
    """A statement and its rows."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize, self.prefetchrows = defaults.arraysize, defaults.prefetchrows
        self.names: list[str] = []
        self.kinds: list[frames.Type] = []
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = 0
        self._rows: Any = None
        self._lobs, self._decimals = defaults.fetch_lobs, defaults.fetch_decimals

    def execute(
        self,
        statement: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        fetch_lobs: bool | None = None,
        fetch_decimals: bool | None = None,
        **binds: Any,
    ) -> Cursor:
        """Run a statement. Raises DatabaseError."""
        self._lobs = defaults.fetch_lobs if fetch_lobs is None else fetch_lobs
        self._decimals = defaults.fetch_decimals if fetch_decimals is None else fetch_decimals
        self.connection.failing(statement)
        given = dict(parameters or {}, **binds)
        if re.match(r"\s*ALTER\s+SESSION\b", statement, re.IGNORECASE):
            if (into := re.search(r'SET\s+CONTAINER\s*=\s*"?([^"]+)"?\s*$', statement, re.IGNORECASE)) is not None:
                self.connection.enter(into[1])
            return self
        if re.match(r"\s*BEGIN\b", statement, re.IGNORECASE):
            if self.connection.container not in ("ORCL", "CDB$ROOT"):
                raise failure(65040, statement)
            self.connection.miner.call(statement, given)
            return self
        self._query(statement, given)
        return self

    def _query(self, statement: str, binds: dict[str, Any]) -> None:
        sqlite = self.connection.sqlite
        known = sqlite.execute("SELECT owner || '.' || name FROM tab").fetchall()
        sees = self.connection.sees_tables
        made = translate(statement, frozenset(name for (name,) in known) if sees else frozenset())
        self._prepare(made, binds)
        texts = {name: str(value) if type(value).__name__ == "Decimal" else value for name, value in binds.items()}
        try:
            # the dictionary is that of the session's own container
            hidden = not sees and any(view.startswith("ALL_") for view in made.views)
            self._rows = sqlite.execute(f"SELECT * FROM ({made.text}) WHERE 0" if hidden else made.text, texts)
        except sqlite3.OperationalError as error:
            raise failure(942 if "no such table" in str(error) else 904, f"{error}: {made.text}") from error
        except sqlite3.ProgrammingError as error:
            raise failure(1008, str(error)) from error
        self.rowcount = self._rows.rowcount
        if self._rows.description is not None:
            self._describe(statement, made)

    def _prepare(self, made: Translated, binds: Mapping[str, Any]) -> None:
        """What reading some views and old rows does or refuses."""
        sqlite = self.connection.sqlite
        if "V$LOGMNR_CONTENTS" in made.views:
            self.connection.miner.check()
        if re.search(r"\bCURRENT_SCN\b", made.text, re.IGNORECASE):
            store.told_scn(sqlite)
        for table, scn in zip(made.tables, made.flashback, strict=False):
            wanted = int(binds[scn[1:]] if scn.startswith(":") else scn)
            (oldest, newest), (changed,) = (
                sqlite.execute("SELECT undo_from, scn FROM clock").fetchone(),
                sqlite.execute("SELECT ddl_scn FROM tab WHERE owner || '.' || name = ?", [table]).fetchone(),
            )
            if wanted < oldest:
                raise failure(1555)
            if wanted > newest:
                raise failure(8181)
            if wanted < changed:
                raise failure(1466)

    def _describe(self, statement: str, made: Translated) -> None:
        own: dict[str, OracleColumn] = {}
        for table in made.tables:
            rows = self.connection.sqlite.execute(
                "SELECT name, type FROM col WHERE owner || '.' || tab = ? ORDER BY place", [table]
            ).fetchall()
            own |= {name: OracleColumn(name, kind) for name, kind in rows}
        self.names, self.kinds = [], []
        for name, expression in outputs(statement):
            self.names.append(name)
            self.kinds.append(_kind(expression, own))
        self.description = [
            (name, None if kind is None else kind.kind, None, None, None, None, True)
            for name, kind in zip(self.names, self.kinds, strict=True)
        ]

    def raw(self, count: int) -> list[tuple[Any, ...]]:
        """Rows as they are kept."""
        found = self._rows.fetchmany(count)
        if found:
            self.connection.failing("FETCH")
        return found

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next rows."""
        return [self._row(row) for row in self.raw(size or self.arraysize)]

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All that are left."""
        return [self._row(row) for row in self.raw(_ALL)]

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row."""
        found = self.fetchmany(1)
        return found[0] if found else None

    def executemany(self, statement: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        """A statement for each of some binds."""
        for binds in parameters:
            self.execute(statement, binds)

    def close(self) -> None:
        """Forget the rows."""
        self._rows = None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        while (row := self.fetchone()) is not None:
            yield row

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _row(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            frames.python(value, kind, lobs=self._lobs, decimals=self._decimals)
            for value, kind in zip(row, self.kinds, strict=True)
        )


def _kind(expression: str, own: Mapping[str, OracleColumn]) -> frames.Type:
    if expression in own:
        return own[expression]
    if expression in TYPES:
        return OracleColumn(expression, TYPES[expression])
    if expression.startswith(_TEXTS):
        kind = "CLOB" if expression.startswith(("XML", "JSON")) else "VARCHAR2(4000)"
        return OracleColumn(expression, kind)
    return None


__all__ = ["Connection", "Cursor", "InterfaceError", "connect", "defaults"]

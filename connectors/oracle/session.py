"""Sessions at an Oracle database: logging in, errors sorted into those that pass and those that do not, Arrow batches.

The driver (oracledb, its thin mode, without a client library) is imported when the first session begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa

from connectors.base.secrets import resolve
from connectors.oracle import sql
from connectors.oracle.config import OracleConfig
from libcore.errors import ConfigurationError, FatalError, TransientError

_CONNECT_S = 10.0
NO_LOG_SESSION = 1307
SNAPSHOT_GONE = frozenset({1555, 1466, 8180, 8181, 22924})
"""Undo does not reach back that far, or the table was changed since."""
LOG_GONE = frozenset({1291, 310, 1292, 1289, 1284, 308, 334})
"""A log switched, was archived, or was removed between its choice and its reading."""
QUERY_TOO_LONG = frozenset({3136, 1013, 3156})
_GRANTS = {
    1031: "GRANT LOGMINING, SELECT_CATALOG_ROLE, EXECUTE_CATALOG_ROLE, FLASHBACK ANY TABLE, SELECT ANY TABLE",
    942: "GRANT SELECT on it",
    1045: "GRANT CREATE SESSION",
    6550: "GRANT EXECUTE ON SYS.DBMS_LOGMNR",
}
_CONTAINERS = {
    65011: "name it by `pdb` as V$PDBS does",
    65090: "the database has no containers: leave `pdb` out",
    65040: "LogMiner runs in the root container alone: log in as one of its users (C##...), and name the pluggable "
    "database by `pdb`",
}
# a service that is not there (12505, 12514) may be that of a database that starts
_LOST = frozenset(
    {28, 600, 1012, 1033, 1034, 1089, 1090, 3113, 3114, 3135, 12170, 12505, 12514, 12528, 12537, 12541, 12547, 12570}
)
_NO_VALUE = "DPY-4010"  # a bind in a person's condition
_WRONG_LOGIN = frozenset({1017, 28000, 28001, 1005})


class Refused(Exception):
    """The database answered with an error.

    Args:
        code: the number in ORA-NNNNN; 0 for one of the driver.
    """

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


class Session:
    """One session. Used by one thread.

    Args:
        pdb: go into this pluggable database; "" stays where the login leads.
        query_seconds_max: an answer that takes longer is given up; 0: no bound.
    """

    def __init__(self, config: OracleConfig, *, pdb: str = "", query_seconds_max: float = 0.0) -> None:
        self._driver = driver()
        secrets = {name: resolve(getattr(config, name)).reveal() for name in ("dsn", "user", "password")}
        with self._errors("log in"):
            self._connection = self._driver.connect(**secrets, tcp_connect_timeout=_CONNECT_S)
        if query_seconds_max:
            self._connection.call_timeout = int(query_seconds_max * 1000)
        self.run(sql.SESSION)
        if pdb:
            self.run(sql.container(pdb))

    def all(self, statement: str, **binds: Any) -> list[tuple[Any, ...]]:
        """All rows of a short answer. Raises Refused, TransientError, ConfigurationError."""
        with self._errors("ask"), self._connection.cursor() as cursor:
            cursor.execute(statement, binds)
            return list(cursor.fetchall())

    def one(self, statement: str, **binds: Any) -> tuple[Any, ...]:
        """The only row. Raises TransientError where there is none."""
        found = self.all(statement, **binds)
        if not found:
            raise TransientError(f"source.oracle: expected an answer, found none: {statement[:80]}")
        return found[0]

    def run(self, statement: str, **binds: Any) -> None:
        """A statement without rows."""
        with self._errors("run"), self._connection.cursor() as cursor:
            cursor.execute(statement, binds)

    def run_many(self, statement: str, binds: Sequence[Mapping[str, Any]]) -> None:
        """A statement once for each of the binds, committed."""
        with self._errors("run"), self._connection.cursor() as cursor:
            cursor.executemany(statement, list(binds))
            self._connection.commit()

    def arrow(
        self, statement: str, schema: pa.Schema, binds: Mapping[str, Any], batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Rows as batches of at most `batch_rows`, in exactly these types."""
        with self._errors("fetch"):
            frames = self._connection.fetch_df_batches(
                statement=statement, parameters=dict(binds), size=batch_rows, requested_schema=schema
            )
            for frame in frames:
                found = pa.table(frame)
                for batch in found.combine_chunks().to_batches():
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    def close(self) -> None:
        """Leave."""
        with suppress(self._driver.Error):
            self._connection.close()

    @contextmanager
    def _errors(self, purpose: str) -> Iterator[None]:
        try:
            yield
        except self._driver.Error as error:
            raise sorted_error(error, purpose) from error


def driver() -> Any:
    """The module oracledb. Raises ConfigurationError that says what brings it."""
    try:
        import oracledb
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "source.oracle: its driver oracledb is not installed: pip install 'headrace[oracle]'"
        ) from error
    return oracledb


def sorted_error(error: Any, purpose: str) -> Exception:
    """The driver's error: one that passes by itself, of a login or a grant, or Refused for the caller to judge."""
    told = error.args[0] if error.args else None
    code = int(getattr(told, "code", 0) or 0)
    text = f"source.oracle: {purpose}: {str(error).strip()}"
    if code in _WRONG_LOGIN:
        return ConfigurationError(text)
    if code in _CONTAINERS:
        return ConfigurationError(f"{text}; {_CONTAINERS[code]}")
    if code in _GRANTS:
        return ConfigurationError(f"{text}; {_GRANTS[code]} TO the login (`headrace doctor` lists all)")
    if code in SNAPSHOT_GONE or code in QUERY_TOO_LONG or code in LOG_GONE or code == NO_LOG_SESSION:
        return Refused(code, text)
    if code and not getattr(told, "isrecoverable", False) and code not in _LOST:
        return Refused(code, text)
    if getattr(told, "full_code", "") == _NO_VALUE:
        return Refused(code, text)
    return TransientError(text)


@contextmanager
def judged() -> Iterator[None]:
    """What is refused inside ends the flow, but for a log that went and a query that was given up: these pass."""
    try:
        yield
    except Refused as error:
        if error.code in LOG_GONE | QUERY_TOO_LONG:
            raise TransientError(str(error)) from error
        raise FatalError(str(error)) from error

"""Sessions with a SQL Server through ODBC, whose errors say what helps.

Texts come as UTF-16 whatever the column's code page, so no client's locale can change them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyodbc

from connectors.base.secrets import resolve
from connectors.sqlserver import sql
from connectors.sqlserver.config import SqlServerConfig
from libcore.errors import ConfigurationError, FatalError, HeadraceError, TransientError

Row = tuple[Any, ...]
_NUMBERS = re.compile(r"\((\d+)\)(?: \(SQL\w+\))?(?=;|$)")
_FETCH_ROWS, _FETCH_FIRST = 4096, 16
LARGE_BYTES = 8 << 20

_PASSING_STATES = ("08", "40", "HYT")
_PASSING = {
    601, 921, 922, 927, 976, 978, 982, 983, 1204, 1205, 1222, 1421, 3906, 3957, 3960, 3961, 3966, 4221, 10053, 10054,
    10060, 10928, 10929, 17142, 18401, 20002, 20003, 20004, 20006, 20009, 20017, 20047, 40197, 40501, 40613, 49918,
    49919, 49920,
}  # fmt: skip
_REFUSED = {229, 230, 262, 297, 300, 916, 4060, 18456}
_NO_DRIVER = ("IM002", "IM003", "IM004", "01000")
_TOO_LONG = "HYT00"


class QueryTooLong(TransientError):
    """A query that was given up after guardian.query_seconds_max."""


def failed(error: pyodbc.Error, doing: str) -> HeadraceError:
    """The driver's error as ours: what passes by itself, what a person must grant or set, what must stop the flow."""
    state = str(error.args[0]) if error.args else ""
    words = str(error.args[1]) if len(error.args) > 1 else str(error)
    # a statement with parameters brings a second number, that it could not be prepared
    numbers = {int(number) for number in _NUMBERS.findall(words)} - {0}
    text = f"source.sqlserver: {doing}: {words}"
    if state == _TOO_LONG and "ogin" not in words:
        return QueryTooLong(text)
    if 3952 in numbers:
        return ConfigurationError(f"{text}; ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION ON")
    if numbers & _REFUSED or state == "28000":
        return ConfigurationError(f"{text}; the login needs connectors/sqlserver/grants.md")
    if state in _NO_DRIVER and not numbers:
        return ConfigurationError(f"{text}; the connection string's DRIVER names an ODBC driver that is installed here")
    if 208 in numbers and "cdc." in words:
        return ConfigurationError(f"{text}; EXEC sys.sp_cdc_enable_db")
    # a driver that says nothing lost its server: so does FreeTDS
    if numbers & _PASSING or state.startswith(_PASSING_STATES) or (state == "HY000" and not numbers):
        return TransientError(text)
    return FatalError(text)


class Session:
    """One connection, in autocommit. Used by one thread.

    Args:
        snapshot: reads see a snapshot, each its own outside of a transaction.

    Raises TransientError, ConfigurationError, FatalError; see `failed`.
    """

    def __init__(self, config: SqlServerConfig, *, snapshot: bool = True) -> None:
        self._connection: pyodbc.Connection | None = None
        dsn = resolve(config.dsn)
        try:
            connection = pyodbc.connect(dsn.reveal(), autocommit=True, timeout=config.answer_s_max)
        except pyodbc.Error as error:
            raise failed(error, f"connect by {config.dsn}") from None
        connection.timeout = config.guardian.query_seconds_max
        self._connection = connection
        self._in_python = False
        self._decode_by("utf-16le")
        if snapshot:
            self.run(sql.SET_SNAPSHOT)

    def run(self, statement: str, *values: object) -> None:
        """A statement without an answer."""
        self.execute(statement, values).close()

    def ask(self, statement: str, *values: object) -> list[Row]:
        """All rows of a small answer."""
        cursor = self.execute(statement, values)
        try:
            return self.decoded([tuple(row) for row in cursor.fetchall()])
        except pyodbc.Error as error:
            raise failed(error, statement) from error
        finally:
            cursor.close()

    def value(self, statement: str, *values: object) -> Any:
        """The only value of an answer."""
        return self.ask(statement, *values)[0][0]

    def rows(
        self,
        statement: str,
        values: Sequence[object],
        count: int,
        large: Sequence[int] = (),
        bytes_max: int = LARGE_BYTES,
    ) -> tuple[list[Row], bool]:
        """The first rows of an answer, and whether they are all: `count`, or fewer where `large` columns hold more.

        The rows are the driver's own, which are sliced as tuples are.
        """
        cursor = self.open(statement, values, large)
        try:
            return cursor.next(count, bytes_max), cursor.ended
        finally:
            cursor.close()

    def open(self, statement: str, values: Sequence[object], large: Sequence[int] = ()) -> Cursor:
        """An answer that is read piece by piece; nothing else may be asked until it is closed."""
        return Cursor(self, statement, values, large)

    def decode_in_python(self) -> None:
        """From now on half surrogates, which SQL Server keeps, are no error of the driver's, but of their row."""
        self._in_python = True
        self._decode_by("latin-1")  # the bytes as they are

    def decoded(self, rows: list[Row]) -> list[Row]:
        """Rows with their texts."""
        if not self._in_python:
            return rows
        return [
            tuple(
                one.encode("latin-1").decode("utf-16-le", "surrogatepass") if isinstance(one, str) else one
                for one in row
            )
            for row in rows
        ]

    def execute(self, statement: str, values: Sequence[object]) -> pyodbc.Cursor:
        """The driver's own cursor."""
        assert self._connection is not None, "the session is closed"
        try:
            return self._connection.cursor().execute(statement, *values)
        except pyodbc.Error as error:
            raise failed(error, _beginning(statement)) from error

    def close(self) -> None:
        """End the session."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except pyodbc.Error as error:  # it is gone already, which is what was wanted
                assert error.args, error

    def _decode_by(self, encoding: str) -> None:
        assert self._connection is not None, "the session is closed"
        self._connection.setdecoding(pyodbc.SQL_CHAR, encoding=encoding, ctype=pyodbc.SQL_WCHAR)
        self._connection.setdecoding(pyodbc.SQL_WCHAR, encoding=encoding, ctype=pyodbc.SQL_WCHAR)


def _beginning(statement: str) -> str:
    return statement if len(statement) < 200 else f"{statement[:200]}..."


class Cursor:
    """An answer on its way; `ended` once there is nothing behind what was read.

    Where a text cannot be decoded the answer is asked for again, and its first rows may come twice.
    """

    def __init__(self, session: Session, statement: str, values: Sequence[object], large: Sequence[int]) -> None:
        self._session, self._statement, self._values, self._large = session, statement, values, large
        self._cursor = session.execute(statement, values)
        self.ended = False

    def next(self, count: int, bytes_max: int = LARGE_BYTES) -> list[Row]:
        """The next rows, at most `count`; fewer where the large columns hold more. Sets `ended` behind the last."""
        try:
            return self._next(count, bytes_max)
        except UnicodeDecodeError:
            self._cursor.close()
            self._session.decode_in_python()
            self._cursor = self._session.execute(self._statement, self._values)
            return self._next(count, bytes_max)
        except pyodbc.Error as error:
            raise failed(error, _beginning(self._statement)) from error

    def _next(self, count: int, bytes_max: int) -> list[Row]:
        rows: list[Row] = []
        held, step = 0, _FETCH_FIRST if self._large else _FETCH_ROWS
        while len(rows) < count and held < bytes_max and not self.ended:
            wanted = min(count - len(rows), step)
            some = self._session.decoded(self._cursor.fetchmany(wanted))
            self.ended = len(some) < wanted
            rows += some
            if self._large:
                held += sum(len(row[index]) for index in self._large for row in some if row[index] is not None)
                step = max(1, min(_FETCH_ROWS, (bytes_max - held) * len(rows) // max(held, 1)))
        return rows

    def close(self) -> None:
        """Give it up."""
        try:
            self._cursor.close()
        except pyodbc.Error as error:
            raise failed(error, "close a query") from error

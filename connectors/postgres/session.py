"""A connection to PostgreSQL as Headrace uses it, and which of its errors means what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from connectors.base.secrets import resolve
from connectors.postgres.config import PostgresConfig
from libcore.errors import ConfigurationError, DataError, FatalError, HeadraceError, TransientError

Connection = psycopg.Connection[tuple[Any, ...]]

_PASSING_CLASSES = ("08", "40", "53", "57", "58")
_PASSING = frozenset({"55P03", "25006", "72000"})  # lock timeout, a standby, a snapshot too old
_DATA_CLASSES = ("22", "23", "44", "54")
_DATA = frozenset({"P0001", "P0004", "09000"})  # raised by a trigger of the table's owner
_CONFLICTS = frozenset({"23505", "23503", "23P01"})  # unique, foreign key, exclusion
_SETTINGS = (
    # The planner trap: without statistics of the staging table a hash or merge join reads the whole target for every
    # segment. These switches make every statement of this session take the index.
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET enable_seqscan = off",
    "SET jit = off",
    "SET TimeZone = 'UTC'",
    "SET DateStyle = 'ISO, YMD'",
    "SET IntervalStyle = 'postgres'",
    "SET bytea_output = 'hex'",
    "SET extra_float_digits = 1",
    "SET xmloption = 'content'",
)
# A peer that vanished without a word is noticed within a minute or so.
_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}


class Refused(DataError):
    """The database does not take a row as it is. `conflict`: another row stands in the way, which may pass."""

    def __init__(self, message: str, sqlstate: str) -> None:
        self.sqlstate = sqlstate
        self.conflict = sqlstate in _CONFLICTS
        super().__init__(message)


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string literal, for the commands shown to an operator."""
    return "'" + text.replace("'", "''") + "'"


def connect(config: PostgresConfig, name: str) -> Connection:
    """Open a session (autocommit, so a transaction is always a block). Raises TransientError, ConfigurationError."""
    dsn = resolve(config.dsn).reveal()
    limits = {"statement_timeout": config.statement_timeout_s, "lock_timeout": config.lock_timeout_s}
    options = " ".join(f"-c {name}={int(seconds * 1000)}" for name, seconds in limits.items())
    try:
        parsed: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # the driver's own text may quote the password
        raise ConfigurationError(f"{config.dsn}: expected a PostgreSQL URL or key=value pairs") from None
    parsed["options"] = f"{parsed.get('options') or ''} {options}".strip()
    parsed["application_name"] = f"{config.application_name} {name}"[:63]
    parsed["connect_timeout"] = config.connect_timeout_s
    for name, value in _KEEPALIVE.items():
        parsed.setdefault(name, value)
    with database_errors():
        connection = psycopg.connect(**parsed, autocommit=True)
        connection.execute("; ".join(_SETTINGS))
        return connection


@contextmanager
def database_errors() -> Iterator[None]:
    """Turns the driver's errors into ours."""
    try:
        yield
    except psycopg.Error as error:
        raise classify(error) from error


def classify(error: psycopg.Error) -> HeadraceError:
    """What an error of the driver means for the segment in hand."""
    state = error.sqlstate
    detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
    text = f"PostgreSQL {state or type(error).__name__}: {str(error.diag.message_primary or error).strip()}{detail}"
    if state is None:
        passing = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return TransientError(text) if passing else FatalError(text)
    if state[:2] in _PASSING_CLASSES or state in _PASSING:
        return TransientError(text)
    if state[:2] in _DATA_CLASSES or state in _DATA:
        return Refused(text, state)
    if state == "42501":
        return FatalError(f"{text}; connectors/postgres/grants.md lists what the role needs")
    return FatalError(text)

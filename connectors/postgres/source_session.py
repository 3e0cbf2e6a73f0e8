"""Sessions with a PostgreSQL that is read: plain ones, and walsenders, whose errors say what helps."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from connectors.base.secrets import resolve
from connectors.postgres.session import Connection, classify, literal
from connectors.postgres.source_config import PostgresSourceConfig
from libcore.errors import ConfigurationError, HeadraceError, TransientError

_SETTINGS = {
    "client_encoding": "UTF8",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "timezone": "UTC",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "search_path": "pg_catalog",
}
# A peer that vanished without a word is noticed within a minute or so.
_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
_CONNECT_S = 10
# SQLSTATEs 28000, 28P01, 3D000, 42501 and 55000 of a login, of which libpq tells the text only
_REFUSED = (
    "authentication failed", "no password supplied", "is not permitted to log in", "pg_hba.conf", "does not exist",
    "permission denied for database", "is not currently accepting connections",
)  # fmt: skip
NO_SLOT_FREE = "53400"
RIGHT = "ALTER ROLE {role} REPLICATION"


class LoginRefused(ConfigurationError):
    """The server answers, and does not let this role into this database: source_login.py says what that means."""


def connect(config: PostgresSourceConfig, purpose: str, *, walsender: bool = False) -> Connection:
    """A session in autocommit with the text forms that are decoded. Raises TransientError, ConfigurationError."""
    dsn = resolve(config.dsn).reveal()
    try:
        parsed: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # the driver's own text may quote the password
        raise ConfigurationError(f"{config.dsn}: expected a PostgreSQL URL or key=value pairs") from None
    bounds = {} if walsender else {"statement_timeout": str(int(config.guardian.query_seconds_max * 1000))}
    settings = " ".join(f"-c {name}={value}" for name, value in {**_SETTINGS, **bounds}.items())
    parsed["options"] = f"{parsed.get('options') or ''} {settings}".strip()
    parsed["application_name"] = f"headrace {purpose}"[:63]
    for name, value in {**_KEEPALIVE, "connect_timeout": _CONNECT_S}.items():
        parsed.setdefault(name, value)
    if "," in str(parsed.get("host") or ""):  # a pair: of its servers the primary, whichever that is now
        parsed.setdefault("target_session_attrs", "read-write")
    if walsender:
        parsed["replication"] = "database"
    try:
        return psycopg.connect(**parsed, autocommit=True)
    except psycopg.Error as error:
        raise _refused_login(error, parsed, walsender) from error


def _refused_login(error: psycopg.Error, parsed: dict[str, Any], walsender: bool) -> HeadraceError:
    text = str(error).strip()
    role = parsed.get("user") or "ROLE"
    if walsender and ("REPLICATION attribute" in text or "replication role" in text):
        return ConfigurationError(
            f"source.postgres: expected a role that may stream, found {role} without that right; a superuser grants "
            f"it: {RIGHT.format(role=role)}"
        )
    if walsender and "pg_hba.conf" in text:
        return LoginRefused(
            f"source.postgres: expected a line in pg_hba.conf that lets {role} stream "
            f"(`host replication {role} ADDRESS scram-sha-256`, and the database's own line), found: {text}"
        )
    if "max_wal_senders" in text:
        return TransientError(f"source.postgres: no walsender is free (max_wal_senders): {text}")
    if any(word in text for word in _REFUSED):
        return LoginRefused(f"source.postgres: {text}")
    return TransientError(f"source.postgres: {text}")


class QueryTooLong(TransientError):
    """A query was given up after the guardian's query_seconds_max: it is to be asked for less."""


def failed(error: psycopg.Error, doing: str) -> HeadraceError:
    """What an error of a query means for the source: try again, or stop and say why."""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return QueryTooLong(f"source.postgres: {doing}: {str(error).strip()} (guardian.query_seconds_max)")
    found = classify(error)
    if isinstance(found, TransientError):
        return TransientError(f"source.postgres: {doing}: {found}")
    return ConfigurationError(f"source.postgres: {doing}: {found}")


def command(connection: Connection, text: str) -> Iterator[dict[str, str | None] | None]:
    """Run a replication command: Nones while it works, then the one row that it answers ({} where there is none).

    Raises: CommandRefused where the server refuses it, TransientError where the connection broke.
    """
    libpq = connection.pgconn
    libpq.send_query(text.encode())
    while libpq.is_busy():
        select.select([libpq.socket], [], [], 0.1)
        try:
            libpq.consume_input()
        except psycopg.Error as error:
            raise TransientError(f"source.postgres: {text.split(' ')[0]}: {error}") from error
        yield None
    found: dict[str, str | None] = {}
    while (result := libpq.get_result()) is not None:
        if result.status == ExecStatus.COPY_BOTH:
            break
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise refused(result, text)
        for column in range(result.nfields):
            value = result.get_value(0, column) if result.ntuples else None
            found[(result.fname(column) or b"").decode()] = None if value is None else bytes(value).decode()
    yield found


class CommandRefused(Exception):
    """A replication command that the server refused, with its SQLSTATE ("" where it told none)."""

    def __init__(self, text: str, sqlstate: str) -> None:
        self.text, self.sqlstate = text, sqlstate
        super().__init__(text)


def refused(result: Any, doing: str) -> Exception:
    """The error of a result."""
    state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    text = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message or b"").decode().strip()
    hint = (result.error_field(DiagnosticField.MESSAGE_HINT) or b"").decode()
    detail = (result.error_field(DiagnosticField.MESSAGE_DETAIL) or b"").decode()
    whole = " ".join(part for part in (f"{doing.split('(')[0].strip()}: {text}", detail, hint) if part)
    if state == "57014":
        return QueryTooLong(f"source.postgres: {whole} (guardian.query_seconds_max)")
    if (state[:2] in ("08", "57", "53", "") and state != NO_SLOT_FREE) or state == "40001":
        return TransientError(f"source.postgres: {whole}")
    return CommandRefused(whole, state)


def lsn_text(lsn: int) -> str:
    """As PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """As it is counted."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def option(name: str) -> str:
    """A name inside a list of names inside an option's text."""
    return literal('"' + name.replace('"', '""') + '"')

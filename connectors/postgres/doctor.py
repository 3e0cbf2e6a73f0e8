"""What is amiss with a source database, before it costs a flow its slot or the source its updates.

Each finding that a statement mends says which: run as it is printed, by a superuser or the tables' owner, it mends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from connectors.base.database import Finding
from connectors.postgres import slot as slots
from connectors.postgres.doctor_failover import failover_findings
from connectors.postgres.doctor_tables import publication_findings, table_findings
from connectors.postgres.session import Connection, literal, quote
from connectors.postgres.source_catalog import CatalogTable
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.postgres.source_session import command, connect
from libcore.errors import HeadraceError

_ORDER = {"error": 0, "warning": 1, "note": 2}
_OLDEST = 140000
_RETENTION_BYTES_MIN = 1 << 30
_WORK_KB_MIN = 64 << 10
_RELOAD = "SELECT pg_reload_conf()"
_RESTART = "; -- then restart the server"
DROP = "headrace source drop FILE"


def examine(
    connection: Connection,
    config: PostgresSourceConfig,
    tables: Sequence[CatalogTable],
    *,
    spool_bytes: int = 0,
) -> list[Finding]:
    """All findings, worst first.

    Args:
        connection: a session of the source's own role, in autocommit.
        tables: what the pipeline reads. spool_bytes: what the pipeline keeps on disk while its target is away.
    """
    role = _Role(connection)
    found = [*_server(connection), *_retention(connection, config, spool_bytes), *_role(connection, config, role)]
    found += [*_slot(connection, config, spool_bytes), *_long_transactions(connection, config, role)]
    found += failover_findings(connection, config)
    found += [*publication_findings(connection, str(config.publication), tables, role.sql)]
    found += table_findings(connection, str(config.publication), tables, role.sql)
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


class _Role:
    """Who asks: `sql` is its name in a statement."""

    def __init__(self, connection: Connection) -> None:
        row = connection.execute(
            "SELECT quote_ident(rolname), rolreplication OR rolsuper, "
            "rolsuper OR pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') "
            "FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        assert row is not None
        self.sql: str = row[0]
        self.may_stream: bool = row[1]
        self.sees_sessions: bool = row[2]


def _settings(connection: Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())


def _server(connection: Connection) -> Iterator[Finding]:
    settings = _settings(connection)
    if connection.info.server_version < _OLDEST:
        yield Finding("error", "server", "PostgreSQL 14 or newer", settings["server_version"])
    if settings["wal_level"] != "logical":
        yield Finding(
            "error", "wal_level", "logical", settings["wal_level"], f"ALTER SYSTEM SET wal_level = 'logical'{_RESTART}"
        )
    for setting, used in (
        ("max_replication_slots", "SELECT count(*) FROM pg_replication_slots"),
        ("max_wal_senders", "SELECT count(*) FROM pg_stat_replication"),
    ):
        row = connection.execute(used.encode()).fetchone()
        taken = 0 if row is None else int(row[0])
        if taken + 2 > int(settings[setting]):
            yield Finding(
                "warning", setting, f"at least {taken + 2}: {taken} are taken", settings[setting],
                f"ALTER SYSTEM SET {setting} = {taken + 5}{_RESTART}",
            )  # fmt: skip
    work_kb = int(settings.get("logical_decoding_work_mem", _WORK_KB_MIN))
    if work_kb < _WORK_KB_MIN:
        yield Finding(
            "note", "logical_decoding_work_mem", "64 MB or more",
            f"{work_kb} kB: larger transactions are written to the server's disk before they are sent",
            f"ALTER SYSTEM SET logical_decoding_work_mem = '64MB'; {_RELOAD}",
        )  # fmt: skip


def _retention(connection: Connection, config: PostgresSourceConfig, spool_bytes: int) -> Iterator[Finding]:
    """How much log the server keeps for a flow that is stopped, or whose target is away, against what it is for."""
    settings = _settings(connection)
    keep_mb = int(settings.get("max_slot_wal_keep_size", -1))
    bound = config.guardian.retained_bytes_max
    wanted = max(spool_bytes, bound, _RETENTION_BYTES_MIN)
    if keep_mb >= 0 and keep_mb << 20 < wanted:
        why = "retained_bytes_max" if bound == wanted else "the spool" if spool_bytes == wanted else "a short stop"
        yield Finding(
            "warning", "max_slot_wal_keep_size", f"at least {_mb(wanted)} MB ({why}), or -1",
            f"{keep_mb} MB: a flow that lies further behind loses its slot, and with it what the target lacks",
            f"ALTER SYSTEM SET max_slot_wal_keep_size = '{_mb(wanted)}MB'; {_RELOAD}",
        )  # fmt: skip
    elif keep_mb < 0 and not bound:
        yield Finding(
            "note", "max_slot_wal_keep_size", "a bound at the server, or retained_bytes_max in "
            "[source.postgres.guardian]",
            "neither: while the flow is stopped, or its target is away and its spool full, log is kept until the "
            "server's disk is full",
            f"ALTER SYSTEM SET max_slot_wal_keep_size = '{_mb(max(wanted, 10 << 30))}MB'; {_RELOAD}",
        )  # fmt: skip
    idle = settings.get("idle_replication_slot_timeout", "0")
    if idle not in ("0", "0s"):
        yield Finding(
            "warning", "idle_replication_slot_timeout", "0, or longer than a flow is ever stopped",
            f"{idle} s: a flow that is stopped for longer loses its slot",
            f"ALTER SYSTEM SET idle_replication_slot_timeout = 0; {_RELOAD}",
        )  # fmt: skip


def _mb(size: int) -> int:
    return -(-size >> 20)


def _role(connection: Connection, config: PostgresSourceConfig, role: _Role) -> Iterator[Finding]:
    if not role.may_stream:
        yield Finding(
            "error", f"role {role.sql}", "the right to stream", "no such right", f"ALTER ROLE {role.sql} REPLICATION"
        )
        return
    try:  # pg_hba.conf and max_wal_senders show only to one who tries
        with closing(connect(config, "doctor", walsender=True)) as session:
            for _ in command(session, "IDENTIFY_SYSTEM"):
                continue
    except HeadraceError as error:
        yield Finding("error", "replication session", f"one that {role.sql} may open", str(error))


def _slot(connection: Connection, config: PostgresSourceConfig, spool_bytes: int) -> Iterator[Finding]:
    name = str(config.slot)
    slot, what = slots.find(connection, name), f"slot {name}"
    if slot is None:
        yield Finding("note", what, "a slot, or a first start that makes it", "none yet")
        return
    row = connection.execute(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, current_database() "
        "FROM pg_replication_slots WHERE slot_name = %s", (name,)
    ).fetchone()  # fmt: skip
    assert row is not None
    kept, database = int(row[0] or 0), row[1]
    if slot.values.get("plugin") != slots.PLUGIN or slot.values.get("database") != database:
        found = f"{slot.values.get('plugin') or 'a physical one'} in database {slot.values.get('database')}"
        yield Finding("error", what, f"{slots.PLUGIN} in database {database}", found, "choose another `slot`")
        return
    if slot.lost:
        yield Finding("error", what, "a slot that can go on", f"invalidated ({slot.lost})", DROP)
        return
    bound = config.guardian.retained_bytes_max or max(spool_bytes, _RETENTION_BYTES_MIN)
    if slot.values.get("wal_status") == "unreserved" or kept > bound:
        remedy = "headrace run FILE" if slot.active_pid is None else f"SELECT pg_drop_replication_slot({literal(name)})"
        yield Finding(
            "warning", what, f"at most {bound / 1e6:,.0f} MB of log kept for it",
            f"{kept / 1e6:,.0f} MB (wal_status {slot.values.get('wal_status')})",
            f"{remedy}; -- or {DROP}, which begins anew",
        )  # fmt: skip
    if slot.active_pid is None:
        since = slot.values.get("inactive_since")
        yield Finding(
            "warning", what, "a flow that reads it", f"nobody{f' since {since}' if since else ''}: the server keeps "
            f"{kept / 1e6:,.1f} MB of log for it, and more with every change", f"headrace run FILE; -- or {DROP}",
        )  # fmt: skip


def _long_transactions(connection: Connection, config: PostgresSourceConfig, role: _Role) -> Iterator[Finding]:
    """What holds a slot's begin back: it waits for every transaction that was open; the log is kept from there on."""
    longest = config.guardian.transaction_seconds_max
    if not role.sees_sessions:
        yield Finding(
            "note", "long transactions", "a role that sees them", f"{role.sql} does not",
            f"GRANT pg_read_all_stats TO {role.sql}",
        )  # fmt: skip
    open_ones = connection.execute(
        "SELECT pid, COALESCE(usename::text, ''), COALESCE(application_name, ''), COALESCE(state, ''), "
        "floor(extract(epoch FROM now() - xact_start))::bigint FROM pg_stat_activity "
        "WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() AND now() - xact_start > make_interval(secs => %s) "
        "ORDER BY xact_start", (longest,)
    ).fetchall()  # fmt: skip
    for pid, user, application, state, age in open_ones:
        yield Finding(
            "warning", f"transaction of {user} ({application or 'no name'}, pid {pid})", f"at most {longest:g} s",
            f"open for {age} s, {state}: a new slot waits for it, and log is kept from its begin on",
            f"SELECT pg_terminate_backend({pid})",
        )  # fmt: skip
    prepared = connection.execute(
        "SELECT gid, quote_ident(database), floor(extract(epoch FROM now() - prepared))::bigint FROM pg_prepared_xacts "
        "WHERE now() - prepared > make_interval(secs => %s) ORDER BY prepared", (longest,)
    ).fetchall()  # fmt: skip
    for gid, database, age in prepared:
        yield Finding(
            "warning", f"prepared transaction {quote(gid)} in {database}", f"at most {longest:g} s",
            f"open for {age} s: a new slot waits for it, and log is kept from its begin on",
            f"ROLLBACK PREPARED {literal(gid)}; -- or COMMIT PREPARED {literal(gid)}",
        )  # fmt: skip

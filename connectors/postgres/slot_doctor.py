"""What is amiss with a source database, before it costs a flow its slot or the source its updates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.base.database import Finding
from connectors.postgres import slot as slots
from connectors.postgres.session import Connection, quote
from connectors.postgres.source_catalog import CatalogTable
from connectors.postgres.source_config import PostgresSourceConfig

_ORDER = {"error": 0, "warning": 1, "note": 2}
_OLDEST = 140000
_BEHIND_BYTES = 1 << 30


def examine(connection: Connection, config: PostgresSourceConfig, tables: Sequence[CatalogTable]) -> list[Finding]:
    """All findings, worst first."""
    found = [*_server(connection), *_role(connection, tables), *_slot(connection, str(config.slot))]
    for table in tables:
        found += _table(table)
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def _settings(connection: Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())


def _server(connection: Connection) -> Iterator[Finding]:
    settings = _settings(connection)
    version = connection.info.server_version
    if version < _OLDEST:
        yield Finding("error", "server", "PostgreSQL 14 or newer", settings["server_version"])
    if settings["wal_level"] != "logical":
        yield Finding(
            "error", "wal_level", "logical", settings["wal_level"],
            "ALTER SYSTEM SET wal_level = 'logical', then restart the server",
        )  # fmt: skip
    for setting, used in (
        ("max_replication_slots", "SELECT count(*) FROM pg_replication_slots"),
        ("max_wal_senders", "SELECT count(*) FROM pg_stat_replication"),
    ):
        row = connection.execute(used.encode()).fetchone()
        taken = 0 if row is None else int(row[0])
        if taken + 2 > int(settings[setting]):
            yield Finding(
                "warning", setting, f"at least {taken + 2}", settings[setting],
                f"ALTER SYSTEM SET {setting} = {taken + 5}, then restart the server",
            )  # fmt: skip
    if settings.get("max_slot_wal_keep_size", "-1") != "-1":
        yield Finding(
            "warning", "max_slot_wal_keep_size", "-1, or more than a flow can lie behind",
            f"{settings['max_slot_wal_keep_size']} MB: a flow that lies further behind loses its slot",
        )  # fmt: skip
    if settings.get("idle_replication_slot_timeout", "0") not in ("0", "0s"):
        yield Finding(
            "warning", "idle_replication_slot_timeout", "0, or longer than a flow is ever stopped",
            f"{settings['idle_replication_slot_timeout']} s: a flow that is stopped for longer loses its slot",
            "ALTER SYSTEM SET idle_replication_slot_timeout = 0",
        )  # fmt: skip
    if (
        settings.get("logical_decoding_work_mem", "65536").isdigit()
        and int(settings["logical_decoding_work_mem"]) < 65536
    ):
        yield Finding(
            "note", "logical_decoding_work_mem", "64 MB or more", f"{settings['logical_decoding_work_mem']} kB: larger "
            "transactions are written to the server's disk before they are sent", "",
        )  # fmt: skip


def _role(connection: Connection, tables: Sequence[CatalogTable]) -> Iterator[Finding]:
    row = connection.execute(
        "SELECT rolreplication OR rolsuper, quote_ident(rolname) FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    if row is not None and not row[0]:
        yield Finding(
            "error", f"role {row[1]}", "the right to stream", "no such right", f"ALTER ROLE {row[1]} REPLICATION"
        )
    for table in tables:
        right = connection.execute("SELECT has_table_privilege(%s::oid, 'SELECT')", (table.oid,)).fetchone()
        if row is not None and right is not None and not right[0]:
            yield Finding(
                "error", f"table {table.name}", "the right to read it", "no such right",
                f"GRANT SELECT ON {table.plain_sql} TO {row[1]}",
            )  # fmt: skip


def _slot(connection: Connection, name: str) -> Iterator[Finding]:
    slot = slots.find(connection, name)
    if slot is None:
        yield Finding("note", f"slot {name}", "a slot, or a first start that makes it", "none yet")
        return
    if slot.lost:
        yield Finding(
            "error", f"slot {name}", "a slot that can go on", f"invalidated ({slot.lost})", "headrace source drop FILE"
        )
        return
    row = connection.execute(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots "
        "WHERE slot_name = %s", (name,)
    ).fetchone()  # fmt: skip
    kept = 0 if row is None or row[0] is None else int(row[0])
    if slot.values.get("wal_status") == "unreserved" or kept > _BEHIND_BYTES:
        yield Finding(
            "warning", f"slot {name}", "a flow that follows", f"{kept / 1e9:.1f} GB of log kept for it "
            f"(wal_status {slot.values.get('wal_status')})", "start the flow, or `headrace source drop FILE`",
        )  # fmt: skip


def _table(table: CatalogTable) -> Iterator[Finding]:
    if table.unidentified:
        yield Finding(
            "error", f"table {table.name}", "a primary key or REPLICA IDENTITY FULL",
            "neither: once it is published PostgreSQL refuses its updates and deletes",
            f"ALTER TABLE {table.plain_sql} REPLICA IDENTITY FULL",
        )  # fmt: skip
    elif not table.key:
        yield Finding("note", f"table {table.name}", "a key", "none: rows are told by all of their columns")
    large = [column.name for column in table.columns if column.toasted]
    if large and table.key and table.identity == "d":
        yield Finding(
            "note", f"table {table.name}", "large values in each change",
            f"{', '.join(map(quote, large[:5]))} may lie outside of the row: where a key changes, its value is looked "
            "up at the source",
        )  # fmt: skip

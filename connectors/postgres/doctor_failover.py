"""Whether a source's slot outlives its primary: what a standby needs to take over with all that a flow has read."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from connectors.base.database import Finding
from connectors.base.secrets import resolve
from connectors.postgres import slot as slots
from connectors.postgres.session import Connection, literal, quote
from connectors.postgres.source_config import PostgresSourceConfig

_SINCE = 170000
_RELOAD = "SELECT pg_reload_conf()"
_HELD_BACK = "synchronized_standby_slots"
_NAMED = """
SELECT trim(one, ' "') FROM unnest(string_to_array(current_setting(%s, true), ',')) one WHERE trim(one) <> ''
"""
_STREAMING = """
SELECT count(*) FROM pg_stat_replication r JOIN pg_stat_activity a USING (pid)
WHERE a.datid IS NULL AND r.application_name NOT IN ('pg_basebackup', 'pg_receivewal')
"""  # a flow's session has a database, also where it holds no slot yet or any more
_SYNCING = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%slotsync worker'"


def failover_findings(connection: Connection, config: PostgresSourceConfig) -> Iterator[Finding]:
    """Nothing where the server has no standby, is one itself, or the slot is not meant to outlive it."""
    if not config.failover or slots.in_recovery(connection):
        return
    named = [name for (name,) in connection.execute(_NAMED, (_HELD_BACK,))]
    if not named and connection.execute(_STREAMING).fetchone() == (0,):
        return
    if connection.info.server_version < _SINCE:
        yield Finding(
            "note", "failover", "PostgreSQL 17 or newer, whose standbys keep slots",
            "an older one: after a failover the slot is gone, and everything is read again",
        )  # fmt: skip
        return
    yield from _slot(connection, str(config.slot))
    yield from _held_back(connection, named)
    if connection.execute(_SYNCING).fetchone() == (0,):
        yield Finding(
            "warning", "standbys", "one that keeps failover slots in sync", "none: a promoted one lacks the slot, and "
            "everything is read again", "ALTER SYSTEM SET sync_replication_slots = on; ALTER SYSTEM SET "
            f"hot_standby_feedback = on; {_RELOAD}; -- at the standby, which also needs primary_slot_name, and dbname "
            "in primary_conninfo",
        )  # fmt: skip
    if "," not in str(psycopg.conninfo.conninfo_to_dict(resolve(config.dsn).reveal()).get("host") or ""):
        yield Finding(
            "note", "dsn", "the standbys as well (host=a,b), or an address that always leads to the primary",
            "one host: where it is not such an address, a failover needs another dsn",
        )  # fmt: skip


def _slot(connection: Connection, name: str) -> Iterator[Finding]:
    slot = slots.find(connection, name)
    if slot is not None and slot.values.get("plugin") == slots.PLUGIN and not slot.values.get("failover"):
        yield Finding(
            "warning", f"slot {name}", "a failover slot, which the standbys keep", "one that ends with this server",
            f"ALTER_REPLICATION_SLOT {quote(name)} (FAILOVER true); -- in a session with replication=database, while "
            "no flow reads the slot",
        )  # fmt: skip


def _held_back(connection: Connection, named: list[str]) -> Iterator[Finding]:
    """A standby must have what the flow is sent, or the target knows changes that nobody knows after a failover."""
    physical: dict[str, bool] = dict(
        connection.execute("SELECT slot_name, active FROM pg_replication_slots WHERE slot_type = 'physical'").fetchall()
    )
    if not named:
        active = sorted(name for name, used in physical.items() if used)
        yield Finding(
            "warning", _HELD_BACK, "the physical slots of the standbys that may be promoted", "none: a flow may have "
            "read what a promoted standby lacks; then it stops, and everything is read again",
            f"ALTER SYSTEM SET {_HELD_BACK} = {literal(', '.join(active))}; {_RELOAD}" if active else
            "give each standby a physical slot (primary_slot_name)",
        )  # fmt: skip
    for name in named:
        if not physical.get(name):
            yield Finding(
                "warning", _HELD_BACK, f"a standby that reads slot {name}",
                "none now: the flow is sent nothing until it is back" if name in physical else "no such slot: the flow "
                "is sent nothing",
                f"start the standby of {name}, or take {name} out of {_HELD_BACK}; {_RELOAD}",
            )  # fmt: skip

"""The slot and the publication of a source: made at the first start, looked over at each, dropped on request."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from connectors.postgres.session import Connection, literal, quote
from connectors.postgres.source_catalog import GENERATED_SINCE, CatalogTable
from connectors.postgres.source_session import NO_SLOT_FREE, CommandRefused, command, failed, lsn_number
from libcore.errors import ConfigurationError, FatalError, TransientError

PLUGIN = "pgoutput"
_BUSY_S = 60.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class Slot:
    """A row of pg_replication_slots, as far as the server's version has it."""

    name: str
    values: Mapping[str, Any]

    @property
    def confirmed_lsn(self) -> int:
        """Where a start without a position begins."""
        return lsn_number(self.values["confirmed_flush_lsn"] or "0/0")

    @property
    def active_pid(self) -> int | None:
        """Who uses it, if anyone."""
        pid = self.values.get("active_pid")
        return int(pid) if pid else None

    @property
    def lost(self) -> str:
        """Why it can serve no more, "" while it can."""
        reason = self.values.get("invalidation_reason")
        if reason:
            return str(reason)
        if self.values.get("wal_status") == "lost":
            return "wal_removed"
        return "conflict with recovery" if self.values.get("conflicting") else ""


@dataclass(frozen=True)
class Made:
    """A new slot: where its changes begin, and the snapshot that shows the rows as they were there."""

    consistent_lsn: int
    snapshot: str


class NoSlotFree(TransientError):
    """The server has as many slots as it may; one of them may end."""


def find(connection: Connection, name: str) -> Slot | None:
    """The slot of that name; None where there is none."""
    row = connection.execute(
        "SELECT to_json(s)::text FROM pg_replication_slots s WHERE slot_name = %s", (name,)
    ).fetchone()
    return None if row is None else Slot(name, json.loads(row[0]))


def create(walsender: Connection, name: str, *, export: bool, failover: bool, temporary: bool = False) -> Iterator[Any]:
    """Make a slot: Nones while it waits for the transactions that are open, then Made.

    Raises ConfigurationError with what the server needs; NoSlotFree, TransientError.
    """
    version = walsender.info.server_version
    options = ["SNAPSHOT 'export'" if export else "SNAPSHOT 'nothing'"]
    if failover and version >= 170000 and not temporary:
        options.append("FAILOVER true")
    text = f"({', '.join(options)})"
    if version < 150000:
        text = "EXPORT_SNAPSHOT" if export else "NOEXPORT_SNAPSHOT"
    begun, told = time.monotonic(), False
    try:
        words = f"CREATE_REPLICATION_SLOT {quote(name)} {'TEMPORARY ' if temporary else ''}LOGICAL {PLUGIN} {text}"
        for row in command(walsender, words):
            if row is not None:
                yield Made(lsn_number(str(row["consistent_point"])), str(row["snapshot_name"] or ""))
                return
            if not told and time.monotonic() - begun > 5.0:
                told = True
                _log.warning("the new slot waits for transactions that are open at the source", slot=name)
            yield None
    except CommandRefused as error:
        raise explained(error, name) from error


def explained(error: CommandRefused, name: str) -> Exception:
    """Why a slot cannot be made, with what helps."""
    if "wal_level" in error.text:
        return ConfigurationError(
            f"source.postgres: expected wal_level = logical, found another: {error.text}; ALTER SYSTEM SET wal_level = "
            "'logical', then restart the server"
        )
    if error.sqlstate == NO_SLOT_FREE:
        return NoSlotFree(
            f"source.postgres: no slot is free: {error.text}; raise max_replication_slots and restart the server, or "
            "drop a slot that nobody needs"
        )
    if error.sqlstate == "42501":
        return ConfigurationError(
            f"source.postgres: expected a role that may make slots, found: {error.text}; a superuser grants it: "
            "ALTER ROLE ... REPLICATION"
        )
    return ConfigurationError(f"source.postgres: slot {name}: {error.text}")


def drop(connection: Connection, name: str) -> Iterator[None]:
    """Drop the slot, where it is there and once nobody uses it: a killed worker's session lives a moment longer.

    Raises TransientError where it stays in use.
    """
    connection.execute("SET statement_timeout = 0")  # it may wait for a session to end, and asks for no rows
    deadline = time.monotonic() + _BUSY_S
    while (slot := find(connection, name)) is not None:
        try:
            connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        except psycopg.errors.ObjectInUse as error:
            if time.monotonic() > deadline:
                raise TransientError(
                    f"source.postgres: slot {name} is in use by the session with pid {slot.active_pid}: another flow, "
                    "or one that died; SELECT pg_terminate_backend(pid) ends it"
                ) from error
            time.sleep(0.1)
            yield None
        except psycopg.errors.UndefinedObject:
            return
        except psycopg.Error as error:
            raise failed(error, f"drop slot {name}") from error


def usable(connection: Connection, name: str, needed_lsn: int) -> Slot:
    """The slot that a flow goes on with. Raises FatalError or ConfigurationError that names the way out."""
    slot = find(connection, name)
    again = (
        "what the target lacks since then can only be read again: `headrace source drop FILE` forgets slot and "
        "position, so that the next start takes a new snapshot"
    )
    if slot is None:
        raise FatalError(
            f"source.postgres: expected slot {name}, which this flow has read, found none: it was dropped, or the "
            f"server is a copy or a standby that was promoted without it; {again}"
        )
    if slot.values.get("plugin") != PLUGIN:
        raise ConfigurationError(
            f"source.postgres: expected slot {name} with plugin {PLUGIN}, found {slot.values.get('plugin')}: "
            "choose another `slot`"
        )
    if slot.values.get("synced") and in_recovery(connection):
        raise TransientError(
            f"source.postgres: expected the primary, found a standby that keeps slot {name} in sync: it can be read "
            "there once it is promoted"
        )
    if slot.lost:
        raise FatalError(
            f"source.postgres: slot {name} is invalidated ({slot.lost}): the server has removed log that it needs "
            f"(max_slot_wal_keep_size, idle_replication_slot_timeout, or rows and horizon on a standby); {again}"
        )
    if needed_lsn and slot.confirmed_lsn > needed_lsn:
        raise FatalError(
            f"source.postgres: slot {name} is confirmed up to {slot.values['confirmed_flush_lsn']}, which is beyond "
            f"what this flow has made durable: another reader used the slot, or the state directory is an old copy; "
            f"{again}"
        )
    return slot


def in_recovery(connection: Connection) -> bool:
    """Whether the server is a standby."""
    return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)


def lacking(connection: Connection, publication: str, tables: Mapping[str, CatalogTable]) -> list[CatalogTable]:
    """The tables that the publication does not bring."""
    there = {
        name
        for (name,) in connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = %s", (publication,)
        )
    }
    return [table for name, table in sorted(tables.items()) if name not in there]


def publish(connection: Connection, publication: str, tables: Mapping[str, CatalogTable]) -> list[str]:
    """Make the publication, or add what it lacks; the tables that were added. Raises ConfigurationError."""
    harmful = [table for table in tables.values() if table.unidentified]
    row = connection.execute(
        "SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot "
        "FROM pg_publication WHERE pubname = %s", (publication,)
    ).fetchone()  # fmt: skip
    missing = lacking(connection, publication, tables)
    if stopping := [table for table in harmful if table in missing]:
        raise ConfigurationError(
            f"table {stopping[0].name}: expected a primary key or REPLICA IDENTITY FULL, found neither: published as "
            f"it is, PostgreSQL would refuse the source's own updates and deletes; "
            f"ALTER TABLE {stopping[0].plain_sql} REPLICA IDENTITY FULL"
        )
    listed = ", ".join(table.plain_sql for table in missing)
    if row is None:
        statement = creation(publication, missing, connection.info.server_version)
    elif missing and not row[0]:
        statement = f"ALTER PUBLICATION {quote(publication)} ADD TABLE {listed}"
    else:
        statement = ""
    if row is not None:
        _check_publication(publication, row, missing, tables)
    if not statement:
        return []
    try:
        connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(
            f"source.postgres: expected publication {publication} with {len(tables)} tables, found {len(missing)} "
            f"missing, and no right to change it ({error.diag.message_primary}); their owner runs: {statement}"
        ) from error
    except psycopg.Error as error:
        raise failed(error, statement[:200]) from error
    _log.info("publication", name=publication, added=[table.name for table in missing])
    return [table.name for table in missing]


def creation(publication: str, tables: Sequence[CatalogTable], version: int) -> str:
    """The statement that makes a publication."""
    listed = ", ".join(table.plain_sql for table in tables)
    options = "publish_via_partition_root = true"
    if version >= GENERATED_SINCE:
        options += ", publish_generated_columns = stored"
    return f"CREATE PUBLICATION {quote(publication)} FOR TABLE {listed} WITH ({options})"


def _check_publication(
    publication: str, row: tuple[Any, ...], lacking: list[CatalogTable], tables: Mapping[str, CatalogTable]
) -> None:
    every, complete, via_root = row
    if not complete:
        raise ConfigurationError(
            f"source.postgres: expected publication {publication} to publish insert, update, delete and truncate, "
            f"found less; ALTER PUBLICATION {quote(publication)} SET (publish = 'insert, update, delete, truncate')"
        )
    partitioned = [table for table in tables.values() if table.partitioned and table not in lacking]
    if not via_root and [table for table in tables.values() if table.partitioned]:
        name = (partitioned or [table for table in tables.values() if table.partitioned])[0].name
        raise ConfigurationError(
            f"source.postgres: expected publication {publication} to bring {name} as one table, found its partitions; "
            f"ALTER PUBLICATION {quote(publication)} SET (publish_via_partition_root = true)"
        )
    if every and lacking:
        raise ConfigurationError(
            f"source.postgres: publication {publication} is for all tables but lacks {lacking[0].name}"
        )


def drop_publication(connection: Connection, publication: str) -> None:
    """Nothing happens where there is none."""
    try:
        connection.execute(f"DROP PUBLICATION IF EXISTS {quote(publication)}".encode())
    except psycopg.Error as error:
        raise failed(error, f"drop publication {publication}") from error


def replication_options(publication: str, version: int, streaming: bool) -> str:
    """The options of START_REPLICATION."""
    names = '"' + publication.replace('"', '""') + '"'
    options = {"proto_version": "2" if streaming else "1", "publication_names": names}
    if version >= 140000:
        options["messages"] = "true"
        if streaming:
            options["streaming"] = "on"
    return ", ".join(f"{name} {literal(value)}" for name, value in options.items())


def writing(connection: Connection) -> frozenset[str]:
    """The transactions that a snapshot may hide now, because they are not over, or are in the log and not quite over.

    Asked of the locks, which show even a transaction that no snapshot lists yet, and last until snapshots show it.
    """
    rows = connection.execute(
        "SELECT transactionid::text FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock'"
    ).fetchall()
    return frozenset(str(row[0]) for row in rows)


def reached(connection: Connection) -> int:
    """Up to where the log goes: nothing that any session sees now was committed behind it."""
    row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    return lsn_number(row[0])


def mark_end(connection: Connection, version: int) -> str:
    """A message in the log behind all that is committed now; the end is where it comes."""
    mark = str(uuid.uuid4())
    if version >= 170000:
        connection.execute("SELECT pg_logical_emit_message(false, 'headrace', %s, true)", (mark,))
    else:  # its commit flushes the log
        connection.execute("SET synchronous_commit = on")
        connection.execute("SELECT pg_logical_emit_message(true, 'headrace', %s)", (mark,))
    return mark

"""What is amiss with the tables of a SQL Server source: rights, keys, capture instances, types that are not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.base.database import Finding, SourceTable
from connectors.sqlserver import catalog, sql
from connectors.sqlserver.catalog import CatalogTable, Instance
from connectors.sqlserver.session import Session
from connectors.sqlserver.state import NOTHING
from libcore.errors import ConfigurationError, FatalError


def captured_tables(session: Session, tables: Sequence[SourceTable], user: str) -> Iterator[Finding]:
    """Findings of the tables' capture instances; `user`: who reads, as a statement names it."""
    try:
        there = catalog.instances(session)
        uncaptured = session.ask(sql.UNCAPTURED_COLUMNS)
    except (ConfigurationError, FatalError) as error:
        yield Finding(
            "error", "change tables", "a login that may read them", str(error), f"GRANT SELECT ON SCHEMA::cdc TO {user}"
        )
        return
    for name in (table.name for table in tables):
        instances = there.get(name, [])
        if not instances:
            yield Finding("error", f"table {name}", "a capture instance", "none", catalog.enable_table(name))
            continue
        for instance in instances:
            yield from _may_select(session, f"cdc.{instance.name}_CT", user)
            yield from _may_capture(instance, user)
        missing = [column for _, _, one, column in uncaptured if one == instances[-1].name]
        if missing:
            yield _uncaptured(catalog.describe(session, name), instances, missing)


def _may_capture(instance: Instance, user: str) -> Iterator[Finding]:
    if instance.min_lsn > NOTHING:
        return
    what = f"capture instance {instance.name}"
    if instance.role is not None:
        yield Finding(
            "error", what, f"a login in its role {instance.role}", "it sees no first LSN",
            f"ALTER ROLE {sql.quote(instance.role)} ADD MEMBER {user}",
        )  # fmt: skip
    else:
        yield Finding(
            "error", what, "a first LSN", "none: the login lacks SELECT on a captured column, or it is new",
            f"GRANT SELECT ON {sql.full_name(instance.table)} TO {user}",
        )  # fmt: skip


def _uncaptured(described: CatalogTable, instances: Sequence[Instance], missing: Sequence[str]) -> Finding:
    name, newest = described.source.name, instances[-1].name
    remedy = f"{catalog.enable_table(name)}, @capture_instance = N'{newest}_2'"
    if len(instances) > 1:
        old = f"@capture_instance = {sql.literal(instances[0].name)}"
        remedy = f"EXEC sys.sp_cdc_disable_table {catalog.named_table(name)}, {old}; {remedy}"
    if set(missing) & set(described.order):
        found = f"{', '.join(missing)} in none, and with it no key"
        return Finding("error", f"table {name}", "its key in its newest capture instance", found, remedy)
    found = f"{', '.join(missing)} in none: later changes of them are not seen"
    return Finding("warning", f"table {name}", "all columns in its newest capture instance", found, remedy)


def tracked_tables(session: Session, tables: Sequence[SourceTable], user: str) -> Iterator[Finding]:
    """Findings of the tables' change tracking."""
    for name in (table.name for table in tables):
        if session.value(sql.MIN_VALID_VERSION, sql.full_name(name)) is None:
            yield Finding(
                "error", f"table {name}", "change tracking", "none",
                f"ALTER TABLE {sql.full_name(name)} ENABLE CHANGE_TRACKING",
            )  # fmt: skip
        elif session.value(sql.MAY_TRACK, sql.full_name(name)) != 1:
            yield Finding(
                "error", f"table {name}", "the right to see its changes", "no such right",
                f"GRANT VIEW CHANGE TRACKING ON {sql.full_name(name)} TO {user}",
            )  # fmt: skip


def key_findings(session: Session, tables: Sequence[SourceTable], user: str) -> Iterator[Finding]:
    """Findings of each table by itself: whether it may be read, its keys, its types."""
    for table in tables:
        yield from _may_select(session, table.name, user)
        try:
            described = catalog.describe(session, table.name)
        except ConfigurationError as error:
            yield Finding("error", f"table {table.name}", "a table that this login may see", str(error))
            continue
        yield from _keys(session, table, described)
        for column in table.table.columns:
            if refused := described.readings[column.name].refused:
                what = f"column {table.name}.{column.name}"
                yield Finding("error", what, "a type that is read exactly", refused)


def _keys(session: Session, table: SourceTable, described: CatalogTable) -> Iterator[Finding]:
    what, key = f"table {table.name}", table.table.key
    if not key and not described.order:
        yield Finding(
            "error", what, "a unique key, or `key` in the pipeline file",
            "none: without one nothing tells which of its rows a snapshot has had and which its changes bring again",
            catalog.add_key(table.name),
        )  # fmt: skip
    elif not described.order:
        listed = ", ".join(map(sql.quote, key))
        yield Finding(
            "warning", what, f"a unique index on {', '.join(key)}, its `key`, without NULL",
            "none: two rows of one key would be one in the target, and a snapshot is one query, which a crash repeats",
            f"CREATE UNIQUE INDEX [headrace_key] ON {sql.full_name(table.name)} ({listed})",
        )  # fmt: skip
    others = [one.name for one in catalog.unique_indexes(session, table.name) if set(one.columns) != set(key)]
    if key and others:
        yield Finding(
            "note", what, "one unique key", f"more: {', '.join(others)}. Headrace makes its targets without them; in a "
            "target that has them values may swap places only within one row's change, and one part writes the table",
        )  # fmt: skip


def _may_select(session: Session, name: str, user: str) -> Iterator[Finding]:
    if session.value(sql.MAY_SELECT, sql.full_name(name)) != 1:
        yield Finding(
            "error", f"table {name}", "the right to read it", "no such right",
            f"GRANT SELECT ON {sql.full_name(name)} TO {user}",
        )  # fmt: skip

"""What is amiss with a source's tables and its publication: rights, identity, keys, columns that do not come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.base.database import Finding
from connectors.postgres.session import Connection, quote
from connectors.postgres.slot import creation
from connectors.postgres.source_catalog import GENERATED_SINCE, CatalogTable

_OPERATIONS = "insert, update, delete, truncate"
_RIGHTS = """
SELECT c.oid, has_table_privilege(c.oid, 'SELECT'), has_schema_privilege(c.relnamespace, 'USAGE'),
       c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
         AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE')),
       r.rolsuper OR pg_has_role(c.relowner, 'USAGE')
FROM pg_class c, pg_roles r WHERE c.oid = ANY(%s) AND r.rolname = current_user
"""
_UNIQUE = """
SELECT i.indrelid, x.relname, i.indisprimary,
       i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
           SELECT FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) n
           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = n WHERE NOT a.attnotnull)
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = ANY(%s) AND i.indisunique AND i.indisvalid ORDER BY i.indrelid, x.relname
"""
_GENERATED = """
SELECT attrelid, attname::text, attgenerated::text FROM pg_attribute
WHERE attrelid = ANY(%s) AND attgenerated <> '' AND NOT attisdropped ORDER BY attrelid, attnum
"""


def table_findings(
    connection: Connection, publication: str, tables: Sequence[CatalogTable], role: str
) -> list[Finding]:
    """Findings of each table; `role`: who reads, as a statement names it."""
    oids = [table.oid for table in tables]
    rights = {row[0]: row[1:] for row in connection.execute(_RIGHTS, (oids,))}
    unique: dict[int, list[tuple[str, bool, bool]]] = {}
    for oid, name, primary, identifies in connection.execute(_UNIQUE, (oids,)):
        unique.setdefault(oid, []).append((name, primary, identifies))
    generated: dict[int, list[tuple[str, str]]] = {}
    for oid, name, kind in connection.execute(_GENERATED, (oids,)):
        generated.setdefault(oid, []).append((name, kind))
    found: list[Finding] = []
    for table in tables:
        reads, enters, filtered, _ = rights[table.oid]
        found += _rights(table, reads, enters, filtered, role)
        found += _identity(table, unique.get(table.oid, []))
        found += _columns(connection, table, publication, generated.get(table.oid, []))
    return found


def _rights(table: CatalogTable, reads: bool, enters: bool, filtered: bool, role: str) -> Iterator[Finding]:
    what = f"table {table.name}"
    if not enters:
        yield Finding(
            "error", f"schema {table.schema}", "the right to use it", "no such right",
            f"GRANT USAGE ON SCHEMA {quote(table.schema)} TO {role}",
        )  # fmt: skip
    if not reads:
        remedy = f"GRANT SELECT ON {table.plain_sql} TO {role}"
        yield Finding("error", what, "the right to read it", "no such right", remedy)
    if filtered:
        yield Finding(
            "error", what, "all of its rows", "row-level security: the snapshot would lack rows, and say nothing",
            f"ALTER ROLE {role} BYPASSRLS",
        )  # fmt: skip


def _identity(table: CatalogTable, unique: Sequence[tuple[str, bool, bool]]) -> Iterator[Finding]:
    what, alter = f"table {table.name}", f"ALTER TABLE {table.plain_sql}"
    fit = next((name for name, primary, identifies in unique if identifies and not primary), None)
    if table.unidentified:
        remedy = f"{alter} REPLICA IDENTITY FULL"
        if any(primary for _, primary, _ in unique):
            remedy = f"{alter} REPLICA IDENTITY DEFAULT"
        elif fit is not None:
            remedy = f"{alter} REPLICA IDENTITY USING INDEX {quote(fit)}"
        yield Finding(
            "error", what, "a primary key or REPLICA IDENTITY FULL",
            f"REPLICA IDENTITY {'NOTHING' if table.identity == 'n' else 'without a key'}: once it is published "
            "PostgreSQL refuses its updates and deletes", remedy,
        )  # fmt: skip
    elif not table.key:
        yield Finding(
            "warning", what, "a key", "none: rows are told by all of their columns, its snapshot is not resumed but "
            "repeated, and equal rows count",
            f"{alter} REPLICA IDENTITY USING INDEX {quote(fit)}" if fit else f"{alter} ADD headrace_id bigint "
            "GENERATED ALWAYS AS IDENTITY PRIMARY KEY; -- or a key of its own columns",
        )  # fmt: skip
    others = [name for name, primary, identifies in unique if not primary]
    if table.key and others and not (table.identity == "i" and len(others) == 1):
        yield Finding(
            "note", what, "one unique key", f"more: {', '.join(others)}. Headrace makes its targets without them; in a "
            "target that has them values may swap places only within one row's change, and one part writes the table",
        )  # fmt: skip
    large = [column.name for column in table.columns if column.toasted]
    if large and table.key and table.identity == "d":
        yield Finding(
            "note", what, "large values in each change",
            f"{', '.join(map(quote, large[:5]))} may lie outside of the row: where a key changes, its value is looked "
            "up at the source", f"{alter} REPLICA IDENTITY FULL; -- every change then costs the whole old row",
        )  # fmt: skip


def _columns(
    connection: Connection, table: CatalogTable, publication: str, generated: Sequence[tuple[str, str]]
) -> Iterator[Finding]:
    sent = {column.name for column in table.columns}
    for name, kind in generated:
        if name in sent:
            continue
        stored, new = kind == "s", connection.info.server_version >= GENERATED_SINCE
        why = "computed when it is read, so it is not in the log"
        if stored:
            why = "not published" if new else "published from PostgreSQL 18 on"
        remedy = f"ALTER PUBLICATION {quote(publication)} SET (publish_generated_columns = stored)"
        yield Finding(
            "warning" if stored and new else "note", f"column {table.name}.{name}", "a column that is read",
            f"a generated one, {why}: the target does not have it", remedy if stored and new else "",
        )  # fmt: skip


def publication_findings(
    connection: Connection, publication: str, tables: Sequence[CatalogTable], role: str
) -> Iterator[Finding]:
    """What the publication lacks and the role may not mend by itself at the start."""
    row = connection.execute(
        "SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot, "
        "pg_has_role(pubowner, 'USAGE') FROM pg_publication WHERE pubname = %s", (publication,)
    ).fetchone()  # fmt: skip
    owned = {oid: own for oid, *_, own in connection.execute(_RIGHTS, ([table.oid for table in tables],))}
    what = f"publication {publication}"
    if row is None:
        may = connection.execute("SELECT has_database_privilege(current_database(), 'CREATE')").fetchone()
        if tables and not (may is not None and may[0] and all(owned[table.oid] for table in tables)):
            statement = creation(publication, tables, connection.info.server_version)
            yield Finding("error", what, f"one, or a role that may make it, which {role} may not", "none", statement)
        return
    every, complete, via_root, may_alter = row
    there = {
        name
        for (name,) in connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = %s", (publication,)
        )
    }
    # without via_root a partitioned table is there by its partitions
    lacking = [table for table in tables if table.name not in there and (via_root or not table.partitioned)]
    if not complete:
        yield Finding(
            "error", what, f"it publishes {_OPERATIONS}", "less",
            f"ALTER PUBLICATION {quote(publication)} SET (publish = '{_OPERATIONS}')",
        )  # fmt: skip
    if not via_root and any(table.partitioned for table in tables):
        yield Finding(
            "error", what, "a partitioned table as one", "its partitions",
            f"ALTER PUBLICATION {quote(publication)} SET (publish_via_partition_root = true)",
        )  # fmt: skip
    if lacking and not every and not (may_alter and all(owned[table.oid] for table in lacking)):
        listed = ", ".join(table.plain_sql for table in lacking)
        yield Finding(
            "error", what, f"{', '.join(table.name for table in lacking)} in it", f"not, and {role} may not add it",
            f"ALTER PUBLICATION {quote(publication)} ADD TABLE {listed}",
        )  # fmt: skip

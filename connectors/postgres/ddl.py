"""Makes target tables and Headrace's own, checks existing ones, and follows a source whose columns grow.

Only additive changes are made: a missing column is added (nullable), an integer, a decimal or a text becomes wider.
Everything else is refused with both sides shown, because a person has to decide it.
"""

from __future__ import annotations

import psycopg
import structlog

from connectors.postgres.catalog import TargetShape, inspect
from connectors.postgres.config import TargetTable
from connectors.postgres.session import Connection, classify, quote
from connectors.postgres.types import fit, made_type
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError, FatalError, TransientError
from libcore.schema import Column, Table

_LOG = structlog.get_logger()

PROGRESS, TABLES, TRUNCATES, LETTERS = (
    "headrace_progress",
    "headrace_tables",
    "headrace_truncates",
    "headrace_dead_letters",
)
LETTER_EXTRAS = (
    ("part", "integer"),
    ("seq", "bigint"),
    ("key_hash", "bigint"),
    ("resolved_at", "timestamp with time zone"),
)
"""Columns of headrace_dead_letters besides those of libcore.dead_letter: where it was applied, the hash of its key
(libcore.hashing, as a signed number), and when it was put right."""

_METADATA = {
    PROGRESS: """(flow text NOT NULL, part integer NOT NULL, store_id text NOT NULL, seq bigint NOT NULL,
        rows bigint NOT NULL DEFAULT 0, updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (flow, part)) WITH (fillfactor = 50)""",
    TABLES: """(table_schema text NOT NULL, table_name text NOT NULL, flow text NOT NULL, store_id text NOT NULL,
        source_table text NOT NULL, mode text NOT NULL, made boolean NOT NULL, single_part boolean NOT NULL,
        registered_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (table_schema, table_name))""",
    TRUNCATES: """(flow text NOT NULL, store_id text NOT NULL, source_table text NOT NULL, identity text NOT NULL,
        part integer NOT NULL, seq bigint NOT NULL, done boolean NOT NULL DEFAULT false,
        recorded_at timestamptz NOT NULL DEFAULT now(), cleared_column text,
        PRIMARY KEY (flow, store_id, source_table, identity, part))""",
}


def create_metadata(connection: Connection, schema: str) -> None:
    """Make Headrace's own tables where they are missing; call inside a transaction that holds `lock`."""
    if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone() is None:
        connection.execute(f"CREATE SCHEMA {quote(schema)}")
    letters = [f"{quote(column.name)} {made_type(column.type)}" for column in DEAD_LETTERS.columns]
    extras = [f"{name} {type_text}" for name, type_text in LETTER_EXTRAS]
    bodies = {
        **_METADATA,
        LETTERS: f"(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {', '.join([*letters, *extras])})",
    }
    for name, body in bodies.items():
        there = inspect(connection, schema, name)
        if name == TRUNCATES and isinstance(there, TargetShape) and there.column("cleared_column") is None:
            connection.execute(f"ALTER TABLE {quote(schema)}.{name} ADD COLUMN cleared_column text")
        if there is None:
            connection.execute(f"CREATE TABLE {quote(schema)}.{name} {body}")
            if name == LETTERS:
                connection.execute(f"CREATE INDEX ON {quote(schema)}.{name} (flow, part) WHERE resolved_at IS NULL")


def lock(connection: Connection, name: str) -> None:
    """Let one session at a time change the shape of `name`, until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"headrace:{name}",))


def ensure(connection: Connection, table: Table, target: TargetTable, *, made: bool, create: bool) -> TargetShape:
    """The target table, made or widened so that it holds `table`.

    Args:
        made: Headrace made the table. create: whether a missing table is to be made; in mid-stream it is not, because
            its rows would be missing from then on.
    Raises ConfigurationError where an existing table does not fit or does not let itself be changed, FatalError where
    it is gone.
    """
    xml = _xml_type(connection) if any(column.type.name == "xml" for column in table.columns) else "xml"
    shape = _inspect(connection, target)
    if shape is not None:
        changes, faults = compare(table, target, shape, made=made, xml=xml)
        if not changes and not faults:
            return shape
    with connection.transaction():
        lock(connection, target.name)
        shape = _inspect(connection, target)  # another part may have been first
        if shape is None and not create:
            raise FatalError(f"table {table.name}: its target {target.schema}.{target.table} is gone")
        if shape is None:
            _create(connection, table, target, xml)
        else:
            changes, faults = compare(table, target, shape, made=made, xml=xml)
            if faults:
                raise ConfigurationError(
                    f"table {table.name} does not fit its target {target.schema}.{target.table}: {'; '.join(faults)}"
                )
            for change in changes:
                _change(connection, table, change)
        shape = _inspect(connection, target)
        assert shape is not None, target
        return shape


def _change(connection: Connection, table: Table, change: str) -> None:
    _LOG.info("the target follows its source", table=table.name, statement=change)
    try:
        connection.execute(change)
    except psycopg.Error as error:
        reason = classify(error)
        if isinstance(reason, TransientError):
            raise
        raise ConfigurationError(f"table {table.name}: the target refused {change}: {reason}") from error


def compare(
    table: Table, target: TargetTable, shape: TargetShape, *, made: bool, xml: str = "xml"
) -> tuple[list[str], list[str]]:
    """Statements that make the target fit, and the faults that no additive change heals, both sides shown.

    `xml` is the type of a new column for XML.
    """
    changes: list[str] = []
    faults: list[str] = []
    for column in table.columns:
        there = shape.column(column.name)
        if there is None:
            if column.name in table.key:
                faults.append(f"key column {column.name} ({column.type} at the source) is missing in the target")
            else:
                changes.append(f"ALTER TABLE {shape.sql} ADD COLUMN {quote(column.name)} {_type(column, target, xml)}")
            continue
        if there.generated:
            faults.append(f"column {column.name}: expected a plain column, the target computes it (GENERATED)")
            continue
        answer = fit(column.type, there.type, ours=made and column.name not in target.columns)
        if answer.widened and there.shown == there.type.text:
            changes.append(f"ALTER TABLE {shape.sql} ALTER COLUMN {quote(column.name)} TYPE {answer.widened}")
        elif not answer.fits:
            faults.append(f"column {column.name}: the source has {column.type}, the target {there.shown}")
    faults.extend(_key_faults(table, shape))
    names = {column.name for column in table.columns}
    for there in shape.columns:
        if there.name not in names and there.not_null and not there.has_default and not there.generated:
            faults.append(
                f"column {there.name}: the source has none, the target needs a value ({there.shown} NOT NULL)"
            )
    return changes, faults


def _key_faults(table: Table, shape: TargetShape) -> list[str]:
    if not table.key or frozenset(table.key) in shape.unique_keys:
        return []
    there = " and ".join(f"({', '.join(sorted(unique))})" for unique in shape.unique_keys) or "none"
    columns = ", ".join(quote(name) for name in table.key)
    return [
        f"the source's key is ({', '.join(table.key)}), the target's unique keys are {there}; "
        f"CREATE UNIQUE INDEX ON {shape.sql} ({columns}) would help"
    ]


def _inspect(connection: Connection, target: TargetTable) -> TargetShape | None:
    found = inspect(connection, target.schema, target.table)
    if isinstance(found, str):
        raise ConfigurationError(f"target {target.schema}.{target.table}: expected a table, found {found}")
    return found


def _create(connection: Connection, table: Table, target: TargetTable, xml: str) -> None:
    if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (target.schema,)).fetchone() is None:
        connection.execute(f"CREATE SCHEMA {quote(target.schema)}")
    lines = [f"{quote(column.name)} {_type(column, target, xml)}" for column in table.columns]
    if table.key:
        lines.append(f"PRIMARY KEY ({', '.join(quote(name) for name in table.key)})")
    connection.execute(f"CREATE TABLE {quote(target.schema)}.{quote(target.table)} ({', '.join(lines)})")
    _LOG.info("target table created", table=table.name, target=f"{target.schema}.{target.table}")


def _type(column: Column, target: TargetTable, xml: str) -> str:
    made = xml if column.type.name == "xml" else made_type(column.type)
    return target.columns.get(column.name) or made


def _xml_type(connection: Connection) -> str:
    """xml, or text on a server that was built without libxml, where every value of type xml is an error."""
    try:
        with connection.transaction():
            connection.execute("SELECT '<a/>'::text::xml")
    except psycopg.errors.FeatureNotSupported:
        _LOG.warning("this PostgreSQL was built without libxml: xml columns are made as text")
        return "text"
    return "xml"

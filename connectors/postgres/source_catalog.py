"""What PostgreSQL's catalog says about tables that are read: columns with exact types, keys, what is published."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from connectors.base.database import SourceTable
from connectors.postgres.session import Connection, quote
from libcore.errors import ConfigurationError
from libcore.pgoutput_catalog import source_type
from libcore.pgoutput_types import TEXTS, Kind
from libcore.schema import Column, Table

GENERATED_SINCE = 180000

_NAMES = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
ORDER BY 1
"""
_TABLES = """
SELECT n.nspname || '.' || c.relname, c.oid, n.nspname, c.relname, c.relkind::text, c.relreplident::text,
       c.relispartition, c.relpersistence::text,
       COALESCE((SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_index i
                 CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k(number, place)
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                 WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND k.place <= i.indnkeyatts), '{}'),
       COALESCE((SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_index i
                 CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k(number, place)
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                 WHERE i.indrelid = c.oid AND i.indisreplident AND k.place <= i.indnkeyatts), '{}')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname || '.' || c.relname = ANY(%s)
"""
_COLUMNS = """
SELECT a.attrelid, a.attname, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod), a.attgenerated::text,
       CASE WHEN b.typnamespace = 'pg_catalog'::regnamespace THEN b.typname::text END, a.attstorage::text,
       EXISTS (SELECT FROM pg_cast c WHERE c.castsource = b.oid AND c.casttarget = 'text'::regtype
               AND c.castmethod = 'f')
FROM pg_attribute a CROSS JOIN LATERAL (
    WITH RECURSIVE base AS (
        SELECT t.oid, t.typbasetype, t.typname, t.typnamespace FROM pg_type t WHERE t.oid = a.atttypid
        UNION ALL
        SELECT t.oid, t.typbasetype, t.typname, t.typnamespace FROM base JOIN pg_type t ON t.oid = base.typbasetype)
    SELECT oid, typname, typnamespace FROM base WHERE typbasetype = 0) b
WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
"""
_FILLED = """
SELECT a.attname::text, a.atthasdef OR a.atthasmissing OR a.attidentity <> '' OR t.typdefault IS NOT NULL
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attname::text = ANY(%s) AND NOT a.attisdropped ORDER BY a.attnum
"""
_PUBLISHED = """
SELECT schemaname || '.' || tablename, attnames::text[], rowfilter FROM pg_publication_tables WHERE pubname = %s
"""
_PUBLISHED_14 = """
SELECT schemaname || '.' || tablename, NULL::text[], NULL::text FROM pg_publication_tables WHERE pubname = %s
"""


@dataclass(frozen=True)
class CatalogColumn:
    """A published column.

    Args:
        type_oid, typmod: its type's number and modifier. base: name of its type, or of what its domain is made of,
            where that is one of pg_catalog; "" else.
        shown: the type as declared.
        casts: a function casts it to text, which may write it otherwise than PostgreSQL prints it (inet, boolean).
    """

    name: str
    type_oid: int
    typmod: int
    shown: str
    base: str
    generated: bool = False
    toasted: bool = False
    casts: bool = False

    @property
    def text_sql(self) -> str:
        """What PostgreSQL prints of it, as the slot has it."""
        name = quote(self.name)
        if not self.casts:
            return f"{name}::text"
        return f"CASE WHEN {name} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {name}) END"

    @property
    def kind(self) -> Kind:
        """What its values are in the messages."""
        return source_type(self.type_oid, self.typmod, {self.type_oid: self.base})[0]

    @property
    def column(self) -> Column:
        """The column as batches have it."""
        return Column(self.name, source_type(self.type_oid, self.typmod, {self.type_oid: self.base})[1])


@dataclass(frozen=True)
class CatalogTable:
    """A table as the catalog has it.

    Args:
        identity: replica identity d (primary key), n (nothing), f (full), i (an index).
        key: the primary key, or the index of the replica identity; () where a row is told by all of its columns.
        columns: those that are published. row_filter: of the publication, as SQL; "".
    """

    name: str
    oid: int
    schema: str
    table: str
    partitioned: bool
    identity: str
    key: tuple[str, ...]
    columns: tuple[CatalogColumn, ...]
    row_filter: str = ""
    problem: str = ""

    @property
    def sql(self) -> str:
        """The table in a FROM, without the tables that inherit from it, which are published by themselves."""
        return ("" if self.partitioned else "ONLY ") + f"{quote(self.schema)}.{quote(self.table)}"

    @property
    def plain_sql(self) -> str:
        """The table's name."""
        return f"{quote(self.schema)}.{quote(self.table)}"

    def column(self, name: str) -> CatalogColumn:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def unidentified(self) -> bool:
        """Whether PostgreSQL refuses updates and deletes of the table once it is published."""
        return self.identity == "n" or (self.identity in "di" and not self.key)

    def described(self) -> SourceTable:
        """The table as a pipeline binds it."""
        columns = tuple(replace(column.column, nullable=column.name not in self.key) for column in self.columns)
        return SourceTable(self.name, Table(self.name, columns, self.key), tuple(self._notes()))

    def _notes(self) -> list[str]:
        notes = []
        for column in self.columns:
            if column.kind is Kind.OTHER and column.column.type.name == "string":
                notes.append(f"column {column.name}: {column.shown} is carried as its text")
            if column.kind is Kind.NUMERIC and column.column.type.name == "numeric":
                notes.append(f"column {column.name}: {column.shown} has no precision: carried as exact text")
        if not self.key:
            notes.append("no key: rows are told by all of their columns")
        if self.unidentified:
            notes.append(
                f"PostgreSQL will refuse its updates and deletes once it is published: "
                f"ALTER TABLE {self.plain_sql} REPLICA IDENTITY FULL, or give it a primary key"
            )
        if self.row_filter:
            notes.append(f"the publication passes on only rows with {self.row_filter}")
        return notes


def names(connection: Connection) -> list[str]:
    """Every table that can be published, by name: permanent ones; a partitioned table, not its partitions."""
    return [name for (name,) in connection.execute(_NAMES)]


def tables(connection: Connection, wanted: Collection[str], publication: str) -> dict[str, CatalogTable]:
    """These tables, with what the publication (where it is there) says of columns and rows.

    Raises ConfigurationError where one cannot be published.
    """
    version = connection.info.server_version
    published = _PUBLISHED if version >= 150000 else _PUBLISHED_14
    passed = {name: (columns, where) for name, columns, where in connection.execute(published, (publication,))}
    found = {}
    rows = connection.execute(_TABLES, (list(wanted),)).fetchall()
    columns = _columns(connection, [row[1] for row in rows], version >= GENERATED_SINCE)
    for name, oid, schema, table, kind, identity, partition, persistence, primary, index in rows:
        given, where = passed.get(name, (None, None))
        problem = _problem(kind, partition, persistence)
        if problem:
            raise ConfigurationError(f"table {name}: expected a permanent table, found {problem}")
        sent = tuple(
            column
            for column in columns.get(oid, ())
            if (column.name in given if given is not None else not column.generated or version >= GENERATED_SINCE)
        )
        key = tuple(index) if identity == "i" else tuple(primary)
        if key and not all(name in {column.name for column in sent} for name in key):
            key = ()
        found[name] = CatalogTable(name, oid, schema, table, kind == "p", identity, key, sent, where or "")
    if lost := sorted(set(wanted) - set(found)):
        raise ConfigurationError(f"table {lost[0]}: expected it in the database, found none of that name")
    return found


def filled(connection: Connection, oid: int, columns: Collection[str]) -> dict[str, bool]:
    """Those of the columns that are there, and of each whether it gives values to rows that were there before it."""
    return dict(connection.execute(_FILLED, (oid, list(columns))).fetchall())


def _problem(kind: str, partition: bool, persistence: str) -> str:
    if kind not in ("r", "p"):
        return {"v": "a view", "m": "a materialized view", "f": "a foreign table"}.get(kind, "something else")
    if persistence != "p":
        return "an unlogged or temporary one, which is not in the log"
    return "a partition; its partitioned table brings its rows" if partition else ""


def _columns(connection: Connection, oids: Sequence[int], stored: bool) -> Mapping[int, list[CatalogColumn]]:
    found: dict[int, list[CatalogColumn]] = {}
    for oid, name, type_oid, typmod, shown, generated, base, storage, casts in connection.execute(
        _COLUMNS, (list(oids),)
    ):
        if generated and not (stored and generated == "s"):
            continue
        column = CatalogColumn(name, type_oid, typmod, shown, base or "", bool(generated), storage in "xem", casts)
        found.setdefault(oid, []).append(column)
    return found


def form(column: CatalogColumn, declared: Column | None) -> str:
    """ "b" where the decoder reads the type's binary form, "t" where the value is asked for as text."""
    if column.kind is Kind.OTHER or column.base == "char":  # "char": its byte 0 is printed as no text
        return "t"
    fills_text = declared is not None and declared.type.name in TEXTS
    return "t" if fills_text and column.column.type.name not in TEXTS else "b"

"""What PostgreSQL's catalog says about a target table: columns, unique keys, foreign keys."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.postgres.session import Connection, quote
from connectors.postgres.types import TargetType

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       format_type(COALESCE(NULLIF(t.typbasetype, 0), t.oid),
                   CASE WHEN t.typbasetype <> 0 THEN t.typtypmod ELSE a.atttypmod END),
       format_type(COALESCE(NULLIF(t.typbasetype, 0), t.oid), -1),
       a.attnotnull OR t.typnotnull, a.atthasdef OR a.attidentity <> '', a.attgenerated <> ''
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_UNIQUE = """
SELECT i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate AND i.indisvalid
           AND NOT i.indisexclusion,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(number, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE k.place <= i.indnkeyatts ORDER BY k.place)
FROM pg_index i WHERE i.indrelid = %s AND (i.indisunique OR i.indisexclusion) ORDER BY i.indisprimary DESC, i.indexrelid
"""
_FOREIGN = """
SELECT c.conrelid = %(oid)s::oid, n.nspname, r.relname
FROM pg_constraint c
JOIN pg_class r ON r.oid = CASE WHEN c.conrelid = %(oid)s::oid THEN c.confrelid ELSE c.conrelid END
JOIN pg_namespace n ON n.oid = r.relnamespace
WHERE c.contype = 'f' AND (c.conrelid = %(oid)s::oid OR c.confrelid = %(oid)s::oid)
"""


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """A column of a target table. `shown` is the type as declared, `type` its base where that is a domain."""

    name: str
    shown: str
    type: TargetType
    not_null: bool
    has_default: bool
    generated: bool


@dataclass(frozen=True)
class TargetShape:
    """A target table as it stands.

    Args:
        unique_keys: column sets of plain unique indexes, the primary key first.
        other_unique: unique indexes of another kind (partial, over expressions, deferred, exclusion) exist.
        parents: tables that it references; referenced: a table references it.
    """

    schema: str
    name: str
    columns: tuple[TargetColumn, ...]
    unique_keys: tuple[frozenset[str], ...]
    other_unique: bool
    parents: frozenset[tuple[str, str]]
    referenced: bool

    @property
    def sql(self) -> str:
        """The table's name, quoted."""
        return f"{quote(self.schema)}.{quote(self.name)}"

    def column(self, name: str) -> TargetColumn | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)

    def ties_rows(self, key: tuple[str, ...]) -> bool:
        """Whether rows of different keys can stand in each other's way, so that one part must write them all."""
        second = [unique for unique in self.unique_keys if unique != frozenset(key)]
        return bool(second) or self.other_unique or bool(self.parents) or self.referenced


def inspect(connection: Connection, schema: str, name: str) -> TargetShape | str | None:
    """The table of that name; None where there is none, a word for it where it is something else than a table."""
    row = connection.execute(
        "SELECT c.oid, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = %s",
        (schema, name),
    ).fetchone()
    if row is None:
        return None
    oid, kind = row
    if kind not in ("r", "p"):
        return {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence"}.get(
            kind, "no table"
        )
    columns = tuple(
        TargetColumn(column, shown, TargetType(text, base), not_null, default, generated)
        for column, shown, text, base, not_null, default, generated in connection.execute(_COLUMNS, (oid,))
    )
    unique = connection.execute(_UNIQUE, (oid,)).fetchall()
    foreign = connection.execute(_FOREIGN, {"oid": oid}).fetchall()
    return TargetShape(
        schema,
        name,
        columns,
        tuple(frozenset(names) for plain, names in unique if plain),
        any(not plain for plain, _ in unique),
        frozenset((parent, table) for outgoing, parent, table in foreign if outgoing),
        any(not outgoing for outgoing, _, _ in foreign),
    )

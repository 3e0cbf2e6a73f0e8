"""The statements that bring the rows of one source-table shape into its target, and the copy of rows into staging.

Rows go by binary COPY into a temporary table in base types, then in one set operation into the target, in key order:

    keyed      MERGE by the key: delete, update, or insert; a column that is unset in a row keeps its value, and an
               Op.UPDATE inserts nothing
    keyless    each UPSERT row is inserted; of each distinct DELETE row as many copies go as there are rows

MERGE and not INSERT ... ON CONFLICT with a DELETE, by rows/s on order items (92 % inserts, 5 % updates, 3 % deletes;
fsync on, 2 cores shared with other work, medians, segments of 5,000 / 20,000 rows):

    target             parts    MERGE            ON CONFLICT
    empty              1        271 k / 253 k    228 k / 236 k
    1,000,000 rows     1        207 k / 238 k    187 k / 207 k
    1,000,000 rows     4        211 k / 220 k    192 k / 192 k

Random updates alone showed no winner (58-155 k, the ranges overlap). MERGE also keeps unset columns by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from connectors.postgres.catalog import TargetShape
from connectors.postgres.session import Connection, quote
from connectors.postgres.types import cast, staging_type
from libcore import pgcopy
from libcore.change import OP, UNSET, Op
from libcore.schema import ColumnType, Table

_OPS = "__op"  # staged as smallint
_OP_TYPE = "smallint"


@dataclass(frozen=True)
class Plan:
    """How rows of `table` reach `shape`. One a session and shape; its staging table is made by `prepare`.

    Args:
        with_unset: for batches that carry an __unset column.
        single_part: rows of different keys can stand in each other's way.
    """

    table: Table
    shape: TargetShape
    with_unset: bool
    single_part: bool

    @cached_property
    def staging(self) -> str:
        """Name of the staging table, one a source-table shape."""
        return f'pg_temp."hr_{self.table.fingerprint}{"_unset" if self.with_unset else ""}"'

    @cached_property
    def staging_sql(self) -> str:
        """The statement that makes the staging table."""
        columns = [f"{quote(column.name)} {staging_type(column.type)}" for column in self.table.columns]
        columns.append(f"{_OPS} {_OP_TYPE}")
        if self.with_unset:
            columns.append(f"{UNSET} bytea")
        return f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.staging[8:]} ({', '.join(columns)}) ON COMMIT DELETE ROWS"

    @cached_property
    def copy_sql(self) -> str:
        """The COPY into staging."""
        return f"COPY {self.staging} FROM STDIN (FORMAT BINARY)"

    @cached_property
    def statements(self) -> tuple[str, ...]:
        """What moves the staged rows of a keyed table into the target."""
        return (self._merge(),)

    @cached_property
    def additions(self) -> tuple[str, ...]:
        """What inserts the staged UPSERT rows."""
        return (self._insert(),)

    @cached_property
    def removals(self) -> tuple[str, ...]:
        """What removes the staged DELETE rows of a keyless table; the target is read once, so a hash join is right."""
        return ("SET LOCAL enable_hashjoin = on", self._delete_copies(), "SET LOCAL enable_hashjoin = off")

    def statements_for(self, record: pa.RecordBatch) -> tuple[str, ...]:
        """What the rows of this batch need."""
        if self.table.key:
            return self.statements
        ops = set(pc.unique(record.column(OP)).to_pylist())
        added = self.additions if ops - {int(Op.DELETE)} else ()
        return added + (self.removals if int(Op.DELETE) in ops else ())

    @cached_property
    def replace_statements(self) -> tuple[str, ...] | None:
        """For rows that stand in each other's way (two rows that swapped a unique value): remove all, then insert all.

        None where that would lose something: unset values, target columns of somebody else, rows that refer to ours.
        """
        ours = {column.name for column in self.table.columns}
        foreign = any(column.name not in ours and not column.generated for column in self.shape.columns)
        if self.with_unset or foreign or self.shape.referenced or not self.table.key:
            return None
        delete = f"DELETE FROM {self.shape.sql} t USING {self.staging} s WHERE {self._same_key()}"
        return (delete, self._insert())

    def _value(self, index: int) -> str:
        column = self.table.columns[index]
        there = self.shape.column(column.name)
        assert there is not None, column
        return cast(f"s.{quote(column.name)}", column.type, there.type)

    def _same_key(self) -> str:
        return " AND ".join(
            f"t.{quote(name)} = {self._value(index)}"
            for name, index in zip(self.table.key, self.table.key_indexes, strict=True)
        )

    def _merge(self) -> str:
        names = [quote(column.name) for column in self.table.columns]
        values = [self._value(index) for index in range(len(names))]
        changed = [index for index in range(len(names)) if self.table.columns[index].name not in self.table.key]
        sets = ", ".join(f"{names[index]} = {self._kept(index, values[index])}" for index in changed)
        order = ", ".join(quote(name) for name in self.table.key)
        return (
            f"MERGE INTO {self.shape.sql} AS t USING (SELECT * FROM {self.staging} ORDER BY {order}) AS s "
            f"ON {self._same_key()} "
            f"WHEN MATCHED AND s.{_OPS} = {int(Op.DELETE)} THEN DELETE "
            f"WHEN MATCHED THEN {f'UPDATE SET {sets}' if sets else 'DO NOTHING'} "
            f"WHEN NOT MATCHED AND s.{_OPS} NOT IN ({int(Op.DELETE)}, {int(Op.UPDATE)}) THEN "
            f"INSERT ({', '.join(names)}) OVERRIDING SYSTEM VALUE VALUES ({', '.join(values)})"
        )

    def _kept(self, index: int, value: str) -> str:
        """The new value, or the target's own where the unset bit says so (bytea's bit 0 is the lowest, as ours)."""
        if not self.with_unset:
            return value
        return (
            f"CASE WHEN get_bit(s.{UNSET}, {index}) = 1 THEN t.{quote(self.table.columns[index].name)} ELSE {value} END"
        )

    def _insert(self) -> str:
        names = ", ".join(quote(column.name) for column in self.table.columns)
        values = ", ".join(self._value(index) for index in range(len(self.table.columns)))
        return (
            f"INSERT INTO {self.shape.sql} ({names}) OVERRIDING SYSTEM VALUE "
            f"SELECT {values} FROM {self.staging} s WHERE s.{_OPS} <> {int(Op.DELETE)}"
        )

    def _delete_copies(self) -> str:
        """Rows are compared by their text, as the target prints them: types without an equality (json, xml) have no
        other, and NULL equals NULL. The staged values are cast to the target's full types first."""
        staged, stored = [], []
        for index, column in enumerate(self.table.columns):
            there = self.shape.column(column.name)
            assert there is not None, column
            staged.append(f"({self._value(index)})::{there.shown}")
            stored.append(f"t.{quote(column.name)}")
        return (
            f"WITH gone AS (SELECT row_text, count(*) AS copies FROM "
            f"(SELECT ROW({', '.join(staged)})::text AS row_text "
            f"FROM {self.staging} s WHERE s.{_OPS} = {int(Op.DELETE)}) AS d GROUP BY row_text), "
            f"found AS (SELECT t.tableoid AS place, t.ctid AS at, gone.copies, "
            f"row_number() OVER (PARTITION BY gone.row_text ORDER BY t.tableoid, t.ctid) AS copy "
            f"FROM {self.shape.sql} t JOIN gone ON gone.row_text = ROW({', '.join(stored)})::text) "
            f"DELETE FROM {self.shape.sql} t USING found "
            f"WHERE t.tableoid = found.place AND t.ctid = found.at AND found.copy <= found.copies"
        )


def prepare(connection: Connection, plan: Plan) -> None:
    """Make the plan's staging table in this session, where it is missing."""
    connection.execute(plan.staging_sql)


def encode(plan: Plan, record: pa.RecordBatch) -> pgcopy.Encoded:
    """The rows as COPY bytes, and those that have none in PostgreSQL (NUL in a text, a date out of range)."""
    columns = [record.column(index) for index in range(len(plan.table.columns))]
    types: list[ColumnType | None] = [column.type for column in plan.table.columns]
    names = [column.name for column in plan.table.columns]
    columns.append(pc.cast(record.column(OP), pa.int16()))
    if plan.with_unset:
        columns.append(record.column(UNSET))
    names += [OP, UNSET][: len(columns) - len(names)]
    return pgcopy.encode(
        pa.RecordBatch.from_arrays(columns, names=names), [*types, *[None] * (len(columns) - len(types))]
    )


def put(connection: Connection, plan: Plan, encoded: pgcopy.Encoded, statements: Sequence[str], *, again: bool) -> None:
    """Copy rows and run the statements, in an open transaction; `again`: staging may hold rows of an earlier call."""
    with connection.cursor() as cursor:
        if again:
            cursor.execute(f"DELETE FROM {plan.staging}")
        with cursor.copy(plan.copy_sql) as copy:
            copy.write(memoryview(encoded.buffer))
        for statement in statements:
            cursor.execute(statement, prepare=not statement.startswith("SET"))

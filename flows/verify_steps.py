"""What the results of a pipeline's steps must be: SQL by DuckDB over the folded tables, on disk where they are large.

It shares no code with the operators: a fault of theirs, of the spool or of the applier shows as a difference.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from flows import spec, step_sql
from flows.mask_plan import compile_mask
from flows.operators.transform import TransformPlan
from flows.operators.user_function import CallPlan
from flows.spec_steps import CallStep, MaskStep, SelectStep, TransformStep
from flows.spec_wiring import Node, Wired
from flows.transform_plan import compile_transform
from flows.user_function_plan import compile_call
from libcore.change import ChangeBatch, Op, arrow_schema
from libcore.errors import ConfigurationError, FatalError
from libcore.reference.mask import mask_column
from libcore.reference.transform_rules import transformed
from libcore.schema import Table

_ROWS = 30_000


class StepTruth:
    """The tables that steps read, and from them the results.

    Args:
        directory: for the database's file.
        as_of_us: the time for `due` steps, in microseconds since 1970.
        tables: the table of every stream, in the form it has behind `where`, `drop` and `rename`.
        file: the pipeline file, beside which libraries of `call` steps are looked for.
    `refused`, after compute(), counts rows that a `select`, `transform` or `call` cannot answer: in the flow they
    became dead letters.
    Raises: ConfigurationError where DuckDB is missing, or where a result depends on when rows came.
    """

    def __init__(
        self, pipeline: spec.Pipeline, tables: Mapping[Node, Table], directory: Path, as_of_us: int, file: Path = Path()
    ) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise ConfigurationError("verifying steps needs DuckDB: pip install 'headrace[steps]'") from error
        for wired in pipeline.wiring.steps:
            late = getattr(wired.spec, "allowed_lateness", None) is not None
            if late or getattr(wired.spec, "emit", "changes") == "final":
                raise ConfigurationError(
                    f"step {wired.id}: its result depends on when rows came (emit, allowed_lateness), so the topics' "
                    "last state does not say what it must be; name the other tables with --table"
                )
        self._wiring, self._tables, self._as_of_us = pipeline.wiring, dict(tables), as_of_us
        self._connection = duckdb.connect(str(directory / "steps.duckdb"), config={"threads": 2})
        self._connection.execute("SET TimeZone = 'UTC'")
        self._made: set[Node] = set()
        self._file = file
        self.refused = 0

    def add(self, node: Node, record: pa.RecordBatch) -> None:
        """Rows of a table of the file; only those alive, each key once."""
        names = [column.name for column in self._tables[node].columns]
        columns = [record.column(name) if name in record.schema.names else pa.nulls(record.num_rows) for name in names]
        self._connection.register("arriving", pa.Table.from_arrays(columns, names=names))
        self._create(node)
        self._connection.execute(f"INSERT INTO {step_sql.relation(node)} SELECT * FROM arriving")
        self._connection.unregister("arriving")

    def compute(self) -> None:
        """Run the steps in order."""
        for wired in self._wiring.steps:
            for node in wired.inputs:
                self._create(node)
            if isinstance(wired.spec, MaskStep):
                self._compute_with(wired, masks(wired.spec, self._tables[wired.inputs[0]], wired.output.name))
                continue
            if isinstance(wired.spec, TransformStep):
                rules = compile_transform(wired.spec, self._tables[wired.inputs[0]], wired.output.name, self._file)
                self._compute_with(wired, partial(_transformed, rules))
                continue
            if isinstance(wired.spec, CallStep):
                plan = compile_call(wired.spec, self._tables[wired.inputs[0]], wired.output.name, self._file)
                self._compute_with(wired, partial(_called, plan))
                continue
            if isinstance(wired.spec, SelectStep):
                self._compute_with(wired, partial(self._selected, wired))
                continue
            self._connection.execute(step_sql.statement(wired, self._tables, self._as_of_us))
            self._made.add(wired.output)

    def _selected(self, wired: Wired, record: pa.RecordBatch) -> list[pa.Array]:
        """The columns of a select step's result."""
        self._connection.register("given", record)
        try:
            rows = self._connection.sql(step_sql.select(wired, self._tables, "given")).to_arrow_table()
        finally:
            self._connection.unregister("given")
        return [rows.column(column.name) for column in self._tables[wired.output].columns]

    def results(self, wired: Wired) -> Iterator[ChangeBatch]:
        """The rows of a step's result, as upserts."""
        table = self._tables[wired.output]
        averages = [column.name for column in table.columns if step_sql.is_average(wired, column.name)]
        answer: Any = self._connection.sql(f"SELECT * FROM {step_sql.relation(wired.output)}")
        for record in answer.to_arrow_reader(_ROWS):
            arrays = []
            for column in table.columns:
                if column.name in averages:
                    arrays.append(_average(record, column.name, column.type.arrow))
                else:
                    arrays.append(record.column(column.name).cast(column.type.arrow))
            rows = record.num_rows
            arrays += [
                pa.repeat(pa.scalar(int(Op.UPSERT), pa.int8()), rows),
                pa.repeat(pa.scalar(bytes(32), pa.binary(32)), rows),
                pa.nulls(rows, pa.timestamp("us", tz="UTC")),
            ]
            yield ChangeBatch(table, pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(table)))

    def close(self) -> None:
        """Give the database back."""
        self._connection.close()

    def _compute_with(self, wired: Wired, columns_of: Callable[[pa.RecordBatch], Sequence[pa.Array]]) -> None:
        """The result of a step that SQL does not know, by a function over the input's rows, exactly typed."""
        self._create(wired.output)
        source = self._tables[wired.inputs[0]]
        names = [column.name for column in self._tables[wired.output].columns]
        reading: Any = self._connection.cursor()
        for record in reading.sql(f"SELECT * FROM {step_sql.relation(wired.inputs[0])}").to_arrow_reader(_ROWS):
            arrays = [record.column(column.name).cast(column.type.arrow) for column in source.columns]
            exact = pa.RecordBatch.from_arrays(arrays, names=[column.name for column in source.columns])
            for columns in self._answered(columns_of, exact):
                self._connection.register("computed", pa.Table.from_arrays(list(columns), names=names))
                self._connection.execute(f"INSERT INTO {step_sql.relation(wired.output)} SELECT * FROM computed")
                self._connection.unregister("computed")
        reading.close()

    def _answered(
        self, columns_of: Callable[[pa.RecordBatch], Sequence[pa.Array]], record: pa.RecordBatch
    ) -> Iterator[Sequence[pa.Array]]:
        """The answers for the longest runs of rows that have one."""
        try:
            columns = columns_of(record)
        except FatalError:
            raise
        except Exception:
            if record.num_rows == 1:
                self.refused += 1
                return
            half = record.num_rows // 2
            yield from self._answered(columns_of, record.slice(0, half))
            yield from self._answered(columns_of, record.slice(half))
            return
        yield columns

    def _create(self, node: Node) -> None:
        if node in self._made:
            return
        self._made.add(node)
        schema = pa.schema([(column.name, column.type.arrow) for column in self._tables[node].columns])
        self._connection.register("shape", schema.empty_table())
        self._connection.execute(f"CREATE TABLE {step_sql.relation(node)} AS SELECT * FROM shape")
        self._connection.unregister("shape")


def _called(plan: CallPlan, record: pa.RecordBatch) -> list[pa.Array]:
    """The columns of a call step's result: by the function itself, as nobody else knows what it computes."""
    found = plan.function(record.select(list(plan.read))) if record.num_rows else None
    return [
        record.column(column.name)
        if column.name not in plan.types
        else pa.nulls(0, column.type.arrow)
        if found is None
        else found.column(column.name)
        for column in plan.result.columns
    ]


def _transformed(plan: TransformPlan, record: pa.RecordBatch) -> list[pa.Array]:
    """The columns of a transform step's result, value by value by the reference."""
    made = transformed(plan.rules, record)
    return [(made if column.name in plan.rules else record).column(column.name) for column in plan.result.columns]


def masks(step: MaskStep, table: Table, name: str) -> Callable[[pa.RecordBatch], list[pa.Array]]:
    """The columns of a mask step's result, value by value by the reference."""
    rules = compile_mask(step, table, name).rules

    def columns(record: pa.RecordBatch) -> list[pa.Array]:
        pairs = zip(record.schema.names, record.columns, strict=True)
        return [mask_column(column, rules[name]) if name in rules else column for name, column in pairs]

    return columns


def _average(record: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    """Sum by count, rounded half to even at the column's scale; floats as floats."""
    sums, counts = record.column(f"{name}#sum").to_pylist(), record.column(f"{name}#count").to_pylist()
    return pa.array([_divided(total, count, kind) for total, count in zip(sums, counts, strict=True)], kind)


def _divided(total: Any, count: int, kind: pa.DataType) -> Any:
    if not count:
        return None
    if pa.types.is_floating(kind):
        return total / count
    with decimal.localcontext(prec=80, rounding=decimal.ROUND_HALF_EVEN):
        return (decimal.Decimal(total) / count).quantize(decimal.Decimal(1).scaleb(-kind.scale))

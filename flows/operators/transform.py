"""The transform step: columns computed by libcore's kernels; a row without a result becomes a dead letter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from flows.operators.select import Select, SelectPlan
from libcore.change import Op, op_is
from libcore.errors import ConfigurationError, RowsError
from libcore.schema import Column, Table
from libcore.transform_rules import Rule, transformed

Kernel = Callable[[Mapping[str, Rule], pa.RecordBatch], pa.RecordBatch]
"""Rules and rows -> a column a rule; raises RowsError."""


@dataclass(frozen=True)
class TransformPlan(SelectPlan):
    """Rules that fit a table. Made by `plan_transform`."""

    rules: Mapping[str, Rule] = field(kw_only=True, repr=False, compare=False)

    @property
    def present(self) -> frozenset[str]:
        """Without the columns that are computed from themselves alone: where those come unset, they go unset."""
        return frozenset(name for name, rule in self.rules.items() if not _of_itself(name, rule))


def plan_transform(table: Table, rules: Mapping[str, Rule], drop: Sequence[str], name: str) -> TransformPlan:
    """Fit rules to a table.

    Args:
        table: what comes in. name: the result's name.
        rules: result column -> rule, in order; a column of that name is replaced.
        drop: columns of the table, or of rules, that the result has not.
    Raises: ConfigurationError for a column that is not there, of another type, or of the key; a bad table of rates.
    """
    where = f"table {table.name}"
    types = {column.name: column.type for column in table.columns}
    if unknown := [one for one in drop if one not in types and one not in rules]:
        raise ConfigurationError(f"{where}: drop: expected columns of {[*types, *rules]}, found {unknown[0]!r}")
    if key := [one for one in (*drop, *rules) if one in table.key]:
        raise ConfigurationError(f"{where}: expected columns outside of the key, found key column {key[0]!r}")
    origins = {one: frozenset({one}) for one in types}
    read: set[str] = set()
    for one, rule in rules.items():
        try:
            types[one] = rule.result_type(types)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: transform.{one}: {error.message}") from error
        found = frozenset().union(*(origins[other] for other in rule.reads))
        read |= found if not _of_itself(one, rule) else set()
        origins[one] = found
    kept = [column for column in table.columns if column.name not in drop and column.name not in rules]
    made = {one: str(types[one]) for one in rules if one not in drop}
    result = Table(name, (*kept, *(Column(one, types[one]) for one in made)), table.key)
    return TransformPlan(table, result, made, made, tuple(drop), tuple(sorted(read)), rules=dict(rules))


def _of_itself(name: str, rule: Rule) -> bool:
    """Whether nothing but the column decides its result: the one of an unset value is then that of the former one."""
    return set(rule.reads) == {name}


class Transform(Select):
    """The mapper of the step.

    Args:
        flow, step: for dead letters.
        plan: of plan_transform.
        kernel: computes the columns: libcore's, or its plain reference.
    """

    def __init__(self, flow: str, step: str, plan: TransformPlan, kernel: Kernel = transformed) -> None:
        super().__init__(flow, step, plan)
        self._rules, self._kernel = plan.rules, kernel

    def _plan(self, table: Table) -> SelectPlan:
        if table not in self._plans:
            self._plans[table] = plan_transform(table, self._rules, self._first.drop, self._first.result.name)
        return self._plans[table]

    def _values(self, plan: SelectPlan, record: pa.RecordBatch) -> dict[str, pa.Array]:
        try:
            return super()._values(plan, record)
        except RowsError as error:
            if not plan.source.key:
                raise
            # deletes by key were left out: the rows counted from without them
            asked = pc.indices_nonzero(pc.invert(op_is(record, Op.DELETE)))
            raise RowsError({asked[row].as_py(): sentence for row, sentence in error.rows.items()}) from error

    def _answers(self, plan: SelectPlan, rows: pa.RecordBatch) -> pa.Table:
        return pa.Table.from_batches([self._kernel(self._rules, rows)])

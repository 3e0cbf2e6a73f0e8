"""The call step: columns computed by a user's own C function, batch by batch; rows that it refuses are dead letters.

What it gives is checked before a row goes on (libcore/user_function.py). Deletes by key are not shown to it.
A column that changes its type while the flow runs stops it: the function was made ready for the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import pyarrow as pa

from flows.operators.select import Select, SelectPlan
from libcore.errors import ConfigurationError, DataError, FatalError
from libcore.schema import Column, Table, parse_type
from libcore.user_function import UserFunction

Function = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True)
class CallPlan(SelectPlan):
    """A function's columns that fit a table: `read` are the columns that it takes, `types` those that it gives."""

    function: Function = field(kw_only=True, repr=False, compare=False)


def plan_call(
    table: Table,
    library: str,
    name: str,
    take: Sequence[str],
    gives: Mapping[str, str],
    drop: Sequence[str],
    result: str,
) -> CallPlan:
    """Fit a function to a table, and load it.

    Args:
        table: what comes in. library: its path, absolute. name: the function's.
        take: columns that it gets; none: all of the table as it is now.
        gives: result column -> exact type; a column of that name is replaced.
        drop: columns of the table that the result has not. result: the result's name.
    Raises: ConfigurationError for a column that is not there or is of the key, a type, library or function unknown.
    """
    names = [column.name for column in table.columns]
    for setting, wanted in (("take", take), ("drop", drop)):
        if unknown := [one for one in wanted if one not in names]:
            raise ConfigurationError(
                f"table {table.name}: {setting}: expected columns of {names}, found {unknown[0]!r}"
            )
    if key := [one for one in (*drop, *gives) if one in table.key]:
        raise ConfigurationError(
            f"table {table.name}: expected columns outside of the key, found key column {key[0]!r}"
        )
    taken = tuple(take) or tuple(names)
    made = [Column(one, parse_type(kind)) for one, kind in gives.items()]
    takes = pa.schema([(one, table.column(one).type.arrow) for one in taken])
    function = UserFunction(library, name, takes, pa.schema([(one.name, one.type.arrow) for one in made]))
    return planned(table, result, gives, drop, taken, function)


def planned(
    table: Table, result: str, gives: Mapping[str, str], drop: Sequence[str], taken: tuple[str, ...], function: Function
) -> CallPlan:
    """The plan where the function is loaded already."""
    kept = [column for column in table.columns if column.name not in drop and column.name not in gives]
    made = [Column(one, parse_type(kind)) for one, kind in gives.items()]
    of_result = Table(result, (*kept, *made), table.key)
    return CallPlan(table, of_result, dict(gives), dict(gives), tuple(drop), taken, function=function)


class Call(Select):
    """The mapper of the step.

    Args:
        flow, step: for dead letters.
        plan: of plan_call.
        running: a context to call the function in, each time.
        quarantine: why the function must not be called: all rows are dead letters with it; None: it may.
    """

    def __init__(
        self,
        flow: str,
        step: str,
        plan: CallPlan,
        running: Callable[[], AbstractContextManager[None]] = nullcontext,
        quarantine: str | None = None,
    ) -> None:
        super().__init__(flow, step, plan)
        self._call, self._running, self._quarantine = plan, running, quarantine

    def _plan(self, table: Table) -> SelectPlan:
        if table not in self._plans:
            one = self._call
            self._plans[table] = planned(table, one.result.name, one.types, one.drop, one.read, one.function)
        return self._plans[table]

    def _answers(self, plan: SelectPlan, rows: pa.RecordBatch) -> pa.Table:
        if self._quarantine is not None:
            raise DataError(self._quarantine)
        if plan.source is not self._call.source:
            self._check_types(plan)
        with self._running():
            found = self._call.function(rows.select(list(plan.read)))
        return pa.Table.from_batches([found])

    def _check_types(self, plan: SelectPlan) -> None:
        """The table changed while the flow ran: the function may go on only where its columns stayed as they were."""
        for name in plan.read:
            taken, found = self._call.source.column(name).type, plan.source.column(name).type
            if found != taken:
                raise FatalError(
                    f"table {plan.source.name}: column {name}: expected {taken}, as the function takes it since the "
                    f"start, found {found}: start the pipeline again, and the function gets the new type"
                )

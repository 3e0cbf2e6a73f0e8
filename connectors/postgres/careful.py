"""The careful way of a segment: savepoints and halving find the rows that the database refuses, the others go in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.batches import join
from connectors.postgres.dead_letters import Ledger, Letters, Waiting, key_texts
from connectors.postgres.plan import Plan, encode, put
from connectors.postgres.session import Connection, Refused, classify
from connectors.postgres.work import Step, Unfit, order
from libcore.change import UNSET
from libcore.compact import compact
from libcore.errors import DataError
from libcore.schema import Table

_Refuse = Callable[[pa.RecordBatch, Refused], None]


class Careful:
    """One attempt at a segment, inside its transaction.

    Args:
        ledger: what waits from former segments. letters: takes the rows that are refused or park.
        plan: gives the plan of a table's shape.
    """

    def __init__(
        self,
        connection: Connection,
        ledger: Ledger,
        letters: Letters,
        plan: Callable[[Connection, Table, bool], Plan],
    ) -> None:
        self._connection, self._ledger, self._letters, self._plan = connection, ledger, letters, plan
        self._parked: dict[str, set[str]] = {}  # keys refused in this very segment
        self._conflicts: list[Step] = []
        self.settled: list[Waiting] = []
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")  # a deferred one would speak up only at COMMIT

    def refuse(self, unfit: Sequence[Unfit]) -> None:
        """Rows of tables that the target refuses as a whole."""
        for part in unfit:
            self._letters.add(part.table, part.record, "data", part.error)
            self._parked.setdefault(part.table.name, set()).update(key_texts(part.table, part.record))

    def run(self, steps: Sequence[Step]) -> None:
        """Bring in what can be; conflicts of this segment and of the one before are tried again at its end."""
        self.settled = list(self._ledger.waiting)
        waiting = {(waiting.table.name, key_texts(waiting.table, waiting.record)[0]) for waiting in self.settled}
        held: list[Step] = []
        for step in steps:
            step = self._without_parked(step)
            step, behind = _split(step, {key for name, key in waiting if name == step.plan.table.name})
            held.extend(behind)
            self._put_all(step, self._conflict(step.plan))
        self._again(held)
        for step in self._conflicts_of_this_segment():
            self._put_all(step, self._final(step.plan, "conflict"))

    def _again(self, held: Sequence[Step]) -> None:
        """Rows in conflict since the former segment, with what this one brought for their keys: now or never."""
        steps = [
            Step(self._plan(self._connection, old.table, UNSET in old.record.schema.names), old.record)
            for old in self.settled
        ]
        by_table: dict[str, list[Step]] = {}
        for step in [*steps, *held]:
            by_table.setdefault(step.plan.table.name, []).append(step)
        joined = [merged for group in by_table.values() for merged in self._merged(group)]
        for step in order(joined):
            self._put_all(step, self._final(step.plan, "data"))

    def _merged(self, group: Sequence[Step]) -> list[Step]:
        """One step with the last change per key; as they are where the table changed its shape in between."""
        table = group[0].plan.table
        if any(step.plan.table != table for step in group):
            return list(group)
        record = compact(join(table, [step.record for step in group]), table)
        return [Step(self._plan(self._connection, table, UNSET in record.schema.names), record)]

    def _conflicts_of_this_segment(self) -> list[Step]:
        conflicts, self._conflicts = self._conflicts, []
        by_plan: dict[tuple[str, bool], list[Step]] = {}
        for step in conflicts:
            by_plan.setdefault((step.plan.table.fingerprint, step.plan.with_unset), []).append(step)
        steps = [
            Step(group[0].plan, join(group[0].plan.table, [step.record for step in group]))
            for group in by_plan.values()
        ]
        return order(steps)

    def _without_parked(self, step: Step) -> Step:
        parked = self._ledger.parked_rows(step.plan.table, step.record)
        fresh = self._parked.get(step.plan.table.name)
        if fresh:
            texts = key_texts(step.plan.table, step.record)
            former = parked or [False] * len(texts)
            parked = [old or text in fresh for old, text in zip(former, texts, strict=True)]
        if not parked or not any(parked):
            return step
        mask = pa.array(parked)
        self._letters.add(
            step.plan.table, step.record.filter(mask), "parked", "an earlier change of this key was refused"
        )
        return Step(step.plan, step.record.filter(pc.invert(mask)))

    def _conflict(self, plan: Plan) -> _Refuse:
        """Refusals of the first try: a conflict may pass when the rest of the segment is in."""

        def refuse(row: pa.RecordBatch, error: Refused) -> None:
            if error.conflict and plan.single_part:
                self._conflicts.append(Step(plan, row))
            else:
                self._letter(plan, row, "data", error)

        return refuse

    def _final(self, plan: Plan, reason: str) -> _Refuse:
        """Refusals of the last try."""
        return lambda row, error: self._letter(plan, row, reason, error)

    def _letter(self, plan: Plan, row: pa.RecordBatch, reason: str, error: DataError) -> None:
        self._letters.add(plan.table, row, reason, str(error))
        self._parked.setdefault(plan.table.name, set()).update(key_texts(plan.table, row))

    def _put_all(self, step: Step, refuse: _Refuse) -> None:
        if not step.record.num_rows:
            return
        encoded = encode(step.plan, step.record)
        bad = {fault.row: Refused(fault.text, "") for fault in encoded.errors}
        for row, error in bad.items():
            refuse(step.record.slice(row, 1), error)
        if bad:
            mask = pa.array([row not in bad for row in range(step.record.num_rows)])
            step = Step(step.plan, step.record.filter(mask))
        if step.record.num_rows:
            self._halve(step, refuse)

    def _halve(self, step: Step, refuse: _Refuse) -> None:
        error = self._try(step, step.plan.statements_for(step.record))
        if error is not None and error.conflict and step.plan.single_part and step.plan.replace_statements is not None:
            error = self._try(step, step.plan.replace_statements)
        if error is None:
            return
        count = step.record.num_rows
        if count == 1:
            refuse(step.record, error)
            return
        for half in (step.record.slice(0, count // 2), step.record.slice(count // 2)):
            self._halve(Step(step.plan, half), refuse)

    def _try(self, step: Step, statements: Sequence[str]) -> Refused | None:
        """Bring rows in behind a savepoint; the refusal where the database does not take them."""
        try:
            with self._connection.transaction():
                put(self._connection, step.plan, encode(step.plan, step.record), statements, again=True)
        except psycopg.Error as error:
            refusal = classify(error)
            if not isinstance(refusal, Refused):
                raise
            return refusal
        return None


def _split(step: Step, keys: set[str]) -> tuple[Step, list[Step]]:
    """The rows whose key does not wait, and those whose key does."""
    if not keys:
        return step, []
    mask = pa.array([text in keys for text in key_texts(step.plan.table, step.record)])
    return Step(step.plan, step.record.filter(pc.invert(mask))), [Step(step.plan, step.record.filter(mask))]

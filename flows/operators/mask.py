"""The mask step: columns in clear come in, masked ones go out; stateless, a batch's answer depends on the batch alone.

A row that has no mask becomes a dead letter; flows/mask_letters.py takes the clear columns out of it, as out of every
dead letter from before this step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connectors.base.items import Item, Truncate
from flows.operators.batch import Around, BatchStep
from libcore.change import ChangeBatch
from libcore.mask import MaskPlan, mask
from libcore.schema import Table


class Mask:
    """The mapper of the step.

    Args:
        flow, step: for dead letters.
        first: the plan of the table as it is now.
        plan_of: the plan of that table when it has gained columns.
    """

    def __init__(self, flow: str, step: str, first: MaskPlan, plan_of: Callable[[Table], MaskPlan]) -> None:
        self._source, self._result, self._plan_of = first.source.name, first.result.name, plan_of
        self._flow, self._step = flow, step
        self._inner = BatchStep(flow, step, self.answer, lambda table: plan_of(table).result)

    def beside(self, around: Around) -> None:
        """Put something around `answer`: a new version beside it."""
        self._inner = BatchStep(self._flow, self._step, around(self.answer), lambda table: self._plan_of(table).result)

    def __call__(self, items: Sequence[Item]) -> list[Item]:
        """Batches of the table in, batches of the result and dead letters out; other items are left out."""
        out: list[Item] = []
        for item in items:
            if isinstance(item, ChangeBatch) and item.table.name == self._source and item.row_count:
                out += self._inner([item])
            elif isinstance(item, Truncate) and item.table == self._source:
                out.append(Truncate(self._result, item.identity))
        return out

    def answer(self, batch: ChangeBatch) -> ChangeBatch:
        """The same rows, masked; raises where one of them has no mask."""
        plan = self._plan_of(batch.table)
        return ChangeBatch(plan.result, mask(plan, batch.record))

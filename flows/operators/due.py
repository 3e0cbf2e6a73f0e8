"""The due step: a keyed stage that gives rows a flag, and gives them again when time alone turns it.

The flag of a row depends on the row and on the greatest Clock item that its process got; Clocks go to every process in
the same epoch. State: every row, in the slot of its key (libcore/due.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Stream, operator

from connectors.base.clock import Clock
from connectors.base.items import Truncate
from flows.operators.join import Pick
from flows.operators.keyed import Context, Parcel, keyed
from libcore.change import ChangeBatch
from libcore.due import Due, DuePlan
from libcore.table import RowStore

ROW = "row"


@operator
def due(step_id: str, up: Stream[Any], plan: DuePlan, context: Context) -> Stream[ChangeBatch]:
    """Flag rows whose moment has passed.

    Args:
        step_id: unique name of the step; part of the recovery store.
        up: ChangeBatch and Truncate items of plan.source, and Clocks; anything else is left out.
        plan: from libcore.due.plan_due.
        context: slots, processes, where state lies.
    Returns: batches of plan.result.
    """
    rows = op.flat_map_batch("rows", up, Pick(ROW, plan.source.name))
    clocks = op.flat_map_batch("clocks", up, only_clocks)
    return keyed(
        "state", op.merge("meet", rows, clocks), lambda: DueStage(plan, context), {ROW: plan.source.key}, context
    )


def only_clocks(items: Iterable[Any]) -> list[Any]:
    """The Clocks among the items."""
    return [item for item in items if isinstance(item, Clock)]


def without_clocks(items: Iterable[Any]) -> list[Any]:
    """All other items, in order."""
    return [item for item in items if not isinstance(item, Clock)]


class DueStage:
    """See keyed.Stage."""

    def __init__(self, plan: DuePlan, context: Context) -> None:
        self._due = Due(plan, context.slots)

    @property
    def stores(self) -> Mapping[str, RowStore]:
        """See Stage.stores."""
        return self._due.stores

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """See Stage.load."""
        self._due.load(store, record)

    def on_items(self, items: Sequence[Any]) -> Iterator[ChangeBatch]:
        """Rows, Truncates and Clocks in, flagged rows out."""
        for item in items:
            if isinstance(item, Clock):
                yield from self._due.advance(item.us)
            elif isinstance(item, Truncate):
                yield from self._due.truncate()
            elif isinstance(item, Parcel):
                assert item.table is not None
                known = {column.name for column in self._due.plan.source.columns}
                if any(column.name not in known for column in item.table.columns):
                    self._due.replan(item.table)
                if (found := self._due.apply(ChangeBatch(item.table, item.record))) is not None:
                    yield found

    def epoch_ends(self) -> None:
        """Nothing to do."""

    def input_ends(self) -> Iterable[Any]:
        """Nothing comes of it."""
        return ()

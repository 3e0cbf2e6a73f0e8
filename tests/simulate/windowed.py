"""A window step as two keyed steps over libcore.window: what a row counts with, then the sums of its group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Stream

from connectors.base.items import Truncate
from flows.operators.join import Pick
from flows.operators.keyed import Context, Parcel, keyed
from libcore.change import ChangeBatch
from libcore.errors import FatalError
from libcore.table import RowStore
from libcore.window import Aggregates, Contributions, WindowPlan

ROW, COUNTED = "row", "counted"


def window(step_id: str, items: Stream[Any], plan: WindowPlan, context: Context) -> Stream[Any]:
    """The results of the window step over the items' stream."""
    rows = op.flat_map_batch(f"{step_id}-rows", items, Pick(ROW, plan.source.name))
    counted = keyed(f"{step_id}-rows-kept", rows, lambda: RowStage(plan, context), {ROW: plan.source.key}, context)
    cleared = op.flat_map_batch(f"{step_id}-cleared", rows, _truncates)
    return keyed(
        f"{step_id}-sums",
        op.merge(f"{step_id}-and", counted, cleared),
        lambda: SumStage(plan, context),
        {COUNTED: plan.group},
        context,
    )


def _truncates(items: list[Any]) -> list[Any]:
    return [item for item in items if isinstance(item, Truncate)]


class _Stage:
    def __init__(self, stores: Mapping[str, RowStore]) -> None:
        self.stores = stores

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """See Stage.load."""
        self.stores[store].load(record)

    def epoch_ends(self) -> None:
        """Nothing to do."""

    def input_ends(self) -> Iterable[Any]:
        """Nothing comes of it."""
        return ()


class RowStage(_Stage):
    """Slot of the row's key: rows to count in and out. A row without a time counts nowhere."""

    def __init__(self, plan: WindowPlan, context: Context) -> None:
        self._kept = Contributions(plan, context.slots)
        super().__init__(self._kept.stores)

    def on_items(self, items: Sequence[Any]) -> Iterator[Any]:
        """Changes of the table in, rows with a sign out."""
        for item in items:
            if isinstance(item, Truncate):
                self._kept.truncate()
                continue
            found = self._kept.apply(ChangeBatch(item.table, item.record))
            if found.late is not None:
                raise FatalError("expected no late rows where lateness has no bound")
            if found.rows is not None:
                yield Parcel(COUNTED, None, found.rows)


class SumStage(_Stage):
    """Slot of the group: results as they change."""

    def __init__(self, plan: WindowPlan, context: Context) -> None:
        self._sums = Aggregates(plan, context.slots)
        super().__init__(self._sums.stores)

    def on_items(self, items: Sequence[Any]) -> Iterator[ChangeBatch]:
        """Rows with a sign in, results out."""
        for item in items:
            answers = self._sums.truncate() if isinstance(item, Truncate) else (self._sums.apply(item.record),)
            for answer in answers:
                if answer.late is not None or answer.refused is not None:
                    raise FatalError("expected neither late rows nor sums beyond their type")
                if answer.results is not None:
                    yield answer.results

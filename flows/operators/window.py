"""Windows over one table of changes, as two keyed steps; the result is an upsert log by group and window start.

    rows ──> contributions (slot of the row) ──> aggregates (slot of the group) ──> results
    watermarks ──────^────────────────────────────────^

At every moment the results equal the SQL aggregate over the table's rows (libcore/window.py says how, and what a bound
on lateness changes). Late rows come out as a table of their own, NAME_late; rows without an event time, and results
that do not fit their type, as dead letters.

State: of each row its key, groups, time and arguments; of each window its sums; for min, max and count distinct each
different value of a window. Measured with 1 million rows of two int64 keys, group, time and one decimal(18,4): 68 MB of
rows, 76 bytes a window with count and sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Stream, operator

from connectors.base.items import Truncate
from connectors.base.metrics import LATE_ROWS
from flows.operators.dead_letters import dead_letters
from flows.operators.join import Pick
from flows.operators.keyed import Context, Parcel, Watermark, keyed
from libcore.change import ChangeBatch
from libcore.errors import ConfigurationError
from libcore.table import RowStore
from libcore.window import Aggregates, Applied, Contributions, WindowPlan

ROWS, CONTRIBUTION = "rows", "contribution"


@operator
def window(
    step_id: str, up: Stream[Any], *marks: Stream[Watermark], plan: WindowPlan, flow: str, context: Context
) -> Stream[ChangeBatch]:
    """Aggregate a table's changes.

    Args:
        step_id: unique name of the step; part of the recovery store.
        up: ChangeBatch and Truncate items of plan.source; anything else is left out.
        marks: the watermarks, exactly where lateness has a bound: without one they would only awaken every slot.
        plan: from libcore.window.plan_window.
        flow: the pipeline's name, for dead letters.
        context: slots, processes, where state lies.
    Returns: batches of plan.result, plan.late and dead letters.
    Raises: ConfigurationError.
    """
    if len(marks) != plan.bounded:
        raise ConfigurationError(
            f"step {step_id}: expected {int(plan.bounded)} streams of watermarks for window {plan.name}, "
            f"found {len(marks)}"
        )
    picked = op.flat_map_batch("pick", up, Pick(ROWS, plan.source.name))
    # a keyless table keeps no rows: any slot will do
    key = plan.source.key or tuple(column.name for column in plan.source.columns)
    first = keyed(
        "contributions",
        op.merge("first", picked, *marks),
        lambda: ContributionsStage(step_id, plan, flow, context),
        {ROWS: key},
        context,
    )
    second = keyed(
        "aggregates",
        op.merge(
            "second",
            op.filter("contribution", first, _is_parcel),
            op.filter("truncates", picked, _is_truncate),
            *marks,
        ),
        lambda: AggregatesStage(step_id, plan, flow, context),
        {CONTRIBUTION: plan.group},
        context,
    )
    return op.merge("results", second, op.filter("aside", first, _is_batch))


def _is_parcel(item: Any) -> bool:
    return isinstance(item, Parcel)


def _is_truncate(item: Any) -> bool:
    return isinstance(item, Truncate)


def _is_batch(item: Any) -> bool:
    return isinstance(item, ChangeBatch)


class ContributionsStage:
    """Stage one: each change as a row to count out and one to count in."""

    def __init__(self, step_id: str, plan: WindowPlan, flow: str, context: Context) -> None:
        self._step_id, self._flow = step_id, flow
        self._contributions = Contributions(plan, context.slots)

    @property
    def stores(self) -> Mapping[str, RowStore]:
        """See Stage.stores."""
        return self._contributions.stores

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """See Stage.load."""
        self._contributions.stores[store].load(record)

    def on_items(self, items: Sequence[Any]) -> Iterator[Parcel | ChangeBatch]:
        """Parcels for stage two, late rows, dead letters."""
        for item in items:
            if isinstance(item, Watermark):
                self._contributions.advance(item.us)
            elif isinstance(item, Truncate):
                self._contributions.truncate()
            else:
                yield from self._changes(item)

    def _changes(self, parcel: Parcel) -> Iterator[Parcel | ChangeBatch]:
        assert parcel.table is not None
        found = self._contributions.apply(ChangeBatch(parcel.table, parcel.record))
        if found.rows is not None:
            yield Parcel(CONTRIBUTION, None, found.rows)
        if found.late is not None:
            LATE_ROWS.labels(self._step_id).inc(found.late.row_count)
            yield found.late
        if found.dead is not None:
            plan, rows = self._contributions.plan, range(found.dead.row_count)
            sentence = f"window {plan.name}: {plan.time}: expected an event time, found NULL or one beyond all windows"
            yield dead_letters(self._flow, self._step_id, found.dead, rows, [sentence] * len(rows))

    def epoch_ends(self) -> None:
        """Nothing to do."""

    def input_ends(self) -> Iterable[Any]:
        """Nothing comes of it."""
        return ()


class AggregatesStage:
    """Stage two: the sums of each window."""

    def __init__(self, step_id: str, plan: WindowPlan, flow: str, context: Context) -> None:
        self._step_id, self._flow = step_id, flow
        self._aggregates = Aggregates(plan, context.slots)

    @property
    def stores(self) -> Mapping[str, RowStore]:
        """See Stage.stores."""
        return self._aggregates.stores

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """See Stage.load."""
        self._aggregates.stores[store].load(record)

    def on_items(self, items: Sequence[Any]) -> Iterator[ChangeBatch]:
        """Results, late rows, dead letters."""
        for item in items:
            if isinstance(item, Watermark):
                given: Iterable[Applied] = self._aggregates.advance(item.us)
            elif isinstance(item, Truncate):
                given = self._aggregates.truncate()
            else:
                given = (self._aggregates.apply(item.record),)
            for applied in given:
                yield from self._batches(applied)

    def _batches(self, applied: Applied) -> Iterator[ChangeBatch]:
        if applied.results is not None:
            yield applied.results
        if applied.late is not None:
            LATE_ROWS.labels(self._step_id).inc(applied.late.row_count)
            yield applied.late
        if applied.refused is not None:
            batch, sentences = applied.refused
            yield dead_letters(self._flow, self._step_id, batch, range(len(sentences)), sentences)

    def epoch_ends(self) -> None:
        """Nothing to do."""

    def input_ends(self) -> Iterator[ChangeBatch]:
        """A real end of the input closes all windows; a stop does not come here."""
        for applied in self._aggregates.close():
            yield from self._batches(applied)

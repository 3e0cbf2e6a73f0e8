"""A step of one's own: a Python function over whole batches; a row that fails becomes a dead letter, the rest go on.

State: none. The function must treat each row by itself (and give the same answer on a replay): to find the rows that
fail, it is called again on halves of the batch, so its cost for k bad rows in n is about k * log2(n) more calls; where
it says which rows fail (RowsError), one more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import bytewax.operators as op
import pyarrow as pa
import structlog
from bytewax.dataflow import Stream, operator

from connectors.base.items import Item
from flows.operators.dead_letters import dead_letters
from libcore.change import ChangeBatch, arrow_schema
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import FatalError, RowsError
from libcore.schema import Table

BatchFunction = Callable[[ChangeBatch], Any]
"""ChangeBatch -> ChangeBatch, or a polars DataFrame with the same columns, control columns included."""
Around = Callable[[BatchFunction], BatchFunction]
"""Puts something around a step's function: a new version of it beside it (flows/operators/rollout.py)."""

_LOG = structlog.get_logger()


@operator
def batch_step(
    step_id: str, up: Stream[Item], function: BatchFunction, table_of: Callable[[Table], Table] | None = None
) -> Stream[Item]:
    """Run a function on every ChangeBatch; Ticks, Truncates and dead letters pass by.

    Args:
        step_id: unique name of the step.
        up: items of a source or of another step.
        function: gets a ChangeBatch (deletes included: their non-key columns are NULL), gives one, or a polars frame.
        table_of: what the table is afterwards, where the function changes columns or types; default: unchanged.
    Returns: the stream of items; failing rows as dead letters of this step.
    Raises: FatalError, logged, where the answer has not the columns of its table.
    """
    flow, _, step = step_id.partition(".")
    return op.flat_map_batch("batch", up, BatchStep(flow, step, function, table_of))


class BatchStep:
    """The mapper behind `batch_step`; to be used and tested without a dataflow as well."""

    def __init__(
        self, flow: str, step: str, function: BatchFunction, table_of: Callable[[Table], Table] | None = None
    ) -> None:
        self._flow, self._step, self._function = flow, step, function
        self._table_of = table_of or (lambda table: table)

    def __call__(self, items: Iterable[Item]) -> list[Item]:
        """Items out, in order; a batch's dead letters follow it."""
        out: list[Item] = []
        for item in items:
            if not isinstance(item, ChangeBatch) or item.table == DEAD_LETTERS or not item.row_count:
                out.append(item)
                continue
            failed: list[tuple[int, str]] = []
            out += [batch for batch in self._pieces(item, range(item.row_count), failed) if batch.row_count]
            if failed:
                rows, errors = zip(*failed, strict=True)
                out.append(dead_letters(self._flow, self._step, item, rows, errors))
        return out

    def _pieces(self, batch: ChangeBatch, rows: Sequence[int], failed: list[tuple[int, str]]) -> Iterator[ChangeBatch]:
        """The answers of as many rows at once as pass; the others, `rows` says their numbers, go to `failed`."""
        try:
            answer = self._function(batch)
        except FatalError as error:  # not about the rows: going on could lose one
            _LOG.error("a step must stop", flow=self._flow, step=self._step, table=batch.table.name, error=str(error))
            raise
        except RowsError as error:
            self._log("rows failed", batch, error)
            failed += [(rows[row], f"DataError: {sentence}") for row, sentence in error.rows.items()]
            if left := [row for row in range(batch.row_count) if row not in error.rows]:
                others = ChangeBatch(batch.table, batch.record.take(pa.array(left, pa.int64())))
                yield from self._pieces(others, [rows[row] for row in left], failed)
            return
        except Exception as error:  # whatever a user's function raises is about its rows
            if batch.row_count == 1:
                self._log("a row failed", batch, error)
                failed.append((rows[0], f"{type(error).__name__}: {error}"))
                return
            half = batch.row_count // 2
            yield from self._pieces(batch.slice(0, half), rows[:half], failed)
            yield from self._pieces(batch.slice(half), rows[half:], failed)
            return
        yield self._checked(answer, batch)

    def _log(self, event: str, batch: ChangeBatch, error: Exception) -> None:
        """Not the error's text, which may quote the row: a mask behind this step must hold for logs too."""
        kind, table = type(error).__name__, batch.table.name
        _LOG.warning(event, flow=self._flow, step=self._step, table=table, error=kind)

    def _checked(self, answer: Any, batch: ChangeBatch) -> ChangeBatch:
        table = self._table_of(batch.table)
        try:
            made = answer if isinstance(answer, ChangeBatch) else ChangeBatch.from_polars(table, answer)
            expected = arrow_schema(made.table, made.has_unset)
            if made.record.schema.equals(expected):
                return made
            fault = f"expected columns {expected.names}, found {made.record.schema.names}"
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        _LOG.error("a step's answer is no batch", flow=self._flow, step=self._step, table=batch.table.name, error=fault)
        raise FatalError(f"step {self._step}: the answer for table {batch.table.name} does not fit: {fault}")

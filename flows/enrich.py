"""The shape of a pipeline with steps: changes come from a source, pass through joins and sums, and go to the sink."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import FixedPartitionedSink

from connectors.base.clock import ClockSource, SourceWithClock
from connectors.base.items import Item, Truncate
from flows.operators.due import only_clocks, without_clocks
from flows.operators.keyed import Context
from flows.operators.mask_letters import Withhold, all_of
from flows.operators.seen import Seeing
from flows.operators.watermarks import WatermarkSettings, watermarks
from libcore.change import ChangeBatch

Step = Callable[[Stream[Any], Context], Stream[Any]]
"""From the stream of all items to the stream of the step's results."""


@dataclass(frozen=True)
class EventTime:
    """Where a window's event time comes from.

    Args:
        topic: the table, column: its column as the source has it.
        settings: what the watermark waits for.
        partition: the source partition that brings the table; "": those of its topic.
    """

    topic: str
    column: str
    settings: WatermarkSettings
    partition: str = ""


@dataclass(frozen=True)
class Stateful:
    """One step, ready to be drawn.

    Args:
        id: part of the recovery store.
        draw: makes the step.
        last_read: tables that nothing reads behind this step, and that are not written.
        clock_us: the step wants a Clock that often, in microseconds; 0: it wants none.
        event_time: the step wants watermarks, made of this; None: it wants none.
        withhold: (step, table) of dead letters -> columns of theirs that nobody may read in clear (a `mask` step's).
    """

    id: str
    draw: Step
    last_read: frozenset[str]
    clock_us: int = 0
    event_time: EventTime | None = None
    withhold: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)


def enrich(
    name: str,
    source: FixedPartitionedSource[Item, Any],
    shape: Callable[[Iterable[Item]], list[Item]],
    steps: Sequence[Stateful],
    context: Context,
    parts: Callable[[Iterable[Item]], list[tuple[str, Item]]],
    sink: FixedPartitionedSink[Item, Any],
    whole: Callable[[Stream[Item]], Stream[Item]] | None = None,
    clock: ClockSource | None = None,
) -> Dataflow:
    """Source -> shape -> steps -> parts -> sink. Ticks and dead letters pass by the steps.

    Args:
        name: the flow's name, part of the recovery store too.
        source: gives ChangeBatch, Tick and Truncate items; makes the epochs.
        shape: each table's `where`, `drop` and `rename`.
        steps: in order; each reads the items of its tables and adds its result's.
        context: slots, processes, where state lies.
        parts: says which sink part each batch goes to.
        sink: spools each part's items durably and applies them once their epoch is durable.
        whole: the document step, which gathers whole transactions; None: there is none.
        clock: tells the time to those steps that want it; needed where one does.
    """
    flow = Dataflow(name)
    if clock is None:
        read, times = op.input("source", flow, source), None
    else:
        both = op.input("source", flow, SourceWithClock(source, clock))
        read, times = op.flat_map_batch("items", both, without_clocks), op.flat_map_batch("times", both, only_clocks)
    items = op.flat_map_batch("prepare", read if whole is None else whole(read), shape)
    for step in steps:
        seen = op.merge(f"{step.id}-times", items, times) if step.clock_us and times is not None else items
        if step.event_time is not None:
            time = step.event_time
            shown = op.flat_map_batch(f"{step.id}-seen", read, Seeing(time.topic, time.column, time.partition))
            seen = op.merge(f"{step.id}-timed", seen, watermarks(f"{step.id}-watermark", shown, time.settings))
        results = step.draw(seen, context)
        left = op.flat_map_batch(f"{step.id}-past", items, Past(step.last_read))
        items = op.merge(f"{step.id}-and", left, results)
    if withhold := all_of(step.withhold for step in steps):
        items = op.flat_map_batch("letters", items, Withhold(withhold))
    op.output("sink", op.flat_map_batch("shape", items, parts), sink)
    return flow


class Past:
    """The mapper that lets go what nobody behind a step reads."""

    def __init__(self, tables: frozenset[str]) -> None:
        self._tables = tables

    def __call__(self, items: Iterable[Any]) -> list[Any]:
        """All other items, in order."""
        return [item for item in items if self._name(item) not in self._tables]

    @staticmethod
    def _name(item: Any) -> str | None:
        if isinstance(item, ChangeBatch):
            return item.table.name
        return item.table if isinstance(item, Truncate) else None

"""The shape of a pipeline that sums up: changes come from a source, are summed in windows, and go to the sink."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import FixedPartitionedSink

from connectors.base.items import Item
from flows.enrich import Past
from flows.operators.keyed import Context
from flows.operators.watermarks import Seen, WatermarkSettings, watermarks
from flows.operators.window import window
from libcore.window import WindowPlan


def aggregate(
    name: str,
    source: FixedPartitionedSource[Item, Any],
    shape: Callable[[Iterable[Item]], list[Item]],
    seen: Callable[[Iterable[Item]], list[Seen]],
    settings: WatermarkSettings,
    plan: WindowPlan,
    context: Context,
    parts: Callable[[Iterable[Item]], list[tuple[str, Item]]],
    sink: FixedPartitionedSink[Item, Any],
) -> Dataflow:
    """Source -> shape -> window -> parts -> sink; where lateness has a bound, time goes straight to the window.

    Args:
        name: the flow's name, part of the recovery store too.
        source: gives ChangeBatch, Tick and Truncate items; makes the epochs.
        shape: each table's `where`, `drop` and `rename`.
        seen: what the items of an epoch tell of their source partition's event time.
        settings: what the watermark waits for.
        plan: the window step; its table is not written.
        context: slots, processes, where state lies.
        parts: says which sink part each batch goes to.
        sink: spools each part's items durably and applies them once their epoch is durable.
    """
    flow = Dataflow(name)
    items = op.input("source", flow, source)
    marks = [watermarks("watermark", op.flat_map_batch("seen", items, seen), settings)] if plan.bounded else []
    rows = op.flat_map_batch("prepare", items, shape)
    results = window("window", rows, *marks, plan=plan, flow=name, context=context)
    others = op.flat_map_batch("past", rows, Past(frozenset({plan.source.name})))
    op.output("sink", op.flat_map_batch("shape", op.merge("all", others, results), parts), sink)
    return flow

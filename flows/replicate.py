"""The main shape of a pipeline: changes come from a source, take the target's form, and go to the sink."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import FixedPartitionedSource
from bytewax.outputs import FixedPartitionedSink

from connectors.base.items import Item

SOURCE, SHAPE, SINK = "source", "shape", "sink"
"""Step names are part of the recovery store: a renamed step loses its state."""


def replicate(
    name: str,
    source: FixedPartitionedSource[Item, Any],
    shape: Callable[[Iterable[Item]], list[tuple[str, Item]]],
    sink: FixedPartitionedSink[Item, Any],
    whole: Callable[[Stream[Item]], Stream[Item]] | None = None,
) -> Dataflow:
    """Source -> shape -> sink.

    Args:
        name: the flow's name, part of the recovery store too.
        source: gives ChangeBatch, Tick and Truncate items; makes the epochs.
        shape: brings each batch into its target table's form and says which sink part it goes to.
        sink: spools each part's items durably and applies them once their epoch is durable.
        whole: the document step, which gathers whole transactions; None: there is none.
    """
    flow = Dataflow(name)
    changes = op.input(SOURCE, flow, source)
    if whole is not None:
        changes = whole(changes)
    routed = op.flat_map_batch(SHAPE, changes, shape)
    op.output(SINK, routed, sink)
    return flow

"""What a person imports who writes a flow in Python: typed streams from a source, through steps, to a durable sink.

    prepared = prepare("customers.toml")
    flow = Dataflow(prepared.name)
    changes = kafka_source("source", flow, prepared)              # Stream[Item]
    upper = batch_step("upper", changes, uppercase)               # Stream[Item]
    durable_sink("sink", shape("shape", upper, prepared), prepared)

Step ids are part of the recovery store: a renamed step loses its state. See docs/python-api.md.
"""

from __future__ import annotations

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.operators import KeyedStream

from connectors.base.items import ClearColumn, Item, Tick, Truncate
from flows.build import Prepared, prepare
from flows.operators.batch import batch_step
from flows.recovery import check_durable
from libcore.change import ChangeBatch, Op
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type

__all__ = [
    "ChangeBatch",
    "ClearColumn",
    "Column",
    "Item",
    "Op",
    "Prepared",
    "Table",
    "Tick",
    "Truncate",
    "batch_step",
    "check_durable",
    "durable_sink",
    "kafka_source",
    "parse_type",
    "postgres_sink",
    "prepare",
    "shape",
]


def kafka_source(step_id: str, flow: Dataflow, prepared: Prepared) -> Stream[Item]:
    """The pipeline's topics as a stream of ChangeBatch, Tick, Truncate and ClearColumn items.

    With [document] in the file they come in whole transactions (docs/document.md).

    Args:
        step_id: unique name of the step. flow: the dataflow it begins. prepared: from `prepare`.
    """
    read = op.input(step_id, flow, prepared.source)
    return read if prepared.whole is None else prepared.whole(read)


def shape(step_id: str, up: Stream[Item], prepared: Prepared) -> KeyedStream[Item]:
    """The pipeline's `where`, `drop` and `rename`, then the split over the sink's parts; what a sink needs in front."""
    return op.flat_map_batch(step_id, up, prepared.shaper)


def durable_sink(step_id: str, up: KeyedStream[Item], prepared: Prepared) -> None:
    """The pipeline's target behind its spool, exactly once in effect; `up` comes from `shape`."""
    op.output(step_id, up, prepared.sink)


def postgres_sink(step_id: str, up: KeyedStream[Item], prepared: Prepared) -> None:
    """`durable_sink`, where the pipeline file has a [sink.postgres]. Raises ConfigurationError where it has another."""
    if prepared.pipeline.sink.name != "postgres":
        raise ConfigurationError(
            f"step {step_id}: expected [sink.postgres], found [sink.{prepared.pipeline.sink.name}]"
        )
    durable_sink(step_id, up, prepared)

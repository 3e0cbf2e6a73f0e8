"""A flow of one's own: a pipeline file's tables, with every `name` in capital letters.

python -m bytewax.run "flows.examples.uppercase:flow('flows/pipelines/customers.toml')" -r DIR -s 0 -b 0
"""

from __future__ import annotations

from typing import Any

import polars as pl
from bytewax.dataflow import Dataflow

from flows.api import ChangeBatch, batch_step, check_durable, durable_sink, kafka_source, prepare, shape


def uppercase(batch: ChangeBatch) -> pl.DataFrame:
    """Names in capitals; a row without a letter is a mistake, and becomes a dead letter."""
    frame: pl.DataFrame = batch.to_polars()
    if frame["name"].str.contains(r"^[^\pL]*$").any():
        raise ValueError("expected a name with a letter in it")
    return frame.with_columns(pl.col("name").str.to_uppercase())


def flow(path: str, **options: Any) -> Dataflow:
    """The dataflow of a pipeline file with the step in between."""
    prepared = prepare(path, **options)
    dataflow = Dataflow(prepared.name)
    changes = kafka_source("source", dataflow, prepared)
    upper = batch_step("upper", changes, uppercase)
    durable_sink("sink", shape("shape", upper, prepared), prepared)
    check_durable(dataflow)
    return dataflow

"""What the results of steps must be is known for every row that has an answer; the others are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flows import spec, topics
from flows.reading import declared_table
from flows.stateful import compile_steps
from flows.verify_steps import StepTruth
from libcore.schema import Table

PIPELINE = """
name = "answers"
[source.kafka]
servers = "localhost:1"
[tables.items]
topic = "items"
key = ["id"]
[tables.items.columns]
id = "int64"
price = "int32"
[[step]]
select = { double = "price * 2" }
of = "items"
types = { double = "int32" }
as = "doubled"
[sink.null]
"""


@pytest.fixture
def truth(tmp_path: Path) -> Any:
    pipeline = spec.parse(PIPELINE, "x.toml")
    bindings = topics.resolve(pipeline, {"items": 1})

    def shaped(binding: topics.Binding) -> Table:
        found = declared_table(binding)
        assert found is not None
        return found

    _, tables = compile_steps(pipeline, bindings, shaped, "x.toml")
    made = StepTruth(pipeline, tables, tmp_path, 0)
    yield made, pipeline.wiring.steps[0]
    made.close()


@pytest.mark.parametrize("bad", [[], [0], [6], [2, 3], list(range(7))])
def test_rows_without_an_answer_are_counted_and_all_others_are_there(truth: Any, bad: list[int]) -> None:
    """Whatever rows an expression fails on, the truth has the answers of the others and their number."""
    steps, wired = truth
    prices = [2**31 - 1 if row in bad else row for row in range(7)]
    steps.add(
        wired.inputs[0], pa.record_batch({"id": pa.array(range(7), pa.int64()), "price": pa.array(prices, pa.int32())})
    )
    steps.compute()
    found = {row["id"]: row["double"] for batch in steps.results(wired) for row in batch.record.to_pylist()}
    assert found == {row: 2 * row for row in range(7) if row not in bad}
    assert steps.refused == len(bad)


def test_no_rows_are_no_answers(truth: Any) -> None:
    """An empty table has an empty result."""
    steps, wired = truth
    steps.compute()
    assert (list(steps.results(wired)), steps.refused) == ([], 0)

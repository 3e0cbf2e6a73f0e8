"""A segment as steps, in an order in which rows of tied tables do not stand in each other's way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from connectors.postgres.plan import Plan
from libcore.change import Op, op_is
from libcore.schema import Table


@dataclass(frozen=True)
class Step:
    """Rows of one table and the plan that brings them in."""

    plan: Plan
    record: pa.RecordBatch


@dataclass(frozen=True)
class Unfit:
    """Rows of a table whose shape the target refuses, and why."""

    table: Table
    record: pa.RecordBatch
    error: str


def order(steps: Sequence[Step]) -> list[Step]:
    """Tables without ties as they came; of tied ones first all deletes, children first, then upserts, parents first."""
    free = [step for step in steps if not step.plan.single_part]
    tied = [step for step in steps if step.plan.single_part]
    if not tied:
        return free
    shapes = {(step.plan.shape.schema, step.plan.shape.name) for step in tied}
    depths: dict[tuple[str, str], int] = {name: 0 for name in shapes}
    for _ in shapes:  # a chain is at most that long; a circle stops growing here
        for step in tied:
            name = (step.plan.shape.schema, step.plan.shape.name)
            above = [depths[parent] + 1 for parent in step.plan.shape.parents if parent in depths and parent != name]
            depths[name] = max([depths[name], *above])

    def depth(step: Step) -> int:
        return depths[(step.plan.shape.schema, step.plan.shape.name)]

    runs = _shape_runs(tied)
    done: list[Step] = []
    for run in runs:
        deletes = [Step(step.plan, part) for step in run if (part := deletes_of(step.record)).num_rows]
        upserts = [Step(step.plan, part) for step in run if (part := upserts_of(step.record)).num_rows]
        done += sorted(deletes, key=depth, reverse=True) + sorted(upserts, key=depth)
    return free + done


def _shape_runs(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps in runs in which each table comes once: a second shape of a table must not overtake the first."""
    runs: list[list[Step]] = [[]]
    for step in steps:
        if any(other.plan.table.name == step.plan.table.name for other in runs[-1]):
            runs.append([])
        runs[-1].append(step)
    return runs


def deletes_of(record: pa.RecordBatch) -> pa.RecordBatch:
    """Its DELETE rows."""
    return record.filter(op_is(record, Op.DELETE))


def upserts_of(record: pa.RecordBatch) -> pa.RecordBatch:
    """Its rows that stay: UPSERT and INSERT."""
    return record.filter(pc.invert(op_is(record, Op.DELETE)))

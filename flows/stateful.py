"""The `[[step]]`s of a pipeline file made ready to be drawn: tables fitted to each other, plans checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream

from flows import spec
from flows.enrich import Stateful
from flows.event_time import event_time
from flows.operators.due import due
from flows.operators.join import join
from flows.operators.keyed import Context, Watermark
from flows.operators.select import Select, SelectPlan, plan_select
from flows.operators.window import window
from flows.spec_steps import DueStep, GroupStep, JoinStep, SelectStep, WindowStep
from flows.spec_wiring import Node, Wired
from flows.topics import Binding
from libcore.due import DuePlan, plan_due
from libcore.errors import ConfigurationError
from libcore.join import plan_join
from libcore.schema import Table
from libcore.window import WindowPlan, plan_window


def compile_steps(
    pipeline: spec.Pipeline, bindings: Sequence[Binding], shaped: Callable[[Binding], Table], file: str
) -> tuple[tuple[Stateful, ...], dict[Node, Table]]:
    """The steps, and the table of every stream.

    Args:
        shaped: the table that a topic's rows have behind its `where`, `drop` and `rename`.
        file: the pipeline file, for messages.
    Raises: ConfigurationError with file, step, what was expected and found.
    """
    wiring = pipeline.wiring
    by_setting = {binding.setting: binding for binding in bindings}
    read = {node for step in wiring.steps for node in step.inputs}
    tables: dict[Node, Table] = {}
    for node in read:
        if node.step < 0:
            tables[node] = shaped(by_setting[node.name])
    steps = []
    for index, wired in enumerate(wiring.steps):
        try:
            table, draw, late = _compiled(pipeline.name, wired, tables)
            times = event_time(wired, wiring, by_setting) if wired.late is not None else None
        except ConfigurationError as error:
            raise ConfigurationError(f"step {index + 1} ({wired.id}): {error.message}", file=file) from error
        tables[wired.output] = table
        if wired.late is not None and late is not None:
            tables[wired.late] = late
        later = {node for step in wiring.steps[index + 1 :] for node in step.inputs}
        gone = {node for node in wired.inputs if node not in later and node not in wiring.written}
        clock_us = wired.spec.every if isinstance(wired.spec, DueStep) else 0
        steps.append(Stateful(wired.id, draw, frozenset(tables[node].name for node in gone), clock_us, times))
    return tuple(steps), tables


def _compiled(
    flow: str, wired: Wired, tables: Mapping[Node, Table]
) -> tuple[Table, Callable[[Stream[Any], Context], Stream[Any]], Table | None]:
    """(table of the results, what draws the step, table of the late rows)."""
    step = wired.spec
    if isinstance(step, JoinStep):
        fact, dimension = (tables[node] for node in wired.inputs)
        # A topic's text may come unset (an unchanged large value); in a step's result the step has filled it.
        kept = () if wired.inputs[0].step >= 0 else None
        plan = plan_join(fact, dimension, step.on, step.taken, step.how, wired.output.name, kept=kept)
        return plan.result, partial(_draw_join, wired.id, plan), None
    if isinstance(step, SelectStep):
        (node,) = wired.inputs
        selected = plan_select(tables[node], step.select, step.types, step.drop, wired.output.name)
        return selected.result, partial(_draw_select, flow, wired.id, selected), None
    if isinstance(step, DueStep):
        flagged = plan_due(tables[wired.inputs[0]], step.at, step.flag, step.zone, wired.output.name)
        return flagged.result, partial(_draw_due, wired.id, flagged), None
    summed = _plan_aggregates(step, tables[wired.inputs[0]])
    return summed.result, partial(_draw_window, flow, wired.id, summed), summed.late


def _plan_aggregates(step: GroupStep | WindowStep, table: Table) -> WindowPlan:
    if isinstance(step, GroupStep):
        return plan_window(table, step.by, None, "all", step.aggregate, name=step.as_)
    size, gap = step.size or 0, step.gap or 0
    kind = "session" if gap else "tumbling" if step.slide in (None, size) else "sliding"
    return plan_window(
        table,
        step.by,
        step.time,
        kind,
        step.aggregate,
        size_us=size,
        slide_us=0 if gap else step.slide or size,
        gap_us=gap,
        emit=step.emit,
        allowed_lateness_us=step.allowed_lateness,
        name=step.as_,
    )


def _draw_join(step_id: str, plan: Any, items: Stream[Any], context: Context) -> Stream[Any]:
    return join(step_id, items, items, plan, context)


def _draw_window(flow: str, step_id: str, plan: WindowPlan, items: Stream[Any], context: Context) -> Stream[Any]:
    marks = [op.flat_map_batch(f"{step_id}-marks", items, _watermarks)] if plan.bounded else []
    return window(step_id, items, *marks, plan=plan, flow=flow, context=context)


def _watermarks(items: list[Any]) -> list[Any]:
    return [item for item in items if isinstance(item, Watermark)]


def _draw_due(step_id: str, plan: DuePlan, items: Stream[Any], context: Context) -> Stream[Any]:
    return due(step_id, items, plan, context)


def _draw_select(flow: str, step_id: str, plan: SelectPlan, items: Stream[Any], context: Context) -> Stream[Any]:
    return op.flat_map_batch(step_id, items, Select(flow, step_id, plan))

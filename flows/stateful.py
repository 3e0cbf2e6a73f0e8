"""The `[[step]]`s of a pipeline file made ready to be drawn: tables fitted to each other, plans checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream

from flows import spec
from flows.enrich import Stateful
from flows.event_time import event_time
from flows.mask_lineage import withheld
from flows.mask_plan import compile_mask, replanned
from flows.operators.due import due
from flows.operators.join import join
from flows.operators.keyed import Context, Watermark
from flows.operators.mask import Mask
from flows.operators.mask_letters import all_of
from flows.operators.select import Select, plan_select
from flows.operators.transform import Transform
from flows.operators.user_function import Call, CallPlan
from flows.operators.window import window
from flows.rollout import Candidate, call_candidate, mask_candidate, select_candidate, transform_candidate
from flows.spec_steps import (
    CallStep,
    DueStep,
    GroupStep,
    JoinStep,
    MaskStep,
    RowStep,
    SelectStep,
    TransformStep,
    WindowStep,
)
from flows.spec_wiring import Node, Wired
from flows.topics import Binding
from flows.transform_plan import compile_transform
from flows.user_function_plan import compile_call, marker_of
from libcore.due import DuePlan, plan_due
from libcore.errors import ConfigurationError
from libcore.join import plan_join
from libcore.schema import Table
from libcore.window import WindowPlan, plan_window


def compile_steps(
    pipeline: spec.Pipeline,
    bindings: Sequence[Binding],
    shaped: Callable[[Binding], Table],
    file: str,
    state: Path | None = None,
) -> tuple[tuple[Stateful, ...], dict[Node, Table]]:
    """The steps, and the table of every stream.

    Args:
        shaped: the table that a topic's rows have behind its `where`, `drop` and `rename`.
        file: the pipeline file, for messages, and where libraries are looked for.
        state: the state directory, where a `call` step keeps what it knows of crashes; None: the steps do not run.
    Raises: ConfigurationError with file, step, what was expected and found.
    """
    wiring = pipeline.wiring
    by_setting = {binding.setting: binding for binding in bindings}
    read = {node for step in wiring.steps for node in step.inputs}
    tables: dict[Node, Table] = {}
    unfilled: set[Node] = set()
    for node in read:
        if node.step < 0:
            tables[node] = shaped(by_setting[node.name])
    steps, candidates = [], list[Candidate]()
    for index, wired in enumerate(wiring.steps):
        try:
            table, draw, late = _compiled(pipeline, wired, tables, unfilled, (Path(file), state), candidates)
            times = event_time(wired, wiring, by_setting) if wired.late is not None else None
        except ConfigurationError as error:
            raise ConfigurationError(f"step {index + 1} ({wired.id}): {error.message}", file=file) from error
        tables[wired.output] = table
        first = wired.inputs[0]
        if isinstance(wired.spec, RowStep) and (first.step < 0 or first in unfilled):
            unfilled.add(wired.output)  # it has no state to fill a row from: what comes unset leaves unset
        if wired.late is not None and late is not None:
            tables[wired.late] = late
        later = {node for step in wiring.steps[index + 1 :] for node in step.inputs}
        gone = {node for node in wired.inputs if node not in later and node not in wiring.written}
        clock_us = wired.spec.every if isinstance(wired.spec, DueStep) else 0
        withhold = withheld(wired, wiring, tables, by_setting) if isinstance(wired.spec, MaskStep) else {}
        last_read = frozenset(tables[node].name for node in gone)
        steps.append(Stateful(wired.id, draw, last_read, clock_us, times, withhold))
    for candidate in candidates:
        candidate.hide(all_of(step.withhold for step in steps))
    return tuple(steps), tables


def _compiled(
    pipeline: spec.Pipeline,
    wired: Wired,
    tables: Mapping[Node, Table],
    unfilled: Collection[Node],
    places: tuple[Path, Path | None],
    candidates: list[Candidate],
) -> tuple[Table, Callable[[Stream[Any], Context], Stream[Any]], Table | None]:
    """(table of the results, what draws the step, table of the late rows).

    Args:
        places: pipeline file, state directory.
        candidates: new versions of steps are added there.
    """
    step, flow = wired.spec, pipeline.name
    if isinstance(step, JoinStep):
        fact, dimension = (tables[node] for node in wired.inputs)
        # A topic's text may come unset (an unchanged large value); in a step's result the step has filled it.
        first = wired.inputs[0]
        kept = () if first.step >= 0 and first not in unfilled else None
        plan = plan_join(fact, dimension, step.on, step.taken, step.how, wired.output.name, kept=kept)
        return plan.result, partial(_draw_join, wired.id, plan), None
    if isinstance(step, SelectStep):
        (node,) = wired.inputs
        selected = plan_select(tables[node], step.select, step.types, step.drop, wired.output.name)
        new = select_candidate(pipeline, wired, selected, places[1])
        candidates += [] if new is None else [new]
        return selected.result, partial(_draw_mapped, partial(Select, flow, wired.id, selected), wired.id, new), None
    if isinstance(step, TransformStep):
        computed = compile_transform(step, tables[wired.inputs[0]], wired.output.name, places[0])
        new = transform_candidate(pipeline, wired, computed, *places)
        candidates += [] if new is None else [new]
        return computed.result, partial(_draw_mapped, partial(Transform, flow, wired.id, computed), wired.id, new), None
    if isinstance(step, MaskStep):
        masked = compile_mask(step, tables[wired.inputs[0]], wired.output.name)
        new = mask_candidate(pipeline, wired, masked, places[1])
        candidates += [] if new is None else [new]
        mapper = partial(Mask, flow, wired.id, masked, replanned(masked))
        return masked.result, partial(_draw_mapped, mapper, wired.id, new), None
    if isinstance(step, CallStep):
        called = compile_call(step, tables[wired.inputs[0]], wired.output.name, places[0])
        new = call_candidate(pipeline, wired, called, *places)
        candidates += [] if new is None else [new]
        return called.result, partial(_draw_call, flow, wired, called, new, places), None
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


def _draw_mapped(
    make: Callable[[], Select | Mask], step_id: str, new: Candidate | None, items: Stream[Any], context: Context
) -> Stream[Any]:
    return _beside(step_id, new, make(), items, context)


def _draw_call(
    flow: str,
    wired: Wired,
    plan: CallPlan,
    new: Candidate | None,
    places: tuple[Path, Path | None],
    items: Stream[Any],
    context: Context,
) -> Stream[Any]:
    step, (file, state) = wired.spec, places
    assert isinstance(step, CallStep) and state is not None, "steps that run have a state directory"
    marker = marker_of(step, wired.id, file, state, context.process)
    mapper = Call(flow, wired.id, plan, marker.running, marker.quarantine)
    return _beside(wired.id, new, mapper, items, context)


def _beside(
    step_id: str, new: Candidate | None, mapper: Select | Mask, items: Stream[Any], context: Context
) -> Stream[Any]:
    """The step with its mapper, which gets its new version beside it where there is one."""
    if new is None:
        return op.flat_map_batch(step_id, items, mapper)
    rolling = new.start(context.process)
    old = new.old
    mapper.beside(rolling.around if old is None else lambda _: rolling.around(old))
    return op.flat_map_batch(step_id, items, rolling.mapper(mapper))

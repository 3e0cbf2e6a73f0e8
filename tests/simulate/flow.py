"""A scenario as a dataflow of the real operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream

from connectors.base.items import Item
from flows.enrich import EventTime, Stateful, enrich
from flows.operators.document import Rules, document
from flows.operators.due import due
from flows.operators.join import join
from flows.operators.keyed import Context, Watermark
from flows.operators.shape import Shaper, TableShape
from flows.operators.watermarks import WatermarkSettings
from flows.operators.window import window
from flows.reading import remembering
from flows.state.store import Store, grown
from libcore.due import DuePlan, plan_due
from libcore.join import JoinPlan, plan_join
from libcore.schema import Table
from libcore.window import WindowPlan, plan_window
from tests.simulate.ends import Ending, PlannedClock, PlannedSource, Target
from tests.simulate.model import CLOCK, Due, Join, Run, Scenario, Step, Window, messages, reads

NAME = "simulated"
PARTS = 2
_NEVER_S = 1e6  # no partition becomes idle in a simulated run


def dataflow(
    scenario: Scenario,
    run: Run,
    ending: Ending,
    context: Context,
    state: Path,
    shown: Path | None = None,
) -> tuple[Dataflow, Target]:
    """The flow of one worker, and its target, whose parts are to be read after the run.

    Args:
        state: directory in which the columns of tables are remembered.
        shown: directory for files of the target's rows.
    """
    held = messages(scenario)
    clock: Any = None
    if (times := held.pop(CLOCK, None)) is not None:
        clock = PlannedClock(scenario, {CLOCK: times}, run.plan, ending)
    source = PlannedSource(scenario, held, run.plan, ending)
    placed = frozenset(topic.table.name for topic in scenario.topics) if scenario.document else frozenset[str]()
    target = Target(PARTS, ending, context.writes, shown, placed)
    shaper = Shaper(NAME, lambda name: TableShape(single_part=scenario.document), context.slots, PARTS)

    def shape(items: Iterable[Item]) -> list[Item]:
        ending.at("stage")
        return list(items)

    whole = partial(_draw_document, context) if scenario.document else None
    store = Store(state, NAME, context.slots, PARTS)
    seen = {topic.table.name: store.table(topic.table.name) for topic in scenario.topics}
    known = {topic.table.name: grown(topic.narrow, seen[topic.table.name] or topic.narrow) for topic in scenario.topics}
    made = steps(scenario, known)
    looking = remembering(shape, known, store.remember_table)
    return enrich(NAME, source, looking, made, context, shaper, target, whole, clock), target


def steps(scenario: Scenario, tables: Mapping[str, Table]) -> list[Stateful]:
    """The steps, drawn as a pipeline file would have them; source tables end behind the last step that reads them."""
    known, sources, made = dict(tables), set(tables), []
    for number, step in enumerate(scenario.steps):
        later = {name for other in scenario.steps[number + 1 :] for name in reads(other)}
        # whole transactions are seen in the source tables
        gone = frozenset() if scenario.document else frozenset((set(reads(step)) & sources) - later)
        table, draw, late = _planned(step, known)
        known[step.out] = table
        times = _event_time(scenario, step) if late else None
        made.append(Stateful(f"step-{step.out}", draw, gone, int(isinstance(step, Due)), times))
    return made


def _planned(step: Step, tables: Mapping[str, Table]) -> tuple[Table, Callable[[Stream[Any], Context], Any], bool]:
    """(the result, what draws the step, whether it wants watermarks)."""
    if isinstance(step, Join):
        plan = plan_join(tables[step.fact], tables[step.dimension], dict(step.on), dict(step.take), step.how, step.out)
        return plan.result, partial(_draw_join, f"join-{step.out}", plan), False
    if isinstance(step, Due):
        due_plan = plan_due(tables[step.table], step.at, step.flag, step.zone, step.out)
        return due_plan.result, partial(_draw_due, f"due-{step.out}", due_plan), False
    window_plan = _plan_window(tables[step.table], step)
    return window_plan.result, partial(_draw_window, f"window-{step.out}", window_plan), window_plan.bounded


def origin(scenario: Scenario, table: str, column: str) -> tuple[str, str]:
    """(source table, its column) that a column of a step's result is copied from."""
    step = next((step for step in scenario.steps if step.out == table), None)
    if step is None:
        return table, column
    if isinstance(step, Join):
        for there, here in step.take:
            if here == column:
                return origin(scenario, step.dimension, there)
    return origin(scenario, reads(step)[0], column)


def _event_time(scenario: Scenario, step: Step) -> EventTime:
    assert isinstance(step, Window) and step.time is not None
    table, column = origin(scenario, step.table, step.time)
    partitions = tuple(f"{table}/{number}" for number in range(scenario.topic(table).partitions))
    return EventTime(table, column, WatermarkSettings(partitions, step.out_of_order_us, _NEVER_S))


def _plan_window(table: Table, step: Window) -> WindowPlan:
    return plan_window(
        table,
        step.by,
        step.time,
        step.kind,
        dict(step.aggregates),
        size_us=step.size_us,
        slide_us=step.slide_us,
        gap_us=step.gap_us,
        emit=step.emit,
        allowed_lateness_us=step.lateness_us,
        name=step.out,
    )


def _draw_window(step_id: str, plan: WindowPlan, items: Stream[Any], context: Context) -> Stream[Any]:
    marks = [op.flat_map_batch(f"{step_id}-marks", items, _watermarks)] if plan.bounded else []
    return window(step_id, items, *marks, plan=plan, flow=NAME, context=context)


def _watermarks(items: list[Any]) -> list[Any]:
    return [item for item in items if isinstance(item, Watermark)]


def _draw_join(step_id: str, plan: JoinPlan, items: Stream[Any], context: Context) -> Stream[Any]:
    return join(step_id, items, items, plan, context)


def _draw_due(step_id: str, plan: DuePlan, items: Stream[Any], context: Context) -> Stream[Any]:
    return due(step_id, items, plan, context)


def _draw_document(context: Context, items: Stream[Any]) -> Stream[Any]:
    return document("document", items, Rules(NAME, lambda table: table, timeout_s=_NEVER_S), context)

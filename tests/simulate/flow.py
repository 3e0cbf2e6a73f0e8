"""A scenario as a dataflow of the real operators."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from bytewax.dataflow import Dataflow, Stream

from connectors.base.items import Item
from flows.enrich import Stateful, enrich
from flows.operators.join import join
from flows.operators.keyed import Context
from flows.operators.shape import Shaper, TableShape
from libcore.join import JoinPlan, plan_join
from libcore.schema import Table
from libcore.window import WindowPlan, plan_window
from tests.simulate.ends import Ending, PlannedSource, Target
from tests.simulate.model import Join, Run, Scenario, Window, messages
from tests.simulate.windowed import window

NAME = "simulated"
PARTS = 2


def dataflow(
    scenario: Scenario, run: Run, ending: Ending, context: Context, shown: Path | None = None
) -> tuple[Dataflow, Target]:
    """The flow of one worker, and its target, whose parts are to be read after the run."""
    tables = {topic.table.name: topic.table for topic in scenario.topics}
    source = PlannedSource(tables, messages(scenario), run.plan, ending)
    target = Target(PARTS, ending, shown)
    shaper = Shaper(NAME, lambda name: TableShape(), context.slots, PARTS)

    def shape(items: Iterable[Item]) -> list[Item]:
        ending.at("stage")
        return list(items)

    return enrich(NAME, source, shape, steps(scenario), context, shaper, target), target


def steps(scenario: Scenario) -> list[Stateful]:
    """The steps, drawn as a pipeline file would have them; source tables end behind the last step that reads them."""
    tables: dict[str, Table] = {topic.table.name: topic.table for topic in scenario.topics}
    sources, made = set(tables), []
    for number, step in enumerate(scenario.steps):
        read = {step.fact, step.dimension} if isinstance(step, Join) else {step.table}
        later: set[str] = set()
        for other in scenario.steps[number + 1 :]:
            later |= {other.fact, other.dimension} if isinstance(other, Join) else {other.table}
        if isinstance(step, Join):
            plan = plan_join(
                tables[step.fact], tables[step.dimension], dict(step.on), dict(step.take), step.how, step.out
            )
            tables[step.out] = plan.result
            draw = partial(_draw_join, f"join-{step.out}", plan)
        else:
            window_plan = _plan_window(tables[step.table], step)
            tables[step.out] = window_plan.result
            draw = partial(_draw_window, f"window-{step.out}", window_plan)
        made.append(Stateful(f"step-{step.out}", draw, frozenset((read & sources) - later)))
    return made


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
        name=step.out,
    )


def _draw_window(step_id: str, plan: WindowPlan, items: Stream[Any], context: Context) -> Stream[Any]:
    return window(step_id, items, plan, context)


def _draw_join(step_id: str, plan: JoinPlan, items: Stream[Any], context: Context) -> Stream[Any]:
    return join(step_id, items, items, plan, context)

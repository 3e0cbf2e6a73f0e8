"""The candidates of a pipeline's steps made ready: fitted to the same tables, and told apart from other versions."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

import libcore
from flows.mask_plan import compile_mask, replanned
from flows.operators.batch import BatchFunction
from flows.operators.mask import Mask
from flows.operators.rollout import Rolling
from flows.operators.select import Select, SelectPlan, plan_select
from flows.operators.transform import Transform, TransformPlan
from flows.operators.user_function import Call, CallPlan
from flows.rollout_store import RolloutStore
from flows.spec import Pipeline
from flows.spec_steps import CallStep, MaskStep, SelectStep, TransformStep
from flows.spec_wiring import Wired
from flows.transform_plan import compile_transform, files_of
from flows.user_function_marker import Marker, build_of
from flows.user_function_plan import compile_call
from libcore.change import ChangeBatch, arrow_schema
from libcore.errors import ConfigurationError
from libcore.mask import MaskPlan
from libcore.reference import mask, transform_rules
from libcore.rollout import ERROR, Settings, State
from libcore.schema import Table

Made = Callable[[int], tuple[BatchFunction, str | None]]
"""Process number -> (the new version, why it must not be called; None: it may)."""


@dataclass
class Candidate:
    """A step's new version, to be started in each process.

    Args:
        settings: when to promote and to roll back.
        state: the state directory; None: the steps do not run.
        name: the step's id. version: of the pair of versions.
        tables: names of the tables that come in and go out.
        make: makes the new version.
        old: the version that is right, where it is not the step's own.
        hidden_in, hidden_out: columns that kept rows must not show; see `hide`.
    """

    settings: Settings
    state: Path | None
    name: str
    version: str
    tables: tuple[str, str]
    make: Made
    old: BatchFunction | None = None
    hidden_in: frozenset[str] = frozenset()
    hidden_out: frozenset[str] = frozenset()

    def hide(self, places: Mapping[tuple[str, str], frozenset[str]]) -> None:
        """Let kept rows lack what a `mask` step hides; (step, table that it reads) -> columns."""
        source, result = self.tables
        self.hidden_in = places.get((self.name, source), frozenset())
        others = (columns for (step, table), columns in places.items() if table == result and step != self.name)
        self.hidden_out = frozenset().union(*others)

    def start(self, process: int) -> Rolling:
        """The rollout in this process. Raises OSError where the state directory cannot be written."""
        assert self.state is not None, "steps that run have a state directory"
        store = RolloutStore(self.state, self.name, self.version, process, self.hidden_in, self.hidden_out)
        function, crashed = self.make(process)
        if crashed is not None:
            store.roll_back(State(reason=ERROR, why=crashed), None)
        return Rolling(self.settings, store, function, time.perf_counter_ns)


def select_candidate(pipeline: Pipeline, wired: Wired, plan: SelectPlan, state: Path | None) -> Candidate | None:
    """The new expressions of a step, None where it has none. Raises ConfigurationError where they do not fit."""
    step = wired.spec
    assert isinstance(step, SelectStep), step
    if step.candidate is None:
        return None
    _same_columns(plan.result, step.select, step.candidate.select)
    # in the step's order, cast to its types: what gets lost shows as a difference
    expressions = {name: step.candidate.select[name] for name in step.select}
    types = {name: str(plan.result.column(name).type) for name in expressions}
    new = plan_select(plan.source, expressions, types, step.drop, plan.result.name)
    _check_read(pipeline, plan, new)
    mapper = Select(pipeline.name, wired.id, new)
    return _candidate(pipeline, wired, (plan.source, plan.result), state, lambda process: (mapper.answer, None))


def transform_candidate(
    pipeline: Pipeline, wired: Wired, plan: TransformPlan, file: Path, state: Path | None
) -> Candidate | None:
    """The new rules of a step, None where it has none. Raises ConfigurationError where they do not fit."""
    step = wired.spec
    assert isinstance(step, TransformStep), step
    flow, names = pipeline.name, (plan.source, plan.result)
    builds = [build_of(path) for path in files_of(step, file)]
    if step.candidate is None:
        if "transform" not in pipeline.rollout.kernels:
            return None
        old = Transform(flow, wired.id, plan, transform_rules.transformed).answer
        return _kernel(pipeline, wired, names, state, Transform(flow, wired.id, plan).answer, old, builds)
    _same_columns(plan.result, step.transform, step.candidate.transform)
    changed = step.model_copy(update={"transform": step.candidate.transform})
    new = compile_transform(changed, plan.source, plan.result.name, file)
    _same_result(plan.result, new.result)
    _check_read(pipeline, plan, new)
    mapper = Transform(flow, wired.id, new)
    builds += [build_of(path) for path in files_of(changed, file)]
    return _candidate(pipeline, wired, names, state, lambda process: (mapper.answer, None), builds)


def mask_candidate(pipeline: Pipeline, wired: Wired, plan: MaskPlan, state: Path | None) -> Candidate | None:
    """The new masks of a step, None where it has none. Raises ConfigurationError where they do not fit."""
    step = wired.spec
    assert isinstance(step, MaskStep), step
    names = (plan.source, plan.result)
    if step.candidate is None:
        if "mask" not in pipeline.rollout.kernels:
            return None
        present = Mask(pipeline.name, wired.id, plan, replanned(plan))
        return _kernel(pipeline, wired, names, state, present.answer, partial(_reference_masked, replanned(plan)))
    _same_columns(plan.result, step.mask, step.candidate.mask)
    new = compile_mask(step.model_copy(update={"mask": step.candidate.mask}), plan.source, plan.result.name)
    _same_result(plan.result, new.result)
    mapper = Mask(pipeline.name, wired.id, new, replanned(new))
    return _candidate(pipeline, wired, names, state, lambda process: (mapper.answer, None))


def call_candidate(
    pipeline: Pipeline, wired: Wired, plan: CallPlan, file: Path, state: Path | None
) -> Candidate | None:
    """The new function of a step, None where it has none. Raises ConfigurationError where it does not fit.

    One that crashed is rolled back at the restart, before it is called again.
    """
    step = wired.spec
    assert isinstance(step, CallStep), step
    if step.candidate is None:
        return None
    take = step.take if step.candidate.take is None else step.candidate.take
    changed = step.model_copy(update={"call": step.candidate.call, "take": take})
    new = compile_call(changed, plan.source, plan.result.name, file)
    _check_read(pipeline, plan, new)
    name, flow = f"{wired.id}-candidate", pipeline.name
    library, present = (_library(one, file) for one in (changed, step))

    def make(process: int) -> tuple[BatchFunction, str | None]:
        assert state is not None, "steps that run have a state directory"
        marker = Marker(state, name, changed.call, library, process)
        return Call(flow, wired.id, new, marker.running).answer, marker.quarantine

    builds = (build_of(present), build_of(library))
    return _candidate(pipeline, wired, (plan.source, plan.result), state, make, builds)


def libcore_build() -> str:
    """Tells two builds of libcore apart."""
    if libcore.IMPLEMENTATION != "c":
        return f"{libcore.__version__} python"
    return f"{libcore.__version__} {build_of(Path(str(import_module('libcore._c').__file__)))}"


def _reference_masked(plan_of: Callable[[Table], MaskPlan], batch: ChangeBatch) -> ChangeBatch:
    """What a mask step gives, value by value."""
    plan, record = plan_of(batch.table), batch.record
    columns = dict(zip(record.schema.names, record.columns, strict=True))
    columns |= {name: mask.mask_column(columns[name], rule) for name, rule in plan.rules.items()}
    schema = arrow_schema(plan.result, batch.has_unset)
    return ChangeBatch(plan.result, pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema))


def _kernel(
    pipeline: Pipeline,
    wired: Wired,
    tables: tuple[Table, Table],
    state: Path | None,
    new: BatchFunction,
    old: BatchFunction,
    builds: Iterable[str] = (),
) -> Candidate:
    """This build's kernel beside its reference, which is right."""
    made = _candidate(pipeline, wired, tables, state, lambda process: (new, None), [libcore_build(), *builds])
    return replace(made, old=old)


def _candidate(
    pipeline: Pipeline,
    wired: Wired,
    tables: tuple[Table, Table],
    state: Path | None,
    make: Made,
    builds: Iterable[str] = (),
) -> Candidate:
    wanted = pipeline.rollout
    settings = Settings(
        wanted.clean_batches, wanted.slower_than, wanted.slower_by * 1000, wanted.alone, wanted.rows_max
    )
    written = wired.spec.model_dump(mode="json", by_alias=True)
    text = json.dumps([written, list(builds)], sort_keys=True)
    version = hashlib.sha256(text.encode()).hexdigest()[:12]
    names = (tables[0].name, tables[1].name)
    return Candidate(settings, state, wired.id, version, names, make)


def _library(step: CallStep, file: Path) -> Path:
    """Where the library is that compile_call found."""
    return (file.resolve().parent / step.call.rpartition(":")[0]).resolve()


def _same_columns(result: Table, present: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if set(present) != set(new):
        raise ConfigurationError(
            f"table {result.name}: candidate: expected the same columns {sorted(present)}, found {sorted(new)}"
        )


def _same_result(present: Table, new: Table) -> None:
    if new != present:
        raise ConfigurationError(
            f"table {present.name}: candidate: expected the same types in the same order, found others"
        )


def _check_read(pipeline: Pipeline, plan: SelectPlan, new: SelectPlan) -> None:
    """Beside the present version rows without a value that it reads never come; alone they might."""
    if pipeline.rollout.alone and (more := sorted(set(new.read) - set(plan.read))):
        raise ConfigurationError(
            f"table {plan.source.name}: candidate: expected no column beside {sorted(plan.read)}, as [rollout] says "
            f"alone = true, found {more[0]!r}"
        )

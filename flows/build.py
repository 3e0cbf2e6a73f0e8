"""From a pipeline file to a Dataflow: the one place where operators meet connectors.

    python -m bytewax.run "flows.build:flow('orders.toml')" -r STATE/recovery -s 0 -b 0

`-s 0` makes each batch of the source an epoch; `python -m bytewax.recovery DIR 1` makes the recovery store.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytewax.dataflow import Dataflow, Stream

from connectors import registry
from connectors.base import metrics, stop
from connectors.base.sink import SpooledSink
from connectors.postgres.config import PostgresConfig, TargetTable
from flows import changed_steps, process, reading, spec, topics
from flows.operators.shape import Route, Shaper, TableShape, as_wanted
from flows.recovery import check_durable, require_recovery
from flows.replicate import replicate
from flows.routes import Routes
from flows.state.store import Store, open_store
from libcore import memory
from libcore.errors import ConfigurationError
from libcore.schema import Table

if TYPE_CHECKING:  # a pipeline without steps shall not wait for their modules at its start: 0.2 s, found by measuring
    from connectors.base.clock import ClockSource
    from flows.enrich import Stateful
    from flows.operators.keyed import Context

STATE_ENVIRONMENT = "HEADRACE_STATE_DIR"
CLOCK_ENVIRONMENT = "HEADRACE_CLOCK"

_KEPT_BYTES = 64 << 20  # freed memory of the C library that a worker keeps for its next batches


@dataclass(frozen=True)
class Prepared:
    """A pipeline whose state directory, topics and target are checked: what a Dataflow is made of."""

    pipeline: spec.Pipeline
    store: Store
    bindings: tuple[topics.Binding, ...]
    source: Any
    shaper: Shaper
    sink: SpooledSink
    steps: tuple[Stateful, ...] = ()
    context: Context | None = None
    router: Shaper | None = None
    whole: Callable[[Stream[Any]], Stream[Any]] | None = None
    clock: ClockSource | None = None

    @property
    def name(self) -> str:
        """The pipeline's name, which is the Dataflow's."""
        return self.pipeline.name


def flow(path: str, **options: Any) -> Dataflow:
    """The dataflow of a pipeline file, ready for `python -m bytewax.run`.

    Args:
        path: the pipeline file.
        options: see `prepare`.
    Raises: ConfigurationError with what was expected and found; TransientError where broker or target do not answer.
    """
    prepared = prepare(path, **options)
    built = draw(prepared)
    check_durable(built)
    # What is imported by now lives as long as the process: neither a collection nor the exit shall walk through it.
    gc.freeze()
    return built


def draw(prepared: Prepared) -> Dataflow:
    """The dataflow of prepared parts."""
    if prepared.router is None:
        return replicate(prepared.name, prepared.source, prepared.shaper, prepared.sink, prepared.whole)
    from flows.enrich import enrich

    assert prepared.context is not None
    read = reading.read_by_steps(prepared.pipeline)
    names = [binding.topic for binding in prepared.bindings if binding.setting in read]
    return enrich(
        prepared.name,
        prepared.source,
        reading.remembering(prepared.shaper.shaped_items, names, prepared.store.remember_table),
        prepared.steps,
        prepared.context,
        prepared.router,
        prepared.sink,
        prepared.whole,
        prepared.clock,
    )


def prepare(
    path: str,
    *,
    until_end: bool = False,
    sink: str | None = None,
    state_dir: str | None = None,
    allow_no_recovery: bool = False,
    **overrides: Any,
) -> Prepared:
    """Read a pipeline file and make the parts of its dataflow; starts the status writer and /metrics of this process.

    Args:
        path: the pipeline file.
        until_end: end at the topics' ends as they are now, instead of following them.
        sink: "null" writes to nothing, to measure; it needs a state directory of its own.
        state_dir: wins over the file's; the environment variable HEADRACE_STATE_DIR wins over both.
        allow_no_recovery: start without a recovery store: a crash then begins at the first message again.
        overrides: settings that win over the file, "__" between levels: source__kafka__servers="...".
    Raises: ConfigurationError with what was expected and found; TransientError where broker or target do not answer.
    """
    pipeline = load(path, sink=sink, overrides=overrides)
    require_recovery(sys.argv[1:], os.environ, allow_no_recovery)
    store = open_state(pipeline, path, state_dir)
    stop.install()
    memory.keep_freed(_KEPT_BYTES)
    worker = process.worker_index(sys.argv[1:])
    process.serve_metrics(worker)
    bindings = reading.bind(pipeline, path, store)
    remember = _remember(
        store, [binding.topic for binding in bindings], changed_steps.checked(pipeline, bindings, store, path)
    )
    process.start_status_writer(store.run, worker, remember)
    written = topics.written(pipeline, bindings)
    target = make_target(pipeline, store, written)
    routes = Routes(target, store, together=pipeline.document is not None)
    context = make_context(pipeline, path, store, worker)
    whole = None
    if pipeline.document is not None:
        from flows import document

        whole = document.step(pipeline.document, pipeline.name, [binding.topic for binding in bindings], context)
    shaper = make_shaper(pipeline, bindings, routes)
    steps, router = make_steps(pipeline, path, store, bindings, shaper, routes)
    return Prepared(
        pipeline,
        store,
        tuple(bindings),
        reading.make_source(
            pipeline,
            bindings,
            until_end=until_end,
            known_topics=store.topics(),
            whole=True,
            path=path,
            directory=store.directory,
        ),
        shaper,
        SpooledSink(
            pipeline.name,
            store.parts,
            store.spool,
            pipeline.sink.settings.spool_bytes,
            store.store_id,
            target,
            None if context is None else context.writes,
            routes.passed,
        ),
        steps,
        context,
        router,
        whole,
        make_clock(steps, until_end),
    )


def make_clock(steps: Sequence[Stateful], until_end: bool) -> ClockSource | None:
    """What tells the time to `due` steps, None where there are none; HEADRACE_CLOCK makes it stand at a time."""
    wanted = [step.clock_us for step in steps if step.clock_us]
    if not wanted:
        return None
    from connectors.base.clock import ClockSource, system_us

    return ClockSource(min(wanted), until_end=until_end, now=standing_clock() or system_us)


def standing_clock() -> Callable[[], int] | None:
    """The time of HEADRACE_CLOCK, in microseconds since 1970; None where it is not set. Raises ConfigurationError."""
    text = os.environ.get(CLOCK_ENVIRONMENT)
    if not text:
        return None
    from connectors.base.clock import standing_at

    return standing_at(text)


def make_steps(
    pipeline: spec.Pipeline,
    path: str,
    store: Store | None,
    bindings: Sequence[topics.Binding],
    shaper: Shaper,
    route: Callable[[Table, bool], Route] = as_wanted,
) -> tuple[tuple[Stateful, ...], Shaper | None]:
    """The file's steps, and what routes their results to the sink's parts; ((), None) where it has none."""
    if not pipeline.step:
        return (), None
    from flows.stateful import compile_steps

    def shaped(binding: topics.Binding) -> Table:
        return shaper.plan(reading.source_table(pipeline, path, store, binding)).target

    state = None if store is None else store.directory
    steps, tables = compile_steps(pipeline, bindings, shaped, path, state)
    alone = {binding.topic: binding.spec.single_part for binding in topics.written(pipeline, bindings)}
    router = Shaper(
        pipeline.name,
        lambda name: TableShape(single_part=alone.get(name, False)),
        pipeline.slots,
        pipeline.sink.settings.parts,
        route,
    )
    for node in pipeline.wiring.written:
        if node in tables:
            router.routed_alone(router.plan(tables[node]))
    return steps, router


def make_context(pipeline: spec.Pipeline, path: str, store: Store, worker: int) -> Context | None:
    """What stateful steps need to know of this process, None where there are none.

    Raises: ConfigurationError where it cannot keep segments.
    """
    if not pipeline.step and pipeline.document is None:
        return None
    from flows.operators.keyed import Context
    from flows.state.location import segments_location
    from flows.state.segments import SegmentStore

    segments = segments_location(pipeline.segments, store.directory, path)
    SegmentStore(segments, pipeline.name, worker)  # what is wrong with the place shows now, not at the first row
    workers = process.worker_count(sys.argv[1:])
    return Context(
        pipeline.slots, workers, worker, segments, pipeline.state_bytes, process.backup_interval_s(sys.argv[1:])
    )


def load(path: str, *, sink: str | None = None, overrides: Mapping[str, Any] | None = None) -> spec.Pipeline:
    """The pipeline of a file, with overrides ("__" between levels) or another sink. Raises ConfigurationError."""
    dotted = {name.replace("__", "."): value for name, value in (overrides or {}).items()}
    pipeline = spec.load(path, dotted)
    if sink in (None, pipeline.sink.name):
        return pipeline
    if sink != "null":
        raise ConfigurationError(
            f'sink: expected "null" or the file\'s own {pipeline.sink.name!r}, found {sink!r}', file=path
        )
    null = spec.NullSink(parts=pipeline.sink.settings.parts, spool_bytes=pipeline.sink.settings.spool_bytes)
    return pipeline.model_copy(update={"sink": spec.Sink(null=null)})


def state_directory(pipeline: spec.Pipeline, path: str, state_dir: str | None = None) -> Path:
    """Where the pipeline keeps its state: the environment says, else the argument, else the file, else var/NAME."""
    chosen = os.environ.get(STATE_ENVIRONMENT) or state_dir or pipeline.state_dir
    beside = Path(path).resolve().parent
    return beside / (chosen or f"var/{pipeline.name}")


def open_state(pipeline: spec.Pipeline, path: str, state_dir: str | None = None) -> Store:
    """The pipeline's state directory, made or checked. Raises ConfigurationError."""
    directory = state_directory(pipeline, path, state_dir)
    return open_store(directory, pipeline.name, pipeline.sink.name, pipeline.slots, pipeline.sink.settings.parts)


def make_shaper(
    pipeline: spec.Pipeline,
    bindings: Sequence[topics.Binding],
    route: Callable[[Table, bool], Route] = as_wanted,
) -> Shaper:
    """The shape step; declared tables are planned at once, so that what does not fit is refused at the start."""
    shapes = {
        binding.topic: TableShape(
            binding.spec.rename,
            binding.spec.drop,
            binding.spec.where,
            binding.spec.single_part,
            follow=binding.spec.on_schema_change == "follow",
        )
        for binding in bindings
    }
    shaper = Shaper(pipeline.name, shapes.__getitem__, pipeline.slots, pipeline.sink.settings.parts, route)
    straight = topics.written(pipeline, bindings)
    for binding in bindings:
        if (table := reading.declared_table(binding)) is not None:
            plan = shaper.plan(table)
            if binding in straight:
                shaper.routed_alone(plan)
    return shaper


def make_target(pipeline: spec.Pipeline, store: Store, bindings: Sequence[topics.Binding]) -> Any:
    """The target system of the sink."""
    settings = pipeline.sink.settings
    system = registry.system(pipeline.sink.name)
    kind = system.target
    if not isinstance(settings, spec.PostgresSink):
        # Kept on disk: a restart reads the last manifest's segment again, and its rows shall not count twice.
        config = system.config(progress_dir=store.directory / "applied")
        return kind(config, pipeline.name, store.store_id, store.parts)
    config, tables = postgres_target(settings, bindings, store.dead_letters)
    if pipeline.document is not None and pipeline.document.on_bad_row == "stop":
        config = config.model_copy(update={"stop_at_refused": True})
    return kind(config, pipeline.name, store.store_id, store.parts, tables)


def postgres_target(
    settings: spec.PostgresSink, bindings: Sequence[topics.Binding], dead_letters: Path | None
) -> tuple[PostgresConfig, dict[str, TargetTable]]:
    """(connection settings, target table by topic) of a PostgreSQL sink."""
    letters = settings.dead_letters
    directory = Path(letters.directory) if letters.directory else dead_letters
    config = PostgresConfig(
        dsn=settings.dsn,
        metadata_schema=settings.metadata_schema,
        statement_timeout_s=settings.statement_timeout_s,
        lock_timeout_s=settings.lock_timeout_s,
        dead_letters_dir=directory if letters.parquet else None,
        dead_letters_max=letters.rows_max,
    )
    return config, {
        binding.topic: TargetTable(
            f"{settings.schema_}.{binding.target}", binding.spec.mode or settings.mode, binding.spec.types
        )
        for binding in bindings
    }


def _remember(store: Store, names: Sequence[str], steps: Mapping[str, Any]) -> Callable[[], None]:
    """Keep both once an epoch with them is durable: a source closes its second epoch only after the first is."""
    started, done = time.monotonic(), [False]

    def remember() -> None:
        if not done[0] and process.total(metrics.EPOCHS) > 1 and time.monotonic() - started > 1.0:
            store.remember_steps(steps)  # first: a start asks for them where it finds topics
            store.remember_topics(names)
            done[0] = True

    return remember

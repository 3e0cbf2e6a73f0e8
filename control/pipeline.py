"""A pipeline file as the commands need it: what to start, where its state lies, what can be said without running it.

`start_plan` reads no more than the name, because every worker reads and checks the whole file itself, and what the
supervisor would import for the same work costs half a second and 60 MB at each start. `plan` and `check` read it all.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libcore.errors import ConfigurationError

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.spec import Pipeline
    from flows.state.look import StepState

STATE_ENVIRONMENT = "HEADRACE_STATE_DIR"
METRICS_ENVIRONMENT = "HEADRACE_METRICS_PORT"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class StartPlan:
    """One pipeline, ready to be started.

    Args:
        name: the pipeline's name.
        flow: Bytewax's import string.
        state_dir: where its state lies, absolute.
        environment: variables for the workers.
    """

    name: str
    flow: str
    state_dir: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """One pipeline, read and checked.

    Args:
        pipeline: the file's content.
        state_dir: where its state lies, absolute.
    """

    pipeline: Pipeline
    state_dir: Path

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.pipeline.name

    @property
    def dead_letters(self) -> Path:
        """Where its dead letters lie as Parquet."""
        from flows.spec import PostgresSink

        settings = self.pipeline.sink.settings
        chosen = settings.dead_letters.directory if isinstance(settings, PostgresSink) else None
        return Path(chosen) if chosen else self.state_dir / "dead-letters"


def start_plan(
    file: Path, *, until_end: bool = False, metrics_port: int | None = None, processes: int = 1
) -> StartPlan:
    """What `headrace run` starts. Raises ConfigurationError where the file cannot be read or has no name."""
    if metrics_port is not None and metrics_port + processes > 65536:
        raise ConfigurationError(f"metrics port: {metrics_port} + {processes} processes goes beyond 65535")
    name, chosen = _name_and_state(file)
    # An absolute path, because a worker's working directory is not a promise.
    path = file.resolve()
    flow = f"flows.build:flow({str(path)!r}, until_end=True)" if until_end else f"flows.build:flow({str(path)!r})"
    environment = {} if metrics_port is None else {METRICS_ENVIRONMENT: str(metrics_port)}
    state_dir = path.parent / (os.environ.get(STATE_ENVIRONMENT) or chosen or f"var/{name}")
    return StartPlan(name, flow, state_dir.resolve(), environment)


def _name_and_state(file: Path) -> tuple[str, str | None]:
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        data = {}
    name, chosen = data.get("name"), data.get("state_dir")
    if isinstance(name, str) and _NAME.fullmatch(name) and isinstance(chosen, str | None):
        return name, chosen
    pipeline = plan(file).pipeline  # it says what is wrong, with the line
    return pipeline.name, pipeline.state_dir


def plan(file: Path) -> Plan:
    """Read a pipeline file. Raises ConfigurationError with every fault of the file."""
    from flows import build

    pipeline = build.load(str(file))
    return Plan(pipeline, build.state_directory(pipeline, str(file)).resolve())


def check(file: Path, *, connect: bool = False) -> str:
    """Find what is wrong with a pipeline without running it, and say in one line what it is.

    Args:
        file: the pipeline file.
        connect: also ask the broker for the topics; without it patterns of topics stay unchecked.
    Raises: ConfigurationError; TransientError where the broker does not answer.
    """
    from flows import build, reading, topics
    from flows.spec import PostgresSink

    found = plan(file)
    pipeline, path = found.pipeline, str(file)
    named = {name: table for name, table in pipeline.tables.items() if not table.is_pattern}
    if connect:
        bindings = reading.bind(pipeline, path)
    elif named:
        only_named = pipeline.model_copy(update={"tables": named})
        bindings = topics.resolve(only_named, {only_named.topic(name): 1 for name in named}, path)
    else:
        bindings = []
    shaper = build.make_shaper(pipeline, bindings)
    undeclared = [binding.topic for binding in bindings if reading.declared_table(binding) is None]
    if connect or not (pipeline.step and undeclared):
        build.make_steps(pipeline, path, None, bindings, shaper)
    if isinstance(pipeline.sink.settings, PostgresSink):
        written = topics.written(pipeline, bindings)
        build.postgres_target(pipeline.sink.settings, written, found.dead_letters)
    patterns = [pipeline.topic(name) for name, table in pipeline.tables.items() if table.is_pattern]
    what = [f"{len(bindings)} tables"]
    if pipeline.step:
        what.append(f"{len(pipeline.step)} steps")
        if undeclared and not connect:
            what.append(f"its steps not checked: {', '.join(undeclared)} without `columns` (--connect reads a row)")
    if patterns and not connect:
        what.append(f"topics of {', '.join(patterns)} not looked for (--connect asks the broker)")
    notes = "".join(f"\n{note}" for binding in bindings for note in binding.notes)
    route = f"{pipeline.source.title} to {pipeline.sink.name}"
    return f"{pipeline.name}: {route}, {', '.join(what)}; state in {found.state_dir}{notes}"


def state_tables(file: Path) -> list[dict[str, Any]]:
    """The stores of the steps' durable state: name in SQL, rows, slots, bytes as Arrow, segments, epoch.

    Raises: ConfigurationError where the pipeline has not run, FatalError where a segment is missing.
    """
    return [
        {
            "table": table,
            "rows": rows.num_rows,
            "slots": slots,
            "bytes": rows.nbytes,
            "segments": len(state.files),
            "epoch": state.epoch,
        }
        for table, rows, slots, state in _state(file)
    ]


def _state(file: Path) -> list[tuple[str, pa.Table, int, StepState]]:
    """(name in SQL, rows, slots with rows, the step's state) of every store."""
    from flows.state import look
    from flows.state.location import segments_location

    found = plan(file)
    location = segments_location(found.pipeline.segments, found.state_dir, file)
    return [
        (look.view_name(state.step, store), rows, slots, state)
        for state, stores in look.read_state(found.state_dir / "recovery", found.name, location)
        for store, (rows, slots) in stores.items()
    ]


def state_query(file: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """(column names, rows) of SQL over the steps' durable state. Raises ConfigurationError where it does not fit."""
    from flows.operators.select import connect

    tables = {table: rows for table, rows, _, _ in _state(file)}
    connection = connect()
    for table, rows in tables.items():
        connection.register(table, rows)
    try:
        answer = connection.execute(sql)
        return [column[0] for column in answer.description or ()], answer.fetchall()
    except Exception as error:
        raise ConfigurationError(
            f"state: expected SQL over {', '.join(tables) or 'no tables: no step has state'}, "
            f"found: {str(error).splitlines()[0]}"
        ) from error
    finally:
        connection.close()

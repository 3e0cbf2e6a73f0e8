"""A pipeline file as the commands need it: what to start, where its state lies, what can be said without running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows import build, topics
from flows.process import PORT_ENVIRONMENT
from flows.spec import Pipeline, PostgresSink
from libcore.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Plan:
    """One pipeline, ready to be started.

    Args:
        flow: Bytewax's import string.
        state_dir: where its state lies, absolute.
        environment: variables for the workers.
        pipeline: the file's content.
    """

    flow: str
    state_dir: Path
    environment: Mapping[str, str]
    pipeline: Pipeline

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.pipeline.name

    @property
    def dead_letters(self) -> Path:
        """Where its dead letters lie as Parquet."""
        settings = self.pipeline.sink.settings
        chosen = settings.dead_letters.directory if isinstance(settings, PostgresSink) else None
        return Path(chosen) if chosen else self.state_dir / "dead-letters"


def plan(file: Path, *, until_end: bool = False, metrics_port: int | None = None, processes: int = 1) -> Plan:
    """Read a pipeline file for a start. Raises ConfigurationError with every fault of the file."""
    # An absolute path, because a worker's working directory is not a promise.
    path = str(file.resolve())
    pipeline = build.load(str(file))
    if metrics_port is not None and metrics_port + processes > 65536:
        raise ConfigurationError(f"metrics port: {metrics_port} + {processes} processes goes beyond 65535")
    flow = f"flows.build:flow({path!r}, until_end=True)" if until_end else f"flows.build:flow({path!r})"
    environment = {} if metrics_port is None else {PORT_ENVIRONMENT: str(metrics_port)}
    return Plan(flow, build.state_directory(pipeline, path).resolve(), environment, pipeline)


def check(file: Path, *, connect: bool = False) -> str:
    """Find what is wrong with a pipeline without running it, and say in one line what it is.

    Args:
        file: the pipeline file.
        connect: also ask the broker for the topics; without it patterns of topics stay unchecked.
    Raises: ConfigurationError; TransientError where the broker does not answer.
    """
    found = plan(file)
    pipeline, path = found.pipeline, str(file)
    named = {name: table for name, table in pipeline.tables.items() if not table.is_pattern}
    if connect:
        bindings = build.bind(pipeline, path)
    elif named:
        only_named = pipeline.model_copy(update={"tables": named})
        bindings = topics.resolve(only_named, {only_named.topic(name): 1 for name in named}, path)
    else:
        bindings = []
    build.make_shaper(pipeline, bindings)
    if isinstance(pipeline.sink.settings, PostgresSink):
        build.postgres_target(pipeline.sink.settings, bindings, found.dead_letters)
    patterns = [pipeline.topic(name) for name, table in pipeline.tables.items() if table.is_pattern]
    what = [f"{len(bindings)} tables"]
    if patterns and not connect:
        what.append(f"topics of {', '.join(patterns)} not looked for (--connect asks the broker)")
    return f"{pipeline.name}: Kafka to {pipeline.sink.name}, {', '.join(what)}; state in {found.state_dir}"

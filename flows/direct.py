"""Sources that are read directly, without a broker: their tables bound to the pipeline, followed, and read again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectors import registry
from connectors.base.database import ChangeSource, Finding, SourceContext, SourceTable
from connectors.base.items import Item
from connectors.formats.binding import TopicBinding
from flows import sources, spec, topics
from flows.spec_errors import near
from libcore.errors import ConfigurationError, TransientError
from libcore.schema import Column, Table, parse_type


def context(pipeline: spec.Pipeline, path: str, directory: Path | None, beating: Iterable[str] = ()) -> SourceContext:
    """What the source needs to know of its pipeline; `directory`: its state directory, None beside a flow."""
    base, own = Path(path).resolve().parent, sources.directory_of(pipeline, directory)
    spool_bytes, name = pipeline.sink.settings.spool_bytes, pipeline.source.label
    return SourceContext(pipeline.name, base, own, registry.decoder, frozenset(beating), spool_bytes, name)


def open_source(pipeline: spec.Pipeline, surroundings: SourceContext) -> ChangeSource:
    """The pipeline's source. Raises ConfigurationError where it has none that is read directly."""
    source: ChangeSource = registry.system(pipeline.source.name).changes(pipeline.source.settings, surroundings)
    return source


def look(pipeline: spec.Pipeline, path: str) -> sources.Found:
    """The source's tables, those that the pipeline wants described. Raises ConfigurationError, TransientError."""
    with closing(open_source(pipeline, context(pipeline, path, None))) as source:
        existing = dict.fromkeys(source.names(), 1)
        wanted = [binding.topic for binding in topics.resolve(pipeline, existing, path)]
        return sources.Found(existing, {table.name: table for table in source.describe(wanted)})


def bind(pipeline: spec.Pipeline, path: str) -> list[topics.Binding]:
    """The source's tables, bound to the pipeline's, described. Raises ConfigurationError, TransientError."""
    return bound(pipeline, path, look(pipeline, path))


def bound(pipeline: spec.Pipeline, path: str, there: sources.Found) -> list[topics.Binding]:
    """What was found at the source, bound to the pipeline's tables. Raises ConfigurationError."""
    found, described = topics.resolve(pipeline, there.existing, path), there.tables
    if missing := [binding.topic for binding in found if binding.topic not in described]:
        raise TransientError(f"expected {missing[0]!r} described as it was last found; its source was not asked for it")
    if pipeline.document is not None:
        pipeline.document.check_truncates({binding.topic: binding.spec.on_truncate for binding in found}, path)
    bindings = []
    for binding in found:
        one = described[binding.topic]
        # a table without columns has those of the file, or those that come with its messages
        table = _as_wanted(one.table, binding, path) if one.table.columns else None
        bindings.append(replace(binding, table=table, notes=one.notes, partition=one.partition))
    return bindings


def _as_wanted(table: Table, binding: topics.Binding, path: str) -> Table:
    """The table with the columns and key that the pipeline file declares."""
    settings, columns = binding.spec, table.columns
    names = [column.name for column in columns]
    for setting, wanted in (("columns", settings.columns or ()), ("key", settings.key or ())):
        if missing := [name for name in wanted if name not in names]:
            raise ConfigurationError(
                f"tables.{binding.setting}.{setting}: expected columns of {table.name}, found {missing[0]!r}"
                f"{near(missing[0], names)}",
                file=path,
            )
    if settings.columns is not None:
        declared = {
            name: (one, True) if isinstance(one, str) else (one.type, one.nullable)
            for name, one in settings.columns.items()
        }
        columns = tuple(Column(name, parse_type(text), nullable) for name, (text, nullable) in declared.items())
    key = table.key if settings.key is None else settings.key
    if missing := [name for name in key if name not in [column.name for column in columns]]:
        raise ConfigurationError(
            f"tables.{binding.setting}.columns: expected the key column {missing[0]!r} among them", file=path
        )
    columns = tuple(replace(column, nullable=column.nullable and column.name not in key) for column in columns)
    return Table(table.name, columns, key)


def make_source(
    pipeline: spec.Pipeline,
    bindings: Sequence[topics.Binding],
    topic_bindings: Mapping[str, TopicBinding],
    surroundings: SourceContext,
    until_end: bool,
) -> Any:
    """The Bytewax source of those tables."""
    tables = _tables(bindings)
    return open_source(pipeline, surroundings).source(tables, topic_bindings, until_end=until_end)


def rows(
    pipeline: spec.Pipeline,
    bindings: Sequence[topics.Binding],
    topic_bindings: Mapping[str, TopicBinding],
    surroundings: SourceContext,
) -> Iterator[Item]:
    """All rows of those tables as they are now, beside the flow."""
    with closing(open_source(pipeline, surroundings)) as source:
        yield from source.rows(_tables(bindings), topic_bindings)


def findings(pipeline: spec.Pipeline, bindings: Sequence[topics.Binding], path: str) -> list[Finding]:
    """What the source says of itself."""
    with closing(open_source(pipeline, context(pipeline, path, None))) as source:
        return source.doctor(_tables(bindings))


def rereading() -> tuple[str, ...]:
    """The systems of which a running flow can be asked to read a table again."""
    return tuple(name for name, system in registry.SYSTEMS.items() if system.rereads)


def drop(pipeline: spec.Pipeline, path: str) -> list[str]:
    """Remove what a flow left at its source (a slot, a publication); what was removed."""
    if pipeline.source.several:
        return [what for member in sources.members(pipeline) for what in drop(member.pipeline, path)]
    if pipeline.source.kafka is not None:
        return []
    with closing(open_source(pipeline, context(pipeline, path, None))) as source:
        dropped = getattr(source, "drop", None)
        return [] if dropped is None else list(dropped())


def _tables(bindings: Sequence[topics.Binding]) -> list[SourceTable]:
    tables = []
    for binding in bindings:
        tables.append(SourceTable(binding.topic, binding.table or Table(binding.topic, (), ()), binding.notes))
    return tables

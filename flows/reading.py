"""The source side of a pipeline: topics bound to tables, the source over them, and looks into them beside the flow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from connectors import registry
from connectors.base.items import Item
from connectors.formats.binding import TopicBinding
from connectors.formats.declared import declared_column
from connectors.kafka.config import KafkaConfig
from flows import direct, sources, spec, topics
from flows.spec_source import Source
from flows.state.store import Store, grown
from libcore.change import ChangeBatch
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type


def bind(pipeline: spec.Pipeline, path: str, store: Store | None = None) -> list[topics.Binding]:
    """The topics there are, bound to the pipeline's tables. Raises ConfigurationError, TransientError (no broker).

    `store`: keeps what several sources said, for a start while one of them is away.
    """
    if pipeline.source.several:
        return sources.bind(pipeline, path, _look, _bound, None if store is None else store.directory)
    return _bound(pipeline, path, _look(pipeline, path))


def _look(pipeline: spec.Pipeline, path: str) -> sources.Found:
    """What the only source says that it has."""
    kafka = pipeline.source.kafka
    if kafka is None:
        return direct.look(pipeline, path)
    from connectors.kafka.source import list_topics

    existing = list_topics(kafka)
    return sources.Found(existing if kafka.topic is None else topics.sharing(pipeline, kafka.topic, existing, path))


def _bound(pipeline: spec.Pipeline, path: str, found: sources.Found) -> list[topics.Binding]:
    if pipeline.source.kafka is None:
        return direct.bound(pipeline, path, found)
    bindings = topics.resolve(pipeline, found.existing, path)
    if (shared := pipeline.source.kafka.topic) is not None:
        bindings = [replace(binding, partition=f"{shared}/0") for binding in bindings]
    if pipeline.document is not None:
        truncates = {binding.topic: binding.spec.on_truncate for binding in bindings}
        pipeline.document.check(found.existing, truncates, path)
    return bindings


def make_source(
    pipeline: spec.Pipeline,
    bindings: Sequence[topics.Binding],
    *,
    until_end: bool,
    known_topics: frozenset[str] = frozenset(),
    whole: bool = False,
    path: str = "",
    directory: Path | None = None,
) -> Any:
    """The source over those topics; `whole`: rows carry their transactions, and the transaction topic is read, too.

    `path` is the pipeline file and `directory` its state directory, for a source that is read directly.
    """
    if pipeline.source.several:
        return _make_several(pipeline, bindings, until_end, known_topics, path, directory)
    topic_bindings = _topic_bindings(pipeline, bindings)
    kafka = pipeline.source.kafka
    if kafka is None:
        if whole and pipeline.document is not None:
            topic_bindings = {
                topic: replace(binding, transactions=True, clears=False) for topic, binding in topic_bindings.items()
            }
        context = direct.context(pipeline, path, directory, _beating(pipeline, topic_bindings))
        return direct.make_source(pipeline, bindings, topic_bindings, context, until_end)
    decoder = registry.decoder(kafka.format, kafka.registry)
    marks = []
    if whole and pipeline.document is not None:
        assert pipeline.document.transaction_topic is not None, "the spec asks for it beside Kafka"
        marks = [pipeline.document.transaction_topic]
        topic_bindings = {
            topic: replace(binding, transactions=True, clears=False) for topic, binding in topic_bindings.items()
        }

    def decoder_of(topic: str, partition: int, state: object | None) -> Any:
        if topic in marks:
            from connectors.formats.transactions import TransactionDecoder

            return TransactionDecoder(topic, partition, state)
        bound = topic_bindings if kafka.topic is not None else topic_bindings[topic]
        return decoder(topic, partition, bound, state, flow=pipeline.name)

    read = list(topic_bindings)
    if kafka.topic is not None:
        read = [kafka.topic]
        known_topics = frozenset(read) if known_topics & frozenset(topic_bindings) else frozenset()
    return registry.system("kafka").source(
        kafka,
        [*read, *marks],
        decoder_of,
        until_end=until_end,
        known_topics=known_topics,
        beating=[*marks, *_beating(pipeline, read)],
        prefix=f"{pipeline.source.label}." if pipeline.source.label else "",
    )


def _make_several(
    pipeline: spec.Pipeline,
    bindings: Sequence[topics.Binding],
    until_end: bool,
    known_topics: frozenset[str],
    path: str,
    directory: Path | None,
) -> sources.Several:
    """Each source as if it were the only one, put together."""
    parts: list[tuple[sources.Member, Any, Callable[[], None]]] = []
    counts: dict[str, list[str]] = {}
    for member in sources.members(pipeline):
        own, prefix = member.inside(bindings, pipeline), member.one.prefix
        known = frozenset(topic.removeprefix(prefix) for topic in known_topics if topic.startswith(prefix))
        source = make_source(
            member.pipeline, own, until_end=until_end, known_topics=known, path=path, directory=directory
        )
        is_kafka = member.one.kind == "kafka"
        counts[member.name] = _partitions(member.one.settings, own)
        parts.append((member, source, partial(_probe, member.pipeline, path) if is_kafka else _no_probe))
    return sources.Several(parts, counts, until_end=until_end, run=None if directory is None else directory / "run")


def _partitions(settings: Any, bindings: Sequence[topics.Binding]) -> list[str]:
    """The partitions that Kafka has of these tables as it was last found; none of a system that asks by itself."""
    if not isinstance(settings, KafkaConfig):
        return []
    if settings.topic is not None:
        return [f"{settings.topic}/0"]
    return [f"{one.topic}/{number}" for one in bindings for number in range(one.partitions)]


def _probe(pipeline: spec.Pipeline, path: str) -> None:
    _look(pipeline, path)


def _no_probe() -> None:
    """A source that is read directly asks by itself."""


def _beating(pipeline: spec.Pipeline, topic_bindings: Iterable[str]) -> Iterable[str]:
    """A window that closes as time passes needs an epoch for its results, and one that applies them."""
    return topic_bindings if any(step.late for step in pipeline.wiring.steps) else ()


def read_by_steps(pipeline: spec.Pipeline) -> frozenset[str]:
    """The tables of the file that steps read, by the file's name for them."""
    return frozenset(node.name for step in pipeline.wiring.steps for node in step.inputs if node.step < 0)


def _topic_bindings(pipeline: spec.Pipeline, bindings: Sequence[topics.Binding]) -> dict[str, TopicBinding]:
    read, document = read_by_steps(pipeline), pipeline.document is not None
    return {binding.topic: _topic_binding(binding, read, document=document) for binding in bindings}


def declared_table(binding: topics.Binding) -> Table | None:
    """The source table as its source or the file declares it; None where columns or key come with the messages."""
    if binding.table is not None:
        return binding.table
    if binding.spec.columns is None or binding.spec.key is None:
        return None
    columns = []
    for name, column in binding.spec.columns.items():
        text, nullable = (column, True) if isinstance(column, str) else (column.type, column.nullable)
        columns.append(Column(name, parse_type(text), nullable and name not in binding.spec.key))
    return Table(binding.topic, tuple(columns), binding.spec.key)


def _whole(binding: topics.Binding, read: frozenset[str], *, document: bool) -> str:
    """Why the table's rows must come whole; "" where the target is the first that looks at them."""
    if binding.setting in read:
        return "a step reads it"  # a row in part would be half a row in its state, or lack what it computes from
    if binding.spec.where is not None:
        return "its `where` decides by whole rows"
    return "[document] brings whole transactions" if document else ""


def _topic_binding(binding: topics.Binding, read: frozenset[str], *, document: bool) -> TopicBinding:
    """`read`: names of the tables that a step reads; its state keeps a dropped column's values."""
    settings = binding.spec
    columns = None
    if settings.columns is not None:
        columns = tuple(
            declared_column(name, column if isinstance(column, str) else column.model_dump(exclude_none=True))
            for name, column in settings.columns.items()
        )
    return TopicBinding(
        table=binding.topic,
        columns=columns,
        key=settings.key,
        generation=settings.generation,
        on_truncate=settings.on_truncate,
        on_new_column=settings.on_new_column,
        on_schema_change=settings.on_schema_change,
        placeholder=settings.placeholder,
        clears=binding.partitions == 1 and binding.setting not in read,
        whole=_whole(binding, read, document=document),
        dropped=settings.drop,
    )


def source_table(pipeline: spec.Pipeline, path: str, store: Store | None, binding: topics.Binding) -> Table:
    """The source table that a step reads: declared, or as it was last seen, or as the topic's first row has it.

    With all columns that it ever brought to the flow (see `remembering`): the step's state has their values.

    Args:
        store: remembers what was seen; None: nothing is remembered.
    Raises: ConfigurationError where nothing says what the table is.
    """
    seen = None if store is None else store.table(binding.topic)
    if (table := declared_table(binding)) is not None:
        return table if seen is None else grown(table, seen)
    if seen is not None:
        return seen
    found = next((item.table for item in first_rows(pipeline, binding, path)), None)
    if found is None:
        raise ConfigurationError(
            f"tables.{binding.setting}: expected `columns` and `key`, as a step reads this table, or a row in "
            f"{binding.topic} that says them; found neither",
            file=path,
        )
    if store is not None:
        store.remember_table(found)
    return found


def remembering(
    mapper: Callable[[Iterable[Item]], list[Item]], names: Iterable[str], remember: Callable[[Table], None]
) -> Callable[[Iterable[Item]], list[Item]]:
    """The mapper; the shapes of tables that steps read are remembered before a state can have their values.

    A restart must begin with all columns, whether a table gained them while the flow ran or has lost them since: a
    state that is wider than its step's plan cannot be loaded.

    Args:
        names: of the tables. remember: keeps a shape, beside the columns of former ones (see Store.remember_table).
    """
    last: dict[str, Table | None] = dict.fromkeys(names)
    told = set[Table]()

    def looking(items: Iterable[Item]) -> list[Item]:
        listed = list(items)
        for item in listed:
            if isinstance(item, ChangeBatch) and item.table is not last.get(item.table.name, item.table):
                if item.table not in told:
                    remember(item.table)
                    told.add(item.table)
                last[item.table.name] = item.table
        return mapper(listed)

    return looking


def read_all(
    pipeline: spec.Pipeline, bindings: Sequence[topics.Binding], path: str = "", directory: Path | None = None
) -> Iterator[Item]:
    """Every item of every partition, from its first message to its end, one partition after the other.

    `path` and `directory` as for make_source; nothing is written.
    """
    if pipeline.source.several:
        for member in sources.members(pipeline):
            shown = sources.Shown(member.one.prefix)
            if own := member.inside(bindings, pipeline):
                yield from map(shown, read_all(member.pipeline, own, path, directory))
        return
    if pipeline.source.kafka is None:
        context = direct.context(pipeline, path, directory)
        yield from direct.rows(pipeline, bindings, _topic_bindings(pipeline, bindings), context)
        return
    kafka = pipeline.source.kafka.model_copy(update={"start": "earliest"})
    only = replace(pipeline.source.all[0], settings=kafka, prefix="")
    earliest = pipeline.model_copy(update={"source": Source.only(only)})
    source = make_source(earliest, bindings, until_end=True)
    for part in source.list_parts():
        partition = source.build_part("read-all", part, None)
        try:
            yield from until_end_of(partition)
        finally:
            partition.close()


def first_rows(pipeline: spec.Pipeline, binding: topics.Binding, path: str = "") -> Iterator[ChangeBatch]:
    """Batches of a topic from its first message on, read beside the flow."""
    items = read_all(pipeline, [binding], path)
    return (item for item in items if isinstance(item, ChangeBatch) and item.table != DEAD_LETTERS)


def until_end_of(partition: Any) -> Iterator[Item]:
    """All items of one source partition, which ends by itself, outside of a dataflow."""
    while True:
        try:
            items = partition.next_batch()
        except StopIteration:
            return
        yield from items
        partition.snapshot()  # each call is an epoch: it frees the quota
        awake = partition.next_awake()
        if not items and awake is not None:
            time.sleep(max(0.0, (awake - datetime.now(UTC)).total_seconds()))

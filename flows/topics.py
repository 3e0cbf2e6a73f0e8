"""Which topics a pipeline reads: its patterns resolved against those there are, and what each is called at the sink."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from flows.spec import Pipeline, TableSpec
from flows.spec_errors import near
from libcore.errors import ConfigurationError
from libcore.schema import Table

_OWN_LAST_PARTS = ("transaction", "message")


@dataclass(frozen=True)
class Binding:
    """A topic and what the pipeline says of its table.

    Args:
        topic: the topic; it is also the source table's name.
        setting: NAME in [tables.NAME].
        spec: that table's settings.
        target: the table's name at the sink, without schema.
        partitions: how many the topic has; 0 where it is the result of a step.
        table: the table as its source describes it; None where it comes with the messages.
        notes: what is surprising about it, a sentence each.
        partition: the source partition that brings it; "" where there may be several, as with a topic.
    """

    topic: str
    setting: str
    spec: TableSpec
    target: str
    partitions: int = 0
    table: Table | None = None
    notes: tuple[str, ...] = ()
    partition: str = ""


def resolve(pipeline: Pipeline, existing: Mapping[str, int], file: str | None = None) -> list[Binding]:
    """The topics of a pipeline, each once, by name.

    Args:
        existing: partition count by topic, as the broker says; a table that is read directly has 1.
        file: the pipeline file, for messages.
    Raises: ConfigurationError where a topic does not exist, a pattern matches none, a truncate's order would be lost
        on the way, or two topics want the same target table.
    """
    named = {pipeline.topic(name): name for name, spec in pipeline.tables.items() if not spec.is_pattern}
    bindings = {}
    for topic, name in named.items():
        if topic not in existing:
            raise ConfigurationError(
                f"tables.{name}: expected {_place(pipeline, topic)}, found none of that name{near(topic, existing)}",
                file=file,
            )
        bindings[topic] = _binding(pipeline, topic, name, existing[topic])
    for name, spec in pipeline.tables.items():
        if not spec.is_pattern:
            continue
        matching = [
            topic
            for topic in sorted(existing)
            if fnmatchcase(topic, pipeline.topic(name))
            and not (pipeline.source.kafka is not None and is_internal(topic, existing))
        ]
        if not matching:
            raise ConfigurationError(
                f"tables.{name}: expected topics that match {pipeline.topic(name)!r}, found none", file=file
            )
        for topic in matching:
            bindings.setdefault(topic, _binding(pipeline, topic, name, existing[topic]))
    found = sorted(bindings.values(), key=lambda binding: binding.topic)
    for binding in found:
        if binding.spec.on_truncate == "apply" and existing[binding.topic] > 1:
            raise ConfigurationError(
                f"tables.{binding.setting}: on_truncate: expected stop or ignore for {binding.topic}, found apply: the "
                f"topic has {existing[binding.topic]} partitions, so a truncate's order against their rows is unknown",
                file=file,
            )
    refuse_shared_targets(written(pipeline, found), file)
    return found


def sharing(pipeline: Pipeline, topic: str, existing: Mapping[str, int], file: str | None = None) -> dict[str, int]:
    """The pipeline's tables where one topic holds all of them, as `resolve` takes them.

    Args:
        topic: that topic. existing: partition count by topic.
    Raises: ConfigurationError where it does not exist or has several partitions.
    """
    if topic not in existing:
        raise ConfigurationError(
            f"source.kafka.topic: expected {topic!r} at the broker, found none of that name{near(topic, existing)}",
            file=file,
        )
    if existing[topic] != 1:
        raise ConfigurationError(
            f"source.kafka.topic: expected one partition of {topic}, as the order of changes is known in one only, "
            f"found {existing[topic]}",
            file=file,
        )
    return {pipeline.topic(name): 1 for name in pipeline.tables}


def _place(pipeline: Pipeline, topic: str) -> str:
    name = pipeline.source.name
    return f"topic {topic!r} at the broker" if name == "kafka" else f"table {topic!r} in [source.{name}]"


def written(pipeline: Pipeline, bindings: Sequence[Binding]) -> list[Binding]:
    """What goes to the sink: topics that no step reads, and results, as if each were a topic of its name."""
    by_setting: dict[str, list[Binding]] = {}
    for binding in bindings:
        by_setting.setdefault(binding.setting, []).append(binding)
    found = []
    for node in pipeline.wiring.written:
        found += by_setting.get(node.name, []) if node.step < 0 else [_result(pipeline, node.name)]
    return found


def is_internal(topic: str, existing: Collection[str]) -> bool:
    """Whether a topic is Debezium's or the broker's own: heartbeats, transactions, logical messages, `__...`.

    A prefix may hold dots, so `erp.eu.transaction` is a transaction topic where tables are `erp.eu.public.items`, and a
    table where they are `erp.eu.items`.
    """
    if topic.startswith("__"):
        return True
    prefix, _, last = topic.rpartition(".")
    if last not in _OWN_LAST_PARTS or not prefix:
        return False
    below = [other[len(prefix) + 1 :] for other in existing if other.startswith(prefix + ".")]
    tables = [rest for rest in below if rest not in _OWN_LAST_PARTS]
    return all("." in rest for rest in tables) if tables else "." not in prefix


def target_name(template: str, topic: str) -> str:
    """A sink's `table` with {topic}, {schema} and {table} filled in; a topic is `prefix.schema.table`."""
    parts = topic.split(".")
    schema = parts[-2] if len(parts) > 1 else ""
    return template.replace("{topic}", topic).replace("{schema}", schema).replace("{table}", parts[-1])


def _binding(pipeline: Pipeline, topic: str, name: str, partitions: int) -> Binding:
    spec = pipeline.tables[name]
    template = spec.target or (pipeline.sink.postgres.table if pipeline.sink.postgres is not None else "{table}")
    return Binding(topic, name, spec, target_name(template, topic), partitions)


def _result(pipeline: Pipeline, name: str) -> Binding:
    template = pipeline.sink.postgres.table if pipeline.sink.postgres is not None else "{table}"
    return Binding(name, name, TableSpec(), target_name(template, name))


def refuse_shared_targets(bindings: Sequence[Binding], file: str | None) -> None:
    """Raises ConfigurationError where two of them want the same target table."""
    owners: dict[str, str] = {}
    for binding in bindings:
        other = owners.setdefault(binding.target, binding.topic)
        if other != binding.topic:
            raise ConfigurationError(
                f"tables.{binding.setting}: expected a target table of its own for each topic, "
                f"found {binding.target!r} for both {other} and {binding.topic}; "
                "put {schema} and {table} into the sink's `table`, or set `target`",
                file=file,
            )

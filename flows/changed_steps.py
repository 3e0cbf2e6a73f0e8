"""A pipeline file that was changed since rows were read: refused where rows that it needs do not come by themselves.

    steps.json        what the steps were when an epoch became durable: see `as_they_are`

A step that is new, or that now joins or sums up otherwise, would begin behind the source's position with nothing, or
with the state of other settings; a table that is written only now would lack all rows of before. Steps that answer each
row by itself (`select`, `transform`, `mask`, `call`) may change: what they made of older rows stays. Where one topic
holds all tables, the reading went on behind the rows of a table that was not in the file. A table that another source
partition brings (a PostgreSQL slot) would be read over what the target holds, without the deletes in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog

from flows.spec import Pipeline
from flows.spec_steps import RowStep
from flows.spec_wiring import Node, is_bounded
from flows.state.store import Store
from flows.topics import Binding
from libcore.errors import ConfigurationError

# how long is waited, or how often looked: what is there already stays right
_TUNING = {"every", "out_of_order", "idle_after", "allowed_lateness"}
_OF_TABLES = ("key", "drop", "rename", "where")
_log = structlog.get_logger()


def as_they_are(pipeline: Pipeline, bindings: Sequence[Binding]) -> dict[str, Any]:
    """{"steps": {id: settings}, "written": {table: topics it is made of}, "partitions": {topic: the only one that
    brings it}}, and where one topic holds all tables {"sharing": tables}; as JSON has it."""
    topics = {binding.setting: binding.topic for binding in bindings if not binding.spec.is_pattern}
    wired = pipeline.wiring.steps
    found: dict[str, Any] = {"steps": {}, "written": {}, "partitions": {}}
    for step in wired:
        if isinstance(step.spec, RowStep):
            continue
        settings = step.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_TUNING)
        settings["reads"] = [topics[node.name] if node.step < 0 else wired[node.step].id for node in step.inputs]
        settings["from"] = _topics(pipeline, step.inputs, topics)
        settings["closes"] = is_bounded(step.spec)
        for node in step.inputs:
            if node.step < 0:
                table = pipeline.tables[node.name].model_dump(mode="json", include=set(_OF_TABLES))
                settings |= {f"tables.{node.name}.{name}": value for name, value in table.items() if value}
        found["steps"][step.id] = settings
    for node in pipeline.wiring.written:
        if node.step >= 0:
            found["written"][node.name] = _topics(pipeline, [node], topics)
    for binding in bindings:
        if Node(binding.setting) in pipeline.wiring.written:
            found["written"][binding.topic] = [binding.topic]
        if binding.partition:
            found["partitions"][binding.topic] = binding.partition
    if pipeline.source.kafka is not None and pipeline.source.kafka.topic is not None:
        found["sharing"] = sorted(binding.topic for binding in bindings)
    return found


def _topics(pipeline: Pipeline, nodes: Iterable[Node], topics: Mapping[str, str]) -> list[str]:
    """The topics that streams are made of."""
    found: set[str] = set()
    for node in nodes:
        if node.step < 0:
            found.add(topics[node.name])
        else:
            found.update(_topics(pipeline, pipeline.wiring.steps[node.step].inputs, topics))
    return sorted(found)


def checked(pipeline: Pipeline, bindings: Sequence[Binding], store: Store, file: str) -> dict[str, Any]:
    """What to remember once an epoch is durable: see `as_they_are`. Tables that the file leaves out now stay in it.

    When they are back, they go on where they were, or are read anew; not those that share a topic.

    Args:
        store: what was durable; nothing is refused where nothing was.
    Raises: ConfigurationError where steps or written tables are others than those that rows were read for.
    """
    now, before, read = as_they_are(pipeline, bindings), store.steps(), store.topics()
    if before is None:
        return now
    wrong = [*_changed_steps(before["steps"], now["steps"], read), *_newly_written(before, now, read)]
    wrong += [
        f"table {name}: expected it in the file since the topic that it shares was begun, found it only now or again"
        for name in now.get("sharing", ())
        if name not in before.get("sharing", now["sharing"])
    ]
    brought = before.get("partitions", {})
    wrong += [
        f"table {name}: expected {brought[name]} to bring it, as the rows before, found {partition}"
        for name, partition in now["partitions"].items()
        if brought.get(name, partition) != partition
    ]
    if wrong and pipeline.changed_steps == "accept":
        _log.warning("steps have changed; older rows are as they were", changes=wrong)
    elif wrong:
        raise ConfigurationError(
            f"{wrong[0]}; rows that were read before do not come again: begin anew with another state_dir and an "
            'empty target, or set changed_steps = "accept" and ask for its tables again (headrace snapshot)',
            file=file,
        )
    there = {binding.topic for binding in bindings}
    away = {name: topics for name, topics in before["written"].items() if not there.issuperset(topics)}
    return {**now, "written": {**away, **now["written"]}, "partitions": {**brought, **now["partitions"]}}


def _changed_steps(before: Mapping[str, Any], now: Mapping[str, Any], read: frozenset[str]) -> list[str]:
    wrong = []
    for name, settings in now.items():
        if not read.intersection(settings["from"]):
            continue  # it sees its tables from their first rows on
        if (former := before.get(name)) is None:
            wrong.append(f"step {name}: expected the steps with which its tables were begun, found a new one")
        elif differing := [one for one in {**former, **settings} if former.get(one) != settings.get(one)]:
            one = differing[0]
            wrong.append(
                f"step {name}: expected {one} to be {_shown(former, one)}, as its state was made with, "
                f"found {_shown(settings, one)}"
            )
    return wrong


def _shown(settings: Mapping[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "its default"


def _newly_written(before: Mapping[str, Any], now: Mapping[str, Any], read: frozenset[str]) -> list[str]:
    return [
        f"table {name}: expected it to be written from its first row on, found it written only now"
        for name, topics in now["written"].items()
        if name not in before["written"] and read.intersection(topics)
    ]

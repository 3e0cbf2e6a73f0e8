"""Several sources in one pipeline: each is a pipeline of its own as far as the sources go, put together here.

Inside the flow a named source's tables and partitions carry its name: "erp.public.orders". What was found at a source
is kept in the state directory, so that a restart while one source is away reads the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from bytewax.inputs import FixedPartitionedSource

from connectors.base import json_file
from connectors.base.database import SourceTable
from connectors.base.items import Item, Tick
from flows import spec, topics
from flows.isolated import Failures, Isolated, named
from flows.spec_source import OneSource, Source
from libcore.change import ChangeBatch
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError, HeadraceError, TransientError
from libcore.schema import Table
from libcore.segment import table_as_json, table_from_json

_FILE = "sources.json"
_log = structlog.get_logger()


@dataclass(frozen=True)
class Found:
    """What a source said that it has.

    Args:
        existing: partition count by name. tables: those described, by name; none for Kafka.
    """

    existing: Mapping[str, int]
    tables: Mapping[str, SourceTable] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """One source, and the pipeline as if it were the only one: its tables have their own names there."""

    one: OneSource
    pipeline: spec.Pipeline

    @property
    def name(self) -> str:
        """The source's name."""
        return self.one.name

    def outside(self, binding: topics.Binding) -> topics.Binding:
        """A binding of this source as the flow knows it."""
        topic, partition = self.one.prefix + binding.topic, binding.partition and self.one.prefix + binding.partition
        return replace(binding, topic=topic, table=_renamed(binding.table, topic), partition=partition)

    def inside(self, bindings: Sequence[topics.Binding], whole: spec.Pipeline) -> list[topics.Binding]:
        """Those of the flow's bindings that are this source's, as it knows them."""
        found = []
        for binding in bindings:
            if whole.source.of(whole.tables[binding.setting].source) == self.one:
                topic = binding.topic.removeprefix(self.one.prefix)
                found.append(replace(binding, topic=topic, table=_renamed(binding.table, topic)))
        return found


def _renamed(table: Table | None, name: str) -> Table | None:
    return None if table is None else Table(name, table.columns, table.key)


def members(pipeline: spec.Pipeline) -> list[Member]:
    """The sources that tables come from. Raises ConfigurationError where one has no table."""
    found = []
    for one in pipeline.source.all:
        tables = {
            name: table.model_copy(update={"source": None})
            for name, table in pipeline.tables.items()
            if pipeline.source.of(table.source) == one
        }
        alone = pipeline.model_copy(update={"source": Source.only(one), "tables": tables})
        if tables:
            found.append(Member(one, alone))
    return found


def bind(
    pipeline: spec.Pipeline,
    path: str,
    look: Callable[[spec.Pipeline, str], Found],
    bound: Callable[[spec.Pipeline, str, Found], list[topics.Binding]],
    directory: Path | None,
) -> list[topics.Binding]:
    """The tables of all sources, bound; a source that is away is taken as it was last found.

    Args:
        look: asks one source. bound: binds what it said.
        directory: the state directory that keeps it; None: nothing is kept.
    Raises: ConfigurationError, TransientError (a source that was never seen is away), which name the source.
    """
    bindings: list[topics.Binding] = []
    for member in members(pipeline):
        try:
            try:
                found = look(member.pipeline, path)
            except TransientError as error:
                kept = None if directory is None else _kept(directory, member.name)
                if kept is None:
                    raise
                found = kept
                _log.warning("source does not answer; taken as last found", source=member.name, error=str(error))
            else:
                if directory is not None:
                    _keep(directory, member.name, found)
            bindings += [member.outside(binding) for binding in bound(member.pipeline, path, found)]
        except HeadraceError as error:
            raise named(member.name, error) from None  # the supervisor shows the first error of a chain
    bindings.sort(key=lambda binding: binding.topic)
    names = [binding.topic for binding in bindings]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigurationError(
            f"source: expected tables of different names, found {twice[0]} in two sources: give a source a name of "
            "its own, [source.KIND.NAME]",
            file=path,
        )
    topics.refuse_shared_targets(topics.written(pipeline, bindings), path)
    return bindings


def _kept(directory: Path, name: str) -> Found | None:
    found = json_file.read(directory / _FILE, {}).get(name)
    if found is None:
        return None
    tables = {
        key: SourceTable(key, table_from_json(table), tuple(notes), *partition)
        for key, (table, notes, *partition) in found["tables"].items()
    }
    return Found(found["existing"], tables)


def _keep(directory: Path, name: str, found: Found) -> None:
    path = directory / _FILE
    known = json_file.read(path, {})
    tables = {
        key: [table_as_json(table.table), list(table.notes), table.partition] for key, table in found.tables.items()
    }
    fresh = {"existing": dict(found.existing), "tables": tables}
    if known.get(name) != fresh:
        json_file.write(path, {**known, name: fresh}, durably=True)


def directory_of(pipeline: spec.Pipeline, state: Path | None) -> Path | None:
    """Where a source keeps what is its own: the state directory, or a directory in it for one with a name."""
    if state is None or not pipeline.source.label:
        return state
    own = state / "sources" / pipeline.source.label
    if state.is_dir():
        (own / "run").mkdir(parents=True, exist_ok=True)
    return own


class Several(FixedPartitionedSource[Item, Any]):
    """All sources of a pipeline as one.

    Args:
        parts: each source, with the Bytewax source over its tables, and what asks whether it answers.
        counts: its partitions where it cannot be asked.
        until_end: as for the sources.
        run: the state directory's run/; None: beside a flow.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Member, Any, Callable[[], None]]],
        counts: Mapping[str, Sequence[str]],
        *,
        until_end: bool,
        run: Path | None,
    ) -> None:
        self._parts, self._counts, self._until_end = parts, counts, until_end
        self._failures = Failures([member.name for member, _, _ in parts], run)
        self._failures.forget()
        self._of: dict[str, tuple[Member, Any, Callable[[], None]]] = {}

    def list_parts(self) -> list[str]:
        """Partitions of all sources, with the names of those that have one."""
        self._of = {}
        for part in self._parts:
            member, source, _ = part
            try:
                names = source.list_parts()
            except TransientError:
                if not self._counts[member.name]:
                    raise
                names = self._counts[member.name]
            except HeadraceError as error:
                raise named(member.name, error) from None  # the supervisor shows the first error of a chain
            for name in names:
                if self._of.setdefault(member.one.prefix + name, part) is not part:
                    raise ConfigurationError(
                        f"source: expected partitions of different names, found {name} in two sources: give a source "
                        "a name of its own, [source.KIND.NAME]"
                    )
        return list(self._of)

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> Isolated:
        """A partition behind its guard."""
        if for_part not in self._of:
            self.list_parts()
        member, source, probe = self._of[for_part]
        return Isolated(
            member.name,
            for_part,
            partial(source.build_part, step_id, for_part.removeprefix(member.one.prefix)),
            resume_state,
            probe,
            self._failures,
            until_end=self._until_end,
            shown=Shown(member.one.prefix, for_part),
        )


class Shown:
    """A source's items with its name in front of its tables' names; without a name as they are.

    Args:
        prefix: see OneSource. part: the partition's name in the flow, for its Ticks; "": they keep theirs.
    """

    def __init__(self, prefix: str, part: str = "") -> None:
        self._prefix, self._tick = prefix, Tick(part) if part else None
        self._tables: dict[int, tuple[Table, Table]] = {}  # by id, which is the table's as long as it is kept here

    def __call__(self, item: Item) -> Item:
        """The item as the flow shall see it."""
        if not self._prefix:
            return item
        if isinstance(item, Tick):
            return self._tick or item
        if not isinstance(item, ChangeBatch):
            return replace(item, table=self._prefix + item.table, identity=self._prefix + item.identity)
        if item.table == DEAD_LETTERS:
            return ChangeBatch(item.table, _prefixed(item.record, self._prefix))
        known = self._tables.get(id(item.table))
        if known is None:
            renamed = Table(self._prefix + item.table.name, item.table.columns, item.table.key)
            known = self._tables[id(item.table)] = (item.table, renamed)
            if len(self._tables) > 1000:  # a source that makes a table for each batch
                self._tables.clear()
        return ChangeBatch(known[1], item.record)


def _prefixed(record: pa.RecordBatch, prefix: str) -> pa.RecordBatch:
    for name in ("table_name", "topic"):
        index = record.schema.get_field_index(name)
        texts = pc.binary_join_element_wise(pa.scalar(prefix), record.column(index), "")
        record = record.set_column(index, record.schema.field(index), texts)
    return record

"""Prove that the target equals its source, row by row: `headrace verify FILE`.

The truth is the topics' last state: every partition is read from its first message to its end with the pipeline's own
decoder, folded by key on disk, and only then filtered and renamed, so that a fault of the flow's steps, spool or
applier shows. Or it is a source database given. The target compares itself with the truth, by its own equality.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.clock import system_us
from connectors.base.items import ClearColumn, Truncate
from connectors.postgres.compare import Comparison, Difference, copy_from_source
from connectors.postgres.config import PostgresConfig, TargetTable
from flows import build, reading, spec, topics
from flows.operators.shape import Shaper
from flows.spec_wiring import Wired
from flows.spill import Spill
from flows.state import look
from flows.stateful import compile_steps
from flows.topics import Binding
from flows.verify_steps import StepTruth
from libcore.change import ChangeBatch, Op, op_is
from libcore.dead_letter import DEAD_LETTERS
from libcore.digest import TableDigest, digest_table
from libcore.errors import ConfigurationError
from libcore.schema import Table


@dataclass(frozen=True)
class TableResult:
    """One table's comparison.

    Args:
        source: the topic. target: "schema.table".
        difference: the counts, and up to ten examples.
        unreadable: messages that could not be decoded, and rows that no PostgreSQL holds: not part of the truth.
        digest: of the rows that the target must hold, whatever their order: where two reports tell the same, their
            tables hold the same rows. None where a database was the truth.
    """

    source: str
    target: str
    difference: Difference
    unreadable: int = 0
    digest: TableDigest | None = None


@dataclass(frozen=True)
class Report:
    """What verification found."""

    tables: list[TableResult] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether every table holds exactly its source's rows, and every message of the source could be read."""
        return all(table.difference.is_equal and not table.unreadable for table in self.tables)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        tables = []
        for table in self.tables:
            difference = table.difference
            counts = {name: getattr(difference, name) for name in ("equal", "missing", "extra", "different")}
            examples = [str(example) for example in difference.examples]
            tables.append(
                {
                    "source": table.source,
                    "target": table.target,
                    **counts,
                    "unreadable": table.unreadable,
                    "digest": None if table.digest is None else str(table.digest),
                    "examples": examples,
                }
            )
        return {"equal": self.equal, "tables": tables}

    def lines(self) -> Iterator[str]:
        """The report as text."""
        for table in self.tables:
            difference = table.difference
            verdict = (
                "NOT EQUAL" if not difference.is_equal else "equal" if not table.unreadable else "equal, not proven"
            )
            unreadable = f" ({table.unreadable} messages could not be read: dead letters)" if table.unreadable else ""
            digest = "" if table.digest is None else f", digest {table.digest}"
            yield (
                f"{table.source} -> {table.target}: {verdict}{unreadable}: {difference.equal} equal, "
                f"{difference.missing} missing, {difference.extra} extra, {difference.different} different{digest}"
            )
            yield from (f"  {example}" for example in difference.examples)
        yield f"{len(self.tables)} tables: {'all equal' if self.equal else 'NOT all equal'}"


def verify(path: str, source_dsn: str | None = None, tables: Sequence[str] | None = None, **overrides: Any) -> Report:
    """Compare a pipeline's target with its source.

    Args:
        path: the pipeline file.
        source_dsn: env:NAME or file:/path of a PostgreSQL source to compare with, instead of the topics.
        tables: topics to compare; default: all.
        overrides: as for flows.build.flow.
    Raises: ConfigurationError (no PostgreSQL target, a topic or column that is not there), TransientError.
    """
    pipeline = build.load(path, overrides=overrides)
    if not isinstance(pipeline.sink.settings, spec.PostgresSink):
        raise ConfigurationError(
            f"expected a [sink.postgres] to compare with, found [sink.{pipeline.sink.name}]", file=path
        )
    bindings = reading.bind(pipeline, path)
    chosen = [one for one in topics.written(pipeline, bindings) if tables is None or one.topic in tables]
    config, targets = build.postgres_target(pipeline.sink.settings, chosen, None)
    if source_dsn is not None:
        if pipeline.step:
            raise ConfigurationError("expected a pipeline without steps to compare with a source database", file=path)
        source = config.model_copy(update={"dsn": source_dsn})
        return Report([_against_source(config, source, targets[binding.topic], binding) for binding in chosen])
    return _against_topics(pipeline, path, bindings, config, targets)


def _against_topics(
    pipeline: spec.Pipeline,
    path: str,
    bindings: Sequence[Binding],
    config: PostgresConfig,
    targets: dict[str, TargetTable],
) -> Report:
    shaper = build.make_shaper(pipeline, bindings)
    wiring = pipeline.wiring
    results = {step.output.name: step for step in wiring.steps if step.output.name in targets}
    read = {node.name: node for step in wiring.steps for node in step.inputs if node.step < 0} if results else {}
    needed = [binding for binding in bindings if binding.topic in targets or binding.setting in read]
    with tempfile.TemporaryDirectory(prefix="headrace-verify-") as directory, ExitStack() as stack:
        spills = {binding.topic: Spill(Path(directory), binding.table) for binding in needed}
        for spill in spills.values():
            stack.callback(spill.close)
        unreadable = _fill(pipeline, path, needed, spills)
        report = [
            _straight(config, targets[topic], shaper, spill, topic, unreadable[topic])
            for topic, spill in spills.items()
            if topic in targets
        ]
        if results:
            steps = _StepSide(pipeline, path, bindings, shaper, spills, Path(directory))
            stack.callback(steps.truth.close)
            unread = sum(unreadable[binding.topic] for binding in bindings if binding.setting in read) + steps.refused
            report += [steps.compare(config, targets[name], wired, unread) for name, wired in results.items()]
        return Report(report)


def _fill(pipeline: spec.Pipeline, path: str, bindings: Sequence[Binding], spills: dict[str, Spill]) -> dict[str, int]:
    """Fold all messages; messages that could not be read, by topic."""
    unreadable = dict.fromkeys(spills, 0)
    for item in reading.read_all(pipeline, bindings, path, build.state_directory(pipeline, path)):
        if isinstance(item, Truncate):
            spills[item.table].clear()
        elif isinstance(item, ClearColumn):
            spills[item.table].clear_column(item.column)
        elif isinstance(item, ChangeBatch) and item.table == DEAD_LETTERS:
            for name in item.record.column("table_name").to_pylist():
                for topic in [name] if name in unreadable else unreadable:  # of which table, the message does not say
                    unreadable[topic] += 1
        elif isinstance(item, ChangeBatch):
            spills[item.table.name].add(item)
    return unreadable


class _StepSide:
    """The truth of the steps, filled from the folded topics."""

    def __init__(
        self,
        pipeline: spec.Pipeline,
        path: str,
        bindings: Sequence[Binding],
        shaper: Shaper,
        spills: dict[str, Spill],
        directory: Path,
    ) -> None:
        def shaped(binding: Binding) -> Table:
            table = spills[binding.topic].table or reading.source_table(pipeline, path, None, binding)
            return shaper.plan(table).target

        _, self._tables = compile_steps(pipeline, bindings, shaped, path)
        self.truth = StepTruth(pipeline, self._tables, directory, _as_of_us(pipeline, path), Path(path))
        self.refused = 0
        by_setting = {binding.setting: binding.topic for binding in bindings}
        for node in self._tables:
            if node.step >= 0:
                continue
            for batch in spills[by_setting[node.name]].folded():
                rows, letters = shaper.shaped(batch)
                self.refused += 0 if letters is None else letters.row_count
                self.truth.add(node, _alive(rows.record))
        self.truth.compute()
        self.refused += self.truth.refused

    def compare(self, config: PostgresConfig, target: TargetTable, wired: Wired, unreadable: int) -> TableResult:
        """One result against its target table."""
        digest = TableDigest()
        with Comparison(config, target, self._tables[wired.output], with_unset=False) as comparison:
            for batch in self.truth.results(wired):
                unreadable += len(comparison.expect(batch.record))
                digest += digest_table(batch.record)
            return TableResult(wired.output.name, target.name, comparison.result(), unreadable, digest)


def _as_of_us(pipeline: spec.Pipeline, path: str) -> int:
    """The time that `due` steps were last told, in microseconds since 1970: what they show is as of then.

    HEADRACE_CLOCK says it where it is set; where no state directory of the flow is to be found, it is now.
    """
    if (standing := build.standing_clock()) is not None:
        return standing()
    told = look.read_clock(build.state_directory(pipeline, path) / "recovery", pipeline.name)
    return system_us() if told is None else told


def _alive(record: pa.RecordBatch) -> pa.RecordBatch:
    """Without the deletes that `where` made."""
    return record.filter(pc.invert(op_is(record, Op.DELETE)))


def _straight(
    config: PostgresConfig, target: TargetTable, shaper: Shaper, spill: Spill, topic: str, unreadable: int
) -> TableResult:
    """A table that no step reads against its target table."""
    if spill.table is None:
        return TableResult(topic, target.name, Difference(), unreadable, TableDigest())
    digest = TableDigest()
    with Comparison(config, target, shaper.plan(spill.table).target, with_unset=True) as comparison:
        for batch in spill.folded():
            shaped, letters = shaper.shaped(batch)
            rows = _alive(shaped.record)
            unreadable += (0 if letters is None else letters.row_count) + len(comparison.expect(rows))
            digest += digest_table(rows)
        return TableResult(topic, target.name, comparison.result(), unreadable, digest)


def _against_source(
    config: PostgresConfig, source: PostgresConfig, target: TargetTable, binding: Binding
) -> TableResult:
    settings = binding.spec
    difference = copy_from_source(
        config, source, target, ".".join(binding.topic.split(".")[-2:]), settings.rename, settings.drop, settings.where
    )
    return TableResult(binding.topic, target.name, difference)

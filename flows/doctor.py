"""What is amiss with a pipeline's source: every source is asked, and what cannot be asked is a finding, too."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from connectors.base.database import Finding
from flows import build, direct, sources, spec, topics
from flows.state.look import read_positions
from libcore.errors import ConfigurationError, HeadraceError, TransientError


@dataclass(frozen=True)
class Report:
    """What was found; `source`: the system's name as a person writes it."""

    name: str
    source: str
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing was found that refuses a start or loses something."""
        return not any(finding.severity == "error" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = [asdict(finding) for finding in self.findings]
        return {"name": self.name, "source": self.source, "healthy": self.healthy, "findings": found}


def examine(path: str) -> Report:
    """Look over the source of a pipeline file. Raises ConfigurationError for the file itself."""
    pipeline = build.load(path)
    if not pipeline.source.several:
        return Report(pipeline.name, pipeline.source.title, tuple(_examined(pipeline, path)))
    found = [
        replace(finding, what=f"{member.name}: {finding.what}")
        for member in sources.members(pipeline)
        for finding in _examined(member.pipeline, path)
    ]
    order = ("error", "warning", "note")
    found.sort(key=lambda finding: order.index(finding.severity))
    return Report(pipeline.name, pipeline.source.title, tuple(found))


def _examined(pipeline: spec.Pipeline, path: str) -> list[Finding]:
    return _kafka(pipeline, path) if pipeline.source.kafka is not None else _direct(pipeline, path)


def _kafka(pipeline: spec.Pipeline, path: str) -> list[Finding]:
    from connectors.kafka.doctor import examine as examine_topics
    from connectors.kafka.source import list_topics

    kafka = pipeline.source.kafka
    assert kafka is not None
    names = {pipeline.topic(name) for name, table in pipeline.tables.items() if not table.is_pattern}
    if kafka.topic is not None:
        names = {kafka.topic}
    found: list[Finding] = []
    if any(table.is_pattern for table in pipeline.tables.values()):
        patterns = {name: table for name, table in pipeline.tables.items() if table.is_pattern}
        only = pipeline.model_copy(update={"tables": patterns})
        try:
            names |= {binding.topic for binding in topics.resolve(only, list_topics(kafka), path)}
        except ConfigurationError as error:
            found.append(Finding("error", "topics", "those of the pipeline file", str(error)))
        except TransientError as error:
            return [Finding("error", "cluster", f"an answer of {kafka.servers}", str(error))]
    if pipeline.document is not None and pipeline.document.transaction_topic is not None:
        names.add(pipeline.document.transaction_topic)
    directory = build.state_directory(pipeline, path)
    positions = read_positions(directory / "recovery", pipeline.name)
    if label := pipeline.source.label:
        positions = {
            part.removeprefix(f"{label}."): at for part, at in positions.items() if part.startswith(f"{label}.")
        }
    return found + examine_topics(kafka, sorted(names), positions)


def _direct(pipeline: spec.Pipeline, path: str) -> list[Finding]:
    try:
        return direct.findings(pipeline, direct.bind(pipeline, path), path)
    except HeadraceError as error:
        what = "tables" if isinstance(error, ConfigurationError) else pipeline.source.title
        found = [Finding("error", what, "those of the pipeline file, described by the source", str(error))]
    try:  # the rest can be looked over all the same
        with closing(direct.open_source(pipeline, direct.context(pipeline, path, None))) as source:
            return found + source.doctor([])
    except HeadraceError:
        return found

"""Where a window's event time comes from: its column, followed back through the steps to a topic."""

from __future__ import annotations

from collections.abc import Mapping

from flows.enrich import EventTime
from flows.operators.watermarks import WatermarkSettings
from flows.spec_steps import DueStep, JoinStep, RowStep, WindowStep
from flows.spec_wiring import Node, Wired, Wiring
from flows.topics import Binding
from libcore.errors import ConfigurationError


def event_time(wired: Wired, wiring: Wiring, bindings: Mapping[str, Binding]) -> EventTime:
    """What the watermarks of a window step are made of.

    Args:
        bindings: by the table's NAME in the file.
    Raises: ConfigurationError where the time is computed by a step, so that no topic shows it.
    """
    step = wired.spec
    assert isinstance(step, WindowStep), step
    node, column = _origin(wired.inputs[0], step.time, wiring)
    binding = bindings[node.name]
    if binding.table is not None and not binding.partition:
        raise ConfigurationError(
            'time: expected a column of a table that one source partition brings beside emit = "final" or '
            f"allowed_lateness, as it tells the time, found {binding.topic}"
        )
    source = {target: name for name, target in binding.spec.rename.items()}.get(column, column)
    topic_partitions = tuple(f"{binding.topic}/{number}" for number in range(binding.partitions))
    partitions = (binding.partition,) if binding.partition else topic_partitions
    settings = WatermarkSettings(partitions, step.out_of_order, step.idle_after / 1_000_000)
    return EventTime(binding.topic, source, settings, binding.partition)


def _origin(node: Node, column: str, wiring: Wiring) -> tuple[Node, str]:
    """(table of the file, its column) that a column of a stream is copied from."""
    if node.step < 0:
        return node, column
    before = wiring.steps[node.step]
    spec = before.spec
    if isinstance(spec, JoinStep):
        for there, here in spec.taken.items():
            if here == column:
                return _origin(before.inputs[1], there, wiring)
        return _origin(before.inputs[0], column, wiring)
    made = [name for setting in ("select", "transform", "mask", "gives") for name in getattr(spec, setting, ())]
    if isinstance(spec, RowStep | DueStep) and column not in made:
        return _origin(before.inputs[0], column, wiring)
    raise ConfigurationError(
        f"time: expected a column that comes from a topic, as lateness is told by it, found {column!r}, "
        f"which step {before.id} makes"
    )

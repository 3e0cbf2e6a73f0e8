"""Where a masked column comes from: the columns of earlier streams whose values stand in it, back to the topics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flows.spec_steps import CallStep, DueStep, JoinStep, MaskStep, SelectStep, Step, TransformStep, WindowStep
from flows.spec_transform import origins
from flows.spec_wiring import Node, Wired, Wiring
from flows.topics import Binding
from libcore.schema import Table

_WORDS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|\"(?:[^\"]|\"\")*\"")


def withheld(
    wired: Wired, wiring: Wiring, tables: Mapping[Node, Table], bindings: Mapping[str, Binding]
) -> dict[tuple[str, str], frozenset[str]]:
    """Which columns must not show in dead letters, because a mask step hides them.

    Args:
        wired: the mask step. wiring: all steps.
        tables: the table of each stream in front of the step. bindings: by the table's NAME in the file.
    Returns: (step, table) of a dead letter -> columns of its row. The step is "" for all that happens to a topic's rows
        in front of the steps; the columns are the topic's own there. Of a topic that holds several tables also its own
        name, with those of all.
    """
    assert isinstance(wired.spec, MaskStep), wired
    hidden: dict[Node, set[str]] = {}
    waiting = [(wired.inputs[0], column) for column in wired.spec.mask]
    while waiting:
        node, column = waiting.pop()
        if column in hidden.setdefault(node, set()):
            continue
        hidden[node].add(column)
        if node.step >= 0:
            waiting += _origins(wiring.steps[node.step], column, tables)
    found: dict[tuple[str, str], frozenset[str]] = {}
    for step in wiring.steps:
        for node in step.inputs:
            if node in hidden:
                place = (step.id, tables[node].name)
                found[place] = found.get(place, frozenset()) | hidden[node]
    for node, columns in hidden.items():
        if node.step < 0:
            binding = bindings[node.name]
            source = {target: name for name, target in binding.spec.rename.items()}
            hides = frozenset(source.get(name, name) for name in columns)
            # of a message that cannot be read nobody knows which of its partition's tables it was for
            shared = binding.partition.rpartition("/")[0]
            for letter in (binding.topic, shared) if shared else (binding.topic,):
                found["", letter] = found.get(("", letter), frozenset()) | hides
    return found


def _origins(before: Wired, column: str, tables: Mapping[Node, Table]) -> list[tuple[Node, str]]:
    """The columns of a step's inputs whose values a column of its result shows."""
    step, first = before.spec, before.inputs[0]
    if isinstance(step, JoinStep):
        for there, here in step.taken.items():
            if here == column:
                return [(before.inputs[1], there)]
        # the key that a foreign key points at has the same values
        return [(first, column), *((before.inputs[1], step.on[column]) for _ in range(column in step.on))]
    names = [one.name for one in tables[first].columns]
    return [(first, name) for name in _read(step, column, names)]


def _read(step: Step, column: str, names: Sequence[str]) -> Sequence[str]:
    if isinstance(step, DueStep) and column == step.flag:
        return [step.at]
    if isinstance(step, WindowStep) and column in ("window_start", "window_end"):
        return [step.time]
    if isinstance(step, TransformStep):
        return [name for name in names if name in origins(step.transform, column)]
    if isinstance(step, CallStep) and column in step.gives:
        return step.take or names
    expressions = step.select if isinstance(step, SelectStep) else getattr(step, "aggregate", {})
    if column not in expressions:
        return [column] if column in names else []
    words = {word.strip('"').lower() for word in _WORDS.findall(expressions[column])}
    return [name for name in names if name.lower() in words]

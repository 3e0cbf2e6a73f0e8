"""Which table each `[[step]]` means: names resolved in the order of the steps, and what is left to write at the end."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from flows.spec_errors import near
from flows.spec_steps import (
    CallStep,
    DueStep,
    GroupStep,
    JoinStep,
    MaskStep,
    RowStep,
    SelectStep,
    Step,
    TransformStep,
    WindowStep,
)


@dataclass(frozen=True)
class Node:
    """A stream of one table's changes: a table of the file (step -1), or the result of a step."""

    name: str
    step: int = -1


@dataclass(frozen=True)
class Wired:
    """A step with the streams it reads, and its id in the dataflow and the recovery store."""

    spec: Step
    id: str
    inputs: tuple[Node, ...]
    output: Node

    @property
    def late(self) -> Node | None:
        """The stream of a window's late rows, where it has a bound on lateness."""
        return Node(late_name(self.output.name), self.output.step) if is_bounded(self.spec) else None


@dataclass(frozen=True)
class Wiring:
    """All steps, and the streams that go to the sink: those that no step reads, and tables with `write = true`."""

    steps: tuple[Wired, ...]
    written: tuple[Node, ...]


def is_bounded(step: Step) -> bool:
    """Whether a step closes its windows, so that rows can be late for them."""
    return isinstance(step, WindowStep) and (step.emit == "final" or step.allowed_lateness is not None)


def late_name(result: str) -> str:
    """What the table of a window's late rows is called."""
    return f"{result}_late"


def wire(tables: Collection[str], patterns: Collection[str], steps: Sequence[Step], always: Collection[str]) -> Wiring:
    """Resolve the names of all steps.

    Args:
        tables: NAMEs of [tables.NAME]. patterns: those that are patterns of topics, which no step can read.
        always: tables that are written though a step reads them.
    Raises: ValueError "setting|expected|found" for the pipeline model.
    """
    named = {name: Node(name) for name in tables}
    ids: set[str] = set()
    wired: list[Wired] = []
    read: set[Node] = set()
    for index, step in enumerate(steps):
        inputs = []
        for setting, name in _reads(step, wired):
            if name not in named or name in patterns:
                what = "one topic, found a pattern of topics:" if name in patterns else ""
                known = [other for other in named if other not in patterns]
                raise ValueError(
                    f"step.{index}.{setting}|a table or an earlier result, one of {known}|{what}{name!r}"
                    f"{near(name, known)}"
                )
            inputs.append(named[name])
        result = _result(step, inputs)
        if result in named and named[result] not in inputs[:1]:
            raise ValueError(f"step.{index}.as|a name of its own for the result|{result!r}, which is there already")
        if result in always and result in tables:
            raise ValueError(f"step.{index}.as|another name than that of a table with `write = true`|{result!r}")
        output = named[result] = Node(result, index)
        if is_bounded(step):
            if (late := late_name(result)) in named:
                raise ValueError(f"step.{index}.as|a result without a {late!r} beside it, for its late rows|{result!r}")
            named[late] = Node(late, index)
        read.update(inputs)
        wired.append(Wired(step, _unique(_id(step, result), ids), tuple(inputs), output))
    nodes = [Node(name) for name in tables]
    for done in wired:
        nodes += [node for node in (done.output, done.late) if node is not None]
    written = tuple(node for node in nodes if node not in read or (node.step < 0 and node.name in always))
    return Wiring(tuple(wired), written)


def _reads(step: Step, before: Sequence[Wired]) -> Iterator[tuple[str, str]]:
    """(setting, name) of each table that a step reads; the first is the one whose rows the result has."""
    if isinstance(step, JoinStep):
        yield "join", step.join
        yield "with", step.with_
    elif isinstance(step, WindowStep):
        yield "window", step.window
    elif isinstance(step, GroupStep):
        yield "group", step.group
    elif isinstance(step, DueStep):
        yield "due", step.due
    elif step.of is not None:
        yield "of", step.of
    elif before:
        yield "of", before[-1].output.name
    else:
        raise ValueError("step.0.of|the table that gets the columns, as no step stands before|nothing")


def _result(step: Step, inputs: Sequence[Node]) -> str:
    if isinstance(step, RowStep):
        return step.as_ or inputs[0].name
    return step.result


def _id(step: Step, result: str) -> str:
    if isinstance(step, JoinStep):
        return f"join-{result}-{step.with_}"
    kinds = {
        WindowStep: "window", GroupStep: "group", SelectStep: "select", DueStep: "due", MaskStep: "mask",
        CallStep: "call", TransformStep: "transform",
    }  # fmt: skip
    return f"{kinds[type(step)]}-{result}"


def _unique(wanted: str, taken: set[str]) -> str:
    """The id, with a number behind where it is used; dots would look like a nested step."""
    plain = wanted.replace(".", "_")
    found, number = plain, 1
    while found in taken:
        number += 1
        found = f"{plain}-{number}"
    taken.add(found)
    return found

"""Bytewax in small: runs a real Dataflow on simulated workers, where a seed decides what is delivered when.

As Bytewax 0.21 does: FIFO per sender, receiver and edge, and no other order; a barrier at the end of each epoch that
empties every channel, then snapshots of what was awoken, durable all at once; keys on the worker that their hash says;
items between workers pickled. A kill leaves what the last durable epoch left. Parts of sources and sinks lie on
workers at random.
"""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bytewax.dataflow import Dataflow

from flows.state.slots import worker_of
from tests.simulate.ends import Ending


@dataclass
class Store:
    """The recovery store: pickled state by (step, key), as of the last durable epoch."""

    states: dict[tuple[str, str], bytes] = field(default_factory=dict)
    epochs: int = 0


@dataclass
class _Node:
    """A core operator on one worker."""

    step: Any
    kind: str
    down: str | None
    parts: dict[str, Any] = field(default_factory=dict)  # logics or partitions by key
    awoken: set[str] = field(default_factory=set)


def core_steps(flow: Dataflow) -> list[Any]:
    """The core operators of a dataflow, upstream first."""

    def walk(steps: list[Any]) -> Iterator[Any]:
        for step in steps:
            if getattr(step, "core", False):
                yield step
            else:
                yield from walk(step.substeps)

    return list(walk(flow.substeps))


class Engine:
    """One start of a dataflow on some workers.

    Args:
        build: the dataflow of a worker, which shares nothing with the others'.
        workers: how many. rng: decides all that is not laid down. store: where state is read and made durable.
        ending: told of each delivery ("stage") and each snapshot ("snapshot").
    """

    def __init__(
        self, build: Callable[[int], Dataflow], workers: int, rng: random.Random, store: Store, ending: Ending
    ) -> None:
        self._workers, self._rng, self._store, self._ending = workers, rng, store, ending
        self._nodes = [[self._node(step) for step in core_steps(build(worker))] for worker in range(workers)]
        self._readers: dict[str, list[int]] = {}
        for index, node in enumerate(self._nodes[0]):
            for stream in self._ups(node.step):
                self._readers.setdefault(stream, []).append(index)
        # (sender, node, stream, receiver) -> items on their way
        self._channels: dict[tuple[int, int, str, int], deque[Any]] = {}
        self._places: dict[tuple[int, str], int] = {}
        self._resume()

    @staticmethod
    def _node(step: Any) -> _Node:
        kind = type(step).__name__
        if kind not in ("input", "flat_map_batch", "merge", "stateful_batch", "output"):
            raise ValueError(f"the simulated engine has no operator {kind} ({step.step_id})")
        return _Node(step, kind, step.down.stream_id if kind != "output" else None)

    @staticmethod
    def _ups(step: Any) -> list[str]:
        return [stream for name in step.ups_names for stream in getattr(step, name).stream_ids.values()]

    def _resume(self) -> None:
        for index, node in enumerate(self._nodes[0]):
            step = node.step.step_id
            if node.kind in ("input", "output"):
                end = node.step.source if node.kind == "input" else node.step.sink
                for part in sorted(end.list_parts()):
                    worker = self._places[index, part] = self._rng.randrange(self._workers)
                    there = self._nodes[worker][index]
                    own = there.step.source if node.kind == "input" else there.step.sink
                    there.parts[part] = own.build_part(step, part, self._state(step, part))
            elif node.kind == "stateful_batch":
                for owner, key in self._store.states:
                    if owner == step:
                        there = self._nodes[worker_of(key, self._workers)][index]
                        there.parts[key] = there.step.builder(self._state(step, key))

    def _state(self, step: str, key: str) -> Any:
        data = self._store.states.get((step, key))
        return None if data is None else pickle.loads(data)

    def run(self) -> None:
        """Run to the end of the input. Raises Killed as `ending` says."""
        reading = [
            (worker, index, part)
            for worker in range(self._workers)
            for index, node in enumerate(self._nodes[worker])
            if node.kind == "input"
            for part in node.parts
        ]
        while reading:
            reading = self._epoch(reading)

    def _epoch(self, reading: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
        """One epoch; the partitions that are not at their end yet."""
        snapshots: dict[tuple[str, str], Any] = {}
        waiting, going = list(reading), []
        self._rng.shuffle(waiting)
        while waiting or self._channels:
            if waiting and (not self._channels or self._rng.random() < 0.3):
                worker, index, part = waiting.pop()
                node = self._nodes[worker][index]
                try:
                    items = list(node.parts[part].next_batch())
                    going.append((worker, index, part))
                except StopIteration:
                    items = []
                snapshots[node.step.step_id, part] = node.parts[part].snapshot()
                self._emit(worker, node, items)
            else:
                self._deliver()
        if not going:
            self._end()
        self._close(snapshots)
        return going

    def _emit(self, worker: int, node: _Node, items: list[Any]) -> None:
        """Put items on the channels of all readers of the node's stream."""
        if not items or node.down is None:
            return
        for index in self._readers.get(node.down, ()):
            reader = self._nodes[0][index]
            if reader.kind not in ("stateful_batch", "output"):
                self._channels.setdefault((worker, index, node.down, worker), deque()).extend(items)
                continue
            for item in items:
                there = self._owner(index, reader, item[0])
                sent = item if there == worker else pickle.loads(pickle.dumps(item))
                self._channels.setdefault((worker, index, node.down, there), deque()).append(sent)

    def _owner(self, index: int, node: _Node, key: str) -> int:
        if node.kind == "stateful_batch":
            return worker_of(key, self._workers)
        return self._places[index, self._part(node, key)]

    @staticmethod
    def _part(node: _Node, key: str) -> str:
        parts = sorted(node.step.sink.list_parts())
        return parts[node.step.sink.part_fn(key) % len(parts)]

    def _deliver(self) -> None:
        """Some items of some channel to its reader."""
        self._ending.at("stage")
        channel = self._rng.choice(list(self._channels))
        queue = self._channels[channel]
        count = len(queue) if self._rng.random() < 0.6 else self._rng.randint(1, len(queue))
        items = [queue.popleft() for _ in range(count)]
        if not queue:
            del self._channels[channel]
        _, index, _, worker = channel
        node = self._nodes[worker][index]
        if node.kind == "merge":
            self._emit(worker, node, items)
        elif node.kind == "flat_map_batch":
            self._emit(worker, node, list(node.step.mapper(items)))
        else:
            self._keyed(worker, node, items)

    def _keyed(self, worker: int, node: _Node, items: list[tuple[str, Any]]) -> None:
        values: dict[str, list[Any]] = {}
        for key, value in items:
            values.setdefault(key if node.kind == "stateful_batch" else self._part(node, key), []).append(value)
        keys = list(values)
        self._rng.shuffle(keys)
        for key in keys:
            node.awoken.add(key)
            if node.kind == "output":
                node.parts[key].write_batch(values[key])
                continue
            if key not in node.parts:
                node.parts[key] = node.step.builder(None)
            self._answered(worker, node, key, node.parts[key].on_batch(values[key]))

    def _answered(self, worker: int, node: _Node, key: str, answer: tuple[Any, bool]) -> None:
        emitted, discard = answer
        self._emit(worker, node, [(key, value) for value in emitted])
        assert not discard, (node.step.step_id, "the engine knows no discarded state")
        at = node.parts[key].notify_at()
        assert at is None or at > datetime.now(UTC) + timedelta(hours=1), (
            node.step.step_id,
            "the engine has no timers",
        )

    def _end(self) -> None:
        """The end of the input, node after node."""
        for index, first in enumerate(self._nodes[0]):
            if first.kind == "stateful_batch":
                for worker in range(self._workers):
                    node = self._nodes[worker][index]
                    for key in sorted(node.parts):
                        node.awoken.add(key)
                        self._answered(worker, node, key, node.parts[key].on_eof())
            while self._channels:
                self._deliver()

    def _close(self, snapshots: dict[tuple[str, str], Any]) -> None:
        """Snapshots of what was awoken, then all of them durable."""
        for index in range(len(self._nodes[0])):
            for worker in self._rng.sample(range(self._workers), self._workers):
                node = self._nodes[worker][index]
                for key in sorted(node.awoken):
                    self._ending.at("snapshot")
                    snapshots[node.step.step_id, key] = node.parts[key].snapshot()
                node.awoken.clear()
        self._store.states.update({where: pickle.dumps(state) for where, state in snapshots.items()})
        self._store.epochs += 1

    def ends(self) -> list[Any]:
        """The sinks' parts."""
        return [
            part for nodes in self._nodes for node in nodes if node.kind == "output" for part in node.parts.values()
        ]

"""The keyed step: rows go to the process that has their slot, one batch a process, and state is kept per slot.

A stage works on whole batches with the rows of any of its process's slots, so a batch costs one call, not one a slot.
Bytewax sees a key a slot: items travel under the key of the destination's first slot, and every slot with rows is
awoken, so that its manifest is written. Slots move when the number of processes changes, and their rows with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import bytewax.operators as op
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from bytewax.dataflow import Stream, operator
from bytewax.operators import KeyedStream, StatefulBatchLogic

from connectors.base import stop
from connectors.base.epoch_writes import EpochWrites
from flows.state.log import StateLog
from flows.state.segments import SegmentStore
from flows.state.slots import slot_names, slot_workers
from libcore.errors import FatalError
from libcore.hashing import hash_rows
from libcore.schema import Table
from libcore.slots import scatter, slot_of
from libcore.table import RowStore

_LOG = structlog.get_logger()
_ALL_TOUCHED_FACTOR = 16  # with that many rows a slot, nearly every slot has one: all are awoken without a look


@dataclass(frozen=True, slots=True)
class Parcel:
    """Rows on their way to a keyed step. `kind` says which of the step's inputs they are.

    Pickles as Arrow IPC, so a slice never drags its parent along.
    """

    kind: str
    table: Table | None
    record: pa.RecordBatch

    def __reduce__(self) -> tuple[Any, ...]:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.record.schema) as writer:
            writer.write_batch(self.record)
        return (_unpickle, (self.kind, self.table, sink.getvalue().to_pybytes()))


def _unpickle(kind: str, table: Table | None, data: bytes) -> Parcel:
    with pa.ipc.open_stream(data) as reader:
        return Parcel(kind, table, reader.read_next_batch())


@dataclass(frozen=True, slots=True)
class Watermark:
    """All rows with an event time below `us` (microseconds since 1970) have been seen, as far as is known."""

    us: int


class Stage(Protocol):
    """What a keyed step does, for all slots of a process. Used by one thread."""

    @property
    def stores(self) -> Mapping[str, RowStore]:
        """The state by name."""

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """Take rows that `changed` or `whole` of that store gave, perhaps of an older, narrower shape."""

    def on_items(self, items: Sequence[Any]) -> Iterable[Any]:
        """Parcels with rows of this process's slots, Truncates, Watermarks; what comes out goes downstream."""

    def epoch_ends(self) -> None:
        """The epoch is over: nothing of it comes any more."""

    def input_ends(self) -> Iterable[Any]:
        """The input is at its real end, which a stop is not."""


@dataclass(frozen=True)
class Context:
    """What keyed steps need to know of the flow they are in.

    Args:
        slots: key-hash slots, fixed for the pipeline's life.
        workers: of all processes; one a process.
        process: this process's number.
        segments: where state segments lie; None: nothing is kept (no recovery store).
        state_bytes: bound of the memory of a step's state in one process, in bytes; 0: none.
        keep_s: how long a freed file stays, for backups of the recovery store.
        writes: writes what an epoch's end makes durable; shared with the flow's sink, whose parts wait for it.
    """

    slots: int = 64
    workers: int = 1
    process: int = 0
    segments: str | Path | None = None
    state_bytes: int = 0
    keep_s: float = 0.0
    writes: EpochWrites = field(default_factory=EpochWrites)


@operator
def keyed(
    step_id: str,
    up: Stream[Any],
    stage: Callable[[], Stage],
    by: Mapping[str, tuple[str, ...]],
    context: Context,
    keeps: bool = True,
) -> Stream[Any]:
    """Run a stage over parcels, each row in the process that has its slot.

    Args:
        step_id: unique name of the step; part of the recovery store.
        up: Parcel, Truncate and Watermark items. Truncates and Watermarks go to every process.
        stage: makes the stage; called once in each worker.
        by: for each kind of parcel the columns whose hash decides the slot.
        context: see Context.
        keeps: whether the stage has stores: if not, no slot has a manifest to be awoken for.
    Returns: what the stage gave.
    """
    hub = Lazy(step_id, stage, context)
    routed: KeyedStream[Any] = op.flat_map_batch("route", up, Route(hub, by, context, keeps))
    out = op.stateful_batch("state", routed, hub.logic)
    return op.flat_map_batch("out", out, _without_keys)


def _without_keys(items: list[tuple[str, Any]]) -> list[Any]:
    return [item for _, item in items]


class Route:
    """The mapper in front of the stage: splits parcels over the processes and awakens the slots they touch."""

    def __init__(self, hub: Lazy, by: Mapping[str, tuple[str, ...]], context: Context, keeps: bool = True) -> None:
        self._hub, self._by, self._slots, self._keeps = hub, by, context.slots, keeps
        self._names = slot_names(context.slots)
        self._workers = slot_workers(context.slots, context.workers)
        self._own: dict[int, list[int]] = {}
        for slot, worker in enumerate(self._workers):
            self._own.setdefault(worker, []).append(slot)

    def __call__(self, items: list[Any]) -> list[tuple[str, Any]]:
        """(key, (slot, item or None)): an item under its process's first slot, None to awaken a slot."""
        routed: list[tuple[str, Any]] = []
        touched: set[int] = set()
        for item in items:
            if not isinstance(item, Parcel):
                routed += [self._to(worker, item) for worker in self._own]
                touched.update(range(self._slots))
            elif item.record.num_rows:
                routed += self._parcel(item, touched)
        if not self._keeps:
            return routed
        touched |= self._hub.to_awake()
        leads = {slots[0] for slots in self._own.values()}
        awoken = {slot for _, (slot, _) in routed}
        routed += [(self._names[slot], (slot, None)) for slot in touched - (awoken & leads)]
        return routed

    def _to(self, worker: int, item: Any) -> tuple[str, Any]:
        slot = self._own[worker][0]
        return (self._names[slot], (slot, item))

    def _parcel(self, parcel: Parcel, touched: set[int]) -> list[tuple[str, Any]]:
        record = parcel.record
        indexes = [record.schema.get_field_index(name) for name in self._by[parcel.kind]]
        if len(self._own) == 1 and (not self._keeps or record.num_rows >= _ALL_TOUCHED_FACTOR * self._slots):
            touched.update(range(self._slots))
            return [self._to(worker, parcel) for worker in self._own]
        hashes = hash_rows(record, indexes)
        touched.update(pc.unique(slot_of(hashes, self._slots)).to_pylist())
        if len(self._own) == 1:
            return [self._to(worker, parcel) for worker in self._own]
        pieces = scatter(record, hashes, self._slots, bytes(self._workers))
        return [self._to(worker, Parcel(parcel.kind, parcel.table, piece)) for worker, piece in pieces]


class Lazy:
    """The worker's one hub, made in the worker when the first slot comes, not where the dataflow is only drawn."""

    def __init__(self, step_id: str, stage: Callable[[], Stage], context: Context) -> None:
        self._step_id, self._stage, self._context = step_id, stage, context
        self._hub: Hub | None = None

    def logic(self, resume_state: tuple[Any, ...] | None) -> SlotLogic:
        """What Bytewax calls for a slot that it has not seen in this run."""
        if self._hub is None:
            self._hub = Hub(self._step_id, self._stage(), self._context)
        return SlotLogic(self._hub, resume_state)

    def to_awake(self) -> set[int]:
        """Slots whose manifests are to be written anew though no row of theirs changes."""
        return set() if self._hub is None else self._hub.to_awake()


@dataclass
class Hub:
    """A stage with its state, in one worker."""

    step_id: str
    stage: Stage
    context: Context
    log: StateLog | None = None
    awoken: set[int] = field(default_factory=set)  # slots that get a snapshot at the end of the epoch
    _written: bool = True  # nothing came since the newest snapshot
    _begun: bool = False  # the first item was seen: all slots that have state are attached
    _ended: bool = False

    def __post_init__(self) -> None:
        context, stores = self.context, self.stage.stores
        if context.segments is not None and stores:
            files = SegmentStore(context.segments, self.step_id, context.process)
            bounds = context.state_bytes, context.keep_s
            self.log = StateLog(self.step_id, files, self.stage, context.writes, *bounds)

    def attach(self, slot: int, state: tuple[Any, ...] | None) -> None:
        """A slot is here from now on, with the rows its manifest names."""
        if self.log is not None:
            if state is not None and self._begun:
                raise FatalError(f"step {self.step_id}: slot {slot} came with state after the first item")
            self.log.attach(slot, state)

    def to_awake(self) -> set[int]:
        """See Lazy.to_awake."""
        return set() if self.log is None else self.log.to_awake

    def work(self, items: Sequence[Any]) -> list[Any]:
        """Run the stage; the first call of an epoch shows that the former one is durable."""
        self.epoch_begins()
        return list(self.stage.on_items(items)) if items else []

    def epoch_begins(self) -> None:
        """To be called with every item, before anything changes."""
        if self.log is not None and not self._begun:
            workers = slot_workers(self.context.slots, self.context.workers)
            mine = [slot for slot, worker in enumerate(workers) if worker == self.context.process]
            self.log.attached(mine)
        self._begun = True
        if self._written:
            self._written = False
            if self.log is not None:
                self.log.check_saved()
                self.log.durable()

    def snapshot(self, slot: int) -> tuple[Any, ...] | None:
        """The slot's manifest; the first slot of an epoch makes the epoch's changes durable."""
        if not self._written:
            self._written = True
            self.stage.epoch_ends()
            if self.log is not None:
                self.log.write(self.awoken, at_once=self._ended)  # at the end of the input the sink may get no item
            self.awoken.clear()
        return None if self.log is None else self.log.manifest(slot)

    def end(self) -> list[Any]:
        """The stage's last words, once, and only at a real end of the input."""
        if self._ended or stop.requested():
            return []
        self._ended = True
        self.epoch_begins()
        return list(self.stage.input_ends())


class SlotLogic(StatefulBatchLogic):
    """One slot as Bytewax sees it: hands items to its worker's hub, and keeps the slot's manifest."""

    def __init__(self, hub: Hub, state: tuple[Any, ...] | None) -> None:
        self._hub = hub
        self._slot: int | None = None
        if state is not None:
            self._guard(self._attach, state[1], state)

    def on_batch(self, values: list[tuple[int, Any]]) -> tuple[list[Any], bool]:
        """Items under the first slot of a process carry its rows; the others only awaken."""
        if self._slot is None:
            self._guard(self._attach, values[0][0], None)
        self._awake()
        return self._guard(self._hub.work, [item for _, item in values if item is not None]), False

    def on_eof(self) -> tuple[list[Any], bool]:
        """The end of the input, or a stop."""
        self._awake()
        return self._guard(self._hub.end), False

    def snapshot(self) -> tuple[Any, ...] | None:
        """The slot's manifest; None of a step without stores, also where only the end of the input awoke it."""
        return None if self._slot is None else self._guard(self._hub.snapshot, self._slot)

    def _attach(self, slot: int, state: tuple[Any, ...] | None) -> None:
        self._slot = slot
        self._hub.attach(slot, state)

    def _awake(self) -> None:
        if self._slot is not None:
            self._hub.awoken.add(self._slot)

    def _guard(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Log what a stage raises: in a cluster Bytewax loses the exception's text."""
        try:
            return function(*arguments)
        except Exception as error:
            _LOG.error(
                "a step failed", step=self._hub.step_id, slot=self._slot, error=f"{type(error).__name__}: {error}"
            )
            raise

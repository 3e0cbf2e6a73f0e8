"""Merging of state segments in the background: many small files become one, and rows that were overwritten go.

Size-tiered, a slot at a time: the newest entries of a slot are merged together with each older one that is at most
twice as large as all newer ones together. So each row is rewritten O(log n) times. A merge is due where a slot has too
many entries, or where what came after the largest entries outgrew them: so the files hold at most about twice the live
rows, however large the epochs are. A merge works on an eighth of the slots, so its memory is bounded by an eighth of
the state's segments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from flows.state.segments import SLOTS, SegmentStore, slot_rows
from libcore import segment
from libcore.change import OP, POSITION, SOURCE_TS, SOURCE_TS_TYPE, Op, op_is
from libcore.compact import compact
from libcore.join_columns import widened
from libcore.schema import Column, Table, parse_type
from libcore.table import RowStore

GROUPS = 8
_ENTRIES_MAX = 48  # of a slot; more are merged. Each costs a lookup at a resume, each merge rewrites rows
_INLINE_BYTES = 4096  # what an entry of bytes counts as
_GROUP_BYTES_MIN = 2 << 20  # below that a group's entries are merged for their number only
_LOG = structlog.get_logger()


@dataclass(frozen=True)
class Run:
    """What one merge takes in: per slot the entries, newest last; `whole`: they reach back to the slot's oldest."""

    entries: Mapping[int, tuple[str | bytes, ...]]
    whole: Mapping[int, bool]


def choose_run(
    entries: Mapping[int, Sequence[str | bytes]], sizes: Mapping[str, int], users: Mapping[str, set[int]], turn: int = 0
) -> Run | None:
    """The group of slots that most needs a merge, and what to merge; None where none does.

    Args:
        turn: raised from call to call: each looks at the bytes of one group only, because to add up all takes 1 ms.
    """
    longest: dict[int, int] = {}
    for slot, listed in entries.items():
        longest[slot % GROUPS] = max(longest.get(slot % GROUPS, 0), len(listed))
    group = max(longest, key=lambda group: longest[group], default=-1)
    if group < 0:
        return None
    if longest[group] <= _ENTRIES_MAX:
        group = turn % GROUPS
        if not _outgrown(entries, sizes, users, group):
            return None
    chosen: dict[int, tuple[str | bytes, ...]] = {}
    whole: dict[int, bool] = {}
    for slot, listed in entries.items():
        if slot % GROUPS != group or len(listed) < 2:
            continue
        start = _run_start([_size(entry, sizes, users) for entry in listed])
        if len(listed) - start > 1:
            chosen[slot], whole[slot] = tuple(listed[start:]), start == 0
    return Run(chosen, whole) if chosen else None


def _outgrown(
    entries: Mapping[int, Sequence[str | bytes]], sizes: Mapping[str, int], users: Mapping[str, set[int]], group: int
) -> bool:
    """Whether the largest entries of a group's slots are less than half of its bytes."""
    largest = total = 0
    for slot, listed in entries.items():
        if slot % GROUPS == group and listed:
            found = [_size(entry, sizes, users) for entry in listed]
            largest, total = largest + max(found), total + sum(found)
    return total - largest > max(largest, _GROUP_BYTES_MIN)


def _size(entry: str | bytes, sizes: Mapping[str, int], users: Mapping[str, set[int]]) -> int:
    """A slot's share of a file, about."""
    if isinstance(entry, bytes):
        return _INLINE_BYTES
    return sizes.get(entry, 0) // max(1, len(users.get(entry, ())))


def _run_start(sizes: Sequence[int]) -> int:
    """Where the newest run begins: an older entry joins while it is at most twice the sum of the newer ones."""
    start, total = len(sizes) - 1, sizes[-1]
    while start > 0 and sizes[start - 1] <= 2 * total:
        start -= 1
        total += sizes[start]
    return start


class Merger:
    """One merge at a time, in a thread of its own; C does the work there, without the interpreter's lock."""

    def __init__(self, files: SegmentStore) -> None:
        self._files = files
        self._pool = ThreadPoolExecutor(1, "state-merge")
        self._running: tuple[Run, Future[tuple[str, int, set[int]]]] | None = None

    @property
    def busy(self) -> bool:
        """Whether a merge runs, or its result waits to be taken."""
        return self._running is not None

    def start(self, run: Run, stores: Mapping[str, RowStore], metadata: Mapping[str, Any]) -> None:
        """Begin a merge. Of the stores only their shapes as they are now are used in the thread."""
        shapes = {name: Shape(store.schema, store.key) for name, store in stores.items()}
        self._running = (run, self._pool.submit(merge, self._files, run, shapes, dict(metadata)))

    def finished(self) -> list[tuple[Run, str, int, set[int]]]:
        """(run, file, bytes, slots with rows in it) of the merge that is done, once. Raises what it raised."""
        if self._running is None or not self._running[1].done():
            return []
        run, future = self._running
        self._running = None
        return [(run, *future.result())]

    def later(self, function: Callable[..., None], *arguments: Any) -> None:
        """Do some housekeeping in the thread; where it fails the next start does it."""

        def run() -> None:
            try:
                function(*arguments)
            except Exception as error:
                _LOG.warning("state segments could not be cleared up", error=f"{type(error).__name__}: {error}")

        self._pool.submit(run)

    def close(self) -> None:
        """Wait for the thread; the result of a merge is dropped, its file found at the next start."""
        self._pool.shutdown(wait=True)


@dataclass(frozen=True)
class Shape:
    """A store's columns, and the numbers of its key's among them."""

    schema: pa.Schema
    key: tuple[int, ...]


def merge(
    files: SegmentStore, run: Run, shapes: Mapping[str, Shape], metadata: dict[str, Any]
) -> tuple[str, int, set[int]]:
    """Write one segment with what the runs come to. Returns (name, bytes, slots with rows in it).

    Its rows have the shapes, also where all that is merged was written before a table gained a column: the key's
    columns have other numbers there.
    """
    opened: dict[str, segment.Segment] = {}
    gathered: dict[str, list[pa.RecordBatch]] = {}
    ranges: dict[str, list[tuple[int, int, int]]] = {}
    for slot, entries in run.entries.items():
        parts: dict[str, list[pa.RecordBatch]] = {}
        for entry in entries:
            if isinstance(entry, str) and entry not in opened:
                opened[entry] = files.read(entry)
            for name, record in slot_rows(opened[entry] if isinstance(entry, str) else segment.read(entry), slot):
                parts.setdefault(name, []).append(_widened(record, shapes[name].schema))
        for name, records in parts.items():
            record = latest(records, shapes[name].key, drop_deletes=run.whole[slot])
            if record.num_rows:
                first = sum(one.num_rows for one in gathered.get(name, ()))
                gathered.setdefault(name, []).append(record)
                ranges.setdefault(name, []).append((slot, first, record.num_rows))
    named = [(Table(name, ()), concatenated(records)) for name, records in gathered.items()]
    name, size = files.write(named, {**metadata, SLOTS: ranges})
    return name, size, {slot for found in ranges.values() for slot, _, _ in found}


def latest(records: Sequence[pa.RecordBatch], key: Sequence[int], *, drop_deletes: bool) -> pa.RecordBatch:
    """The last row of each key, with "__op"; deletes may go where nothing older is left that they would undo.

    `key`: its columns' numbers in the widest of the records.
    """
    record = concatenated(records)
    width = record.num_columns - 1
    names = [f"c{index}" for index in range(width)]
    # compact() knows columns by place; it orders rows by position, and rows of equal position by place
    pseudo = Table("", tuple(Column(name, parse_type("string")) for name in names), tuple(names[i] for i in key))
    zeros = pa.Array.from_buffers(pa.binary(32), record.num_rows, [None, pa.py_buffer(bytes(32 * record.num_rows))])
    arrays = [*record.columns, zeros, pa.nulls(record.num_rows, SOURCE_TS_TYPE)]
    compacted = compact(pa.RecordBatch.from_arrays(arrays, [*names, OP, POSITION, SOURCE_TS]), pseudo)
    kept = pa.RecordBatch.from_arrays(compacted.columns[: width + 1], schema=record.schema)
    return kept.filter(pc.invert(op_is(kept, Op.DELETE))) if drop_deletes else kept


def concatenated(records: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch of all rows; what a batch of an older, narrower shape lacks is NULL, and unset where that is told."""
    widest = max(records, key=lambda record: record.num_columns).schema
    same = [record if record.schema == widest else _widened(record, widest) for record in records]
    return same[0] if len(same) == 1 else pa.concat_batches(same)


def _widened(record: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    # __unset has a bit a column, so its width and its bits change with the columns
    wide = widened(record, schema)
    logged = schema if OP in schema.names else schema.append(record.schema.field(OP))
    return pa.RecordBatch.from_arrays([wide.column(name) for name in logged.names], schema=logged)

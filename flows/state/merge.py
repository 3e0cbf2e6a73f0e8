"""Merging of state segments in the background: many small files become one, and rows that were overwritten go.

A merge is due where a slot has too many entries (`crowded`), or where rows that are no longer live take too much room
(`Rotation`). It works on an eighth of the slots, so its memory is bounded by an eighth of the state's segments.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from flows.state.segments import SLOTS, SegmentStore, slot_counts, slot_rows
from libcore import segment
from libcore.change import OP, POSITION, SOURCE_TS, SOURCE_TS_TYPE, Op, op_is
from libcore.compact import compact
from libcore.join_columns import widened
from libcore.schema import Column, Table, parse_type
from libcore.table import RowStore

GROUPS = 8
_ENTRIES_MAX = 48  # of a slot; more are merged. Each costs a lookup at a resume, each merge rewrites rows
SPARE = 0.5  # rows that files hold beside the live ones, as a share of them: less would rewrite each row more often
_LOG = structlog.get_logger()

Entry = str | bytes
"""One of a slot's entries, oldest first: a file's name, or a small change itself."""


@dataclass(frozen=True)
class Run:
    """What one merge takes in: per slot the entries, newest last; `whole`: they reach back to the slot's oldest."""

    entries: Mapping[int, tuple[Entry, ...]]
    whole: Mapping[int, bool]


def crowded(entries: Mapping[int, Sequence[Entry]], share: Callable[[Entry], int]) -> Run | None:
    """The newest runs of the group with the longest list, where that has too many entries; None where none has.

    `share`: a slot's share of an entry, in bytes, about.
    The newest entries of a slot are taken together with each older one that is no larger than all newer ones together:
    so each row is rewritten O(log n) times.
    """
    longest = [0] * GROUPS
    for slot, listed in entries.items():
        longest[slot % GROUPS] = max(longest[slot % GROUPS], len(listed))
    if max(longest) <= _ENTRIES_MAX:
        return None
    group = longest.index(max(longest))
    grouped = {slot: listed for slot, listed in entries.items() if slot % GROUPS == group}
    return _run(entries, {slot: _run_start([share(one) for one in listed]) for slot, listed in grouped.items()})


def entire(entries: Mapping[int, Sequence[Entry]], groups: Collection[int]) -> Run | None:
    """All that the slots of some groups have; None where there is nothing to take together."""
    return _run(entries, {slot: 0 for slot in entries if slot % GROUPS in groups})


def _run(entries: Mapping[int, Sequence[Entry]], starts: Mapping[int, int]) -> Run | None:
    starts = {slot: start for slot, start in starts.items() if len(entries[slot]) - start > 1}
    chosen = {slot: tuple(entries[slot][start:]) for slot, start in starts.items()}
    return Run(chosen, {slot: start == 0 for slot, start in starts.items()}) if chosen else None


def _run_start(sizes: Sequence[int]) -> int:
    """Where the newest run begins: an older entry joins while it is at most the sum of the newer ones."""
    start, total = len(sizes) - 1, sizes[-1] if sizes else 0
    while start > 0 and sizes[start - 1] <= total:
        start -= 1
        total += sizes[start]
    return start


class Rotation:
    """Says when the next groups are merged whole, so that what was overwritten goes at the pace at which it comes.

    Files shall hold about 1 + SPARE times the live rows, and steadily: were all groups merged together once that is
    reached, the files of a load that never grows would swing between one and two times its rows. So once files hold
    notably more rows than are live, a group is merged for each eighth of SPARE times the live rows that was written:
    when its turn comes again, SPARE times the live rows lie behind it, and no more is kept of them. Where files hold
    twice the live rows (a state that shrinks) nothing waits.
    """

    def __init__(self) -> None:
        self._next, self._written = 0, 0.0

    def wrote(self, rows: int) -> None:
        """An epoch put so many rows into a file."""
        self._written += rows

    def turn(self, kept: int, live: int) -> list[int]:
        """The groups to merge whole now: several where epochs are large beside what is live.

        Args:
            kept: rows in files. live: rows in the stores.
        """
        if kept <= (1 + SPARE / 2) * live:
            return []
        step = SPARE * max(live, 1) / GROUPS
        count = min(GROUPS, int(self._written / step)) or int(kept > 2 * live)
        self._written = max(0.0, min(self._written, GROUPS * step) - count * step)
        chosen = [(self._next + number) % GROUPS for number in range(count)]
        self._next = (self._next + count) % GROUPS
        return chosen


class Merger:
    """One merge at a time, in a thread of its own; C does the work there, without the interpreter's lock."""

    def __init__(self, files: SegmentStore) -> None:
        self._files = files
        self._pool = ThreadPoolExecutor(1, "state-merge")
        self._running: tuple[Run, Future[tuple[str, int, dict[int, int]]]] | None = None

    @property
    def busy(self) -> bool:
        """Whether a merge runs, or its result waits to be taken."""
        return self._running is not None

    def start(self, run: Run, stores: Mapping[str, RowStore], metadata: Mapping[str, Any]) -> None:
        """Begin a merge. Of the stores only their shapes as they are now are used in the thread."""
        shapes = {name: Shape(store.schema, store.key) for name, store in stores.items()}
        self._running = (run, self._pool.submit(merge, self._files, run, shapes, dict(metadata)))

    def finished(self) -> list[tuple[Run, str, int, dict[int, int]]]:
        """(run, file, bytes, rows of each slot) of the merge that is done, once. Raises what it raised."""
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
) -> tuple[str, int, dict[int, int]]:
    """Write one segment with what the runs come to. Returns (name, bytes, rows of each slot that has some).

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
    name, metadata = files.new_name(), {**metadata, SLOTS: ranges}
    return name, files.write(name, named, metadata), slot_counts(metadata)


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

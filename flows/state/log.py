"""Incremental state of one step in one process: what changed in an epoch goes into one segment, named by manifests.

A slot's state is a list of entries, oldest first: names of segment files, and small changes as bytes. The manifest that
goes into the recovery store is that list. So a snapshot costs what changed, not what is kept (DESIGN.md 4.4).

    attach      at a start: the slot's entries are read and its rows loaded
    write       once an epoch: rows changed since the last one -> a segment (one fsync), or bytes where they are few;
                the segment is written in a thread, while the worker goes on with the rest of the epoch's end
    manifest    one a slot that was awoken in the epoch
    durable     at the first item of the next epoch: files that no slot names any more are deleted, a merge may begin
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from connectors.base.epoch_writes import EpochWrites
from connectors.base.metrics import STATE_BYTES, STATE_SEGMENT_BYTES, STATE_SNAPSHOT
from flows.state.merge import Entry, Merger, Rotation, Run, crowded, entire
from flows.state.segments import SLOTS, SegmentStore, slot_counts, slot_rows
from libcore import segment
from libcore.errors import CapacityError, CorruptionError, FatalError
from libcore.schema import Table
from libcore.table import RowStore

STATE_VERSION = 1
_ROWS_A_SLOT = 16  # with that many changed rows a slot, nearly every slot has one
_INLINE_ROWS_MAX = 64  # of an epoch, over all slots: few enough that the recovery store takes them at once
_INLINE_BYTES_MAX = 4096  # of a slot's entries together, as every manifest repeats them
_SPARE_BYTES_MIN = 16 << 20  # below that the files of a step are merged for their number only


Ranges = dict[str, list[tuple[int, int, int]]]
"""By store: (slot, first row, rows)."""


@dataclass
class _Slot:
    entries: list[Entry] = field(default_factory=list)
    saved: bool = True  # the newest entries are in a manifest that was handed out


class Holder(Protocol):
    """Whoever has stores: a stage."""

    @property
    def stores(self) -> Mapping[str, RowStore]:
        """The stores by name."""

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """Take rows of a store, perhaps of an older, narrower shape."""


class StateLog:
    """The state of one step in one process.

    Args:
        files: where segments lie.
        holder: has the step's stores.
        writes: writes the segments.
        bytes_max: bound of the stores' memory in this process.
        keep_s: how long a file stays after the epoch that freed it, as backups of the recovery store may name it.
    """

    def __init__(
        self,
        step: str,
        files: SegmentStore,
        holder: Holder,
        writes: EpochWrites | None = None,
        bytes_max: int = 0,
        keep_s: float = 0.0,
    ) -> None:
        self._step, self._files, self._holder = step, files, holder
        self._writes = EpochWrites() if writes is None else writes
        self._bytes_max, self._keep_s = bytes_max, keep_s
        self._writing: tuple[str, Future[int]] | None = None  # the newest epoch's file
        self._slots: dict[int, _Slot] = {}
        self._users: dict[str, set[int]] = {}  # of each file: slots of this process that name it
        self._sizes: dict[str, int] = {}
        self._rows: dict[str, int] = {}  # of slots of this process, in each file
        self._rotation = Rotation()
        self._foreign: dict[str, set[int]] = {}  # files with slots of other processes: all their slots
        # Files that no slot of this process names any more, and the slots whose durable manifest may still do so.
        self._freed: list[tuple[str, set[int]]] = []
        self._waiting: list[tuple[float, str]] = []
        self._merger = Merger(files)
        self._merged: set[int] = set()  # slots whose entries a merge replaced: to be awoken
        self._opened: dict[str, segment.Segment] = {}  # while slots are attached
        self._own: set[int] = set()  # slots of this process, with or without rows

    def attach(self, slot: int, state: tuple[Any, ...] | None) -> None:
        """Take over a slot, with the rows that its manifest names. Raises FatalError."""
        if slot in self._slots:
            return
        kept = self._slots[slot] = _Slot()
        if state is None:
            return
        if state[0] != STATE_VERSION or len(state) != 3:
            raise FatalError(
                f"step {self._step}: expected state of version {STATE_VERSION}, found {state[0]!r}; "
                "it was written by another release, go on with that one"
            )
        kept.entries = list(state[2])
        for entry in kept.entries:
            if isinstance(entry, bytes):
                opened = segment.read(entry)
            else:
                opened = self._open(entry)
                self._users.setdefault(entry, set()).add(slot)
            for name, record in slot_rows(opened, slot):
                self._holder.load(name, record)

    def attached(self, own_slots: Iterable[int]) -> None:
        """All slots are here: free what crashes left behind, and what no slot of this process needs."""
        self._own = set(own_slots)
        sizes, unneeded = self._files.names(), list[str]()
        said = self._files.freed(sizes)
        for name, size in sizes.items():
            counts = self._counts_of(name)
            if not counts:
                unneeded += [] if counts is None else [name]
                continue
            there = set(counts)
            self._sizes[name], self._rows[name] = size, sum(counts[slot] for slot in there & self._own)
            if foreign := not there <= self._own:
                self._foreign[name] = there
            mine, freed = there & self._own, said.get(name, set())
            said_before = foreign and mine <= freed and not there <= freed
            if mine and name not in self._users and not said_before:
                unneeded.append(name)
        self._opened.clear()
        self._delete_later(unneeded)
        self._show()

    def _counts_of(self, name: str) -> dict[int, int] | None:
        """A file's slots and their rows, none of one that nobody can need; None where that is another's business."""
        if name in self._opened:
            return slot_counts(self._opened[name].metadata)
        try:
            return self._files.slot_counts(name)
        except FileNotFoundError:  # it is being deleted
            return None
        except CorruptionError:  # cut short by a crash, or being written
            return {} if self._files.wrote(name) else None

    def write(self, awoken: Set[int] | None = None, *, at_once: bool = False) -> None:
        """Have the epoch's changes written; see EpochWrites for when they are durable.

        Args:
            awoken: the slots that will give a manifest; None: all.
            at_once: they are when this returns.
        Raises: CapacityError where the stores outgrew their bound; FatalError where a slot is not of this process, or
            its change would be in no manifest.
        """
        started = time.monotonic()
        self._check_bound()
        self._take_merges()
        rows = sum(store.changes for store in self._holder.stores.values())
        may = set(self._slots) if awoken is None else set(awoken)
        if rows >= max(1, _ROWS_A_SLOT * len(self._slots)):
            # Nearly every slot that is awake has rows: all name the file, so that nobody has to know now which have.
            self._write_file(rows, may, at_once, lambda name: self._write_many(name, may))
        else:
            parts, ranges = self._changed(may)
            touched, about = _slots_in(ranges), self._metadata(ranges)
            if touched and (rows > _INLINE_ROWS_MAX or not self._write_inline(parts, ranges, touched)):
                self._write_file(rows, touched, at_once, lambda name: self._files.write(name, parts, about))
        self._show()
        STATE_SNAPSHOT.labels(self._step).observe(time.monotonic() - started)

    def _write_many(self, name: str, slots: Set[int]) -> int:
        """Write all that changed; in a thread: until the next epoch begins nobody else touches the stores.

        All slots will name the file, so its metadata tells of each, if only that it has no rows.
        """
        parts, ranges = self._changed(slots)
        ranges[parts[0][0].name] += [(slot, 0, 0) for slot in sorted(slots - _slots_in(ranges))]
        return self._files.write(name, parts, self._metadata(ranges))

    def _changed(self, may: Set[int]) -> tuple[list[tuple[Table, pa.RecordBatch]], Ranges]:
        """(rows by store, where each slot's stand in them) from a mark to a mark; `may`: slots that give a manifest."""
        parts, ranges = [], {}
        for name, store in self._holder.stores.items():
            record, found = store.changed()
            store.mark()
            if record.num_rows:
                parts.append((Table(name, ()), record))
                ranges[name] = found
        changed = _slots_in(ranges)
        if unknown := changed - self._slots.keys():
            raise FatalError(
                f"step {self._step}: rows of slots {sorted(unknown)[:5]} came to a process that has not got them: "
                "the number of workers is not what this process was told"
            )
        if asleep := changed - may:
            raise FatalError(
                f"step {self._step}: slots {sorted(asleep)[:5]} changed in an epoch that did not awake them: "
                "their rows would be in no manifest"
            )
        return parts, ranges

    def _write_file(self, rows: int, slots: Set[int], at_once: bool, write: Callable[[str], int]) -> None:
        """Have a file of so many rows written, which these slots name from now on."""
        name = self._files.new_name()
        self._sizes[name], self._rows[name], self._users[name] = 0, rows, set(slots)
        self._rotation.wrote(rows)
        for slot in slots:
            self._slots[slot].entries.append(name)
            self._slots[slot].saved = False
        future = self._writes.write(write, name, at_once=at_once)
        self._writing = name, future
        if future.done():
            self._sizes[name] = future.result()

    def manifest(self, slot: int) -> tuple[Any, ...]:
        """(version, slot, entries) for the recovery store."""
        kept = self._slots[slot]
        kept.saved = True
        self._merged.discard(slot)
        for _, waiting in self._freed:
            waiting.discard(slot)
        return (STATE_VERSION, slot, tuple(kept.entries))

    def check_saved(self) -> None:
        """Raise FatalError where a slot changed and gave no manifest: it was not awoken."""
        if lost := [slot for slot, kept in self._slots.items() if not kept.saved]:
            raise FatalError(f"step {self._step}: slots {lost[:5]} changed in an epoch and were not snapshotted")

    @property
    def to_awake(self) -> set[int]:
        """Slots whose manifest is to be written anew, though no row of theirs changes."""
        self._take_merges()
        return self._merged

    def durable(self) -> None:
        """The epoch of the last manifests is durable: what they no longer name can go."""
        if self._writing is not None:
            name, future = self._writing
            if not future.done():
                raise FatalError(f"step {self._step}: its epoch became durable before {name} was written")
            self._sizes[name], self._writing = future.result(), None
        # Not "when no merge is in hand": under load one always is, and nothing would ever go.
        freed = [name for name, waiting in self._freed if not waiting]
        self._freed = [(name, waiting) for name, waiting in self._freed if waiting]
        self._delete_later(freed)
        self._start_merge()

    def _delete_later(self, names: Iterable[str]) -> None:
        """Delete files once backups no longer need them, and those whose time has come; the merger's thread does it."""
        now = time.monotonic()
        self._waiting += [(now + self._keep_s, name) for name in names]
        ready = [name for due, name in self._waiting if due <= now]
        if not ready:
            return
        self._waiting = [(due, name) for due, name in self._waiting if due > now]
        for name in ready:
            self._sizes.pop(name, None)
            self._rows.pop(name, None)
        foreign = {name: self._foreign.pop(name) for name in ready if name in self._foreign}
        self._merger.later(self._files.delete, [name for name in ready if name not in foreign])
        for name, there in foreign.items():
            self._merger.later(self._files.free, name, there & (self._own | self._slots.keys()), there)

    @property
    def bytes(self) -> int:
        """Bytes of the segment files that slots of this process name."""
        return sum(self._sizes.get(name, 0) for name in self._users)

    def close(self) -> None:
        """Wait for the merge that runs, and for what is being deleted."""
        self._merger.close()

    def _open(self, name: str) -> segment.Segment:
        if name not in self._opened:
            self._opened[name] = self._files.read(name)
        return self._opened[name]

    def _check_bound(self) -> None:
        used = sum(store.bytes for store in self._holder.stores.values())
        STATE_BYTES.labels(self._step).set(used)
        if self._bytes_max and used > self._bytes_max:
            raise CapacityError(
                f"step {self._step}: its state takes {used:,} bytes of memory in this process, above its bound of "
                f"{self._bytes_max:,}: run more processes, raise state_bytes, or keep fewer columns (drop, take)"
            )

    def _write_inline(self, parts: list[Any], ranges: Ranges, touched: set[int]) -> bool:
        """Put the changes into the manifests themselves, if every slot's still fit; False: nothing was done."""
        pieces: dict[int, bytes] = {}
        for slot in touched:
            rows, where = [], {}
            for table, record in parts:
                for found, first, count in ranges[table.name]:
                    if found == slot:
                        rows.append((table, record.slice(first, count)))
                        where[table.name] = [(slot, 0, count)]
            pieces[slot] = segment.write(rows, self._metadata(where)).to_pybytes()
            before = sum(len(entry) for entry in self._slots[slot].entries if isinstance(entry, bytes))
            if before + len(pieces[slot]) > _INLINE_BYTES_MAX:
                return False
        for slot, piece in pieces.items():
            self._slots[slot].entries.append(piece)
            self._slots[slot].saved = False
        return True

    def _take_merges(self) -> None:
        for run, name, size, there in self._merger.finished():
            self._sizes[name], self._rows[name], self._users[name] = size, sum(there.values()), set(there)
            released: list[str] = []
            for slot, merged in run.entries.items():
                kept = self._slots[slot]
                # the whole run, as bytes alone may stand twice in a slot: a row that went back to what it was
                places = range(len(kept.entries) - len(merged) + 1)
                at = next(place for place in places if tuple(kept.entries[place : place + len(merged)]) == merged)
                kept.entries[at : at + len(merged)] = [name] if slot in there else []
                self._merged.add(slot)
                for entry in merged:
                    if isinstance(entry, str):
                        self._users[entry].discard(slot)
                        released += [] if self._users[entry] else [entry]
            released += [] if there else [name]
            for file in released:
                del self._users[file]
                self._freed.append((file, set(self._merged)))

    def _start_merge(self) -> None:
        if self._merger.busy:
            return
        entries = {slot: kept.entries for slot, kept in self._slots.items() if slot not in self._merged}
        if run := crowded(entries, self._share) or self._wasteful(entries):
            self._merger.start(run, self._holder.stores, self._metadata({}))

    def _wasteful(self, entries: Mapping[int, list[Entry]]) -> Run | None:
        """What to merge because files hold too many rows that are no longer live."""
        if self.bytes < _SPARE_BYTES_MIN:
            return None
        live = sum(store.rows for store in self._holder.stores.values())
        return entire(entries, self._rotation.turn(sum(self._rows[name] for name in self._users), live))

    def _share(self, entry: Entry) -> int:
        """A slot's share of an entry, in bytes, about."""
        if isinstance(entry, bytes):
            return _INLINE_BYTES_MAX
        return self._sizes[entry] // len(self._users[entry])

    def _metadata(self, ranges: dict[str, Any]) -> dict[str, Any]:
        """What a segment says of itself: each store's key columns, and where each slot's rows stand."""
        keys = {name: list(store.key) for name, store in self._holder.stores.items()}
        return {"step": self._step, "keys": keys, SLOTS: ranges}

    def _show(self) -> None:
        STATE_SEGMENT_BYTES.labels(self._step).set(self.bytes)


def _slots_in(ranges: Ranges) -> set[int]:
    return {slot for found in ranges.values() for slot, _, _ in found}

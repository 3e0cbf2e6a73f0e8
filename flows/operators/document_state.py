"""What the document step keeps over a restart: chunks of waiting rows, waiting ENDs, what was released last.

One store of named blobs, written at the end of each epoch for what changed in it:

    rows/n    a chunk of waiting rows, without those released since    ends/n    ENDs of one epoch, from ordinal n on
    marks/n   a message without a row, of a waiting transaction        done/n    transactions done in one epoch
    meta/0    counters
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

import pyarrow as pa

from flows.operators.pending import Pending, decoded, encoded, transaction_key
from libcore.errors import FatalError
from libcore.table import RowStore
from libcore.transaction_mark import Mark

DONE_MAX = 100_000
"""Transactions remembered after their release; a connector that goes back further stops the flow, or repeats them."""

_SCHEMA = pa.schema([("kind", pa.string()), ("number", pa.int64()), ("data", pa.binary())])
_KEYS = pa.schema([("kind", pa.string()), ("number", pa.int64())])
_POSTGRES_ID = re.compile(r"[0-9]+:([0-9]+)")


@dataclass(frozen=True)
class End:
    """An END mark. `counts`: changes by table, of the tables that are read; `name`: the id in the mark."""

    ordinal: int
    key: str
    name: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Done:
    """A transaction that was released or left out; `repeated`: its END came again."""

    name: str
    skipped: bool = False
    repeated: bool = False


@dataclass
class Meta:
    """Counters: ordinal of the last END that is done, and of the newest; PostgreSQL's lsn in it. `again`: transactions
    whose END came again while they wait: what comes of them after their release is a repeat."""

    released: int = 0
    newest: int = 0
    lsn: int = 0
    generation: int = 0
    again: tuple[str, ...] = ()


@dataclass
class Keeper:
    """The step's memory of transactions, and its form in the store."""

    done: dict[str, Done] = field(default_factory=dict)
    waiting: dict[str, End] = field(default_factory=dict)
    meta: Meta = field(default_factory=Meta)
    stores: dict[str, RowStore] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    _new_ends: list[End] = field(default_factory=list)
    _new_done: dict[str, Done] = field(default_factory=dict)
    _end_blobs: deque[tuple[int, int]] = field(default_factory=deque)  # first, last ordinal
    _done_blobs: deque[tuple[int, list[str]]] = field(default_factory=deque)
    _place: dict[str, int] = field(default_factory=dict)  # blob with the newest word on a transaction
    _marks: dict[str, list[int]] = field(default_factory=dict)
    _new_marks: list[tuple[int, Mark]] = field(default_factory=list)
    _mark_number: int = 0
    _kept_meta: Meta | None = None
    _gone: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stores["document"] = RowStore(_SCHEMA, (0, 1), slots=1)

    def refused(self) -> set[str]:
        """Transactions of which no row is wanted any more."""
        return self._refused

    def end(self, key: str, name: str, counts: Mapping[str, int]) -> End:
        """A new END, at the end of the queue."""
        self.meta.newest += 1
        self.waiting[key] = end = End(self.meta.newest, key, name, counts)
        self._new_ends.append(end)
        return end

    def release(self, end: End, *, skipped: bool = False) -> None:
        """The first END of the queue is done."""
        del self.waiting[end.key]
        self.meta.released = end.ordinal
        again = end.key in self.meta.again
        if again:
            self.meta.again = tuple(key for key in self.meta.again if key != end.key)
        if end.counts:
            self.set_done(end.key, Done(end.name, skipped, again))

    def waits_again(self, key: str) -> None:
        """The END of a transaction that waits came once more."""
        if key not in self.meta.again:
            self.meta.again = (*self.meta.again, key)

    def set_done(self, key: str, done: Done) -> None:
        """Remember what became of a transaction."""
        self.done[key] = self._new_done[key] = done
        (self._refused.add if done.skipped or done.repeated else self._refused.discard)(key)
        self._gone += [("marks", number) for number in self._marks.pop(key, ())]
        self._new_marks = [
            (number, mark) for number, mark in self._new_marks if transaction_key(mark.transaction) != key
        ]

    def mark(self, mark: Mark) -> None:
        """Remember a message without a row."""
        self._mark_number += 1
        self._new_marks.append((self._mark_number, mark))

    def rises(self, name: str) -> None:
        """Raise FatalError where PostgreSQL's commits go back beyond what is remembered: order would be lost."""
        match = _POSTGRES_ID.fullmatch(name)
        if match is None:
            return
        lsn = int(match[1])
        if lsn < self.meta.lsn:
            raise FatalError(
                f"transaction {name}: expected an lsn from {self.meta.lsn} on, found {lsn}: the source was restored, "
                f"or the connector went back more than {DONE_MAX:,} transactions; [document] generation = "
                f"{self.meta.generation + 1} goes on from there"
            )
        self.meta.lsn = lsn

    def new_generation(self, generation: int) -> None:
        """The source was restored: its numbers and positions begin anew."""
        self.meta.lsn, self.meta.generation = 0, generation
        self.done, self._refused, self._place = {}, set(), {}
        self._gone += [("done", number) for number, _ in self._done_blobs]
        self._done_blobs.clear()

    def keep(self, pending: Pending, ends: Iterable[End]) -> None:
        """Write what changed in the epoch into the store."""
        rows: list[tuple[str, int, bytes]] = []
        self._gone += [("rows", number) for number in pending.dropped]
        pending.dropped = []
        for number, chunk in pending.chunks.items():
            if chunk.changed:
                rows.append(("rows", number, encoded(chunk)))
                chunk.changed = False
        rows += self._changed_ends() + self._changed_done()
        for number, mark in self._new_marks:
            self._marks.setdefault(transaction_key(mark.transaction), []).append(number)
            rows.append(("marks", number, _json(asdict(mark))))
        self._new_marks = []
        if self.meta != self._kept_meta:
            self._kept_meta = replace(self.meta)
            rows.append(("meta", 0, _json(asdict(self.meta))))
        self._write(rows)

    def _write(self, rows: list[tuple[str, int, bytes]]) -> None:
        store = self.stores["document"]
        if self._gone:
            store.delete(_columns(self._gone, _KEYS))
        self._gone = []
        if rows:
            store.upsert(_columns(rows, _SCHEMA))

    def _changed_ends(self) -> list[tuple[str, int, bytes]]:
        left = [end for end in self._new_ends if end.ordinal > self.meta.released]
        self._new_ends = []
        while self._end_blobs and self._end_blobs[0][1] <= self.meta.released:
            self._gone.append(("ends", self._end_blobs.popleft()[0]))
        if not left:
            return []
        self._end_blobs.append((left[0].ordinal, left[-1].ordinal))
        return [("ends", left[0].ordinal, _json([asdict(end) for end in left]))]

    def _changed_done(self) -> list[tuple[str, int, bytes]]:
        if not self._new_done:
            return []
        number = self._done_blobs[-1][0] + 1 if self._done_blobs else self.meta.released
        self._remember(number, self._new_done)
        blob = _json([[key, *_values(done)] for key, done in self._new_done.items()])
        self._new_done = {}
        while sum(len(keys) for _, keys in self._done_blobs) - len(self._done_blobs[0][1]) >= DONE_MAX:
            first, keys = self._done_blobs.popleft()
            self._gone.append(("done", first))
            for key in keys:
                if self._place.get(key) == first:
                    del self._place[key], self.done[key]
                    self._refused.discard(key)
        return [("done", number, blob)]

    def _remember(self, number: int, done: Mapping[str, Done]) -> None:
        self._done_blobs.append((number, list(done)))
        self._place.update(dict.fromkeys(done, number))

    def restore(self, pending: Pending, ends: deque[End], now_s: float) -> None:
        """Take up what the store was loaded with."""
        record = self.stores["document"].whole()
        found = sorted(zip(*(column.to_pylist() for column in record.columns), strict=True), key=lambda row: row[:2])
        blobs: dict[str, list[tuple[int, bytes]]] = {}
        for kind, number, data in found:
            blobs.setdefault(kind, []).append((number, data))
        for _, data in blobs.get("meta", ()):
            values = json.loads(data)
            self.meta = Meta(**{**values, "again": tuple(values["again"])})
            self._kept_meta = replace(self.meta)
        for number, data in blobs.get("done", ()):
            done = {key: Done(*values) for key, *values in json.loads(data)}
            self.done.update(done)
            self._remember(number, done)
        self._refused = {key for key, done in self.done.items() if done.skipped or done.repeated}
        for number, data in blobs.get("ends", ()):
            listed = [End(**values) for values in json.loads(data)]
            self._end_blobs.append((number, listed[-1].ordinal))
            for end in listed:
                if end.ordinal > self.meta.released:
                    ends.append(end)
                    self.waiting[end.key] = end
        for number, data in blobs.get("rows", ()):
            table, rows = decoded(data)
            pending.add(table, rows, now_s, number)
            pending.chunks[number].changed = False
        for number, data in blobs.get("marks", ()):
            mark = Mark(**json.loads(data))
            pending.add_mark(mark, now_s)
            self._marks.setdefault(transaction_key(mark.transaction), []).append(number)
            self._mark_number = max(self._mark_number, number)


def _values(done: Done) -> list[object]:
    return [done.name, done.skipped, done.repeated]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _columns(rows: Iterable[tuple[object, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
    )

"""Whole source transactions: rows wait until all of their transaction are there, and leave in the order of commits.

    rows       kept by transaction; rows outside of one (snapshots) pass at once
    END marks  one queue, in the order of the transaction topic: its first is released when each subscribed table has
               brought as many changes as the mark says; what stands behind it waits
    release    all rows of one or more whole transactions in one epoch, placed by (transaction, order in its table)

A transaction that came again as a whole (the connector went back) is known by its END mark and dropped. One that does
not become complete stops the flow or is left out as a whole, its rows as dead letters; never held in silence.
One process does this, in slot 0 of a keyed step; the state is what waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from bytewax.dataflow import Stream, operator

from connectors.base import metrics
from connectors.base.items import Item, Tick
from flows.operators.dead_letters import dead_letters
from flows.operators.document_state import Done, End, Keeper
from flows.operators.keyed import Context, keyed
from flows.operators.pending import Pending, outside, split_outside, transaction_key, transaction_keys
from libcore.change import TX, ChangeBatch
from libcore.errors import CapacityError, FatalError
from libcore.table import RowStore
from libcore.transaction_mark import END, TRANSACTION_MARKS, Mark, from_batch

_LOG = structlog.get_logger()
_GAP_S_MAX = (
    2.0  # a longer pause between two calls was not spent waiting for rows: the target or the broker stood still
)


@dataclass(frozen=True)
class Rules:
    """What the pipeline file says.

    Args:
        flow: the pipeline's name, for dead letters.
        table_of: the source's name of a table -> the table's name in batches, None where it is not read.
        timeout_s: how long a transaction may stay incomplete. on_timeout: what then happens.
        skip: ids of transactions that are left out where they are incomplete.
        on_bad_row: where a change of a transaction became a dead letter: stop, or release the others without it.
        pending_bytes: bound of the memory of waiting rows.
        generation: raised where the source was restored: its positions may go back once.
    """

    flow: str
    table_of: Callable[[str], str | None]
    timeout_s: float = 60.0
    on_timeout: Literal["stop", "skip"] = "stop"
    skip: frozenset[str] = frozenset()
    on_bad_row: Literal["stop", "apply"] = "stop"
    pending_bytes: int = 512_000_000
    generation: int = 0


@operator
def document(step_id: str, up: Stream[Item], rules: Rules, context: Context) -> Stream[Item]:
    """Hold rows back until their transactions are complete.

    Args:
        step_id: unique name of the step; part of the recovery store.
        up: everything from the source, whose decoders give change.TX, and marks of the transaction topic.
        rules: see Rules. context: see Context; one slot serves.
    Returns: the same rows in whole transactions, without TX, and everything else as it came.
    """
    return keyed("whole", up, lambda: Documents(rules), {}, replace(context, slots=1))


@dataclass
class _Epoch:
    """What the open epoch brought."""

    outside: bool = False
    released: bool = False


@dataclass
class Documents:
    """See flows.operators.keyed.Stage. `clock`: seconds that never go back."""

    rules: Rules
    clock: Callable[[], float] = time.monotonic
    pending: Pending = field(default_factory=Pending)
    ends: deque[End] = field(default_factory=deque)
    keeper: Keeper = field(default_factory=Keeper)
    _restored: bool = False
    _outside: int = 0  # rows outside of a transaction so far
    _now_s: float = 0.0  # time that counts, see _GAP_S_MAX
    _seen_s: float | None = None
    _head: str | None = None  # the END that is waited for, and since when
    _head_s: float = 0.0
    _marked_s: float = 0.0  # when the newest END mark came, and the greatest time of commit in one
    _marked_us: int = 0
    _epoch: _Epoch = field(default_factory=_Epoch)

    @property
    def stores(self) -> Mapping[str, RowStore]:
        """What waits, and what was released last."""
        return self.keeper.stores

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """See Stage.load."""
        self.stores[store].load(record)

    def epoch_ends(self) -> None:
        """See Stage.epoch_ends."""
        self.keeper.keep(self.pending, self.ends)
        if self._epoch.outside or self._epoch.released:
            metrics.DOCUMENT_CONSISTENT.set(0 if self._epoch.outside else 1)
        self._epoch = _Epoch()

    def input_ends(self) -> list[Item]:
        """See Stage.input_ends: what is incomplete stays, and is told."""
        if self.pending.transactions or self.ends:
            names = [end.name for end in self.ends] or list(self.pending.transactions)
            _LOG.warning(
                "transactions are incomplete at the end of the input",
                transactions=len(self.pending.transactions),
                rows=self.pending.rows,
                first=names[0],
            )
        return []

    def on_items(self, items: Sequence[Item]) -> list[Item]:
        """See Stage.on_items. Raises FatalError where a transaction cannot be completed or must not be."""
        self._restore()
        self._count_time()
        out: list[Item] = []
        for item in items:
            if not isinstance(item, ChangeBatch):
                if not isinstance(item, Tick):
                    out.append(item)
            elif item.table == TRANSACTION_MARKS:
                self._marks(from_batch(item))
            elif TX in item.record.schema.names:
                out += self._rows(item)
            else:
                out.append(item)
        out += self._release()
        while self._give_up(out):
            out += self._release()
        self._check_bound()
        self._show()
        return [*out, Tick()] if any(isinstance(item, Tick) for item in items) else out

    def _restore(self) -> None:
        if self._restored:
            return
        self._restored = True
        self.keeper.restore(self.pending, self.ends, self._now_s)
        if self.keeper.meta.generation < self.rules.generation:
            self.keeper.new_generation(self.rules.generation)

    def _count_time(self) -> None:
        now_s = self.clock()
        self._now_s += 0.0 if self._seen_s is None else min(now_s - self._seen_s, _GAP_S_MAX)
        self._seen_s = now_s

    def _rows(self, batch: ChangeBatch) -> list[Item]:
        free, bound = split_outside(batch.record)
        out: list[Item] = []
        if free.num_rows:
            out.append(ChangeBatch(batch.table, outside(free, self.keeper.meta.released, self._outside)))
            self._outside += free.num_rows
            self._epoch.outside = True
            if self.ends and self._lacks(self.ends[0], batch.table.name):
                self._head_s = self._now_s  # its rows stand behind these
        if refused := self.keeper.refused():
            mask = pc.is_in(transaction_keys(bound.column(TX)), pa.array(sorted(refused), pa.string()))
            out += self._refuse(batch, bound.filter(mask))
            bound = bound.filter(pc.invert(mask))
        if bound.num_rows:
            self.pending.add(batch.table, bound, self._now_s)
        return out

    def _refuse(self, batch: ChangeBatch, rows: pa.RecordBatch) -> list[Item]:
        """Rows of transactions that came before, or were left out."""
        names = transaction_keys(rows.column(TX)).to_pylist()
        again = pa.array([not self.keeper.done[name].skipped for name in names], pa.bool_())
        metrics.REDELIVERED.labels(batch.table.name).inc(pc.sum(again).as_py() or 0)
        late = rows.filter(pc.invert(again))
        text = "its transaction was left out before it came"
        return [self._letters(ChangeBatch(batch.table, outside(late, 0, 0)), text)] if late.num_rows else []

    def _marks(self, marks: list[Mark]) -> None:
        at = 0
        while at < len(marks):
            mark, at = marks[at], at + 1
            if mark.kind == END:
                first = at
                while at < len(marks) and marks[at].kind == END and marks[at].collection is not None:
                    at += 1
                self._end(mark, marks[first:at])
            elif transaction_key(mark.transaction) not in self.keeper.refused():
                self.pending.add_mark(mark, self._now_s)
                self.keeper.mark(mark)

    def _end(self, mark: Mark, parts: list[Mark]) -> None:
        key = transaction_key(mark.transaction)
        self._marked_s, self._marked_us = self._now_s, max(self._marked_us, mark.time_us or 0)
        done = self.keeper.done.get(key)
        if done is not None and done.name in (mark.transaction, ""):  # "": left out before its END came
            self._again(key, replace(done, name=mark.transaction, repeated=True))
            return
        if (waiting := self.keeper.waiting.get(key)) is not None:
            if waiting.name != mark.transaction:
                raise _fatal(f"transaction {mark.transaction}: another one of that number waits: {waiting.name}")
            self.keeper.waits_again(key)
            return
        counts: dict[str, int] = {}
        for part in parts:
            table = self.rules.table_of(part.collection or "")
            if table is not None and part.count:
                counts[table] = counts.get(table, 0) + part.count
        if counts:
            self.keeper.rises(mark.transaction)
        self.ends.append(self.keeper.end(key, mark.transaction, counts))

    def _again(self, key: str, done: Done) -> None:
        """The END of a transaction that is done came again: so do its rows, before or behind it."""
        for table, record in self.pending.take({key: 0}):
            metrics.REDELIVERED.labels(table.name).inc(record.num_rows)
        self.keeper.set_done(key, done)
        _LOG.warning("a transaction came again and is dropped", transaction=done.name)

    def _lacks(self, end: End, table: str) -> bool:
        return self.pending.counts(end.key).get(table, 0) < end.counts.get(table, 0)

    def _complete(self, end: End) -> bool:
        return not any(self._lacks(end, table) for table in end.counts)

    def _ready(self) -> list[End]:
        ready: list[End] = []
        for end in self.ends:
            if not self._complete(end):
                break
            ready.append(end)
        self.pending.recount([end.key for end in ready])
        bad = next((index for index, end in enumerate(ready) if not self._complete(end)), len(ready))
        return ready[:bad]

    def _release(self) -> list[Item]:
        ready = self._ready()
        for end in ready:
            self._check_whole(end)
        out: list[Item] = [
            ChangeBatch(table, record) for table, record in self.pending.take({end.key: end.ordinal for end in ready})
        ]
        for end in ready:
            self.ends.popleft()
            self.keeper.release(end)
        metrics.DOCUMENT_TRANSACTIONS.inc(len(ready))
        self._epoch.released = self._epoch.released or bool(ready)
        head = self.ends[0].name if self.ends else None
        if head != self._head:
            self._head, self._head_s = head, self._now_s
        return out

    def _check_whole(self, end: End) -> None:
        arrived = self.pending.transactions.get(end.key)
        if arrived is None:
            return
        for table, count in arrived.counts.items():
            if count != end.counts.get(table, 0):
                raise _fatal(
                    f"transaction {end.name}: its END says {end.counts.get(table, 0)} changes of {table}, found "
                    f"{count}: where the source calls that table otherwise, [document.collections] says so"
                )
        for mark in arrived.lost:
            text = f"transaction {end.name}: a change of {mark.collection} cannot be read ({mark.error})"
            if self.rules.on_bad_row == "stop":
                raise _fatal(f'{text}; [document] on_bad_row = "apply" releases the transaction without it')
            _LOG.error("a transaction is released without a change", transaction=end.name, error=text)
            metrics.DOCUMENT_TORN.inc()

    def _give_up(self, out: list[Item]) -> bool:
        """Leave out, or stop at, the transaction that is waited for in vain; whether one was left out."""
        if self.ends:
            end, waited_s = self.ends[0], self._now_s - self._head_s
            asked = not self.rules.skip.isdisjoint((end.name, end.key))
            if asked or waited_s > self.rules.timeout_s:
                self._skip(out, end.key, end.name, asked, f"{self._missing(end)} after {waited_s:.0f} s")
                self.ends.popleft()
                self.keeper.release(end, skipped=True)
                return True
        for key, arrived in self.pending.transactions.items():
            asked = key in self.rules.skip
            if not asked and self._now_s - arrived.since_s <= self.rules.timeout_s:
                break  # they stand in the order of their coming
            if key in self.keeper.waiting:
                continue
            passed = self._marked_us - (arrived.time_us or self._marked_us) > self.rules.timeout_s * 1e6
            if asked or passed or self._now_s - self._marked_s > self.rules.timeout_s:
                came = ", ".join(f"{count} of {table}" for table, count in arrived.counts.items())
                self._skip(out, key, key, asked, f"changes came ({came}), but no END in {self.rules.timeout_s:.0f} s")
                self.keeper.set_done(key, Done("", skipped=True))
                return True
        return False

    def _missing(self, end: End) -> str:
        found = self.pending.counts(end.key)
        lacking = [f"{found.get(t, 0)} of {n} changes of {t}" for t, n in end.counts.items() if self._lacks(end, t)]
        return f"found {', '.join(lacking)}"

    def _skip(self, out: list[Item], key: str, name: str, asked: bool, text: str) -> None:
        text = f"transaction {name} is not complete: {text}"
        if not asked and self.rules.on_timeout == "stop":
            raise _fatal(
                f'{text}. Ways out: raise timeout_s; leave it out with [document] skip = ["{name}"], or each such one '
                'with on_timeout = "skip"; its rows become dead letters then'
            )
        _LOG.error("a transaction is left out", transaction=name, error=text)
        metrics.DOCUMENT_SKIPPED.inc()
        for table, record in self.pending.take({key: 0}):
            out.append(self._letters(ChangeBatch(table, record), text))
        self._epoch.released = True

    def _letters(self, batch: ChangeBatch, text: str) -> ChangeBatch:
        rows = range(batch.row_count)
        return dead_letters(self.rules.flow, "document", batch, rows, [text] * batch.row_count)

    def _check_bound(self) -> None:
        if self.pending.bytes > self.rules.pending_bytes:
            waits = f"for {self.ends[0].name}: {self._missing(self.ends[0])}" if self.ends else "for the first END"
            text = (
                f"{self.pending.rows:,} rows of {len(self.pending.transactions):,} transactions wait {waits}; they "
                f"take {self.pending.bytes:,} bytes, above [document] pending_bytes = {self.rules.pending_bytes:,}"
            )
            _LOG.error("too many rows wait for their transactions", error=text)
            raise CapacityError(text)

    def _show(self) -> None:
        metrics.DOCUMENT_PENDING_ROWS.set(self.pending.rows)
        metrics.DOCUMENT_PENDING_TRANSACTIONS.set(len(self.pending.transactions))
        metrics.DOCUMENT_WAIT.set(self._now_s - self._head_s if self.ends else 0.0)


def _fatal(text: str) -> FatalError:
    _LOG.error("a transaction stops the flow", error=text)
    return FatalError(text)

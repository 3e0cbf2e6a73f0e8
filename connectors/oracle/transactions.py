"""Puts LogMiner's rows together by transaction: kept until the commit, given in commit order, dropped at a rollback.

Work is done on whole batches: rows of transactions that end in a batch are sorted by their commit in one step, those of
open ones are carried over to the next. A transaction that grows large leaves the common rows for an own list, and what
all of these hold above a bound goes to disk; nothing is ever dropped for its size.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.oracle.undone import without_undone
from libcore.errors import FatalError

CARRIED_ROWS_MAX = 20_000
"""Rows of open transactions that are carried from batch to batch; above it the largest get lists of their own."""
_COMMIT, _DDL, _MARKER, _MISSING, _ROLLBACK = 7, 5, 27, 34, 36
_CONTROL = pa.array([_COMMIT, _DDL, _MARKER, _MISSING, _ROLLBACK], pa.int16())
_ENDS = (_COMMIT, _MARKER, _ROLLBACK)
_NO_SEQUENCE = b"\xff\xff\xff\xff"
ROWS = pa.schema(
    [
        ("SCN", pa.int64()),
        ("OPERATION_CODE", pa.int16()),
        ("XID", pa.binary()),
        ("CSF", pa.int8()),
        ("ROLLBACK", pa.int8()),
        ("STATUS", pa.int32()),
        ("SEG_OWNER", pa.utf8()),
        ("TABLE_NAME", pa.utf8()),
        ("ROW_ID", pa.utf8()),
        ("SQL_REDO", pa.utf8()),
        ("DATA_OBJ#", pa.int64()),
    ]
)
"""What is kept of a row."""


@dataclass(frozen=True)
class Commit:
    """A transaction's end.

    Args:
        at: Unix seconds in the server's own clock; None: not told.
    """

    xid: bytes
    scn: int
    thread: int
    at: int | None


@dataclass(frozen=True)
class Committed:
    """Transactions that committed one after the other.

    Args:
        commits: in order.
        rows: of all of them, in that order, in the columns ROWS; those that were undone are gone.
        numbers: int64, for each row its commit's place in `commits`. orders: int64, its number in its transaction.
        ended: False: more of the last one follows.
    """

    commits: Sequence[Commit]
    rows: pa.RecordBatch
    numbers: pa.Int64Array
    orders: pa.Int64Array
    ended: bool = True


@dataclass(frozen=True)
class Told:
    """A DDL statement, or a gap in the redo: it applies to all that committed before and to nothing behind.

    Args:
        owner, name: the DDL's table. statement: the DDL, or "" for a gap.
    """

    scn: int
    thread: int
    owner: str
    name: str
    statement: str


@dataclass
class _Large:
    """An open transaction with rows of its own, in memory and, before these, in a file."""

    first_scn: int
    file: Path
    batches: list[pa.RecordBatch] = field(default_factory=list)
    bytes: int = 0
    undoes: bool = False
    _writer: Any = None

    def add(self, rows: pa.RecordBatch) -> None:
        self.batches.append(rows)
        self.bytes += rows.nbytes
        self.undoes = self.undoes or _undoes(rows)

    def spill(self) -> None:
        """Put what is in memory behind what is in the file."""
        if self._writer is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pa.ipc.new_stream(str(self.file), ROWS)
        for batch in self.batches:
            self._writer.write_batch(batch)
        self.batches, self.bytes = [], 0

    def rows(self) -> Iterator[pa.RecordBatch]:
        """All of them, in order; may be asked for more than once."""
        if self._writer is not None:
            self._writer.close()
            with pa.ipc.open_stream(str(self.file)) as reader:
                yield from reader
        yield from self.batches

    def forget(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self.file.unlink(missing_ok=True)


class Transactions:
    """Open transactions of one mining session. Used by one thread.

    Args:
        directory: for large ones; what is in it from an earlier process is removed.
        bytes_max: what open transactions may hold in memory.
        known: whether a commit is durable already, so that its rows are dropped.
    """

    def __init__(self, directory: Path, bytes_max: int, known: Callable[[Commit], bool]) -> None:
        self._directory, self._bytes_max, self._known = directory, bytes_max, known
        shutil.rmtree(directory, ignore_errors=True)
        self._carried = pa.RecordBatch.from_arrays([pa.nulls(0, one.type) for one in ROWS], schema=ROWS)
        self._large: dict[bytes, _Large] = {}

    @property
    def oldest_scn(self) -> int | None:
        """The first SCN of the oldest open transaction."""
        found = [one.first_scn for one in self._large.values()]
        if len(self._carried):
            found.append(pc.min(self._carried.column("SCN")).as_py())
        return min(found, default=None)

    def take(self, batch: pa.RecordBatch) -> Iterator[Committed | Told]:
        """What the rows of a batch, in the columns of sql.CONTENTS_SCHEMA, bring to an end."""
        batch = self._with_sequences(batch)
        is_control = pc.is_in(batch.column("OPERATION_CODE"), value_set=_CONTROL)
        rows = pa.RecordBatch.from_arrays([batch.column(name) for name in ROWS.names], schema=ROWS)
        rows = self._to_large(rows.filter(pc.invert(is_control)))
        rows = pa.concat_batches([self._carried, rows]) if len(self._carried) else rows
        encoded = pc.dictionary_encode(rows.column("XID"))
        xids = encoded.dictionary.to_pylist()
        ended: dict[bytes, int] = {}  # the commit's number; -1: dropped
        steps = self._steps(batch.filter(is_control), set(xids), ended)
        numbers = pa.array([ended.get(xid) for xid in xids], pa.int64()).take(encoded.indices)
        self._carried = rows.filter(pc.is_null(numbers))
        done = pc.greater_equal(numbers, 0)
        committed, numbers = rows.filter(done), numbers.filter(done)
        order = pc.sort_indices(numbers)
        yield from self._given(steps, committed.take(order), numbers.take(order))
        self._make_room()

    def close(self) -> None:
        """Remove what is on disk."""
        for one in self._large.values():
            one.forget()

    def _open_xids(self) -> list[bytes]:
        return [*pc.unique(self._carried.column("XID")).to_pylist(), *self._large]

    def _with_sequences(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch, and what is open, with whole XIDs wherever it is known by now which are meant."""
        known, short = self._open_xids(), pa.scalar(_NO_SEQUENCE, pa.binary())
        is_short = pc.equal(pc.binary_slice(batch.column("XID"), 4, 8), short)
        if not pc.any(is_short).as_py() and all(xid[4:] != _NO_SEQUENCE for xid in known):
            return batch
        codes, column = batch.column("OPERATION_CODE").to_pylist(), batch.schema.get_field_index("XID")
        xids, told = _resolved(batch.column(column).to_pylist(), codes, known)
        for xid, whole in told.items():
            if xid in self._large:
                self._large[whole] = self._large.pop(xid)
        place = ROWS.get_field_index("XID")
        named = [told.get(xid, xid) for xid in self._carried.column(place).to_pylist()]
        self._carried = self._carried.set_column(place, ROWS.field(place), pa.array(named, pa.binary()))
        return batch.set_column(column, batch.schema.field(column), pa.array(xids, pa.binary()))

    def _to_large(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of large transactions go to these; the others come back."""
        if not self._large:
            return rows
        for xid, large in self._large.items():
            mine = pc.equal(rows.column("XID"), pa.scalar(xid, pa.binary()))
            if pc.any(mine).as_py():
                large.add(rows.filter(mine))
        return rows.filter(pc.invert(pc.is_in(rows.column("XID"), value_set=pa.array(list(self._large), pa.binary()))))

    def _steps(self, control: pa.RecordBatch, small: set[bytes], ended: dict[bytes, int]) -> list[Any]:
        """The ends and DDLs in order: lists of Commit, a Commit of a large transaction, Told."""
        names = ("OPERATION_CODE", "XID", "SCN", "THREAD#", "TIMESTAMP", "SEG_OWNER", "TABLE_NAME", "SQL_REDO")
        columns = [control.column(name) for name in names]
        columns[4] = columns[4].cast(pa.int64())
        steps: list[Any] = []
        number = 0
        for code, xid, scn, thread, at, owner, name, statement in zip(
            *(one.to_pylist() for one in columns), strict=True
        ):
            if code in (_DDL, _MISSING):
                steps.append(Told(scn, thread, owner or "", name or "", statement or "" if code == _DDL else ""))
                continue
            commit = Commit(xid, scn, thread, at)
            keep = code == _COMMIT and not self._known(commit)
            if (large := self._large.get(xid)) is not None:
                if keep:
                    steps.append(commit)
                else:
                    large.forget()
                    del self._large[xid]
            if xid in small:
                ended[xid] = number if keep else -1
            if xid in small and keep:
                number += 1
                if not steps or not isinstance(steps[-1], list):
                    steps.append([])
                steps[-1].append(commit)
        return steps

    def _given(self, steps: list[Any], rows: pa.RecordBatch, numbers: pa.Int64Array) -> Iterator[Committed | Told]:
        begin = first = 0
        for step in steps:
            if isinstance(step, Told):
                yield step
            elif isinstance(step, Commit):
                yield from self._given_large(step, self._large.pop(step.xid))
            else:
                behind = first + len(step)
                later = pc.index(numbers.slice(begin), pa.scalar(behind, pa.int64())).as_py()
                end = len(rows) if later < 0 else begin + later
                mine, own = rows.slice(begin, end - begin), pc.subtract(numbers.slice(begin, end - begin), first)
                yield _small(step, mine, own)
                begin, first = end, behind

    def _given_large(self, commit: Commit, large: _Large) -> Iterator[Committed]:
        """A batch at a time; none ends within a statement."""
        held: list[tuple[pa.RecordBatch, pa.Int64Array]] = []
        for rows, orders in without_undone(large.rows, large.undoes):
            if held and not held[-1][0].column("CSF")[-1].as_py():
                yield _one(commit, held, ended=False)
                held = []
            held += [(rows, orders)] if len(rows) else []
        yield _one(commit, held, ended=True)
        large.forget()

    def _make_room(self) -> None:
        if len(self._carried) > CARRIED_ROWS_MAX or self._carried.nbytes > self._bytes_max:
            counts = pc.value_counts(self._carried.column("XID"))
            largest = sorted(counts.to_pylist(), key=lambda one: -one["counts"])
            left = len(self._carried)
            for one in largest:
                if left <= CARRIED_ROWS_MAX // 2:
                    break
                left -= one["counts"]
                scns = self._carried.filter(pc.equal(self._carried.column("XID"), one["values"])).column("SCN")
                file = self._directory / f"{one['values'].hex()}.arrow"
                self._large[one["values"]] = _Large(pc.min(scns).as_py(), file)
            self._carried = self._to_large(self._carried)
        held = sum(one.bytes for one in self._large.values())
        for one in sorted(self._large.values(), key=lambda one: -one.bytes):
            if held <= self._bytes_max:
                return
            held -= one.bytes
            one.spill()


def _one(commit: Commit, held: list[tuple[pa.RecordBatch, pa.Int64Array]], *, ended: bool) -> Committed:
    """Some rows of one transaction."""
    empty = pa.RecordBatch.from_arrays([pa.nulls(0, one.type) for one in ROWS], schema=ROWS)
    rows = pa.concat_batches([rows for rows, _ in held]) if held else empty
    orders = pa.concat_arrays([orders for _, orders in held]) if held else pa.array([], pa.int64())
    return Committed([commit], rows, pa.array([0] * len(rows), pa.int64()), orders, ended)


def _small(commits: list[Commit], rows: pa.RecordBatch, numbers: pa.Int64Array) -> Committed:
    """Several whole transactions, undone rows left out."""
    ends = pc.run_end_encode(numbers, run_end_type=pa.int64())
    starts = pa.array([0, *ends.run_ends.to_pylist()[:-1]], pa.int64()) if len(rows) else pa.array([], pa.int64())
    lookup = dict(zip(ends.values.to_pylist(), starts.to_pylist(), strict=True))
    first = pa.array([lookup.get(number, 0) for number in range(len(commits))], pa.int64())
    orders = pc.subtract(pa.array(range(len(rows)), pa.int64()), first.take(numbers))
    if _undoes(rows):
        ((kept, places),) = without_undone(lambda: iter([rows]), True)
        return Committed(commits, kept, numbers.take(places), orders.take(places))
    return Committed(commits, rows, numbers, orders)


def _undoes(rows: pa.RecordBatch) -> bool:
    return bool(pc.any(pc.not_equal(rows.column("ROLLBACK"), pa.scalar(0, pa.int8()))).as_py())


def _resolved(
    xids: list[bytes | None], codes: list[int], known: Sequence[bytes]
) -> tuple[list[bytes | None], dict[bytes, bytes]]:
    """XIDs of rows in their order, those without a sequence as the transaction that is open in their slot at that row.

    A row may come before any that tells the sequence. One slot has one transaction after the other, also in a batch.

    Args:
        known: open ones.
    Returns: the XIDs, and which of `known` without a sequence are told now, and what they are. Raises FatalError where
        several are open.
    """
    found, told = list(xids), dict[bytes, bytes]()
    whole: dict[bytes, list[bytes]] = {}
    waiting: dict[bytes, list[int]] = {}
    for one in known:
        if one[4:] != _NO_SEQUENCE:
            whole.setdefault(one[:4], []).append(one)
    for place, (xid, code) in enumerate(zip(xids, codes, strict=True)):
        if xid is None or code in (_DDL, _MISSING):
            continue
        opened = whole.setdefault(xid[:4], [])
        if xid[4:] == _NO_SEQUENCE and len(opened) > 1:
            raise FatalError(
                f"source.oracle: transaction {xid.hex()} comes without its sequence, and {len(opened)} open ones have "
                "its slot: which is meant cannot be known; start again behind them"
            )
        if xid[4:] == _NO_SEQUENCE and not opened:
            waiting.setdefault(xid[:4], []).append(place)
            if code in _ENDS:  # of those that wait
                waiting.pop(xid[:4])
                known = [one for one in known if one != xid]
            continue
        if xid[4:] == _NO_SEQUENCE:
            xid = opened[0]
            found[place] = xid
        elif xid not in opened:
            opened.append(xid)
            for earlier in waiting.pop(xid[:4], None) or ():
                found[earlier] = xid
            if (short := xid[:4] + _NO_SEQUENCE) in known:
                told.setdefault(short, xid)
        if code in _ENDS:
            opened.remove(xid)
    return found, told

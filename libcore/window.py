"""Windows over a table of changes: sums, counts, averages, extremes and distinct counts that can be taken back.

Two stages. Contributions stands in the slots of the rows' keys: it keeps what each row counted with, and turns an
update into a row taken out and one put in. Aggregates stands in the slots of the groups: it keeps exact partial sums
of each window and gives its results as an upsert log. Neither knows Bytewax; both are used by one thread at a time.

Time. The watermark W says that rows before W are all there, as far as is known. A row is late when the last window
that has a place for it is closed: end + allowed_lateness <= W (a session's row: time + gap + allowed_lateness <= W).
Late rows and late changes of rows change nothing and come out as `late`; a live row that moves to a closed window is
taken out of the old one. Closed windows are purged; emit "final" gives each of them once, when it closes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from libcore.change import SOURCE_TS_TYPE
from libcore.hashing import hash_rows
from libcore.slots import slot_of
from libcore.table import RowStore
from libcore.window_columns import TIME_MAX, Clock, floored, int64, time_us
from libcore.window_contributions import Contributed, Contributions
from libcore.window_panes import ROWS, Panes
from libcore.window_plan import START, Aggregate, WindowPlan, plan_window
from libcore.window_results import LAST, Applied, Results, is_late, joined
from libcore.window_sessions import Sessions

__all__ = ["Aggregate", "Aggregates", "Applied", "Contributed", "Contributions", "WindowPlan", "plan_window"]

ROWS_MAX = 32768
"""Rows of one result batch of an advance or a truncate, at most."""
END_US = 2 * TIME_MAX
"""The watermark of an input that is at its end."""


class Aggregates:
    """Stage two: the partial sums of each window, by group.

    Stores: "windows", "values:COLUMN" for columns under min, max and count distinct, for sessions also "sessions" and
    "links" (of their panes), and "watermark" where lateness has a bound.

    Args: as Contributions; bytes_max bounds each store.
    """

    def __init__(self, plan: WindowPlan, slots: int = 64, bytes_max: int = 0) -> None:
        self.plan, self.late_rows = plan, 0
        self._panes = Panes(plan, slots, bytes_max)
        self._sessions = Sessions(plan, self._panes, slots, bytes_max) if plan.kind == "session" else None
        self._results = Results(plan)
        self._clock = Clock(slots)
        self.stores: dict[str, RowStore] = dict(self._panes.stores)
        if self._sessions is not None:
            self.stores |= self._sessions.stores
        if plan.bounded:
            self.stores["watermark"] = self._clock.store
        self._dues: set[int] | None = None

    @property
    def watermark_us(self) -> int | None:
        """The greatest watermark seen, in microseconds since 1970."""
        return self._clock.us

    def apply(self, record: pa.RecordBatch) -> Applied:
        """Count rows of Contributions in and out.

        Args:
            record: as WindowPlan.travelling_schema.
        Returns: the results that changed (none for emit "final"), and rows that are late here.
        Raises: CapacityError.
        """
        plan, late = self.plan, None
        if plan.bounded and self._clock.us is not None and record.num_rows:
            mask = is_late(plan, time_us(record.column(plan.time)), self._clock.us)
            if pc.any(mask).as_py():
                late = self._results.late_contributions(record.filter(mask), self._clock.us)
                self.late_rows += late.row_count if late is not None else 0
                record = record.filter(pc.invert(mask))
        if not record.num_rows:
            return Applied(late=late)
        if plan.bounded and self._clock.us is not None:
            self._touch(record.select(list(plan.group)))
        if plan.bounded and self._clock.us is not None:
            self._panes.closed_us = self._clock.us - (plan.allowed_lateness_us or 0) - plan.size_us
        changed, gone = self._panes.apply(record), None
        if self._sessions is not None:
            changed, gone = self._sessions.apply(changed)
        if plan.bounded:
            self._live().update(self._dues_of(changed.rows.filter(pc.invert(changed.empty))))
        if plan.final:
            return Applied(late=late)
        made = self._results.changes(changed.rows, changed.empty, changed.source_ts, changed.old)
        deleted = None if gone is None else self._results.deletes(gone)
        return Applied(joined(deleted, made.results), late, made.refused)

    def _touch(self, groups: pa.RecordBatch) -> None:
        """The slots of these groups know the watermark from here on."""
        hashes = hash_rows(groups, range(len(self.plan.group)))
        self._clock.touch(pc.unique(slot_of(hashes, self._panes.store.slots)).to_pylist())

    def _dues_of(self, rows: pa.RecordBatch) -> set[int]:
        """Windows of one value are closed together, sessions about so: starts, or panes of last rows."""
        if self._sessions is None:
            return set(pc.unique(rows.column(START)).to_pylist())
        return set(pc.unique(floored(rows.column(LAST), self.plan.gap_us)).to_pylist())

    def _live(self) -> set[int]:
        if self._dues is None:
            self._dues = set(self._panes.starts() if self._sessions is None else self._sessions.dues())
        return self._dues

    def advance(self, us: int) -> Iterator[Applied]:
        """Take a watermark, in microseconds since 1970: windows that it closes are given (emit "final") and purged.

        To be exhausted before the next call. Batches have at most ROWS_MAX rows.
        """
        plan = self.plan
        if not plan.bounded or not self._clock.rise(us):
            return
        live, width = self._live(), plan.gap_us if self._sessions is not None else plan.size_us
        edge = us - (plan.allowed_lateness_us or 0) - width  # starts, or last rows, up to here are closed
        for due in sorted(due for due in live if due <= edge):
            if self._sessions is None:
                closed = self._panes.starting(due)
                live.discard(due)
            else:
                closed = self._sessions.due(due, edge + 1)
                if due + width <= edge + 1:
                    live.discard(due)
            for start in range(0, closed.num_rows, ROWS_MAX):
                piece = closed.slice(start, ROWS_MAX)
                if plan.final:
                    yield self._closed(piece)
                self._touch(piece.select(range(len(plan.group))))
                if self._sessions is None:
                    self._panes.drop(piece.select(range(len(self._panes.keys))))
                else:
                    self._sessions.drop(piece)

    def _closed(self, windows: pa.RecordBatch) -> Applied:
        rows = windows if self._sessions is None else self._sessions.results(windows)
        rows = rows.filter(pc.greater(rows.column(ROWS), int64(0)))
        none = pa.repeat(pa.scalar(False), rows.num_rows)
        return self._results.changes(rows, none, pa.nulls(rows.num_rows, SOURCE_TS_TYPE))

    def close(self) -> Iterator[Applied]:
        """The input is at its real end: what emit "final" holds back is given."""
        if self.plan.final:
            yield from self.advance(END_US)

    def _taken_back(self, keys: pa.RecordBatch) -> Applied:
        if self.plan.result.key:
            return Applied(self._results.deletes(keys))
        rows = self._panes.at(keys)
        empty = pa.repeat(pa.scalar(True), rows.num_rows)
        return self._results.changes(rows, empty, pa.nulls(rows.num_rows, SOURCE_TS_TYPE), rows)

    def truncate(self) -> Iterator[Applied]:
        """The source table is empty now: results of open windows are taken back. To be exhausted."""
        store = self._panes.store if self._sessions is None else self._sessions.store
        width = len(self._panes.keys)
        for slot in range(store.slots if not self.plan.final else 0):
            keys = store.whole(slot).select(range(width))
            for start in range(0, keys.num_rows, ROWS_MAX):
                yield self._taken_back(keys.slice(start, ROWS_MAX))
        for name, held in self.stores.items():
            if name != "watermark":
                held.clear()
        self._dues = set()

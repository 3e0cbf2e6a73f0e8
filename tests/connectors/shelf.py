"""A target in memory that keeps the whole contract of connectors/base/target.py, and can be down, slow or broken."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from connectors.base.target import PREFLIGHT_S, Applied, Progress, WaitForParts, markers_of
from libcore.errors import FatalError, TransientError
from libcore.schema import Table
from libcore.segment import Segment


class Shelf:
    """Keeps the values of column `id` in the order applied, and a seq for each part, through restarts of the flow."""

    def __init__(self, store_id: str = "store-1") -> None:
        self.store_id = store_id
        self.ids: list[int] = []
        self.seqs: dict[int, int] = {}
        self.up = threading.Event()
        self.up.set()
        self.broken: Exception | None = None
        self.recorded: dict[str, set[int]] = {}  # markers: identity -> parts that reached it
        self.parts = 1
        self.lock = threading.Lock()

    def preflight(self, tables: Sequence[Table], *, wait_s: float = PREFLIGHT_S) -> None:
        """Nothing to make."""

    def single_part_tables(self, tables: Sequence[Table]) -> frozenset[str]:
        """No table is tied."""
        return frozenset()

    def open(self, part: int) -> ShelfPart:
        """A session."""
        return ShelfPart(self, part)


class ShelfPart:
    """One part's session with the shelf."""

    def __init__(self, shelf: Shelf, part: int) -> None:
        self._shelf, self._part = shelf, part
        self._pending: list[tuple[str, str]] = []

    def _check(self) -> None:
        if self._shelf.broken is not None:
            raise self._shelf.broken
        if not self._shelf.up.is_set():
            raise TransientError("the shelf is down")

    def progress(self) -> Progress:
        """The part's seq."""
        self._check()
        return Progress(self._shelf.seqs.get(self._part, 0), self._shelf.store_id)

    def apply(self, seq: int, segment: Segment) -> Applied:
        """Put the segment's ids on the shelf."""
        self._check()
        self.settle()
        if any(table.name == name for table, _ in segment.parts for name, _ in self._pending):
            raise WaitForParts("a truncate is not done")
        with self._shelf.lock:
            if self._shelf.seqs.get(self._part, 0) == seq:
                return Applied(0, repeated=True)
            if self._shelf.seqs.get(self._part, 0) != seq - 1:
                raise FatalError(f"expected segment {self._shelf.seqs.get(self._part, 0) + 1}, found {seq}")
            ids = [value for _, record in segment.parts for value in record.column("id").to_pylist()]
            self._shelf.ids += ids
            self._shelf.seqs[self._part] = seq
            for marker in markers_of(segment.metadata):
                self._shelf.recorded.setdefault(marker.identity, set()).add(self._part)
                self._pending.append((marker.table, marker.identity))
        return Applied(len(ids))

    def settle(self) -> bool:
        """A marker is done when all parts have it; this shelf keeps the rows."""
        with self._shelf.lock:
            done = {identity for identity, parts in self._shelf.recorded.items() if len(parts) == self._shelf.parts}
        self._pending = [pair for pair in self._pending if pair[1] not in done]
        return not self._pending

    def ways_out(self, seq: int) -> str:
        """Advice."""
        return f"set the shelf to {seq}"

    def close(self) -> None:
        """Nothing to end."""

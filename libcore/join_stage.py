"""What the two stages of the join that keep state share: stores by name, older state, tables that gain columns."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pyarrow as pa
import pyarrow.compute as pc

from libcore import IMPLEMENTATION
from libcore.change import OP, Op
from libcore.join_c import JoinInC
from libcore.join_columns import keys_of_slots, widened
from libcore.join_plan import JoinPlan, replanned
from libcore.schema import Table
from libcore.table import RowStore

# __op from (a) to (b). NEW is an ENTER of a fact that (a) did not know: no result of it can be anywhere yet.
ENTER, FORGET, NEW = int(Op.UPSERT), int(Op.DELETE), int(Op.INSERT)
ROWS_MAX = 32768
# pyarrow takes 0.6 ms to find out the type of a bare Python number where dateutil is not installed, each time.
ENTERING, DELETED, UNKNOWN = (pa.scalar(op, pa.int8()) for op in (ENTER, FORGET, NEW))
ZERO, NOWHERE = pa.scalar(0, pa.int64()), pa.scalar(-1, pa.int64())


class Stage(ABC):
    """What (a) and (b) share: stores by name, loading older columns, wider tables."""

    def __init__(self, plan: JoinPlan, slots: int, bytes_max: int) -> None:
        self.plan, self._slots, self._bytes_max = plan, slots, bytes_max
        self.stores: dict[str, RowStore] = {}
        self.slot_keys = keys_of_slots(slots)
        self.in_c = IMPLEMENTATION == "c"  # else in columns of pyarrow, with the same results
        self._kernel: JoinInC | None = None

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """Apply rows that a store of this name once gave, perhaps before the table got columns: those are unset."""
        self.stores[store].load(widened(record, self.stores[store].schema))

    def replan(self, *, fact: Table | None = None, dimension: Table | None = None) -> None:
        """Go on with tables that gained columns; rows in the stores lack their values. `stores` has new objects.

        Raises: ConfigurationError where a table changed otherwise; then nothing is changed.
        """
        self.plan = replanned(self.plan, fact, dimension)
        for name, old in list(self.stores.items()):
            new = self.new_store(name)
            if new.schema != old.schema:
                move_rows(old, new)
                self.stores[name] = new

    def kernel(self) -> JoinInC:
        """The plan's kernels in C."""
        if self._kernel is None or self._kernel.plan is not self.plan:
            self._kernel = JoinInC(self.plan, self.slot_keys)
        return self._kernel

    @abstractmethod
    def new_store(self, name: str) -> RowStore:
        """An empty store of that name for the plan as it is."""


def move_rows(old: RowStore, new: RowStore) -> None:
    """Bring all rows into a store of more columns, and what changed since the mark as changed."""
    changed, _ = old.changed()
    gone = changed.filter(pc.equal(changed.column(OP), DELETED)).drop_columns([OP])
    for slot in range(old.slots):
        new.load(widened(old.whole(slot), new.schema))
    new.load(widened(gone, new.schema))
    new.upsert(widened(changed.filter(pc.equal(changed.column(OP), ENTERING)).drop_columns([OP]), new.schema))
    new.delete(widened(gone, new.schema).select(list(new.key)))

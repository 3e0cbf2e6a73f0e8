"""The foreign-key join in three stages, so that any interleaving of facts and dimensions ends as the SQL join.

    (a) FactRouter  slot of the fact's key     fills what a row lacks, stamps it with a version, sends it to its foreign
                                               key's slot, and "forget" to the slot it left; deletes go straight to (c)
    (b) Matcher     slot of the foreign key    keeps facts and dimension; either side's change gives the rows anew
    (c) Latest      slot of the fact's key     of what (b) and (a) send in an epoch, the greatest version of a key stays

Two places (b) may answer for one fact in any order, before and after it moved; the version decides. A barrier between
epochs must empty the channels: then nothing older is on its way, and (c) forgets everything.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.change import POSITION_TYPE, ChangeBatch
from libcore.join_columns import as_positions, widened
from libcore.join_matcher import Matcher
from libcore.join_plan import VERSION, JoinPlan, plan_join, replanned
from libcore.join_router import FactRouter
from libcore.join_stage import ENTER, FORGET, NEW
from libcore.position import POSITION_BYTES
from libcore.reference import join as reference
from libcore.schema import Table
from libcore.slots import take

__all__ = ["ENTER", "FORGET", "NEW", "VERSION", "FactRouter", "JoinPlan", "Latest", "Matcher", "plan_join"]


class Latest:
    """Stage (c), for all slots of a process: of what comes for a key in an epoch, nothing older than what came.

    It has no state to keep: the barrier at the end of an epoch lets it forget.
    """

    def __init__(self, plan: JoinPlan) -> None:
        self.plan = plan
        key = [pa.field(name, plan.result.column(name).type.arrow) for name in plan.result.key]
        self._names = [*plan.result.key, VERSION]
        self._core = latest_core(pa.schema([*key, pa.field(VERSION, pa.int64())]))

    def take(self, record: pa.RecordBatch) -> ChangeBatch | None:
        """Let pass what is at least as new as all that came for its key since clear(), in order.

        Args:
            record: results of FactRouter and Matcher.
        Returns: a batch of plan.result whose positions rise for the life of this object; None for no rows.
        """
        record = widened(record, self.plan.result_schema)
        rows, positions = self._core.take(record.select(self._names))
        if len(rows) == 0:
            return None
        passed = record if len(rows) == record.num_rows else take(record, rows)
        return ChangeBatch(self.plan.result, as_positions(passed, positions))

    def replan(self, *, fact: Table | None = None, dimension: Table | None = None) -> None:
        """Go on with tables that gained columns. Raises: ConfigurationError where a table changed otherwise."""
        self.plan = replanned(self.plan, fact, dimension)

    def clear(self) -> None:
        """Forget the versions; call it at the end of each epoch."""
        self._core.clear()


def latest_core(schema: pa.Schema) -> Any:
    """What decides which rows of that schema, key columns and __version, pass: in C, or the reference."""
    return _LatestInC(schema) if IMPLEMENTATION == "c" else reference.LatestRows()


class _LatestInC:
    """The object behind include/libcore/join.h; reference.join.LatestRows is the same in Python."""

    def __init__(self, schema: pa.Schema) -> None:
        ffi, lib = arrow_c.ffi, arrow_c.lib
        out, error = ffi.new("lc_latest **"), ffi.new("lc_error *")
        columns = arrow_c.layouts(schema)
        arrow_c.check(lib.lc_latest_new(columns, len(schema) - 1, out, error), error)
        self._latest = ffi.gc(out[0], lib.lc_latest_free)

    def take(self, record: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
        """The rows that pass, and a position for each; `record`: key columns and version."""
        ffi, lib, rows = arrow_c.ffi, arrow_c.lib, record.num_rows
        passing, positions = pa.allocate_buffer(4 * rows), pa.allocate_buffer(POSITION_BYTES * rows)
        count, error = ffi.new("int64_t *"), ffi.new("lc_error *")
        with arrow_c.exported(record) as array:
            code = lib.lc_latest_take(
                self._latest,
                array,
                ffi.cast("int32_t *", passing.address),
                count,
                ffi.cast("uint8_t *", positions.address),
                error,
            )
        arrow_c.check(code, error)
        return (
            pa.Array.from_buffers(pa.int32(), count[0], [None, passing], null_count=0),
            pa.Array.from_buffers(POSITION_TYPE, count[0], [None, positions], null_count=0),
        )

    def clear(self) -> None:
        """Forget the versions."""
        arrow_c.lib.lc_latest_clear(self._latest)

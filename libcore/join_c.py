"""The join's first two stages as C kernels: the gate to include/libcore/join.h, a call a batch.

The same in columns of pyarrow stands in join_router.py and join_matcher.py, for where no compiler exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from libcore import arrow_c
from libcore.change import UNSET, arrow_schema
from libcore.join_plan import JoinPlan
from libcore.table import RowStore

Routed = tuple[pa.RecordBatch | None, pa.RecordBatch | None]


class JoinInC:
    """A plan as C knows it, and the calls. Stores belong to the stages; they are named in each call.

    Args:
        slot_keys: int64, a number for each slot that hashes into it.
    """

    def __init__(self, plan: JoinPlan, slot_keys: pa.Int64Array | None = None) -> None:
        self.plan = plan
        self._plan = _Plan(plan)
        self._slot_keys = slot_keys
        self._fact = _Schemas(arrow_schema(plan.fact), plan.fact_names)
        self._dimension = _Schemas(arrow_schema(plan.dimension), [c.name for c in plan.dimension.columns])
        self._routed = _Schemas(plan.routed_schema, plan.fact_names)
        self._result = _Schemas(plan.result_schema, [c.name for c in plan.result.columns])
        self._error = arrow_c.ffi.new("lc_error *")

    def route(self, record: pa.RecordBatch, stores: Mapping[str, RowStore]) -> Routed:
        """See FactRouter.route; `record` has the columns of the plan's fact."""
        ffi, lib = arrow_c.ffi, arrow_c.lib
        assert self._slot_keys is not None
        with_unset = self._fact.check(record.schema)
        out = ffi.new("lc_join_routed *")
        keys = ffi.cast("int64_t *", self._slot_keys.buffers()[1].address)
        with arrow_c.exported(record) as batch:
            code = lib.lc_join_route(
                self._plan.c, stores["keys"].handle, stores["counter"].handle, keys, batch, with_unset, out, self._error
            )
        arrow_c.check(code, self._error)
        return (
            self._routed.imported(ffi.addressof(out, "entering"), out.entering_unset),
            self._result.imported(ffi.addressof(out, "direct"), out.direct_unset),
        )

    def facts(self, record: pa.RecordBatch, stores: Mapping[str, RowStore], rows_max: int) -> Iterator[pa.RecordBatch]:
        """See Matcher.facts; the stores have changed when this returns."""
        ffi, lib = arrow_c.ffi, arrow_c.lib
        with_unset = self._routed.check(record.schema)
        found: list[Any] = []
        start, used = 0, ffi.new("int64_t *")
        while start < record.num_rows:
            out = ffi.new("lc_join_results **")
            with arrow_c.exported(record.slice(start) if start else record) as batch:
                code = lib.lc_join_facts(
                    self._plan.c,
                    stores["facts"].handle,
                    stores["dimension"].handle,
                    batch,
                    with_unset,
                    out,
                    used,
                    self._error,
                )
            arrow_c.check(code, self._error)
            found.append(ffi.gc(out[0], lib.lc_join_results_free))
            start += used[0]
        return self._written(found, stores, rows_max)

    def dimension(
        self, record: pa.RecordBatch, stores: Mapping[str, RowStore], rows_max: int
    ) -> Iterator[pa.RecordBatch]:
        """See Matcher.dimension; the stores have changed when this returns."""
        ffi, lib = arrow_c.ffi, arrow_c.lib
        with_unset = self._dimension.check(record.schema)
        out = ffi.new("lc_join_results **")
        with arrow_c.exported(record) as batch:
            code = lib.lc_join_dimension(
                self._plan.c,
                stores["facts"].handle,
                stores["dimension"].handle,
                batch,
                with_unset,
                out,
                self._error,
            )
        arrow_c.check(code, self._error)
        return self._written([ffi.gc(out[0], lib.lc_join_results_free)], stores, rows_max)

    def _written(self, found: Sequence[Any], stores: Mapping[str, RowStore], rows_max: int) -> Iterator[pa.RecordBatch]:
        """Results piece by piece; a piece of which a column would not fit in 2^31 bytes is halved."""
        ffi, lib = arrow_c.ffi, arrow_c.lib
        stores = dict(stores)  # results point at these, whatever replan() puts in their place
        for results in found:
            most = rows_max
            while True:
                out, with_unset = ffi.new("struct ArrowArray *"), ffi.new("int32_t *")
                code = lib.lc_join_next(results, most, out, with_unset, self._error)
                if code == lib.LC_CAPACITY and most > 1:
                    most //= 2
                    continue
                arrow_c.check(code, self._error)
                record = self._result.imported(out, with_unset[0])
                if record is None:
                    break
                yield record
                most = rows_max


class _Schemas:
    """The schema of a batch without and with __unset behind."""

    def __init__(self, schema: pa.Schema, columns: Sequence[str]) -> None:
        width = (len(columns) + 7) // 8
        self._without = schema
        self._with = schema.append(pa.field(UNSET, pa.binary(width), nullable=False))
        self._seen: pa.Schema | None = None

    def check(self, schema: pa.Schema) -> bool:
        """Whether it has __unset. Raises ValueError for other columns: C sees bytes, not types."""
        if schema.equals(self._without):
            return False
        if schema.equals(self._with):
            return True
        if self._seen is None or not schema.equals(self._seen):
            # nullability is not of interest
            expected = self._with if len(schema) == len(self._with) else self._without
            if schema.names != expected.names or schema.types != expected.types:
                raise ValueError(f"join: expected columns {_named(expected)}, found {_named(schema)}")
            self._seen = schema
        return len(schema) == len(self._with)

    def imported(self, array: Any, with_unset: int) -> pa.RecordBatch | None:
        """What C filled; None for nothing."""
        if array.release == arrow_c.ffi.NULL:
            return None
        return arrow_c.imported(array, self._with if with_unset else self._without)


def _named(schema: pa.Schema) -> list[str]:
    return [f"{field.name} {field.type}" for field in schema]


class _Plan:
    """An lc_join_plan and the memory that it points into."""

    def __init__(self, plan: JoinPlan) -> None:
        ffi = arrow_c.ffi
        self.c = ffi.new("lc_join_plan *")
        dimension = [column.name for column in plan.dimension.columns]
        numbers: dict[str, list[int]] = {
            "fact_key": [plan.fact_names.index(name) for name in plan.fact.key],
            "foreign_key": [plan.fact_names.index(name) for name in plan.foreign_key],
            "place": [plan.fact_names.index(name) for name in plan.place],
            "held": [plan.fact_names.index(name) for name in plan.held],
            "held_foreign_key": [plan.held.index(name) for name in plan.foreign_key],
            "dimension_key": [dimension.index(name) for name in plan.dimension.key],
            "partner": [dimension.index(name) for name in plan.partner],
            "taken": [plan.partner.index(name) for name in plan.take],
        }
        self._memory: list[Any] = []
        for name, values in numbers.items():
            self._memory.append(ffi.new("int32_t[]", values or 1))
            setattr(self.c, name, self._memory[-1])
            if name not in ("held_foreign_key", "dimension_key"):  # as many as the foreign key has
                setattr(self.c, f"{name}_count", len(values))
        for side, table in (("fact", plan.fact), ("dimension", plan.dimension)):
            columns = _layouts(tuple(column.type.arrow for column in table.columns))
            self._memory.append(columns)
            setattr(self.c, side, columns)
            setattr(self.c, f"{side}_count", len(table.columns))
        self.c.inner = plan.inner


def _layouts(types: tuple[pa.DataType, ...]) -> Any:
    return arrow_c.layouts(pa.schema([pa.field(str(number), kind) for number, kind in enumerate(types)]))

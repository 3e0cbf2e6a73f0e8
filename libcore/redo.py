"""Oracle's LogMiner statements (SQL_REDO) to the rows of a change batch: one call a batch, the work in C.

The grammar, what each literal becomes in each type and the precedence of errors stand in include/libcore/redo.h.
"""

from __future__ import annotations

import weakref
from typing import Any

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.change import UNSET
from libcore.redo_types import (
    Form,
    Redo,
    RedoCode,
    RedoColumn,
    RedoError,
    RedoPlan,
    checked_input,
    describe,
    joined,
)

__all__ = ["Form", "Redo", "RedoCode", "RedoColumn", "RedoError", "RedoPlan", "parse_redo"]


class _Compiled:
    """The C form of a plan, with the memory that it points into."""

    def __init__(self, plan: RedoPlan) -> None:
        plan.check()
        ffi = arrow_c.ffi
        self._names = [ffi.new("char[]", column.oracle_name.encode() or b"\0") for column in plan.columns]
        self._columns = ffi.new("lc_redo_column[]", len(plan.columns))
        for target, column, name in zip(self._columns, plan.columns, self._names, strict=True):
            target.name, target.name_size = name, len(column.oracle_name.encode())
            target.is_key = column.column.name in plan.table.key
            arrow_type = column.column.type.arrow
            target.type, _, target.precision, target.scale = arrow_c.layout(arrow_type)
            if unit := getattr(arrow_type, "unit", None):
                target.scale = {"us": 6, "ns": 9}.get(unit, 0)
            target.form, target.empty_is_unset = int(column.form), column.empty_is_unset
        self.plan = ffi.new("lc_redo_plan *")
        self.plan.columns, self.plan.column_count = self._columns, len(plan.columns)
        self.plan.relaxed, self.plan.skip_unknown = plan.relaxed, plan.skip_unknown
        self.plan.local_is_utc, self.plan.creates, self.plan.images = plan.local_is_utc, plan.creates, plan.images


_compiled: dict[int, _Compiled] = {}  # by identity: hashing a plan of many columns would cost more than a small batch


def _compile(plan: RedoPlan) -> _Compiled:
    found = _compiled.get(id(plan))
    if found is None:
        found = _compiled[id(plan)] = _Compiled(plan)
        weakref.finalize(plan, _compiled.pop, id(plan), None)
    return found


def parse_redo(plan: RedoPlan, statements: pa.RecordBatch) -> Redo:
    """Parse statements of one table into rows.

    Args:
        plan: the table and how its columns are read.
        statements: the column SQL_REDO (utf8 or binary) and perhaps CSF (an integer); a statement goes on in the next
            row where CSF is not 0.
    Returns: rows and errors; rows of the input that are not consumed must stand at the head of the next call.
    Raises: ConfigurationError for a plan that does not fit its table, ValueError for other columns, CapacityError where
        a column's text passes 2^31-1 bytes in one batch, MemoryError.
    """
    given = checked_input(statements)
    if IMPLEMENTATION != "c":
        from libcore.reference import redo as reference

        return reference.parse_redo(plan, given)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    compiled = _compile(plan)
    out, error = ffi.new("lc_redo_result *"), ffi.new("lc_error *")
    with arrow_c.exported(given) as array:
        code = lib.lc_redo_parse(compiled.plan, array, out, error)
    arrow_c.check(code, error)
    try:
        return _result(plan, given, out)
    finally:
        lib.lc_redo_free(out)


def _result(plan: RedoPlan, statements: pa.RecordBatch, out: Any) -> Redo:
    count = len(plan.columns)
    fields = list(plan.schema)
    extra = [pa.field("row", pa.int32()), pa.field("before", pa.bool_()), pa.field("unavailable", pa.bool_())]
    schema = pa.schema([*fields[: count + 1], *extra, fields[-1]])
    made = arrow_c.imported(arrow_c.ffi.addressof(out, "batch"), schema)
    kept = [*range(count + 1), *([count + 4] if out.has_unset else [])]
    arrays = made.columns
    wanted = plan.schema if out.has_unset else plan.schema.remove(plan.schema.get_field_index(UNSET))
    errors = []
    for index in range(out.error_count):
        bad = out.errors[index]
        column = None if bad.column < 0 else plan.columns[bad.column]
        code = RedoCode(bad.code)
        text = describe(code, bad.position, joined(statements, bad.row), column)
        errors.append(RedoError(bad.row, bad.position, code, text))
    return Redo(
        record=pa.RecordBatch.from_arrays([arrays[place] for place in kept], schema=wanted),
        rows=arrays[count + 1],
        before=arrays[count + 2],
        unavailable=arrays[count + 3],
        errors=errors,
        consumed=out.consumed,
    )

"""SAP values and rows of RFC_READ_TABLE to exactly typed columns: one call a batch, the work in C.

What each kind accepts, which fault comes first and where its position is stand in include/libcore/sapfmt.h. Plans are
made by libcore/sapfmt_rfc.py from what SAP says about its fields; libcore/sapfmt_columns.py has what needs two columns
or a table.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from libcore import IMPLEMENTATION, arrow_c
from libcore.errors import ConfigurationError
from libcore.reference import sapfmt as reference
from libcore.sapfmt_columns import shift_cells, taken
from libcore.sapfmt_types import Fault, Kind, SapCode, SapError, SapField, SapPlan, SapRows, describe
from libcore.schema import ColumnType

__all__ = ["Kind", "SapCode", "SapError", "SapField", "SapPlan", "SapRows", "read_cells", "read_column", "read_rows"]

_STORED_PRECISION = 38
_AT_CELL = -1  # a position to be found only where somebody reads of it


def read_rows(
    plan: SapPlan, values: pa.Array, currencies: Mapping[str, int] | None = None, *, keep_bad: bool = False
) -> SapRows:
    """Rows (DATA-WA of RFC_READ_TABLE, TABKEY of change documents, an IDoc segment's data) to the plan's columns.

    Args:
        plan: the fields.
        values: utf8 (offsets count characters) or binary (they count bytes), one row a value.
        currencies: TCURX of the system, currency key to decimals; a currency that is not there has two. Needed where a
            field of the plan names its currency.
        keep_bad: keep rows that have an error, the bad value as NULL.
    Raises: ConfigurationError for a currency field without `currencies`, TypeError for other values, CapacityError
        where a column's text passes 2^31-1 bytes, MemoryError.
    """
    stored, shifted = _as_stored(plan)
    if shifted and currencies is None:
        raise ConfigurationError(f"SAP field {shifted[0].name}: its currency needs the table of decimals (TCURX)")
    columns, faults = read_cells(stored, values)
    names = [field.name for field in plan.columns]
    for field in shifted:
        at, key = names.index(field.name), names.index(field.currency)
        columns[at], more = shift_cells(columns[at], columns[key], currencies or {}, field.type.arrow, to_real=True)
        faults = _merged(faults, more, plan.fields.index(field))
    record = pa.RecordBatch.from_arrays(columns, schema=plan.schema)
    errors = [_described(plan, fault, values[fault.row]) for fault in faults]
    rows = pc.indices_nonzero(pa.repeat(True, record.num_rows)).cast(pa.int32())
    if not errors or keep_bad:
        return SapRows(record, rows, errors)
    good = pc.invert(pc.is_in(rows, value_set=pa.array([error.row for error in errors], pa.int32())))
    return SapRows(record.filter(good), rows.filter(good), errors)


def _described(plan: SapPlan, fault: Fault, value: pa.Scalar) -> SapError:
    data = value.as_buffer().to_pybytes()
    field = None if fault.field < 0 else plan.fields[fault.field]
    if field is not None and fault.byte_position == _AT_CELL:
        fault = Fault(fault.row, _cell_start(plan, fault.field, data, value), fault.code, fault.field)
    return describe(fault, data, field)


def _cell_start(plan: SapPlan, index: int, data: bytes, value: pa.Scalar) -> int:
    """The first byte of the cell of a field in a row that was cut into cells without a fault."""
    if not plan.padded:
        return sum(len(cell) + 1 for cell in data.split(plan.delimiter.encode())[:index])
    offset = plan.fields[index].offset
    if pa.types.is_binary(value.type):
        return min(offset, len(data))
    return len(data.decode("utf-8").encode("utf-16-le")[: 2 * offset].decode("utf-16-le").encode("utf-8"))


def read_column(values: pa.Array, field: SapField) -> tuple[pa.Array, list[SapError]]:
    """Read a whole column of one kind, as OData, IDocs and function modules give it.

    The field's offset must be 0; its length, unless 0, is the most a value may have (ALPHA_IN: the length to fill up
    to). Returns the column, NULL where a value is NULL or bad, and the errors.
    """
    rows = read_rows(SapPlan((field,)), values, keep_bad=True)
    return rows.record.column(0), rows.errors


def _as_stored(plan: SapPlan) -> tuple[SapPlan, list[SapField]]:
    """The plan that reads amounts with a currency as they are stored, and those fields."""
    shifted = [field for field in plan.fields if field.currency]
    return (_stored_plan(plan) if shifted else plan), shifted


@lru_cache(maxsize=256)
def _stored_plan(plan: SapPlan) -> SapPlan:
    fields = []
    for field in plan.fields:
        if field.currency:  # two decimals, or those of the domain
            stored = ColumnType("decimal", _STORED_PRECISION, max(2, field.decimals))
            field = SapField(field.name, field.kind, stored, field.offset, field.length, field.decimals,
                             field.initial_null)  # fmt: skip
        fields.append(field)
    return SapPlan(tuple(fields), plan.delimiter, plan.padded)


def _merged(faults: list[Fault], more: list[Fault], index: int) -> list[Fault]:
    """Faults of the reading and of the shift of the field at that index: one a row, the reading's first."""
    seen = {fault.row for fault in faults}
    added = [Fault(fault.row, _AT_CELL, fault.code, index) for fault in more if fault.row not in seen]
    return sorted([*faults, *added], key=lambda fault: fault.row)


class _Compiled:
    """The C form of a plan, with the memory that it points into."""

    def __init__(self, plan: SapPlan) -> None:
        ffi = arrow_c.ffi
        self._fields = ffi.new("lc_sap_field[]", len(plan.fields))
        for target, field in zip(self._fields, plan.fields, strict=True):
            target.kind, target.offset, target.length = int(field.kind), field.offset, field.length
            target.decimals, target.initial_null = field.decimals, field.initial_null
            if field.kind != Kind.SKIP:
                target.type, _, target.precision, target.scale = arrow_c.layout(field.type.arrow)
                if field.type.name in ("time", "time_ns", "timestamp", "timestamptz", "timestamp_ns"):
                    target.scale = 9 if field.type.name.endswith("_ns") else 6
        self.plan = ffi.new("lc_sap_plan *")
        self.plan.fields, self.plan.field_count = self._fields, len(plan.fields)
        self.plan.delimiter, self.plan.padded = ord(plan.delimiter or "\0"), plan.padded


_compiled: dict[int, _Compiled] = {}  # by identity: hashing a plan of many fields would cost more than a small batch


def _compile(plan: SapPlan) -> _Compiled:
    found = _compiled.get(id(plan))
    if found is None:
        found = _compiled[id(plan)] = _Compiled(plan)
        weakref.finalize(plan, _compiled.pop, id(plan), None)
    return found


def read_cells(plan: SapPlan, values: pa.Array, *, level: int = 0) -> tuple[list[pa.Array], list[Fault]]:
    """What read_rows stands on: the plan's columns, as long as the input, and the faults; amounts as they are stored.

    level: for tests: 0 the fastest code this machine runs, 1 scalar, 2 SSE4.2, 3 AVX2.
    """
    if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)):
        raise TypeError(f"SAP rows: expected a column of utf8 or binary, found {values.type}")
    packed = [field.name for field in plan.columns if field.kind == Kind.PACKED]
    if packed and pa.types.is_string(values.type):
        raise ConfigurationError(f"SAP field {packed[0]}: packed digits are read from binary, not from text")
    if IMPLEMENTATION != "c":
        return reference.read_cells(plan, values)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    record = pa.RecordBatch.from_arrays([values], names=["value"])
    result, error = ffi.new("lc_sap_result *"), ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        code = lib.lc_sap_read(_compile(plan).plan, array, arrow_c.layouts(record.schema), level, result, error)
    arrow_c.check(code, error)
    return taken(result, plan.schema)

"""Oracle's redo statements to rows, one statement and one value at a time; the reference of libcore.redo."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pyarrow as pa

from libcore.change import UNSET as UNSET_COLUMN
from libcore.change import Op, unset_bytes
from libcore.redo_types import Redo, RedoCode, RedoError, RedoPlan, checked_input, describe
from libcore.reference.decimal import decimal_array
from libcore.reference.redo_statement import Fault, Reader, Side, Statement
from libcore.reference.redo_values import LOST, UNSET, Cell, cell


@dataclass
class _Row:
    """A row in work: one cell a column."""

    op: Op
    before: bool
    cells: list[Cell]
    lost: bool = False
    input_row: int = 0


@dataclass
class _Rows:
    kept: list[_Row] = field(default_factory=list)
    errors: list[RedoError] = field(default_factory=list)


def parse_redo(plan: RedoPlan, statements: pa.RecordBatch) -> Redo:
    """See libcore.redo.parse_redo."""
    plan.check()
    given = checked_input(statements)
    pieces = given.column(0).to_pylist()
    goes_on = [bool(flag) for flag in given.column(1).to_pylist()] if given.num_columns == 2 else [False] * len(pieces)
    parser, out, first = _Parser(plan), _Rows(), 0
    for row in range(len(pieces)):
        if goes_on[row]:
            continue
        try:
            found = parser.rows(pieces[first : row + 1])
            out.kept.extend(_Row(one.op, one.before, one.cells, one.lost, first) for one in found)
        except Fault as fault:
            statement = b"".join(piece or b"" for piece in pieces[first : row + 1])
            column = None if fault.column < 0 else plan.columns[fault.column]
            text = describe(fault.code, fault.position, statement, column)
            out.errors.append(RedoError(first, fault.position, fault.code, text))
        first = row + 1
    return _result(plan, out, first)


class _Parser:
    """One statement at a time to its rows."""

    def __init__(self, plan: RedoPlan) -> None:
        self._plan = plan
        self._columns = {column.oracle_name.encode(): index for index, column in enumerate(plan.columns)}
        self._keys = [index for index, one in enumerate(plan.columns) if one.column.name in plan.table.key]

    def rows(self, pieces: list[bytes | None]) -> list[_Row]:
        """The rows of a statement. Raises Fault."""
        size = 0
        for piece in pieces:
            if piece is None:
                raise Fault(RedoCode.EMPTY, size)
            size += len(piece)
        data = b"".join(piece or b"" for piece in pieces)
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise Fault(RedoCode.UTF8, error.start) from error
        statement = self._read(data)
        if statement.op == "update":
            return self._update(statement)
        if statement.op == "delete":
            rows = [self._old(statement, whole=self._plan.images or not self._keys)]
        else:
            op = Op.INSERT if self._plan.creates and self._keys else Op.UPSERT
            rows = [self._new(statement, op)]
        return self._judged(rows)

    def _read(self, data: bytes) -> Statement:
        try:
            return Reader(data, self._column_of, relaxed=False).read()
        except Fault as fault:
            if not self._plan.relaxed or fault.code == RedoCode.STATEMENT:
                raise
            try:
                return Reader(data, self._column_of, relaxed=True).read()
            except Fault:
                raise fault from None

    def _column_of(self, name: bytes) -> int | None:
        return self._columns.get(name, -1 if self._plan.skip_unknown else None)

    def _update(self, statement: Statement) -> list[_Row]:
        whole = self._plan.images or not self._keys
        rows = self._judged([self._old(statement, whole), self._new(statement, Op.UPSERT)])
        moved = any(_bits(rows[0].cells[key]) != _bits(rows[1].cells[key]) for key in self._keys)
        return rows if whole or moved else rows[1:]

    def _old(self, statement: Statement, whole: bool) -> _Row:
        """The row behind `where`; else than whole its key alone."""
        cells = [self._cell(statement.before, index) if whole or index in self._keys else None for index in self._all]
        return _Row(Op.DELETE, True, cells)

    def _new(self, statement: Statement, op: Op) -> _Row:
        cells = [self._cell({**statement.before, **statement.after}, index) for index in self._all]
        lost = any(cells[index] is LOST for index in statement.after)
        return _Row(op, False, cells, lost)

    @property
    def _all(self) -> range:
        return range(len(self._plan.columns))

    def _cell(self, side: Side, index: int) -> Cell:
        """A cell, or the fault that it has."""
        if index not in side:
            return UNSET
        try:
            return cell(self._plan.columns[index], side[index], self._plan.local_is_utc)
        except Fault as fault:
            return Fault(fault.code, fault.position, index)

    def _judged(self, rows: list[_Row]) -> list[_Row]:
        """The rows, if they are good. Raises the first fault of a value, then that of what lacks one."""
        faults = [one for row in rows for one in row.cells if isinstance(one, Fault)]
        if faults:
            raise min(faults, key=lambda fault: fault.position)
        if not self._plan.images:
            for row in rows:
                for index, value in enumerate(row.cells):
                    lacks = value is UNSET or value is LOST
                    if self._keys and index in self._keys and (lacks or value is None):
                        raise Fault(RedoCode.KEY, 0, index)
                    if not self._keys and lacks:
                        raise Fault(RedoCode.BEFORE, 0, index)
        return rows


def _bits(value: Cell) -> Cell:
    """What tells two keys apart: of a float its bits."""
    return struct.pack("<d", value) if isinstance(value, float) else value


def _array(cells: list[Cell], data_type: pa.DataType) -> pa.Array:
    """An Arrow array of that type; dates and times by their integers, beyond what Python's own types hold."""
    types = pa.types
    if types.is_decimal(data_type):
        return decimal_array(cells, data_type)
    if types.is_date32(data_type):
        return pa.array(cells, pa.int32()).view(data_type)
    if types.is_time64(data_type) or types.is_timestamp(data_type):
        return pa.array(cells, pa.int64()).view(data_type)
    return pa.array(cells, pa.binary()).cast(data_type) if types.is_string(data_type) else pa.array(cells, data_type)


def _result(plan: RedoPlan, out: _Rows, consumed: int) -> Redo:
    unset = [
        sum(1 << index for index, value in enumerate(row.cells) if value is UNSET or value is LOST) for row in out.kept
    ]
    arrays = []
    for index, column in enumerate(plan.columns):
        values = [row.cells[index] for row in out.kept]
        known = [None if value is UNSET or value is LOST else value for value in values]
        arrays.append(_array(known, column.column.type.arrow))
    arrays.append(pa.array([int(row.op) for row in out.kept], pa.int8()))
    schema = plan.schema
    if any(unset):
        width = unset_bytes(plan.table)
        arrays.append(pa.array([bits.to_bytes(width, "little") for bits in unset], pa.binary(width)))
    else:
        schema = schema.remove(schema.get_field_index(UNSET_COLUMN))
    return Redo(
        record=pa.RecordBatch.from_arrays(arrays, schema=schema),
        rows=pa.array([row.input_row for row in out.kept], pa.int32()),
        before=pa.array([row.before for row in out.kept], pa.bool_()),
        unavailable=pa.array([row.lost for row in out.kept], pa.bool_()),
        errors=out.errors,
        consumed=consumed,
    )

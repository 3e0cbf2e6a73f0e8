"""The rules of include/libcore/sapfmt.h in plain Python: cut the row into cells, read each cell by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from libcore.reference.decimal import decimal_array
from libcore.reference.sapfmt_values import Bad, read_value
from libcore.reference.values import plain
from libcore.sapfmt_types import Fault, Kind, SapCode, SapField, SapPlan

_TEXT_KINDS = (Kind.CHAR, Kind.ALPHA_IN, Kind.ALPHA_OUT)
_NONE = object()  # no cell: a NULL value, or a fault that is told


def read_cells(plan: SapPlan, values: pa.Array) -> tuple[list[pa.Array], list[Fault]]:
    """See libcore.sapfmt.read_cells."""
    columns: list[list[Any]] = [[] for _ in plan.columns]
    faults = []
    for row, data in enumerate(plain(values)):
        reader = _Row(plan, data, pa.types.is_string(values.type))
        for column, value in zip(columns, reader.read(), strict=True):
            column.append(value)
        if reader.fault is not None:
            position, code, field = reader.fault
            faults.append(Fault(row, position, code, field))
    arrays = [_array(field.type.arrow, column) for field, column in zip(plan.columns, columns, strict=True)]
    return arrays, faults


def _array(data_type: pa.DataType, values: list[Any]) -> pa.Array:
    """The column of these plain values, None for NULL."""
    types = pa.types
    if types.is_decimal(data_type):
        return decimal_array(values, data_type)
    if types.is_string(data_type):
        return pa.array(values, pa.binary()).view(data_type)
    if types.is_date32(data_type):
        return pa.array(values, pa.int32()).view(data_type)
    if types.is_time64(data_type) or types.is_timestamp(data_type):
        return pa.array(values, pa.int64()).view(data_type)
    return pa.array(values, data_type)


class _Row:
    """One value on its way into cells."""

    def __init__(self, plan: SapPlan, data: bytes | None, text: bool) -> None:
        self._plan, self._data, self._text = plan, data or b"", text
        self._alive = data is not None
        self.fault: tuple[int, SapCode, int] | None = None
        # each character as (UTF-16 units, byte position); of a binary row each byte
        self._starts: list[int] = []
        if text and data is not None:
            try:
                decoded = data.decode("utf-8")
            except UnicodeDecodeError as error:
                self._blame(error.start, SapCode.UTF8, -1)
                self._alive = False
                return
            self._starts = _unit_starts(decoded)
        elif data is not None:
            self._starts = list(range(len(data)))

    def read(self) -> list[Any]:
        """The value of each column, None for NULL."""
        cells = self._padded() if self._plan.padded else self._divided()
        values = [self._value(index, cell) for index, cell in enumerate(cells)]
        if self._alive and self._plan.padded:
            self._check_rest()
        return [value for field, value in zip(self._plan.fields, values, strict=True) if field.kind != Kind.SKIP]

    def _blame(self, position: int, code: SapCode, field: int) -> None:
        if self.fault is None:
            self.fault = (position, code, field)

    def _byte(self, unit: int) -> int:
        """Where the character at that unit starts; -1 - position where the unit is inside of one."""
        if unit >= len(self._starts):
            return len(self._data)
        start = self._starts[unit]
        return -1 - start if unit > 0 and self._starts[unit - 1] == start else start

    def _give_up(self, position: int, code: SapCode, field: int) -> Any:
        self._blame(position, code, field)
        self._alive = False
        return _NONE

    def _padded(self) -> Any:
        for index, field in enumerate(self._plan.fields):
            yield self._padded_cell(index, field) if self._alive else _NONE

    def _padded_cell(self, index: int, field: SapField) -> Any:
        delimiter = self._plan.delimiter.encode() if index else b""
        start = self._byte(field.offset - len(delimiter))
        if start < 0:
            return self._give_up(-1 - start, SapCode.UTF8, index)
        if delimiter and self._data[start : start + 1] != delimiter:
            return self._give_up(start, SapCode.DELIMITER, index)
        start += len(delimiter)
        end = self._byte(field.offset + field.length) if field.length else len(self._data)
        if end < 0:
            return self._give_up(-1 - end, SapCode.UTF8, index)
        return start, self._data[start:end]

    def _divided(self) -> Any:
        rest: bytes | None = self._data
        for index, field in enumerate(self._plan.fields):
            if not self._alive:
                yield _NONE
                continue
            if rest is None:
                self.fault = None  # cells that were cut wrong may have told one
                yield self._give_up(len(self._data), SapCode.DELIMITER, index)
                continue
            start = len(self._data) - len(rest)
            cell, found, behind = rest.partition(self._plan.delimiter.encode())
            if found and index == len(self._plan.fields) - 1:
                self.fault = None
                yield self._give_up(start + len(cell), SapCode.DELIMITER, index)
                continue
            rest = behind if found else None
            trimmed = cell if field.kind == Kind.PACKED else cell.rstrip(b" ")
            if field.length and self._units(trimmed) > field.length:
                self._blame(start, SapCode.LENGTH, index)
                yield _NONE
            else:
                yield start, cell

    def _units(self, data: bytes) -> int:
        return len(_unit_starts(data.decode("utf-8"))) if self._text else len(data)

    def _check_rest(self) -> None:
        last = self._plan.fields[-1]
        if last.length:
            end = self._byte(last.offset + last.length)
            left = self._data[end:]
            if left.strip(b" "):
                self._blame(end + len(left) - len(left.lstrip(b" ")), SapCode.LENGTH, -1)

    def _value(self, index: int, cell: Any) -> Any:
        field = self._plan.fields[index]
        if cell is _NONE or field.kind == Kind.SKIP:
            return None
        start, data = cell
        try:
            if field.kind in _TEXT_KINDS:
                data.decode("utf-8")
            return read_value(field, data)
        except UnicodeDecodeError as error:
            self._blame(start + error.start, SapCode.UTF8, index)
        except Bad as bad:
            self._blame(start, bad.code, index)
        return None


def _unit_starts(text: str) -> list[int]:
    """The byte position of the character of each UTF-16 unit."""
    starts, position = [], 0
    for character in text:
        starts += [position] * (2 if ord(character) > 0xFFFF else 1)
        position += len(character.encode("utf-8"))
    return starts


def shift(
    amounts: pa.Array, currencies: pa.Array, decimals: Mapping[str, int], target: pa.DataType, to_real: bool
) -> tuple[pa.Array, list[Fault]]:
    """See libcore.sapfmt.shift_cells."""
    known = {key.encode().ljust(8, b"\0"): value for key, value in decimals.items()}
    made: list[int | None] = []
    faults = []
    for row, (amount, key) in enumerate(zip(plain(amounts), plain(currencies), strict=True)):
        try:
            made.append(_shifted(amount, key, known, target.scale - amounts.type.scale, to_real, target.precision))
        except Bad as bad:
            faults.append(Fault(row, 0, bad.code, 0))
            made.append(None)
    return _array(target, made), faults


def _shifted(
    amount: int | None, key: bytes | None, known: dict[bytes, int], by: int, to_real: bool, precision: int
) -> int | None:
    if amount is None or (key is None and amount == 0):
        return amount
    if key is None:
        raise Bad(SapCode.CURRENCY)
    by += (2 - known.get(key.rstrip(b" ").ljust(8, b"\0"), 2)) * (1 if to_real else -1)
    size, rest = (abs(amount) * 10**by, 0) if by >= 0 else divmod(abs(amount), 10**-by)
    if rest:
        raise Bad(SapCode.SCALE)
    if size >= 10**precision:
        raise Bad(SapCode.RANGE)
    return -size if amount < 0 else size


def transcode(values: pa.Array, codec: str) -> tuple[pa.Array, list[Fault]]:
    """See libcore.sapfmt.transcode_cells."""
    made: list[bytes | None] = []
    faults = []
    for row, data in enumerate(plain(values)):
        try:
            made.append(None if data is None else data.decode(codec).encode("utf-8"))
        except UnicodeDecodeError as error:
            faults.append(Fault(row, error.start, SapCode.UTF8, 0))
            made.append(None)
    return _array(pa.utf8(), made), faults

"""Values as the driver hands them over: Python objects of a cursor, Arrow columns of a frame, by Oracle's types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute

from tests.doubles.oracle.errors import InterfaceError
from tests.doubles.oracle.types import LOBS, OracleColumn

Type = OracleColumn | None  # None: an expression, whose type is that of its values


class Lob:
    """A LOB locator of a cursor."""

    def __init__(self, value: str | bytes) -> None:
        self._value = value

    def read(self, offset: int = 1, amount: int | None = None) -> str | bytes:
        """The value from a 1-based place on."""
        return self._value[offset - 1 : None if amount is None else offset - 1 + amount]

    def size(self) -> int:
        """Characters, or bytes."""
        return len(self._value)


def python(value: Any, kind: Type, *, lobs: bool = True, decimals: bool = False) -> Any:
    """A kept value as a cursor gives it."""
    if value is None or kind is None:
        return value
    if kind.kind in ("NUMBER", "FLOAT"):
        if decimals:
            return Decimal(str(value))
        return value if isinstance(value, int) else (int(value) if "." not in str(value) else float(value))
    if kind.kind == "DATE" or kind.kind.startswith("TIMESTAMP"):
        return datetime.fromisoformat(str(value)[:26].rstrip("."))
    if kind.kind == "INTERVAL DAY":
        days, _, clock = str(value).lstrip("+").partition(" ")
        hours, minutes, seconds = clock.split(":")
        return timedelta(int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    return Lob(value) if lobs and kind.kind in LOBS else value


def arrow_type(kind: OracleColumn, *, decimals: bool = False) -> pa.DataType:
    """What the driver makes of a type unless it is asked for another. Raises InterfaceError: it makes nothing of it."""
    name = kind.kind
    if name in ("NUMBER", "FLOAT"):
        if decimals and name == "NUMBER" and kind.precision:
            return pa.decimal128(kind.precision, kind.scale or 0)
        return pa.int64() if kind.small_integer else pa.float64()
    if name == "DATE" or name.startswith("TIMESTAMP"):
        digits = 0 if name == "DATE" else (kind.scale or 0)
        return pa.timestamp("s" if digits == 0 else "ms" if digits <= 3 else "us" if digits <= 6 else "ns")
    if name.startswith("INTERVAL"):
        raise InterfaceError(f"DPY-3030: conversion from Oracle Database type {name} to Apache Arrow is not supported")
    return {
        "BINARY_DOUBLE": pa.float64(), "BINARY_FLOAT": pa.float32(), "RAW": pa.binary(), "BLOB": pa.large_binary(),
        "CLOB": pa.large_utf8(), "NCLOB": pa.large_utf8(),
    }.get(name, pa.utf8())  # fmt: skip


def frame(
    rows: Sequence[tuple[Any, ...]],
    names: Sequence[str],
    kinds: Sequence[Type],
    *,
    decimals: bool = False,
    wanted: pa.Schema | None = None,
) -> pa.Table:
    """Rows as a frame; `wanted`: the schema that was asked for, by place."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    arrays = []
    for index, (values, kind) in enumerate(zip(columns, kinds, strict=True)):
        target = None if wanted is None else wanted.field(index).type
        arrays.append(_array(values, kind, target, decimals))
    return pa.Table.from_arrays(arrays, names=list(names))


def _array(values: Sequence[Any], kind: Type, wanted: pa.DataType | None, decimals: bool) -> pa.Array:
    if kind is None:
        return pa.array(values, wanted) if wanted is not None else _guessed(values)
    told = wanted if wanted is not None else arrow_type(kind, decimals=decimals)
    if pa.types.is_decimal(told):
        return pa.array([None if value is None else Decimal(str(value)) for value in values], told)
    if kind.kind in ("NUMBER", "FLOAT") and pa.types.is_integer(told):
        return pa.array([None if value is None else int(value) for value in values], told)
    if kind.kind in ("NUMBER", "FLOAT"):
        return pa.array([None if value is None else float(value) for value in values], told)
    if pa.types.is_timestamp(told):
        # the driver forgets the offset
        texts = pa.array([None if value is None else value[:19] for value in values], pa.utf8())
        whole = texts.cast(pa.timestamp("s")).cast(told)
        if told.unit == "s":
            return whole
        digits = {"ms": 3, "us": 6, "ns": 9}[told.unit]
        parts = [None if value is None else int(f"{value[20:29]:0<9}"[:digits]) for value in values]
        return pa.compute.add(whole.cast(pa.int64()), pa.array(parts, pa.int64())).cast(told)
    return pa.array(values, told)


def _guessed(values: Sequence[Any]) -> pa.Array:
    some = next((value for value in values if value is not None), None)
    if isinstance(some, int | float):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array(values, pa.binary() if isinstance(some, bytes) else pa.utf8())

"""Whole columns of SAP values: amounts and their currencies, code pages, small tables of the system, date and time."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from libcore import IMPLEMENTATION, arrow_c
from libcore.errors import ConfigurationError
from libcore.reference import sapfmt as reference
from libcore.sapfmt_types import Fault, Kind, SapCode, SapError, SapField, describe
from libcore.schema import ColumnType


def _faults(result: Any) -> list[Fault]:
    found = (result.errors[i] for i in range(result.error_count))
    return [Fault(one.row, one.position, SapCode(one.code), one.field) for one in found]


def taken(result: Any, schema: pa.Schema) -> tuple[list[pa.Array], list[Fault]]:
    """The columns that C made, and the faults; frees the rest of the result."""
    try:
        record = arrow_c.imported(arrow_c.ffi.addressof(result, "batch"), schema)
        return list(record.columns), _faults(result)
    finally:
        arrow_c.lib.lc_sap_result_free(result)


def shift_cells(
    amounts: pa.Array, currencies: pa.Array, decimals: Mapping[str, int], target: pa.DataType, *, to_real: bool
) -> tuple[pa.Array, list[Fault]]:
    """What shift_amounts stands on; faults say field 0, byte 0."""
    for key, value in decimals.items():
        if len(key.encode()) > 8 or not key.strip(" ") == key or "\0" in key or not 0 <= value <= 9:
            raise ConfigurationError(
                f"currency {key!r}: expected a key of at most 8 bytes and 0 to 9 decimals: {value}"
            )
    if len(decimals) > 2048:
        raise ConfigurationError(f"currencies: expected at most 2048, found {len(decimals)}")
    if IMPLEMENTATION != "c":
        return reference.shift(amounts, currencies, decimals, target, to_real)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    record = pa.RecordBatch.from_arrays([amounts, currencies], names=["amount", "currency"])
    table = ffi.new("lc_sap_currency[]", max(1, len(decimals)))
    for entry, (key, value) in zip(table, decimals.items(), strict=False):
        ffi.memmove(entry.key, key.encode(), len(key.encode()))
        entry.decimals = value
    schema = pa.schema([pa.field("amount", target)])
    result, error = ffi.new("lc_sap_result *"), ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        layouts = arrow_c.layouts(record.schema)
        wanted = arrow_c.layouts(schema)
        code = lib.lc_sap_shift(array, layouts, table, len(decimals), to_real, wanted, result, error)
    arrow_c.check(code, error)
    columns, faults = taken(result, schema)
    return columns[0], faults


def shift_amounts(
    amounts: pa.Array,
    currencies: pa.Array,
    decimals: Mapping[str, int],
    target: ColumnType,
    *,
    to_real: bool = True,
) -> tuple[pa.Array, list[SapError]]:
    """CURR amounts as SAP stores them to what they are, or back: real = stored * 10^(2 - decimals of the currency).

    Args:
        amounts: decimals.
        currencies: utf8, their currency keys (DD03L-REFFIELD says which column, perhaps one of the header's table).
        decimals: TCURX; a currency that is not there has two.
        target: a decimal type; an amount that it does not hold exactly is an error.
        to_real: False: from what they are to how they are stored.
    Returns: the amounts, NULL where the amount is NULL or bad; and the errors. An amount other than 0 whose currency is
        NULL is one.
    """
    column, faults = shift_cells(amounts, currencies, decimals, target.arrow, to_real=to_real)
    field = SapField("amount", Kind.NUMBER, target)
    return column, [
        describe(fault, f"{amounts[fault.row].as_py()} {currencies[fault.row].as_py()}".encode(), field)
        for fault in faults
    ]


_CODE_PAGES = {
    "1100": "iso8859-1", "1160": "cp1252", "1401": "iso8859-2", "1404": "cp1250", "1500": "iso8859-5",
    "1504": "cp1251", "1610": "iso8859-9", "1614": "cp1254", "1700": "iso8859-7", "1704": "cp1253",
    "1800": "iso8859-8", "1804": "cp1255", "4102": "utf-16-be", "4103": "utf-16-le", "4110": "utf-8",
}  # fmt: skip
"""SAP's numbers of code pages (table TCP00) as codecs of Python."""
_WIDE = {"utf-8": 1, "utf-16-le": 2, "utf-16-be": 3}


def _codec(code_page: str) -> str:
    name = _CODE_PAGES.get(code_page, code_page)
    try:
        found = codecs.lookup(name).name
    except LookupError:
        found = ""
    if found not in {codecs.lookup(known).name for known in _CODE_PAGES.values()}:
        raise ConfigurationError(f"code page {code_page}: expected one of {', '.join(_CODE_PAGES)}")
    return found


@lru_cache(maxsize=64)
def _code_points(codec: str) -> tuple[int, ...]:
    """The character of each byte in a page of one byte a character, 0xffffffff where there is none."""
    found = [bytes([byte]).decode(codec, "replace") for byte in range(256)]
    return tuple(0xFFFFFFFF if character == "\ufffd" else ord(character) for character in found)


def transcode_cells(values: pa.Array, codec: str) -> tuple[pa.Array, list[Fault]]:
    """What from_code_page stands on; `codec` as Python names it."""
    if IMPLEMENTATION != "c":
        return reference.transcode(values, codec)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    record = pa.RecordBatch.from_arrays([values], names=["value"])
    table = ffi.NULL if codec in _WIDE else ffi.new("uint32_t[]", _code_points(codec))
    result, error = ffi.new("lc_sap_result *"), ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        code = lib.lc_sap_transcode(array, _WIDE.get(codec, 4), table, result, error)
    arrow_c.check(code, error)
    columns, faults = taken(result, pa.schema([pa.field("value", pa.utf8())]))
    return columns[0], faults


def from_code_page(values: pa.BinaryArray, code_page: str) -> tuple[pa.StringArray, list[SapError]]:
    """Text in a code page of SAP ("4110", "4103", "1100" ...; Python's names of the same ones will do) as utf8.

    Returns the texts, NULL where the bytes are NULL or bad; and the errors. Raises ConfigurationError for another page.
    """
    column, faults = transcode_cells(values, _codec(code_page))
    field = SapField("text", Kind.CHAR)
    return column, [describe(fault, values[fault.row].as_py(), field) for fault in faults]


def lookup(values: pa.StringArray, table: Mapping[str, Any], data_type: pa.DataType) -> tuple[pa.Array, list[SapError]]:
    """Each value by a small table of the system (languages T002, units T006A, change modes), trailing blanks apart.

    Returns the found values as `data_type`, NULL where the value is NULL or not in the table; the latter are errors.
    """
    keys, found = pa.array(list(table), pa.utf8()), pa.array(list(table.values()), data_type)
    trimmed = pc.ascii_rtrim(values, characters=" ")
    places = pc.index_in(trimmed, value_set=keys)
    missing = pc.and_(pc.is_null(places), pc.is_valid(values))
    rows = pc.indices_nonzero(missing).to_pylist()
    field = SapField("value", Kind.CHAR)
    faults = (Fault(row, 0, SapCode.UNKNOWN, 0) for row in rows)
    return found.take(places), [describe(fault, values[fault.row].as_py().encode(), field) for fault in faults]


def date_time(dates: pa.Array, times: pa.Array) -> pa.Array:
    """Dates and times of the day as timestamps without a zone (SAP's are the system's or the user's clock).

    Args: date32 and time64("us") of equal length. Returns timestamp("us"), NULL where either is NULL.
    """
    of_day = times.view(pa.int64()).view(pa.duration("us"))
    return pc.add(dates.cast(pa.timestamp("us")), of_day)

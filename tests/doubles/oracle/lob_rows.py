"""Rows of V$LOGMNR_CONTENTS that bring values outside of a row: LOBs and edits of them, XML documents, long strings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.doubles.oracle.log import Record
from tests.doubles.oracle.redo_text import Row, named, where
from tests.doubles.oracle.types import OracleColumn, quoted

if TYPE_CHECKING:
    from tests.doubles.oracle.transaction import Table

LOB_PIECE = 1024  # characters or bytes of one LOB_WRITE
EDITS = ("append", "patch", "trim", "bare trim", "erase", "rewrite")
_SHORT = {"BLOB": "b", "CLOB": "c", "NCLOB": "nc"}
_DECLARE = (
    "DECLARE \n loc_c CLOB; \n buf_c VARCHAR2(6156); \n loc_b BLOB; \n buf_b RAW(6156); \n loc_nc NCLOB; \n"
    " buf_nc NVARCHAR2(6156); \n e_len NUMBER; \nBEGIN\n"
)


def of_value(table: Table, column: OracleColumn, key: Row, value: str | bytes) -> Iterator[Record]:
    """Rows that bring a whole value, behind the statement that has it empty or not at all."""
    if column.extended:
        statement = f'update {named(table.name)} set "{column.name}" = :VAR{where(table.columns, key)}'
        yield _record(
            table, 91, "32K_BEGIN", f"DECLARE \n Stmt VARCHAR2(32767); \nBEGIN \n Stmt := {quoted(statement)};"
        )
        yield _record(table, 92, "32K_WRITE", None)
        yield _record(table, 93, "32K_END", None)
    elif column.kind == "XMLTYPE":
        begin = f'XML DOC BEGIN:  select "{column.name}" from {named(table.name)}{where(table.columns, key)}'
        write = f"XML_REDO := {quoted(str(value))}\n amount: {len(value)}"
        for code, operation, text in ((68, "BEGIN", begin), (70, "WRITE", write), (71, "END", "XML DOC END:")):
            made = _record(table, code, f"XML DOC {operation}", text)
            yield replace(made, status=2, info="XML sql_redo not re-executable")
    else:
        yield _locator(table, column, key)
        yield from writes(table, column, value, 0)
        yield _call(table, column, 11, "LOB_TRIM", f"trim(loc_{_SHORT[column.kind]}, {_units(value)})")


def writes(table: Table, column: OracleColumn, value: str | bytes, at: int) -> Iterator[Record]:
    """LOB_WRITE rows of a value from a 0-based place on; places and lengths count UTF-16 units, or bytes."""
    short = _SHORT[column.kind]
    for start in range(0, len(value), LOB_PIECE):
        part = value[start : start + LOB_PIECE]
        text = f"HEXTORAW('{part.hex()}')" if isinstance(part, bytes) else quoted(part)
        call = f"write(loc_{short}, {_units(part)}, {at + 1}, buf_{short})"
        yield _call(table, column, 10, "LOB_WRITE", call, f" buf_{short} := {text}; \n")
        at += _units(part)


def of_edit(table: Table, column: OracleColumn, key: Row, how: str, value: str, text: str) -> tuple[list[Record], str]:
    """Rows of an edit of a CLOB, and what it makes of its value.

    Args:
        how: one of EDITS. text: what is written.
    """
    short, locator = _SHORT[column.kind], _locator(table, column, key)
    half = len(value) // 2
    if how == "append":
        return [locator, *writes(table, column, text, _units(value))], value + text
    if how == "patch":
        part = text[: len(value) - half]
        if _units(part) != _units(value[half : half + len(part)]):
            part = ""
        rows = writes(table, column, part, _units(value[:half]))
        return [locator, *rows], value[:half] + part + value[half + len(part) :]
    if how == "erase":
        call = f"erase(loc_{short}, e_len, {_units(value[:half]) + 1})"
        erased = _call(table, column, 29, "LOB_ERASE", call, f" e_len := {_units(value[half:])}; \n")
        return [locator, erased], value[:half] + " " * _units(value[half:])
    if how == "rewrite":
        emptied = _call(table, column, 11, "LOB_TRIM", f"trim(loc_{short}, 0)")
        return [locator, emptied, *writes(table, column, text, 0)], text
    kept = value[: half + 1]
    trimmed = _call(table, column, 11, "LOB_TRIM", f"trim(loc_{short}, {_units(kept)})")
    if how == "bare trim":  # it tells its row by itself
        return [replace(trimmed, sql=f"{locator.sql}\n{trimmed.sql}")], kept
    return [locator, trimmed], kept


def _locator(table: Table, column: OracleColumn, key: Row) -> Record:
    """SEL_LOB_LOCATOR: which value the following rows write."""
    into = f'select "{column.name}" into loc_{_SHORT[column.kind]} from {named(table.name)}'
    return _record(table, 9, "SEL_LOB_LOCATOR", f"{_DECLARE} {into}{where(table.columns, key)} for update;")


def _call(table: Table, column: OracleColumn, code: int, operation: str, call: str, before: str = "") -> Record:
    return _record(table, code, operation, f"\n{before}  dbms_lob.{call};\nEND;")


def _record(table: Table, code: int, operation: str, text: str | None) -> Record:
    return Record(code, operation, text, table.name, table.number, table.version)


def _units(value: str | bytes) -> int:
    return len(value) if isinstance(value, bytes) else len(value.encode("utf-16-le")) // 2

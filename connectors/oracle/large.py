"""Which rows LogMiner's procedures for LOBs, XML documents and long strings are about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from connectors.oracle.catalog import WantedTable
from connectors.oracle.rows import key_text
from libcore.redo import Redo, parse_redo

# DECLARE ... BEGIN select "DATA" into loc_c from "S"."T" where "ID" = '1' for update;      SELECT_LOB_LOCATOR
# XML DOC BEGIN: select "DOC" from "S"."T" where "ID" = '1'                                 XML_DOC_BEGIN
_TABLE = r'((?:"[^"]*"\.)*"[^"]*")'
_SELECT = re.compile(rf"\bselect\s+.*?\bfrom\s+{_TABLE}(\s+where\s+.*?)?(?:\s+for\s+update)?[\s;]*$", re.S)
# ... for update; dbms_lob.trim(loc_c, 7);      LOB_TRIM, LOB_ERASE, LOB_WRITE that have no locator in front of them
_PROCEDURE = re.compile(
    rf'\bselect\s+"[^"]*"\s+into\s+\w+\s+from\s+{_TABLE}(\s+where\s+.*?)?\s+for\s+update\s*;(?=.*\bdbms_lob\.)', re.S
)
# DECLARE ... BEGIN Stmt := 'update "S"."T" set "LONG" = :VAR where "ID" = ''1''';          32K_BEGIN
_STATEMENT = re.compile(r"Stmt\s*:=\s*'(.*)'\s*;\s*$", re.S)
# update "S"."T" a set a."DOC" = XMLType(:1) where a."ID" = '1'      XML_DOC_BEGIN of documents that are kept as CLOB
_UPDATE = re.compile(
    rf"\s*(?:XML DOC BEGIN:)?\s*update\s+{_TABLE}(\s+\w+)?\s+set\s+[^=]*=\s*(?::\w+|XMLType\(:\w+\))(\s+where\s+.*)?$",
    re.S,
)
_INSERT = re.compile(r"\s*(?:XML DOC BEGIN:)?\s*(insert\s+into\s.*)$", re.S)
_DELETE = re.compile(rf"delete from {_TABLE}(.*)$", re.S)


def keys_of_touched(wanted: WantedTable, rows: pa.RecordBatch) -> list[tuple[str, ...]] | None:
    """The keys of the rows that begin to get a large value, each once; None: one of them does not tell its key."""
    told = [_as_statement(text) for text in _joined(rows)]
    if None in told:
        return None
    redo = _parsed(wanted, told)
    return None if redo.errors else key_texts(wanted, redo.record)


def rows_told(wanted: WantedTable, texts: Sequence[str]) -> list[tuple[str, tuple[Any, ...]] | None]:
    """Of each text that begins a large value: the condition that tells its row, and its key; None: it does not."""
    told = [_as_statement(text) for text in texts]
    redo = _parsed(wanted, told)
    found: list[tuple[str, tuple[Any, ...]] | None] = [None] * len(texts)
    keys = zip(*(values_of(redo.record.column(name)) for name in wanted.table.key), strict=True)
    for row, key in zip(redo.rows.to_pylist(), keys, strict=True):
        if (delete := _DELETE.match(str(told[row]))) is not None:
            found[row] = delete[2], key
    return found


def names_its_row(text: str) -> bool:
    """Whether a LOB's write says by itself which row it is about."""
    return _PROCEDURE.search(text) is not None


def _parsed(wanted: WantedTable, statements: Sequence[str | None]) -> Redo:
    return parse_redo(wanted.plan, pa.RecordBatch.from_arrays([pa.array(statements, pa.utf8())], names=["statement"]))


def key_texts(wanted: WantedTable, record: pa.RecordBatch) -> list[tuple[str, ...]]:
    """The keys of rows as texts for binds, each once."""
    columns = [values_of(record.column(name)) for name in wanted.table.key]
    texts = [tuple(key_text(value) or "" for value in key) for key in zip(*columns, strict=True)]
    return list(dict.fromkeys(texts))


def values_of(column: pa.Array) -> list[Any]:
    """Python's values; of times that it cannot hold the texts."""
    is_fine = pa.types.is_timestamp(column.type) and column.type.unit == "ns"
    return (column.cast(pa.utf8()) if is_fine else column).to_pylist()


def _joined(rows: pa.RecordBatch) -> Iterator[str]:
    """Whole statements of rows that may be pieces."""
    held = ""
    for text, goes_on in zip(rows.column("SQL_REDO").to_pylist(), rows.column("CSF").to_pylist(), strict=True):
        held += text or ""
        if not goes_on:
            yield held
            held = ""


def _as_statement(text: str) -> str | None:
    """What the redo parser reads a row's key from: a DELETE by its condition, or its INSERT."""
    if (whole := _INSERT.match(text)) is not None:
        return whole[1]
    if (long := _STATEMENT.search(text)) is not None:
        text = long[1].replace("''", "'")
    if (updated := _UPDATE.match(text)) is not None:
        return f"delete from {updated[1]}{updated[2] or ''}{updated[3] or ''}"
    found = _PROCEDURE.search(text) or _SELECT.search(text)
    return None if found is None else f"delete from {found[1]}{found[2] or ''}"

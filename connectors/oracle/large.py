"""Which rows LogMiner's procedures for LOBs, XML documents and long strings are about, and reading such rows again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from connectors.oracle import sql
from connectors.oracle.catalog import WantedTable
from connectors.oracle.rows import Rows, key_text, rows_of
from connectors.oracle.session import SNAPSHOT_GONE, Refused, Session
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
KEYS_A_QUERY = 200


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


def rows_again(session: Session, wanted: WantedTable, keys: Sequence[tuple[str, ...]], scn: int) -> Iterator[Rows]:
    """The rows of some keys as they were at an SCN, or, where undo does not reach back, as they are now.

    Args:
        keys: as texts, in the order of the pipeline's key.
    """
    forms = [form for _, form in wanted.key_forms]
    names = [sql.PLAIN.format(column=sql.quote(name)) for name in wanted.table.key]
    yield from _among(session, wanted, list(zip(names, forms, strict=True)), keys, scn, or_now=True)


def rows_by_rowid(
    session: Session, wanted: WantedTable, ids: Sequence[str], before_scn: int, scn: int
) -> tuple[list[Rows], list[pa.Array], int]:
    """What some ROWIDs hold at an SCN: their rows, the table's columns of those that are gone since another SCN, and
    how many were there then.

    A row that moved to another key leaves its old one, which no statement tells. Raises Refused where undo does not
    reach back to `before_scn`.
    """
    pairs, texts = [(sql.PLAIN.format(column=sql.ROWID_COLUMN), sql.KEY_ROWID)], [(one,) for one in ids]
    before = list(_among(session, wanted, pairs, texts, before_scn, or_now=False))
    there = list(_among(session, wanted, pairs, texts, scn, or_now=True))
    known = {key for rows in there for key in _keys(wanted, rows)}
    left = [tuple(key_text(value) or "" for value in key) for rows in before for key in _keys(wanted, rows) - known]
    if left:
        # another row may have taken the key
        taken = list(rows_again(session, wanted, left, scn))
        there += taken
        known |= {key for rows in taken for key in _keys(wanted, rows)}
    return there, _without(wanted, before, known), sum(len(rows.columns[0]) for rows in before)


def _keys(wanted: WantedTable, rows: Rows) -> set[tuple[Any, ...]]:
    return set(zip(*(values_of(one) for one in _key_columns(wanted, rows)), strict=True))


def _key_columns(wanted: WantedTable, rows: Rows) -> list[pa.Array]:
    names = [column.name for column in wanted.table.columns]
    return [rows.columns[names.index(name)] for name in wanted.table.key]


def _without(wanted: WantedTable, before: list[Rows], known: set[tuple[Any, ...]]) -> list[pa.Array]:
    """Columns of deletes of the keys that were there and are not known; [] where there is none."""
    columns: list[list[pa.Array]] = []
    for rows in before:
        keys = zip(*(values_of(one) for one in _key_columns(wanted, rows)), strict=True)
        mask = pa.array([key not in known for key in keys], pa.bool_())
        columns.append([one.filter(mask) for one in rows.columns])
    found = [pa.concat_arrays(list(parts)) for parts in zip(*columns, strict=True)]
    if not found or not len(found[0]):
        return []
    return [
        one if column.name in wanted.table.key else pa.nulls(len(one), column.type.arrow)
        for one, column in zip(found, wanted.table.columns, strict=True)
    ]


def _among(
    session: Session,
    wanted: WantedTable,
    pairs: Sequence[tuple[str, str]],
    keys: Sequence[tuple[str, ...]],
    scn: int,
    *,
    or_now: bool,
) -> Iterator[Rows]:
    bound = [(column, form.format(bind=f"k{{row}}_{place}")) for place, (column, form) in enumerate(pairs)]
    for start in range(0, len(keys), KEYS_A_QUERY):
        some = keys[start : start + KEYS_A_QUERY]
        where = sql.among(bound, len(some))
        binds = {f"k{row}_{place}": text for row, key in enumerate(some) for place, text in enumerate(key)}
        try:
            found = list(rows_of(session, wanted, (), scn=scn, where=where, binds=binds, batch_rows=KEYS_A_QUERY))
        except Refused as error:
            if error.code not in SNAPSHOT_GONE or not or_now:
                raise
            found = list(rows_of(session, wanted, (), scn=None, where=where, binds=binds, batch_rows=KEYS_A_QUERY))
        yield from found

"""The statements that LogMiner writes of a change: SQL_REDO of rows, LOBs and extended strings, cut at 4,000 bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.doubles.oracle.types import LOBS, OracleColumn, Stored, quoted

PIECE_BYTES = 4000
LOB_PIECE = 1024  # characters or bytes of one LOB_WRITE
_EMPTY = {"BLOB": "EMPTY_BLOB()", "CLOB": "EMPTY_CLOB()", "NCLOB": "EMPTY_CLOB()"}
_DECLARE = (
    "DECLARE \n loc_c CLOB; \n buf_c VARCHAR2(6156); \n loc_b BLOB; \n buf_b RAW(6156); \n loc_nc NCLOB; \n"
    " buf_nc NVARCHAR2(6156); \n e_len NUMBER; \nBEGIN\n"
)
Row = Mapping[str, Stored]


def named(table: str) -> str:
    """A table "OWNER.NAME" in quotes."""
    owner, _, name = table.partition(".")
    return f'"{owner}"."{name}"'


def value(column: OracleColumn, kept: Stored) -> str:
    """A literal; of a LOB outside of the row the empty one, for its value follows."""
    return _EMPTY[column.kind] if column.outside(kept) and column.kind in _EMPTY else column.literal(kept)


def _stated(columns: Sequence[OracleColumn], row: Row) -> list[OracleColumn]:
    """The columns that a statement names: long strings are not among them."""
    return [c for c in columns if c.name in row and not (c.extended and c.outside(row[c.name]))]


def insert(table: str, columns: Sequence[OracleColumn], row: Row) -> str:
    """An insert of all columns."""
    columns = _stated(columns, row)
    names = ",".join(f'"{column.name}"' for column in columns)
    return f"insert into {named(table)}({names}) values ({','.join(value(c, row[c.name]) for c in columns)})"


def update(table: str, columns: Sequence[OracleColumn], before: Row, changed: Row) -> str:
    """An update of some columns, where the logged columns were as before."""
    sets = ", ".join(f'"{c.name}" = {value(c, changed[c.name])}' for c in _stated(columns, changed))
    return f"update {named(table)} set {sets}{where(columns, before)}"


def delete(table: str, columns: Sequence[OracleColumn], before: Row) -> str:
    """A delete of the row that was as before."""
    return f"delete from {named(table)}{where(columns, before)}"


def where(columns: Sequence[OracleColumn], before: Row) -> str:
    """The condition over what is logged of the old row; LOBs never are."""
    conditions = [
        f'"{c.name}" IS NULL' if before[c.name] is None else f'"{c.name}" = {c.literal(before[c.name])}'
        for c in _stated(columns, before)
        if c.kind not in LOBS
    ]
    return f" where {' and '.join(conditions)}" if conditions else ""


def select_lob(table: str, columns: Sequence[OracleColumn], key: Row, column: OracleColumn) -> str:
    """SEL_LOB_LOCATOR: which value the following rows write."""
    locator = {"BLOB": "loc_b", "CLOB": "loc_c", "NCLOB": "loc_nc"}[column.kind]
    return f'{_DECLARE} select "{column.name}" into {locator} from {named(table)}{where(columns, key)} for update;'


def lob_writes(column: OracleColumn, kept: str | bytes) -> list[str]:
    """LOB_WRITE rows that bring a whole value."""
    found = []
    for start in range(0, len(kept), LOB_PIECE):
        part = kept[start : start + LOB_PIECE]
        short = {"BLOB": "b", "CLOB": "c", "NCLOB": "nc"}[column.kind]
        text = f"HEXTORAW('{part.hex()}')" if isinstance(part, bytes) else quoted(part)
        call = f"dbms_lob.write(loc_{short}, {len(part)}, {start + 1}, buf_{short})"
        found.append(f"\n buf_{short} := {text}; \n  {call};\nEND;")
    return found


def extended_begin(table: str, columns: Sequence[OracleColumn], key: Row, column: OracleColumn) -> str:
    """32K_BEGIN: which value the following rows write."""
    statement = f'update {named(table)} set "{column.name}" = :VAR{where(columns, key)}'
    return f"DECLARE \n Stmt VARCHAR2(32767); \nBEGIN \n Stmt := {quoted(statement)};"


def split(text: str | None) -> list[str | None]:
    """Pieces of at most 4,000 bytes, cut between characters, wherever that falls."""
    if text is None or len(text) * 4 <= PIECE_BYTES:
        return [text]
    data = text.encode()
    pieces: list[str | None] = []
    while data:
        end = min(len(data), PIECE_BYTES)
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(data[:end].decode())
        data = data[end:]
    return pieces

"""The statements that LogMiner writes of a change of a row: SQL_REDO, cut at 4,000 bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.doubles.oracle.types import LOBS, OracleColumn, Stored

PIECE_BYTES = 4000
_EMPTY = {"BLOB": "EMPTY_BLOB()", "CLOB": "EMPTY_CLOB()", "NCLOB": "EMPTY_CLOB()"}
Row = Mapping[str, Stored]


def named(table: str) -> str:
    """A table "OWNER.NAME" in quotes."""
    owner, _, name = table.partition(".")
    return f'"{owner}"."{name}"'


def value(column: OracleColumn, kept: Stored, *, basic: bool = False) -> str:
    """A literal; of a LOB outside of the row the empty one, for its value follows, or NULL where it came before."""
    if column.outside(kept) and column.kind in _EMPTY:
        return "NULL" if basic else _EMPTY[column.kind]
    return column.literal(kept)


def _stated(columns: Sequence[OracleColumn], row: Row) -> list[OracleColumn]:
    """The columns that a statement names: long strings are not among them."""
    return [c for c in columns if c.name in row and not (c.extended and c.outside(row[c.name]))]


def insert(table: str, columns: Sequence[OracleColumn], row: Row, *, basic: bool = False) -> str:
    """An insert of all columns."""
    columns = _stated(columns, row)
    names = ",".join(f'"{column.name}"' for column in columns)
    return (
        f"insert into {named(table)}({names}) values ({','.join(value(c, row[c.name], basic=basic) for c in columns)})"
    )


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
        if c.kind not in (*LOBS, "XMLTYPE")
    ]
    return f" where {' and '.join(conditions)}" if conditions else ""


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

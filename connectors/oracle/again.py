"""Rows whose changes do not stand in the redo, as the table holds them: read by key, or by ROWID."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from connectors.base.items import Item
from connectors.base.rows import change_batch
from connectors.oracle import sql
from connectors.oracle.catalog import WantedTable
from connectors.oracle.changes import Decoded, Untold
from connectors.oracle.large import values_of
from connectors.oracle.rows import Rows, key_text, rows_of
from connectors.oracle.session import SNAPSHOT_GONE, Refused, Session
from connectors.oracle.snapshot import row_items
from libcore.change import Op

KEYS_A_QUERY = 200
_ORDER = 1 << 38  # behind all rows of a transaction


def items_again(session: Session, decoded: Decoded, begins: tuple[int, int], scn: int, *, flow: str) -> Iterator[Item]:
    """What some transactions did that their redo does not tell: deletes and upserts, behind the rest of them.

    Args:
        decoded: what is to be read; tables where it cannot be known any more are put into `anew`.
        begins: SCNs as of which stood, at the target, what the first of them changed, and what the others did.
        scn: the last commit's.
    """
    first = _ORDER
    found = [(wanted, rows_again(session, wanted, keys, scn)) for wanted, keys in decoded.reread]
    for untold in decoded.untold:
        wanted = untold.wanted
        try:
            there, gone, is_known = rows_by_rowid(session, untold, begins, scn)
        except Refused as error:
            if error.code not in SNAPSHOT_GONE:
                raise
            decoded.anew[wanted.table.name] = None
            continue
        if not is_known:  # one was inserted by the same transactions: the key that it had is known to nobody
            decoded.anew[wanted.table.name] = None
        if gone:
            yield change_batch(wanted.table, gone, Op.DELETE, generation=wanted.generation, commit=scn, first=first)
            first += len(gone[0])
        found.append((wanted, iter(there)))
    for wanted, several in found:
        for rows in several:
            yield from row_items(wanted, rows, Op.UPSERT, commit=scn, first=first, flow=flow)
            first += rows.count


def rows_again(session: Session, wanted: WantedTable, keys: Sequence[tuple[str, ...]], scn: int) -> Iterator[Rows]:
    """The rows of some keys as they were at an SCN, or, where undo does not reach back, as they are now.

    Args:
        keys: as texts, in the order of the pipeline's key.
    """
    forms = [form for _, form in wanted.key_forms]
    names = [sql.PLAIN.format(column=sql.quote(name)) for name in wanted.table.key]
    yield from _among(session, wanted, list(zip(names, forms, strict=True)), keys, scn, or_now=True)


def rows_by_rowid(
    session: Session, untold: Untold, begins: tuple[int, int], scn: int
) -> tuple[list[Rows], list[pa.Array], bool]:
    """What some ROWIDs hold at an SCN: their rows; the table's columns of keys that are gone since; and whether every
    one that changed was there before.

    A row that moved to another key leaves its old one, which no statement tells; it may also be one that it had only
    in between. Raises Refused where undo does not reach back to `begins`.
    """
    wanted, written = untold.wanted, untold.written
    pairs = [(sql.PLAIN.format(column=sql.ROWID_COLUMN), sql.KEY_ROWID)]
    held: list[Rows] = []
    is_known = True
    for begin, changed in zip(begins, (untold.first, untold.later), strict=True):
        begun = list(_among(session, wanted, pairs, [(one,) for one in changed], begin, or_now=False))
        is_known = is_known and sum(len(rows.columns[0]) for rows in begun) == len(changed)
        held += begun
    there = list(_among(session, wanted, pairs, [(one,) for one in untold.ids], scn, or_now=True))
    held += [Rows(written, [], (), len(written[0]))] if written else []
    known = {key for rows in there for key in _keys(wanted, rows)}
    gone = {key for rows in held for key in _keys(wanted, rows)} - known
    if gone:
        # another row may have taken the key
        texts = [tuple(key_text(value) or "" for value in key) for key in gone]
        there += rows_again(session, wanted, texts, scn)
        known |= {key for rows in there for key in _keys(wanted, rows)}
    return there, _without(wanted, held, known), is_known


def _keys(wanted: WantedTable, rows: Rows) -> set[tuple[Any, ...]]:
    return set(zip(*(values_of(one) for one in _key_columns(wanted, rows)), strict=True))


def _key_columns(wanted: WantedTable, rows: Rows) -> list[pa.Array]:
    names = [column.name for column in wanted.table.columns]
    return [rows.columns[names.index(name)] for name in wanted.table.key]


def _without(wanted: WantedTable, held: list[Rows], known: set[tuple[Any, ...]]) -> list[pa.Array]:
    """Columns of deletes of the keys that were there and are not known; [] where there is none."""
    columns: list[list[pa.Array]] = []
    for rows in held:
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

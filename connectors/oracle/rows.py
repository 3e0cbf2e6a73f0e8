"""Rows of a table as a query gives them -> exact columns and refused rows; keys as texts; positions of mined rows."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from sys import byteorder
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.rows import Refused
from connectors.oracle import sql
from connectors.oracle.catalog import WantedTable
from connectors.oracle.config import OracleConfig
from connectors.oracle.session import Session
from connectors.oracle.types import converted, parsed_as
from libcore.position import POSITION_BYTES

FETCHED_ROWS = 2_000
"""Rows that one answer of a table with large values holds."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a table.

    Args:
        columns: the table's, exact. refused: rows that are not among them. last: the last row's key as texts.
        count: all of them, refused ones too.
    """

    columns: list[pa.Array]
    refused: list[Refused]
    last: tuple[str, ...]
    count: int


def rows_of(
    session: Session,
    wanted: WantedTable,
    keys: Sequence[tuple[str, str]],
    *,
    scn: int | None,
    where: str = "",
    binds: Mapping[str, Any] | None = None,
    rows_max: int = 0,
    batch_rows: int,
) -> Iterator[Rows]:
    """What a query of the table finds, in the order of its keys where it is bounded.

    Args:
        keys: (expression of a key's text, form of its bind). scn: None: as it is now.
        rows_max: how many at most; 0: all. batch_rows: in one Rows.
    """
    readings = wanted.readings
    expressions = [*(one.expression for one in readings), *(text for text, _ in keys)]
    fields = [(f"C{index}", one.arrow) for index, one in enumerate(readings)]
    fields += [(f"C{len(readings) + index}", pa.utf8()) for index in range(len(keys))]
    order = order_of(wanted, keys) if rows_max else ()
    text = sql.rows(wanted.found.owner, wanted.found.name, expressions, scn=scn is not None, where=where, order=order)
    given = dict(binds or {}) | ({} if scn is None else {"scn": scn}) | ({"rows_max": rows_max} if rows_max else {})
    for batch in session.arrow(text, pa.schema(fields), given, batch_rows):
        if len(batch):
            yield exact(wanted, batch, len(keys))


def chunk_of(
    session: Session,
    config: OracleConfig,
    wanted: WantedTable,
    after: Sequence[str] | None,
    size: int,
    *,
    scn: int | None,
    where: str = "",
) -> Iterator[Rows]:
    """The next `size` rows of a table by `chunk_keys`, behind a key where one is given.

    Args:
        where: a person's condition, "" for none.
    """
    keys = chunk_keys(wanted)
    forms = zip(order_of(wanted, keys), keys, strict=True)
    bounds = [(column, form.format(bind=f"k{place}")) for place, (column, (_, form)) in enumerate(forms)]
    beyond = "" if after is None else sql.behind(bounds)
    if where:  # on a line of its own: a comment in it shall not reach what stands behind
        beyond = f"({where}\n)" + (f" AND ({beyond})" if beyond else "")
    return rows_of(
        session,
        wanted,
        keys,
        scn=scn,
        where=beyond,
        binds={f"k{place}": text for place, text in enumerate(after or ())},
        rows_max=size,
        batch_rows=min(config.batch_rows_max, FETCHED_ROWS if wanted.has_large else size),
    )


def exact(wanted: WantedTable, batch: pa.RecordBatch, keys: int) -> Rows:
    """A query's batch: the table's columns, then `keys` columns of key texts."""
    width = len(wanted.readings)
    columns, faults = [], dict[int, str]()
    for found, reading, column in zip(batch.columns, wanted.readings, wanted.table.columns, strict=False):
        values, bad = converted(found, reading, parsed_as(wanted.found.by_name[column.name], column))
        columns.append(values)
        faults = {row: f"column {column.name}: {text}" for row, text in bad.items()} | faults
    last = tuple(batch.column(width + index)[-1].as_py() for index in range(keys))
    refused = []
    if faults:
        good = pa.array([row not in faults for row in range(len(batch))])
        columns = [one.filter(good) for one in columns]
        refused = [_refused(wanted, batch, row, faults[row]) for row in sorted(faults)]
    return Rows(columns, refused, last, len(batch))


def _refused(wanted: WantedTable, batch: pa.RecordBatch, row: int, error: str) -> Refused:
    names = [column.name for column in wanted.table.columns]
    found = {name: batch.column(index)[row].as_py() for index, name in enumerate(names)}
    key = str({name: found[name] for name in wanted.table.key}) if wanted.table.key else None
    return Refused(wanted.table.name, -1, f"table {wanted.table.name}: {error}", repr(found).encode(), key)


def chunk_keys(wanted: WantedTable) -> tuple[tuple[str, str], ...]:
    """(expression of its text, form of its bind) of what chunks are ordered by: the key, else the ROWID."""
    primary = wanted.found.key
    forms = [wanted.found.by_name[name].key_forms for name in primary]
    if not primary or None in forms:
        return ((sql.ROWID.format(column=sql.ROWID_COLUMN), sql.KEY_ROWID),)
    return tuple(form for form in forms if form is not None)


def order_of(wanted: WantedTable, keys: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The columns themselves of `chunk_keys`."""
    if keys[0][1] == sql.KEY_ROWID:
        return (sql.PLAIN.format(column=sql.ROWID_COLUMN),)
    return tuple(sql.PLAIN.format(column=sql.quote(name)) for name in wanted.found.key)


def key_text(value: Any) -> str | None:
    """A key's value as the text that goes into a bind."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, date):
        return f"{value.isoformat()} 00:00:00"
    return None if value is None else str(value)


def positions_of(generation: int, commits: pa.Int64Array, orders: pa.Int64Array) -> pa.Array:
    """Positions of rows by commit SCN and by order in their transaction (below 2^40)."""
    count = len(commits)
    whole = bytearray(POSITION_BYTES * count)
    view = memoryview(whole).cast("Q")
    commits, orders = commits.cast(pa.uint64()), orders.cast(pa.uint64())
    head = pc.bit_wise_or(pc.shift_right(commits, _unsigned(48)), _unsigned(generation << 32))
    middle = pc.shift_left(commits, _unsigned(16))  # the high bits fall off: they stand in the head
    for word, values in enumerate((head, middle, None, pc.shift_left(orders, _unsigned(24)))):
        if values is not None:
            view[word::4] = _big_endian(values)
    return pa.Array.from_buffers(pa.binary(POSITION_BYTES), count, [None, pa.py_buffer(bytes(whole))])


def _unsigned(value: int) -> pa.Scalar:
    return pa.scalar(value, pa.uint64())


def _big_endian(values: pa.UInt64Array) -> memoryview:
    words = array("Q")
    start = values.offset * 8
    words.frombytes(values.buffers()[1].slice(start, len(values) * 8))
    if byteorder == "little":
        words.byteswap()
    return memoryview(words)

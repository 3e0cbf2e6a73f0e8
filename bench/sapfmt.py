"""rfc-rows: rows of RFC_READ_TABLE into typed columns beside polars, one core, the same process, the same rows.

The rows are order items (VBAP) of 97 characters: two CHAR and one ALPHA key, DATS, TIMS, NUMC, two packed numbers with
the sign behind, a currency. polars does what a reader of such rows would write with it: slices by offset, strips, casts
to Date, Time and Decimal; its casts give NULL for a bad value and say nothing of it. The loop in Python that most
clients of SAP come with is printed beside.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow as pa

from bench.decode import best
from bench.measure import Result, memory_bytes, one_core
from libcore import memory

ROWS = 200_000
# name, length, RFC_DB_FLD-TYPE, decimals
FIELDS = (
    ("MANDT", 3, "C", 0), ("VBELN", 10, "C", 0), ("POSNR", 6, "N", 0), ("MATNR", 18, "C", 0),
    ("ERDAT", 8, "D", 0), ("ERZET", 6, "T", 0), ("KWMENG", 16, "P", 3), ("NETWR", 16, "P", 2),
    ("WAERK", 5, "C", 0), ("ARKTX", 9, "C", 0),
)  # fmt: skip
KEPT = 2_000  # rows that the loop in Python reads: it would take too long for all


def plan() -> Any:
    """How the rows are read."""
    from libcore.sapfmt_rfc import fields_plan

    rows, offset = [], 0
    for name, length, letter, decimals in FIELDS:
        rows.append({"FIELDNAME": name, "OFFSET": offset, "LENGTH": length, "TYPE": letter, "DECIMALS": decimals})
        offset += length
    return fields_plan(rows)


def rows(count: int) -> pa.StringArray:
    """So many rows; the same ones each time."""
    r = Random(7)
    made = []
    for number in range(count):
        minus = "-" if r.random() < 0.1 else " "
        material = f"MAT-{r.randrange(10**6)}"
        made.append(
            f"100{number:010d}{r.randrange(1, 99) * 10:06d}{material:<18}2024{r.randrange(1, 13):02d}"
            f"{r.randrange(1, 29):02d}{r.randrange(24):02d}{r.randrange(60):02d}{r.randrange(60):02d}"
            f"{r.randrange(10**6) / 1000:15.3f} {r.randrange(10**8) / 100:15.2f}{minus}EUR  {'bolt':<9}"
        )
    return pa.array(made, pa.utf8())


def with_polars(values: pa.StringArray) -> Callable[[], Any]:
    """The peer: the same columns by expressions."""
    import polars as pl

    frame = pl.DataFrame(pa.Table.from_arrays([values], names=["wa"]))
    expressions, offset = [], 0
    for name, length, letter, decimals in FIELDS:
        cell = pl.col("wa").str.slice(offset, length)
        offset += length
        if letter == "D":
            made = cell.str.to_date("%Y%m%d", strict=False)
        elif letter == "T":
            made = cell.str.to_time("%H%M%S", strict=False)
        elif letter == "P":
            sign = pl.when(cell.str.ends_with("-")).then(-1).otherwise(1)
            number = cell.str.strip_chars(" -").cast(pl.Decimal(length, decimals), strict=False)
            made = (number * sign).cast(pl.Decimal(length, decimals))
        else:
            made = cell.str.strip_chars_end(" ")
        expressions.append(made.alias(name))
    return lambda: frame.select(expressions)


def by_hand(values: list[str]) -> list[tuple[Any, ...]]:
    """What a client does row by row."""
    import datetime
    from decimal import Decimal

    made = []
    for wa in values:
        row: list[Any] = []
        offset = 0
        for _, length, letter, _ in FIELDS:
            cell = wa[offset : offset + length]
            offset += length
            if letter == "D":
                row.append(datetime.date(int(cell[:4]), int(cell[4:6]), int(cell[6:])))
            elif letter == "T":
                row.append(datetime.time(int(cell[:2]), int(cell[2:4]), int(cell[4:])))
            elif letter == "P":
                cell = cell.strip()
                row.append(-Decimal(cell[:-1]) if cell.endswith("-") else Decimal(cell))
            else:
                row.append(cell.rstrip(" "))
        made.append(tuple(row))
    return made


def rfc_rows(items: int, pairs: int, processes: int) -> Result:
    """Rows a second of both on one core, in turn; equal where all three read the same values."""
    from libcore.sapfmt import read_rows

    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    one_core()
    memory.keep_freed(64 << 20)  # as a worker does
    values = rows(min(items, ROWS))
    wanted, peer = plan(), with_polars(values)
    ours_s: list[float] = []
    peer_s: list[float] = []
    for _ in range(pairs):
        ours_s.append(best(lambda: read_rows(wanted, values)))
        peer_s.append(best(peer))
    few = values[:KEPT].to_pylist()
    loop_s = best(lambda: by_hand(few))
    print(f"rfc-rows: a loop in Python {len(few) / loop_s:,.0f} rows/s", file=sys.stderr, flush=True)
    read = read_rows(wanted, values)
    theirs = peer()
    equal = not read.errors and read.record.slice(0, KEPT).to_pylist() == [
        dict(zip(read.record.schema.names, row, strict=True)) for row in by_hand(few)
    ]
    equal = equal and theirs.rows()[:KEPT] == by_hand(few)
    count, mine, other = len(values), statistics.median(ours_s), statistics.median(peer_s)
    used = memory_bytes(os.getpid()) / 1e6
    return Result("rfc-rows", count / mine, "rows/s", "polars, 1 core", count / other, other / mine, used, equal)

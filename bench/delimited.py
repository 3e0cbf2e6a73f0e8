"""delimited: 100 MB of CSV to exact types, one core, beside polars, pyarrow.csv and duckdb with the same types.

The file has order items as an ERP exports them: keys, a text that is quoted where it must be, two decimals, a date, a
timestamp. Ours also gives each row's line and offset, and checks UTF-8. Each reads the bytes from memory, duckdb from a
file in the page cache, because it reads files only. The fastest peer counts; the others are printed beside. The
rates are of processor time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from bench.measure import Result, in_turn, memory_bytes, one_core, say
from libcore import memory

FILE_BYTES = 100_000_000
PIECE_BYTES = 8_000_000
_NAMES = ("order_id", "line_no", "sku", "quantity", "unit_price", "note", "day", "changed_at")
_NOTES = ("", "plain", "a longer note, with a comma", 'said "no"', "Größe 7", "rush", "nothing to say of this line")


def csv_bytes(size: int = FILE_BYTES) -> bytes:
    """About that many bytes of items, the header in front; a block of them over and over."""
    r, lines = Random(7), []
    for i in range(20_000):
        note = r.choice(_NOTES)
        if "," in note or '"' in note:
            note = '"' + note.replace('"', '""') + '"'
        day = f"2024-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"
        clock = f"{day}T{r.randint(0, 23):02d}:{r.randint(0, 59):02d}:{r.randint(0, 59):02d}"
        price = f"{r.randint(1, 500)}.000,{r.randint(1, 99999)}.{r.randint(0, 99):02d}"
        lines.append(f"{10_000_000 + i},{i % 9 + 1},SKU-{r.randint(1, 99999):05d},{price},{note},{day},{clock}\n")
    block = "".join(lines).encode()
    return (",".join(_NAMES) + "\n").encode() + block * max(1, size // len(block))


def ours(data: bytes) -> Callable[[], Any]:
    """Our reader, piece by piece as a source reads a file."""
    from libcore.delimited import DelimitedPlan, DelimitedReader, TextColumn
    from libcore.schema import Column, parse_type

    types = ("int64", "int32", "string", "decimal(12,3)", "decimal(12,2)", "string", "date", "timestamp")
    columns = tuple(TextColumn(Column(name, parse_type(kind))) for name, kind in zip(_NAMES, types, strict=True))
    plan, pieces = DelimitedPlan(columns), range(0, len(data), PIECE_BYTES)

    def read() -> list[Any]:
        reader = DelimitedReader(plan)
        return [reader.feed(data[at : at + PIECE_BYTES], final=at == pieces[-1]) for at in pieces]

    return read


def by_pyarrow(data: bytes) -> Callable[[], Any]:
    """pyarrow.csv on one thread, with the same types."""
    import pyarrow as pa
    from pyarrow import csv

    types = (
        pa.int64(), pa.int32(), pa.utf8(), pa.decimal128(12, 3), pa.decimal128(12, 2), pa.utf8(), pa.date32(),
        pa.timestamp("us"),
    )  # fmt: skip
    convert = csv.ConvertOptions(column_types=dict(zip(_NAMES, types, strict=True)))
    reading = csv.ReadOptions(use_threads=False, block_size=PIECE_BYTES)
    return lambda: csv.read_csv(pa.BufferReader(data), read_options=reading, convert_options=convert)


def by_polars(data: bytes) -> Callable[[], Any]:
    """polars on one core, with the same types."""
    import polars as pl

    types = (
        pl.Int64(), pl.Int32(), pl.String(), pl.Decimal(12, 3), pl.Decimal(12, 2), pl.String(), pl.Date(),
        pl.Datetime("us"),
    )  # fmt: skip
    schema: Any = dict(zip(_NAMES, types, strict=True))
    return lambda: pl.read_csv(data, schema=schema)


def by_duckdb(path: Path) -> Callable[[], Any]:
    """duckdb on one thread, with the same types, into Arrow."""
    import duckdb

    types = ("BIGINT", "INTEGER", "VARCHAR", "DECIMAL(12,3)", "DECIMAL(12,2)", "VARCHAR", "DATE", "TIMESTAMP")
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in zip(_NAMES, types, strict=True))
    connection = duckdb.connect(config={"threads": 1})
    query = f"SELECT * FROM read_csv('{path}', header = true, auto_detect = false, columns = {{{columns}}})"
    return lambda: connection.sql(query).to_arrow_table()


def _same(read: list[Any], table: Any) -> bool:
    import pyarrow as pa

    mine = pa.Table.from_batches([part.record for part in read]).combine_chunks()
    return not any(part.errors for part in read) and mine.equals(table.combine_chunks())


def delimited(items: int, pairs: int, processes: int) -> Result:
    """Megabytes a second of ours and of the fastest peer, in turn on one core."""
    one_core()
    memory.keep_freed(64 << 20)  # as a worker does
    data = csv_bytes()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch:
        path = Path(scratch) / "items.csv"
        path.write_bytes(data)
        readers = {
            "ours": ours(data), "pyarrow.csv": by_pyarrow(data), "polars": by_polars(data), "duckdb": by_duckdb(path),
        }  # fmt: skip
        equal = _same(readers["ours"](), readers["pyarrow.csv"]())
        taken = in_turn(readers, pairs, rounds=1)
    say("delimited", len(data) / 1e6, "MB", taken)
    rates = {name: len(data) / 1e6 / spent.processor_s for name, spent in taken.items()}
    mine = rates.pop("ours")
    peer = max(rates, key=lambda name: rates[name])
    used = memory_bytes(os.getpid()) / 1e6
    return Result("delimited", mine, "MB/s", f"{peer}, 1 core", rates[peer], mine / rates[peer], used, equal)

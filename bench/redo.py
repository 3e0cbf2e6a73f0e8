"""redo: the C parser of Oracle's redo statements beside sqlglot's, one core, the same process, the same statements.

Both take the statements apart; ours also makes exact, typed columns of them, sqlglot's (Oracle dialect) stops at a
syntax tree with the literals' texts, so that the comparison is in its favour.
"""

from __future__ import annotations

import os
import random
import statistics
from typing import Any

import pyarrow as pa

from bench.decode import best
from bench.measure import Result, memory_bytes

STATEMENTS = 200_000
BATCH = 20_000
PEER_STATEMENTS = 1_000  # as many as it parses in about a second
COLUMNS = {
    "ORDER_ID": "int64",
    "LINE_NO": "int32",
    "SKU": "string",
    "QUANTITY": "int32",
    "UNIT_PRICE": "decimal(18,4)",
    "DISCOUNT": "decimal(5,4)",
    "NOTE": "string",
    "CREATED_AT": "timestamp",
}
KEY = ("ORDER_ID", "LINE_NO")


def statement(number: int, chance: random.Random) -> str:
    """What LogMiner writes of one change of an order's item: half inserts, four in ten updates, the rest deletes."""
    price, second = f"{chance.randrange(10**7) / 10**4:.4f}", number % 60
    values = {
        "ORDER_ID": f"'{number // 4}'",
        "LINE_NO": f"'{number % 4}'",
        "SKU": f"'SKU-{chance.randrange(100_000):06d}'",
        "QUANTITY": f"'{chance.randrange(1, 100)}'",
        "UNIT_PRICE": f"'{price}'",
        "DISCOUNT": "'.05'",
        "NOTE": "'O''Neil, urgent'" if number % 10 == 0 else "NULL",
        "CREATED_AT": f"TO_TIMESTAMP('2026-01-02 03:04:{second:02d}.123456')",
    }
    conditions = (f'"{name}" {"IS NULL" if text == "NULL" else f"= {text}"}' for name, text in values.items())
    where = " and ".join(conditions)
    if number % 10 < 5:
        names = ",".join(f'"{name}"' for name in values)
        return f'insert into "ERP"."ITEMS"({names}) values ({",".join(values.values())});'
    if number % 10 < 9:
        return f'update "ERP"."ITEMS" set "QUANTITY" = \'{second}\', "NOTE" = \'changed\' where {where};'
    return f'delete from "ERP"."ITEMS" where {where};'


def statements(count: int) -> pa.RecordBatch:
    """So many statements, the same at every call."""
    chance = random.Random(7)
    texts = pa.array([statement(number, chance) for number in range(count)], pa.utf8())
    return pa.RecordBatch.from_arrays([texts], names=["sql_redo"])


def plan() -> Any:
    """How the parser reads them."""
    from libcore.redo import RedoPlan
    from libcore.schema import Column, Table, parse_type

    columns = tuple(Column(name, parse_type(text)) for name, text in COLUMNS.items())
    return RedoPlan.of(Table("ERP.ITEMS", columns, KEY), creates=True)


def same(record: pa.RecordBatch) -> bool:
    """Whether the rows of the first statements are those of the plain reference, which is another program."""
    from libcore.redo import parse_redo
    from libcore.reference.redo import parse_redo as reference

    part = record.slice(0, 2_000)
    mine, truth = parse_redo(plan(), part), reference(plan(), part)
    return not mine.errors and mine.record.equals(truth.record) and mine.rows.equals(truth.rows)


def redo(items: int, pairs: int, processes: int) -> Result:
    """Statements a second of both on one core, in turn."""
    import sqlglot

    from libcore.redo import parse_redo

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    record, wanted = statements(min(items, STATEMENTS)), plan()
    parts = [record.slice(offset, BATCH) for offset in range(0, record.num_rows, BATCH)]
    texts = record.column(0).slice(0, PEER_STATEMENTS).to_pylist()
    ours_s: list[float] = []
    peer_s: list[float] = []
    for _ in range(pairs):
        ours_s.append(best(lambda: [parse_redo(wanted, part) for part in parts]))
        peer_s.append(best(lambda: [sqlglot.parse_one(text, dialect="oracle") for text in texts]))
    ours = record.num_rows / statistics.median(ours_s)
    peer = len(texts) / statistics.median(peer_s)
    memory = memory_bytes(os.getpid()) / 1e6
    return Result("redo", ours, "statements/s", "sqlglot, 1 core", peer, ours / peer, memory, same(record))

"""A column of a table read again through real processes into a real PostgreSQL, killed in mid-table.

SQL Server and Oracle are the doubles of tests/doubles; SQLite is itself.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from flows.testing import run_flow
from tests.connectors import asked_parts
from tests.connectors.asked_parts import CONDITIONS, PLACES, ways
from tests.connectors.contract_source import SourceSystem, some_rows
from tests.connectors.request_parts import answered, ask
from tests.connectors.window_parts import found

kind, system = asked_parts.kind, asked_parts.system
ROWS, LOST = 1200, range(10)


@ways([PLACES[0], ("oracle", "logminer"), ("sqlite", "triggers")])
def test_killed_in_mid_table(system: SourceSystem, kind: str, postgres: str, tmp_path: Path) -> None:
    """The column is right in all rows that the target has, no other column is, and no row is made of it."""
    system.write(some_rows(Random(1), 0, ROWS))
    sink = f'[source.{kind}.guardian]\nrows_per_second_max = {ROWS}\n[sink.postgres]\ndsn = "env:TARGET_DSN"\n'
    file = system.pipeline(sink, batch_rows_max=60, chunk_rows=60)
    flow, environment, answers = f"flows.build:flow('{file}')", {"TARGET_DSN": postgres}, list[Path]()

    def spoilt() -> int:
        return int((found(postgres, "SELECT count(*) FROM items WHERE name = 'spoilt'") or [(0,)])[0][0])

    def in_mid_table() -> bool:
        if not answers and found(postgres, "SELECT count(*) FROM items") == [(ROWS,)]:
            with psycopg.connect(postgres) as target:
                target.execute("UPDATE items SET name = 'spoilt', price = -7")
                target.execute(f"DELETE FROM items WHERE id < {len(LOST)}".encode())
            answers.append(ask(tmp_path / "state", CONDITIONS[kind][0], columns=["name"]))
        return bool(answers) and 0 < spoilt() < ROWS - len(LOST) - 60

    def wanted() -> list[tuple[Any, ...]]:
        rows = system.rows().values()
        return [(*row[:2], row[2] if row[0] >= ROWS - 5 else Decimal(-7)) for row in rows if row[0] not in LOST]

    def target() -> list[tuple[Any, ...]]:
        return found(postgres, "SELECT id, name, price FROM items ORDER BY id")

    killed = run_flow(flow, tmp_path, environment=environment, kill_after_s=0.0, ready=in_mid_table)
    (answer,) = answers
    assert 0 < spoilt() < ROWS - len(LOST) and not answer.exists()
    system.write(some_rows(Random(2), ROWS - 5, 10), (700,))
    killed += run_flow(
        flow, tmp_path, environment=environment, kill_after_s=0.0,
        ready=lambda: answer.exists() and target() == sorted(wanted()),
    )  # fmt: skip
    assert killed == [-9, -9] and target() == sorted(wanted()), (tmp_path / "process-0.log").read_text()[-3000:]
    assert answered(answer)["done"] and 0 < answered(answer)["rows"] < ROWS

"""flows/pipelines/stock.toml: receipts, issues and transfers as a balance of each material in each plant."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.flows.erp_flows import Erp

START = datetime(2026, 3, 2, 8)
PLANTS = ("1000", "2000", "3000")
STOCK = """
    SELECT material, plant, sum(CASE debit_credit WHEN 'S' THEN quantity ELSE -quantity END) AS quantity,
        count(*) AS movements, max(moved_at) AS last_moved_at
    FROM erp.movements GROUP BY material, plant
"""


def line(document: int, number: int, kind: str, sign: str, plant: str, random: Random) -> dict[str, Any]:
    return {
        "document": document,
        "line_no": number,
        "kind": kind,
        "debit_credit": sign,
        "material": f"MAT-{document % 7}",
        "plant": plant,
        "quantity": Decimal(random.randint(1, 10_000)) / 1000,
        "moved_at": START + timedelta(minutes=document),
    }


def document(number: int, random: Random) -> list[dict[str, Any]]:
    """A receipt, an issue, or a transfer, which takes from one plant what it gives to another."""
    kind = random.choice(["receipt", "receipt", "issue", "transfer"])
    there, here = random.sample(PLANTS, 2)
    if kind != "transfer":
        return [line(number, 1, kind, "S" if kind == "receipt" else "H", here, random)]
    out = line(number, 1, kind, "H", there, random)
    return [out, {**out, "line_no": 2, "debit_credit": "S", "plant": here}]


def test_the_balance_follows_every_movement(
    broker: str, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Movements, corrections, lines that go, a plant that loses all of its lines: always the SQL over the lines."""
    erp, random = Erp("stock", broker, postgres, tmp_path), Random(3)
    erp.put("movements", *(row for number in range(300) for row in document(number, random)))
    erp.run()
    assert erp.check("stock", STOCK) == 21
    lines = [{"document": document, "line_no": number} for document, number in erp.rows["movements"]]
    erp.put("movements", *({**key, "quantity": Decimal(5)} for key in lines[:40]))
    erp.put("movements", *({**key, "plant": "1000"} for key in lines[60:70]))
    erp.remove("movements", *[key for key, row in erp.rows["movements"].items() if row["plant"] == "3000"])
    erp.start(seconds=2.0)
    erp.put("movements", *document(1000, random), *document(-1000, random))  # the second one is two weeks late
    erp.run(processes=2)
    erp.check("stock", STOCK)
    assert erp.found("SELECT count(*) FROM headrace_dead_letters") == [(0,)]
    assert erp.verify(monkeypatch).equal


def test_a_transfer_changes_no_total_and_a_line_without_direction_no_balance(
    broker: str, postgres: str, tmp_path: Path
) -> None:
    """10 come to plant 1000, 4 move on to 2000: 6 and 4; a line that neither adds nor takes is a dead letter."""
    erp, random = Erp("stock", broker, postgres, tmp_path, partitions=1), Random(4)
    came = {**line(7, 1, "receipt", "S", "1000", random), "quantity": Decimal(10)}
    moved = {**line(14, 1, "transfer", "H", "1000", random), "quantity": Decimal(4)}
    erp.put("movements", came, moved, {**moved, "line_no": 2, "debit_credit": "S", "plant": "2000"})
    erp.put("movements", {**moved, "line_no": 3, "debit_credit": "X"})
    erp.run()
    balances = erp.found("SELECT plant, quantity, movements, last_moved_at FROM stock ORDER BY plant")
    later = START + timedelta(minutes=14)
    assert balances == [("1000", Decimal(6), 2, later), ("2000", Decimal(4), 1, later)]
    ((step, error),) = erp.found("SELECT step, error FROM headrace_dead_letters")
    assert step == "select-movements" and "debit_credit: expected S or H" in error
    erp.put("movements", {**moved, "debit_credit": "?"}, {**moved, "line_no": 3, "plant": "2000", "debit_credit": "S"})
    erp.run()
    # the line that was wrong counts now that it is right; the one that became wrong counts as it did before
    assert erp.found("SELECT plant, quantity FROM stock ORDER BY plant") == [("1000", 6), ("2000", 8)]

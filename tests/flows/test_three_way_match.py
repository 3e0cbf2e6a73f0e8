"""flows/pipelines/three_way_match.toml: orders, receipts and invoices as one status that time turns by itself."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.flows.erp_flows import Erp

DAY = date(2026, 3, 2)
MATCH = """
    SELECT p.order_no, p.item_no, p.material, p.quantity, p.net_price, p.due_on, coalesce(r.received, 0) AS received,
        coalesce(i.invoiced, 0) AS invoiced, coalesce(i.billed, 0) AS billed,
        CASE
            WHEN coalesce(received, 0) > quantity OR coalesce(invoiced, 0) > quantity
                OR coalesce(billed, 0) > quantity * net_price THEN 'over'
            WHEN received = quantity AND invoiced = quantity AND billed = quantity * net_price THEN 'matched'
            WHEN (due_on + 1)::timestamp AT TIME ZONE 'Europe/Istanbul' <= '{now}' THEN 'overdue'
            WHEN coalesce(received, 0) <> 0 OR coalesce(invoiced, 0) <> 0 THEN 'under'
            ELSE 'open'
        END AS status
    FROM erp.purchase_items p
    LEFT JOIN (SELECT order_no, item_no, sum(quantity) AS received FROM erp.receipts GROUP BY 1, 2) r
        USING (order_no, item_no)
    LEFT JOIN (SELECT order_no, item_no, sum(quantity) AS invoiced, sum(amount) AS billed FROM erp.invoices
        GROUP BY 1, 2) i USING (order_no, item_no)
"""
STATUSES = "SELECT status, count(*) FROM three_way_match GROUP BY 1 ORDER BY 1"


def purchase(order: int, item: int, due_on: date | None) -> dict[str, Any]:
    return {
        "order_no": order,
        "item_no": item,
        "material": f"MAT-{order % 5}",
        "quantity": Decimal(10),
        "net_price": Decimal("2.50"),
        "due_on": due_on,
    }


def receipt(number: int, order: int, item: int, quantity: int) -> dict[str, Any]:
    row = {"document": number, "line_no": 1, "order_no": order, "item_no": item}
    return {**row, "quantity": Decimal(quantity)}


def invoice(number: int, order: int, item: int, quantity: int) -> dict[str, Any]:
    row = {"invoice": number, "line_no": 1, "order_no": order, "item_no": item}
    return {**row, "quantity": Decimal(quantity), "amount": Decimal(quantity) * Decimal("2.50")}


def fill(erp: Erp, random: Random) -> None:
    """Receipts and invoices before and after their orders; some twice, some in parts, some not at all."""
    numbers = [(order, item) for order in range(1, 41) for item in (10, 20)]
    erp.put("receipts", *(receipt(n, *key, random.choice([4, 10, 10, 10])) for n, key in enumerate(numbers) if n % 4))
    erp.put("purchase_items", *(purchase(*key, DAY + timedelta(days=n % 9)) for n, key in enumerate(numbers)))
    erp.put("purchase_items", purchase(99, 10, None))
    erp.put("invoices", *(invoice(n, *key, random.choice([10, 10, 6])) for n, key in enumerate(numbers) if n % 3))


def change(erp: Erp, random: Random) -> None:
    """Parts that complete what was missing, a receipt too many, corrections, deletes, and another due date."""
    erp.put("receipts", *(receipt(1000 + n, n, 10, 6) for n in range(1, 12)))
    erp.put("invoices", *(invoice(1000 + n, n, 10, 4) for n in range(1, 12)))
    erp.put("receipts", {"document": 21, "line_no": 1, "quantity": Decimal(11)})
    erp.put("invoices", {"invoice": 22, "line_no": 1, "amount": Decimal("26.00")})
    erp.remove("receipts", *[key for key in erp.rows["receipts"] if 30 < key[0] < 36])
    erp.remove("invoices", *[key for key in erp.rows["invoices"] if 40 < key[0] < 46])
    erp.remove("purchase_items", (40, 20))
    erp.put("purchase_items", {"order_no": 39, "item_no": 10, "due_on": DAY + timedelta(days=60)})


def check(erp: Erp, now: str) -> dict[str, int]:
    """Compare with the truth as of a time; the rows of each status."""
    assert erp.check("three_way_match", MATCH.format(now=now)) > 70
    return dict(erp.found(STATUSES))


def test_the_status_follows_every_document_and_the_clock(
    broker: str, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each time it is the SQL of the source's tables as of then, with nothing new in the topics but what changed."""
    erp, random = Erp("three_way_match", broker, postgres, tmp_path), Random(5)
    fill(erp, random)
    times = ["2026-03-02T20:59:59Z", "2026-03-02T21:00:00Z", "2026-03-06T12:00:00Z", "2026-04-01T00:00:00Z"]
    seen = []
    for place, now in enumerate(times):
        if place == 2:
            change(erp, random)
        erp.run(processes=1 + place % 2, HEADRACE_CLOCK=now)
        seen.append(check(erp, now))
        assert erp.verify(monkeypatch, HEADRACE_CLOCK=now).equal
    assert "overdue" not in seen[0] and seen[0].keys() == {"open", "under", "matched"}
    # midnight in Istanbul: what was due on the 2nd and has no match turns, and nothing else does
    assert 0 < seen[1]["overdue"] < seen[0]["open"] + seen[0]["under"] and seen[1]["matched"] == seen[0]["matched"]
    assert seen[2]["over"] >= 2
    assert seen[3]["open"] + seen[3].get("under", 0) == 2  # without a due date, and the one that was put off
    erp.run(HEADRACE_CLOCK=times[0])  # a clock that was set back
    assert check(erp, times[3]) == seen[3]


def test_killed_at_midnight(broker: str, postgres: str, tmp_path: Path) -> None:
    """Processes that are killed while a day's rows turn end with the truth, and no row is left behind."""
    erp, random = Erp("three_way_match", broker, postgres, tmp_path), Random(6)
    fill(erp, random)
    erp.run(processes=2, HEADRACE_CLOCK="2026-03-02T12:00:00Z")
    for seconds in (1.6, 1.9, 2.2):
        erp.start(seconds, processes=2, HEADRACE_CLOCK="2026-03-05T21:00:00Z")
    erp.run(HEADRACE_CLOCK="2026-03-05T21:00:00Z")
    assert check(erp, "2026-03-05T21:00:00Z")["overdue"] > 5

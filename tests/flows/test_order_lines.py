"""flows/pipelines/order_lines.toml and revenue.toml: what changes on any side is in the lines and in the sums."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.flows.erp_flows import Erp

START = datetime(2026, 3, 2, 8)
LINES = """
    SELECT i.*, o.status, o.customer_id, c.name AS customer_name, c.country
    FROM erp.items i JOIN erp.orders o ON i.order_id = o.id JOIN erp.customers c ON o.customer_id = c.id
"""
REVENUE = """
    SELECT o.customer_id, c.country, o.currency, date_trunc('hour', o.ordered_at) AS window_start,
        date_trunc('hour', o.ordered_at) + interval '1 hour' AS window_end,
        sum(i.quantity * i.unit_price * (1 - i.discount)) AS revenue, count(*) AS lines
    FROM erp.items i JOIN erp.orders o ON i.order_id = o.id JOIN erp.customers c ON o.customer_id = c.id
    GROUP BY 1, 2, 3, 4, 5
"""


def customer(number: int, **changes: Any) -> dict[str, Any]:
    row = {"id": number, "name": f"Müşteri {number}", "country": "TR", "credit_limit": Decimal("1000.50")}
    return {**row, "updated_at": START, **changes}


def order(number: int, random: Random) -> dict[str, Any]:
    return {
        "id": number,
        "customer_id": random.randint(1, 8),  # customers 7 and 8 do not exist at first
        "status": random.choice(["OPEN", "SHIPPED"]),
        "currency": random.choice(["TRY", "EUR"]),
        "ordered_at": START + timedelta(minutes=random.randint(0, 300)),
    }


def item(number: int, line: int, random: Random) -> dict[str, Any]:
    return {
        "order_id": number,
        "line_no": line,
        "sku": f"MAT-{random.randint(1, 9)}",
        "quantity": random.randint(-3, 20),
        "unit_price": Decimal(random.randint(1, 10**8)) / 10000,
        "discount": Decimal(random.randint(0, 50)) / 100,
        "note": None,
        "created_at": START,
    }


def day_one(erp: Erp, random: Random) -> None:
    """Lines before their orders, orders before their customers."""
    erp.put("items", *(item(number, line, random) for number in range(1, 45) for line in range(1, 5)))
    erp.put("orders", *(order(number, random) for number in range(1, 41)))  # lines of 41 to 44 wait
    erp.put("customers", *(customer(number) for number in range(1, 7)))


def day_two(erp: Erp, random: Random) -> None:
    """Every side changes: lines change and go, orders change hands and hours, customers move, come and go."""
    erp.put("items", *({"order_id": n, "line_no": 1, "quantity": 7} for n in range(1, 20)))
    erp.remove("items", *((number, 2) for number in range(5, 25)))
    erp.put("orders", *({"id": n, "ordered_at": START - timedelta(days=9)} for n in (1, 2, 3)))  # days late
    erp.put("orders", {"id": 4, "customer_id": 7}, {"id": 5, "customer_id": None}, order(41, random))
    erp.put("customers", customer(7), {"id": 2, "country": "DE"}, {"id": 3, "name": "Yeni"})
    erp.remove("customers", (1,))
    erp.remove("orders", (6,))
    erp.put("items", item(6, 1, random), item(7, 9, random))


@pytest.mark.parametrize(("name", "truth"), [("order_lines", LINES), ("revenue", REVENUE)])
def test_every_side_changes(
    name: str, truth: str, broker: str, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each day the table is the SQL of the source's tables, in one process, in two, and with a kill between."""
    erp, random = Erp(name, broker, postgres, tmp_path), Random(1)
    day_one(erp, random)
    erp.run()
    first = erp.check(name, truth)
    day_two(erp, random)
    erp.start(seconds=2.0)
    erp.run(processes=2)
    assert erp.check(name, truth) != first > 20
    assert erp.found("SELECT * FROM headrace_dead_letters") == []
    assert erp.verify(monkeypatch).equal


def test_an_amount_is_exact_and_one_that_does_not_fit_is_no_revenue(broker: str, postgres: str, tmp_path: Path) -> None:
    """2 lines at 0.0001 and 99,999,999.9999 add up to the digit; one above 18 digits is a dead letter of its own."""
    erp, random = Erp("revenue", broker, postgres, tmp_path, partitions=1), Random(2)
    erp.put("customers", customer(1))
    erp.put("orders", {**order(1, random), "customer_id": 1})
    price = [Decimal("0.0001"), Decimal("99999999.9999"), Decimal("99999999999999.9999")]
    lines = [{**item(1, n, random), "unit_price": p, "discount": Decimal("0.01")} for n, p in enumerate(price)]
    erp.put("items", *({**line, "quantity": 3} for line in lines))
    erp.run()
    expected = 3 * (price[0] + price[1]) * (1 - Decimal("0.01"))
    assert erp.found("SELECT revenue, lines FROM revenue") == [(expected, 2)]
    ((step, key),) = erp.found("SELECT step, key_text FROM headrace_dead_letters")
    assert (step, key) == ("select-items", '{"order_id": 1, "line_no": 2}')

"""flows/pipelines/erp: one business in the tables of three ERP systems becomes the same canonical tables."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from flows.testing import run_flow
from tests.flows.canonical import KEYS, SYSTEMS, Business
from tests.flows.erp_flows import PIPELINES, Erp

KAFKA = '[source.kafka]\nservers = "127.0.0.1:9092"\n'
BOOK = """
    SELECT l.company, l.order_id, l.line_id, o.customer_id, c.name, c.country, m.kind, l.net_amount, o.ordered_on,
        CASE WHEN l.is_cancelled THEN 'cancelled' ELSE o.status END
    FROM canonical.sales_order_line l JOIN canonical.sales_order o USING (company, order_id)
    LEFT JOIN canonical.customer c USING (company, customer_id)
    LEFT JOIN canonical.material m ON m.company = l.material_company AND m.material_id = l.material_id
"""
BOOKED = """
    SELECT company, order_id, line_id, customer_id, customer_name, country, material_kind, net_amount, ordered_on,
        status
    FROM order_book
"""
OPEN = """
    SELECT l.line_id, CASE WHEN is_cancelled THEN 'cancelled' WHEN coalesce(received_quantity, 0) = 0 THEN 'open'
        WHEN received_quantity < quantity THEN 'partly received' WHEN received_quantity = quantity THEN 'received'
        ELSE 'over' END
    FROM canonical.purchase_order_line l LEFT JOIN canonical.receipt r USING (company, order_id, line_id)
"""


def over_topics(system: str, directory: Path) -> Path:
    """The system's pipeline file with a topic for each table in the place of its own source."""
    text = (PIPELINES / "erp" / f"{system}.toml").read_text("utf-8")
    text, count = re.subn(r"\[source\.\w+\]\n(.+\n)+", KAFKA, text)
    assert count == 1
    file = directory / f"{system}.toml"
    file.write_text(text, "utf-8")
    return file


def tell(erp: Erp, rows: list[tuple[str, dict[str, Any]]]) -> None:
    """Send what is new or other than before, and the deletes of what is gone."""
    wanted: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {table: {} for table in erp.tables}
    for table, row in rows:
        wanted[table][tuple(row[name] for name in erp.tables[table].key or ())] = row
    for table, of_table in wanted.items():
        erp.put(table, *(row for key, row in of_table.items() if erp.rows[table].get(key) != row))
        erp.remove(table, *[key for key in list(erp.rows[table]) if key not in of_table])


def canonical(dsn: str) -> dict[str, set[tuple[Any, ...]]]:
    """The canonical tables, their columns in the order of their names; each has its key."""
    found = {}
    with psycopg.connect(dsn, autocommit=True) as connection:
        for table, key in KEYS.items():
            cursor = connection.execute(f"SELECT * FROM canonical.{table}")  # type: ignore[call-overload]
            names = [column.name for column in cursor.description or ()]
            order = [names.index(name) for name in sorted(names)]
            rows = [tuple(row[at] for at in order) for row in cursor.fetchall()]
            assert len({tuple(row[sorted(names).index(name)] for name in key) for row in rows}) == len(rows)
            found[table] = set(rows)
    return found


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_system_gives_the_same_canonical_tables(
    system: str, broker: str, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables of each system, before and after a day of changes and a kill, are the business's own in one shape."""
    file = over_topics(system, tmp_path)
    erp, business = Erp(str(file.with_suffix("")), broker, postgres, tmp_path), Business.drawn(Random(7))
    tell(erp, SYSTEMS[system](business))
    erp.run()
    assert canonical(postgres) == business.truth()
    later = business.changed(Random(8))
    tell(erp, SYSTEMS[system](later))
    erp.start(seconds=1.5, processes=2)
    erp.run()
    assert canonical(postgres) == later.truth()
    assert erp.verify(monkeypatch).equal


def test_one_flow_serves_what_any_system_filled(broker: str, postgres: str, tmp_path: Path) -> None:
    """order_book.toml over the canonical tables is the SQL over them, and follows their changes."""
    file = over_topics("dynamics", tmp_path)
    erp, business = Erp(str(file.with_suffix("")), broker, postgres, tmp_path), Business.drawn(Random(9))
    book = PIPELINES / "erp" / "order_book.toml"
    (tmp_path / "book").mkdir()
    for random in (Random(1), Random(2)):
        tell(erp, SYSTEMS["dynamics"](business))
        erp.run()
        environment = {"CANONICAL_DSN": postgres, "WAREHOUSE_DSN": postgres}
        flow = f"flows.build:flow('{book}', until_end=True)"
        assert run_flow(flow, tmp_path / "book", environment=environment) == [0]
        with psycopg.connect(postgres, autocommit=True) as connection:
            expected, booked = (sorted(connection.execute(query).fetchall(), key=str) for query in (BOOK, BOOKED))
            assert booked == expected and len(booked) > 20
            states = connection.execute("SELECT line_id, status FROM purchase_lines").fetchall()
            assert set(states) == set(connection.execute(OPEN).fetchall())
        business = business.changed(random)

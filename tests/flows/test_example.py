"""The example flow and the worked pipelines run as their first lines say, are killed, and go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.kafka.topics import produce
from control.embedded import Tansu
from flows import examples, pipelines
from flows.testing import run_flow, run_killed_and_resumed
from tests.flows.debezium import change
from tests.flows.recorded import fill

PIPELINES = Path(pipelines.__file__).parent


def customer(number: int, name: str | None) -> dict[str, Any]:
    """A row as Debezium sends it."""
    return {"id": number, "name": name, "country": "TR", "credit_limit": "1000.50", "updated_at": 1_795_233_530_708_349}


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    """What a query gives."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def test_the_example_survives_kills(broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path) -> None:
    """A step of one's own between source and sink: names in capitals, a bad row aside, SIGKILL in between."""
    name = topic(2)
    changes = [change("c", None, customer(number, f"Müşteri {number}"), ["id"]) for number in range(300)]
    changes += [change("c", None, customer(1000, "42"), ["id"]), change("c", None, customer(1001, None), ["id"])]
    changes += [change("d", customer(7, "Müşteri 7"), None, ["id"])]
    produce(broker, name, changes)
    flow = (
        f"flows.examples.uppercase:flow('{PIPELINES / 'customers.toml'}', until_end=True, "
        f"source__kafka__servers='{broker}', source__kafka__batch_rows_max=20, tables__customers__topic='{name}')"
    )
    codes = run_killed_and_resumed(flow, tmp_path, [1.3, 1.6], environment={"WAREHOUSE_DSN": postgres})
    assert codes[-1] == [0], (tmp_path / "process-0.log").read_text()[-3000:]
    found = dict(rows(postgres, "SELECT id, name FROM customers"))
    assert found == {**{number: f"MÜŞTERI {number}" for number in range(300) if number != 7}, 1001: None}
    letters = rows(postgres, "SELECT step, key_text, error FROM headrace_dead_letters")
    assert letters == [("upper", '{"id": 1000}', "ValueError: expected a name with a letter in it")]


def test_the_items_pipeline_runs(broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path) -> None:
    """flows/pipelines/items.toml by `python -m bytewax.run`, in two processes."""
    name = topic(2)
    line = {
        "order_id": 1,
        "line_no": 1,
        "sku": "MAT-1",
        "quantity": 3,
        "unit_price": "12.3456",
        "discount": "0.10",
        "note": None,
        "created_at": 0,
    }
    key = ["order_id", "line_no"]
    lines = [{**line, "line_no": number} for number in range(1, 101)]
    changes = [change("c", None, row, key) for row in lines]
    changes += [change("u", lines[0], {**lines[0], "quantity": 9}, key), change("d", lines[1], None, key)]
    produce(broker, name, changes)
    flow = (
        f"flows.build:flow('{PIPELINES / 'items.toml'}', until_end=True, source__kafka__servers='{broker}', "
        f"tables__items__topic='{name}')"
    )
    codes = run_flow(flow, tmp_path, processes=2, environment={"WAREHOUSE_DSN": postgres})
    assert codes == [0, 0], (tmp_path / "process-0.log").read_text()[-3000:]
    assert rows(postgres, "SELECT count(*), sum(quantity), min(unit_price)::text FROM order_lines") == [
        (99, 303, "12.3456")
    ]


@pytest.fixture
def erp() -> Iterator[str]:
    """A broker of its own with the recorded stream under the prefix `erp`."""
    with Tansu() as broker:
        fill(broker.servers, "sp", prefix="erp", leave_out={"truncme", "alltypes"})
        yield broker.servers


def test_the_erp_pipeline_runs(erp: str, postgres: str, tmp_path: Path) -> None:
    """flows/pipelines/erp.toml takes a schema's tables with their types, one of them filtered and renamed."""
    flow = f"flows.build:flow('{PIPELINES / 'erp.toml'}', until_end=True, source__kafka__servers='{erp}')"
    assert run_flow(flow, tmp_path, environment={"WAREHOUSE_DSN": postgres}) == [0], (
        tmp_path / "process-0.log"
    ).read_text()
    tables = {name for (name,) in rows(postgres, "SELECT tablename FROM pg_tables WHERE schemaname = 'erp'")}
    assert {"public_customers", "public_items", "public_orders", "public_nokey"} <= tables
    assert rows(postgres, "SELECT count(*) FROM erp.public_items") == [(38,)]
    columns = rows(
        postgres,
        "SELECT attname FROM pg_attribute WHERE attrelid = 'erp.public_orders'::regclass AND attnum > 0 ORDER BY 1",
    )
    assert [name for (name,) in columns] == ["currency", "customer_id", "id", "order_time", "status"]


def test_the_example_is_a_dozen_lines() -> None:
    """Without its docstrings, imports and blanks the example is as short as it promises."""
    text = (Path(examples.__file__).parent / "uppercase.py").read_text(encoding="utf-8")
    body = text[text.index("def uppercase") :].splitlines()
    code = [line for line in body if line.strip() and not line.strip().startswith('"""')]
    assert len(code) <= 16

"""A topic in Avro, its schemas in a directory, through broker and dataflow into PostgreSQL, with a kill in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.kafka.topics import produce
from flows import spec
from flows.testing import run_killed_and_resumed
from libcore.errors import ConfigurationError
from tests.connectors.avro_parts import Registry

MONEY = {
    "type": "bytes", "scale": 2, "precision": 18, "connect.version": 1, "logicalType": "decimal",
    "connect.parameters": {"scale": "2", "connect.decimal.precision": "18"},
    "connect.name": "org.apache.kafka.connect.data.Decimal",
}  # fmt: skip
KEY = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}
FILE = """
name = "avro"
[source.kafka]
servers = "{servers}"
format = "debezium-avro"
batch_rows_max = 20
[source.kafka.registry]
directory = "{directory}"
[tables.customers]
topic = "{topic}"
[sink.postgres]
dsn = "env:WAREHOUSE_DSN"
table = "customers"
"""


def schema(*more: str) -> dict[str, Any]:
    """The envelope of a customer, `more` nullable text columns behind."""
    fields: list[dict[str, Any]] = [
        {"name": "id", "type": "long"}, {"name": "name", "type": ["null", "string"]},
        {"name": "credit", "type": ["null", MONEY]},
        {"name": "since", "type": {"type": "int", "connect.name": "io.debezium.time.Date"}},
        *({"name": name, "type": ["null", "string"]} for name in more),
    ]  # fmt: skip
    row = {"type": "record", "name": "Value", "fields": fields}
    source = [{"name": "connector", "type": "string"}, {"name": "ts_ms", "type": "long"}]
    source += [{"name": "snapshot", "type": "string"}, {"name": "lsn", "type": "long"}]
    source += [{"name": "sequence", "type": "string"}]
    members = [
        {"name": "before", "type": ["null", row]}, {"name": "after", "type": ["null", "Value"]},
        {"name": "source", "type": {"type": "record", "name": "Source", "fields": source}},
        {"name": "op", "type": "string"},
    ]  # fmt: skip
    return {"type": "record", "name": "Envelope", "fields": members}


def test_avro_reaches_the_target_through_kills(
    broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path
) -> None:
    """Creates, updates, deletes and a new column, killed on the way: the table ends equal to the last state."""
    from decimal import Decimal

    name, registry, lsn = topic(1), Registry(), iter(range(1000, 9000))

    def message(op: str, number: int, after: Any, envelope: Any) -> tuple[bytes, bytes]:
        place = next(lsn)
        source = {"connector": "postgresql", "ts_ms": 1_795_233_611_000, "snapshot": "false", "lsn": place}
        source |= {"sequence": f'["{place}","{place}"]'}
        before = {"id": number, "name": None, "credit": None, "since": 0} if op == "d" else None
        datum = {"before": before, "after": after, "source": source, "op": op}
        return registry.framed(KEY, {"id": number}), registry.framed(envelope, datum)

    def customer(number: int, **more: Any) -> dict[str, Any]:
        credit = Decimal(number).scaleb(-2) - 1
        return {"id": number, "name": f"Müşteri {number}", "credit": credit, "since": 20_000 + number, **more}

    changes = [message("c", number, customer(number), schema()) for number in range(200)]
    changes += [message("d", 7, None, schema()), (changes[7][0], None)]  # type: ignore[list-item]
    changes += [message("u", 8, customer(8, city="İzmir"), schema("city"))]
    produce(broker, name, changes)
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    for number, text in enumerate(registry.texts, 1):
        (schemas / f"{number}.avsc").write_text(text)
    file = tmp_path / "avro.toml"
    file.write_text(FILE.format(servers=broker, directory=schemas, topic=name))
    flow = f"flows.build:flow('{file}', until_end=True)"
    codes = run_killed_and_resumed(flow, tmp_path, [1.2], environment={"WAREHOUSE_DSN": postgres})
    assert codes[-1] == [0], (tmp_path / "process-0.log").read_text()[-3000:]
    with psycopg.connect(postgres) as connection:
        query = "SELECT count(*), sum(credit), min(since)::text, max(city) FROM customers"
        found = connection.execute(query).fetchone()
        gone = connection.execute("SELECT count(*) FROM customers WHERE id = 7").fetchone()
    credits = sum(Decimal(number).scaleb(-2) - 1 for number in range(200) if number != 7)
    assert found == (199, credits, "2024-10-04", "İzmir")
    assert gone == (0,)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('format = "debezium-avro"', 'format = "debezium-json"', "beside format"),
        ("directory =", "folder =", "folder"),
        ('directory = "d"', 'url = "registry:8081"', "begins with http"),
    ],
)
def test_a_wrong_registry_section_names_its_line(old: str, new: str, expected: str) -> None:
    """What does not fit in [source.kafka.registry] is refused with file and line."""
    text = FILE.format(servers="h:1", directory="d", topic="t").replace(old, new)
    with pytest.raises(ConfigurationError, match=expected) as refused:
        spec.parse(text, "avro.toml")
    assert refused.value.line is not None

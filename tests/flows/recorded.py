"""The recorded Debezium streams of tests/golden/debezium: into a broker, as a pipeline file, and the SQL's truth."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import psycopg

from connectors.kafka.topics import Producer, create_topics

GOLDEN = Path(__file__).parent.parent / "golden" / "debezium"
# Topics loaded into one partition: elsewhere the order of a truncate, of a dropped column, against the rows is unknown.
IN_ORDER = ("truncme", "orders")
SQL_FILES = ("src.sql", "changes0.sql", "changes1.sql", "changes2.sql")

DATED_ORDER = 13  # its due_on is the day of the recording, current_date in the SQL
# now() cannot be run again: the truth takes these columns from the recorded messages. (table, key column, column)
NOW_COLUMNS = [
    ("customers", "id", "updated_at"),
    ("orders", "id", "ordered_at"),
    ("items", "created_at", "created_at"),
    ("full_ident", "id", "ts"),
    ("heartbeat_t", "id", "ts"),
]

ALLTYPES = {
    "id": "int64", "i": "int32", "s": "int16", "n": "decimal(18,4)", "nn": "numeric", "n0": "decimal(20,0)",
    "m": "decimal(20,2)", "r": "float32", "d8": "float64", "d": "date", "ts": "timestamp",
    "ts3": {"type": "timestamp", "unit": "ms"}, "ts0": {"type": "timestamp", "unit": "ms"}, "tz": "timestamptz",
    "t": "time", "t3": {"type": "time", "unit": "ms"}, "ttz": "timetz", "iv": "interval", "u": "uuid", "j": "json",
    "jj": "json", "x": "string", "tx": "string", "vc": "string", "ch": "string", "ba": "bytes", "b": "bool",
    "ai": "array(int32)", "at": "array(string)", "an": "array(decimal(10,2))", "ats": "array(timestamptz)",
    "e": "string", "ip": "string", "cd": "string", "mc": "string", "rng": "string", "tsr": "string",
    "bits": {"type": "bits", "length": 5}, "vb": {"type": "bits", "length": 8}, "hs": "string", "pt": "json",
    "oidc": "int64", "big": "string", "big2": "bytes", "em": "string", "ema": "array(string)", "h": "json",
    "lt": "string", "ct": "string", "dom": "int32",
}  # fmt: skip
CUSTOMERS = {
    "id": "int64", "name": "string", "country": "string", "credit_limit": "decimal(18,2)", "updated_at": "timestamp",
    "vip": "bool",
}  # fmt: skip
ORDERS = {
    "id": "int64", "customer_id": "int64", "status": "string", "currency": "string", "ordered_at": "timestamp",
    "due_on": "date",
}  # fmt: skip
ITEMS = {
    "order_id": "int64", "line_no": "int64", "sku": "string", "quantity": "int32", "unit_price": "decimal(18,4)",
    "discount": "decimal(5,2)", "note": "string", "created_at": "timestamp",
}  # fmt: skip
FULL_IDENT = {
    "id": "int64", "k": "string", "big": "string", "v": "decimal(18,4)", "j": "json", "ts": "timestamptz",
}  # fmt: skip
DECLARED: dict[str, tuple[list[str], dict[str, Any]]] = {
    "customers": (["id"], CUSTOMERS),
    "orders": (["id"], ORDERS),
    "items": (["order_id", "line_no"], ITEMS),
    "alltypes": (["id"], ALLTYPES),
    "full_ident": (["id"], FULL_IDENT),
    "nokey": ([], {"a": "int32", "b": "string"}),
    "Odd_Name-_": (["Key Col"], {"Key Col": "int32", "wert ß": "string", "select": "string"}),
    "truncme": (["id"], {"id": "int32", "v": "string"}),
    "heartbeat_t": (["id"], {"id": "int32", "ts": "timestamptz"}),
    "dbz_signal": (["id"], {"id": "string", "type": "string", "data": "string"}),
}
# A text column that shall be what it is at the source: json keeps duplicate keys, character(5) its length.
TARGET_TYPES = {"jj": "json", "ch": "character(5)"}


def messages(stream: str) -> list[dict[str, Any]]:
    """The recorded messages of "ns" or "sp", by topic, partition and offset."""
    lines = (GOLDEN / f"{stream}.ndjson").read_text(encoding="utf-8").splitlines()
    return sorted((json.loads(line) for line in lines), key=lambda m: (m["topic"], m["partition"], m["offset"]))


def payload(text: str | None) -> dict[str, Any] | None:
    """A message's envelope, without a schema part."""
    value = None if text is None else json.loads(text)
    return value["payload"] if isinstance(value, dict) and "payload" in value else value


def fill(servers: str, stream: str, *, prefix: str = "", leave_out: Collection[str] = ()) -> None:
    """Load the stream into topics of the recorded names, partitions, keys, values and order.

    Tables of IN_ORDER get one partition, in the source's order, as a connector writes them into such a topic.

    Args:
        servers: the broker. stream: "ns" or "sp".
        prefix: topic prefix in place of the stream's own.
        leave_out: tables that are not loaded.
    """
    found = [message for message in messages(stream) if message["topic"].rpartition(".")[2] not in leave_out]
    for message in found:
        if message["topic"].rpartition(".")[2] in IN_ORDER:
            message["partition"], message["order"] = 0, _lsn(message)
        if prefix:
            message["topic"] = message["topic"].replace(f"{stream}.", f"{prefix}.", 1)
    found.sort(key=lambda message: message.get("order", 0))
    create_topics(
        servers, {m["topic"]: max(o["partition"] for o in found if o["topic"] == m["topic"]) + 1 for m in found}
    )
    producer = Producer(servers)
    for message in found:
        key, value = message["key"], message["value"]
        raw = (None if not key else key.encode(), None if value is None else value.encode(), message["partition"])
        producer.write(message["topic"], [raw])
    producer.flush()


def pipeline_text(stream: str, servers: str) -> str:
    """The pipeline file: "sp" messages bring their schema part along, "ns" columns are declared."""
    head = (
        f'name = "recorded-{stream}"\n[source.kafka]\nservers = "{servers}"\n[sink.postgres]\ndsn = "env:TARGET_DSN"\n'
    )
    settings = {
        "truncme": 'on_truncate = "apply"',
        "orders": 'on_schema_change = "follow"',
        "alltypes": f"types = {_inline(TARGET_TYPES)}",
    }
    text = head + (f'[tables.all]\ntopic = "{stream}.public.*"\n' if stream == "sp" else "")
    for table, (key, columns) in DECLARED.items():
        if stream == "sp" and table not in settings:
            continue
        text += f'[tables."{table}"]\ntopic = "{stream}.public.{table}"\n{settings.get(table, "")}\n'
        if stream == "ns":
            text += f'key = {json.dumps(key)}\n[tables."{table}".columns]\n'
            text += "".join(
                f"{json.dumps(name, ensure_ascii=False)} = {_inline(kind)}\n" for name, kind in columns.items()
            )
    return text


def make_truth(connection: psycopg.Connection[Any], stream: str) -> None:
    """Run the recorded SQL in schema `truth`. What now() and current_date gave, and the rows that Debezium itself wrote
    into its signal table (the borders of an incremental snapshot's windows), are taken from the messages."""
    connection.execute("CREATE SCHEMA truth; SET search_path = truth; SET TimeZone = 'UTC'")
    (day,) = (row["due_on"] for row in last_rows(stream, "orders").values() if row["id"] == DATED_ORDER)
    for name in SQL_FILES:
        for statement in _statements((GOLDEN / name).read_text(encoding="utf-8")):
            connection.execute(statement.replace("current_date", f"date '1970-01-01' + {day}"))
    for row in last_rows(stream, "dbz_signal").values():
        connection.execute(
            "INSERT INTO truth.dbz_signal VALUES (%(id)s, %(type)s, %(data)s) ON CONFLICT DO NOTHING", row
        )
    for table, key, column in NOW_COLUMNS:
        for row in last_rows(stream, table).values():
            moment = row[column]
            if moment is None or (isinstance(moment, int) and moment > 4 * 10**18):  # NULL, infinity
                continue
            value = (
                f"timestamp '1970-01-01' + {moment} * interval '1 microsecond'"
                if isinstance(moment, int)
                else f"'{moment}'"
            )
            where = (
                f"order_id = {row['order_id']} AND line_no = {row['line_no']}"
                if table == "items"
                else f"{key} = {row[key]}"
            )
            connection.execute(f"UPDATE truth.{table} SET {column} = {value} WHERE {where}")


def last_rows(stream: str, table: str) -> dict[str, dict[str, Any]]:
    """The last row of each key of a recorded topic, as plain JSON, by the message key's text."""
    rows: dict[str, dict[str, Any]] = {}
    for message in messages(stream):
        if message["topic"] == f"{stream}.public.{table}":
            envelope = payload(message["value"])
            if envelope is not None and envelope.get("after") is not None:
                rows[json.dumps(payload(message["key"]))] = envelope["after"]
    return rows


def _statements(sql: str) -> Iterable[str]:
    """One statement at a time, outside of a block of ours: the files have their own BEGIN, SAVEPOINT and ROLLBACK."""
    return [statement for statement in sql.split(";\n") if statement.strip()]


def _lsn(message: dict[str, Any]) -> int:
    envelope = payload(message["value"])
    return int(envelope["source"]["lsn"]) if envelope else 0


def _inline(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{ " + ", ".join(f"{name} = {json.dumps(item)}" for name, item in value.items()) + " }"

"""Windows that close: each is told once, when the watermark of the sources has passed it, and late rows are kept."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from connectors.kafka.topics import create_topics, produce
from control.embedded import EmbeddedPostgres
from flows import build, reading
from flows.testing import run_flow
from libcore.errors import ConfigurationError
from tests.connectors.window_parts import closed, found, has_read, hourly
from tests.flows.debezium import change

PIPELINE = """
name = "hourly"
{source}
[tables.orders]
topic = "{topic}"
key = ["id"]
rename = {{ at = "ordered_at" }}
[tables.orders.columns]
id = "int64"
customer = "string"
at = "timestamp"
[[step]]
select = {{ shop = "upper(customer)" }}
of = "orders"
"""
KAFKA = '[source.kafka]\nservers = "{}"'
SQLITE = '[source.{}]\npath = "erp.db"\nfollow = "triggers"\npoll_s = 0.02'
POSTGRES = '[source.postgres]\ndsn = "env:ERP_DSN"\nslot = "{}"'
LATE = "SELECT shop, ordered_at::time::text FROM hourly_late"


def row(number: int, at: str, customer: str = "a") -> tuple[bytes | None, bytes]:
    micros = int((datetime.fromisoformat(f"2026-03-02T{at}") - datetime(1970, 1, 1)).total_seconds()) * 1_000_000
    key, value = change("c", None, {"id": number, "customer": customer, "at": micros}, ["id"])
    # a connector that tells positions: without them a created row could be one of the snapshot
    return key, value.replace(b'"source": {', b'"source": {"connector": "postgresql", ')


def written(file: Path, source: str, topic: str) -> str:
    """A pipeline file over that table, and its text."""
    text = PIPELINE.format(source=source, topic=topic) + hourly("orders", "shop", "ordered_at")
    file.write_text(text)
    return text


def rows_of(dsn: str, table: str) -> int:
    """Rows of a table; 0 while it is not there."""
    return int((found(dsn, f"SELECT count(*) FROM {table}") or [(0,)])[0][0])


def live(file: Path, dsn: str, processes: int, ready: Callable[[], bool], **environment: str) -> None:
    """Run until that is so, then two seconds more, in which nothing else may come; then kill."""
    run_flow(
        f"flows.build:flow({str(file)!r})",
        file.parent,
        processes=processes,
        kill_after_s=2.0,
        ready=ready,
        environment={"WAREHOUSE_DSN": dsn, **environment},
    )


def told(dsn: str, windows: int, late: int) -> bool:
    """Whether so many windows are closed, and so many rows came late."""
    return (rows_of(dsn, "hourly"), rows_of(dsn, "hourly_late")) == (windows, late)


def test_a_window_is_told_once_and_late_rows_lie_beside_it(broker: str, postgres: str, tmp_path: Path) -> None:
    """Closed windows come when time has passed them, open ones stay open over a kill, a late row changes nothing."""
    topic = f"t{uuid.uuid4().hex[:8]}.public.orders"
    create_topics(broker, {topic: 1})
    file = tmp_path / "hourly.toml"
    written(file, KAFKA.format(broker), topic)
    first = [row(1, "08:10"), row(2, "08:50", "A"), row(3, "09:10", "b"), row(4, "10:05")]
    produce(broker, topic, first)
    live(file, postgres, 1, lambda: told(postgres, windows=2, late=0))
    assert closed(postgres, "shop") == [("A", "08:00:00", 2), ("B", "09:00:00", 1)]
    produce(broker, topic, [row(5, "08:20"), row(6, "10:40"), row(7, "11:00")])
    live(file, postgres, 2, lambda: told(postgres, windows=3, late=1))
    assert closed(postgres, "shop") == [("A", "08:00:00", 2), ("A", "10:00:00", 2), ("B", "09:00:00", 1)]
    assert found(postgres, LATE) == [("A", "08:20:00")]


@pytest.mark.parametrize("source", ["sqlite", "sqlite.erp", "postgres"])
def test_windows_close_over_a_table_that_is_read_directly(
    source: str, postgres: str, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Rows of the snapshot close nothing, changes do; the rest as with a topic, also where the source has a name."""
    erp = f"erp_{uuid.uuid4().hex[:8]}"
    is_postgres = source == "postgres"
    dsn = postgres_server.create_database(erp) if is_postgres else ""
    text = POSTGRES.format(erp) if is_postgres else SQLITE.format(source)
    file = tmp_path / "hourly.toml"
    written(file, text, "public.orders" if is_postgres else "orders")

    def write(*statements: str) -> None:
        if is_postgres:
            with psycopg.connect(dsn, autocommit=True) as server:
                for statement in statements:
                    server.execute(statement)  # type: ignore[call-overload]
            return
        with closing(sqlite3.connect(tmp_path / "erp.db", isolation_level=None, timeout=30.0)) as database:
            for statement in statements:
                database.execute(statement)

    def insert(number: int, at: str, customer: str = "a") -> str:
        return f"INSERT INTO orders VALUES ({number}, '{customer}', '2026-03-02 {at}:00')"

    rows = [insert(1, "08:10"), insert(2, "08:50", "A"), insert(3, "09:10", "b"), insert(4, "10:05")]

    def written_behind_the_snapshot() -> bool:
        if rows and has_read(tmp_path):
            write(*rows)
            rows.clear()
        return not rows

    write(
        "CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL, at timestamp NOT NULL)",
        insert(0, "12:00", "later"),
    )
    live(file, postgres, 1, lambda: written_behind_the_snapshot() and told(postgres, 2, 0), ERP_DSN=dsn)
    assert closed(postgres, "shop") == [("A", "08:00:00", 2), ("B", "09:00:00", 1)]
    write(insert(5, "08:20"), insert(6, "10:40"), insert(7, "11:00"))
    live(file, postgres, 2, lambda: told(postgres, 3, 1), ERP_DSN=dsn)
    assert closed(postgres, "shop") == [("A", "08:00:00", 2), ("A", "10:00:00", 2), ("B", "09:00:00", 1)]
    assert found(postgres, LATE) == [("A", "08:20:00")]
    if is_postgres:
        postgres_server.drop_database(erp)


def test_a_computed_time_tells_no_lateness(broker: str, tmp_path: Path) -> None:
    """A window that closes needs a time that comes from a topic; the error names step and column."""
    topic = f"t{uuid.uuid4().hex[:8]}.public.orders"
    create_topics(broker, {topic: 1})
    file = tmp_path / "hourly.toml"
    text = written(file, KAFKA.format(broker), topic)
    file.write_text(text.replace('{ shop = "upper(customer)" }', '{ shop = "customer", ordered_at = "ordered_at" }'))
    pipeline = build.load(str(file))
    bindings = reading.bind(pipeline, str(file))
    with pytest.raises(ConfigurationError, match=r"window-hourly.*expected a column that comes from a topic"):
        build.make_steps(pipeline, str(file), None, bindings, build.make_shaper(pipeline, bindings))

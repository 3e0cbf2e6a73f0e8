"""Windows that close: each is told once, when the watermark of the sources has passed it, and late rows are kept."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from connectors.kafka.topics import create_topics, produce
from flows import build, reading
from flows.testing import run_flow
from libcore.errors import ConfigurationError
from tests.flows.debezium import change

PIPELINE = """
name = "hourly"
[source.kafka]
servers = "{servers}"
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
[[step]]
window = "orders"
by = ["shop"]
time = "ordered_at"
size = "1h"
aggregate = {{ orders = "count(*)" }}
emit = "final"
as = "hourly"
[sink.postgres]
dsn = "env:WAREHOUSE_DSN"
"""


def row(number: int, at: str, customer: str = "a") -> tuple[bytes | None, bytes]:
    micros = int((datetime.fromisoformat(f"2026-03-02T{at}") - datetime(1970, 1, 1)).total_seconds()) * 1_000_000
    key, value = change("c", None, {"id": number, "customer": customer, "at": micros}, ["id"])
    # a connector that tells positions: without them a created row could be one of the snapshot
    return key, value.replace(b'"source": {', b'"source": {"connector": "postgresql", ')


def found(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query).fetchall()  # type: ignore[call-overload,no-any-return]


def rows_of(dsn: str, table: str) -> int:
    """Rows of a table; 0 while it is not there."""
    if found(dsn, f"SELECT to_regclass('{table}')") == [(None,)]:
        return 0
    return int(str(found(dsn, f"SELECT count(*) FROM {table}")[0][0]))


def test_a_window_is_told_once_and_late_rows_lie_beside_it(broker: str, postgres: str, tmp_path: Path) -> None:
    """Closed windows come when time has passed them, open ones stay open over a kill, a late row changes nothing."""
    topic = f"t{uuid.uuid4().hex[:8]}.public.orders"
    create_topics(broker, {topic: 1})
    file = tmp_path / "hourly.toml"
    file.write_text(PIPELINE.format(servers=broker, topic=topic))

    def live(messages: Sequence[tuple[bytes | None, bytes]], processes: int, windows: int, late: int) -> None:
        """Run until that many rows are there, then two seconds more, in which nothing else may come; then kill."""
        produce(broker, topic, list(messages))
        run_flow(
            f"flows.build:flow({str(file)!r})",
            tmp_path,
            processes=processes,
            kill_after_s=2.0,
            ready=lambda: (rows_of(postgres, "hourly"), rows_of(postgres, "hourly_late")) == (windows, late),
            environment={"WAREHOUSE_DSN": postgres},
        )

    live([row(1, "08:10"), row(2, "08:50", "A"), row(3, "09:10", "b"), row(4, "10:05")], 1, windows=2, late=0)
    closed = "SELECT shop, window_start::time::text, orders FROM hourly ORDER BY 1, 2"
    assert found(postgres, closed) == [("A", "08:00:00", 2), ("B", "09:00:00", 1)]
    live([row(5, "08:20"), row(6, "10:40"), row(7, "11:00")], 2, windows=3, late=1)
    assert found(postgres, closed) == [("A", "08:00:00", 2), ("A", "10:00:00", 2), ("B", "09:00:00", 1)]
    assert found(postgres, "SELECT shop, ordered_at::time::text FROM hourly_late") == [("A", "08:20:00")]


def test_a_computed_time_tells_no_lateness(broker: str, tmp_path: Path) -> None:
    """A window that closes needs a time that comes from a topic; the error names step and column."""
    topic = f"t{uuid.uuid4().hex[:8]}.public.orders"
    create_topics(broker, {topic: 1})
    file = tmp_path / "hourly.toml"
    text = PIPELINE.format(servers=broker, topic=topic)
    file.write_text(text.replace('{ shop = "upper(customer)" }', '{ shop = "customer", ordered_at = "ordered_at" }'))
    pipeline = build.load(str(file))
    bindings = reading.bind(pipeline, str(file))
    with pytest.raises(ConfigurationError, match=r"window-hourly.*expected a column that comes from a topic"):
        build.make_steps(
            pipeline, str(file), None, bindings, build.make_shaper(pipeline, bindings), lambda table: False
        )

"""OpenLogReplicator's messages through a real broker into a real PostgreSQL: killed, told again, checked, verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from connectors.kafka.topics import produce
from flows import build, doctor, reading
from flows.testing import run_flow
from flows.verify import verify
from libcore.errors import ConfigurationError
from tests.connectors.olr_parts import Replicated

pytestmark = pytest.mark.real

_FILE = """
name = "erp"

[source.kafka]
servers = "{servers}"
format = "openlogreplicator"
topic = "{topic}"
batch_rows_max = 20

[tables.items]
topic = "ERP.ITEMS"
{columns}

[tables.orders]
topic = "ERP.ORDERS"
{columns}

[sink.postgres]
dsn = "env:TARGET_DSN"
table = "{{table}}"
"""
_COLUMNS = """key = ["ID"]
columns = { ID = "int64", NAME = "string", PRICE = "decimal(18,4)", AT = "timestamp", RAW = "bytes" }"""


def _pipeline(folder: Path, servers: str, topic: str) -> str:
    file = folder / "erp.toml"
    file.write_text(_FILE.format(servers=servers, topic=topic, columns=_COLUMNS), "utf-8")
    return str(file)


def _rows(dsn: str, table: str) -> dict[int, tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass(%s) IS NULL", [f'public."{table}"']).fetchall() == [(True,)]:
            return {}
        texts = f'SELECT "ID", "NAME", "PRICE", "AT"::text, "RAW" FROM "{table}"'
        return {row[0]: row for row in connection.execute(texts).fetchall()}


def _expected(row: dict[str, Any]) -> tuple[Any, ...]:
    at = row["AT"] and row["AT"].removesuffix("000Z").replace("T", " ").rstrip("0").rstrip(".")
    return (row["ID"], row["NAME"], row["PRICE"], at, row["RAW"])


def test_a_killed_flow_goes_on(
    tansu: str, topic: Callable[[int], str], postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with SIGKILL twice, and told again what is behind a checkpoint twice, it ends with the tables.

    `verify` proves it, until there is a message of which nobody can tell the table.
    """
    monkeypatch.setenv("TARGET_DSN", postgres)
    name, erp = topic(1), Replicated(Random(5), 0)
    file = _pipeline(tmp_path, tansu, name)

    def write(count: int, repeated: int) -> None:
        again = erp.messages[-repeated:] if repeated else []
        produce(tansu, name, [(None, text.encode()) for text in [*again, *erp.transactions(count)]])

    flow = f"flows.build:flow('{file}')"
    write(150, 0)
    killed = run_flow(flow, tmp_path, kill_after_s=0.0, ready=lambda: bool(_rows(postgres, "ITEMS")))
    write(100, 90)
    killed += run_flow(flow, tmp_path, kill_after_s=0.3)
    write(50, 200)
    ended = run_flow(f"flows.build:flow('{file}', until_end=True)", tmp_path)
    log = (tmp_path / "process-0.log").read_text()[-3000:]
    assert (killed, ended) == ([-9, -9], [0]), log
    for table, rows in erp.rows.items():
        assert _rows(postgres, table.partition(".")[2]) == {number: _expected(row) for number, row in rows.items()}
    monkeypatch.setenv("HEADRACE_STATE_DIR", str(tmp_path / "state"))
    report = verify(file)
    assert report.equal, list(report.lines())
    assert doctor.examine(file).healthy
    produce(tansu, name, [(None, b"{")])
    assert [table.unreadable for table in verify(file).tables] == [1, 1]


def test_the_topic_must_be_there_with_one_partition(
    tansu: str, topic: Callable[[int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic that does not exist, and one of two partitions, are refused with what was expected and found."""
    monkeypatch.setenv("TARGET_DSN", "postgresql://nobody@127.0.0.1/nothing")
    several = _pipeline(tmp_path, tansu, topic(2))
    with pytest.raises(ConfigurationError, match=r"source.kafka.topic: expected one partition of .*, found 2"):
        reading.bind(build.load(several), several)
    missing = _pipeline(tmp_path, tansu, "no-such-topic")
    with pytest.raises(ConfigurationError, match=r"source.kafka.topic: expected 'no-such-topic' at the broker"):
        reading.bind(build.load(missing), missing)

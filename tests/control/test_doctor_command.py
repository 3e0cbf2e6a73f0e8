"""`headrace doctor FILE` for every kind of source: what it finds, how it says it, and with which exit code."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from connectors.kafka.config import KafkaConfig
from connectors.kafka.doctor import examine
from connectors.kafka.topics import produce
from control.cli.main import app
from flows.ports import free_port

_TABLE = '[tables.items]\ntopic = "{}"\nkey = ["id"]\n[tables.items.columns]\nid = "int64"\n'


def _doctor(directory: Path, source: str, table: str, *options: str) -> Result:
    file = directory / "orders.toml"
    file.write_text(f'name = "orders"\n{source}\n{_TABLE.format(table)}[sink.null]\n', "utf-8")
    return CliRunner().invoke(app, ["doctor", str(file), *options])


def _json(directory: Path, source: str, table: str) -> tuple[int, dict[str, Any]]:
    result = _doctor(directory, source, table, "--json")
    return result.exit_code, json.loads(result.stdout)


def test_postgres(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error gives exit code 1 and its statement on a line of its own; after the statement it is 0."""
    monkeypatch.setenv("ERP_DSN", postgres)
    source = '[source.postgres]\ndsn = "env:ERP_DSN"\n[source.postgres.guardian]\nretained_bytes_max = 2000000000\n'
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id bigint NOT NULL UNIQUE)")
        result = _doctor(tmp_path, source, "public.items")
        statement = 'ALTER TABLE "public"."items" REPLICA IDENTITY USING INDEX "items_id_key"'
        assert result.exit_code == 1, result.output
        assert statement in [line.strip() for line in result.stdout.splitlines()]
        assert result.stdout.splitlines()[-1] == "orders: PostgreSQL, 1 error, 0 warnings, 1 note"
        connection.execute(statement.encode())
    code, report = _json(tmp_path, source, "public.items")
    assert (code, report["healthy"], [one["what"] for one in report["findings"]]) == (0, True, ["slot headrace_orders"])


def test_what_cannot_be_asked_is_a_finding(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is not there does not hide the rest; a database that does not answer is the finding."""
    monkeypatch.setenv("ERP_DSN", postgres)
    code, report = _json(tmp_path, '[source.postgres]\ndsn = "env:ERP_DSN"', "public.nothing")
    assert code == 1
    assert report["findings"][0]["what"] == "tables"
    assert "slot headrace_orders" in [one["what"] for one in report["findings"]]
    monkeypatch.setenv("ERP_DSN", f"postgresql://nobody@127.0.0.1:{free_port()}/erp")
    code, report = _json(tmp_path, '[source.postgres]\ndsn = "env:ERP_DSN"', "public.items")
    assert (code, [one["what"] for one in report["findings"]]) == (1, ["PostgreSQL"])


def test_a_wrong_file_is_said_as_everywhere(tmp_path: Path) -> None:
    """Exit code 78, the line on standard error, nothing on standard output."""
    result = _doctor(tmp_path, '[source.postgres]\ndsn = "postgresql://plain"', "public.items")
    assert (result.exit_code, result.stdout) == (78, "")


def test_kafka(broker: str, topic: Callable[[int], str], tmp_path: Path) -> None:
    """A topic that is there has no error; one that is not, and a cluster that does not answer, are errors."""
    name = topic(1)
    source = f'[source.kafka]\nservers = "{broker}"\n'
    assert _json(tmp_path, source, name)[0] == 0
    code, report = _json(tmp_path, source, "not-there")
    assert (code, report["findings"][0]["what"]) == (1, "topic not-there")
    assert report["findings"][0]["remedy"].startswith("kafka-topics.sh")
    code, report = _json(tmp_path, f'[source.kafka]\nservers = "127.0.0.1:{free_port()}"\nconnect_s_max = 1\n', name)
    assert (code, [one["what"] for one in report["findings"]]) == (1, ["cluster"])


@pytest.mark.parametrize(("position", "what"), [(2, None), (3, None), (9, "made anew")])
def test_a_position_against_what_the_topic_keeps(
    broker: str, topic: Callable[[int], str], position: int, what: str | None
) -> None:
    """A durable position within the topic is right, one beyond its end means that it was made anew."""
    name = topic(1)
    for number in range(3):
        produce(broker, name, [(b"%d" % number, b"{}")])
    found = examine(KafkaConfig(servers=broker), [name], {f"{name}/0": (1, position, None)})
    places = [finding for finding in found if finding.what == f"{name}/0"]
    assert [what in finding.found and finding.severity == "error" for finding in places if what] == (
        [True] * bool(what)
    )
    assert bool(places) == bool(what)


def test_files(tmp_path: Path) -> None:
    """A folder that is not there is an error, one without a file a warning, and a file that is there no finding."""
    source = '[source.files.tables.items]\npath = "drop/*.csv"\nformat = "csv"\nkey = ["id"]\n'
    source += 'columns = { id = { type = "int64" } }\n'
    assert _json(tmp_path, source, "items")[0] == 1
    (tmp_path / "drop").mkdir()
    code, report = _json(tmp_path, source, "items")
    assert (code, [one["severity"] for one in report["findings"]]) == (0, ["warning"])
    (tmp_path / "drop" / "a.csv").write_text("id\n1\n", "utf-8")
    assert _json(tmp_path, source, "items") == (
        0, {"name": "orders", "source": "files", "healthy": True, "findings": []},
    )  # fmt: skip


def test_sqlite(tmp_path: Path) -> None:
    """A database that is not there is an error; one that keeps writers waiting is told how not to."""
    source = '[source.sqlite]\npath = "erp.db"\n'
    assert _json(tmp_path, source, "items")[0] == 1
    with closing(sqlite3.connect(tmp_path / "erp.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY)")
        code, report = _json(tmp_path, source, "items")
        assert (code, [one["what"] for one in report["findings"]]) == (0, ["journal_mode"])
        connection.execute(report["findings"][0]["remedy"])
    assert _json(tmp_path, source, "items")[1]["findings"] == []

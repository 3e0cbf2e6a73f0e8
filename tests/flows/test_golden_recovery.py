"""A state directory that version 1 wrote is resumed by this release: tests/golden/recovery-v1.

It was written by a join that was killed in mid-stream, and stays as it is for good, so `make golden` leaves it alone;
HEADRACE_GOLDEN=write with this file alone writes it anew:

    pipeline.toml          the pipeline; servers and dsn are given by the test
    messages.jsonl.gz      [topic, key, value, partition] of all messages, also of those that came after the kill
    lines.json             what the join of all of them comes to
    target.sql             the target as it was at the kill
    recovery/, state/      Bytewax's recovery store; headrace.json, segments and spool
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from control.embedded import EmbeddedPostgres, Tansu
from flows.testing import run_flow
from tests.flows.joined import History, fill, log, pipeline_text, read_lines, some_lines

GOLDEN = Path(__file__).parents[1] / "golden" / "recovery-v1"
BYTES_MAX = 300_000
BEFORE, AFTER = 400, 200
_HISTORY = History(11, "golden")


@pytest.fixture(scope="module", autouse=True)
def _written(postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.environ.get("HEADRACE_GOLDEN") == "write":
        dsn = postgres_server.create_database("golden")
        write(dsn, tmp_path_factory.mktemp("golden"))
        postgres_server.drop_database("golden")


def write(dsn: str, scratch: Path) -> None:
    """Write the golden files from a run into an empty database."""
    history, environment = History(11, "golden"), {"TARGET_DSN": dsn}
    before = history.messages(BEFORE, ids=150)
    file = scratch / "pipeline.toml"
    with Tansu() as broker:
        file.write_text(pipeline_text(history, "127.0.0.1:9092", settings="slots = 16"), "utf-8")
        fill(broker.servers, history, before)
        flow = f"flows.build:flow('{file}', source__kafka__servers='{broker.servers}')"
        codes = run_flow(flow, scratch, kill_after_s=0, ready=some_lines(dsn, 60), environment=environment)
        assert codes == [-9], log(scratch)
    after = history.messages(AFTER, ids=150)
    shutil.rmtree(GOLDEN, ignore_errors=True)
    GOLDEN.mkdir(parents=True)
    shutil.copy(file, GOLDEN)
    text = "".join(
        json.dumps([topic, key.decode(), value.decode(), partition]) + "\n"
        for topic, key, value, partition in before + after
    )
    (GOLDEN / "messages.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    (GOLDEN / "lines.json").write_text(json.dumps(history.lines(), ensure_ascii=False, indent=0) + "\n", "utf-8")
    (GOLDEN / "target.sql").write_text("".join(f"{line}\n" for line in dump(dsn)), "utf-8")
    with closing(sqlite3.connect(scratch / "recovery" / "part-0.sqlite3")) as store:
        store.execute("PRAGMA journal_mode = DELETE")  # one file
        store.execute("VACUUM")
    shutil.copytree(scratch / "recovery", GOLDEN / "recovery")
    shutil.copytree(scratch / "state", GOLDEN / "state", ignore=shutil.ignore_patterns("run", "dead-letters"))


def dump(dsn: str) -> Iterator[str]:
    """Statements that make the public tables that have rows, keys and rows included."""
    with psycopg.connect(dsn) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
        for (table,) in tables:
            name = sql.Identifier(table)
            rows = connection.execute(sql.SQL("SELECT t.*::text FROM {} t").format(name)).fetchall()
            if not rows:
                continue
            columns = connection.execute(
                "SELECT format('%%I %%s%%s%%s', attname, format_type(atttypid, atttypmod), "
                "CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END, ' DEFAULT ' || pg_get_expr(adbin, adrelid)) "
                "FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum "
                "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                (f'"{table}"',),
            ).fetchall()
            keys = connection.execute(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'",
                (f'"{table}"',),
            ).fetchall()
            inside = ", ".join(text for (text,) in columns + keys)
            yield f"{sql.SQL('CREATE TABLE {}').format(name).as_string(connection)} ({inside});"
            for (row,) in rows:
                values = sql.SQL("INSERT INTO {} SELECT ({}::{}).*;").format(name, sql.Literal(row), name)
                yield values.as_string(connection)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("processes", [1, 2])
def test_state_of_version_1_is_resumed(processes: int, postgres: str, tmp_path: Path) -> None:
    """A join goes on where another release was killed, on one process or two, and ends with the truth."""
    for part in ("recovery", "state"):
        shutil.copytree(GOLDEN / part, tmp_path / part)
    with psycopg.connect(postgres) as connection:
        connection.execute((GOLDEN / "target.sql").read_bytes())
    messages = [json.loads(line) for line in gzip.decompress((GOLDEN / "messages.jsonl.gz").read_bytes()).splitlines()]
    lines = [tuple(line) for line in json.loads((GOLDEN / "lines.json").read_text("utf-8"))]
    assert len(read_lines(postgres)) > 0 and read_lines(postgres) != lines
    with Tansu() as broker:
        fill(
            broker.servers, _HISTORY, [(topic, key.encode(), value.encode(), at) for topic, key, value, at in messages]
        )
        flow = (
            f"flows.build:flow('{GOLDEN / 'pipeline.toml'}', until_end=True, source__kafka__servers='{broker.servers}')"
        )
        codes = run_flow(flow, tmp_path, processes=processes, environment={"TARGET_DSN": postgres})
    assert codes == [0] * processes, log(tmp_path)
    assert read_lines(postgres) == lines
    status = [json.loads(path.read_text("utf-8")) for path in (tmp_path / "state" / "run").glob("worker-*.json")]
    assert AFTER <= sum(one["events"] for one in status) < len(messages), "it began at the first message again"


def test_the_golden_state_is_small_and_has_everything() -> None:
    """It holds manifests, state segments and spooled segments, in less than 300 kB."""
    files = [path for path in GOLDEN.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < BYTES_MAX
    assert {path.parent.name for path in files if path.suffix == ".seg"} == {"segments", "spool"}
    names = {path.relative_to(GOLDEN).as_posix() for path in files}
    assert {"recovery/part-0.sqlite3", "state/headrace.json"} <= names

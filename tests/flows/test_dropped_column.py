"""A column that is dropped at the source leaves no old value in the target, whatever is killed in between."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.kafka.topics import produce
from flows.spill import Spill
from flows.testing import run_flow, run_killed_and_resumed
from flows.verify import verify
from libcore.change import UNSET, ChangeBatch, Op, arrow_schema
from libcore.position import make
from libcore.schema import Column, Table, parse_type
from tests.flows.debezium import change

KEYS = range(40)
COLUMNS = ("name", "colour", "size")
SCHEMAS = pytest.mark.parametrize("schemas", [True, False], ids=["schemas on", "schemas off"])


class Source:
    """A table of a PostgreSQL, as far as rows and columns go, that writes its change stream."""

    def __init__(self, schemas: bool) -> None:
        self.schemas = schemas
        self.columns = list(COLUMNS)
        self.rows: dict[int, dict[str, Any]] = {}
        self.messages: list[tuple[bytes | None, bytes]] = []

    def put(self, number: int, value: str) -> None:
        """Insert or update a row: each column gets the value, its name in front."""
        row = {"id": number, **{name: f"{name} {value}" for name in self.columns}}
        self._write("u" if number in self.rows else "c", None, row)
        self.rows[number] = row

    def delete(self, number: int) -> None:
        """Delete a row."""
        self._write("d", self.rows.pop(number), None)

    def drop(self, name: str) -> None:
        """Drop a column: no message says so."""
        self.columns.remove(name)
        for row in self.rows.values():
            del row[name]

    def add(self, name: str) -> None:
        """Add a column at the end: no message says so."""
        self.columns.append(name)
        for row in self.rows.values():
            row[name] = None

    def truth(self) -> dict[int, tuple[str | None, ...]]:
        """What the target holds in the end: a column that is gone is NULL."""
        return {number: tuple(row.get(name) for name in COLUMNS) for number, row in self.rows.items()}

    def _write(self, op: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        key, value = change(op, before, after, ["id"])
        if self.schemas:
            fields = [{"field": "id", "type": "int64", "optional": False}]
            fields += [{"field": name, "type": "string", "optional": True} for name in self.columns]
            row = {"type": "struct", "optional": True, "fields": fields}
            schema = {"type": "struct", "fields": [{**row, "field": "before"}, {**row, "field": "after"}]}
            value = json.dumps({"schema": schema, "payload": json.loads(value)}).encode()
        self.messages.append((key, value))


def history(schemas: bool, changes: int, seed: int) -> Source:
    """Rows come, change and go, and every so often a column does; each such change is seen by a row before the next."""
    source, random = Source(schemas), Random(seed)
    for count in itertools.count(1):
        number = random.choice(KEYS)
        if number in source.rows and random.random() < 0.2:
            source.delete(number)
        else:
            source.put(number, f"at {count}")
        if count % 37 == 0:
            name = random.choice(COLUMNS)
            (source.drop if name in source.columns else source.add)(name)
            source.put(random.choice(KEYS), f"at {count}")
        if count == changes:
            return source
    raise AssertionError


def pipeline(directory: Path, broker: str, topic: str, schemas: bool, settings: str = "") -> str:
    """A pipeline file for that topic into table `things`."""
    declared = "".join(f'{name} = "string"\n' for name in COLUMNS)
    columns = "" if schemas else f'key = ["id"]\n[tables.things.columns]\nid = "int64"\n{declared}'
    text = (
        f'name = "drops"\n[source.kafka]\nservers = "{broker}"\n[sink.postgres]\ndsn = "env:TARGET_DSN"\n'
        f'table = "things"\n[tables.things]\ntopic = "{topic}"\non_schema_change = "follow"\n{settings}\n{columns}'
    )
    file = directory / "drops.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def held(dsn: str, *columns: str) -> dict[int, tuple[str | None, ...]]:
    """The target's rows by key."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(f"SELECT id, {', '.join(columns or COLUMNS)} FROM things").fetchall()
    return {row[0]: tuple(row[1:]) for row in found}


@SCHEMAS
def test_killed_anywhere_the_target_is_the_source(
    schemas: bool,
    broker: str,
    topic: Callable[[int], str],
    postgres: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Columns are dropped and added again and again; killed with SIGKILL in between, the target ends as the source."""
    name, source = topic(1), history(schemas, 600, seed=7)
    produce(broker, name, source.messages)
    file = pipeline(tmp_path, broker, name, schemas)
    flow = f"flows.build:flow('{file}', until_end=True, source__kafka__batch_rows_max=5)"
    codes = run_killed_and_resumed(flow, tmp_path, [1.3, 1.5, 1.7], environment={"TARGET_DSN": postgres})
    assert codes[-1] == [0], (tmp_path / "process-0.log").read_text()[-4000:]
    assert [-9] in codes
    assert held(postgres) == source.truth()
    monkeypatch.setenv("TARGET_DSN", postgres)
    report = verify(file)
    assert report.equal, list(report.lines())


@SCHEMAS
def test_renamed_and_left_out_columns(
    schemas: bool,
    broker: str,
    topic: Callable[[int], str],
    postgres: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A renamed column is cleared under its target name; one that is not written may come and go as it likes."""
    name, source = topic(1), Source(schemas)
    for number in KEYS:
        source.put(number, "old")
    source.drop("colour")
    source.drop("size")
    source.put(1, "between")
    source.add("colour")
    source.put(2, "new")
    produce(broker, name, source.messages)
    file = pipeline(tmp_path, broker, name, schemas, 'rename = { colour = "paint" }\ndrop = ["size"]')
    codes = run_flow(
        f"flows.build:flow('{file}', until_end=True)", tmp_path, processes=2, environment={"TARGET_DSN": postgres}
    )
    assert codes == [0, 0], (tmp_path / "process-0.log").read_text()[-4000:]
    assert held(postgres, "name", "paint") == {number: row[:2] for number, row in source.truth().items()}
    monkeypatch.setenv("TARGET_DSN", postgres)
    assert verify(file).equal


def test_several_partitions_keep_the_values_and_say_so(
    broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path
) -> None:
    """Where no order is known the values stay in rows that no message touches, and the log says what helps."""
    name, source = topic(2), Source(schemas=True)
    source.put(1, "old")
    source.put(2, "old")
    source.drop("colour")
    source.put(2, "new")
    produce(broker, name, source.messages)
    file = pipeline(tmp_path, broker, name, schemas=True)
    codes = run_flow(f"flows.build:flow('{file}', until_end=True)", tmp_path, environment={"TARGET_DSN": postgres})
    log = (tmp_path / "process-0.log").read_text()
    assert codes == [0], log[-4000:]
    assert held(postgres, "name", "colour") == {1: ("name old", "colour old"), 2: ("name new", "colour old")}
    assert log.count("a dropped column keeps its old values in the target") == 1


def test_a_where_over_a_dropped_column_stops_the_flow(
    broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path
) -> None:
    """Which rows are in can no longer be told: the error names table, column and setting, and changing that helps."""
    name, source = topic(1), Source(schemas=False)
    source.put(1, "old")
    source.drop("colour")
    source.put(2, "new")
    produce(broker, name, source.messages)
    file = pipeline(tmp_path, broker, name, False, "where = \"colour = 'colour old'\"")
    flow = f"flows.build:flow('{file}', until_end=True)"
    codes = run_flow(flow, tmp_path, environment={"TARGET_DSN": postgres})
    log = (tmp_path / "process-0.log").read_text()
    assert codes[0] != 0 and "colour was dropped there" in log and "change the `where`" in log
    pipeline(tmp_path, broker, name, False)
    assert run_flow(flow, tmp_path, environment={"TARGET_DSN": postgres}) == [0]
    assert held(postgres) == source.truth()


SPILLED = Table("t", (Column("id", parse_type("int64"), False), Column("c", parse_type("string"))), ("id",))
LESS = Table("t", SPILLED.columns[:1], ("id",))


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["old", None, "unset", "less", "clear"])), max_size=14)
)
def test_a_cleared_column_is_null_in_all_rows_before(
    tmp_path_factory: Any, steps: list[tuple[int, str | None]]
) -> None:
    """Folded from disk, rows in front of a drop hold NULL in the column, given and not unset; later rows are theirs."""
    spill, state = Spill(tmp_path_factory.mktemp("spill")), {}
    for place, (number, what) in enumerate(steps):
        if what == "clear":
            spill.clear_column("c")
            state = dict.fromkeys(state)
            continue
        table = LESS if what == "less" else SPILLED
        control = {"__op": int(Op.UPSERT), "__position": make(0, 0, place), UNSET: bytes([2 if what == "unset" else 0])}
        record = pa.RecordBatch.from_pylist([{"id": number, "c": what, **control}], schema=arrow_schema(table, True))
        spill.add(ChangeBatch(table, record))
        state[number] = state.get(number, "unknown") if what in ("unset", "less") else what
    found = {}
    for batch in spill.folded():
        for row in batch.record.to_pylist():
            found[row["id"]] = "unknown" if row.get(UNSET, b"\0") != b"\0" else row.get("c", "unknown")
    spill.close()
    assert found == {key: value if SPILLED in spill._shapes else "unknown" for key, value in state.items()}

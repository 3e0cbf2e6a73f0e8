"""Building a flow: what it refuses, what it keeps in the state directory, and what its process tells of itself."""

from __future__ import annotations

import json
import os
import sqlite3
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import registry
from connectors.base import metrics, stop
from connectors.kafka.topics import create_topics, produce
from flows import build, process, topics
from flows.ports import free_port
from flows.spec import parse
from flows.state import look
from flows.state.store import open_store
from flows.testing import run_flow
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type
from tests.flows.debezium import change

HEAD = 'name = "p"\n[source.kafka]\nservers = "127.0.0.1:1"\n'


def _open(directory: str) -> str:
    return open_store(Path(directory), "p", "null", 64, 4).store_id


def test_processes_agree_on_one_state_directory(tmp_path: Path) -> None:
    """However many processes make it at once, all have the same id, and a later start has it, too."""
    with ThreadPoolExecutor(8) as pool:  # what they share is the directory, as processes do
        found = list(pool.map(_open, [str(tmp_path / "state")] * 24))
    assert len(set(found)) == 1
    assert open_store(tmp_path / "state", "p", "null", 64, 4).store_id == found[0]
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [
        "dead-letters",
        "headrace.json",
        "run",
        "spool",
    ]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("slots", ("p", "null", 32, 4)),
        ("parts", ("p", "null", 64, 8)),
        ("name", ("q", "null", 64, 4)),
        ("sink", ("p", "postgres", 64, 4)),
    ],
)
def test_another_shape_of_state_is_refused(tmp_path: Path, field: str, values: Any) -> None:
    """Slots, parts, name and sink are fixed for a pipeline's life: a changed one is named with both values."""
    open_store(tmp_path, "p", "null", 64, 4)
    with pytest.raises(ConfigurationError, match=f"state_dir .*: expected {field} .* found"):
        open_store(tmp_path, *values)


def test_a_state_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    """A headrace.json of another make is named, not overwritten."""
    (tmp_path / "headrace.json").write_text('{"a": 1}')
    with pytest.raises(ConfigurationError, match=r"headrace\.json: expected a headrace.json of format 1"):
        open_store(tmp_path, "p", "null", 64, 4)
    assert (tmp_path / "headrace.json").read_text() == '{"a": 1}'


def test_topics_are_remembered(tmp_path: Path) -> None:
    """What a former start learned serves the next one."""
    store = open_store(tmp_path, "p", "null", 64, 4)
    assert store.topics() == frozenset()
    store.remember_topics(["a"])
    store.remember_topics(["b"])
    assert open_store(tmp_path, "p", "null", 64, 4).topics() == {"a", "b"}


def test_tables_that_grow_at_once_are_all_remembered(tmp_path: Path) -> None:
    """What several processes see of one table and of others is kept, every column of each, whoever writes last."""
    names = [f"c{number}" for number in range(8)]

    def remember(name: str) -> None:
        store = open_store(tmp_path, "p", "null", 64, 4)
        for table in ("shared", name):
            store.remember_table(Table(table, (Column("id", parse_type("int64")), Column(name, parse_type("string")))))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(remember, names))
    store = open_store(tmp_path, "p", "null", 64, 4)
    shared = store.table("shared")
    assert shared is not None and sorted(column.name for column in shared.columns) == [*names, "id"]
    assert all(store.table(name) is not None for name in names)


def test_the_state_directory_is_the_environments_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment over argument over file over var/NAME beside the file; relative ones are beside the file."""
    monkeypatch.delenv(build.STATE_ENVIRONMENT, raising=False)
    file = str(tmp_path / "p.toml")
    bare, named = (
        parse(HEAD + "[tables.a]\n[sink.null]\n", file),
        parse('state_dir = "mine"\n' + HEAD + "[tables.a]\n[sink.null]\n", file),
    )
    assert build.state_directory(bare, file) == tmp_path / "var/p"
    assert build.state_directory(named, file) == tmp_path / "mine"
    assert build.state_directory(named, file, "/other") == Path("/other")
    monkeypatch.setenv(build.STATE_ENVIRONMENT, "/env")
    assert build.state_directory(named, file, "/other") == Path("/env")


EXISTING = {
    "erp.public.items": 2, "erp.public.orders": 1, "erp.public.transaction": 1, "erp.transaction": 2, "erp.message": 1,
    "__debezium-heartbeat.erp": 1, "__consumer_offsets": 50, "eu.erp.sales.items": 1, "eu.erp.transaction": 1,
}  # fmt: skip


def bound(tables: str, sink: str = "[sink.null]\n") -> list[topics.Binding]:
    """The bindings of a pipeline with those tables."""
    return topics.resolve(parse(HEAD + tables + sink, "p.toml"), EXISTING, "p.toml")


def test_patterns_take_tables_and_leave_debeziums_own_topics() -> None:
    """Heartbeat, transaction and message topics are no tables; a table named "transaction" is one."""
    found = bound('[tables.all]\ntopic = "*"\n', '[sink.postgres]\ndsn = "env:D"\ntable = "{topic}"\n')
    assert [binding.topic for binding in found] == [
        "erp.public.items",
        "erp.public.orders",
        "erp.public.transaction",
        "eu.erp.sales.items",
    ]


def test_a_named_topic_is_taken_out_of_the_pattern() -> None:
    """Its own settings hold, and the sink's table pattern names both."""
    sink = '[sink.postgres]\ndsn = "env:D"\ntable = "{schema}_{table}"\nschema = "dw"\n'
    found = bound(
        '[tables.all]\ntopic = "erp.public.*"\n[tables.o]\ntopic = "erp.public.orders"\ntarget = "bills"\n',
        sink,
    )
    assert {binding.topic: (binding.setting, binding.target) for binding in found} == {
        "erp.public.items": ("all", "public_items"),
        "erp.public.orders": ("o", "bills"),
        "erp.public.transaction": ("all", "public_transaction"),
    }


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            '[tables.a]\ntopic = "erp.public.item"\n',
            "tables.a: expected topic 'erp.public.item' at the broker, found none .*did you mean 'erp.public.items'",
        ),
        ('[tables.a]\ntopic = "crm.*"\n', r"tables\.a: expected topics that match 'crm\.\*', found none"),
        (
            '[tables.a]\ntopic = "erp.public.items"\non_truncate = "apply"\n',
            "expected stop or ignore for erp.public.items, found apply: the topic has 2 partitions",
        ),
        (
            '[tables.a]\ntopic = "*.items"\n',
            "expected a target table of its own for each topic, found 'items' for both",
        ),
    ],
)
def test_topics_that_do_not_fit_are_refused(tables: str, message: str) -> None:
    """A topic that is not there, a pattern without a match, a truncate without an order, a target wanted twice."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        bound(tables)
    assert str(caught.value).startswith("p.toml: ")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"])), min_size=1, unique=True))
def test_each_topic_is_bound_once(names: list[tuple[str, str]]) -> None:
    """Whatever topics there are, overlapping patterns bind each of them exactly once."""
    existing = {f"erp.{schema}.{table}": 1 for schema, table in names}
    text = (
        HEAD
        + '[tables.all]\ntopic = "erp.*"\n[tables.a]\ntopic = "erp.*.x"\n[sink.postgres]\ndsn = "env:D"\n'
        + 'table = "{topic}"\n'
    )
    if any(table == "x" for _, table in names):
        found = [binding.topic for binding in topics.resolve(parse(text, "p"), existing)]
        assert found == sorted(existing)


def test_declared_tables_are_checked_at_the_start() -> None:
    """A `where` that does not fit the declared columns is refused before the first message."""
    tables = '[tables.a]\ntopic = "erp.public.items"\nkey = ["id"]\nwhere = "nam = 1"\n'
    tables += 'columns = { id = "int64", name = "string" }\n'
    pipeline = parse(HEAD + tables + "[sink.null]\n", "p")
    with pytest.raises(ConfigurationError, match=r"where 'nam = 1': expected columns of \['id', 'name'\], found 'nam'"):
        build.make_shaper(pipeline, topics.resolve(pipeline, EXISTING))


def test_another_sink_than_the_files_is_only_null(tmp_path: Path) -> None:
    """sink="null" measures without a target and keeps the parts; any other is refused."""
    file = tmp_path / "p.toml"
    file.write_text(HEAD + '[tables.a]\n[sink.postgres]\ndsn = "env:D"\nparts = 7\n')
    pipeline = build.load(str(file), sink="null", overrides={"source__kafka__servers": "h:2", "slots": 7})
    assert (pipeline.sink.name, pipeline.sink.settings.parts, pipeline.source.kafka.servers) == ("null", 7, "h:2")
    with pytest.raises(ConfigurationError, match="expected \"null\" or the file's own 'postgres', found 'mysql'"):
        build.load(str(file), sink="mysql")


def test_systems_are_found_by_name() -> None:
    """The registry imports a system when it is asked for, and names the known ones otherwise."""
    assert registry.system("postgres").config.__name__ == "PostgresConfig"
    assert registry.system("null").target.__name__ == "NullTarget"
    with pytest.raises(ConfigurationError, match=r"expected one of kafka, postgres, .*null, found 'mysql'"):
        registry.system("mysql")
    with pytest.raises(ConfigurationError, match="postgres can only be a target"):
        _ = registry.system("postgres").source


@pytest.mark.parametrize(
    ("arguments", "environment", "index"),
    [
        ([], {}, 0), (["-i", "2"], {}, 2), (["-i", "2"], {"HEADRACE_WORKER": "3"}, 3),
        ([], {"BYTEWAX_PROCESS_ID": "1"}, 1),
        ([], {"BYTEWAX_POD_NAME": "orders-4", "BYTEWAX_STATEFULSET_NAME": "orders"}, 4),
    ],
)  # fmt: skip
def test_a_process_knows_its_number(arguments: list[str], environment: dict[str, str], index: int) -> None:
    """The runner's variable first, then Bytewax's own ways."""
    assert process.worker_index(arguments, environment) == index


def test_the_status_is_read_from_the_metrics(tmp_path: Path) -> None:
    """Counters are summed over their labels, the file is replaced whole."""
    before = process.snapshot(3, 0.0)
    metrics.EVENTS.labels("status-a").inc(5)
    metrics.EVENTS.labels("status-b").inc(2)
    metrics.SPOOL_BYTES.labels("status").set(100)
    metrics.DECODE_ERRORS.labels("status-a").inc(3)  # each of these is counted as a dead letter, too
    metrics.DEAD_LETTERS.labels("decode").inc(3)
    after = process.snapshot(3, 0.0)
    assert after["dead_letters"] - before["dead_letters"] == 3
    assert (after["events"] - before["events"], after["spool_bytes"] - before["spool_bytes"]) == (7, 100)
    process.write_status(tmp_path, after)
    assert json.loads((tmp_path / "worker-3.json").read_text()) == after
    assert [path.name for path in tmp_path.iterdir()] == ["worker-3.json"]
    metrics.SPOOL_BYTES.remove("status")


def test_the_status_goes_on_where_something_beside_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full when topics are to be remembered costs no status: a stale one looks like a hung worker."""
    monkeypatch.setattr(process, "INTERVAL_S", 0.01)
    calls, again = list[int](), Event()

    def fails_once() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        again.set()

    process.start_status_writer(tmp_path, 0, fails_once)
    assert again.wait(20.0)


def test_metrics_are_served_where_a_port_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Port plus worker number; a port that is taken or no number is refused by name."""
    monkeypatch.delenv(process.PORT_ENVIRONMENT, raising=False)
    assert process.serve_metrics(1) is None
    port = free_port()
    monkeypatch.setenv(process.PORT_ENVIRONMENT, str(port - 1))
    assert process.serve_metrics(1) == port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert b"headrace_epochs_total" in answer.read()
    monkeypatch.setenv(process.PORT_ENVIRONMENT, "many")
    with pytest.raises(
        ConfigurationError, match="HEADRACE_METRICS_PORT: expected a port from 1 to 65535, found 'many'"
    ):
        process.serve_metrics(0)


def test_a_pipeline_into_nothing_runs_to_its_end(broker: str, topic: Callable[[int], str], tmp_path: Path) -> None:
    """In two processes, with the status of each written; a second start has nothing left to do."""
    name = topic(4)
    produce(broker, name, [change("c", None, {"id": number}, ["id"]) for number in range(500)])
    file = tmp_path / "p.toml"
    file.write_text(
        f'name = "p"\n[source.kafka]\nservers = "{broker}"\n[tables.a]\ntopic = "{name}"\nkey = ["id"]\n'
        'columns = { id = "int64" }\n[sink.null]\n'
    )
    run = f"flows.build:flow('{file}', until_end=True)"
    for expected in (500, 0):
        assert run_flow(run, tmp_path, processes=2) == [0, 0], (tmp_path / "process-0.log").read_text()[-3000:]
        status = [json.loads((tmp_path / f"state/run/worker-{worker}.json").read_text()) for worker in (0, 1)]
        assert sum(one["events"] for one in status) == sum(one["rows_applied"] for one in status) == expected
        assert {one["state"] for one in status} == {"ended"} and {one["worker"] for one in status} == {0, 1}


def _with_schema(row: dict[str, Any], types: dict[str, str]) -> tuple[bytes | None, bytes]:
    """A created row, whose message says its columns."""
    key, value = change("c", None, row, ["id"])
    fields = [{"field": name, "type": kind, "optional": name != "id"} for name, kind in types.items()]
    shape = {"type": "struct", "optional": True, "fields": fields}
    schema = {"type": "struct", "fields": [{**shape, "field": "before"}, {**shape, "field": "after"}]}
    return key, json.dumps({"schema": schema, "payload": json.loads(value)}).encode()


def test_a_column_that_came_to_a_joined_table_outlasts_a_restart(broker: str, postgres: str, tmp_path: Path) -> None:
    """A join whose fact gained a column while it ran loads its wider state at the next start, and goes on with it."""
    mark, types = uuid.uuid4().hex[:8], {"id": "int64", "order_id": "int64"}
    create_topics(broker, {f"{mark}.items": 2, f"{mark}.orders": 1})
    file = tmp_path / "p.toml"
    file.write_text(
        f'name = "p"\n[source.kafka]\nservers = "{broker}"\n[tables.items]\ntopic = "{mark}.items"\n'
        f'[tables.orders]\ntopic = "{mark}.orders"\n[[step]]\njoin = "items"\nwith = "orders"\n'
        'on = { order_id = "id" }\ntake = ["status"]\nas = "order_lines"\n[sink.postgres]\ndsn = "env:TARGET_DSN"\n'
    )
    order = _with_schema({"id": 1, "status": "OPEN"}, {"id": "int64", "status": "string"})
    produce(broker, f"{mark}.orders", [order])
    run = f"flows.build:flow('{file}', until_end=True)"
    for day, processes in enumerate((1, 2, 1)):
        types |= {"note": "string"} if day == 1 else {}
        rows = [{"id": 100 * day + number, "order_id": 1, "note": f"{day}"} for number in range(100)]
        produce(broker, f"{mark}.items", [_with_schema({name: row[name] for name in types}, types) for row in rows])
        codes = run_flow(run, tmp_path, processes=processes, environment={"TARGET_DSN": postgres})
        assert codes == [0] * processes, (tmp_path / "process-0.log").read_text()[-3000:]
    with psycopg.connect(postgres) as connection:
        found = connection.execute("SELECT note, status, count(*) FROM order_lines GROUP BY 1, 2 ORDER BY 1").fetchall()
    assert found == [("1", "OPEN", 100), ("2", "OPEN", 100), (None, "OPEN", 100)]


def test_a_joined_table_that_lost_a_column_can_be_started_again(tmp_path: Path) -> None:
    """What is described at a start may lack a column that the step's state has: the state is loaded all the same."""
    file, database = tmp_path / "p.toml", tmp_path / "erp.db"
    file.write_text(
        'name = "p"\n[source.sqlite]\npath = "erp.db"\nfollow = "rowid"\n[tables.items]\n[tables.orders]\n'
        '[[step]]\njoin = "items"\nwith = "orders"\non = { order_id = "id" }\ntake = ["status"]\nas = "lines"\n'
        "[sink.null]\n"
    )
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.executescript(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT); INSERT INTO orders VALUES (1, 'OPEN');"
            "CREATE TABLE items (id INTEGER PRIMARY KEY, order_id INTEGER, note TEXT NOT NULL);"
        )
        connection.executemany("INSERT INTO items VALUES (?, 1, 'x')", [(number,) for number in range(100)])
        run = f"flows.build:flow('{file}', until_end=True)"
        assert run_flow(run, tmp_path) == [0], (tmp_path / "process-0.log").read_text()[-3000:]
        connection.executescript("ALTER TABLE items DROP COLUMN note; INSERT INTO items VALUES (100, 1)")
    assert run_flow(run, tmp_path) == [0], (tmp_path / "process-0.log").read_text()[-3000:]
    places = tmp_path / "recovery", "p", str(tmp_path / "state" / "segments")
    ((facts, _),) = [found["facts"] for _, found in look.read_state(*places) if "facts" in found]
    assert sorted(facts.column("id").to_pylist()) == list(range(101))
    assert facts.column("note").to_pylist().count("x") == 100


def test_nothing_is_left_behind_in_this_process() -> None:
    """Building in a test process leaves no stop request behind."""
    assert not stop.requested() and os.environ.get(build.STATE_ENVIRONMENT) is None

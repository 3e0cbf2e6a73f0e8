"""The due step in a running flow: rows turn by themselves, truncates and deletes take them, verify sees wrong flags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.kafka.topics import produce
from flows import recovery_store, spec
from flows.operators.select import connect
from flows.step_sql import relation, statement
from flows.testing import run_flow
from flows.verify import verify
from libcore.due import moments
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type
from tests.flows.debezium import change
from tests.libcore.test_due import CHANGES

FILE = """
name = "due"
[source.kafka]
servers = "{servers}"
[tables.tasks]
topic = "{topic}"
key = ["id"]
on_truncate = "apply"
columns = {{ id = "int64", text = "string", at = "timestamptz" }}
[[step]]
due = "tasks"
at = "at"
every = "1s"
as = "flagged"
[sink.postgres]
dsn = "env:TARGET_DSN"
"""


class Tasks:
    """A topic of tasks, a flow that flags them, and its target."""

    def __init__(self, servers: str, topic: str, dsn: str, directory: Path) -> None:
        self.servers, self.topic, self.dsn, self.directory = servers, topic, dsn, directory
        self.file = directory / "due.toml"
        self.file.write_text(FILE.format(servers=servers, topic=topic), encoding="utf-8")

    def put(self, number: int, at: datetime | None, op: str = "c") -> None:
        """One change of one task."""
        row = {"id": number, "text": "x", "at": None if at is None else at.isoformat()}
        produce(self.servers, self.topic, [change(op, row if op == "d" else None, None if op == "d" else row, ["id"])])

    def truncate(self) -> None:
        """Debezium's message of a TRUNCATE, which has no key."""
        value = {"source": {"lsn": 10**9, "sequence": f'["{10**9}","{10**9}"]'}, "op": "t", "ts_ms": 1}
        produce(self.servers, self.topic, [(None, json.dumps(value).encode())])

    def run(self, now: str) -> list[int]:
        """The flow at a time, to the topic's end."""
        environment = {"TARGET_DSN": self.dsn, "HEADRACE_CLOCK": now}
        return run_flow(f"flows.build:flow('{self.file}', until_end=True)", self.directory, environment=environment)

    @contextmanager
    def running(self) -> Iterator[None]:
        """The flow by the machine's clock; SIGTERM ends it at a batch border."""
        command = [sys.executable, "-m", "bytewax.run", f"flows.build:flow('{self.file}')", "-s", "0", "-b", "0"]
        recovery_store.prepare(self.directory / "recovery")
        command += ["-r", str(self.directory / "recovery")]
        state = {"TARGET_DSN": self.dsn, "HEADRACE_STATE_DIR": str(self.directory / "state")}
        with (self.directory / "process-0.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **state})
        try:
            yield
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()

    def flags(self) -> dict[int, bool]:
        """id -> flag in the target; nothing while there is no table."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            if connection.execute("SELECT to_regclass('flagged')").fetchone() == (None,):
                return {}
            return dict(connection.execute("SELECT id, is_due FROM flagged ORDER BY id").fetchall())

    def wait(self, expected: dict[int, bool], seconds: float = 30.0) -> None:
        """Fail unless the target comes to hold exactly that."""
        deadline = time.monotonic() + seconds
        while (found := self.flags()) != expected:
            assert time.monotonic() < deadline, f"expected {expected}, found {found}"
            time.sleep(0.05)


@pytest.fixture
def tasks(broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path) -> Tasks:
    """No tasks yet."""
    return Tasks(broker, topic(1), postgres, tmp_path)


def test_a_row_turns_with_no_message_from_the_source(tasks: Tasks) -> None:
    """In a flow that runs, a task is first not due, and due when its time has passed; nothing else is written."""
    begun = datetime.now(UTC)
    tasks.put(1, begun - timedelta(days=1))
    tasks.put(2, begun + timedelta(days=1))
    tasks.put(3, None)
    with tasks.running(), psycopg.connect(tasks.dsn, autocommit=True) as connection:
        tasks.wait({1: True, 2: False, 3: False})
        connection.execute("CREATE TABLE seen (n serial, id bigint, is_due boolean)")
        connection.execute(
            "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO seen (id, is_due) VALUES (NEW.id, NEW.is_due); RETURN NULL; END'"
        )
        connection.execute("CREATE TRIGGER see AFTER INSERT OR UPDATE ON flagged FOR EACH ROW EXECUTE FUNCTION see()")
        at = datetime.now(UTC) + timedelta(seconds=4)
        tasks.put(4, at)
        tasks.wait({1: True, 2: False, 3: False, 4: True})
        assert datetime.now(UTC) >= at
        assert connection.execute("SELECT id, is_due FROM seen ORDER BY n").fetchall() == [(4, False), (4, True)]


def test_truncates_and_deletes_take_rows_that_wait(tasks: Tasks) -> None:
    """A row that is gone turns no more; one that came after the truncate does."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    tasks.put(1, at)
    tasks.put(2, at)
    tasks.put(1, at, "d")
    assert tasks.run("2026-02-01") == [0]
    assert tasks.flags() == {2: False}
    tasks.truncate()
    tasks.put(3, at)
    assert tasks.run("2026-02-02") == [0]
    assert tasks.flags() == {3: False}
    assert tasks.run("2026-03-01") == [0]
    assert tasks.flags() == {3: True}


def test_verify_takes_the_time_that_the_flow_was_told(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state says as of when the target is; a flag that is wrong as of then is a difference."""
    state = tasks.directory / "var"
    monkeypatch.setenv("TARGET_DSN", tasks.dsn)
    monkeypatch.setenv("HEADRACE_STATE_DIR", str(state))
    (state / "recovery").mkdir(parents=True)
    tasks.put(1, datetime(2026, 3, 1, tzinfo=UTC))
    tasks.put(2, datetime(2999, 3, 1, tzinfo=UTC))
    assert tasks.run("2026-02-01") == [0]  # by the machine's clock the first one is due, or will be
    for file in (tasks.directory / "recovery").glob("part-*"):
        (state / "recovery" / file.name).write_bytes(file.read_bytes())
    assert verify(str(tasks.file)).equal
    with psycopg.connect(tasks.dsn, autocommit=True) as connection:
        connection.execute("UPDATE flagged SET is_due = true WHERE id = 2")
    (report,) = verify(str(tasks.file)).tables
    assert (report.difference.equal, report.difference.different) == (1, 1)
    with psycopg.connect(tasks.dsn, autocommit=True) as connection:
        connection.execute("UPDATE flagged SET is_due = id = 1")
    monkeypatch.setenv("HEADRACE_CLOCK", "2026-03-01T00:00:00Z")
    assert verify(str(tasks.file)).equal


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["date", "timestamp"]), st.sampled_from(CHANGES), st.integers(-90, 90))
def test_verification_knows_the_same_moments(kind: str, place: tuple[str, datetime], minutes: int) -> None:
    """Around changes to summer and winter time the SQL of a `due` step turns at the microsecond that the step does."""
    zone, wall = place[0], place[1] + timedelta(minutes=minutes)
    text = FILE.format(servers="localhost:1", topic="tasks").replace("timestamptz", kind)
    wired = spec.parse(text.replace('every = "1s"', f'zone = "{zone}"'), "due.toml").wiring.steps[0]
    table = Table("tasks", (Column("id", parse_type("int64")), Column("at", parse_type(kind))), ("id",))
    column = pa.array([wall.date() if kind == "date" else wall], table.column("at").type.arrow)
    (moment,) = moments(column, zone).to_pylist()
    source = relation(wired.inputs[0])
    for as_of_us, flag in ((moment - 1, False), (moment, True)):
        with connect() as connection:
            rows = pa.Table.from_arrays([pa.array([1]), column], names=["id", "at"])
            connection.register("rows", rows)
            connection.execute(f"CREATE TABLE {source} AS SELECT * FROM rows")
            connection.execute(statement(wired, {wired.inputs[0]: table}, as_of_us))
            assert connection.execute(f"SELECT is_due FROM {relation(wired.output)}").fetchall() == [(flag,)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('due = "tasks"', 'due = "task"', "step.0.due: expected a table or an earlier result, one of ['tasks']"),
        ('every = "1s"', 'every = "0s"', "step.0.every: expected a duration above 0, found 0"),
        ('at = "at"', 'on = "at"', "step.0.at: expected this setting, found nothing"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(old: str, new: str, message: str) -> None:
    """The error says which setting, what was expected and what was found."""
    text = FILE.format(servers="localhost:1", topic="tasks")
    with pytest.raises(ConfigurationError) as caught:
        spec.parse(text.replace(old, new), "due.toml")
    assert message in str(caught.value)
